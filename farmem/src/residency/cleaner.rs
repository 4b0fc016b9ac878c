//! Frames are made free here: eviction down to a reserve, cleaning ahead of need, a shrinking budget.
//!
//! Evicts clean, idle frames only, and no more than a batch a call; a write back is only ever asked for
//! here and leaves through `poll_transfer`.

use super::Residency;
use super::frames::{AWAITED, FrameState};
use super::moves::WRITE_BACKS_IN_FLIGHT_MAX;
use crate::mapping::{Entry, Mapping};
use crate::page::{FrameNo, PageNo, PageRange};

/// Frames evicted a call, or looked at to be given up: with some tens of ns each, a few microseconds.
const EVICTIONS_A_CALL_MAX: u32 = 64;

impl<M: Mapping> Residency<M> {
    /// Frames to keep free: 1/64 of the budget, at least 16, but never more than a quarter.
    pub(super) fn reserve_goal(&self) -> u32 {
        let budget = self.pool.budget();
        (budget / 64).max(16).min(budget / 4)
    }

    /// One round of background work.
    pub(super) fn keep_reserve(&mut self) {
        let mut evictions_left = EVICTIONS_A_CALL_MAX;
        let reserve = self.reserve_goal();
        if self.pool.over_budget() > 0 {
            self.give_up_highest();
        }
        while evictions_left > 0
            && (self.pool.over_budget() > self.pool.slack() || self.pool.free_count() < reserve)
            && let Some(frame) = self.coldest(true)
        {
            self.evict_frame(frame);
            evictions_left -= 1;
        }
        self.plan_cleaning(reserve);
        self.wake_fresh_waits();
    }

    /// Gives up frames beyond a shrunken budget, highest numbers first; those that are dirty are cleaned first.
    fn give_up_highest(&mut self) {
        for frame in self.pool.surplus().take(EVICTIONS_A_CALL_MAX as usize) {
            if self.pool.over_budget() == 0 {
                return;
            }
            let meta = *self.pool.meta(frame);
            let is_gone = meta.is_evictable() && !meta.has(AWAITED) && self.evict_if_idle(meta.page, frame);
            let may_clean = self.clean_first.len() < EVICTIONS_A_CALL_MAX as usize;
            if !is_gone && may_clean && self.pool.meta(frame).state == FrameState::Dirty {
                self.clean_first.push_back(frame);
            }
        }
    }

    /// Sets how many write backs are due.
    ///
    /// Nothing is cleaned while an eighth of the frames is free: without pressure it would move bytes for
    /// nothing. Under pressure at most a quarter of the frames stays dirty.
    fn plan_cleaning(&mut self, reserve: u32) {
        let budget = self.pool.budget();
        let free = self.pool.free_count();
        let cleaning = self.write_backs_in_flight;
        let too_dirty =
            if free < budget / 8 { self.pool.dirty().saturating_sub(budget / 4 + cleaning) } else { 0 };
        // What landed for somebody who has not run is left alone, and counts for nothing.
        let at_hand = free + self.pool.spare() + cleaning;
        let wanted = reserve.max(self.frames_wanted()) + self.pool.over_budget();
        // Far memory that takes no page is tried all the same: else nobody would learn that it does again.
        let probe = u32::from(self.is_refused() && cleaning == 0);
        let short = wanted.saturating_sub(at_hand).max(probe);
        self.cleaning_goal = self.cleaning_goal.max(too_dirty.max(short).min(WRITE_BACKS_IN_FLIGHT_MAX));
        if self.pool.dirty() == cleaning {
            self.cleaning_goal = 0;
        }
    }

    /// Frames without which somebody cannot go on, those kept free for a reservation included.
    pub(super) fn frames_wanted(&self) -> u32 {
        self.waits.frames_wanted() + self.reservation.as_ref().map_or(0, |reservation| reservation.fresh)
    }

    /// Whether what an admitted wait counts on is spared. Frames that are awaited beyond what was admitted are left
    /// over from waits whose clients want something else by now.
    fn spares_awaited(&self) -> bool {
        self.pool.awaited() <= self.waits.admitted_frames()
    }

