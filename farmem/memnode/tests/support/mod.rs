//! A node as a process of its own, and a plain client that says exactly what it is told to.
//!
//! Refuses to outlive the test: the node is killed with the value that stands for it.
#![allow(dead_code, reason = "each test file uses its part of it")]

use farmem_link::nbd::proto::*;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command as Process, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;
use zerocopy::{FromBytes, FromZeros, IntoBytes};

/// Longer than anything here takes on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(20);
pub const MIB: u64 = 1 << 20;

/// A running `remora-memnode`.
pub struct Daemon {
    child: Child,
    tcp: Option<String>,
    log: Receiver<String>,
    pub dir: tempfile::TempDir,
}

impl Daemon {
    /// Starts a node that listens on a Unix socket in a folder of its own, and with `args`.
    pub fn start(args: &[&str]) -> Daemon {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("nbd");
        let mut child = Process::new(env!("CARGO_BIN_EXE_remora-memnode"))
            .arg("--nbd-unix")
            .arg(&socket)
            .args(args)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let (to, log) = channel();
        std::thread::spawn(move || lines.map_while(Result::ok).try_for_each(|line| to.send(line)));
        let mut daemon = Daemon { child, tcp: None, log, dir };
        // TCP is named first, if it is asked for.
        let mut line = daemon.wait_for("serves nbd");
        if let Some((_, rest)) = line.split_once("serves nbd://") {
            daemon.tcp = rest.split(' ').next().map(str::to_owned);
            line = daemon.wait_for("serves nbd");
        }
        assert!(line.contains("serves nbd+unix:"), "{line}");
        daemon
    }

    pub fn socket(&self) -> PathBuf {
        self.dir.path().join("nbd")
    }

    /// Where it listens if it was started with `--nbd`.
    pub fn tcp_address(&self) -> String {
        self.tcp.clone().expect("the node was started with --nbd")
    }

    /// The URI of its Unix socket, for other programs.
    pub fn uri(&self, export: &str) -> String {
        format!("nbd+unix:///{export}?socket={}", self.socket().display())
    }

    /// Waits for a line of the log.
    pub fn wait_for(&self, words: &str) -> String {
        loop {
            let line =
                self.log.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("the log never says {words:?}"));
            if line.contains(words) {
                return line;
            }
        }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn signal(&self, name: &str) {
        let sent = Process::new("kill").arg(format!("-{name}")).arg(self.pid().to_string()).status();
        assert!(sent.unwrap().success());
    }

    pub fn wait(&mut self) -> ExitStatus {
        self.child.wait().unwrap()
    }

    /// A client that has agreed on an export.
    pub fn client(&self, export: &str, structured: bool) -> Client {
        let mut client = self.stranger();
        client.greet();
        if structured {
            assert_eq!(client.option(Opt::STRUCTURED_REPLY, &[]), vec![(OptReply::ACK, vec![])]);
        }
        let replies = client.option(Opt::GO, &go(export, &[]));
        assert_eq!(replies.last().unwrap().0, OptReply::ACK);
        client
    }

    /// A client that has said nothing yet.
    pub fn stranger(&self) -> Client {
        Client::over(UnixStream::connect(self.socket()).unwrap())
    }

