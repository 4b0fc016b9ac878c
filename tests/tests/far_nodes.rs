//! A server over memory nodes that are killed, stopped, started again, added and removed: nothing that was acknowledged
//! is lost while a copy is left, and what is lost is told.
//!
//! `ROUNDS=10` kills more often (`make soak`), `SECONDS_EACH=5` runs longer between two kills.

use std::collections::HashMap;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tests::nodes::{Listen, Node};
use tests::redis::{Redis, Reply, Server};

/// Clients at a time.
const CLIENTS: u64 = 50;
/// Keys of each client; with values of 16 KiB on average 50 MB, six times what is local.
const KEYS: u64 = 64;
/// How long anybody may wait.
const WAIT_MAX: Duration = Duration::from_secs(1);

fn node(dir: &Path, name: &str) -> Node {
    Node::memnode("128mb", Listen::Unix(dir.join(name)))
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|value| value.parse().ok())
}

/// The value that a key has in one version: other bytes and another length each time.
fn value(key: &str, version: u64) -> Vec<u8> {
    let mut state = version.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ key.len() as u64 | 1;
    let mut bytes = format!("{key} {version} ").into_bytes();
    let len = 2048 << (version % 5);
    while bytes.len() < len {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes
}

/// The version of each key that was acknowledged last.
type Known = HashMap<String, u64>;

/// One client: writes and reads its own keys until it is told to stop. Every reply is checked.
fn client(port: u16, number: u64, stop: &AtomicBool, longest_us: &AtomicU64) -> Known {
    let mut redis = Redis::connect(port).expect("the server listens");
    let mut known = Known::new();
    let mut random = number.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    while !stop.load(Ordering::Relaxed) {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        let key = format!("c{number}:{}", random % KEYS);
        let since = Instant::now();
        let version = known.entry(key.clone()).or_default();
        if random >> 32 & 3 == 0 || *version == 0 {
            match redis.ask(&[b"SET", key.as_bytes(), &value(&key, *version + 1)]) {
                Reply::Simple(_) => *version += 1,
                other => panic!("SET {key}: {other:?}"),
            }
        } else {
            match redis.ask(&[b"GET", key.as_bytes()]) {
                Reply::Bulk(Some(bytes)) => assert!(bytes == value(&key, *version), "{key} is wrong"),
                other => panic!("GET {key}, version {version}: {other:?}"),
            }
        }
        longest_us.fetch_max(since.elapsed().as_micros() as u64, Ordering::Relaxed);
    }
    known
}

/// Waits until every link is `up`.
fn wait_until_whole(redis: &mut Redis) {
    let since = Instant::now();
    loop {
        let info = redis.info("farmem");
        let links: Vec<&String> =
            info.iter().filter(|(name, _)| name.starts_with("link")).map(|(_, link)| link).collect();
        if !links.is_empty() && links.iter().all(|link| link.contains("state=up")) {
            return;
        }
        assert!(since.elapsed() < Duration::from_secs(60), "never whole: {links:?}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn with_two_copies_a_node_may_die_at_any_time_and_nothing_is_lost() {
    let dir = tempfile::tempdir().expect("a directory can be made");
    let mut nodes = [node(dir.path(), "a"), node(dir.path(), "b")];
    let uris = nodes.each_ref().map(Node::uri);
    let (rounds, seconds) = (number("ROUNDS").unwrap_or(1), number("SECONDS_EACH").unwrap_or(1));
    let log = dir.path().join("log");
    let directives =
        ["--local-memory", "8mb", "--far-copies", "2", "--far-memory", &uris[0], "--far-memory", &uris[1]];
    let server = Server::start(&directives, &log);
    let (stop, longest_us) = (AtomicBool::new(false), AtomicU64::new(0));
    let mut redis = Redis::connect(server.port).expect("the server listens");
    let known: Vec<Known> = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|number| {
                let (stop, longest_us) = (&stop, &longest_us);
                scope.spawn(move || client(server.port, number + 1, stop, longest_us))
            })
            .collect();
        std::thread::sleep(Duration::from_secs(seconds));
        for round in 0..2 * rounds {
            let node = &mut nodes[(round % 2) as usize];
            node.kill();
            std::thread::sleep(Duration::from_millis(seconds * 700 + round * 37 % 300));
            node.restart();
            // A page may be on its way to the node that is back; what is copied is counted by the second.
            std::thread::sleep(Duration::from_millis(2100));
            wait_until_whole(&mut redis);
        }
        nodes[0].kill();
        std::thread::sleep(Duration::from_millis(300));
        stop.store(true, Ordering::Relaxed);
        clients.into_iter().map(|client| client.join().expect("no client saw anything wrong")).collect()
    });
    for (key, version) in known.into_iter().flatten() {
        let got = redis.ask(&[b"GET", key.as_bytes()]);
        assert!(got == Reply::Bulk(Some(value(&key, version))), "{key} is not of version {version}");
    }
    let info = redis.info("farmem");
    assert_eq!(info["checksum_failures"], "0", "a second try has hidden that a page was wrong");
    let text = std::fs::read_to_string(&log).unwrap_or_default();
    text.lines().filter(|line| line.contains("whole again")).for_each(|line| eprintln!("{line}"));
    let longest = Duration::from_micros(longest_us.into_inner());
    eprintln!("longest wait {longest:?}");
    assert!(longest < WAIT_MAX, "somebody waited {longest:?}");
}

