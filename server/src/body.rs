//! The Linux body: what its tasks share, and its life from start to stop.
//!
//! ```text
//!   listen ──► connection, connection, ... ──► engine ◄── driver ◄──► links
//!                                                ▲          ▲
//!                                               tick       timer, event descriptors
//! ```
//!
//! Refuses to know a command. Everything runs on one thread; nothing borrows the engine across an await.

use crate::admin::{self, Admin};
use crate::clock::Clock;
use crate::connection::{Connection, Serve};
use crate::driver::{self, Timer};
use crate::listen::{self, Listener};
use crate::process;
use crate::watch::{Watched, watch};
use engine::{ClientId, Config, Engine, LinkReport, Peer};
use farmem::{Frame, Link, PAGE_SIZE, Pager, SoftPager};
use farmem_link::{Arena, Discarder, FarUri, LinkSet, SharedLink, UriError};
use farmem_uffd::Way;
use hashbrown::HashMap;
use log::{info, warn};
use rustix::net::{SendFlags, send};
use std::cell::{Cell, OnceCell, RefCell};
use std::fmt;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::task::Waker;
use std::time::Duration;
use tokio::io::Interest;
use tokio::runtime::{Builder, LocalOptions};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Notify;

/// Bytes of one read. A pipeline of 64 small commands is 6 KiB; large values arrive in fewer system calls.
const INPUT_MAX: usize = 64 * 1024;

/// Tasks run between two looks at the sockets: a turn. All that were ready at the last look come first
/// (the runtime asks for at most 1024), then the driver.
const TURN_TASKS_MAX: u32 = 1024;

/// Time between two ticks of the engine. Units: milliseconds.
const TICK_MS: u64 = 100;

/// Ticks between two measurements of the process.
const MEASURE_TICKS: u32 = 10;

/// Near memory that was freed since its peak, above which free pages are given back. Units: bytes. Half of
/// what the process takes by itself.
const TRIM_MIN: u64 = 2 << 20;

/// What the tasks of a body share.
pub struct Body {
    pub engine: RefCell<Engine>,
    pub connections: RefCell<HashMap<ClientId, Rc<Connection>>>,
    /// The one buffer that input is read into.
    pub input: RefCell<Box<[u8; INPUT_MAX]>>,
    pub clock: Clock,
    /// Notified at every tick.
    pub ticked: Notify,
    driver: OnceCell<Waker>,
    driver_is_woken: Cell<bool>,
    stopped: Notify,
    why_stopped: Cell<&'static str>,
}

/// The world or the user is wrong: the server cannot start. One line.
#[derive(Debug)]
pub struct StartError(pub String);

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl StartError {
    fn new(what: &str, error: impl fmt::Display) -> StartError {
        StartError(format!("{what}: {error}"))
    }
}

impl Body {
    fn new(engine: Engine, clock: Clock) -> Body {
        Body {
            engine: RefCell::new(engine),
            connections: RefCell::default(),
            input: RefCell::new(Box::new([0; INPUT_MAX])),
            clock,
            ticked: Notify::new(),
            driver: OnceCell::new(),
            driver_is_woken: Cell::new(false),
            stopped: Notify::new(),
            why_stopped: Cell::new(""),
        }
    }

    /// Lets the driver run at the end of this turn, behind all connections that are ready.
    #[inline]
    pub fn wake_driver(&self) {
        if !self.driver_is_woken.replace(true)
            && let Some(driver) = self.driver.get()
        {
            driver.wake_by_ref();
        }
    }

    /// Makes `driver` what [`Body::wake_driver`] wakes.
    pub fn set_driver(&self, driver: &Waker) {
        self.driver.get_or_init(|| driver.clone());
    }

    /// Whether somebody has woken the driver since its last turn began.
    pub fn driver_is_woken(&self) -> bool {
        self.driver_is_woken.get()
    }

    /// The driver's turn begins: whoever has something for it from now on wakes it anew.
    pub fn begin_turn(&self) {
        self.driver_is_woken.set(false);
    }

    /// Ends the server.
    pub fn stop(&self, why: &'static str) {
        self.why_stopped.set(why);
        self.stopped.notify_one();
    }

    /// Everything stands still: `DEBUG SLEEP`.
    pub fn sleep(&self, sleep_ns: u64) {
        std::thread::sleep(Duration::from_nanos(sleep_ns));
        self.clock.end_turn();
    }

