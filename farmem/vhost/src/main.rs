//! `remora-vhost`: far memory as a disk of a virtual machine, over vhost-user-blk.
//!
//! ```text
//!   guest's driver ◄─ queue in shared memory ─► remora-vhost ─► LinkSet ─► far memory
//!          └──────────── frames ◄──────── pages, straight ◄────────┘
//! ```
//!
//! One guest at a time; the disk outlives it, and the next one finds what the last one wrote. One thread does everything.
//! Refuses to start with anything it cannot do: one line on standard error, and exit code 1 (2 for a wrong option).
#![forbid(unsafe_code)]

mod disk;
mod request;
mod session;
mod waiter;
mod written;

use clap::Parser;
use disk::Disk;
use farmem::Instant;
use farmem_link::{FarUri, LinkSet, monotonic_now};
use session::{Session, Turn};
use signal_hook::consts::{SIGINT, SIGTERM};
use std::io;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::rc::Rc;
use std::sync::{Arc, Mutex, MutexGuard};
use vhost::vhost_user::{BackendReqHandler, Error};
use waiter::{Token, Waiter, Woken};

/// What is due within this is waited for by looking again: to sleep takes as long. Units: nanoseconds.
const SOON_NS: u64 = 50_000;
/// Links that may come and go are looked at this often. Units: nanoseconds.
const RESTLESS_NS: u64 = 50_000_000;
/// Turns without sleep between two looks at the sockets.
const TURNS_MAX: u32 = 64;

/// Serves far memory to a virtual machine as a disk, over vhost-user-blk.
///
/// QEMU: -object memory-backend-memfd,id=mem0,size=SIZE,share=on -machine memory-backend=mem0
/// -chardev socket,id=c0,path=PATH -device vhost-user-blk-pci,chardev=c0,num-queues=1.
/// The disk is empty at the start, and gone at the end.
#[derive(Parser, Debug)]
#[command(name = "remora-vhost", version)]
struct Args {
    /// The socket that QEMU connects to; whoever may open it reads and writes the disk
    #[arg(long, value_name = "PATH")]
    socket: PathBuf,
    /// Where the pages are, as for remora-server; may be given several times
    #[arg(long, value_name = "URI", required = true, num_args = 1..)]
    far_memory: Vec<String>,
    /// On how many of them each page lies
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=2))]
    far_copies: u8,
    /// Looks for requests without a rest while a guest is connected: takes a whole core, and less time a request
    #[arg(long)]
    busy_poll: bool,
}

fn main() -> ExitCode {
    let args = Args::parse();
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or("info")).init();
    match run(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("remora-vhost: {why}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<(), String> {
    let uris = args.far_memory.iter().map(|uri| uri.parse::<FarUri>());
    let uris = uris.collect::<Result<Vec<_>, _>>().map_err(|error| error.to_string())?;
    let signals = signals().map_err(|error| format!("signals: {error}"))?;
    let links = LinkSet::open(&uris, usize::from(args.far_copies)).map_err(|error| error.to_string())?;
    let failed = |error: io::Error| format!("cannot start: {error}");
    let disk = Disk::new(links).map_err(failed)?;
    let listener =
        listen(&args.socket).map_err(|error| format!("--socket {}: {error}", args.socket.display()))?;
    let waiter = Rc::new(Waiter::new().map_err(failed)?);
    waiter.add(&listener, Token::Listener).map_err(failed)?;
    waiter.add(&signals, Token::Signal).map_err(failed)?;
    log::info!("serves {} sectors of 512 bytes at {}", disk.sectors(), args.socket.display());
    let session = Session::new(disk, Rc::clone(&waiter), args.busy_poll).map_err(failed)?;
    Server { session: share(session), waiter, listener, guest: None, is_polling: args.busy_poll }.serve();
    log::info!("told to end");
    // It is as well if somebody has removed it already.
    let _ = std::fs::remove_file(&args.socket);
    Ok(())
}

/// Becomes readable when the process is told to end.
fn signals() -> io::Result<UnixStream> {
    let (reader, writer) = UnixStream::pair()?;
    signal_hook::low_level::pipe::register(SIGTERM, writer.try_clone()?)?;
    signal_hook::low_level::pipe::register(SIGINT, writer)?;
    Ok(reader)
}

/// Listens at a path, also where a process that is gone has left its socket; not where one listens.
fn listen(path: &Path) -> io::Result<UnixListener> {
    match UnixListener::bind(path) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            match UnixStream::connect(path) {
                Err(gone) if gone.kind() == io::ErrorKind::ConnectionRefused => std::fs::remove_file(path)?,
                _ => return Err(error),
            }
            UnixListener::bind(path)
        }
        bound => bound,
    }
}

