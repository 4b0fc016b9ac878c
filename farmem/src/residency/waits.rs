//! Who waits for which page, and which pages wait for a link.
//!
//! ```text
//! begin ──► queued, FIFO ──► admitted: need ──► pending (queued) ──► pending (in flight) ──► settle ──► woken
//!              (while what is admitted takes enough frames)  needed FIFO, then guesses FIFO
//! ```
//!
//! A wait is *admitted* when there is room for its whole set beside the sets of those before it; until then none of its
//! pages is asked for. So those that have pages on their way never take each other's frames.
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

/// Spreads page numbers, which come from this process and need no keyed hash.
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
    page: PageNo,
    pub(super) needed: bool,
    pub(super) in_flight: bool,
    /// When it was first needed (or guessed, until then).
    pub(super) since: Instant,
    first: Option<Ticket>,
    rest: Vec<Ticket>,
}

/// The place of a `Pending`. A queue may name a place whose page was settled since, or that another page
/// has now: an entry of a queue says that there is something to look at, no more.
#[derive(Clone, Copy)]
pub(super) struct Slot(u32);

impl Pending {
    /// The tickets that wait for the page, oldest first.
    pub(super) fn tickets(&self) -> impl Iterator<Item = Ticket> + '_ {
        self.first.into_iter().chain(self.rest.iter().copied())
    }
}

#[derive(Default)]
struct Wait {
    /// Whose wait it is; `None` in a vacant place.
    ticket: Option<Ticket>,
    since: Instant,
    /// Whether its pages have been asked for.
    is_admitted: bool,
    /// Pages that have not landed.
    outstanding: u32,
    /// Free frames that the wait wants besides.
    fresh: u32,
    /// Frames that it takes when it runs, the fresh ones among them.
    frames: u32,
    want: PageSet,
}

/// The wait that a ticket with unmet `fresh` stands for.
pub(super) struct FreshWait<'a> {
    pub(super) ticket: Ticket,
    pub(super) fresh: u32,
    pub(super) want: &'a PageSet,
}

/// Bits of a ticket that say where its wait is; the others tell it from those before it in that place.
const PLACE_BITS: u32 = 24;

#[inline]
fn place_of(ticket: Ticket) -> u32 {
    (ticket.0 & ((1 << PLACE_BITS) - 1)) as u32
}

/// The waits that are not over, each in the place that its ticket names.
#[derive(Default)]
struct WaitTable {
    waits: Vec<Wait>,
    vacant: Vec<u32>,
    tickets_given: u64,
    /// Frames that the admitted waits take together.
    admitted_frames: u32,
    /// Of all sets. Units: bytes.
    want_bytes: usize,
}

impl WaitTable {
    fn insert(&mut self, frames: u32, fresh: u32, want: &PageSet, since: Instant) -> Ticket {
        self.tickets_given += 1;
        let place = self.vacant.pop().unwrap_or(self.waits.len() as u32);
        assert!(place < 1 << PLACE_BITS, "more clients wait than there can be");
        let ticket = Ticket(self.tickets_given << PLACE_BITS | u64::from(place));
        if place as usize == self.waits.len() {
            self.waits.push(Wait::default());
            self.vacant.reserve(self.waits.len()); // So that the end of a wait allocates nothing.
        }
        let wait = &mut self.waits[place as usize];
        (wait.ticket, wait.since, wait.is_admitted, wait.outstanding) = (Some(ticket), since, false, 0);
        (wait.fresh, wait.frames) = (fresh, frames);
        let before = wait.want.near_bytes();
        wait.want.copy_from(want); // Into the memory of whoever had the place before.
        self.want_bytes += wait.want.near_bytes() - before;
        ticket
    }

    #[inline]
    fn get(&self, ticket: Ticket) -> Option<&Wait> {
        let wait = self.waits.get(place_of(ticket) as usize)?;
        (wait.ticket == Some(ticket)).then_some(wait)
    }

    #[inline]
    fn get_mut(&mut self, ticket: Ticket) -> Option<&mut Wait> {
        let wait = self.waits.get_mut(place_of(ticket) as usize)?;
        (wait.ticket == Some(ticket)).then_some(wait)
    }

