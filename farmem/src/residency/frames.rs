//! The frame table: what each frame holds, which are free, and which goes next.
//!
//! ```text
//!            take            handle_landed          bytes_mut
//! retired ◄► free ──► fetching ──► clean ◄────────────────► dirty ◄─► cleaning
//!              ▲                     │ victim (SIEVE)          next_dirty (FIFO, second chance)
//!              └─────────────────────┘
//! ```
//!
//! Sixteen bytes a frame and eight for its place in the order of eviction, for frames that have been used at
//! least once. An *orphan* is a frame whose page has left it while a reply holds it or a link still moves it;
//! it is free when both are over. Knows no page table: who takes a victim tells the page table itself.

use super::free::FreeFrames;
use super::sieve::Sieve;
use crate::mapping::Checksum;
use crate::page::{FrameNo, PageNo};
use alloc::collections::VecDeque;
use alloc::vec::Vec;

/// What a frame is doing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum FrameState {
    /// Beyond the budget: holds nothing, and its memory may be given back.
    Retired,
    Free,
    /// Belongs to a link until the page lands.
    Fetching,
    Clean,
    Dirty,
    /// A link reads it.
    Cleaning,
}

/// Touched again since it landed: the hand passes it over once.
pub(super) const REFERENCED: u8 = 1;
/// A waiter that has not run yet counts on it: worth two rounds, and its first touch is no reference.
pub(super) const AWAITED: u8 = 1 << 1;
/// Changed while it was being written back.
pub(super) const REDIRTY: u8 = 1 << 2;
/// Of a frame that belongs to a link: what landed in it first was not what had been written back.
pub(super) const SECOND_TRY: u8 = REDIRTY;
/// Has lost its page.
pub(super) const ORPHAN: u8 = 1 << 3;
/// Stands in the dirty queue.
const QUEUED: u8 = 1 << 4;
/// Changed again since it became dirty: the cleaner passes it over once.
pub(super) const WRITTEN: u8 = 1 << 5;
/// Far memory holds an (older or equal) copy of the page.
pub(super) const FAR_COPY: u8 = 1 << 6;
/// Fetched on a guess and not touched yet.
pub(super) const GUESSED: u8 = 1 << 7;

/// Frames that hold zeros ahead of need: as many as the reserve of free frames has at least.
const ZEROED_MAX: usize = 16;
/// Frames passed over for one write back because they were written again: some 100 ns of looking.
const SECOND_CHANCES_MAX: u32 = 64;

/// One frame.
#[derive(Clone, Copy, Debug)]
pub(super) struct FrameMeta {
    pub(super) page: PageNo,
    /// Of the content in far memory; meaningless while the frame is dirty.
    pub(super) checksum: Checksum,
    /// Replies that read the frame.
    pub(super) holds: u32,
    /// Commands that need the page here.
    pub(super) pins: u16,
    pub(super) state: FrameState,
    pub(super) flags: u8,
}

const _: () = assert!(size_of::<FrameMeta>() == 16);

impl FrameMeta {
    const FREE: FrameMeta = FrameMeta {
        page: PageNo(0),
        checksum: Checksum::NONE,
        holds: 0,
        pins: 0,
        state: FrameState::Free,
        flags: 0,
    };

    #[inline]
    pub(super) fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    #[inline]
    pub(super) fn is_busy(&self) -> bool {
        self.pins != 0 || self.holds != 0
    }

    #[inline]
    pub(super) fn is_evictable(&self) -> bool {
        self.state == FrameState::Clean && !self.is_busy() && !self.has(ORPHAN)
    }

    fn is_awaited(&self) -> bool {
        self.is_evictable() && self.has(AWAITED)
    }

    fn is_dirty(&self) -> bool {
        matches!(self.state, FrameState::Dirty | FrameState::Cleaning) && !self.has(ORPHAN)
    }
}

/// All frames, their free list, the order of eviction and the queue of dirty frames.
pub(super) struct FrameTable {
    metas: Vec<FrameMeta>,
    arena_frames: u32,
    budget_frames: u32,
    free: FreeFrames,
    /// Free frames that hold zeros.
    zeroed: Vec<FrameNo>,
    /// Frames that were wanted so since the last was made: what nobody writes to costs nothing.
    zeroed_wanted: u32,
    retired: Vec<FrameNo>,
    /// How many of `retired`, from its start, have been given out by `poll_discard`.
    discarded: usize,
    /// All frames from this number on are retired, or have never been used.
    in_use_end: u32,
    sieve: Sieve,
    dirty_queue: VecDeque<FrameNo>,
    evictable: u32,
    /// Of the evictable ones, those whose waiter has not run.
    awaited: u32,
    busy: u32,
    held: u32,
    dirty: u32,
}

