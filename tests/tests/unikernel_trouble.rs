//! The unikernel in trouble: drives that will not do, drives that fail while it runs, crowds of connections.
//!
//! Needs qemu-system-x86_64, nbdkit, python3 and, for the crowd, root (a tap); without one of them the test
//! skips loudly, and fails where `CI` is set. Refuses to gate on wall time.
#![cfg(all(target_os = "linux", target_arch = "x86_64"))]

mod unikernel_image;

use std::fs::{self, File};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};
use tests::machine::Machine;
use tests::nodes::{Listen, Node, installed};
use tests::redis::{Redis, Reply};
use unikernel_image::{image, qemu_is_there, root};

/// Three times what fits into 4 MB.
const KEYS: u32 = 1500;
/// Far memory that has healed is used again within this.
const HEAL_MAX: Duration = Duration::from_secs(20);

#[test]
fn a_drive_that_will_not_do_is_one_line_and_exit_code_one() {
    if !qemu_is_there() {
        return;
    }
    let dir = tempfile::tempdir().expect("a directory can be made");
    let drive = |name: &str, len: u64| {
        let path = dir.path().join(name);
        File::create_new(&path).and_then(|file| file.set_len(len)).expect("a file can be made");
        format!("drive:{}", path.display())
    };
    let (empty, small) = (drive("empty", 512), drive("small", 2 << 20));
    let read_only = format!(
        "-drive file={},format=raw,if=none,id=d,readonly=on -device virtio-blk-pci,drive=d",
        dir.path().join("small").display()
    );
    let read_only = ("QEMU_EXTRA", read_only.as_str());
    for (far, extra, wanted) in [
        (
            "virtio-blk:",
            None,
            "bad directive 'far-memory virtio-blk:': no drive: give the machine a virtio-blk device",
        ),
        (&empty, None, "bad directive 'far-memory virtio-blk:': the drive has not one page"),
        (&small, None, "too small a far memory: virtio-blk: has 2048 KiB, --local-memory is 4096 KiB"),
        ("mem:1mb", None, "too small a far memory: mem:1mb has 1024 KiB, --local-memory is 4096 KiB"),
        ("virtio-blk:", Some(read_only), "bad directive 'far-memory virtio-blk:': the drive is read-only"),
        ("nothing:", None, "bad directive 'far-memory nothing:': here it is mem:SIZE or virtio-blk:"),
    ] {
        let settings = [("FAR", far), ("LOCAL", "4mb"), ("MEMORY", "192")];
        let settings: Vec<_> = settings.into_iter().chain(extra).collect();
        let (code, console) = Machine::start(image(), &settings, &[]).ended();
        assert_eq!(code, Some(1), "{settings:?}: {console}");
        let said = console.lines().filter(|line| line.contains("remora-unikernel: ")).count();
        assert!(said == 1 && console.contains(wanted), "{settings:?}: {console}");
    }
}

/// 8 KB that only this key has: two pages.
fn value(key: u32) -> Vec<u8> {
    (0..1000_u32).flat_map(|n| format!("{:08x}", n.wrapping_mul(0x9e37_79b9) ^ key).into_bytes()).collect()
}

fn set(redis: &mut Redis, keys: std::ops::Range<u32>) {
    for key in keys {
        let reply = redis.ask(&[b"SET", format!("key:{key}").as_bytes(), &value(key)]);
        assert_eq!(reply, Reply::Simple("OK".into()), "key:{key}");
    }
}

fn is_lost(reply: &Reply) -> bool {
    matches!(reply, Reply::Error(text) if text.starts_with("FARMEMORYLOST"))
}

/// Reads every key: how many were right, and how many were an error. Nothing else may come.
fn read(redis: &mut Redis, keys: std::ops::Range<u32>) -> (u32, u32) {
    let (mut right, mut lost) = (0, 0);
    for key in keys {
        match redis.say(&format!("GET key:{key}")) {
            reply if is_lost(&reply) => lost += 1,
            reply => {
                assert!(reply == Reply::Bulk(Some(value(key))), "key:{key} is wrong");
                right += 1;
            }
        }
    }
    (right, lost)
}

/// Reads until all is right again.
fn heals(redis: &mut Redis, keys: std::ops::Range<u32>) {
    let since = Instant::now();
    while read(redis, keys.clone()).1 > 0 {
        assert!(since.elapsed() < HEAL_MAX, "it never heals: {:?}", redis.info("farmem"));
    }
}

