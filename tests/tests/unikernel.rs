//! Boots the unikernel in QEMU and talks to it as a user would: by its port, its console and its exit code.
//!
//! Needs qemu-system-x86_64 (`make setup`); without it these tests skip loudly, and fail where `CI` is set.
//! The image under test is `REMORA_UNIKERNEL`, or else built here. Refuses to gate on wall time.
#![cfg(all(target_os = "linux", target_arch = "x86_64"))]

mod unikernel_image;

use std::io::Write;
use std::time::{Duration, Instant};
use tests::machine::Machine;
use tests::nodes::{Listen, Node};
use tests::redis::{Redis, Reply};
use unikernel_image::{image, qemu_is_there};

/// No reply takes longer, however slow the emulation is.
const REPLY_MAX: Duration = Duration::from_secs(30);

/// Starts a machine; `None` if there is no QEMU.
fn start(settings: &[(&str, &str)], directives: &[&str]) -> Option<Machine> {
    qemu_is_there().then(|| Machine::start(image(), settings, directives))
}

#[test]
fn it_boots_on_three_machines_serves_and_shutdown_exits_with_zero() {
    for kind in ["q35", "pc", "microvm"] {
        let began = Instant::now();
        let Some(mut machine) = start(&[("MACHINE", kind)], &[]) else { return };
        let mut client = machine.client();
        println!("{kind}: first PONG after {} ms", began.elapsed().as_millis());
        assert_eq!(client.ask(&[b"SET", b"key", b"value"]), ok());
        assert_eq!(client.ask(&[b"GET", b"key"]), bulk(b"value"));
        assert_eq!(client.ask(&[b"RPUSH", b"list", b"a", b"b", b"c"]), Reply::Integer(3));
        assert_eq!(client.ask(&[b"LRANGE", b"list", b"1", b"-1"]), array(&[b"b", b"c"]));
        client.send(&[b"SHUTDOWN"]);
        let (code, console) = machine.ended();
        assert_eq!(code, Some(0), "{kind}: {console}");
        assert!(console.contains("ready: 10.0.2.15 port 6379"), "{kind}: {console}");
    }
}

#[test]
fn a_data_set_eight_times_its_local_memory_comes_back_right_with_every_policy() {
    for policy in ["none", "sequential", "guided", "ahead"] {
        let settings = [
            ("LOCAL", "4mb"),
            ("FAR", "mem:128mb"),
            ("MEMORY", "320"),
            ("PREFETCH", policy),
            ("MACHINE", "microvm"),
        ];
        let Some(mut machine) = start(&settings, &[]) else { return };
        main_job(&mut machine.client(), policy);
    }
}

#[test]
fn remora_vhost_is_its_far_memory_one_machine_after_the_other_with_every_policy() {
    if !qemu_is_there() {
        return;
    }
    let dir = tempfile::tempdir().expect("a directory can be made");
    let socket = dir.path().join("socket");
    let _backend = Node::vhost("mem:128mb", &socket, &[]);
    let far = format!("vhost:{}", socket.display());
    for policy in ["none", "sequential", "guided", "ahead"] {
        let settings = [
            ("LOCAL", "4mb"),
            ("FAR", far.as_str()),
            ("MEMORY", "192"),
            ("PREFETCH", policy),
            ("MACHINE", "q35"),
        ];
        let Some(mut machine) = start(&settings, &[]) else { return };
        main_job(&mut machine.client(), policy);
    }
}

/// 32 MB of values of many sizes and of lists, all read back.
fn main_job(client: &mut Redis, policy: &str) {
    let values: Vec<Vec<u8>> = (0..900).map(|seed| noise(seed, 1 + seed as usize * 73 % 65_536)).collect();
    let key = |index: usize| format!("key:{index}").into_bytes();
    let sets: Vec<_> =
        (0..).zip(&values).map(|(index, value)| vec![b"SET".to_vec(), key(index), value.clone()]).collect();
    client.pipeline(&sets, |index, reply| assert_eq!(reply, ok(), "{policy}: SET {index}"));
    let element = |list: usize, index: usize| noise((list * 1000 + index) as u64, 1024);
    let pushes: Vec<_> = (0..20)
        .map(|list| {
            let name = [b"RPUSH".to_vec(), format!("list:{list}").into_bytes()];
            name.into_iter().chain((0..200).map(|index| element(list, index))).collect()
        })
        .collect();
    client.pipeline(&pushes, |list, reply| assert_eq!(reply, Reply::Integer(200), "{policy}: RPUSH {list}"));

    let gets: Vec<_> =
        (0..values.len()).map(|index| vec![b"GET".to_vec(), key(index * 7 % values.len())]).collect();
    client.pipeline(&gets, |index, reply| {
        assert!(reply == bulk(&values[index * 7 % values.len()]), "{policy}: GET {index}");
    });
    let ranges: Vec<_> = (0..20)
        .map(|list| {
            [b"LRANGE", format!("list:{list}").as_bytes(), b"50", b"149"].map(<[u8]>::to_vec).to_vec()
        })
        .collect();
    client.pipeline(&ranges, |list, reply| {
        let wanted = (50..150).map(|index| bulk(&element(list, index))).collect();
        assert!(reply == Reply::Array(wanted), "{policy}: LRANGE {list}");
    });
    let info = client.info("farmem");
    let counter = |name: &str| info[name].parse::<u64>().expect("a counter is a number");
    assert!(counter("pages_fetched") > 4000, "{policy}: everything was local: {info:?}");
    assert_eq!((counter("unplanned_faults"), counter("checksum_failures")), (0, 0), "{policy}");
}

