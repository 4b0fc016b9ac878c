//! The life of a node: what it refuses to start with, how it ends, what outlives it, and what it tells meanwhile.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use farmem_link::nbd::proto::*;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command as Process;
use support::{Client, Daemon, PATIENCE, go, pattern};

fn generation(node: &Daemon) -> Generation {
    let mut client: Client = node.stranger();
    client.greet();
    let infos = client.option(Opt::INFO, &go("", &[InfoKind::DESCRIPTION]));
    let words = infos.iter().find_map(|(_, data)| data.strip_prefix(&[0, 2][..])).unwrap();
    Generation::of_description(std::str::from_utf8(words).unwrap()).unwrap()
}

#[test]
fn a_node_ends_cleanly_when_it_is_told_to_whoever_is_connected() {
    let mut node = Daemon::start(&["--size", "1mb"]);
    let mut client = node.client("", false);
    let _silent = node.stranger();
    assert_eq!(client.write(0, b"x"), Errno::NONE);
    node.signal("TERM");
    assert!(node.wait().success());
    assert!(client.is_ended());
    assert!(!node.socket().exists(), "the Unix socket is gone");
}

#[test]
fn a_file_keeps_content_and_generation_over_an_exit_and_a_kill() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("far").display().to_string();
    let args = ["--size", "4mb", "--file", &file];
    let bytes = pattern(1 << 20, 1);
    let mut first = Daemon::start(&args);
    let drawn = generation(&first);
    let mut client = first.client("", false);
    assert_eq!(client.write(5000, &bytes), Errno::NONE);
    assert_eq!(client.ask(Command::FLUSH, 0, 0), Errno::NONE);
    first.signal("TERM");
    assert!(first.wait().success());

    let mut second = Daemon::start(&args);
    assert_eq!(generation(&second), drawn);
    let mut client = second.client("", false);
    assert!(client.bytes(5000, 1 << 20) == bytes);
    assert_eq!(client.write(0, b"acknowledged"), Errno::NONE);
    second.signal("KILL");
    second.wait();

    let third = Daemon::start(&args);
    assert_eq!(generation(&third), drawn, "what a killed process has written is with the kernel");
    assert_eq!(third.client("", false).bytes(0, 12), b"acknowledged");
}

#[test]
fn fua_and_flush_on_a_file_are_answered_among_other_requests() {
    let dir = tempfile::tempdir().unwrap();
    let node = Daemon::start(&["--size", "4mb", "--file", &dir.path().join("far").display().to_string()]);
    let mut client = node.client("", false);
    let mut batch = Vec::new();
    for n in 0..50 {
        let mut write = Request::new(Command::WRITE, n, n * 4096, 4096);
        write.flags = CommandFlags::FUA.bits().into();
        batch.extend_from_slice(zerocopy::IntoBytes::as_bytes(&write));
        batch.extend_from_slice(&pattern(4096, n as u32));
    }
    client.send(&batch);
    client.request(Command::FLUSH, 99, 0, 0);
    let mut cookies: Vec<_> =
        (0..51).map(|_| client.reply()).map(|(cookie, error)| (error, cookie)).collect();
    cookies.sort_unstable_by_key(|(_, cookie)| *cookie);
    assert!(cookies.iter().all(|(error, _)| *error == Errno::NONE));
    assert_eq!(cookies[50].1, 99);
    assert_eq!(client.bytes(49 * 4096, 4096), pattern(4096, 49));
}

#[test]
fn more_clients_than_there_may_be_are_turned_away_and_come_back_later() {
    let node = Daemon::start(&["--size", "1mb"]);
    let mut clients: Vec<_> = (0..256).map(|_| node.client("", false)).collect();
    assert!(node.stranger().is_ended());
    assert_eq!(clients[255].bytes(0, 1), [0]);
    clients.truncate(100);
    // The node notices that they are gone when it has looked.
    let begin = std::time::Instant::now();
    while node.stranger().stream.read(&mut [0; 1]).is_ok_and(|len| len == 0) {
        assert!(begin.elapsed() < PATIENCE);
    }
}

#[test]
fn statistics_come_by_signal_and_metrics_over_http() {
    let node = Daemon::start(&["--size", "1mb", "--export", "b=1mb", "--metrics", "127.0.0.1:0"]);
    let line = node.wait_for("metrics at http://");
    let address = line.split("http://").nth(1).unwrap().trim_end_matches("/metrics");
    let mut client = node.client("b", false);
    assert_eq!(client.write(0, &[1; 5000]), Errno::NONE);
    assert_eq!(client.bytes(0, 100).len(), 100);
    assert_eq!(client.ask(Command::TRIM, 2 << 20, 1), Errno::EINVAL);
    let get = |path: &str| {
        let mut http = TcpStream::connect(address).unwrap();
        write!(http, "GET {path} HTTP/1.1\r\nHost: node\r\n\r\n").unwrap();
        let mut text = String::new();
        http.read_to_string(&mut text).unwrap();
        text
    };
    let text = get("/metrics");
    for line in [
        "HTTP/1.1 200 OK",
        "remora_memnode_requests_total{export=\"b\",command=\"write\"} 1",
        "remora_memnode_bytes_total{export=\"b\",command=\"read\"} 100",
        "remora_memnode_stored_bytes{export=\"b\"} 8192",
        "remora_memnode_connections 1",
        "# EOF",
    ] {
        assert!(text.contains(line), "{line} in {text}");
    }
    assert!(get("/").starts_with("HTTP/1.1 404"));
    node.signal("USR1");
    node.wait_for("export 'b': 8192 of 1048576 bytes stored; 1 reads of 100 bytes");
}

#[test]
fn what_cannot_be_done_is_said_in_one_line() {
    let dir = tempfile::tempdir().unwrap();
    let nowhere = dir.path().join("no/such/folder").display().to_string();
    let socket = dir.path().join("nbd").display().to_string();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().to_string();
    let cases: [(&[&str], &str); 6] = [
        (&["--size", "1mb", "--file", &nowhere], "--file"),
        (&["--size", "1mb", "--nbd", &port], "cannot listen at nbd://"),
        (&["--size", "1mb", "--tls-cert", &nowhere, "--tls-key", &nowhere], "TLS: "),
        (&["--size", "1mb", "--export", "a=1mb", "--export", "a=2mb"], "'a' is there twice"),
        (&["--size", "100"], "smaller than a page"),
        (&["--nbd-unix", "x"], "--size"),
    ];
    for (args, words) in cases {
        let mut node = Process::new(env!("CARGO_BIN_EXE_remora-memnode"));
        let output =
            node.args(args).args(["--nbd-unix", &socket][..2 * usize::from(args[0] == "--size")].iter());
        let output = output.output().unwrap();
        assert!(!output.status.success());
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(errors.contains(words), "{words} in {errors}");
    }
}
