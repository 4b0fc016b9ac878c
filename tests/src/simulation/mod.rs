//! Deterministic simulation of the whole engine: a virtual clock, a far memory with a nemesis, clients with
//! bad habits; checkers after every step. One seed decides everything.
//!
//! ```text
//!  step: clock ─► tick ─► clients send, read, pause, vanish ─► pages move ─► administrator ─► checks
//!  end:  the nemesis rests ─► everybody is answered ─► everything is read back ─► FLUSHALL ─► nothing is left
//! ```
//!
//! Refuses threads, sockets and the real clock. See `world` for the body, `client` for who uses it, `model`
//! and `shared` for what is right.

pub mod client;
pub mod link;
pub mod model;
pub mod rng;
pub mod scenario;
pub mod shared;
pub mod traffic;
pub mod world;

use client::{Check, Client, Fate, Heard};
use farmem::Link;
use rng::Rng;
use scenario::Scenario;
use shared::Shared;
use traffic::Traffic;
use world::World;

/// Steps that a client may be without a byte although the link moves. A streamed reply of 3 MiB takes 24
/// windows, each behind 50 others with 20 ms of latency at 1 ms a step: 24 * 50 * 20.
const IDLE_STEPS_MAX: u32 = 24_000;
/// Steps from rest to the last reply.
const REST_STEPS_MAX: u32 = 400_000;
/// Steps between looks at what only INFO tells.
const LOOK_EVERY: u64 = 50;

/// What a simulation came to: the same each time that it is run.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Outcome {
    /// What clients were answered.
    pub heard: Heard,
    /// Pages fetched.
    pub fetched: u64,
    /// Pages written back.
    pub written_back: u64,
    /// Touches of pages that no plan had named.
    pub unplanned_faults: u64,
}

/// One simulation under way.
pub struct Simulation {
    scenario: Scenario,
    rng: Rng,
    world: World,
    clients: Vec<Client>,
    shared: Shared,
    heard: Heard,
    asked: u64,
    steps: u64,
    names: usize,
}

impl Simulation {
    /// A simulation that has not begun.
    pub fn new(scenario: Scenario) -> Simulation {
        let world = World::new(&scenario);
        let mut simulation = Simulation {
            rng: Rng::new(scenario.seed ^ 0xc11e),
            world,
            clients: Vec::new(),
            shared: Shared::default(),
            heard: Heard::default(),
            asked: 0,
            steps: 0,
            names: 0,
            scenario,
        };
        for index in 0..simulation.scenario.clients {
            let client = simulation.connect(index == 0);
            simulation.clients.push(client);
        }
        simulation
    }

    /// Runs it to its end.
    ///
    /// # Panics
    /// If anything is not as it must be.
    pub fn run(mut self) -> Outcome {
        while self.asked < self.scenario.commands {
            self.step(true);
        }
        self.come_to_rest();
        self.read_everything_back();
        self.leave_nothing()
    }

    /// A new client. The one that owns a database uses no other.
    fn connect(&mut self, owns_database: bool) -> Client {
        let number = self.names;
        self.names += 1;
        let traffic = Traffic::new(format!("c{number}"), self.scenario.value_max, owns_database);
        let mut client = Client::new(self.world.connect(), number, traffic);
        if owns_database {
            client.ask(vec![b"SELECT".to_vec(), b"15".to_vec()], Check::Nothing, self.world.now);
            client.ask(vec![b"FLUSHDB".to_vec()], Check::Nothing, self.world.now);
        }
        client
    }

    fn step(&mut self, is_busy: bool) {
        self.steps += 1;
        self.world.advance(&mut self.rng);
        let first = self.rng.below(self.clients.len());
        for index in 0..self.clients.len() {
            self.step_client((first + index) % self.clients.len(), is_busy);
        }
        self.world.turn();
        if self.scenario.is_cold && self.clients.iter().all(|client| client.owed() == 0) {
            let answered = &self.clients[0].last_answered;
            assert_eq!(self.world.stats()["unplanned_faults"], 0, "not planned by {answered}");
            self.world.chill();
        }
        if is_busy {
            self.world.disturb(&self.scenario, &mut self.rng);
        }
        if self.steps.is_multiple_of(LOOK_EVERY) {
            self.world.check(&self.scenario);
        }
    }

