//! The model of a wire: when a page that is asked for now has landed.
//!
//! ```text
//!            needed ─────────────┐
//!   send ───┤                    ├─► reads: one page at a time ──latency──► pop_landed
//!            guesses ─► queued ──┘   (a guess starts only while no needed page does)
//!            write backs ──────────► writes: one page at a time ──latency──► pop_landed
//! ```
//!
//! Each direction carries one page after the other: a page leaves when it is sent or the wire is free,
//! takes 4096 bytes / bandwidth, and lands a latency later. A needed page waits for no guess but the one
//! that is on the wire already. Moves no byte and reads no clock.

use crate::link::{Transfer, TransferKind};
use crate::page::{Instant, PAGE_SIZE};
use alloc::collections::VecDeque;

/// What a wire is like. Zero means none: no latency, endless bandwidth.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Wire {
    /// From the end of sending to arrival. Units: nanoseconds.
    pub latency_ns: u64,
    /// Of each direction. Units: bits a second.
    pub bandwidth_bits: u64,
}

impl Wire {
    /// How long one page occupies the wire, rounded up. Units: nanoseconds.
    pub fn page_ns(self) -> u64 {
        match self.bandwidth_bits {
            0 => 0,
            bits => (PAGE_SIZE as u64 * 8 * 1_000_000_000).div_ceil(bits),
        }
    }
}

/// One direction of the wire.
#[derive(Default)]
struct Direction {
    /// When the page that is last in line has left.
    free: Instant,
    /// On the wire, by the time of their landing, which is the order in which they started.
    flying: VecDeque<(Instant, Transfer)>,
}

impl Direction {
    /// Puts a page on the wire, behind those that are there.
    #[inline]
    fn start(&mut self, transfer: Transfer, asked: Instant, page_ns: u64, latency_ns: u64) {
        self.free = Instant(self.free.max(asked).0 + page_ns);
        self.flying.push_back((Instant(self.free.0 + latency_ns), transfer));
    }

    /// The next page that has landed by `now`.
    #[inline]
    fn pop_landed(&mut self, now: Instant) -> Option<Transfer> {
        let &(due, transfer) = self.flying.front()?;
        (due <= now).then(|| {
            self.flying.pop_front();
            transfer
        })
    }

    fn due(&self) -> Option<Instant> {
        self.flying.front().map(|&(due, _)| due)
    }
}

/// The pages on a modelled wire.
pub struct WireModel {
    page_ns: u64,
    latency_ns: u64,
    reads: Direction,
    writes: Direction,
    /// Guesses that have not started on the reads wire, with the time when they were sent.
    guesses: VecDeque<(Instant, Transfer)>,
}

impl WireModel {
    /// A wire with nothing on it, and room for `transfers` before it allocates again.
    pub fn new(wire: Wire, transfers: usize) -> WireModel {
        let mut model = WireModel {
            page_ns: wire.page_ns(),
            latency_ns: wire.latency_ns,
            reads: Direction::default(),
            writes: Direction::default(),
            guesses: VecDeque::new(),
        };
        model.reads.flying.reserve(transfers);
        model.writes.flying.reserve(transfers);
        model.guesses.reserve(transfers);
        model
    }

    /// Sends a fetch or a write back on its way. Shape: `begin` before the first of a batch, and after the last.
    #[inline]
    pub fn send(&mut self, transfer: Transfer, now: Instant) {
        match transfer.kind {
            TransferKind::FetchNeeded => self.reads.start(transfer, now, self.page_ns, self.latency_ns),
            TransferKind::FetchGuess => self.guesses.push_back((now, transfer)),
            TransferKind::WriteBack => self.writes.start(transfer, now, self.page_ns, self.latency_ns),
            TransferKind::Trim => {}
        }
    }

    /// Lets queued guesses start for which the wire has become free by `now`.
    #[inline]
    pub fn begin(&mut self, now: Instant) {
        while self.reads.free <= now
            && let Some((asked, guess)) = self.guesses.pop_front()
        {
            self.reads.start(guess, asked, self.page_ns, self.latency_ns);
        }
    }

    /// The next transfer that has landed by `now`: fetches first. Shape: after `begin(now)`.
    #[inline]
    pub fn pop_landed(&mut self, now: Instant) -> Option<Transfer> {
        self.reads.pop_landed(now).or_else(|| self.writes.pop_landed(now))
    }

    /// The fetch that lands next.
    #[inline]
    pub fn next_fetch(&self) -> Option<Transfer> {
        self.reads.flying.front().map(|&(_, transfer)| transfer)
    }

    /// When the next transfer lands. Every queued guess follows a page that is on the wire, so the fronts of
    /// both directions suffice.
    pub fn next_due(&self) -> Option<Instant> {
        [self.reads.due(), self.writes.due()].into_iter().flatten().min()
    }

    /// Transfers that have not landed.
    pub fn in_flight(&self) -> usize {
        self.reads.flying.len() + self.writes.flying.len() + self.guesses.len()
    }
}
