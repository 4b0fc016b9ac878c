//! Residency: which far pages are in frames, whoever maps them.
//!
//! ```text
//!  acquire ─► mapping ─► all resident: pin ─► Ready
//!                └──► waits ─► poll_transfer ─► link ─► handle_landed ─► poll_woken
//!  bytes, bytes_mut ─► mapping ─► frame            (access.rs)
//!                         └──► missing: resolve    (a trap, where there is an MMU)
//!  balance ─► dirty queue ─► poll_transfer(WriteBack); SIEVE victims ─► free list   (cleaner.rs)
//!  none | sequential | guided, unplanned faults ─► door: submit, wait, landed       (door.rs)
//! ```
//!
//! Frames are a plain pool. It never takes a frame that is pinned, held or in a link's hands, never waits but
//! for an unplanned touch or in a synchronous policy, and never touches a far address itself.

mod access;
mod cleaner;
mod door;
mod frames;
mod free;
mod moves;
mod refusal;
mod sieve;
mod waits;

use crate::link::{Landed, Link, Transfer};
use crate::mapping::{Entry, Mapping};
use crate::page::{FarAddr, Frame, FrameNo, Instant, PAGE_SIZE, PageNo, PageRange, PageSet};
use crate::pager::{Acquired, PageState, Pager, PagerError, PagerStats, Prefetch, Ticket};
use crate::residency::moves::{FETCHES_IN_FLIGHT_MAX, TRIMS_MAX, WRITE_BACKS_IN_FLIGHT_MAX};
use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::vec::Vec;
use door::Readahead;
use frames::{FrameState, FrameTable};
use refusal::Refusal;
use waits::Waits;

/// What an untouched page reads as.
pub(crate) static ZEROS: Frame = Frame([0; PAGE_SIZE]);

/// Latencies kept until the body drains them; more are dropped.
const LATENCIES_MAX: usize = 4096;

/// Pages that stay pinned for a wait that has lost too often.
struct Reservation {
    ticket: Ticket,
    /// Each is pinned once for it.
    pages: Vec<PageNo>,
    /// Free frames that nobody else's fetch may take.
    fresh: u32,
}

/// A pager over frames and a mapping.
pub struct Residency<M> {
    frames: &'static mut [Frame],
    mapping: M,
    pool: FrameTable,
    waits: Waits,
    reservation: Option<Reservation>,
    policy: Prefetch,
    door: Option<Box<dyn Link>>,
    /// Scratch for what the door is given, and for what it hands out.
    batch: Vec<Transfer>,
    landed: Vec<Landed>,
    /// The guide: the pages that were missing of the set that is being acquired, and how many of them have
    /// been asked for one by one.
    plan: Vec<PageNo>,
    planned: usize,
    readahead: Readahead,
    /// Fetches to be made once more: what landed was not what had been written back.
    second_tries: Vec<Transfer>,
    trims: VecDeque<PageRange>,
    /// Dirty frames that somebody asked to have cleaned.
    clean_first: VecDeque<FrameNo>,
    /// Write backs that may still be started to reach the cleaner's goal.
    cleaning_goal: u32,
    /// Pages whose frame was orphaned in the middle of a write back: none of them may be written back
    /// again before that has ended, lest the older content land last.
    orphan_write_backs: Vec<PageNo>,
    fetches_in_flight: u32,
    write_backs_in_flight: u32,
    /// After a failed write back none is started before this.
    write_backs_not_before: Instant,
    refusal: Refusal,
    latencies_ns: Vec<u64>,
    counters: PagerStats,
    now: Instant,
}

impl<M: Mapping> Residency<M> {
    /// A pager over an arena of frames; see [`SoftPager::new`](crate::SoftPager::new).
    /// # Panics
    /// If the arena has 2^30 frames or more.
    pub fn over(
        mapping: M,
        frames: &'static mut [Frame],
        budget_frames: u32,
        policy: Prefetch,
        door: Option<Box<dyn Link>>,
    ) -> Residency<M> {
        assert!(frames.len() < 1 << 30, "a page table entry has 30 bits for a frame");
        let mut pager = Residency {
            pool: FrameTable::new(frames.len() as u32, budget_frames),
            frames,
            mapping,
            waits: Waits::default(),
            reservation: None,
            policy,
            door,
            batch: Vec::new(),
            landed: Vec::new(),
            plan: Vec::new(),
            planned: 0,
            readahead: Readahead::default(),
            second_tries: Vec::new(),
            trims: VecDeque::new(),
            clean_first: VecDeque::new(),
            cleaning_goal: 0,
            orphan_write_backs: Vec::new(),
            fetches_in_flight: 0,
            write_backs_in_flight: 0,
            write_backs_not_before: Instant(0),
            refusal: Refusal::default(),
            latencies_ns: Vec::new(),
            counters: PagerStats::default(),
            now: Instant(0),
        };
        pager.prepare();
        pager
    }