#[test]
fn a_drive_that_fails_costs_errors_and_no_data_with_every_policy() {
    if !qemu_is_there() {
        return;
    }
    let dir = tempfile::tempdir().expect("a directory can be made");
    let [reads, writes] = ["reads", "writes"].map(|name| dir.path().join(name));
    let fails = |file: &Path| File::create_new(file).map(drop).expect("a file can be made");
    let works = |file: &Path| fs::remove_file(file).expect("it is there");
    let (read_file, write_file) =
        (format!("error-pread-file={}", reads.display()), format!("error-pwrite-file={}", writes.display()));
    let plugin = [
        "--filter=error",
        "memory",
        "64M",
        "error-pread-rate=100%",
        &read_file,
        "error-pwrite-rate=100%",
        &write_file,
    ];
    for policy in ["ahead", "none", "sequential", "guided"] {
        let listen = Listen::Unix(dir.path().join(policy));
        let Some(node) = Node::nbdkit(&plugin, listen) else { return };
        let far = node.uri();
        let settings = [
            ("FAR", far.as_str()),
            ("LOCAL", "4mb"),
            ("MEMORY", "192"),
            ("PREFETCH", policy),
            ("MACHINE", "microvm"),
        ];
        let mut machine = Machine::start(image(), &settings, &[]);
        let mut redis = machine.client();
        set(&mut redis, 0..KEYS);

        // What is here is served, what is not is an error, and nobody else is harmed.
        fails(&reads);
        let (right, lost) = read(&mut redis, 0..KEYS);
        println!("{policy}: reads fail: {right} right, {lost} errors");
        assert!(right > 100 && lost > 100, "{policy}: {right} right, {lost} errors");
        assert_eq!(machine.client().say("PING"), Reply::Simple("PONG".into()), "{policy}");
        works(&reads);
        heals(&mut redis, 0..KEYS);

        // What cannot be written back stays here, and is written back later.
        fails(&writes);
        set(&mut redis, KEYS..KEYS + 50);
        assert_eq!(read(&mut redis, KEYS..KEYS + 50), (50, 0), "{policy}");
        redis.say("FARMEM EVICT ALL");
        assert_eq!(read(&mut redis, KEYS..KEYS + 50), (50, 0), "{policy}");
        works(&writes);
        heals(&mut redis, 0..KEYS + 50);
        for _ in 0..2 {
            redis.say("FARMEM EVICT ALL");
        }
        heals(&mut redis, 0..KEYS + 50);
        let info = redis.info("farmem");
        assert_eq!(info["checksum_failures"], "0", "{policy}: {info:?}");
    }
}

#[test]
fn a_backend_whose_memory_node_dies_costs_errors_and_nothing_that_is_here() {
    if !qemu_is_there() {
        return;
    }
    let dir = tempfile::tempdir().expect("a directory can be made");
    let mut node = Node::memnode("64mb", Listen::Unix(dir.path().join("node")));
    let socket = dir.path().join("vhost");
    let backend = Node::vhost(&node.uri(), &socket, &[]);
    let far = format!("vhost:{}", socket.display());
    let mut machine = Machine::start(
        image(),
        &[("FAR", &far), ("LOCAL", "4mb"), ("MEMORY", "192"), ("MACHINE", "q35")],
        &[],
    );
    let mut redis = machine.client();
    set(&mut redis, 0..KEYS);
    set(&mut redis, KEYS..KEYS + 50);
    node.kill();
    assert_eq!(read(&mut redis, KEYS..KEYS + 50), (50, 0), "what was set last is here");
    assert!(is_lost(&redis.say("GET key:1")), "what was set first is far");
    assert_eq!(machine.client().say("PING"), Reply::Simple("PONG".into()));
    assert_eq!(read(&mut redis, KEYS..KEYS + 50), (50, 0), "and nothing of it was lost");
    drop(machine);
    assert_eq!(backend.end(), Some(0));
}

#[test]
fn a_crowd_of_connections_is_served_or_refused_and_half_open_ones_leave_room() {
    if !qemu_is_there() || installed("python3").is_none() || !may_make_a_network() {
        return;
    }
    let guest = root().join("tests/guest");
    let run = Command::new(guest.join("network.sh"))
        .args(["python3".as_ref(), guest.join("crowd.py").as_os_str()])
        .env("IMAGE", image())
        .output()
        .expect("a script can be run");
    let said = format!("{}{}", String::from_utf8_lossy(&run.stdout), String::from_utf8_lossy(&run.stderr));
    println!("{said}");
    assert!(run.status.success() && said.contains("TRIED ALL"), "{said}");
}

/// Whether this user may make network namespaces and taps; says so if not, and fails in CI.
fn may_make_a_network() -> bool {
    let id = Command::new("id").arg("-u").output().expect("there is an id");
    let may = id.stdout == b"0\n" && Path::new("/dev/net/tun").exists();
    if !may {
        assert!(std::env::var_os("CI").is_none(), "skipped: needs root and /dev/net/tun");
        eprintln!("SKIPPED: needs root and /dev/net/tun");
    }
    may
}
