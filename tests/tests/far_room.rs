//! A node's room: what is given back when data goes, and what happens where there is none left.
//!
//! ```text
//!   FLUSHALL ─► trims ─► the node's resident set falls        node full or dead ─► errors by a deadline, never a hang
//! ```
//!
//! Refuses to measure speed.

use std::time::{Duration, Instant};
use tests::nodes::{Listen, Node};
use tests::redis::{Redis, Reply, Server};

/// How long FLUSHALL may take to reach the host of the node.
const GIVE_BACK_MAX: Duration = Duration::from_secs(10);
/// How long a command may be held up by a node without room, one deadline of a request and as much again.
const ANSWER_MAX: Duration = Duration::from_secs(3);

/// How long it may take until a node that takes pages again is used again.
const RECOVERY_MAX: Duration = Duration::from_secs(10);
/// A value that is put into far pages as it arrives, half of local memory.
const LARGE_BYTES: usize = 1 << 20;

/// 12 KB that only this key has in this version.
fn value(key: u32, version: u32) -> Vec<u8> {
    (0..2000_u32)
        .flat_map(|n| format!("{:06x}", (n * 7919 + key * 104_729 + version * 31) & 0xFF_FFFF).into_bytes())
        .collect()
}

fn set(redis: &mut Redis, key: u32, version: u32) -> Reply {
    redis.ask(&[b"SET", format!("key:{key}").as_bytes(), &value(key, version)])
}

fn get(redis: &mut Redis, key: u32) -> Reply {
    redis.say(&format!("GET key:{key}"))
}

fn ok() -> Reply {
    Reply::Simple("OK".into())
}

/// Resident bytes of a process.
fn resident_bytes(pid: u32) -> u64 {
    let statm = std::fs::read_to_string(format!("/proc/{pid}/statm")).expect("it runs");
    let pages = statm.split(' ').nth(1).and_then(|field| field.parse::<u64>().ok());
    pages.expect("statm has a second field") * 4096
}

#[test]
fn flushall_gives_a_nodes_memory_back_to_its_host() {
    let dir = tempfile::tempdir().expect("a directory can be made");
    let node = Node::memnode("512mb", Listen::Unix(dir.path().join("node")));
    let words = ["--local-memory", "8mb", "--far-memory", &node.patient_uri()];
    let server = Server::start(&words, &dir.path().join("log"));
    let mut redis = Redis::connect(server.port).expect("the server listens");
    for key in 0..2000_u32 {
        let bytes = vec![key as u8; 48 << 10];
        assert_eq!(redis.ask(&[b"SET", format!("key:{key}").as_bytes(), &bytes]), ok());
        redis.ask(&[b"SET", format!("small:{key}").as_bytes(), &bytes[..300]]);
        redis.ask(&[b"RPUSH", format!("list:{}", key % 50).as_bytes(), &bytes[..1000]]);
    }
    // Holes everywhere, so that what is freed at last is in many runs.
    for key in (0..2000).step_by(5) {
        redis.say(&format!("DEL key:{key}"));
    }
    redis.say("FARMEM EVICT ALL");
    std::thread::sleep(Duration::from_millis(500));
    let full = resident_bytes(node.pid());
    assert!(full > 70 << 20, "the data is not on the node: {full}");
    assert_eq!(redis.say("FLUSHALL"), ok());
    let since = Instant::now();
    while resident_bytes(node.pid()) > full / 10 {
        let now = resident_bytes(node.pid());
        assert!(since.elapsed() < GIVE_BACK_MAX, "{now} of {full} bytes are still resident");
        std::thread::sleep(Duration::from_millis(50));
    }
    eprintln!("{full} bytes, a tenth after {:?}", since.elapsed());
    assert_eq!(set(&mut redis, 1, 5), ok());
    redis.say("FARMEM EVICT ALL");
    assert_eq!(get(&mut redis, 1), Reply::Bulk(Some(value(1, 5))));
}

/// Whether an error says that far memory takes no page.
fn is_full(why: &str) -> bool {
    why.starts_with("FARMEMORYFULL ")
}

/// Whether an error is one that a node which is gone may cause: it neither takes pages nor gives them.
fn is_gone(why: &str) -> bool {
    is_full(why) || why.starts_with("FARMEMORYLOST ")
}