    /// The mapping, for who touches through it.
    #[inline]
    pub fn mapping(&mut self) -> &mut M {
        &mut self.mapping
    }

    #[inline]
    pub(crate) fn frame(&self, frame: FrameNo) -> &Frame {
        self.mapping.frame(self.frames, frame)
    }

    #[inline]
    pub(crate) fn frame_mut(&mut self, frame: FrameNo) -> &mut Frame {
        self.mapping.frame_mut(self.frames, frame)
    }

    /// Makes room for all that a trap may have to note: it allocates nothing.
    fn prepare(&mut self) {
        if M::IS_MMU {
            self.mapping.prepare();
            self.waits.prepare(FETCHES_IN_FLIGHT_MAX as usize);
            self.pool.prepare();
            self.trims.reserve(TRIMS_MAX.saturating_sub(self.trims.len()));
            let moves = (FETCHES_IN_FLIGHT_MAX + WRITE_BACKS_IN_FLIGHT_MAX) as usize;
            self.batch.reserve(moves);
            self.landed.reserve(moves);
            self.second_tries.reserve(FETCHES_IN_FLIGHT_MAX as usize);
        }
    }

    /// Notes what the MMU has seen done to a resident page.
    #[inline]
    fn note_used(&mut self, page: PageNo, frame: FrameNo) {
        if M::IS_MMU && self.mapping.take_used(page).written {
            self.pool.mark_dirty(frame);
        }
    }

    /// Frames that one plan may ask for: the budget but for a sixteenth, which copies for held frames and
    /// transfers need.
    fn usable_frames(&self) -> u32 {
        let budget = self.pool.budget();
        budget.saturating_sub((budget / 16).clamp(1, 16))
    }

    /// Pins the resident pages of `want`.
    #[inline]
    fn pin_all(&mut self, want: &PageSet) {
        let Residency { mapping, pool, readahead, .. } = self;
        want.pages().for_each(|page| {
            if let Some(frame) = mapping.resident(page)
                && pool.pin(frame)
            {
                readahead.hit();
            }
        });
    }

    #[inline]
    fn unpin_all(&mut self, pages: impl Iterator<Item = PageNo>) {
        let Residency { mapping, pool, .. } = self;
        pages.for_each(|page| {
            if let Some((frame, used)) = mapping.take_resident(page) {
                if used.written {
                    pool.mark_dirty(frame);
                }
                pool.unpin(frame);
            }
        });
    }

    /// Makes `fresh` frames free, besides those of somebody else's reservation, by evicting clean ones.
    fn make_fresh(&mut self, fresh: u32) -> bool {
        let floor = fresh + self.reservation.as_ref().map_or(0, |reservation| reservation.fresh);
        if self.pool.free_count() + self.pool.evictable() < floor {
            return false;
        }
        while self.pool.free_count() < floor {
            // Frames beyond a shrunken budget are given up, not freed: they make nothing fresh.
            if !self.evict_one() {
                return false;
            }
        }
        true
    }

    /// Names the wait, and starts what is missing as soon as there is room for the whole set.
    #[cold]
    fn wait_for(
        &mut self,
        want: &PageSet,
        frames: u32,
        fresh: u32,
        reserve: bool,
        now: Instant,
    ) -> Result<Acquired, PagerError> {
        // All of them are told with the first: none is left for who asks when far memory is well again.
        if self.waits.has_failures() {
            let failures = want.pages().filter_map(|page| self.waits.take_failure(page));
            if let Some(error) = failures.reduce(|first, _| first) {
                Self::forsake(&self.mapping, &mut self.pool, want);
                return Err(error);
            }
        }
        if self.is_vain(want, fresh) {
            Self::forsake(&self.mapping, &mut self.pool, want);
            return Err(PagerError::Refused);
        }
        let ticket = self.waits.begin(frames, fresh, want, now);
        if reserve {
            self.reservation = Some(Reservation { ticket, pages: Vec::with_capacity(want.len()), fresh });
            self.admit(ticket, now);
        } else {
            self.admit_waits(now);
        }
        Ok(Acquired::Waiting(ticket))
    }