impl FrameTable {
    pub(super) fn new(arena_frames: u32, budget_frames: u32) -> FrameTable {
        let mut table = FrameTable {
            metas: Vec::new(),
            arena_frames,
            budget_frames: 0,
            free: FreeFrames::new(),
            zeroed: Vec::new(),
            zeroed_wanted: ZEROED_MAX as u32,
            retired: Vec::new(),
            discarded: 0,
            in_use_end: 0,
            sieve: Sieve::new(),
            dirty_queue: VecDeque::new(),
            evictable: 0,
            awaited: 0,
            busy: 0,
            held: 0,
            dirty: 0,
        };
        table.set_budget(budget_frames);
        table
    }

    #[inline]
    pub(super) fn meta(&self, frame: FrameNo) -> &FrameMeta {
        &self.metas[frame.0 as usize]
    }

    /// Changes a frame and keeps the gauges true.
    #[inline]
    pub(super) fn update<R>(&mut self, frame: FrameNo, change: impl FnOnce(&mut FrameMeta) -> R) -> R {
        let meta = &mut self.metas[frame.0 as usize];
        let before = *meta;
        let result = change(meta);
        let after = *meta;
        let moved =
            |gauge: u32, is: fn(&FrameMeta) -> bool| gauge + u32::from(is(&after)) - u32::from(is(&before));
        self.evictable = moved(self.evictable, FrameMeta::is_evictable);
        self.awaited = moved(self.awaited, FrameMeta::is_awaited);
        self.busy = moved(self.busy, FrameMeta::is_busy);
        self.dirty = moved(self.dirty, FrameMeta::is_dirty);
        result
    }

    /// Keeps the gauges true for a pin or a hold that is about to be added.
    #[inline]
    fn begin_use(&mut self, frame: FrameNo) -> &mut FrameMeta {
        let meta = &mut self.metas[frame.0 as usize];
        if !meta.is_busy() {
            self.busy += 1;
            self.awaited -= u32::from(meta.is_awaited());
            self.evictable -= u32::from(meta.is_evictable());
        }
        meta
    }

    /// Keeps the gauges true for a pin or a hold that was taken back.
    #[inline]
    fn end_use(&mut self, frame: FrameNo) -> &FrameMeta {
        let meta = &self.metas[frame.0 as usize];
        if !meta.is_busy() {
            self.busy -= 1;
            self.evictable += u32::from(meta.is_evictable());
            self.awaited += u32::from(meta.is_awaited());
        }
        meta
    }

    /// Pins a resident page's frame. Returns whether this was the first touch of a guess.
    #[inline]
    pub(super) fn pin(&mut self, frame: FrameNo) -> bool {
        let meta = self.begin_use(frame);
        assert!(meta.pins != u16::MAX, "pins of {:?} were never released", meta.page);
        meta.pins += 1;
        if meta.flags & (AWAITED | GUESSED) == 0 {
            meta.flags |= REFERENCED;
            return false;
        }
        let guessed = meta.has(GUESSED);
        meta.flags &= !(AWAITED | GUESSED);
        guessed
    }

    /// Takes back one pin; none is left to take if the page was dropped and written anew meanwhile.
    #[inline]
    pub(super) fn unpin(&mut self, frame: FrameNo) {
        let meta = &mut self.metas[frame.0 as usize];
        if meta.pins == 0 {
            return;
        }
        meta.pins -= 1;
        self.end_use(frame);
    }

    /// Notes that an admitted wait counts on the frame of a resident page: others go first.
    #[inline]
    pub(super) fn expect(&mut self, frame: FrameNo) {
        let meta = &mut self.metas[frame.0 as usize];
        self.awaited += u32::from(meta.is_evictable() && !meta.has(AWAITED));
        meta.flags |= AWAITED | REFERENCED;
    }

    /// Nobody counts on the frame any more.
    pub(super) fn forsake(&mut self, frame: FrameNo) {
        self.update(frame, |meta| meta.flags &= !AWAITED);
    }

    /// Adds a hold.
    #[inline]
    pub(super) fn hold(&mut self, frame: FrameNo) {
        let meta = self.begin_use(frame);
        meta.holds = meta.holds.checked_add(1).expect("2^32 replies fit no memory");
        let is_first = meta.holds == 1;
        self.held += u32::from(is_first);
    }