    /// A free frame for a wait's page, without taking one that another wait counts on: then none of those that are
    /// admitted loses what has landed for it.
    pub(super) fn take_spare_frame(&mut self) -> Option<FrameNo> {
        while self.pool.free_count() == 0 {
            let frame = self.coldest(self.spares_awaited())?;
            self.evict_frame(frame);
        }
        self.pool.take()
    }

    /// A free frame, by eviction if there is none.
    pub(super) fn take_frame(&mut self) -> Option<FrameNo> {
        while self.pool.free_count() == 0 {
            if !self.evict_one() {
                return None;
            }
        }
        self.pool.take()
    }

    /// Gives up the coldest clean, idle frame; one that is awaited only if there is no other.
    pub(super) fn evict_one(&mut self) -> bool {
        let Some(frame) = self.coldest(true).or_else(|| self.coldest(false)) else { return false };
        self.evict_frame(frame);
        true
    }

    /// The frame that goes next, after a look at what the MMU knows: a page that was written is dirty, and one
    /// that was touched without a pin gets another round.
    fn coldest(&mut self, spare_awaited: bool) -> Option<FrameNo> {
        loop {
            let frame = self.pool.victim(spare_awaited)?;
            if !M::IS_MMU {
                return Some(frame);
            }
            // Each round forgets what it sees: at most two for each frame.
            let used = self.mapping.take_used(self.pool.meta(frame).page);
            if used.written {
                self.pool.mark_dirty(frame);
            } else if !used.accessed {
                return Some(frame);
            }
        }
    }

    /// Evicts the frame of a resident page if it is clean and idle, after a look at what the MMU knows. Whether it did.
    fn evict_if_idle(&mut self, page: PageNo, frame: FrameNo) -> bool {
        self.note_used(page, frame);
        let is_idle = self.pool.meta(frame).is_evictable();
        if is_idle {
            self.evict_frame(frame);
        }
        is_idle
    }

    fn evict_frame(&mut self, frame: FrameNo) {
        let (page, checksum) = self.pool.evict(frame);
        self.mapping.set(page, Entry::Remote(checksum));
        self.counters.pages_evicted += 1;
    }

    pub(super) fn evict_range(&mut self, range: PageRange) -> u32 {
        let end = range.first.0 + range.count;
        let mut next = range.first;
        let mut evicted = 0;
        while let Some(page) = self.mapping.first_touched(PageRange { first: next, count: end - next.0 }) {
            if let Entry::Resident(frame) = self.mapping.get(page) {
                let is_gone = self.evict_if_idle(page, frame);
                evicted += u32::from(is_gone);
                let meta = self.pool.meta(frame);
                if !is_gone && meta.state == FrameState::Dirty && meta.pins == 0 {
                    self.clean_first.push_back(frame);
                }
            }
            next = PageNo(page.0 + 1);
        }
        evicted
    }

    pub(super) fn evict_everything(&mut self) -> u32 {
        let mut evicted = 0;
        while self.evict_one() {
            evicted += 1;
        }
        self.cleaning_goal = self.pool.dirty() - self.write_backs_in_flight.min(self.pool.dirty());
        evicted
    }

    /// Wakes the waits whose pages have landed and for which enough frames are free or can be freed.
    pub(super) fn wake_fresh_waits(&mut self) {
        if !self.waits.has_fresh_waits() {
            return;
        }
        let usable_frames = self.usable_frames();
        let Residency { pool, mapping, waits, reservation, .. } = self;
        waits.wake_fresh(|wait| {
            // The budget has shrunk below it meanwhile: it is to ask again, and hear so.
            let touched =
                wait.want.pages().filter(|&page| mapping.get(page) != Entry::Untouched).count() as u32;
            if touched + wait.fresh > usable_frames {
                return true;
            }
            // What the wait itself will pin is not to be evicted for it.
            let own =
                |page: &PageNo| mapping.resident(*page).is_some_and(|frame| pool.meta(frame).is_evictable());
            let own = wait.want.pages().filter(own).count() as u32;
            let others = reservation.as_ref().filter(|reservation| reservation.ticket != wait.ticket);
            let floor = wait.fresh + others.map_or(0, |reservation| reservation.fresh);
            pool.free_count() + pool.evictable() >= floor + own + pool.over_budget()
        });
    }
}
