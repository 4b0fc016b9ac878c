//! A store for tests: the engine over a `SoftPager` and a far memory that is a map.
//!
//! Pages move when [`Store::turn`] is called, at once and in order. For links that delay, reorder and fail
//! see the simulation.
#![allow(dead_code, reason = "each test file uses a part of this")]

use engine::{ClientId, Config, Engine, Now, Peer};
use farmem::{Frame, Instant, Landed, Link, PAGE_SIZE, Prefetch, SoftPager, Transfer, TransferKind};
use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

/// Far memory as a map of pages. A page that was never written back reads as zeros.
#[derive(Clone, Default)]
pub struct MapLink(Rc<RefCell<MapFar>>);

#[derive(Default)]
struct MapFar {
    pages: HashMap<u32, Box<[u8; PAGE_SIZE]>>,
    landed: Vec<Landed>,
}

impl Link for MapLink {
    fn submit(&mut self, batch: &[Transfer], frames: &mut [Frame], _now: Instant) {
        let far = &mut *self.0.borrow_mut();
        for &transfer in batch {
            let frame = transfer.frame.0 as usize;
            match transfer.kind {
                TransferKind::FetchNeeded | TransferKind::FetchGuess => match far.pages.get(&transfer.page.0)
                {
                    Some(page) => frames[frame].0.copy_from_slice(&page[..]),
                    None => frames[frame].0.fill(0),
                },
                TransferKind::WriteBack => {
                    far.pages.insert(transfer.page.0, Box::new(frames[frame].0));
                }
                TransferKind::Trim => {
                    for page in transfer.page.0..transfer.page.0 + transfer.count {
                        far.pages.remove(&page);
                    }
                    continue;
                }
            }
            far.landed.push(Landed { transfer, result: Ok(()) });
        }
    }

    fn poll_landed(&mut self, _frames: &mut [Frame], _now: Instant, landed: &mut Vec<Landed>) {
        landed.append(&mut self.0.borrow_mut().landed);
    }

    fn wait_landed(&mut self, _frames: &mut [Frame], landed: &mut Vec<Landed>) {
        landed.append(&mut self.0.borrow_mut().landed);
    }

    fn next_due(&self) -> Option<Instant> {
        None
    }

    fn in_flight(&self) -> usize {
        self.0.borrow().landed.len()
    }

    fn capacity_pages(&self) -> u32 {
        u32::MAX
    }
}

/// An engine with its far memory and one clock.
pub struct Store {
    pub engine: Engine,
    pub link: MapLink,
    pub now: Now,
}

/// A frame arena of its own, for the rest of the process.
pub fn leak_frames(count: usize) -> &'static mut [Frame] {
    let frames: Vec<Frame> = (0..count).map(|_| Frame([0; PAGE_SIZE])).collect();
    Box::leak(frames.into_boxed_slice())
}

impl Store {
    /// A store with `local_memory` bytes of frames and near memory together.
    pub fn new(local_memory: u64, prefetch: Prefetch) -> Store {
        Store::with(local_memory, 1 << 18, prefetch, Config::default())
    }

    /// A store over `far_pages` of far memory.
    pub fn with(local_memory: u64, far_pages: u32, prefetch: Prefetch, mut config: Config) -> Store {
        config.local_memory = local_memory;
        config.prefetch = prefetch;
        let frames = (local_memory / PAGE_SIZE as u64) as u32;
        let link = MapLink::default();
        let pager = SoftPager::new(
            leak_frames(frames as usize),
            frames,
            far_pages,
            prefetch,
            Some(Box::new(link.clone())),
        );
        let now = Now { monotonic: Instant(1), unix_ms: 1_700_000_000_000, unix_us_rest: 0 };
        let engine = Engine::new(config, Box::new(pager), far_pages, 0x5eed, now);
        Store { engine, link, now }
    }

    /// A new connection from this machine.
    pub fn connect(&mut self) -> ClientId {
        let peer = Peer { address: "127.0.0.1:1".into(), loopback: true, ..Peer::default() };
        self.engine.handle_connected(peer, self.now).expect("a loopback client is welcome")
    }