    /// Serves a socket that was accepted, or tells it why not.
    pub fn welcome(self: &Rc<Body>, socket: OwnedFd, peer: Peer) {
        let id = match self.engine.borrow_mut().handle_connected(peer, self.clock.now()) {
            Ok(id) => id,
            Err(words) => {
                // A fresh socket has room for a line; if it is gone already, nobody is there to be told.
                let _ = send(&socket, words.as_bytes(), SendFlags::NOSIGNAL | SendFlags::DONTWAIT);
                return;
            }
        };
        match watch(socket, Interest::READABLE | Interest::WRITABLE) {
            Ok(socket) => {
                let connection = Rc::new(Connection::new(id, socket));
                self.connections.borrow_mut().insert(id, Rc::clone(&connection));
                tokio::task::spawn_local(Serve::new(Rc::clone(self), connection));
            }
            Err(error) => {
                warn!("cannot watch a connection: {error}");
                self.engine.borrow_mut().handle_disconnected(id);
            }
        }
    }
}

/// Runs a server until it is told to stop.
///
/// # Errors
/// What keeps it from starting.
pub fn run(mut config: Config) -> Result<(), StartError> {
    let clock = Clock::new();
    if config.far_memory.is_empty() {
        config.far_memory.push(format!("mem:{}", config.local_memory.saturating_mul(4)));
    }
    let room = process::raise_descriptor_limit(config.maxclients);
    if room < config.maxclients {
        warn!("maxclients lowered to {room}: the system allows this process no more open files");
        config.maxclients = room;
    }
    let uris = far_uris(&mut config)?;
    for uri in &uris {
        admin::goes_with(&config.pager, uri).map_err(StartError)?;
    }
    let (copies, pager) = (config.far_copies, config.pager.clone());
    let mut runtime = Builder::new_current_thread();
    let runtime = runtime.enable_io().event_interval(TURN_TASKS_MAX).build_local(LocalOptions::default());
    let runtime = runtime.map_err(|error| StartError::new("cannot start", error))?;
    runtime.block_on(async {
        let listeners = listen::open_all(&config)?;
        let links = LinkSet::open(&uris, copies).map_err(|error| StartError(error.to_string()))?;
        let link = SharedLink::new(links);
        let (engine, discarder) = new_engine(config, &link, &clock)?;
        let body = Rc::new(Body::new(engine, clock));
        body.engine.borrow_mut().set_far_admin(Box::new(Admin::new(link.clone(), pager, &body)));
        announce(&body.engine.borrow());
        serve(&body, listeners, link, discarder).await
    })
}

/// Parses the far-memory URIs and leaves their canonical forms in the configuration.
fn far_uris(config: &mut Config) -> Result<Vec<FarUri>, StartError> {
    let parse = |typed: &mut String| {
        let uri: FarUri = typed.parse().map_err(|error: UriError| StartError(error.to_string()))?;
        *typed = uri.to_string();
        Ok(uri)
    };
    config.far_memory.iter_mut().map(parse).collect()
}

/// The store, and what gives its frames back to the system.
fn new_engine(config: Config, link: &SharedLink, clock: &Clock) -> Result<(Engine, Discarder), StartError> {
    // Reserved for `CONFIG SET local-memory` too; what is not touched costs nothing.
    let room =
        config.local_memory.max(process::machine_memory_bytes()).min(((1 << 30) - 1) * PAGE_SIZE as u64);
    let arena = Arena::reserve(room as usize)
        .map_err(|error| StartError::new("cannot reserve local memory", error))?;
    let far_pages = link.capacity_pages();
    let budget_frames = (config.local_memory / PAGE_SIZE as u64) as u32;
    let discarder = arena.discarder();
    if config.pager == "soft" {
        arena.use_huge_pages();
    }
    let pager = new_pager(&config, arena.frames(), budget_frames, far_pages, Box::new(link.door()))?;
    let seed = process::random_seed().map_err(|error| StartError::new("cannot draw a seed", error))?;
    let mut engine = Engine::new(config, pager, far_pages, seed, clock.now());
    engine.set_process_facts(process::facts());
    Ok((engine, discarder))
}

