//! Memory nodes for tests: our own and other people's NBD servers, each a process that ends with its value.
//!
//! ```text
//!   Node::memnode │ nbdkit │ qemu_nbd ──► listening on a Unix socket or a loopback port ──► kill, start again
//! ```
//!
//! A server that is not installed is a skip, said loudly, and a failure in CI. Refuses to know what is stored.

use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long a node may take until it listens.
const START_MAX: Duration = Duration::from_secs(20);

/// Where a node listens.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Listen {
    /// On this path.
    Unix(PathBuf),
    /// On this port of the loopback.
    Tcp(u16),
}

impl Listen {
    /// A port that was free a moment ago.
    pub fn free_port() -> Listen {
        let listener = TcpListener::bind("127.0.0.1:0").expect("the loopback has a free port");
        Listen::Tcp(listener.local_addr().expect("it is bound").port())
    }

    /// The far-memory URI of the default export there.
    pub fn uri(&self) -> String {
        match self {
            Listen::Unix(path) => format!("nbd+unix:///?socket={}", path.display()),
            Listen::Tcp(port) => format!("nbd://127.0.0.1:{port}/"),
        }
    }

    fn answers(&self) -> bool {
        match self {
            Listen::Unix(path) => UnixStream::connect(path).is_ok(),
            Listen::Tcp(port) => TcpStream::connect(("127.0.0.1", *port)).is_ok(),
        }
    }
}

/// A running node.
pub struct Node {
    child: Child,
    listen: Listen,
    words: Vec<String>,
}

impl Node {
    /// `remora-memnode` with this much memory.
    pub fn memnode(size: &str, listen: Listen) -> Node {
        Node::memnode_with(size, listen, &[])
    }

    /// `remora-memnode` with this much memory, and more options.
    pub fn memnode_with(size: &str, listen: Listen, options: &[&str]) -> Node {
        let binary = program("memnode", "remora-memnode");
        let place = match &listen {
            Listen::Unix(path) => ["--nbd-unix".into(), path.display().to_string()],
            Listen::Tcp(port) => ["--nbd".into(), format!("127.0.0.1:{port}")],
        };
        let options = options.iter().map(|word| word.to_string());
        let words = [binary, "--size".into(), size.into()].into_iter().chain(place).chain(options).collect();
        Node::start(words, listen)
    }

    /// `nbdkit` with a plugin and its parameters; `None` if it is not installed.
    pub fn nbdkit(plugin: &[&str], listen: Listen) -> Option<Node> {
        let binary = installed("nbdkit")?;
        let place = match &listen {
            Listen::Unix(path) => vec!["-U".into(), path.display().to_string()],
            Listen::Tcp(port) => {
                vec!["-i".into(), "127.0.0.1".into(), "-p".into(), port.to_string()]
            }
        };
        // What a filter does is the test's to tell: a line an error is too much.
        let mut words = vec![binary, "-f".into(), "--log=null".into()];
        words.extend(place);
        words.extend(plugin.iter().map(|word| word.to_string()));
        Some(Node::start(words, listen))
    }

    /// `qemu-nbd` on a raw file, for one client at a time as it is by default; `None` if it is not installed.
    pub fn qemu_nbd(file: &Path, listen: Listen) -> Option<Node> {
        let mut words = vec![installed("qemu-nbd")?];
        words.extend(["-t", "-f", "raw", "-x", ""].map(String::from));
        match &listen {
            Listen::Unix(path) => words.extend(["-k".into(), path.display().to_string()]),
            Listen::Tcp(port) => {
                words.extend(["-b".into(), "127.0.0.1".into(), "-p".into(), port.to_string()]);
            }
        }
        words.push(file.display().to_string());
        Some(Node::start(words, listen))
    }

    /// `remora-vhost` on far memory, with more options: a disk for QEMU at the socket.
    pub fn vhost(far: &str, socket: &Path, options: &[&str]) -> Node {
        let words = [
            &program("farmem-vhost", "remora-vhost"),
            "--socket",
            &socket.display().to_string(),
            "--far-memory",
            far,
        ];
        let words = words.iter().chain(options).map(|word| word.to_string()).collect();
        Node::start(words, Listen::Unix(socket.to_owned()))
    }

    /// Ends it as an administrator would, with SIGTERM; its exit code.
    pub fn end(mut self) -> Option<i32> {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").arg(pid).status().expect("kill is there").success());
        self.child.wait().expect("it is our child").code()
    }

    fn start(words: Vec<String>, listen: Listen) -> Node {
        let child = Command::new(&words[0])
            .args(&words[1..])
            .stdout(Stdio::null())
            .stdin(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| panic!("{words:?}: {error}"));
        let mut node = Node { child, listen, words };
        let since = Instant::now();
        while !node.listen.answers() {
            let status = node.child.try_wait().expect("it is our child");
            assert!(status.is_none(), "{:?} has ended: {status:?}", node.words);
            assert!(since.elapsed() < START_MAX, "{:?} does not listen", node.words);
            std::thread::sleep(Duration::from_millis(5));
        }
        node
    }

    /// Its far-memory URI.
    pub fn uri(&self) -> String {
        self.listen.uri()
    }

    /// Its far-memory URI for tests that are about what it does, not how fast: with a deadline that no machine misses.
    pub fn patient_uri(&self) -> String {
        let uri = self.listen.uri();
        format!("{uri}{}timeout=30s", if uri.contains('?') { '&' } else { '?' })
    }

    /// The process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Ends it as a power failure would: `kill -9`.
    pub fn kill(&mut self) {
        self.child.kill().expect("it is our child");
        self.child.wait().expect("it was killed");
        if let Listen::Unix(path) = &self.listen {
            // It may have removed it; that is what is wanted.
            let _ = std::fs::remove_file(path);
        }
    }

    /// Starts it again, empty, after [`Node::kill`].
    pub fn restart(&mut self) {
        let next = Node::start(self.words.clone(), self.listen.clone());
        *self = next;
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // It may be gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A program of this workspace, built once in the profile of these tests, or what the environment names
/// (`REMORA_MEMNODE` for `remora-memnode`).
pub fn program(package: &str, binary: &str) -> String {
    if let Ok(given) = std::env::var(binary.to_uppercase().replace('-', "_")) {
        return given;
    }
    let mut build = Command::new(env!("CARGO"));
    build.args(["build", "-q", "-p", package]).current_dir(env!("CARGO_MANIFEST_DIR"));
    if !cfg!(debug_assertions) {
        build.arg("--release");
    }
    assert!(build.status().expect("cargo has built this test").success(), "{package} does not build");
    let test = std::env::current_exe().expect("a running test has a path");
    let folder = test.ancestors().nth(2).expect("a test lies in <target>/<profile>/deps");
    folder.join(binary).to_string_lossy().into_owned()
}

/// Where a program is, if it is installed; says so loudly if not, and fails in CI.
pub fn installed(name: &str) -> Option<String> {
    let path = std::env::var_os("PATH")?;
    let found = std::env::split_paths(&path).map(|folder| folder.join(name)).find(|file| file.exists());
    if found.is_none() {
        assert!(std::env::var_os("CI").is_none(), "skipped: no {name} (`make setup` installs it)");
        eprintln!("SKIPPED: no {name} (`make setup` installs it)");
    }
    found.map(|file| file.to_string_lossy().into_owned())
}
