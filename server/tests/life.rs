//! The program from start to stop: command line, signals, exit codes.

mod support;

use rustix::process::Signal;
use std::process::Stdio;
use std::time::Duration;
use support::{Server, free_port, program};

/// What the program says on standard error, and its exit code.
fn refusal(arguments: &[&str]) -> (String, Option<i32>) {
    let output = program(arguments).stdout(Stdio::null()).output().expect("the program can be run");
    (String::from_utf8_lossy(&output.stderr).into_owned(), output.status.code())
}

#[test]
fn a_bad_directive_is_one_line_and_exit_code_1() {
    let (said, code) = refusal(&["--foo", "1"]);
    assert_eq!(said, "remora-server: bad directive 'foo 1': unknown directive\n");
    assert_eq!(code, Some(1));
}

#[test]
fn a_far_memory_that_cannot_be_had_is_one_line_that_names_it() {
    for uri in ["mem:8qb", "nfs:/x", "file:/nowhere/at/all?size=1gb"] {
        let port = free_port().to_string();
        let (said, code) = refusal(&["--port", &port, "--far-memory", uri]);
        assert!(said.starts_with("remora-server: far memory") && said.contains(uri), "{said}");
        assert_eq!((said.lines().count(), code), (1, Some(1)));
    }
}

#[test]
fn a_port_that_is_taken_is_one_line() {
    let server = Server::start(&[]);
    let (said, code) = refusal(&["--port", &server.port.to_string()]);
    let wanted = format!("remora-server: cannot listen on 127.0.0.1:{}: Address already in use", server.port);
    assert!(said.starts_with(&wanted) && said.lines().count() == 1, "{said}");
    assert_eq!(code, Some(1));
}

#[test]
fn help_and_version_are_told_and_nothing_is_started() {
    for (flag, part) in
        [("--help", "--far-memory URI"), ("-h", "--port 6379"), ("--version", "v="), ("-v", "v=")]
    {
        let output = program(&[flag]).output().expect("the program can be run");
        assert!(String::from_utf8_lossy(&output.stdout).contains(part), "{flag}");
        assert!(output.status.success() && output.stderr.is_empty());
    }
}

#[test]
fn a_signal_ends_the_server_cleanly_even_with_clients() {
    for signal in [Signal::TERM, Signal::INT] {
        let mut server = Server::start(&[]);
        let mut client = server.connect();
        assert_eq!(client.command(&[b"PING"]), b"+PONG");
        server.signal(signal);
        assert_eq!(server.wait().code(), Some(0));
        assert!(client.is_closed());
    }
}

#[test]
fn a_hangup_ends_nothing() {
    let server = Server::start(&[]);
    server.signal(Signal::HUP);
    std::thread::sleep(std::time::Duration::from_millis(50));
    assert_eq!(server.connect().command(&[b"PING"]), b"+PONG");
}

#[test]
fn shutdown_ends_the_server_cleanly() {
    let mut server = Server::start(&[]);
    let mut client = server.connect();
    client.send(&[b"SHUTDOWN", b"NOSAVE"]);
    assert_eq!(server.wait().code(), Some(0));
    assert!(client.is_closed());
}

#[test]
fn a_unix_socket_serves_and_goes_with_the_server() {
    use std::io::{Read, Write};
    let dir = tempfile::tempdir().expect("a directory can be made");
    let path = dir.path().join("remora.sock");
    let mut server = Server::start(&["--unixsocket", &path.to_string_lossy()]);
    let mut stream = std::os::unix::net::UnixStream::connect(&path).expect("it listens");
    stream.write_all(b"PING\r\n").expect("it listens");
    let mut reply = [0; 7];
    stream.read_exact(&mut reply).expect("it answers");
    assert_eq!(&reply, b"+PONG\r\n");
    server.signal(Signal::TERM);
    assert_eq!(server.wait().code(), Some(0));
    assert!(!path.exists());
}

#[test]
fn the_log_goes_to_its_file() {
    let dir = tempfile::tempdir().expect("a directory can be made");
    let path = dir.path().join("remora.log");
    let mut server = Server::start(&["--logfile", &path.to_string_lossy(), "--far-memory", "mem:32mb"]);
    server.signal(Signal::TERM);
    server.wait();
    let log = std::fs::read_to_string(&path).expect("it was written");
    assert!(log.contains(&format!("port {}", server.port)) && log.contains("mem:32mb"), "{log}");
    assert!(log.contains("Received SIGTERM"), "{log}");
}

#[test]
fn a_far_memory_that_is_about_to_be_let_go_is_waited_for() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("far");
    let file = std::fs::File::create(&path).expect("the folder is ours");
    file.set_len(64 << 20).expect("the disk has room for a hole");
    rustix::fs::flock(&file, rustix::fs::FlockOperation::LockExclusive).expect("nobody else has it");
    let holder = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(300));
        drop(file);
    });
    let uri = format!("dax:{}", path.display());
    let server = Server::start(&["--local-memory", "4mb", "--far-memory", &uri]);
    holder.join().expect("it only sleeps");
    assert_eq!(server.connect().command(&[b"PING"]), b"+PONG");
}