/// Writes and reads while a node takes no page: every command is answered in time, and what is acknowledged is kept.
/// Returns the version of each key.
fn with_no_room(redis: &mut Redis, may_say: impl Fn(&str) -> bool) -> Vec<u32> {
    let mut versions = vec![0; 400];
    let mut refused = 0;
    for key in 0..400_u32 {
        let since = Instant::now();
        match set(redis, key, 1) {
            reply if reply == ok() => versions[key as usize] = 1,
            Reply::Error(why) if may_say(&why) => refused += 1,
            other => panic!("SET: {other:?}"),
        }
        assert!(since.elapsed() < ANSWER_MAX, "SET key:{key} took {:?}", since.elapsed());
        if refused == 5 {
            break;
        }
    }
    assert_eq!(refused, 5, "4.8 MB do not fit into 2 MB");
    // A value that is put into far pages as it arrives: its command is answered, and the connection goes on.
    let since = Instant::now();
    let large = redis.ask(&[b"SET", b"large", &vec![b'l'; LARGE_BYTES]]);
    assert!(matches!(&large, Reply::Error(why) if may_say(why)), "{large:?}");
    assert!(since.elapsed() < ANSWER_MAX, "a large SET took {:?}", since.elapsed());
    assert_eq!(redis.say("PING"), Reply::Simple("PONG".into()));
    let since = Instant::now();
    for key in (0..400_u32).step_by(37) {
        match get(redis, key) {
            Reply::Error(why) if may_say(&why) => {}
            got => {
                assert!(got == Reply::Bulk(Some(value(key, versions[key as usize]))), "key:{key} is wrong")
            }
        }
        assert!(since.elapsed() < 2 * ANSWER_MAX, "GETs take {:?}", since.elapsed());
    }
    assert_eq!(redis.say("PING"), Reply::Simple("PONG".into()));
    versions
}

/// Reads everything back, once far memory can be used again.
fn check_all(redis: &mut Redis, versions: &[u32]) {
    let since = Instant::now();
    for (key, &version) in versions.iter().enumerate() {
        let key = key as u32;
        while matches!(get(redis, key), Reply::Error(_)) && since.elapsed() < RECOVERY_MAX {
            std::thread::sleep(Duration::from_millis(50));
        }
        let got = get(redis, key);
        assert!(got == Reply::Bulk(Some(value(key, version))), "key:{key} is not of version {version}");
    }
}

/// Writes, once far memory can be used again: nobody has to start anything anew.
fn write_again(redis: &mut Redis) {
    let since = Instant::now();
    let large = vec![b'm'; LARGE_BYTES];
    // It does not fit beside what has not been taken.
    while redis.ask(&[b"SET", b"large", &large]) != ok() {
        assert!(since.elapsed() < RECOVERY_MAX, "it never comes back");
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(set(redis, 7, 9), ok());
    assert_eq!(get(redis, 7), Reply::Bulk(Some(value(7, 9))));
    assert!(redis.say("GET large") == Reply::Bulk(Some(large)));
}

fn a_full_node(policy: &str, rounds: u32) {
    let dir = tempfile::tempdir().expect("a directory can be made");
    let full = dir.path().join("full");
    let file = format!("error-file={}", full.display());
    let plugin = ["--filter=error", "memory", "64M", "error-pwrite=ENOSPC", "error-pwrite-rate=100%", &file];
    let Some(node) = Node::nbdkit(&plugin, Listen::Unix(dir.path().join("node"))) else { return };
    let words = ["--local-memory", "2mb", "--far-memory", &node.patient_uri(), "--prefetch", policy];
    let server = Server::start(&words, &dir.path().join("log"));
    let mut redis = Redis::connect(server.port).expect("the server listens");
    for key in 0..400 {
        assert_eq!(set(&mut redis, key, 0), ok());
    }
    for _ in 0..rounds {
        std::fs::write(&full, "").expect("a file can be made");
        let versions = with_no_room(&mut redis, is_full);
        std::fs::remove_file(&full).expect("it is there");
        check_all(&mut redis, &versions);
        write_again(&mut redis);
        for key in 0..400 {
            assert_eq!(set(&mut redis, key, 0), ok());
        }
    }
}

#[test]
fn a_full_node_refuses_writes_and_nobody_hangs_and_nothing_acknowledged_is_lost() {
    a_full_node("ahead", 2);
}

#[test]
fn a_full_node_is_the_same_error_where_a_command_waits_for_its_pages() {
    ["none", "sequential", "guided"].into_iter().for_each(|policy| a_full_node(policy, 1));
}

#[test]
fn a_dead_node_refuses_writes_that_need_it_and_nobody_hangs() {
    let dir = tempfile::tempdir().expect("a directory can be made");
    let mut node = Node::memnode("64mb", Listen::Unix(dir.path().join("node")));
    let words = ["--local-memory", "2mb", "--far-memory", &node.uri()];
    let server = Server::start(&words, &dir.path().join("log"));
    let mut redis = Redis::connect(server.port).expect("the server listens");
    for key in 0..400 {
        assert_eq!(set(&mut redis, key, 0), ok());
    }
    node.kill();
    with_no_room(&mut redis, is_gone);
    node.restart();
    write_again(&mut redis);
}