    /// Frames that the sets of all admitted waits may take. The rest is for those who run without a wait, and for
    /// what is pinned, held or dirty meanwhile.
    fn admitted_frames_max(&self) -> u32 {
        let usable = self.usable_frames();
        usable - usable / 4
    }

    /// Admits waits, oldest first, for as long as their whole sets fit.
    #[inline]
    fn admit_waits(&mut self, now: Instant) {
        while let Some(ticket) = self.waits.next_to_admit(self.admitted_frames_max()) {
            self.admit(ticket, now);
        }
    }

    /// Asks for the missing pages of a wait, and sees to it that those that are here stay.
    fn admit(&mut self, ticket: Ticket, now: Instant) {
        let mut reservation = self.reservation.take_if(|reservation| reservation.ticket == ticket);
        let want = self.waits.admit(ticket);
        let mut missing = 0;
        let Residency { mapping, pool, waits, .. } = self;
        want.pages().for_each(|page| match (mapping.get(page), &mut reservation) {
            (Entry::Untouched, _) => {}
            (Entry::Resident(frame), Some(reservation)) => {
                pool.pin(frame);
                reservation.pages.push(page);
            }
            (Entry::Resident(frame), None) => pool.expect(frame),
            (Entry::Remote(_) | Entry::Fetching(_), reservation) => {
                missing += 1;
                waits.need(page, ticket, reservation.is_some(), now);
            }
        });
        self.waits.begin_landing(ticket, missing, want);
        if reservation.is_some() {
            self.reservation = reservation;
        }
    }

    /// Nobody counts on these pages any more.
    fn forsake(mapping: &M, pool: &mut FrameTable, want: &PageSet) {
        want.pages().filter_map(|page| mapping.resident(page)).for_each(|frame| pool.forsake(frame));
    }

    fn end_reservation(&mut self) {
        if let Some(reservation) = self.reservation.take() {
            self.unpin_all(reservation.pages.into_iter());
        }
    }

    /// Pins what is here; `None` if something is missing or frames are short, and then nothing is pinned.
    #[inline]
    fn try_acquire(&mut self, want: &PageSet, missing: u32, fresh: u32) -> Option<Acquired> {
        if missing != 0 {
            return None;
        }
        self.pin_all(want);
        if fresh != 0 && !self.make_fresh(fresh) {
            self.unpin_all(want.pages());
            return None;
        }
        Some(Acquired::Ready)
    }
}

impl<M: Mapping> Pager for Residency<M> {
    fn acquire(
        &mut self,
        want: &PageSet,
        fresh: u32,
        reserve: bool,
        now: Instant,
    ) -> Result<Acquired, PagerError> {
        self.now = now;
        let (mut resident, mut missing) = (0, 0);
        let mapping = &self.mapping;
        want.pages().for_each(|page| match mapping.get(page) {
            Entry::Untouched => {}
            Entry::Resident(_) => resident += 1,
            Entry::Remote(_) | Entry::Fetching(_) => missing += 1,
        });
        if reserve {
            self.end_reservation();
        }
        if resident + missing + fresh > self.usable_frames() {
            return Err(PagerError::PlanTooLarge);
        }
        if let Some(ready) = self.try_acquire(want, missing, fresh) {
            return Ok(ready);
        }
        match self.policy {
            Prefetch::Ahead => self.wait_for(want, resident + missing + fresh, fresh, reserve, now),
            Prefetch::None | Prefetch::Sequential | Prefetch::Guided => self.acquire_waiting(want, fresh),
        }
    }

    #[inline]
    fn release(&mut self, want: &PageSet) {
        self.unpin_all(want.pages());
    }

    fn cancel(&mut self, ticket: Ticket) {
        if let Some(want) = self.waits.want(ticket) {
            Self::forsake(&self.mapping, &mut self.pool, want);
        }
        self.waits.cancel(ticket);
        if self.reservation.as_ref().is_some_and(|reservation| reservation.ticket == ticket) {
            self.end_reservation();
        }
    }

    fn prefetch(&mut self, guess: &PageSet, now: Instant) {
        self.now = now;
        if self.policy != Prefetch::Ahead {
            return;
        }
        for page in guess.pages() {
            if matches!(self.mapping.get(page), Entry::Remote(_)) && !self.waits.guess(page, now) {
                return;
            }
        }
    }

