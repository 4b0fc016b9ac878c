//! The doors of a node: listens, and gives each client a thread.
//!
//! Refuses more than [`CONNECTIONS_MAX`] clients at once, and a client that has not agreed on an export within
//! [`HANDSHAKE_TIME_MAX`].

use crate::export::{Counter, Exports};
use crate::handshake::{Agreed, TlsOffer, greet, negotiate};
use crate::rdma::RdmaDoor;
use crate::session::Session;
use crate::wire::{Socket, Wire};
use rustix::net::{Shutdown, shutdown};
use rustls::ServerConfig;
use std::collections::HashMap;
use std::fmt;
use std::io::{self, Read};
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// Clients at once. Each has a thread and a buffer of 256 KiB: 64 MiB in all.
pub(crate) const CONNECTIONS_MAX: usize = 256;
/// From the first byte to the last option, TLS included.
const HANDSHAKE_TIME_MAX: Duration = Duration::from_secs(10);
/// How long a client's thread may take to notice that the node stops: as long as a step of its backlog takes.
const STOP_TIME_MAX: Duration = Duration::from_secs(5);
/// When the system has no file descriptor or thread left, the next client is looked at after that.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Where a node listens.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Endpoint {
    /// A TCP port.
    Tcp(SocketAddr),
    /// A Unix socket.
    Unix(PathBuf),
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Endpoint::Tcp(address) => write!(f, "nbd://{address}"),
            Endpoint::Unix(path) => write!(f, "nbd+unix:///?socket={}", path.display()),
        }
    }
}

/// A node and its clients.
pub struct Node {
    exports: Exports,
    tls: Option<Arc<ServerConfig>>,
    clients: Mutex<Clients>,
    gone: Condvar,
    pub(crate) counters: NodeCounters,
}

/// What has happened at the doors since the node started.
#[derive(Default)]
pub(crate) struct NodeCounters {
    pub accepted: Counter,
    /// Turned away because there were too many.
    pub turned_away: Counter,
    /// Ended by an error: of the connection, of TLS, or because the client made no sense.
    pub broken: Counter,
}

/// The sockets of all clients, so that they can be ended.
#[derive(Default)]
struct Clients {
    sockets: HashMap<u64, Arc<OwnedFd>>,
    next: u64,
    stopped: bool,
}

enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener),
    Rdma(TcpListener, Arc<RdmaDoor>),
}

/// What is spoken at a door.
#[derive(Clone)]
enum Speech {
    Nbd(TlsOffer),
    Rdma(Arc<RdmaDoor>),
}

impl Node {
    /// A node that nobody can reach yet. With TLS nothing else is spoken over TCP; a Unix socket has its file
    /// permissions, and may do without.
    pub fn new(exports: Exports, tls: Option<Arc<ServerConfig>>) -> Arc<Node> {
        let (clients, gone) = (Mutex::default(), Condvar::new());
        Arc::new(Node { exports, tls, clients, gone, counters: NodeCounters::default() })
    }

    /// What it lends.
    pub fn exports(&self) -> &Exports {
        &self.exports
    }

    /// Clients right now.
    pub fn connections(&self) -> usize {
        self.clients().sockets.len()
    }

    /// Opens a door; tells which it is, since port 0 means any.
    ///
    /// # Errors
    /// What the kernel answers; `AddrInUse` if somebody answers at a Unix socket already.
    pub fn listen(self: &Arc<Node>, at: &Endpoint) -> io::Result<Endpoint> {
        let (listener, at) = match at {
            Endpoint::Tcp(address) => {
                let listener = TcpListener::bind(address)?;
                let address = listener.local_addr()?;
                (Listener::Tcp(listener), Endpoint::Tcp(address))
            }
            Endpoint::Unix(path) => (Listener::Unix(bind_unix(path)?), at.clone()),
        };
        self.start_accepting(listener)?;
        Ok(at)
    }

    /// Opens a door for the handshakes of RDMA; tells where, since port 0 means any.
    ///
    /// # Errors
    /// What the kernel answers.
    pub fn listen_rdma(self: &Arc<Node>, at: SocketAddr, door: RdmaDoor) -> io::Result<SocketAddr> {
        let listener = TcpListener::bind(at)?;
        let at = listener.local_addr()?;
        self.start_accepting(Listener::Rdma(listener, Arc::new(door)))?;
        Ok(at)
    }

    fn start_accepting(self: &Arc<Node>, listener: Listener) -> io::Result<()> {
        let node = Arc::clone(self);
        thread::Builder::new().name("accept".to_owned()).spawn(move || node.accept_all(&listener)).map(drop)
    }