    /// Whether it was there.
    fn remove(&mut self, ticket: Ticket) -> bool {
        let Some(wait) = self.get_mut(ticket) else { return false };
        wait.ticket = None;
        let frames = if wait.is_admitted { wait.frames } else { 0 };
        self.admitted_frames -= frames;
        self.vacant.push(place_of(ticket));
        true
    }

    fn near_bytes(&self) -> usize {
        self.waits.capacity() * size_of::<Wait>()
            + self.want_bytes
            + self.vacant.capacity() * size_of::<u32>()
    }
}

/// All waits of one pager.
#[derive(Default)]
pub(super) struct Waits {
    slots: Vec<Pending>,
    vacant: Vec<Slot>,
    /// Where a page's `Pending` is.
    places: IdMap<PageNo, Slot>,
    needed: VecDeque<Slot>,
    guesses: VecDeque<Slot>,
    waits: WaitTable,
    /// Waits that are not admitted, oldest first.
    queued: VecDeque<Ticket>,
    /// Waits for which every page has landed, but not enough frames are free.
    short_of_frames: VecDeque<Ticket>,
    woken: VecDeque<Ticket>,
    failed: IdMap<PageNo, PagerError>,
}

impl Waits {
    /// Makes room for so many more pages in flight, so that a trap allocates nothing.
    pub(super) fn prepare(&mut self, in_flight_max: usize) {
        self.places.reserve(2 * in_flight_max);
        self.slots.reserve(2 * in_flight_max);
        self.vacant.reserve(self.slots.capacity());
        self.failed.reserve(in_flight_max);
    }

    /// Begins a wait that takes so many frames, `fresh` of them free ones. It stands behind those that are not
    /// admitted.
    pub(super) fn begin(&mut self, frames: u32, fresh: u32, want: &PageSet, now: Instant) -> Ticket {
        let ticket = self.waits.insert(frames, fresh, want, now);
        // Landing allocates nothing: it may happen in a trap.
        self.woken.reserve(self.waits.waits.len());
        self.short_of_frames.reserve(self.waits.waits.len());
        self.queued.push_back(ticket);
        ticket
    }

    /// The oldest wait that is not admitted, if it fits into `frames_max` beside those that are; any wait fits alone.
    pub(super) fn next_to_admit(&self, frames_max: u32) -> Option<Ticket> {
        let &ticket = self.queued.front()?;
        let wait = self.waits.get(ticket).expect("a wait that is queued is a wait");
        let admitted = self.waits.admitted_frames;
        (admitted == 0 || admitted + wait.frames <= frames_max).then_some(ticket)
    }

    /// Admits a wait; answers its set, to be given back to [`Waits::begin_landing`] once every missing page is
    /// named by `need`.
    pub(super) fn admit(&mut self, ticket: Ticket) -> PageSet {
        match self.queued.front() {
            Some(&first) if first == ticket => drop(self.queued.pop_front()),
            _ => self.queued.retain(|&queued| queued != ticket),
        }
        let wait = self.waits.get_mut(ticket).expect("a wait that is queued is a wait");
        wait.is_admitted = true;
        let (frames, want) = (wait.frames, core::mem::take(&mut wait.want));
        self.waits.admitted_frames += frames;
        want
    }

    /// Says how many pages of the wait are missing.
    pub(super) fn begin_landing(&mut self, ticket: Ticket, outstanding: u32, want: PageSet) {
        let wait = self.waits.get_mut(ticket).expect("it has just been admitted");
        (wait.outstanding, wait.want) = (outstanding, want);
        if outstanding > 0 {
            return;
        }
        if wait.fresh > 0 {
            self.short_of_frames.push_back(ticket);
        } else {
            self.waits.remove(ticket);
            self.woken.push_back(ticket);
        }
    }

    /// Frames that the admitted waits take together.
    #[inline]
    pub(super) fn admitted_frames(&self) -> u32 {
        self.waits.admitted_frames
    }

    /// The set of a wait.
    pub(super) fn want(&self, ticket: Ticket) -> Option<&PageSet> {
        self.waits.get(ticket).map(|wait| &wait.want)
    }

