//! Boots the unikernel in QEMU and talks to it as a user would: by its port, its console and its exit code.
//!
//! Needs qemu-system-x86_64 (`make setup`); without it these tests skip loudly, and fail where `CI` is set.
//! The image under test is `REMORA_UNIKERNEL`, or else built here. Refuses to gate on wall time.
#![cfg(all(target_os = "linux", target_arch = "x86_64"))]

mod unikernel_image;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tests::nodes::Node;
use unikernel_image::{image, qemu_is_there, root};

/// A machine that has not answered by then is not coming: a hundred times what booting takes.
const BOOT_MAX: Duration = Duration::from_secs(60);
/// No reply takes longer, however slow the emulation is.
const REPLY_MAX: Duration = Duration::from_secs(30);

/// A running machine.
struct Machine {
    qemu: Child,
    port: u16,
}

/// A reply of RESP2.
#[derive(PartialEq, Eq, Debug)]
enum Reply {
    Line(String),
    Bulk(Vec<u8>),
    Null,
    Array(Vec<Reply>),
}

struct Client(BufReader<TcpStream>);

impl Machine {
    /// Starts QEMU; `None` if there is none.
    fn start(settings: &[(&str, &str)], directives: &[&str]) -> Option<Machine> {
        if !qemu_is_there() {
            return None;
        }
        // Whoever takes the port between this and QEMU makes the test fail, not lie.
        let port = TcpListener::bind("127.0.0.1:0")
            .and_then(|free| free.local_addr())
            .expect("a port is free")
            .port();
        let qemu = Command::new(root().join("unikernel-target/run.sh"))
            .args(directives)
            .envs(settings.iter().copied())
            .env("IMAGE", image())
            .env("PORT", port.to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .expect("the script is executable");
        Some(Machine { qemu, port })
    }

    /// A client whose PING was answered.
    fn client(&mut self) -> Client {
        let start = Instant::now();
        while start.elapsed() < BOOT_MAX {
            if let Some(status) = self.qemu.try_wait().expect("it is our child") {
                panic!("the machine ended with {status}: {}", self.console());
            }
            if let Some(client) = Client::connect(self.port, Duration::from_millis(200)) {
                return client;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        panic!("no PONG: {}", self.end())
    }

    /// Waits for the end; the exit code and what was on the console.
    fn ended(mut self) -> (Option<i32>, String) {
        let start = Instant::now();
        while start.elapsed() < BOOT_MAX {
            if let Some(status) = self.qemu.try_wait().expect("it is our child") {
                return (status.code(), self.console());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        panic!("it does not end: {}", self.end())
    }

    /// Ends a machine that does not end by itself.
    fn end(&mut self) -> String {
        // It may have ended by now.
        let _ = self.qemu.kill();
        self.console()
    }

    fn console(&mut self) -> String {
        let mut text = String::new();
        if let Some(console) = self.qemu.stdout.as_mut() {
            // What cannot be read cannot be shown.
            let _ = console.read_to_string(&mut text);
        }
        text
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // Both fail only if it has ended.
        let _ = self.qemu.kill();
        let _ = self.qemu.wait();
    }
}

impl Client {
    /// Connects and waits for a PONG no longer than `patience`: QEMU accepts before the guest can answer.
    fn connect(port: u16, patience: Duration) -> Option<Client> {
        let stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
        stream.set_read_timeout(Some(patience)).expect("the time is not zero");
        stream.set_nodelay(true).ok()?;
        let mut client = Client(BufReader::new(stream));
        client.send(&[b"PING"]);
        client.read().filter(|reply| *reply == line("PONG"))?;
        client.0.get_ref().set_read_timeout(Some(REPLY_MAX)).expect("the time is not zero");
        Some(client)
    }

    fn send(&mut self, words: &[&[u8]]) {
        let mut bytes = format!("*{}\r\n", words.len()).into_bytes();
        for word in words {
            bytes.extend(format!("${}\r\n", word.len()).bytes());
            bytes.extend_from_slice(word);
            bytes.extend(b"\r\n");
        }
        // A connection that is gone shows when the reply is missed.
        let _ = self.0.get_mut().write_all(&bytes);
    }

    fn read(&mut self) -> Option<Reply> {
        let mut text = String::new();
        self.0.read_line(&mut text).ok()?;
        let text = text.strip_suffix("\r\n")?;
        let number = text.get(1..)?.parse::<i64>();
        match (text.as_bytes().first()?, number) {
            (b'$' | b'*', Ok(-1)) => Some(Reply::Null),
            (b'$', Ok(len)) => {
                let mut bytes = vec![0; len as usize + 2];
                self.0.read_exact(&mut bytes).ok()?;
                bytes.truncate(len as usize);
                Some(Reply::Bulk(bytes))
            }
            (b'*', Ok(count)) => Some(Reply::Array((0..count).map(|_| self.read()).collect::<Option<_>>()?)),
            _ => Some(Reply::Line(text[1..].to_owned())),
        }
    }

    fn ask(&mut self, words: &[&[u8]]) -> Reply {
        self.send(words);
        self.read().expect("the machine answers")
    }

    /// Asks for everything at once, and hands each reply on with its number.
    fn pipeline(&mut self, commands: &[Vec<Vec<u8>>], mut check: impl FnMut(usize, Reply)) {
        for (batch, commands) in commands.chunks(16).enumerate() {
            for command in commands {
                self.send(&command.iter().map(Vec::as_slice).collect::<Vec<_>>());
            }
            for index in 0..commands.len() {
                check(batch * 16 + index, self.read().expect("the machine answers"));
            }
        }
    }
}

#[test]
fn it_boots_on_three_machines_serves_and_shutdown_exits_with_zero() {
    for kind in ["q35", "pc", "microvm"] {
        let start = Instant::now();
        let Some(mut machine) = Machine::start(&[("MACHINE", kind)], &[]) else { return };
        let mut client = machine.client();
        println!("{kind}: first PONG after {} ms", start.elapsed().as_millis());
        assert_eq!(client.ask(&[b"SET", b"key", b"value"]), line("OK"));
        assert_eq!(client.ask(&[b"GET", b"key"]), Reply::Bulk(b"value".to_vec()));
        assert_eq!(client.ask(&[b"RPUSH", b"list", b"a", b"b", b"c"]), line("3"));
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
        let Some(mut machine) = Machine::start(&settings, &[]) else { return };
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
        let Some(mut machine) = Machine::start(&settings, &[]) else { return };
        main_job(&mut machine.client(), policy);
    }
}

/// 32 MB of values of many sizes and of lists, all read back.
fn main_job(client: &mut Client, policy: &str) {
    let values: Vec<Vec<u8>> = (0..900).map(|seed| noise(seed, 1 + seed as usize * 73 % 65_536)).collect();
    let key = |index: usize| format!("key:{index}").into_bytes();
    let sets: Vec<_> =
        (0..).zip(&values).map(|(index, value)| vec![b"SET".to_vec(), key(index), value.clone()]).collect();
    client.pipeline(&sets, |index, reply| assert_eq!(reply, line("OK"), "{policy}: SET {index}"));
    let element = |list: usize, index: usize| noise((list * 1000 + index) as u64, 1024);
    let pushes: Vec<_> = (0..20)
        .map(|list| {
            let name = [b"RPUSH".to_vec(), format!("list:{list}").into_bytes()];
            name.into_iter().chain((0..200).map(|index| element(list, index))).collect()
        })
        .collect();
    client.pipeline(&pushes, |list, reply| assert_eq!(reply, line("200"), "{policy}: RPUSH {list}"));

    let gets: Vec<_> =
        (0..values.len()).map(|index| vec![b"GET".to_vec(), key(index * 7 % values.len())]).collect();
    client.pipeline(&gets, |index, reply| {
        assert!(reply == Reply::Bulk(values[index * 7 % values.len()].clone()), "{policy}: GET {index}");
    });
    let ranges: Vec<_> = (0..20)
        .map(|list| {
            [b"LRANGE", format!("list:{list}").as_bytes(), b"50", b"149"].map(<[u8]>::to_vec).to_vec()
        })
        .collect();
    client.pipeline(&ranges, |list, reply| {
        let wanted = (50..150).map(|index| Reply::Bulk(element(list, index))).collect();
        assert!(reply == Reply::Array(wanted), "{policy}: LRANGE {list}");
    });
    let Reply::Bulk(info) = client.ask(&[b"INFO", b"farmem"]) else {
        panic!("{policy}: INFO is a bulk string")
    };
    let info = String::from_utf8(info).expect("INFO is text");
    let counter = |name: &str| {
        let line = info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.and_then(|value| value.parse::<u64>().ok()).expect("INFO has the counter")
    };
    assert!(counter("pages_fetched") > 4000, "{policy}: everything was local: {info}");
    assert_eq!((counter("unplanned_faults"), counter("checksum_failures")), (0, 0), "{policy}");
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
        let Some(machine) = Machine::start(&[("MACHINE", "microvm")], directives) else { return };
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
        let Some(machine) = Machine::start(&settings, &[]) else { return };
        let (code, console) = machine.ended();
        assert_eq!(code, Some(1), "{settings:?}: {console}");
        assert!(console.contains(wanted), "{settings:?}: {console}");
    }
}

#[test]
fn connections_beyond_the_limit_are_told_and_connections_that_vanish_leave_room() {
    let Some(mut machine) = Machine::start(&[], &["--maxclients", "4"]) else { return };
    let mut first = machine.client();
    let port = machine.port;
    for round in 0..20 {
        // At first these are the attempts that came before the machine was up.
        while !first_sees_one_client(&mut first) {
            std::thread::sleep(Duration::from_millis(10));
        }
        let mut others: Vec<_> = (0..3).filter_map(|_| Client::connect(port, REPLY_MAX)).collect();
        assert_eq!(others.len(), 3, "round {round}");
        // One more is refused with Redis' words.
        let extra = TcpStream::connect(("127.0.0.1", port)).expect("QEMU accepts");
        extra.set_read_timeout(Some(REPLY_MAX)).expect("the time is not zero");
        assert_eq!(Client(BufReader::new(extra)).read(), Some(line("ERR max number of clients reached")));
        // They go in the middle of a command, and of a reply that nobody reads.
        others[0].0.get_mut().write_all(b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1000\r\nhalf").expect("it is open");
        others[1].send(&[b"GETRANGE", b"nothing", b"0", b"-1"]);
    }
    assert_eq!(first.ask(&[b"PING"]), line("PONG"));
}

/// Whether the machine has noticed that everybody else is gone.
fn first_sees_one_client(first: &mut Client) -> bool {
    let Reply::Bulk(list) = first.ask(&[b"CLIENT", b"LIST"]) else { panic!("CLIENT LIST is a bulk string") };
    list.iter().filter(|&&byte| byte == b'\n').count() == 1
}

fn line(text: &str) -> Reply {
    Reply::Line(text.to_owned())
}

fn array(elements: &[&[u8]]) -> Reply {
    Reply::Array(elements.iter().map(|element| Reply::Bulk(element.to_vec())).collect())
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