/// A server over one node with 500 values of 8 KiB, most of them only there.
fn one_copy(dir: &Path) -> (Node, Server, Redis) {
    let node = node(dir, "only");
    let server = Server::start(&["--local-memory", "2mb", "--far-memory", &node.uri()], &dir.join("log"));
    let mut redis = Redis::connect(server.port).expect("the server listens");
    fill(&mut redis);
    (node, server, redis)
}

/// Writes 500 values, and sends them away.
fn fill(redis: &mut Redis) {
    for n in 0..500 {
        let key = format!("key:{n}");
        assert_eq!(redis.ask(&[b"SET", key.as_bytes(), &value(&key, 2)]), Reply::Simple("OK".into()));
    }
    redis.say("FARMEM EVICT ALL");
    std::thread::sleep(Duration::from_millis(300));
    redis.say("FARMEM EVICT ALL");
}

#[test]
fn with_one_copy_what_is_lost_is_told_and_can_be_repaired() {
    let dir = tempfile::tempdir().expect("a directory can be made");
    let (mut node, _server, mut redis) = one_copy(dir.path());
    assert_eq!(redis.say("GET key:7"), Reply::Bulk(Some(value("key:7", 2))));
    node.kill();
    let since = Instant::now();
    let is_lost = |reply: &Reply| matches!(reply, Reply::Error(text) if text.starts_with("FARMEMORYLOST"));
    assert!(is_lost(&redis.say("GET key:99")));
    assert!(since.elapsed() < Duration::from_millis(1500), "{:?}", since.elapsed());
    assert_eq!(redis.say("PING"), Reply::Simple("PONG".into()));
    assert_eq!(redis.say("GET key:7"), Reply::Bulk(Some(value("key:7", 2))), "it is local");
    node.restart();
    std::thread::sleep(Duration::from_millis(1500));
    assert!(is_lost(&redis.say("GET key:99")), "never read as zeros");
    let Reply::Array(lost) = redis.say("FARMEM LOST") else { panic!("no FARMEM LOST") };
    assert!(matches!(lost[1], Reply::Integer(pages) if pages > 900), "{lost:?}");
    assert!(matches!(lost[3], Reply::Integer(keys) if keys > 400), "{lost:?}");
    for n in 0..500 {
        let key = format!("key:{n}");
        if n % 2 == 0 {
            assert_eq!(redis.say(&format!("DEL {key}")), Reply::Integer(1), "{key}");
        } else {
            assert_eq!(redis.ask(&[b"SET", key.as_bytes(), &value(&key, 3)]), Reply::Simple("OK".into()));
        }
    }
    for n in (1..500).step_by(2) {
        let key = format!("key:{n}");
        assert_eq!(redis.ask(&[b"GET", key.as_bytes()]), Reply::Bulk(Some(value(&key, 3))));
    }
    std::thread::sleep(Duration::from_millis(200));
    let Reply::Array(lost) = redis.say("FARMEM LOST") else { panic!("no FARMEM LOST") };
    assert_eq!((&lost[1], &lost[3]), (&Reply::Integer(0), &Reply::Integer(0)));
}

#[test]
fn a_node_that_stands_still_for_a_moment_is_waited_for() {
    let dir = tempfile::tempdir().expect("a directory can be made");
    let (node, _server, mut redis) = one_copy(dir.path());
    let signal = |name: &str| {
        Command::new("kill").args([name, &node.pid().to_string()]).status().expect("kill is there");
    };
    signal("-STOP");
    let waiting = std::thread::spawn(move || redis.say("GET key:99"));
    std::thread::sleep(Duration::from_millis(400));
    signal("-CONT");
    assert_eq!(waiting.join().expect("it is answered"), Reply::Bulk(Some(value("key:99", 2))));
}

