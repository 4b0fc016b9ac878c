//! The body: the loop that drives the engine between the network and far memory. The twin of the Linux body.
//!
//! ```text
//!   packets in ─► accept ─► input, output ─► pages ─► clients that may go on ─► packets out ─► tick ─┐
//!      ▲                                                                                             │
//!      ├──────────────── while anything moved, or did so within SPIN_NS ─────────────────────────────┤
//!      └───────────────────────── halt until a device or a clock has something ◄─────────────────────┘
//! ```
//!
//! The application runs between packets in and packets out, so that an acknowledgement rides on its reply.
//! Refuses to know a command, and to wait while there is something to do.

mod clock;
mod connections;
pub mod driver;
pub mod options;

use crate::arch::memory::Ram;
use crate::arch::{heap, idle, power, time};
use crate::bench;
use crate::far::{self, SharedLink};
use crate::mm;
use crate::net::{CLIENTS_MAX, Network};
use crate::virtio::net::Card;
use crate::virtio::{self, DeviceType};
use alloc::borrow::ToOwned;
use alloc::boxed::Box;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use connections::Connections;
use driver::Driver;
use engine::{Config, Engine, LinkReport, Now, ProcessFacts};
use farmem::{Instant, Link, PAGE_SIZE};
use options::{Options, Purpose};

/// Time between two ticks of the engine. Units: nanoseconds.
const TICK_NS: u64 = 100_000_000;
/// Ticks between two measurements of the machine.
const MEASURE_TICKS: u32 = 10;
/// A halt and the interrupt that ends it cost about as much. Units: nanoseconds.
const SPIN_NS: u64 = 50_000;
/// What the heap needs beside the index: 288 sockets of 192 KiB, 12 MiB of the card's buffers, and some
/// slack. Units: bytes.
const HEAP_MIN: u64 = 80 << 20;

/// The running machine.
struct Body {
    engine: Engine,
    network: Network,
    connections: Connections,
    driver: Driver<SharedLink>,
    link: SharedLink,
    far_memory: String,
    /// Frames in use are resident from the start. Units: bytes.
    frames_bytes: u64,
    next_tick: Instant,
    ticks: u32,
    /// The last time that anything moved.
    moved_at: Instant,
    /// Time of turns in which something moved. Units: nanoseconds.
    busy_ns: u64,
    announced: bool,
}

/// Starts the store as the command line asks, or says in one line why not.
///
/// # Errors
/// What keeps it from starting.
pub fn start(mut ram: Ram, command_line: &[u8]) -> Result<core::convert::Infallible, String> {
    let line = String::from_utf8_lossy(command_line);
    let options = options::parse(&line)?;
    if !matches!(options.purpose, Purpose::Serve) {
        give_heap(&mut ram)?;
        match &options.purpose {
            Purpose::Bench(asked) => bench::run(asked, &options.config, &mut ram)?,
            _ => bench::faults::run(&mut ram)?,
        }
        power::off();
    }
    let mut devices = virtio::find_all(line.split(' '));
    let card = virtio::take(&mut devices, DeviceType::Network)
        .ok_or_else(|| "no network card: give the machine a virtio-net device".to_owned())?;
    let mut body = Body::new(options, ram, card, &mut devices)?;
    loop {
        body.turn();
    }
}

impl Body {
    fn new(
        options: Options,
        mut ram: Ram,
        card: virtio::Transport,
        devices: &mut Vec<virtio::Transport>,
    ) -> Result<Body, String> {
        let Options { mut config, address, .. } = options;
        if config.port == 0 {
            return Err("configured to listen nowhere: give a port".to_owned());
        }
        config.maxclients = config.maxclients.min(CLIENTS_MAX);
        if config.far_memory.is_empty() {
            config.far_memory.push(format!("mem:{}kb", config.local_memory.saturating_mul(4) >> 10));
        }
        let now = clock::read();
        let (engine, link) = new_engine(config, &mut ram, devices, now)?;
        let config = engine.config();
        let (port, keep_alive, local_bytes) = (config.port, config.tcp_keepalive, config.local_memory);
        let far_memory = config.far_memory.join(" ");
        let card = Card::new(card).map_err(|error| error.to_string())?;
        let network = Network::new(card, address, port, keep_alive, time::random_seed(), now.monotonic);
        Ok(Body {
            engine,
            network,
            connections: Connections::default(),
            driver: Driver::new(link.clone()),
            link,
            far_memory,
            frames_bytes: local_bytes,
            next_tick: now.monotonic,
            ticks: 0,
            moved_at: now.monotonic,
            busy_ns: 0,
            announced: false,
        })
    }