#[test]
fn a_memory_node_behind_a_drive_of_qemu_is_its_far_memory_on_every_machine_with_every_policy() {
    if !qemu_is_there() {
        return;
    }
    let dir = tempfile::tempdir().expect("a directory can be made");
    let nodes = [Listen::Unix(dir.path().join("node")), Listen::free_port()];
    let nodes = nodes.map(|listen| Node::memnode("128mb", listen));
    let turns = [("none", "pc"), ("sequential", "microvm"), ("guided", "q35"), ("ahead", "microvm")];
    for ((policy, kind), node) in turns.into_iter().zip(nodes.iter().cycle()) {
        let far = node.uri();
        let settings = [
            ("LOCAL", "4mb"),
            ("FAR", far.as_str()),
            ("MEMORY", "192"),
            ("PREFETCH", policy),
            ("MACHINE", kind),
        ];
        let Some(mut machine) = start(&settings, &[]) else { return };
        main_job(&mut machine.client(), policy);
    }
}

#[test]
fn what_it_does_not_understand_is_one_line_and_exit_code_one() {
    let lines: [(&[&str], &str); 4] = [
        (&["--foo", "1"], "bad directive 'foo 1': unknown directive"),
        (&["--maxclients", "many"], "bad directive 'maxclients many': argument couldn't be parsed"),
        (&["--ip", "here"], "bad directive 'ip here': "),
        (&["--port", "0"], "configured to listen nowhere"),
    ];
    for (directives, wanted) in lines {
        let Some(machine) = start(&[("MACHINE", "microvm")], directives) else { return };
        let (code, console) = machine.ended();
        assert_eq!(code, Some(1), "{directives:?}: {console}");
        let said = console.lines().filter(|line| line.contains("remora-unikernel: ")).count();
        assert!(said == 1 && console.contains(wanted), "{directives:?}: {console}");
    }
}

#[test]
fn too_little_ram_is_one_line_and_exit_code_one() {
    for (memory, local, far, wanted) in [
        ("48", "4mb", "mem:8mb", "too little RAM"),
        ("192", "256mb", "mem:8mb", "too little RAM for --local-memory"),
        ("192", "4mb", "mem:1gb", "far-memory"),
    ] {
        let settings = [("MEMORY", memory), ("LOCAL", local), ("FAR", far)];
        let Some(machine) = start(&settings, &[]) else { return };
        let (code, console) = machine.ended();
        assert_eq!(code, Some(1), "{settings:?}: {console}");
        assert!(console.contains(wanted), "{settings:?}: {console}");
    }
}

#[test]
fn connections_beyond_the_limit_are_told_and_connections_that_vanish_leave_room() {
    let Some(mut machine) = start(&[], &["--maxclients", "4"]) else { return };
    let mut first = machine.client();
    let port = machine.port;
    for round in 0..20 {
        // At first these are the attempts that came before the machine was up.
        while !first_sees_one_client(&mut first) {
            std::thread::sleep(Duration::from_millis(10));
        }
        let mut others: Vec<_> = (0..3).filter_map(|_| Redis::connect_within(port, REPLY_MAX).ok()).collect();
        assert_eq!(others.len(), 3, "round {round}");
        // One more is refused with Redis' words.
        let mut extra = Redis::connect(port).expect("QEMU accepts");
        let refused = extra.reply().expect("it is told");
        assert_eq!(refused, Reply::Error("ERR max number of clients reached".into()));
        // They go in the middle of a command, and of a reply that nobody reads.
        let half = b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1000\r\nhalf";
        others[0].stream().write_all(half).expect("it is open");
        others[1].send(&[b"GETRANGE", b"nothing", b"0", b"-1"]);
    }
    assert_eq!(first.say("PING"), Reply::Simple("PONG".into()));
}

/// Whether the machine has noticed that everybody else is gone.
fn first_sees_one_client(first: &mut Redis) -> bool {
    let Reply::Bulk(Some(list)) = first.say("CLIENT LIST") else { panic!("CLIENT LIST is a bulk string") };
    list.iter().filter(|&&byte| byte == b'\n').count() == 1
}

fn ok() -> Reply {
    Reply::Simple("OK".into())
}

fn bulk(bytes: &[u8]) -> Reply {
    Reply::Bulk(Some(bytes.to_vec()))
}

fn array(elements: &[&[u8]]) -> Reply {
    Reply::Array(elements.iter().map(|element| bulk(element)).collect())
}

/// Bytes that cannot be compressed and are the same every time.
fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}