    /// Takes back a hold. Returns whether the frame is an orphan that nobody uses any more.
    #[inline]
    pub(super) fn unhold(&mut self, frame: FrameNo) -> bool {
        let meta = &mut self.metas[frame.0 as usize];
        meta.holds = meta.holds.checked_sub(1).expect("a hold is let go once");
        if meta.holds > 0 {
            return false;
        }
        self.held -= 1;
        let meta = self.end_use(frame);
        meta.has(ORPHAN) && meta.state == FrameState::Clean
    }

    /// Notes that the frame's content is newer than far memory.
    pub(super) fn mark_dirty(&mut self, frame: FrameNo) {
        match self.meta(frame).state {
            FrameState::Dirty => self.metas[frame.0 as usize].flags |= WRITTEN,
            FrameState::Cleaning => self.metas[frame.0 as usize].flags |= REDIRTY,
            _ => self.set_dirty(frame),
        }
    }

    /// Makes the frame dirty, whatever it was, and queues it for the cleaner.
    pub(super) fn set_dirty(&mut self, frame: FrameNo) {
        let queued = self.update(frame, |meta| {
            meta.state = FrameState::Dirty;
            meta.flags &= !(REDIRTY | WRITTEN);
            let queued = meta.has(QUEUED);
            meta.flags |= QUEUED;
            queued
        });
        if !queued {
            self.dirty_queue.push_back(frame);
        }
    }

    /// Makes a frame that was taken the dirty home of `page`, with the pins and the flags that the page had.
    #[inline]
    pub(super) fn move_in(&mut self, frame: FrameNo, page: PageNo, pins: u16, flags: u8) {
        let meta = &mut self.metas[frame.0 as usize];
        debug_assert!(meta.state == FrameState::Free && !meta.is_busy(), "{frame:?} was not taken");
        let is_queued = meta.has(QUEUED);
        let (checksum, state) = (Checksum::NONE, FrameState::Dirty);
        *meta = FrameMeta { page, checksum, holds: 0, pins, state, flags: flags | QUEUED };
        self.busy += u32::from(pins > 0);
        self.dirty += 1;
        self.sieve.insert(frame);
        if !is_queued {
            self.dirty_queue.push_back(frame);
        }
    }

    /// The next frame to write back: the one that has been dirty longest, but for those that are pinned,
    /// were written again since (each is passed over once), or whose page `is_blocked`.
    pub(super) fn next_dirty(&mut self, is_blocked: impl Fn(PageNo) -> bool) -> Option<FrameNo> {
        let mut chances = SECOND_CHANCES_MAX;
        for _ in 0..2 * self.dirty_queue.len() {
            let frame = self.dirty_queue.pop_front()?;
            let meta = &mut self.metas[frame.0 as usize];
            if meta.state != FrameState::Dirty || meta.has(ORPHAN) {
                meta.flags &= !QUEUED;
                continue;
            }
            if meta.pins > 0 || is_blocked(meta.page) {
                self.dirty_queue.push_back(frame);
                continue;
            }
            if meta.has(WRITTEN) && chances > 0 {
                chances -= 1;
                meta.flags &= !WRITTEN;
                self.dirty_queue.push_back(frame);
                continue;
            }
            meta.flags &= !QUEUED;
            return Some(frame);
        }
        None
    }

    /// Gives a frame that was taken to a link, for `page`.
    #[inline]
    pub(super) fn lend(&mut self, frame: FrameNo, page: PageNo, checksum: Checksum) {
        let meta = &mut self.metas[frame.0 as usize];
        debug_assert!(meta.state == FrameState::Free && !meta.is_busy(), "{frame:?} was not taken");
        (meta.page, meta.checksum, meta.state) = (page, checksum, FrameState::Fetching);
    }

    /// The page has landed in its frame, which nobody uses yet.
    #[inline]
    pub(super) fn settle(&mut self, frame: FrameNo, flags: u8) {
        let meta = &mut self.metas[frame.0 as usize];
        debug_assert!(meta.state == FrameState::Fetching && !meta.is_busy(), "{frame:?} was not lent");
        meta.state = FrameState::Clean;
        meta.flags = meta.flags & !SECOND_TRY | flags;
        self.evictable += 1;
        self.awaited += u32::from(flags & AWAITED != 0);
        self.sieve.insert(frame);
    }

