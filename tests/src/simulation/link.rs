//! A far memory with a nemesis: it lands late and out of order, stands still, fails, tears and corrupts.
//!
//! ```text
//! submit ─► flying, each with its time ─► due ─► lands │ fails (a write back then has torn its page; all of
//!                                                      │        them fail while far memory is full)
//!                                                      └ corrupts: a bit of the stored page flips
//! ```
//!
//! Asserts what every pager owes a link: a frame is in one transfer at a time, and nothing overtakes a
//! write back of the same page. Knows no pager and no engine.

use super::rng::Rng;
use farmem::{Frame, Instant, Landed, Link, LinkError, PAGE_SIZE, PageNo, Transfer, TransferKind};
use std::cell::{RefCell, RefMut};
use std::collections::HashMap;
use std::ops::Range;
use std::rc::Rc;

/// What the nemesis may do, and what it has done.
pub struct Nemesis {
    rng: Rng,
    far: HashMap<PageNo, Box<[u8; PAGE_SIZE]>>,
    flying: Vec<(Instant, Transfer)>,
    /// The longest that a transfer may take. Units: nanoseconds.
    pub latency_ns_max: u64,
    /// Fetches that fail. Units: out of a thousand.
    pub fetch_fails: u32,
    /// Write backs that fail. Units: out of a thousand.
    pub write_back_fails: u32,
    /// Write backs of which a bit flips afterwards. Units: out of a thousand.
    pub corrupts: u32,
    /// Nothing lands before this, but for who waits.
    pub stuck_until: Instant,
    /// No write back succeeds before this.
    pub full_until: Instant,
    now: Instant,
    /// Transfers that were failed so far.
    pub failed: u64,
    /// Pages that were corrupted so far.
    pub corrupted: u64,
}

/// A handle to one far memory; clones are the same.
#[derive(Clone)]
pub struct NemesisLink(Rc<RefCell<Nemesis>>);

impl NemesisLink {
    /// A far memory that does no harm yet.
    pub fn new(seed: u64) -> NemesisLink {
        NemesisLink(Rc::new(RefCell::new(Nemesis {
            rng: Rng::new(seed),
            far: HashMap::new(),
            flying: Vec::new(),
            latency_ns_max: 0,
            fetch_fails: 0,
            write_back_fails: 0,
            corrupts: 0,
            stuck_until: Instant(0),
            full_until: Instant(0),
            now: Instant(0),
            failed: 0,
            corrupted: 0,
        })))
    }

    /// The nemesis, to read or to change.
    pub fn nemesis(&self) -> RefMut<'_, Nemesis> {
        self.0.borrow_mut()
    }
}

impl Nemesis {
    /// From now on nothing goes wrong; what is corrupt stays so.
    pub fn rest(&mut self) {
        (self.fetch_fails, self.write_back_fails, self.corrupts) = (0, 0, 0);
        (self.stuck_until, self.full_until) = (Instant(0), Instant(0));
    }

    fn start(&mut self, transfer: Transfer, frames: &mut [Frame], now: Instant) {
        let pages = transfer.page.0..transfer.page.0 + transfer.count;
        for (_, other) in &self.flying {
            if transfer.kind != TransferKind::Trim {
                assert_ne!(other.frame, transfer.frame, "one frame in two transfers: {other:?} {transfer:?}");
            }
            let is_write = other.kind == TransferKind::WriteBack;
            assert!(!(is_write && pages.contains(&other.page.0)), "{transfer:?} overtakes {other:?}");
        }
        match transfer.kind {
            TransferKind::Trim => {
                pages.for_each(|page| drop(self.far.remove(&PageNo(page))));
                return;
            }
            TransferKind::WriteBack => self.write(transfer, frames, 0..PAGE_SIZE / 2),
            _ => frames[transfer.frame.0 as usize].0.fill(0xEE),
        }
        let due = Instant(now.0 + self.rng.between(0, self.latency_ns_max));
        self.flying.push((due, transfer));
    }

    fn write(&mut self, transfer: Transfer, frames: &[Frame], half: Range<usize>) {
        let far = self.far.entry(transfer.page).or_insert_with(|| Box::new([0; PAGE_SIZE]));
        far[half.clone()].copy_from_slice(&frames[transfer.frame.0 as usize].0[half]);
    }

    fn land(&mut self, index: usize, frames: &mut [Frame]) -> Landed {
        let (_, transfer) = self.flying.swap_remove(index);
        let is_write = transfer.kind == TransferKind::WriteBack;
        let is_refused = is_write && self.now < self.full_until;
        if self.rng.per_mille(if is_write { self.write_back_fails } else { self.fetch_fails }) || is_refused {
            self.failed += 1;
            return Landed { transfer, result: Err(LinkError::Io) };
        }
        if is_write {
            self.write(transfer, frames, PAGE_SIZE / 2..PAGE_SIZE);
            if self.rng.per_mille(self.corrupts) {
                let at = self.rng.below(PAGE_SIZE);
                let far = self.far.get_mut(&transfer.page).expect("written on the line above");
                far[at] ^= 1 << self.rng.below(8);
                self.corrupted += 1;
            }
        } else {
            let frame = &mut frames[transfer.frame.0 as usize].0;
            match self.far.get(&transfer.page) {
                Some(far) => frame.copy_from_slice(&far[..]),
                None => frame.fill(0xDD),
            }
        }
        Landed { transfer, result: Ok(()) }
    }
}

impl Link for NemesisLink {
    fn submit(&mut self, batch: &[Transfer], frames: &mut [Frame], now: Instant) {
        self.nemesis().now = now;
        for &transfer in batch {
            self.nemesis().start(transfer, frames, now);
        }
    }

    fn poll_landed(&mut self, frames: &mut [Frame], now: Instant, landed: &mut Vec<Landed>) {
        let mut nemesis = self.nemesis();
        nemesis.now = now;
        if nemesis.stuck_until > now {
            return;
        }
        let mut index = 0;
        while index < nemesis.flying.len() {
            if nemesis.flying[index].0 <= now {
                landed.push(nemesis.land(index, frames));
            } else {
                index += 1;
            }
        }
    }

    fn wait_landed(&mut self, frames: &mut [Frame], landed: &mut Vec<Landed>) {
        let mut nemesis = self.nemesis();
        let earliest = (0..nemesis.flying.len()).min_by_key(|&index| nemesis.flying[index].0);
        if let Some(index) = earliest {
            landed.push(nemesis.land(index, frames));
        }
    }

    fn next_due(&self) -> Option<Instant> {
        let nemesis = self.0.borrow();
        nemesis.flying.iter().map(|(due, _)| (*due).max(nemesis.stuck_until)).min()
    }

    fn in_flight(&self) -> usize {
        self.0.borrow().flying.len()
    }

    fn capacity_pages(&self) -> u32 {
        u32::MAX
    }
}
