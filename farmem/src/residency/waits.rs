//! Who waits for which page, and which pages wait for a link.
//!
//! ```text
//! need, guess ──► pending (queued) ──► pending (in flight) ──► settle ──► woken
//!                     needed FIFO, then guesses FIFO
//! ```
//!
//! Invariant: a page has a `Pending` exactly while it is queued for a fetch or being fetched. The queues
//! may name pages that were promoted, dropped or settled since; whoever pops looks at the `Pending`.
//! Moves no page and knows no frame.

use crate::page::{Instant, PageNo, PageSet};
use crate::pager::{PagerError, Ticket};
use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::hash::{BuildHasherDefault, Hasher};
use hashbrown::HashMap;

/// Guesses that may be queued: 4 MiB of far memory asked for ahead.
const GUESSES_QUEUED_MAX: usize = 1024;
/// Failed pages remembered until their clients come back for them.
const FAILURES_MAX: usize = 4096;

/// Spreads page numbers and tickets, which come from this process and need no keyed hash.
#[derive(Default)]
pub(super) struct IdHasher(u64);

impl Hasher for IdHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.write_u64(u64::from(byte) ^ self.0);
        }
    }

    fn write_u32(&mut self, id: u32) {
        self.write_u64(u64::from(id));
    }

    fn write_u64(&mut self, id: u64) {
        let product = u128::from(id ^ 0x243F_6A88_85A3_08D3) * 0x9E37_79B9_7F4A_7C15;
        self.0 = product as u64 ^ (product >> 64) as u64;
    }
}

type IdMap<K, V> = HashMap<K, V, BuildHasherDefault<IdHasher>>;

/// A page that is queued for a fetch, or being fetched.
pub(super) struct Pending {
    pub(super) needed: bool,
    pub(super) in_flight: bool,
    /// When it was first needed (or guessed, until then).
    pub(super) since: Instant,
    first: Option<Ticket>,
    rest: Vec<Ticket>,
}

impl Pending {
    /// The tickets that wait for the page, oldest first.
    pub(super) fn tickets(&self) -> impl Iterator<Item = Ticket> + '_ {
        self.first.into_iter().chain(self.rest.iter().copied())
    }
}

struct Wait {
    /// Pages that have not landed.
    outstanding: u32,
    /// Free frames that the wait wants besides.
    fresh: u32,
    /// The set, kept only if `fresh` is not zero.
    want: PageSet,
}

/// The wait that a ticket with unmet `fresh` stands for.
pub(super) struct FreshWait<'a> {
    pub(super) ticket: Ticket,
    pub(super) fresh: u32,
    pub(super) want: &'a PageSet,
}

/// All waits of one pager.
#[derive(Default)]
pub(super) struct Waits {
    pending: IdMap<PageNo, Pending>,
    needed: VecDeque<PageNo>,
    guesses: VecDeque<PageNo>,
    waits: IdMap<Ticket, Wait>,
    /// Waits for which every page has landed, but not enough frames are free.
    short_of_frames: VecDeque<Ticket>,
    woken: VecDeque<Ticket>,
    failed: IdMap<PageNo, PagerError>,
    tickets_given: u64,
}

impl Waits {
    /// Makes room for so many more pages in flight, so that a trap allocates nothing.
    pub(super) fn prepare(&mut self, in_flight_max: usize) {
        self.pending.reserve(2 * in_flight_max);
        self.failed.reserve(in_flight_max);
    }

    /// Begins a wait for `outstanding` pages, each of which the caller then names with `need`.
    pub(super) fn begin(&mut self, outstanding: u32, fresh: u32, want: &PageSet) -> Ticket {
        self.tickets_given += 1;
        let ticket = Ticket(self.tickets_given);
        let want = if fresh > 0 { want.clone() } else { PageSet::new() };
        self.waits.insert(ticket, Wait { outstanding, fresh, want });
        // Landing allocates nothing: it may happen in a trap.
        self.woken.reserve(self.waits.len());
        self.short_of_frames.reserve(self.waits.len());
        if outstanding == 0 {
            self.short_of_frames.push_back(ticket);
        }
        ticket
    }

    /// Asks for a page for `ticket`; a guess that is under way is promoted. `urgent` goes to the front.
    pub(super) fn need(&mut self, page: PageNo, ticket: Ticket, urgent: bool, now: Instant) {
        let pending = self.pending.entry(page).or_insert(Pending {
            needed: false,
            in_flight: false,
            since: now,
            first: None,
            rest: Vec::new(),
        });
        if pending.first.is_none() {
            pending.first = Some(ticket);
        } else {
            pending.rest.push(ticket);
        }
        let was_needed = core::mem::replace(&mut pending.needed, true);
        if !was_needed {
            pending.since = now;
        }
        if !pending.in_flight && urgent {
            self.needed.push_front(page);
        } else if !pending.in_flight && !was_needed {
            self.needed.push_back(page);
        }
    }

    /// Queues a guess unless the page is under way. Returns whether there is room for more.
    pub(super) fn guess(&mut self, page: PageNo, now: Instant) -> bool {
        if self.guesses.len() >= GUESSES_QUEUED_MAX {
            return false;
        }
        if !self.pending.contains_key(&page) {
            let pending =
                Pending { needed: false, in_flight: false, since: now, first: None, rest: Vec::new() };
            self.pending.insert(page, pending);
            self.guesses.push_back(page);
        }
        true
    }