    /// Frees the frame of a page that goes to where it came from. Answers the page and its checksum there.
    ///
    /// # Panics
    /// If the frame is dirty or in use.
    pub(super) fn evict(&mut self, frame: FrameNo) -> (PageNo, Checksum) {
        let meta = &mut self.metas[frame.0 as usize];
        assert!(meta.is_evictable(), "only clean, idle frames are evicted");
        let gone = (meta.page, meta.checksum);
        self.evictable -= 1;
        self.awaited -= u32::from(meta.has(AWAITED));
        *meta = FrameMeta { flags: meta.flags & QUEUED, ..FrameMeta::FREE };
        self.sieve.remove(frame);
        self.give_back(frame);
        gone
    }

    /// Takes a frame that loses its page out of that order.
    pub(super) fn leave(&mut self, frame: FrameNo) {
        self.sieve.remove(frame);
    }

    /// Picks the clean, idle frame that SIEVE finds coldest, none that is awaited if those are to be spared.
    /// The caller tells the page table and frees it.
    pub(super) fn victim(&mut self, spare_awaited: bool) -> Option<FrameNo> {
        if self.evictable == if spare_awaited { self.awaited } else { 0 } {
            return None;
        }
        // An awaited frame turns referenced, then plain: at most three rounds until something gives.
        for _ in 0..3 * self.metas.len() + 1 {
            let frame = self.sieve.step().expect("an evictable frame has a place");
            let meta = &mut self.metas[frame.0 as usize];
            if !meta.is_evictable() || (spare_awaited && meta.has(AWAITED)) {
                continue;
            }
            if meta.has(AWAITED) {
                self.awaited -= 1;
                meta.flags = meta.flags & !AWAITED | REFERENCED;
            } else if meta.has(REFERENCED) {
                meta.flags &= !REFERENCED;
            } else {
                return Some(frame);
            }
        }
        unreachable!("{} frames are evictable and the hand met none", self.evictable);
    }

    /// Frames that can be taken without evicting anything.
    #[inline]
    pub(super) fn free_count(&self) -> u32 {
        self.free.len() + self.zeroed.len() as u32 + self.budget_frames.saturating_sub(self.live())
    }

    /// Takes a free frame, one that holds zeros only if there is no other.
    pub(super) fn take(&mut self) -> Option<FrameNo> {
        self.take_unzeroed().or_else(|| self.zeroed.pop())
    }

    /// The free frame that [`FrameTable::take_zeroed`] would take.
    #[inline]
    pub(super) fn zeroed(&self) -> Option<FrameNo> {
        self.zeroed.last().copied()
    }

    /// Takes a free frame that holds zeros.
    #[inline]
    pub(super) fn take_zeroed(&mut self) -> Option<FrameNo> {
        self.zeroed_wanted += 1;
        self.zeroed.pop()
    }

    /// A free frame for the caller to fill with zeros and give to [`FrameTable::keep_zeroed`]; `None` if none is
    /// wanted, or there are no others.
    #[inline]
    pub(super) fn take_to_zero(&mut self) -> Option<FrameNo> {
        if self.zeroed_wanted == 0 {
            return None;
        }
        self.zeroed_wanted = self.zeroed_wanted.min((ZEROED_MAX - self.zeroed.len()) as u32);
        let wanted_less_one = self.zeroed_wanted.checked_sub(1)?;
        let frame = self.take_unzeroed()?;
        self.zeroed_wanted = wanted_less_one;
        Some(frame)
    }

    /// Takes a frame back that holds zeros now.
    pub(super) fn keep_zeroed(&mut self, frame: FrameNo) {
        self.zeroed.push(frame);
    }

    fn take_unzeroed(&mut self) -> Option<FrameNo> {
        if let Some(frame) = self.free.take() {
            return Some(frame);
        }
        if self.live() >= self.budget_frames {
            return None;
        }
        if let Some(frame) = self.retired.pop() {
            self.discarded = self.discarded.min(self.retired.len());
            self.metas[frame.0 as usize].state = FrameState::Free;
            self.in_use_end = self.in_use_end.max(frame.0 + 1);
            return Some(frame);
        }
        let frame = FrameNo(self.metas.len() as u32);
        self.metas.push(FrameMeta::FREE);
        self.in_use_end = frame.0 + 1;
        Some(frame)
    }

    /// Gives a frame back: to the free list, or out of the pager if there are more than the budget.
    pub(super) fn free(&mut self, frame: FrameNo) {
        self.sieve.remove(frame);
        self.update(frame, |meta| {
            assert!(
                meta.state != FrameState::Free && meta.holds == 0,
                "{frame:?} was freed twice or while held"
            );
            let queued = meta.flags & QUEUED;
            *meta = FrameMeta { flags: queued, ..FrameMeta::FREE };
        });
        self.give_back(frame);
    }

