//! What may go wrong between a server and its memory nodes, apart from their death (`far_nodes`): networks
//! that are cut or fall silent, nodes that never answer, certificates that are wrong. Never a hang, never
//! wrong data, always a clear line.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tests::authority::Authority;
use tests::nodes::{Listen, Node};
use tests::proxy::Proxy;
use tests::redis::{Redis, Reply, Server};

const KEYS: u32 = 150;

/// 9 KB that only this key has: three pages.
fn value(key: u32) -> Vec<u8> {
    (0..1500_u32)
        .flat_map(|n| format!("{:06x}", (n * 7919 + key * 104_729) & 0xFF_FFFF).into_bytes())
        .collect()
}

fn set_all(redis: &mut Redis) {
    for key in 0..KEYS {
        let name = format!("key:{key}");
        assert_eq!(redis.ask(&[b"SET", name.as_bytes(), &value(key)]), Reply::Simple("OK".into()));
        let push = [b"RPUSH", b"list".as_slice(), name.as_bytes(), &value(key)];
        assert_eq!(redis.ask(&push), Reply::Integer(i64::from(2 * (key + 1))));
    }
}

/// Sends away what can be sent away, and reads everything back.
fn check_all(redis: &mut Redis) {
    for _ in 0..2 {
        redis.say("FARMEM EVICT ALL");
        std::thread::sleep(Duration::from_millis(200));
    }
    for key in 0..KEYS {
        let got = redis.say(&format!("GET key:{key}"));
        assert!(got == Reply::Bulk(Some(value(key))), "key:{key}: {got:?}");
        let got = redis.say(&format!("GETRANGE key:{key} 4090 4101"));
        assert_eq!(got, Reply::Bulk(Some(value(key)[4090..4102].to_vec())));
        let (first, last) = (2 * key, 2 * key + 1);
        let pair = [format!("key:{key}").into_bytes(), value(key)].map(|bytes| Reply::Bulk(Some(bytes)));
        assert!(redis.say(&format!("LRANGE list {first} {last}")) == Reply::Array(pair.into()), "{first}");
    }
}

fn server(dir: &Path, directives: &[&str]) -> (Server, Redis) {
    let server = Server::start(&[&["--local-memory", "2mb"], directives].concat(), &dir.join("log"));
    let redis = Redis::connect(server.port).expect("the server listens");
    (server, redis)
}

fn is_lost(reply: &Reply) -> bool {
    matches!(reply, Reply::Error(text) if text.starts_with("FARMEMORYLOST"))
}

/// Runs a server that cannot start: one line with these words and the URI, before long.
fn fails_with(uri: &str, words: &str) {
    let since = Instant::now();
    let (line, code) = Server::fail(&["--far-memory", uri]);
    assert_eq!(code, Some(1), "{line}");
    assert!(line.contains(words) && line.contains(uri) && line.lines().count() == 1, "{words}: {line}");
    assert!(since.elapsed() < Duration::from_secs(10), "{line} after {:?}", since.elapsed());
}

/// A node, and the network in front of it.
fn node_behind_a_network(size: &str) -> (Node, Proxy) {
    let listen = Listen::free_port();
    let Listen::Tcp(port) = listen else { unreachable!("it is a port") };
    (Node::memnode(size, listen), Proxy::before(port))
}

#[test]
fn a_connection_that_is_cut_is_made_anew_and_all_goes_on_as_if_nothing_had_been() {
    let dir = tempfile::tempdir().expect("a directory can be made");
    let (_node, network) = node_behind_a_network("64mb");
    let uri = format!("nbd://127.0.0.1:{}/", network.port());
    let (_server, mut redis) = server(dir.path(), &["--far-memory", &uri]);
    set_all(&mut redis);
    for _ in 0..3 {
        network.cut();
        check_all(&mut redis);
    }
    let Reply::Array(lost) = redis.say("FARMEM LOST") else { panic!("no FARMEM LOST") };
    assert_eq!((&lost[1], &lost[3]), (&Reply::Integer(0), &Reply::Integer(0)));
}

#[test]
fn a_half_open_connection_is_an_error_by_the_deadline_and_heals() {
    let dir = tempfile::tempdir().expect("a directory can be made");
    let (_node, network) = node_behind_a_network("64mb");
    let uri = format!("nbd://127.0.0.1:{}/?timeout=300ms", network.port());
    let (_server, mut redis) = server(dir.path(), &["--far-memory", &uri]);
    set_all(&mut redis);
    check_all(&mut redis);
    network.stall();
    let since = Instant::now();
    assert!(is_lost(&redis.say("GET key:1")));
    assert!(since.elapsed() < Duration::from_secs(1), "{:?}", since.elapsed());
    assert_eq!(redis.say("PING"), Reply::Simple("PONG".into()));
    let since = Instant::now();
    assert!(is_lost(&redis.say("GET key:2")), "the node that does not answer is not up");
    assert!(since.elapsed() < Duration::from_secs(1), "{:?}", since.elapsed());
    network.heal();
    while is_lost(&redis.say("GET key:1")) {
        assert!(since.elapsed() < Duration::from_secs(20), "it never comes back");
        std::thread::sleep(Duration::from_millis(50));
    }
    check_all(&mut redis);
}