    /// Lets time pass.
    pub fn advance_ms(&mut self, ms: u64) {
        self.now.unix_ms += ms;
        self.now.monotonic.0 += ms * 1_000_000;
        self.engine.handle_tick(self.now);
        self.turn();
    }

    /// One turn of the loop: moves every page that wants to move, runs whom that wakes. Says whether
    /// anything happened.
    pub fn turn(&mut self) -> bool {
        let mut batch = Vec::new();
        while let Some(transfer) = self.engine.poll_transfer(self.now) {
            batch.push(transfer);
        }
        self.link.submit(&batch, self.engine.frames(), self.now.monotonic);
        let mut landed = Vec::new();
        self.link.poll_landed(self.engine.frames(), self.now.monotonic, &mut landed);
        let mut moved = !landed.is_empty();
        for landed in landed {
            self.engine.handle_landed(landed, self.now);
        }
        while self.engine.poll_ready(self.now).is_some() {
            moved = true;
        }
        self.engine.balance(self.now);
        while self.engine.poll_discard().is_some() {}
        moved
    }

    /// Takes what the client is owed and can leave now.
    pub fn drain(&mut self, client: ClientId) -> Vec<u8> {
        let mut out = Vec::new();
        loop {
            self.engine.handle_writable(client, self.now);
            let mut slices: [&[u8]; 16] = [&[]; 16];
            let count = self.engine.output(client, &mut slices);
            let bytes: Vec<u8> = slices[..count].concat();
            if bytes.is_empty() {
                return out;
            }
            out.extend_from_slice(&bytes);
            self.engine.handle_written(client, bytes.len(), self.now);
        }
    }

    /// Sends bytes and takes all that comes back until nothing moves any more.
    pub fn raw(&mut self, client: ClientId, bytes: &[u8]) -> Vec<u8> {
        self.engine.handle_input(client, bytes, self.now);
        let mut out = self.drain(client);
        loop {
            let moved = self.turn();
            let more = self.drain(client);
            if !moved && more.is_empty() {
                return out;
            }
            out.extend_from_slice(&more);
        }
    }

    /// Runs one command and takes its reply, as bytes of RESP.
    pub fn command(&mut self, client: ClientId, words: &[&[u8]]) -> Vec<u8> {
        self.raw(client, &request(words))
    }

    /// As [`Store::command`], for words of text; the reply as text.
    pub fn ask(&mut self, client: ClientId, line: &str) -> String {
        let words: Vec<&[u8]> = line.split_whitespace().map(str::as_bytes).collect();
        String::from_utf8_lossy(&self.command(client, &words)).into_owned()
    }

    /// A field of `INFO farmem`.
    pub fn farmem(&mut self, client: ClientId, field: &str) -> u64 {
        let info = self.ask(client, "INFO farmem");
        let line = info.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
        line.and_then(|value| value.trim().parse().ok())
            .unwrap_or_else(|| panic!("no number {field} in {info}"))
    }

    /// Gives up every frame that can be given up, dirty ones written back first: what is written back in one
    /// round is given up in the next, so that it takes two idle ones to know that nothing is left.
    pub fn evict_all(&mut self, client: ClientId) {
        let mut idle = 0;
        while idle < 2 {
            let evicted = self.ask(client, "FARMEM EVICT ALL");
            idle = if evicted == ":0\r\n" && !self.turn() { idle + 1 } else { 0 };
        }
    }
}

/// One command in RESP.
pub fn request(words: &[&[u8]]) -> Vec<u8> {
    let mut out = format!("*{}\r\n", words.len()).into_bytes();
    for word in words {
        out.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
        out.extend_from_slice(word);
        out.extend_from_slice(b"\r\n");
    }
    out
}

/// The RESP of a bulk string.
pub fn bulk(data: &[u8]) -> Vec<u8> {
    let mut out = format!("${}\r\n", data.len()).into_bytes();
    out.extend_from_slice(data);
    out.extend_from_slice(b"\r\n");
    out
}