    /// Ends all connections, and returns when nobody uses the exports any more.
    pub fn stop(&self) {
        let mut clients = self.clients();
        clients.stopped = true;
        for socket in clients.sockets.values() {
            // A socket whose client has just gone needs no shutdown.
            let _ = shutdown(socket, Shutdown::Both);
        }
        let waited = self.gone.wait_timeout_while(clients, STOP_TIME_MAX, |left| !left.sockets.is_empty());
        let (left, _) = waited.unwrap_or_else(PoisonError::into_inner);
        if !left.sockets.is_empty() {
            log::warn!("{} clients do not let go", left.sockets.len());
        }
    }

    fn accept_all(self: &Arc<Node>, listener: &Listener) {
        loop {
            let accepted = match listener {
                Listener::Tcp(tcp) | Listener::Rdma(tcp, _) => {
                    tcp.accept().map(|(stream, from)| (stream.into(), from.to_string()))
                }
                Listener::Unix(unix) => unix.accept().map(|(stream, _)| (stream.into(), "unix".to_owned())),
            };
            let speech = match (listener, &self.tls) {
                (Listener::Rdma(_, door), _) => Speech::Rdma(Arc::clone(door)),
                (_, None) => Speech::Nbd(TlsOffer::Off),
                (Listener::Tcp(_), _) => Speech::Nbd(TlsOffer::Required),
                (Listener::Unix(_), _) => Speech::Nbd(TlsOffer::Offered),
            };
            match accepted.and_then(|(socket, from)| self.admit(socket, from, speech)) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                Err(error) => {
                    log::warn!("cannot take a client: {error}");
                    thread::sleep(ACCEPT_PAUSE);
                }
            }
        }
    }

    /// Gives a client its thread, or turns it away.
    fn admit(self: &Arc<Node>, socket: OwnedFd, from: String, speech: Speech) -> io::Result<()> {
        let socket = Arc::new(socket);
        let Some(id) = self.clients().enter(&socket) else {
            self.counters.turned_away.add(1);
            log::debug!("{from}: turned away");
            return Ok(());
        };
        self.counters.accepted.add(1);
        let node = Arc::clone(self);
        let spawned = thread::Builder::new().name(format!("client-{id}")).spawn(move || {
            log::debug!("{from}: came");
            let served = match &speech {
                Speech::Nbd(offer) => node.serve(socket, *offer),
                Speech::Rdma(door) => node.serve_rdma(socket, door, &from),
            };
            match served {
                Ok(()) => log::debug!("{from}: went"),
                Err(error) => {
                    node.counters.broken.add(1);
                    log::info!("{from}: ended: {error}");
                }
            }
            node.leave(id);
        });
        spawned.map(drop).inspect_err(|_| self.leave(id))
    }

    fn serve(&self, socket: Arc<OwnedFd>, offer: TlsOffer) -> io::Result<()> {
        let socket = Socket::new(socket, Some(Instant::now() + HANDSHAKE_TIME_MAX));
        socket.tune();
        let mut wire = Wire::Plain(socket);
        let flags = greet(&mut wire)?;
        let mut agreed = negotiate(&mut wire, &self.exports, flags, offer)?;
        if let (Agreed::Tls, Some(config)) = (&agreed, &self.tls) {
            wire = wire.start_tls(Arc::clone(config))?;
            agreed = negotiate(&mut wire, &self.exports, flags, TlsOffer::Running)?;
        }
        if let Agreed::Serve { export, structured } = agreed {
            wire.lift_deadline();
            Session::new(&mut wire, export, structured).run()?;
        }
        wire.close();
        Ok(())
    }

    /// Connects a link, and waits until it hangs up: its pages move past this process.
    fn serve_rdma(&self, socket: Arc<OwnedFd>, door: &RdmaDoor, from: &str) -> io::Result<()> {
        let mut socket = Socket::new(socket, Some(Instant::now() + HANDSHAKE_TIME_MAX));
        socket.tune();
        let _pairs = door.connect(&mut socket, &self.exports, from)?;
        socket.lift_deadline();
        match socket.read(&mut [0])? {
            0 => Ok(()),
            _ => Err(io::Error::new(io::ErrorKind::InvalidData, "the link talks out of turn")),
        }
    }

    fn leave(&self, id: u64) {
        self.clients().sockets.remove(&id);
        self.gone.notify_all();
    }

    fn clients(&self) -> MutexGuard<'_, Clients> {
        self.clients.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Clients {
    fn enter(&mut self, socket: &Arc<OwnedFd>) -> Option<u64> {
        if self.stopped || self.sockets.len() >= CONNECTIONS_MAX {
            return None;
        }
        self.next += 1;
        self.sockets.insert(self.next, Arc::clone(socket));
        Some(self.next)
    }
}

/// Binds a Unix socket; one that nobody answers at was left by a node that was killed, and is replaced.
fn bind_unix(path: &Path) -> io::Result<UnixListener> {
    match UnixListener::bind(path) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse && is_dead(path) => {
            std::fs::remove_file(path)?;
            UnixListener::bind(path)
        }
        other => other,
    }
}

fn is_dead(path: &Path) -> bool {
    UnixStream::connect(path).is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
}