    /// Puts a frame that holds nothing where it belongs.
    #[inline]
    fn give_back(&mut self, frame: FrameNo) {
        if self.is_surplus(frame) { self.retire(frame) } else { self.free.insert(frame) }
    }

    /// Takes a free frame out of the pager.
    #[cold]
    fn retire(&mut self, frame: FrameNo) {
        self.metas[frame.0 as usize].state = FrameState::Retired;
        self.retired.push(frame);
    }

    /// Whether a frame that becomes free is given up. Those with the highest numbers go first, so that the frames in
    /// use stay side by side and huge pages can back them.
    #[inline]
    fn is_surplus(&self, frame: FrameNo) -> bool {
        let over_budget = self.over_budget();
        over_budget > 0 && (frame.0 >= self.budget_frames || over_budget > self.slack())
    }

    /// Frames that may be in use beyond a shrunken budget until those with the highest numbers are idle. Bounds: a 64th
    /// of the budget, so that a small one is kept to the frame.
    pub(super) fn slack(&self) -> u32 {
        self.budget_frames / 64
    }

    /// The frames beyond the budget's number that may be in use, highest first.
    pub(super) fn surplus(&mut self) -> impl Iterator<Item = FrameNo> + use<> {
        while self.in_use_end > 0 && self.metas[self.in_use_end as usize - 1].state == FrameState::Retired {
            self.in_use_end -= 1;
        }
        (self.budget_frames..self.in_use_end).rev().map(FrameNo)
    }

    pub(super) fn set_budget(&mut self, frames: u32) {
        self.budget_frames = frames.min(self.arena_frames);
        for frame in self.surplus() {
            if self.over_budget() == 0 {
                break;
            }
            if self.free.remove(frame) {
                self.retire(frame);
            }
        }
        while self.over_budget() > self.slack()
            && let Some(frame) = self.free.take().or_else(|| self.zeroed.pop())
        {
            self.retire(frame);
        }
        // Reserved, not touched: costs address space only, and never moves the table in the middle of work.
        let missing = (self.budget_frames as usize).saturating_sub(self.metas.len());
        self.metas.reserve_exact(missing);
        self.sieve.reserve(self.budget_frames as usize);
    }

    /// Makes room for every frame in every list, so that a trap allocates nothing.
    pub(super) fn prepare(&mut self) {
        let frames = self.budget_frames.max(self.live()) as usize;
        self.free.reserve(frames.max(self.metas.len()));
        self.zeroed.reserve(ZEROED_MAX.saturating_sub(self.zeroed.len()));
        self.retired.reserve(frames.saturating_sub(self.retired.len()));
        self.dirty_queue.reserve(frames.saturating_sub(self.dirty_queue.len()));
    }

    /// The next retired frame that has not been given out since it retired.
    pub(super) fn poll_discard(&mut self) -> Option<FrameNo> {
        let frame = *self.retired.get(self.discarded)?;
        self.discarded += 1;
        Some(frame)
    }

    /// Frames in use or free, but not retired.
    #[inline]
    fn live(&self) -> u32 {
        (self.metas.len() - self.retired.len()) as u32
    }

    /// Frames that must still be given up to be within the budget.
    pub(super) fn over_budget(&self) -> u32 {
        self.live().saturating_sub(self.budget_frames)
    }

    #[inline]
    pub(super) fn budget(&self) -> u32 {
        self.budget_frames
    }

    #[inline]
    pub(super) fn evictable(&self) -> u32 {
        self.evictable
    }

    /// Frames that are evictable, but that somebody is about to use.
    #[inline]
    pub(super) fn awaited(&self) -> u32 {
        self.awaited
    }

    /// Frames that are evictable and that nobody is about to use.
    #[inline]
    pub(super) fn spare(&self) -> u32 {
        self.evictable - self.awaited
    }

    /// Frames that are pinned or held.
    pub(super) fn busy(&self) -> u32 {
        self.busy
    }

    /// Frames that are held.
    #[inline]
    pub(super) fn held(&self) -> u32 {
        self.held
    }

    /// Frames that are dirty or being cleaned.
    pub(super) fn dirty(&self) -> u32 {
        self.dirty
    }

    /// Units: bytes.
    pub(super) fn near_bytes(&self) -> usize {
        self.metas.len() * size_of::<FrameMeta>()
            + self.sieve.near_bytes()
            + self.free.near_bytes()
            + self.zeroed.capacity() * size_of::<FrameNo>()
            + (self.retired.capacity() + self.dirty_queue.capacity()) * size_of::<FrameNo>()
    }
}
