//! The pager that really faults, from outside: right values under pressure in each prefetch policy, the cap,
//! and a clear word where it cannot be.

mod support;

use std::process::{Command, Stdio};
use support::{Server, free_port, program, value};

/// Values of up to three pages, of 4 times the local memory.
const KEYS: u32 = 3000;
const LISTS: u32 = 40;
const ELEMENTS: u32 = 60;

fn len_of(key: u32) -> usize {
    100 + (key as usize * 7919) % 12_000
}

fn element(list: u32, index: u32) -> Vec<u8> {
    value(1_000_000 + list * ELEMENTS + index, 200 + (index as usize * 37) % 900)
}

/// Writes, overwrites, and reads everything back, by GET and by LRANGE.
fn every_value_is_right(policy: &str, directives: &[&str]) {
    let mut all = vec!["--pager", "uffd", "--prefetch", policy, "--local-memory", "4mb"];
    all.extend(directives);
    let server = Server::start(&all);
    let mut client = server.connect();
    assert!(String::from_utf8_lossy(&client.command(&[b"INFO", b"farmem"])).contains("pager:uffd"));
    for key in 0..KEYS {
        let stored = if key.is_multiple_of(3) { key + 7 } else { key };
        let name = format!("key:{key}");
        assert_eq!(client.command(&[b"SET", name.as_bytes(), &value(key, len_of(key))]), b"+OK");
        assert_eq!(client.command(&[b"SET", name.as_bytes(), &value(stored, len_of(stored))]), b"+OK");
    }
    for list in 0..LISTS {
        let name = format!("list:{list}");
        let elements: Vec<Vec<u8>> = (0..ELEMENTS).map(|index| element(list, index)).collect();
        let mut words: Vec<&[u8]> = vec![b"RPUSH", name.as_bytes()];
        words.extend(elements.iter().map(Vec::as_slice));
        assert_eq!(client.command(&words), format!(":{ELEMENTS}").as_bytes());
    }
    for round in 0..2 {
        for turn in 0..KEYS {
            let key = turn * 1009 % KEYS;
            let stored = if key.is_multiple_of(3) { key + 7 } else { key };
            let got = client.command(&[b"GET", format!("key:{key}").as_bytes()]);
            assert!(got == value(stored, len_of(stored)), "{policy}: round {round}, key {key} came wrong");
        }
        for list in 0..LISTS {
            let (first, last) = (list % 10, ELEMENTS - 1 - list % 7);
            let bounds = [first.to_string(), last.to_string()];
            let name = format!("list:{list}");
            client.send(&[b"LRANGE", name.as_bytes(), bounds[0].as_bytes(), bounds[1].as_bytes()]);
            assert_eq!(client.reply(), format!("*{}", last - first + 1).as_bytes());
            for index in first..=last {
                assert!(client.reply() == element(list, index), "{policy}: list {list}, element {index}");
            }
        }
    }
    let info = String::from_utf8_lossy(&client.command(&[b"INFO", b"farmem"])).into_owned();
    let field = |name: &str| -> u64 {
        let line = info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.and_then(|value| value.trim().parse().ok()).unwrap_or_else(|| panic!("no {name} in {info}"))
    };
    assert!(field("pages_fetched") > 2 * u64::from(KEYS), "it was no test of far memory: {info}");
    assert_eq!((field("unplanned_faults"), field("checksum_failures")), (0, 0), "{info}");
    // The far memory itself is a named mapping and no anonymous memory; what the process takes by itself is about 4 MiB.
    let resident_bytes = server.anonymous_bytes();
    assert!(resident_bytes < 12 << 20, "{policy}: {resident_bytes} bytes are resident for a cap of 4 MiB");
}

#[test]
fn every_value_is_right_in_each_policy() {
    for policy in ["none", "sequential", "guided", "ahead"] {
        every_value_is_right(policy, &["--far-memory", "mem:256mb"]);
    }
}

#[test]
fn every_value_is_right_while_transfers_are_in_flight() {
    for policy in ["guided", "ahead"] {
        every_value_is_right(policy, &["--far-memory", "mem:256mb?latency=20us&bandwidth=100gbit"]);
    }
}

#[test]
fn the_pager_is_named_and_only_at_the_start() {
    let server = Server::start(&["--pager", "uffd", "--local-memory", "2mb"]);
    let mut client = server.connect();
    assert!(client.command(&[b"CONFIG", b"SET", b"pager", b"soft"]).starts_with(b"-ERR"));
    let refused = program(&["--pager", "mmu"]).output().expect("the program can be run");
    assert_eq!(refused.status.code(), Some(1));
}

/// Denies userfaultfd(2) and gives up root, with it the device, as a container's default does.
const DENY: &str = r#"
import ctypes, os, struct, sys
libc = ctypes.CDLL(None, use_errno=True)
number = {"x86_64": 323, "aarch64": 282}[os.uname().machine]
ld, jeq, ret = 0x20, 0x15, 0x06
code = [(ld, 0, 0, 0), (jeq, 0, 1, number), (ret, 0, 0, 0x00050000 | 1), (ret, 0, 0, 0x7fff0000)]
program = b"".join(struct.pack("HBBI", *line) for line in code)
buffer = ctypes.create_string_buffer(program)
class Filter(ctypes.Structure):
    _fields_ = [("len", ctypes.c_ushort), ("filter", ctypes.c_void_p)]
wanted = Filter(len(code), ctypes.addressof(buffer))
if os.getuid() == 0:
    os.setgroups([]); os.setgid(65534); os.setuid(65534)
assert libc.prctl(38, 1, 0, 0, 0) == 0
assert libc.prctl(22, 2, ctypes.byref(wanted), 0, 0) == 0
os.execv(sys.argv[1], sys.argv[1:])
"#;

#[test]
fn where_userfaultfd_is_not_allowed_it_says_so_in_one_line() {
    // Where nobody may look for a program there may be none: a copy is for everybody.
    let dir = tempfile::tempdir().expect("a directory can be made");
    let copy = dir.path().join("remora-server");
    std::fs::copy(env!("CARGO_BIN_EXE_remora-server"), &copy).expect("it can be copied");
    let open = |path: &std::path::Path| {
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(path, mode).expect("it is ours");
    };
    open(dir.path());
    open(&copy);
    let port = free_port().to_string();
    let mut command = Command::new("python3");
    command.args(["-c", DENY]).arg(&copy).args(["--port", &port, "--pager", "uffd", "--local-memory", "2mb"]);
    let output = command.stdin(Stdio::null()).output().expect("python3 is there");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.starts_with("remora-server: userfaultfd is not allowed here"), "{said}");
    assert_eq!((said.lines().count(), output.status.code()), (1, Some(1)), "{said}");
}