    /// One turn of the loop.
    fn turn(&mut self) {
        let now = clock::read();
        let Body { engine, network, connections, .. } = self;
        let mut moved = network.receive(now.monotonic);
        moved |= connections.accept(engine, network, now);
        moved |= connections.serve(engine, network, now);
        moved |= self.move_pages();
        let Body { engine, network, connections, .. } = self;
        let all_is_quiet = !moved && self.driver.in_flight() == 0;
        connections.close_drained(engine, network, now, all_is_quiet);
        moved |= network.send(now.monotonic);
        if let Some(sleep_ns) = engine.poll_sleep_ns() {
            sleep(now.monotonic, sleep_ns);
        }
        if engine.poll_shutdown() {
            println!("remora: SHUTDOWN was asked for: powering off");
            power::off();
        }
        if now.monotonic >= self.next_tick {
            self.tick(clock::read());
        }
        if moved {
            self.moved_at = time::now();
            self.busy_ns += self.moved_at.0 - now.monotonic.0;
        } else if now.monotonic.0 > self.moved_at.0 + SPIN_NS {
            self.rest(now.monotonic);
        }
    }

    /// Moves pages, and serves those who waited for them. Whether anything moved.
    fn move_pages(&mut self) -> bool {
        let Body { engine, network, connections, driver, .. } = self;
        driver.turn(engine, clock::read, |engine, id, now| connections.serve_one(id, engine, network, now))
    }

    /// Halts until a device has something, or somebody's time has come.
    fn rest(&mut self, now: Instant) {
        let due = [self.network.next_due(now), self.driver.next_due(), Some(self.next_tick)];
        let until = due.into_iter().flatten().min().unwrap_or(self.next_tick);
        if until.0 <= now.0 + SPIN_NS {
            return;
        }
        let card = self.network.card();
        card.listen(true);
        if !card.has_something() {
            idle::halt(now, until);
        }
        card.listen(false);
    }

    /// The engine's work by the clock, the network's, and what the machine measures of itself.
    fn tick(&mut self, now: Now) {
        self.next_tick = Instant(now.monotonic.0 + TICK_NS);
        if self.ticks.is_multiple_of(MEASURE_TICKS) {
            let used_bytes = heap::used_bytes() + self.frames_bytes;
            self.engine.set_process_usage(used_bytes, 0, self.busy_ns / 1000);
            let mut report = LinkReport::default();
            report.uri.clone_from(&self.far_memory);
            report.state.push_str("up");
            report.in_flight = self.link.in_flight();
            self.engine.set_link_reports([report].into());
        }
        self.ticks = self.ticks.wrapping_add(1);
        self.engine.handle_tick(now);
        self.connections.handle_tick();
        self.network.handle_tick(now.monotonic);
        if self.network.card().is_broken() {
            println!("remora: the network card broke its contract");
            power::fail(power::Failure::Bug);
        }
        self.announce();
    }

    /// Says once that the store can be reached.
    fn announce(&mut self) {
        if self.announced {
            return;
        }
        let Some(address) = self.network.address() else { return };
        let config = self.engine.config();
        println!(
            "remora-unikernel {} ready: {address} port {}, local memory {} bytes, far memory {}, prefetch {}, {} ms since start",
            env!("CARGO_PKG_VERSION"),
            config.port,
            config.local_memory,
            self.far_memory,
            config.prefetch_name(),
            time::now().0 / 1_000_000,
        );
        self.announced = true;
    }
}

/// Everything stands still: `DEBUG SLEEP`.
fn sleep(from: Instant, sleep_ns: u64) {
    let until = Instant(from.0 + sleep_ns);
    while time::now() < until {
        idle::halt(time::now(), until);
    }
}

fn give_heap(ram: &mut Ram) -> Result<(), String> {
    if ram.give_to_heap(HEAP_MIN) < HEAP_MIN {
        return Err(format!("too little RAM: the machine has {} MiB", ram.total_bytes() >> 20));
    }
    Ok(())
}

/// The store, over RAM of this machine.
fn new_engine(
    config: Config,
    ram: &mut Ram,
    devices: &mut Vec<virtio::Transport>,
    now: Now,
) -> Result<(Engine, SharedLink), String> {
    give_heap(ram)?;
    let frames = ram
        .take(config.local_memory)
        .map_err(|error| format!("too little RAM for --local-memory: {error}"))?;
    let [uri] = config.far_memory.as_slice() else {
        return Err("one --far-memory is all that fits here".to_owned());
    };
    let link = far::open(uri, ram, devices)?;
    ram.give_to_heap(u64::MAX);
    let far_pages = link.capacity_pages();
    let budget_frames = (config.local_memory / PAGE_SIZE as u64) as u32;
    if far_pages < budget_frames {
        // Every page has its place in far memory, also while it is here: frames beyond that would never be used.
        let [far, local] =
            [u64::from(far_pages) * PAGE_SIZE as u64, config.local_memory].map(|bytes| bytes >> 10);
        return Err(format!("too small a far memory: {uri} has {far} KiB, --local-memory is {local} KiB"));
    }
    let pager = mm::pager(frames, budget_frames, far_pages, config.prefetch, Some(Box::new(link.clone())));
    let mut engine = Engine::new(config, Box::new(pager), far_pages, time::random_seed(), now);
    engine.set_process_facts(ProcessFacts {
        process_id: 1,
        os: "Remora unikernel x86_64".to_owned(),
        executable: "remora-unikernel".to_owned(),
        config_file: String::new(),
        machine_memory_bytes: ram.total_bytes(),
    });
    Ok((engine, link))
}