    /// Resident memory of the process. Units: bytes.
    pub fn resident_bytes(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").trim().parse::<u64>().unwrap() * 1024
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The data of GO and INFO.
pub fn go(name: &str, wanted: &[InfoKind]) -> Vec<u8> {
    let mut data = Vec::new();
    ExportRequest { name, wanted }.encode(&mut data);
    data
}

/// A client, speaking over whatever it is given.
pub struct Client<S = UnixStream> {
    pub stream: S,
}

impl Client {
    fn over(stream: UnixStream) -> Client {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        Client { stream }
    }
}

impl<S: Read + Write> Client<S> {
    pub fn greet(&mut self) -> Greeting {
        let greeting: Greeting = self.read();
        assert_eq!((greeting.magic.get(), greeting.newstyle.get()), (NBD_MAGIC, OPTION_MAGIC));
        self.send(&3u32.to_be_bytes());
        greeting
    }

    /// Sends an option, and reads its replies to the last.
    pub fn option(&mut self, option: Opt, data: &[u8]) -> Vec<(OptReply, Vec<u8>)> {
        self.send(OptionHeader::new(option, data.len() as u32).as_bytes());
        self.send(data);
        let mut replies = Vec::new();
        loop {
            let header: OptionReply = self.read();
            assert_eq!((header.magic.get(), header.option), (OPTION_REPLY_MAGIC, option));
            replies.push((header.reply, self.read_bytes(header.len.get() as usize)));
            if header.reply == OptReply::ACK || header.reply.is_error() {
                return replies;
            }
        }
    }

    pub fn request(&mut self, command: Command, cookie: u64, offset: u64, len: u32) {
        self.send(Request::new(command, cookie, offset, len).as_bytes());
    }

    /// A simple reply: its cookie and its error.
    pub fn reply(&mut self) -> (u64, Errno) {
        let reply: SimpleReply = self.read();
        assert_eq!(reply.magic.get(), SIMPLE_REPLY_MAGIC);
        (reply.cookie.get(), reply.error)
    }

    /// A chunk of a structured reply: its cookie, its kind and its data.
    pub fn chunk(&mut self) -> (u64, ChunkKind, Vec<u8>) {
        let chunk: ChunkHeader = self.read();
        assert_eq!((chunk.magic.get(), chunk.flags.get()), (CHUNK_MAGIC, CHUNK_DONE));
        (chunk.cookie.get(), chunk.kind, self.read_bytes(chunk.len.get() as usize))
    }

    /// Asks for one thing and waits for its simple reply.
    pub fn ask(&mut self, command: Command, offset: u64, len: u32) -> Errno {
        self.request(command, 7, offset, len);
        let (cookie, error) = self.reply();
        assert_eq!(cookie, 7);
        error
    }

    pub fn write(&mut self, offset: u64, bytes: &[u8]) -> Errno {
        self.request(Command::WRITE, 8, offset, bytes.len() as u32);
        self.send(bytes);
        let (cookie, error) = self.reply();
        assert_eq!(cookie, 8);
        error
    }

    /// Reads bytes in a simple reply.
    pub fn bytes(&mut self, offset: u64, len: u32) -> Vec<u8> {
        assert_eq!(self.ask(Command::READ, offset, len), Errno::NONE);
        self.read_bytes(len as usize)
    }

    pub fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
        self.stream.flush().unwrap();
    }

    pub fn read_bytes(&mut self, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        self.stream.read_exact(&mut bytes).unwrap();
        bytes
    }

    fn read<T: FromBytes + FromZeros + IntoBytes>(&mut self) -> T {
        let mut value = T::new_zeroed();
        self.stream.read_exact(value.as_mut_bytes()).unwrap();
        value
    }

    /// Whether the node has ended the connection; reads away what it still said.
    pub fn is_ended(&mut self) -> bool {
        match self.stream.read_to_end(&mut Vec::new()) {
            Ok(_) => true,
            Err(error) => error.kind() == io::ErrorKind::ConnectionReset,
        }
    }
}

/// Whether a program is installed; says loudly if not, and fails where `CI` is set.
pub fn has(program: &str, package: &str) -> bool {
    let found = std::env::var_os("PATH")
        .is_some_and(|path| std::env::split_paths(&path).any(|dir| dir.join(program).exists()));
    if !found {
        assert!(std::env::var_os("CI").is_none(), "{program} is missing: `make setup` installs {package}");
        eprintln!("SKIPPED: {program} is missing, `make setup` installs {package}");
    }
    found
}

/// Runs a program to its end; what it printed.
pub fn run(program: &str, args: &[&str]) -> String {
    let output = Process::new(program).args(args).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {args:?}: {}\n{text}{errors}", output.status);
    text
}

/// Bytes that no two offsets share by accident.
pub fn pattern(len: usize, seed: u32) -> Vec<u8> {
    (0..len as u32).map(|n| (n.wrapping_mul(2_654_435_761).wrapping_add(seed) >> 13) as u8).collect()
}

pub fn file_of(dir: &Path, name: &str, bytes: &[u8]) -> String {
    let path = dir.join(name);
    std::fs::write(&path, bytes).unwrap();
    path.display().to_string()
}