    /// The page's place, made if it has none.
    #[inline]
    fn slot_of(&mut self, page: PageNo, now: Instant) -> Slot {
        let Waits { slots, vacant, places, .. } = self;
        *places.entry(page).or_insert_with(|| match vacant.pop() {
            Some(slot) => {
                let pending = &mut slots[slot.0 as usize];
                pending.rest.clear();
                (pending.page, pending.since, pending.first) = (page, now, None);
                (pending.needed, pending.in_flight) = (false, false);
                slot
            }
            None => {
                let rest = Vec::new();
                slots.push(Pending { page, needed: false, in_flight: false, since: now, first: None, rest });
                Slot(slots.len() as u32 - 1)
            }
        })
    }

    /// Takes a page's place from it. What stood there can be read until the next page comes.
    #[inline]
    fn vacate(&mut self, page: PageNo) -> Option<Slot> {
        let slot = self.places.remove(&page)?;
        self.slots[slot.0 as usize].in_flight = true; // No queue finds work in a vacant place.
        self.vacant.push(slot);
        Some(slot)
    }

    /// Asks for a page for `ticket`; a guess that is under way is promoted. `urgent` goes to the front.
    #[inline]
    pub(super) fn need(&mut self, page: PageNo, ticket: Ticket, urgent: bool, now: Instant) {
        let slot = self.slot_of(page, now);
        let pending = &mut self.slots[slot.0 as usize];
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
            self.needed.push_front(slot);
        } else if !pending.in_flight && !was_needed {
            self.needed.push_back(slot);
        }
    }

    /// Queues a guess unless the page is under way. Returns whether there is room for more.
    pub(super) fn guess(&mut self, page: PageNo, now: Instant) -> bool {
        if self.guesses.len() >= GUESSES_QUEUED_MAX {
            return false;
        }
        if !self.places.contains_key(&page) {
            let slot = self.slot_of(page, now);
            self.guesses.push_back(slot);
        }
        true
    }

    /// Notes that a page is fetched right now, outside the queues.
    pub(super) fn start_at_once(&mut self, page: PageNo, needed: bool, now: Instant) {
        let slot = self.slot_of(page, now);
        let pending = &mut self.slots[slot.0 as usize];
        pending.needed |= needed;
        pending.in_flight = true;
    }

    /// The needed page that has waited longest for a link; it stays queued.
    #[inline]
    pub(super) fn next_needed(&mut self) -> Option<(Slot, PageNo)> {
        loop {
            let slot = *self.needed.front()?;
            let pending = &self.slots[slot.0 as usize];
            if pending.needed && !pending.in_flight {
                return Some((slot, pending.page));
            }
            self.needed.pop_front();
        }
    }

    /// The guess that has waited longest for a link; it stays queued.
    #[inline]
    pub(super) fn next_guess(&mut self) -> Option<(Slot, PageNo)> {
        loop {
            let slot = *self.guesses.front()?;
            let pending = &self.slots[slot.0 as usize];
            if !pending.needed && !pending.in_flight {
                return Some((slot, pending.page));
            }
            self.guesses.pop_front();
        }
    }

    /// Forgets every guess that has not been started.
    pub(super) fn drop_guesses(&mut self) {
        while let Some((_, page)) = self.next_guess() {
            self.guesses.pop_front();
            self.vacate(page);
        }
    }

    pub(super) fn pending(&self, slot: Slot) -> &Pending {
        &self.slots[slot.0 as usize]
    }

    /// Notes that a link has the page now.
    #[inline]
    pub(super) fn start(&mut self, slot: Slot) {
        self.slots[slot.0 as usize].in_flight = true;
    }

    /// Marks a page under way as needed, so that its failure is not forgotten. Returns whether it had only
    /// been guessed.
    pub(super) fn promote(&mut self, page: PageNo) -> bool {
        let slot = *self.places.get(&page).expect("a page under way is pending");
        !core::mem::replace(&mut self.slots[slot.0 as usize].needed, true)
    }

    /// The page is here, or needs no fetch any more (`Ok`), or failed: wakes whom that concerns.
    #[inline]
    pub(super) fn settle(&mut self, page: PageNo, outcome: Result<(), PagerError>) -> Option<&Pending> {
        let slot = self.vacate(page)?;
        let Waits { slots, waits, woken, short_of_frames, failed, .. } = self;
        let pending = &slots[slot.0 as usize];
        // Who has been told of another page's failure already is not told of this one's.
        if let Err(error) = outcome
            && pending.needed
            && (pending.first.is_none() || pending.tickets().any(|ticket| waits.get_mut(ticket).is_some()))
            && failed.len() < FAILURES_MAX
        {
            failed.insert(page, error);
        }
        for ticket in pending.tickets() {
            let Some(wait) = waits.get_mut(ticket) else { continue };
            wait.outstanding -= 1;
            if outcome.is_err() || (wait.outstanding == 0 && wait.fresh == 0) {
                waits.remove(ticket);
                woken.push_back(ticket);
            } else if wait.outstanding == 0 {
                short_of_frames.push_back(ticket);
            }
        }
        Some(pending)
    }

    pub(super) fn has_failures(&self) -> bool {
        !self.failed.is_empty()
    }

    /// The failure of a page, once.
    pub(super) fn take_failure(&mut self, page: PageNo) -> Option<PagerError> {
        if self.failed.is_empty() { None } else { self.failed.remove(&page) }
    }

    /// Whether a page may fail without an allocation: it may happen in a trap.
    pub(super) fn has_room_for_failure(&self) -> bool {
        self.failed.len() < self.failed.capacity()
    }

    /// Far memory takes pages again: nobody is to hear that it does not.
    pub(super) fn forget_refusals(&mut self) {
        if !self.failed.is_empty() {
            self.failed.retain(|_, error| *error != PagerError::Refused);
        }
    }

    /// Ends a wait; a page that only it needed may still land.
    pub(super) fn cancel(&mut self, ticket: Ticket) {
        if self.waits.remove(ticket) {
            self.queued.retain(|&queued| queued != ticket);
            self.short_of_frames.retain(|&waiting| waiting != ticket);
        } else {
            self.woken.retain(|&woken| woken != ticket);
        }
    }

    /// Wakes, in order, the waits short of frames that `is_met` finds satisfied.
    pub(super) fn wake_fresh(&mut self, is_met: impl Fn(FreshWait<'_>) -> bool) {
        let Waits { short_of_frames, waits, woken, .. } = self;
        short_of_frames.retain(|ticket| {
            let wait = waits.get(*ticket).expect("a wait short of frames is a wait");
            let is_met = is_met(FreshWait { ticket: *ticket, fresh: wait.fresh, want: &wait.want });
            if is_met {
                waits.remove(*ticket);
                woken.push_back(*ticket);
            }
            !is_met
        });
    }

    /// Wakes the waits short of frames that began at `latest` or before, although there are none. Returns the
    /// fewest frames that one of them wants.
    pub(super) fn give_up_fresh(&mut self, latest: Instant) -> Option<u32> {
        let Waits { short_of_frames, waits, woken, .. } = self;
        let mut fewest = None;
        short_of_frames.retain(|&ticket| {
            let wait = waits.get(ticket).expect("a wait short of frames is a wait");
            if wait.since > latest {
                return true;
            }
            fewest = Some(fewest.map_or(wait.fresh, |fewest: u32| fewest.min(wait.fresh)));
            waits.remove(ticket);
            woken.push_back(ticket);
            false
        });
        fewest
    }

    /// Frames without which somebody cannot go on. Bounds: an estimate from above.
    pub(super) fn frames_wanted(&self) -> u32 {
        let fresh =
            |&ticket| self.waits.get(ticket).map_or(0, |wait: &Wait| wait.fresh + wait.want.len() as u32);
        let for_fresh = self.short_of_frames.iter().take(8).map(fresh).max().unwrap_or(0);
        self.needed.len() as u32 + for_fresh
    }

    /// Whether somebody is about to run.
    pub(super) fn has_woken(&self) -> bool {
        !self.woken.is_empty()
    }

    pub(super) fn has_fresh_waits(&self) -> bool {
        !self.short_of_frames.is_empty()
    }

    pub(super) fn poll_woken(&mut self) -> Option<Ticket> {
        self.woken.pop_front()
    }

    /// Units: bytes.
    pub(super) fn near_bytes(&self) -> usize {
        self.slots.capacity() * size_of::<Pending>()
            + self.places.allocation_size()
            + self.waits.near_bytes()
            + self.failed.allocation_size()
            + (self.needed.capacity() + self.guesses.capacity() + self.vacant.capacity()) * size_of::<Slot>()
            + (self.woken.capacity() + self.short_of_frames.capacity() + self.queued.capacity())
                * size_of::<Ticket>()
    }
}
