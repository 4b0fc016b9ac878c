//! The body of the simulation: an engine, its far memory, a virtual clock, and an administrator.
//!
//! Refuses to know what clients do.

use super::client::Scanner;
use super::link::NemesisLink;
use super::rng::Rng;
use super::scenario::Scenario;
use super::shared::elements;
use engine::{ClientId, Config, Engine, Now, Peer};
use farmem::{Frame, Instant, Landed, Link, PAGE_SIZE, SoftPager, Transfer};
use std::collections::HashMap;

/// Nanoseconds between ticks.
const TICK_NS: u64 = 100_000_000;
/// The least frames that an engine keeps, whatever the cap.
const FRAMES_MIN: u64 = 64;
/// What may come between two ticks on top of the cap: input and output of clients. Units: bytes.
const BETWEEN_TICKS_MAX: u64 = 32 << 20;
/// Turns in which an administrator must be answered.
const TURNS_MAX: usize = 100_000;

/// Engine, far memory and clock.
pub struct World {
    /// The engine.
    pub engine: Engine,
    /// Its far memory.
    pub link: NemesisLink,
    /// The clock.
    pub now: Now,
    next_tick: Instant,
    /// The cap has changed, and takes effect with this tick.
    resized_until: Instant,
    administrator: ClientId,
    batch: Vec<Transfer>,
    landed: Vec<Landed>,
}

impl World {
    /// The world of a scenario; the arena is its own for the rest of the process.
    pub fn new(scenario: &Scenario) -> World {
        let count = (scenario.local_memory / PAGE_SIZE as u64) as u32;
        let frames: Vec<Frame> = (0..count).map(|_| Frame([0; PAGE_SIZE])).collect();
        let link = NemesisLink::new(scenario.seed);
        {
            let mut nemesis = link.nemesis();
            nemesis.latency_ns_max = scenario.latency_ns_max;
            nemesis.fetch_fails = scenario.fetch_fails;
            nemesis.write_back_fails = scenario.write_back_fails;
            nemesis.corrupts = scenario.corrupts;
        }
        let door = Some(Box::new(link.clone()) as Box<dyn Link>);
        let pager = SoftPager::new(frames.leak(), count, scenario.far_pages, scenario.policy, door);
        let mut config =
            Config { local_memory: scenario.local_memory, prefetch: scenario.policy, ..Config::default() };
        config.maxmemory = scenario.maxmemory.0;
        config.set("maxmemory-policy", &[scenario.maxmemory.1]).expect("a policy of Redis");
        let now = Now { monotonic: Instant(1), unix_ms: 1_700_000_000_000, unix_us_rest: 0 };
        let mut engine = Engine::new(config, Box::new(pager), scenario.far_pages, scenario.seed, now);
        let administrator = connect(&mut engine, now);
        let next_tick = Instant(TICK_NS);
        World {
            engine,
            link,
            now,
            next_tick,
            resized_until: Instant(0),
            administrator,
            batch: Vec::new(),
            landed: Vec::new(),
        }
    }

    /// A new connection.
    pub fn connect(&mut self) -> ClientId {
        connect(&mut self.engine, self.now)
    }

    /// Lets some time pass: mostly a part of a millisecond, sometimes a pause.
    pub fn advance(&mut self, rng: &mut Rng) {
        let ns = if rng.one_in(200) { rng.between(0, 150_000_000) } else { rng.between(1000, 2_000_000) };
        self.now.monotonic.0 += ns;
        self.now.unix_ms = 1_700_000_000_000 + self.now.monotonic.0 / 1_000_000;
        self.now.unix_us_rest = (self.now.monotonic.0 / 1000 % 1000) as u32;
        if self.now.monotonic >= self.next_tick {
            self.next_tick = Instant(self.now.monotonic.0 + TICK_NS);
            self.engine.handle_tick(self.now);
        }
    }

    /// Moves pages, and runs whom that wakes.
    pub fn turn(&mut self) {
        self.engine.balance(self.now);
        while let Some(transfer) = self.engine.poll_transfer(self.now) {
            self.batch.push(transfer);
        }
        self.link.submit(&self.batch, self.engine.frames(), self.now.monotonic);
        self.batch.clear();
        self.link.poll_landed(self.engine.frames(), self.now.monotonic, &mut self.landed);
        for landed in self.landed.drain(..) {
            self.engine.handle_landed(landed, self.now);
        }
        while self.engine.poll_ready(self.now).is_some() {}
        while let Some(frame) = self.engine.poll_discard() {
            // Given back to the system: whoever still reads it reads this.
            self.engine.frames()[frame.0 as usize].0.fill(0xA5);
        }
    }

    /// The administrator and the nemesis, now and then.
    pub fn disturb(&mut self, scenario: &Scenario, rng: &mut Rng) {
        if scenario.evicts && rng.one_in(15) {
            let key =
                if rng.one_in(3) { "ALL".to_owned() } else { format!("c{}:{}", rng.below(9), rng.below(6)) };
            self.ask(&[b"FARMEM".to_vec(), b"EVICT".to_vec(), key.into_bytes()]);
        }
        if scenario.resizes && scenario.local_memory > 1 << 20 && rng.one_in(100) {
            let bytes = rng.between(1 << 20, scenario.local_memory).to_string();
            let words = ["CONFIG", "SET", "local-memory", &bytes].map(|word| word.as_bytes().to_vec());
            assert_eq!(self.ask(&words), b"+OK\r\n");
            self.resized_until = self.next_tick;
        }
        if scenario.stalls && rng.one_in(500) {
            let until = self.now.monotonic.0 + rng.between(1_000_000, 500_000_000);
            self.link.nemesis().stuck_until = Instant(until);
        }
        if scenario.fills && rng.one_in(1000) {
            let until = self.now.monotonic.0 + rng.between(1_000_000, 5_000_000_000);
            self.link.nemesis().full_until = Instant(until);
        }
    }