#[expect(
    clippy::arc_with_non_send_sync,
    reason = "the protocol's crate asks for one; it stays on this thread"
)]
fn share(session: Session) -> Arc<Mutex<Session>> {
    Arc::new(Mutex::new(session))
}

/// The guest's monitor.
struct Guest {
    handler: BackendReqHandler<Mutex<Session>>,
    /// The same socket, for the epoll.
    socket: UnixStream,
}

struct Server {
    session: Arc<Mutex<Session>>,
    waiter: Rc<Waiter>,
    listener: UnixListener,
    guest: Option<Guest>,
    is_polling: bool,
}

impl Server {
    /// Serves until a signal comes.
    fn serve(&mut self) {
        let mut turns = 0;
        loop {
            let now = monotonic_now();
            let turn = self.session().turn(now);
            let due = match turn {
                Ok(Turn::Moved) => Some(now),
                Ok(Turn::Until(_)) if self.is_polling && self.session().is_running() => Some(now),
                Ok(Turn::Until(due)) => self.patience(now, due),
                Err(error) => {
                    log::warn!("the guest's queue is broken, so it is given up: {error}");
                    self.end_guest();
                    Some(now)
                }
            };
            turns += 1;
            if due == Some(now) && turns < TURNS_MAX {
                continue;
            }
            turns = 0;
            let woken = self.waiter.wait(now, due);
            if woken.signal {
                return self.end_guest();
            }
            self.hear(woken);
        }
    }

    fn session(&self) -> MutexGuard<'_, Session> {
        self.session.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Until when to sleep; `now` is not at all.
    fn patience(&self, now: Instant, due: Option<Instant>) -> Option<Instant> {
        let restless = self.session().is_restless().then_some(Instant(now.0 + RESTLESS_NS));
        let due = [due, restless].into_iter().flatten().min();
        due.map(|due| if due.0 <= now.0 + SOON_NS { now } else { due })
    }

    fn hear(&mut self, woken: Woken) {
        if woken.connection
            && let Some(guest) = &mut self.guest
        {
            match guest.handler.handle_request() {
                Ok(()) => {}
                Err(Error::Disconnected | Error::PartialMessage | Error::SocketBroken(_)) => {
                    log::info!("the guest is gone");
                    self.end_guest();
                }
                Err(Error::InvalidOperation(why)) => {
                    log::debug!("the guest asks for what is not here: {why}")
                }
                Err(error) => {
                    log::warn!("the guest is given up: {error}");
                    self.end_guest();
                }
            }
        }
        // Whoever comes while one is there waits in the socket's backlog.
        if woken.listener
            && self.guest.is_none()
            && let Err(error) = self.accept()
        {
            log::warn!("cannot accept a guest: {error}");
        }
    }

    fn accept(&mut self) -> io::Result<()> {
        let (stream, _) = self.listener.accept()?;
        let socket = stream.try_clone()?;
        self.waiter.add(&socket, Token::Connection)?;
        self.waiter.remove(&self.listener);
        log::info!("a guest has come");
        let handler = BackendReqHandler::from_stream(stream, Arc::clone(&self.session));
        self.guest = Some(Guest { handler, socket });
        Ok(())
    }

    fn end_guest(&mut self) {
        self.session().end();
        if let Some(guest) = self.guest.take() {
            self.waiter.remove(&guest.socket);
            if let Err(error) = self.waiter.add(&self.listener, Token::Listener) {
                log::warn!("no further guest will be heard: {error}");
            }
        }
    }
}