#[test]
fn a_node_that_accepts_and_never_answers_keeps_nobody_waiting() {
    let silent = TcpListener::bind("127.0.0.1:0").expect("the loopback has a free port");
    let uri = format!("nbd://{}/?timeout=300ms", silent.local_addr().expect("it is bound"));
    fails_with(&uri, "no NBD node answers there: no answer in time");
    let dir = tempfile::tempdir().expect("a directory can be made");
    let node = Node::memnode("64mb", Listen::Unix(dir.path().join("node")));
    let (_server, mut redis) = server(dir.path(), &["--far-memory", &node.uri()]);
    set_all(&mut redis);
    let slow = uri.replace("300ms", "5s");
    let since = Instant::now();
    let refused = redis.say(&format!("FARMEM ADD {slow}"));
    assert!(
        matches!(&refused, Reply::Error(why) if why.contains("no answer") && why.contains(&slow)),
        "{refused:?}"
    );
    assert!(
        since.elapsed() < Duration::from_millis(900),
        "everybody waits for FARMEM ADD: {:?}",
        since.elapsed()
    );
    check_all(&mut redis);
}

#[test]
fn a_spare_node_takes_the_place_of_one_that_stays_away() {
    let dir = tempfile::tempdir().expect("a directory can be made");
    let node = |name: &str| Node::memnode("64mb", Listen::Unix(dir.path().join(name)));
    let (mut first, mut second, spare) = (node("first"), node("second"), node("spare"));
    let uris = [first.uri(), second.uri()];
    let words = ["--far-copies", "2", "--far-memory", &uris[0], "--far-memory", &uris[1]];
    let (_server, mut redis) = server(dir.path(), &words);
    set_all(&mut redis);
    check_all(&mut redis);
    first.kill();
    check_all(&mut redis);
    assert_eq!(redis.say(&format!("FARMEM ADD {}", spare.uri())), Reply::Simple("OK".into()));
    let since = Instant::now();
    // The node that is gone has no slab any more when it can be removed at once.
    assert_eq!(redis.say(&format!("FARMEM REMOVE {}", first.uri())), Reply::Simple("OK".into()));
    while redis.info("farmem").values().any(|link| link.contains("first")) {
        assert!(since.elapsed() < Duration::from_secs(30), "{:?}", redis.info("farmem"));
        std::thread::sleep(Duration::from_millis(100));
    }
    second.kill();
    check_all(&mut redis);
}

#[test]
fn other_peoples_nodes_give_back_what_they_were_given() {
    let dir = tempfile::tempdir().expect("a directory can be made");
    let file = dir.path().join("disk");
    let disk = std::fs::File::create_new(&file).expect("a file can be made");
    disk.set_len(64 << 20).expect("it can be sparse");
    let nodes = [
        Node::nbdkit(&["memory", "64M"], Listen::free_port()),
        Node::qemu_nbd(&file, Listen::Unix(dir.path().join("socket"))),
    ];
    for node in nodes.into_iter().flatten() {
        let (_server, mut redis) = server(dir.path(), &["--far-memory", &node.patient_uri()]);
        set_all(&mut redis);
        check_all(&mut redis);
        assert_eq!(redis.say("DEL list"), Reply::Integer(1));
        set_all(&mut redis);
        check_all(&mut redis);
    }
}

#[test]
fn over_tls_the_right_certificate_gets_in_and_no_other() {
    let dir = tempfile::tempdir().expect("a directory can be made");
    let (ours, stranger) = (Authority::new(), Authority::new());
    let at = |name: &str| dir.path().join(name);
    let node_files = ours.folder(at("node"), "server", Some(&ours));
    let file = |name: &str| node_files.join(name).display().to_string();
    let (cert, key, ca) = (file("server-cert.pem"), file("server-key.pem"), file("ca-cert.pem"));
    let listen = Listen::free_port();
    let Listen::Tcp(port) = listen else { unreachable!("it is a port") };
    let tls = ["--tls-cert", &cert, "--tls-key", &key, "--tls-ca", &ca];
    let _node = Node::memnode_with("64mb", listen, &tls);
    let uri = |folder: PathBuf| format!("nbds://localhost:{port}/?tls-certificates={}", folder.display());

    fails_with(&format!("nbd://localhost:{port}/"), "the node wants TLS");
    fails_with(&uri(ours.folder(at("none"), "client", None)), "ertificate");
    fails_with(&uri(stranger.folder(at("wrong_ca"), "client", Some(&ours))), "cannot speak TLS");
    fails_with(&uri(ours.folder(at("strange"), "client", Some(&stranger))), "cannot");
    let other_name =
        format!("{}&tls-hostname=elsewhere", uri(ours.folder(at("name"), "client", Some(&ours))));
    fails_with(&other_name, "cannot speak TLS");

    let right = uri(ours.folder(at("right"), "client", Some(&ours)));
    let (_server, mut redis) = server(dir.path(), &["--far-memory", &right]);
    set_all(&mut redis);
    check_all(&mut redis);
}

#[test]
fn a_pager_that_moves_pages_takes_no_rdma_at_the_start_nor_later() {
    let dir = tempfile::tempdir().expect("a directory can be made");
    let secret = dir.path().join("secret");
    std::fs::write(&secret, "a secret that is long enough").expect("it can be written");
    let rdma = format!("rdma://127.0.0.1:1/?secret-file={}", secret.display());
    let wanted = "--pager uffd does not go with rdma: pages are moved under a device that knows frames by their memory";
    let (line, code) = Server::fail(&["--pager", "uffd", "--far-memory", &rdma]);
    assert_eq!((line.trim_end(), code), (format!("remora-server: {wanted}").as_str(), Some(1)));
    let node = Node::memnode("64mb", Listen::Unix(dir.path().join("node")));
    let (_server, mut redis) = server(dir.path(), &["--pager", "uffd", "--far-memory", &node.patient_uri()]);
    assert_eq!(redis.say(&format!("FARMEM ADD {rdma}")), Reply::Error(format!("ERR {wanted}")));
    set_all(&mut redis);
    check_all(&mut redis);
}