    /// Gives up every frame, dirty ones once they are written back.
    ///
    /// # Panics
    /// If that takes for ever.
    pub fn chill(&mut self) {
        for _ in 0..TURNS_MAX {
            let stats = self.stats();
            if stats["frames_free"] == stats["frames_total"] {
                return;
            }
            self.ask(&["FARMEM", "EVICT", "ALL"].map(|word| word.as_bytes().to_vec()));
            self.now.monotonic.0 += 1_000_000;
            self.turn();
        }
        panic!("some frames are never given up");
    }

    /// Runs a command of the administrator, whose reply needs no page.
    pub fn ask(&mut self, words: &[Vec<u8>]) -> Vec<u8> {
        self.try_ask(words).expect("a reply that needs no page ends")
    }

    /// Runs a command of the administrator and takes its reply; `None` if a page of it is lost.
    ///
    /// # Panics
    /// If there is none in the end.
    pub fn try_ask(&mut self, words: &[Vec<u8>]) -> Option<Vec<u8>> {
        let mut request = format!("*{}\r\n", words.len()).into_bytes();
        for word in words {
            request.extend(format!("${}\r\n", word.len()).into_bytes());
            request.extend(word);
            request.extend(b"\r\n");
        }
        self.engine.handle_input(self.administrator, &request, self.now);
        let (mut reply, mut scanner) = (Vec::new(), Scanner::default());
        for _ in 0..TURNS_MAX {
            while self.hear(&mut reply) {}
            if let Some(len) = scanner.whole(&reply) {
                assert_eq!(len, reply.len(), "one reply to one command");
                return Some(reply);
            }
            if self.engine.should_close(self.administrator) {
                self.engine.handle_disconnected(self.administrator);
                self.administrator = self.connect();
                return None;
            }
            self.now.monotonic.0 += 1_000_000;
            self.turn();
        }
        panic!("the administrator is not answered");
    }

    /// Reads what is there. Whether there was anything.
    fn hear(&mut self, reply: &mut Vec<u8>) -> bool {
        self.engine.handle_writable(self.administrator, self.now);
        let mut slices: [&[u8]; 64] = [&[]; 64];
        let count = self.engine.output(self.administrator, &mut slices);
        let before = reply.len();
        slices[..count].iter().for_each(|slice| reply.extend_from_slice(slice));
        self.engine.handle_written(self.administrator, reply.len() - before, self.now);
        reply.len() > before
    }

    /// `FARMEM STATS`.
    pub fn stats(&mut self) -> HashMap<String, u64> {
        let reply = self.ask(&[b"FARMEM".to_vec(), b"STATS".to_vec()]);
        let text = String::from_utf8_lossy(&reply);
        let lines: Vec<&str> = text.split("\r\n").collect();
        let pairs = lines.windows(2).filter(|pair| pair[1].starts_with(':'));
        pairs.filter_map(|pair| Some((pair[0].to_owned(), pair[1][1..].parse().ok()?))).collect()
    }

    /// A field of `INFO farmem`.
    pub fn info(&mut self) -> HashMap<String, u64> {
        let reply = self.ask(&[b"INFO".to_vec(), b"farmem".to_vec()]);
        let text = elements(&reply).pop().expect("INFO answers a bulk string");
        let text = String::from_utf8_lossy(&text).into_owned();
        let pairs = text.lines().filter_map(|line| line.split_once(':'));
        pairs.filter_map(|(name, value)| Some((name.to_owned(), value.parse().ok()?))).collect()
    }

    /// What must hold at any time.
    ///
    /// # Panics
    /// If it does not.
    pub fn check(&mut self, scenario: &Scenario) {
        let info = self.info();
        let field = |name: &str| info[name];
        let is_clean = scenario.corrupts == 0;
        assert!(!is_clean || field("checksum_failures") == 0, "a page is not what was written back");
        if self.now.monotonic <= self.resized_until {
            return;
        }
        assert!(field("frames_free") <= field("frames_total"), "more free than there are: {info:?}");
        let cap = field("local_budget_bytes").max(FRAMES_MIN * PAGE_SIZE as u64);
        assert!(field("frames_total") * PAGE_SIZE as u64 <= cap, "more frames than the cap allows");
        assert!(field("local_used_bytes") <= cap + BETWEEN_TICKS_MAX, "far above the cap: {info:?}");
        assert!(field("far_used_bytes") <= field("far_capacity_bytes"), "more than there is: {info:?}");
    }

    /// What must hold when everybody is gone and everything was deleted.
    ///
    /// # Panics
    /// If anything is left.
    pub fn check_empty(&mut self) {
        for _ in 0..100 {
            self.now.monotonic.0 += TICK_NS;
            self.turn();
        }
        let stats = self.stats();
        for name in
            ["keys", "far_used_bytes", "far_used_pages", "frames_pinned", "frames_held", "frames_dirty"]
        {
            assert_eq!(stats[name], 0, "{name} when nothing is left: {stats:?}");
        }
        assert_eq!(self.link.in_flight(), 0, "nothing is on its way when nothing is left");
    }
}

fn connect(engine: &mut Engine, now: Now) -> ClientId {
    let peer = Peer { loopback: true, ..Peer::default() };
    engine.handle_connected(peer, now).expect("a loopback client is let in")
}