    /// Notes that a page is fetched right now, outside the queues.
    pub(super) fn start_at_once(&mut self, page: PageNo, needed: bool, now: Instant) {
        let fresh = Pending { needed, in_flight: false, since: now, first: None, rest: Vec::new() };
        let pending = self.pending.entry(page).or_insert(fresh);
        pending.needed |= needed;
        pending.in_flight = true;
    }

    /// The needed page that has waited longest for a link; it stays queued.
    pub(super) fn next_needed(&mut self) -> Option<PageNo> {
        loop {
            let page = *self.needed.front()?;
            if self.pending.get(&page).is_some_and(|pending| pending.needed && !pending.in_flight) {
                return Some(page);
            }
            self.needed.pop_front();
        }
    }

    /// The guess that has waited longest for a link; it stays queued.
    pub(super) fn next_guess(&mut self) -> Option<PageNo> {
        loop {
            let page = *self.guesses.front()?;
            if self.pending.get(&page).is_some_and(|pending| !pending.needed && !pending.in_flight) {
                return Some(page);
            }
            self.guesses.pop_front();
        }
    }

    /// Forgets every guess that has not been started.
    pub(super) fn drop_guesses(&mut self) {
        while let Some(page) = self.next_guess() {
            self.guesses.pop_front();
            self.pending.remove(&page);
        }
    }

    pub(super) fn pending(&self, page: PageNo) -> Option<&Pending> {
        self.pending.get(&page)
    }

    /// Notes that a link has the page now.
    pub(super) fn start(&mut self, page: PageNo) {
        self.pending.get_mut(&page).expect("only pending pages are started").in_flight = true;
    }

    /// Marks a page under way as needed, so that its failure is not forgotten. Returns whether it had only
    /// been guessed.
    pub(super) fn promote(&mut self, page: PageNo) -> bool {
        let pending = self.pending.get_mut(&page).expect("a page under way is pending");
        !core::mem::replace(&mut pending.needed, true)
    }

    /// The page is here, or needs no fetch any more (`Ok`), or failed: wakes whom that concerns.
    pub(super) fn settle(&mut self, page: PageNo, outcome: Result<(), PagerError>) -> Option<Pending> {
        let pending = self.pending.remove(&page)?;
        if let Err(error) = outcome
            && pending.needed
            && self.failed.len() < FAILURES_MAX
        {
            self.failed.insert(page, error);
        }
        for ticket in pending.tickets() {
            let Some(wait) = self.waits.get_mut(&ticket) else { continue };
            wait.outstanding -= 1;
            if outcome.is_err() || (wait.outstanding == 0 && wait.fresh == 0) {
                self.waits.remove(&ticket);
                self.woken.push_back(ticket);
            } else if wait.outstanding == 0 {
                self.short_of_frames.push_back(ticket);
            }
        }
        Some(pending)
    }

    /// The failure of a page, once.
    pub(super) fn take_failure(&mut self, page: PageNo) -> Option<PagerError> {
        if self.failed.is_empty() { None } else { self.failed.remove(&page) }
    }

    /// Ends a wait; a page that only it needed may still land.
    pub(super) fn cancel(&mut self, ticket: Ticket) {
        if self.waits.remove(&ticket).is_some() {
            self.short_of_frames.retain(|&waiting| waiting != ticket);
        } else {
            self.woken.retain(|&woken| woken != ticket);
        }
    }

    /// Wakes, in order, the waits short of frames that `is_met` finds satisfied.
    pub(super) fn wake_fresh(&mut self, is_met: impl Fn(FreshWait<'_>) -> bool) {
        let Waits { short_of_frames, waits, woken, .. } = self;
        short_of_frames.retain(|ticket| {
            let wait = waits.get(ticket).expect("a wait short of frames is a wait");
            let is_met = is_met(FreshWait { ticket: *ticket, fresh: wait.fresh, want: &wait.want });
            if is_met {
                waits.remove(ticket);
                woken.push_back(*ticket);
            }
            !is_met
        });
    }

    /// Frames without which somebody cannot go on. Bounds: an estimate from above.
    pub(super) fn frames_wanted(&self) -> u32 {
        let fresh =
            |ticket| self.waits.get(ticket).map_or(0, |wait: &Wait| wait.fresh + wait.want.len() as u32);
        let for_fresh = self.short_of_frames.iter().take(8).map(fresh).max().unwrap_or(0);
        self.needed.len() as u32 + for_fresh
    }

    pub(super) fn has_fresh_waits(&self) -> bool {
        !self.short_of_frames.is_empty()
    }

    pub(super) fn poll_woken(&mut self) -> Option<Ticket> {
        self.woken.pop_front()
    }

    /// Units: bytes.
    pub(super) fn near_bytes(&self) -> usize {
        self.pending.allocation_size()
            + self.waits.allocation_size()
            + self.failed.allocation_size()
            + (self.needed.capacity() + self.guesses.capacity()) * size_of::<PageNo>()
            + (self.woken.capacity() + self.short_of_frames.capacity()) * size_of::<Ticket>()
    }
}