#[test]
fn a_node_is_drained_to_one_that_was_added() {
    let dir = tempfile::tempdir().expect("a directory can be made");
    let (mut first, _server, mut redis) = one_copy(dir.path());
    let second = node(dir.path(), "second");
    assert_eq!(redis.say(&format!("FARMEM ADD {}", second.uri())), Reply::Simple("OK".into()));
    assert_eq!(redis.say(&format!("FARMEM REMOVE {}", first.uri())), Reply::Simple("OK".into()));
    let since = Instant::now();
    while redis.info("farmem").contains_key("link1") || !redis.info("farmem")["link0"].contains("second") {
        assert!(since.elapsed() < Duration::from_secs(30), "{:?}", redis.info("farmem"));
        std::thread::sleep(Duration::from_millis(100));
    }
    first.kill();
    redis.say("FARMEM EVICT ALL");
    for n in 0..500 {
        let key = format!("key:{n}");
        assert_eq!(redis.ask(&[b"GET", key.as_bytes()]), Reply::Bulk(Some(value(&key, 2))));
    }
    let refused = redis.say(&format!("FARMEM REMOVE {}", second.uri()));
    assert!(matches!(&refused, Reply::Error(why) if why.contains("room for 0 of its")), "{refused:?}");
}

#[test]
fn what_one_node_has_corrupted_is_read_from_the_other_and_repaired() {
    let dir = tempfile::tempdir().expect("a directory can be made");
    let file = dir.path().join("disk");
    let disk = std::fs::File::create_new(&file).expect("a file can be made");
    disk.set_len(64 << 20).expect("it can be sparse");
    let Some(bad) = Node::qemu_nbd(&file, Listen::Unix(dir.path().join("bad"))) else { return };
    let good = node(dir.path(), "good");
    let uris = [bad.patient_uri(), good.patient_uri()];
    let words =
        ["--local-memory", "2mb", "--far-copies", "2", "--far-memory", &uris[0], "--far-memory", &uris[1]];
    let server = Server::start(&words, &dir.path().join("log"));
    let mut redis = Redis::connect(server.port).expect("the server listens");
    fill(&mut redis);
    // Every page of the file becomes something else; holes are not touched.
    let mut bytes = std::fs::read(&file).expect("it is there");
    let pages = bytes.chunks_exact_mut(4096).filter(|page| page.iter().any(|&byte| byte != 0));
    pages.for_each(|page| page[99] ^= 4);
    disk.write_all_at(&bytes, 0).expect("it can be written");
    for round in 0..2 {
        for n in 0..500 {
            let key = format!("key:{n}");
            let got = redis.ask(&[b"GET", key.as_bytes()]);
            assert!(got == Reply::Bulk(Some(value(&key, 2))), "{key}, round {round}: {got:?}");
        }
    }
    let info = redis.info("farmem");
    let count = |name: &str| info[name].parse::<u64>().expect("it is a number");
    assert!(count("pages_repaired") > 300, "{info:?}");
    assert_eq!(count("checksum_failures"), count("pages_repaired"), "each at the first try");
}

#[test]
fn what_keeps_a_server_from_its_node_is_one_line_at_the_start() {
    let dir = tempfile::tempdir().expect("a directory can be made");
    let node = node(dir.path(), "n");
    let Listen::Tcp(nobody) = Listen::free_port() else { unreachable!("it is a port") };
    let mut cases = vec![
        (format!("nbd://127.0.0.1:{nobody}/"), "cannot connect: Connection refused"),
        (format!("{}&size=1gb", node.uri()), "the export has only 134217728 bytes"),
        (node.uri().replace("///", "///nothere"), "the node has no such export"),
        (node.uri().replace("nbd+unix", "nbds+unix"), "needs ?tls-certificates=DIR"),
    ];
    let read_only = Node::nbdkit(&["-r", "memory", "64M"], Listen::free_port());
    cases.extend(read_only.as_ref().map(|node| (node.uri(), "the export is read-only")));
    for (uri, part) in cases {
        let (line, code) = Server::fail(&["--far-memory", &uri]);
        assert_eq!(code, Some(1), "{line}");
        assert!(line.contains(part) && line.contains(&uri) && line.lines().count() == 1, "{line}");
    }
}