    fn state(&self, page: PageNo) -> PageState {
        match self.mapping.get(page) {
            Entry::Untouched => PageState::Untouched,
            Entry::Remote(_) => PageState::Remote,
            Entry::Fetching(_) => PageState::Fetching,
            Entry::Resident(frame) => match self.pool.meta(frame).state {
                FrameState::Dirty => PageState::Dirty,
                FrameState::Cleaning => PageState::Cleaning,
                _ if self.mapping.is_written(page) => PageState::Dirty,
                _ => PageState::Clean,
            },
        }
    }

    #[inline]
    fn resident(&self, addr: FarAddr, len: usize) -> Option<&[u8]> {
        let frame = self.mapping.resident(addr.page())?;
        Some(&self.frame(frame).0[addr.offset()..addr.offset() + len])
    }

    #[inline]
    fn bytes(&mut self, addr: FarAddr, len: usize) -> Result<&[u8], PagerError> {
        M::read(self, addr, len)
    }

    #[inline]
    fn bytes_mut(&mut self, addr: FarAddr, len: usize) -> Result<&mut [u8], PagerError> {
        M::write(self, addr, len)
    }

    fn page_overwrite(&mut self, page: PageNo) -> Result<&mut [u8], PagerError> {
        let frame = self.overwritable(page)?;
        Ok(&mut self.frame_mut(frame).0)
    }

    fn drop_pages(&mut self, range: PageRange) {
        self.drop_range(range);
    }

    #[inline]
    fn hold(&mut self, page: PageNo) -> Option<FrameNo> {
        match self.mapping.get(page) {
            Entry::Resident(frame) => {
                self.pool.hold(frame);
                Some(frame)
            }
            Entry::Untouched => Some(FrameNo::ZERO),
            Entry::Remote(_) | Entry::Fetching(_) => None,
        }
    }

    #[inline]
    fn unhold(&mut self, frame: FrameNo) {
        if frame != FrameNo::ZERO && self.pool.unhold(frame) {
            self.pool.free(frame);
        }
    }

    #[inline]
    fn held(&self, frame: FrameNo) -> &[u8] {
        if frame == FrameNo::ZERO {
            return &ZEROS.0;
        }
        debug_assert!(self.pool.meta(frame).holds > 0, "{frame:?} is not held");
        &self.frame(frame).0
    }

    #[inline]
    fn held_frames(&self) -> u32 {
        self.pool.held()
    }

    fn poll_transfer(&mut self, now: Instant) -> Option<Transfer> {
        self.now = now;
        self.next_transfer()
    }

    fn handle_landed(&mut self, landed: Landed, now: Instant) {
        self.now = now;
        if let Some(since) = self.land(landed)
            && self.latencies_ns.len() < LATENCIES_MAX
        {
            self.latencies_ns.push(now.0.saturating_sub(since.0));
        }
    }

    #[inline]
    fn poll_woken(&mut self) -> Option<Ticket> {
        self.waits.poll_woken()
    }

    fn balance(&mut self, now: Instant) {
        self.now = now;
        self.prepare();
        self.keep_reserve();
        if M::IS_MMU {
            self.zero_ahead();
        }
    }

    fn set_budget(&mut self, frames: u32) {
        self.pool.set_budget(frames);
    }

    fn poll_discard(&mut self) -> Option<FrameNo> {
        let frame = self.pool.poll_discard();
        if frame.is_some() {
            self.mapping.settle();
        }
        frame
    }

    fn evict(&mut self, range: PageRange) -> u32 {
        self.evict_range(range)
    }

    fn evict_all(&mut self) -> u32 {
        self.evict_everything()
    }

    fn frames(&mut self) -> &mut [Frame] {
        self.mapping.settle();
        self.frames
    }

    fn stats(&self) -> PagerStats {
        let near_bytes = self.mapping.near_bytes() + self.pool.near_bytes() + self.waits.near_bytes();
        PagerStats {
            frames_total: u64::from(self.pool.budget()),
            frames_free: u64::from(self.pool.free_count()),
            frames_dirty: u64::from(self.pool.dirty()),
            frames_pinned: u64::from(self.pool.busy()),
            near_bytes: near_bytes as u64,
            ..self.counters
        }
    }

    fn reset_stats(&mut self) {
        self.counters = PagerStats::default();
    }

    fn drain_fetch_latencies(&mut self, into: &mut Vec<u64>) {
        into.append(&mut self.latencies_ns);
    }
}
