//! A store under load, without a network: clients' bytes go into the engine, replies are copied out of it.
//!
//! ```text
//!   idle clients ask ─► pages move, replies leave ─► ... ─► nothing moves: leap to the next landing ─┐
//!      ▲                                                                                             │
//!      └─────────────────────────────────────────────────────────────────────────────────────────────┘
//! ```
//!
//! The twin of the body's turn. Refuses a reply that is not the one wanted.

use super::clock::LeapClock;
use super::workload::Request;
use crate::body::driver::Driver;
use crate::far::SharedLink;
use crate::far::clock::Clock;
use alloc::vec::Vec;
use engine::{ClientId, Engine, Peer};
use farmem::Instant;

/// Slices that a socket is offered at first, and if there are more than these: as in the body.
const SLICES_FEW: usize = 4;
const SLICES_MAX: usize = 64;
/// Time between two ticks of the engine. Units: nanoseconds.
const TICK_NS: u64 = 100_000_000;
/// Every reply is checked for its length, and one of so many to the byte.
const CHECKED_ONE_OF: u64 = 8;

struct Client {
    id: ClientId,
    request: Option<Request>,
    /// What a socket would have sent.
    sent: Vec<u8>,
}

/// Who asks.
struct Clients {
    list: Vec<Client>,
    clock: LeapClock,
    answered: u64,
}

/// The store and its clients.
pub struct Store {
    engine: Engine,
    driver: Driver<SharedLink>,
    clock: LeapClock,
    clients: Clients,
    next_tick: Instant,
}

impl Store {
    /// A store with so many clients.
    ///
    /// # Panics
    /// If it refuses one of them.
    pub fn new(mut engine: Engine, link: SharedLink, clock: LeapClock, clients: usize) -> Store {
        let client = |_| {
            let peer = Peer {
                address: "bench:0".into(),
                local_address: "bench:0".into(),
                descriptor: 0,
                loopback: true,
            };
            let id = engine.handle_connected(peer, clock.engine_now()).expect("the limit is above");
            Client { id, request: None, sent: Vec::new() }
        };
        let list = (0..clients).map(client).collect();
        let clients = Clients { list, clock: clock.clone(), answered: 0 };
        Store { engine, driver: Driver::new(link), clock, clients, next_tick: Instant(0) }
    }

    /// Makes so many requests, each client one at a time.
    ///
    /// # Panics
    /// If a reply is wrong, or the store stands still.
    pub fn run(&mut self, count: u64, mut next: impl FnMut(u64) -> Request) {
        let (mut asked, until) = (0, self.clients.answered + count);
        while self.clients.answered < until {
            let clock = self.clock.clone();
            let mut moved = false;
            let now = clock.engine_now();
            for index in 0..self.clients.list.len() {
                let client = &mut self.clients.list[index];
                if client.request.is_some() || asked == count {
                    continue;
                }
                let request = clock.aside(|| next(asked));
                asked += 1;
                self.engine.handle_input(client.id, &request.bytes, now);
                clock.charge();
                client.request = Some(request);
                self.clients.collect(index, &mut self.engine);
                moved = true;
            }
            moved |= self.move_pages();
            if !moved {
                let due = self.driver.next_due().expect("somebody waits for a page");
                clock.pass(due);
            }
            if clock.now() >= self.next_tick {
                self.next_tick = Instant(clock.now().0 + TICK_NS);
                self.engine.handle_tick(clock.engine_now());
            }
        }
    }

    /// The reply to one command, of a client that has nothing else to do.
    pub fn ask(&mut self, words: &str) -> Vec<u8> {
        let mut bytes = alloc::format!("{words}\r\n").into_bytes();
        self.engine.handle_input(self.clients.list[0].id, &bytes, self.clock.engine_now());
        bytes.clear();
        while bytes.is_empty() {
            self.move_pages();
            self.clients.send(0, &mut self.engine);
            core::mem::swap(&mut bytes, &mut self.clients.list[0].sent);
        }
        bytes
    }

    /// A number of `FARMEM STATS`.
    pub fn stat(&mut self, name: &str) -> u64 {
        let reply = self.ask("FARMEM STATS");
        let text = alloc::string::String::from_utf8_lossy(&reply);
        let mut lines = text.lines().skip_while(|line| *line != name);
        let value = lines.nth(1).and_then(|line| line.strip_prefix(':')?.parse().ok());
        value.expect("a field of FARMEM STATS")
    }

    fn move_pages(&mut self) -> bool {
        let Store { engine, driver, clock, clients, .. } = self;
        driver.turn(
            engine,
            || clock.engine_now(),
            |engine, id, _| {
                if let Some(index) = clients.list.iter().position(|client| client.id == id) {
                    clients.collect(index, engine);
                }
            },
        )
    }
}

impl Clients {
    /// Copies out what can leave, as a socket would.
    fn send(&mut self, index: usize, engine: &mut Engine) {
        let Client { id, sent, .. } = &mut self.list[index];
        loop {
            let before = sent.len();
            let mut slices: [&[u8]; SLICES_FEW] = [&[]; SLICES_FEW];
            match engine.output(*id, &mut slices) {
                SLICES_FEW => send_many(engine, *id, sent),
                count => slices[..count].iter().for_each(|slice| sent.extend_from_slice(slice)),
            }
            if sent.len() == before {
                return;
            }
            engine.handle_written(*id, sent.len() - before, self.clock.engine_now());
        }
    }

    /// Sends, and ends the request if that was its reply.
    fn collect(&mut self, index: usize, engine: &mut Engine) {
        self.send(index, engine);
        let Client { request: place, sent, .. } = &mut self.list[index];
        let Some(request) = place else { return };
        if sent.len() < request.reply_len {
            assert!(sent.first() != Some(&b'-'), "{}", alloc::string::String::from_utf8_lossy(sent));
            return;
        }
        let answered = self.answered;
        self.clock.aside(|| {
            assert_eq!(sent.len(), request.reply_len, "reply {answered} is too long");
            if answered.is_multiple_of(CHECKED_ONE_OF) {
                assert!(request.is_answered_by(sent), "reply {answered} is wrong");
            }
        });
        self.answered += 1;
        *place = None;
        sent.clear();
    }
}

#[inline(never)]
fn send_many(engine: &Engine, id: ClientId, sent: &mut Vec<u8>) {
    let mut slices: [&[u8]; SLICES_MAX] = [&[]; SLICES_MAX];
    let count = engine.output(id, &mut slices);
    slices[..count].iter().for_each(|slice| sent.extend_from_slice(slice));
}