/// The pager that the configuration names.
fn new_pager(
    config: &Config,
    frames: &'static mut [Frame],
    budget_frames: u32,
    far_pages: u32,
    door: Box<dyn Link>,
) -> Result<Box<dyn Pager>, StartError> {
    let policy = config.prefetch;
    if config.pager != "uffd" {
        return Ok(Box::new(SoftPager::new(frames, budget_frames, far_pages, policy, Some(door))));
    }
    let pager = farmem_uffd::pager(frames, budget_frames, far_pages, policy, Some(door), Way::Best);
    pager.map(|pager| Box::new(pager) as Box<dyn Pager>).map_err(|error| StartError(error.to_string()))
}

fn announce(engine: &Engine) {
    let config = engine.config();
    info!(
        "remora-server {} ready: port {}, local memory {} bytes, far memory {}, pager {}, prefetch {}, pid {}",
        env!("CARGO_PKG_VERSION"),
        config.port,
        config.local_memory,
        config.far_memory.join(" "),
        config.pager,
        config.prefetch_name(),
        std::process::id(),
    );
}

async fn serve(
    body: &Rc<Body>,
    listeners: Vec<Listener>,
    link: SharedLink,
    discarder: Discarder,
) -> Result<(), StartError> {
    let failed = |error| StartError::new("cannot start", error);
    let timer = Timer::new().map_err(failed)?;
    for event in link.set().event_fds() {
        let event =
            event.try_clone_to_owned().and_then(|event| watch(event, Interest::READABLE)).map_err(failed)?;
        tokio::task::spawn_local(driver::wake_by(event, Rc::clone(body)));
    }
    tokio::task::spawn_local(driver::wake_by(timer.watch().map_err(failed)?, Rc::clone(body)));
    tokio::task::spawn_local(tick(process::ticker(TICK_MS).map_err(failed)?, Rc::clone(body), link.clone()));
    tokio::task::spawn_local(driver::drive(Rc::clone(body), link, discarder, timer));
    let signals =
        [(SignalKind::terminate(), "Received SIGTERM"), (SignalKind::interrupt(), "Received SIGINT")];
    for (kind, why) in signals {
        let mut signals = signal(kind).map_err(failed)?;
        let body = Rc::clone(body);
        tokio::task::spawn_local(async move {
            while signals.recv().await.is_some() {
                body.stop(why);
            }
        });
    }
    // A closed terminal ends no server: taking the signal is all that it needs.
    let _hangups = signal(SignalKind::hangup()).map_err(failed)?;
    let sockets: Vec<_> = listeners.iter().filter_map(Listener::path).collect();
    for listener in listeners {
        tokio::task::spawn_local(listen::accept_all(listener, Rc::clone(body)));
    }
    body.stopped.notified().await;
    info!("{}: shutting down, bye bye", body.why_stopped.get());
    for path in sockets {
        // It may be gone already; that is what is wanted.
        let _ = std::fs::remove_file(path);
    }
    Ok(())
}

/// The engine's work by the clock, and what the body measures of itself.
async fn tick(ticker: Watched, body: Rc<Body>, link: SharedLink) {
    let (mut ticks, mut near_peak_bytes) = (0, 0);
    while process::ticked(&ticker).await.is_ok() {
        body.clock.set_wall_time();
        let now = body.clock.read();
        let mut engine = body.engine.borrow_mut();
        near_peak_bytes = near_peak_bytes.max(engine.near_bytes());
        if ticks % MEASURE_TICKS == 0 {
            let usage = process::usage();
            engine.set_process_usage(usage.resident_bytes, usage.system_cpu_us, usage.user_cpu_us);
            let describe = |link: farmem_link::LinkState| LinkReport {
                uri: link.uri,
                state: link.state.to_owned(),
                in_flight: link.in_flight,
                errors: link.errors,
                stale_pages: link.stale_pages,
                lost_pages: link.lost_pages,
                more: link.rdma.map_or_else(String::new, |rdma| rdma.to_string()),
            };
            engine.set_link_reports(link.set().describe().into_iter().map(describe).collect());
            process::follow_log_level(&engine.config().loglevel);
            if engine.near_bytes() + TRIM_MIN <= near_peak_bytes {
                near_peak_bytes = engine.near_bytes();
                farmem_link::malloc::give_free_pages_back();
            }
        }
        ticks += 1;
        engine.handle_tick(now);
        drop(engine);
        body.ticked.notify_waiters();
        body.wake_driver();
    }
}
