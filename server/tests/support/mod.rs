//! A real `remora-server` for a test, and the least of a client.
//!
//! Refuses to leave a process behind: dropping a server kills it.

#![allow(dead_code, reason = "each test program uses a part")]

use rustix::process::{Pid, Signal, kill_process};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// How long anything may take before a test fails.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// A server on a free port of this machine.
pub struct Server {
    child: Child,
    pub port: u16,
}

/// A connection with a buffered reading half.
pub struct Client {
    pub stream: TcpStream,
    pub reader: BufReader<TcpStream>,
}

/// The program, with these arguments.
pub fn program(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_remora-server"));
    command.args(arguments).stdin(Stdio::null());
    command
}

impl Server {
    /// Starts a server with these directives and waits until it answers.
    pub fn start(directives: &[&str]) -> Server {
        let port = free_port();
        let mut command = program(&["--port", &port.to_string()]);
        let child = command.args(directives).stdout(Stdio::null()).spawn().expect("the program can be run");
        let mut server = Server { child, port };
        let start = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            if let Some(status) = server.child.try_wait().expect("it is our child") {
                panic!("the server ended at once: {status}");
            }
            assert!(start.elapsed() < PATIENCE, "the server does not listen");
            std::thread::sleep(Duration::from_millis(10));
        }
        server
    }

    /// Its process.
    pub fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// A new connection.
    pub fn connect(&self) -> Client {
        Client::new(TcpStream::connect(("127.0.0.1", self.port)).expect("the server listens"))
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).expect("the server runs");
    }

    /// Waits for its end.
    pub fn wait(&mut self) -> ExitStatus {
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().expect("it is our child") {
                return status;
            }
            assert!(start.elapsed() < PATIENCE, "the server does not end");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// CPU time that it has used.
    pub fn cpu_time(&self) -> Duration {
        let stat = self.proc("stat");
        let (_, fields) = stat.rsplit_once(") ").expect("the name is in brackets");
        let ticks: u64 =
            fields.split(' ').skip(11).take(2).map(|field| field.parse::<u64>().expect("a number")).sum();
        Duration::from_micros(ticks * 1_000_000 / rustix::param::clock_ticks_per_second())
    }

    /// Private resident memory. Units: bytes.
    pub fn anonymous_bytes(&self) -> u64 {
        let status = self.proc("status");
        let value =
            status.lines().find_map(|line| line.strip_prefix("RssAnon:")).expect("Linux tells RssAnon");
        value.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") * 1024
    }

    fn proc(&self, name: &str) -> String {
        let path = format!("/proc/{}/{name}", self.child.id());
        std::fs::read_to_string(path).expect("the server runs")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Client {
    fn new(stream: TcpStream) -> Client {
        stream.set_nodelay(true).expect("it is a TCP socket");
        stream.set_read_timeout(Some(PATIENCE)).expect("it is a timeout");
        let reader = BufReader::new(stream.try_clone().expect("descriptors are left"));
        Client { stream, reader }
    }

    /// Sends one command.
    pub fn send(&mut self, words: &[&[u8]]) {
        self.stream.write_all(&encode(words)).expect("the server listens");
    }

    /// Sends one command and returns its reply.
    pub fn command(&mut self, words: &[&[u8]]) -> Vec<u8> {
        self.send(words);
        self.reply()
    }

    /// The next reply, which is a line or a bulk string, without its framing.
    pub fn reply(&mut self) -> Vec<u8> {
        let mut line = Vec::new();
        self.reader.read_until(b'\n', &mut line).expect("the server answers");
        assert!(line.ends_with(b"\r\n"), "cut off: {:?}", String::from_utf8_lossy(&line));
        line.truncate(line.len() - 2);
        if line[0] != b'$' || line == b"$-1" {
            return line;
        }
        let len: usize = String::from_utf8_lossy(&line[1..]).parse().expect("a length");
        let mut data = vec![0; len + 2];
        self.reader.read_exact(&mut data).expect("the server answers");
        data.truncate(len);
        data
    }

    /// Whether the server has closed the connection after what was read.
    pub fn is_closed(&mut self) -> bool {
        matches!(self.reader.read(&mut [0]), Ok(0) | Err(_))
    }
}

/// A command as clients send it.
pub fn encode(words: &[&[u8]]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", words.len()).into_bytes();
    for word in words {
        bytes.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
        bytes.extend_from_slice(word);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes
}

/// A port that nobody has at this moment.
pub fn free_port() -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port is free");
    listener.local_addr().expect("it is bound").port()
}

/// `len` bytes that differ from key to key.
pub fn value(key: u32, len: usize) -> Vec<u8> {
    let mut state = u64::from(key) * 2 + 1;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    (0..len).map(|_| next()).collect()
}