    fn step_client(&mut self, index: usize, is_busy: bool) {
        let (scenario, rng, now) = (&self.scenario, &mut self.rng, self.world.now);
        if is_busy && scenario.vanishing && rng.one_in(800) {
            return self.replace(index);
        }
        let client = &mut self.clients[index];
        if is_busy && client.owed() < scenario.pipeline_max && rng.one_in(2) {
            for _ in 0..rng.between(1, (scenario.pipeline_max - client.owed()) as u64) {
                self.asked += 1;
                if !client.traffic.owns_database && !scenario.keys_vanish() && rng.one_in(8) {
                    let (asked, words) = self.shared.ask(client.number, rng);
                    client.ask(words, Check::Shared(asked), now);
                } else {
                    let words = client.traffic.next(rng, now.unix_ms);
                    client.ask(words, Check::Own, now);
                }
            }
        }
        if is_busy && scenario.slow_readers && rng.one_in(300) {
            client.paused = rng.between(1, 600) as u32;
        }
        client.paused = if is_busy { client.paused.saturating_sub(1) } else { 0 };
        let engine = &mut self.world.engine;
        let mut has_moved = client.send(engine, rng, now);
        if client.paused == 0 {
            has_moved |= client.read(engine, rng, now);
        }
        let is_stuck = self.world.link.nemesis().stuck_until > now.monotonic;
        let may_idle = has_moved || client.paused > 0 || client.owed() == 0 || is_stuck;
        client.idle_steps = if may_idle { 0 } else { client.idle_steps + 1 };
        if client.idle_steps >= IDLE_STEPS_MAX {
            let (waits_for, in_flight) = (client.waits_for(), self.world.link.in_flight());
            let wants = self.world.engine.wants_input(client.id);
            let (stats, info) = (self.world.stats(), self.world.info());
            panic!("nothing comes of {waits_for}; {in_flight} in flight; reads: {wants}; {stats:?} {info:?}");
        }
        client.check(scenario, &mut self.shared, now, &mut self.heard);
        if client.fate(&self.world.engine) == Fate::Closed {
            assert!(scenario.allows_closing(), "closed on {}", client.waits_for());
            self.replace(index);
        }
    }

    /// A client is gone; another one comes, and mostly deletes what was left behind.
    fn replace(&mut self, index: usize) {
        self.world.engine.handle_disconnected(self.clients[index].id);
        let owns_database = self.clients[index].traffic.owns_database;
        let next = self.connect(owns_database);
        let gone = std::mem::replace(&mut self.clients[index], next);
        gone.forget(&mut self.shared);
        if !owns_database && !self.rng.one_in(4) {
            let words = std::iter::once(b"DEL".to_vec()).chain(gone.traffic.keys()).collect();
            self.clients[index].ask(words, Check::Nothing, self.world.now);
        }
    }

    fn come_to_rest(&mut self) {
        self.world.link.nemesis().rest();
        self.settle();
    }

    /// Goes on until everybody is answered.
    fn settle(&mut self) {
        for _ in 0..REST_STEPS_MAX {
            if self.clients.iter().all(|client| client.owed() == 0) {
                return;
            }
            self.step(false);
        }
        let owed: Vec<String> = self.clients.iter().map(Client::waits_for).collect();
        panic!("no reply after {REST_STEPS_MAX} steps to {owed:?}");
    }

    fn read_everything_back(&mut self) {
        let now = self.world.now;
        for client in &mut self.clients {
            for key in client.traffic.keys() {
                client.ask(vec![b"TYPE".to_vec(), key.clone()], Check::Own, now);
                client.ask(vec![b"GET".to_vec(), key.clone()], Check::Own, now);
                let range = [b"LRANGE".to_vec(), key, b"0".to_vec(), b"-1".to_vec()];
                client.ask(range.to_vec(), Check::Own, now);
            }
        }
        self.settle();
        if !self.scenario.keys_vanish() {
            let list = self.world.try_ask(&shared::words_of_range());
            let count = self.world.try_ask(&[b"GET".to_vec(), shared::KEYS[0].as_bytes().to_vec()]);
            match (list, count) {
                (Some(list), Some(count)) if list[0] != b'-' && count[0] != b'-' => {
                    self.shared.check_end(&list, &count);
                }
                // A page that they need is corrupt: then there is nothing to compare.
                _ => assert!(self.scenario.corrupts > 0, "shared keys cannot be read at rest"),
            }
        }
    }

    fn leave_nothing(mut self) -> Outcome {
        let stats = self.world.stats();
        for client in &self.clients {
            self.world.engine.handle_disconnected(client.id);
        }
        assert_eq!(self.world.ask(&[b"FLUSHALL".to_vec()]), b"+OK\r\n");
        self.world.check_empty();
        if self.scenario.corrupts == 0 {
            assert_eq!(stats["checksum_failures"], 0, "pages that were not corrupted");
        }
        Outcome {
            heard: self.heard,
            fetched: stats["pages_fetched"],
            written_back: stats["pages_written_back"],
            unplanned_faults: stats["unplanned_faults"],
        }
    }
}
