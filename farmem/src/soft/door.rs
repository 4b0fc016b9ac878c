//! The only place that waits: unplanned faults and the policies none, sequential and guided.
//!
//! ```text
//! none        needed ─► wait ─► next
//! sequential  needed + window of following pages ─► wait for needed ─► next
//! guided      needed + the rest of the plan ─► wait for all
//! ```
//!
//! Whatever else lands meanwhile is handled as if the body had brought it. Measures no latency: no clock
//! runs in here.

use super::SoftPager;
use super::moves::FETCHES_IN_FLIGHT_MAX;
use super::table::Entry;
use crate::link::{LinkError, Transfer, TransferKind};
use crate::page::{FrameNo, PageNo, PageRange, PageSet};
use crate::pager::{Acquired, PagerError, Prefetch};
use alloc::vec::Vec;

/// The widest readahead, the needed page included: Linux' default for swap (`vm.page-cluster` = 3).
const WINDOW_PAGES_MAX: u32 = 8;
/// Frames cleaned at once when a command cannot go on without one.
const CLEAN_NOW_MAX: usize = 16;

/// The readahead window.
///
/// Source: `__swapin_nr_pages` of Linux' mm/swap_state.c, where hits in the last window widen the next
/// and a window never shrinks to less than half of the last.
#[derive(Default)]
pub(super) struct Readahead {
    previous: u32,
    window: u32,
    hits: u32,
}

impl Readahead {
    /// A page that was read ahead is touched for the first time.
    #[inline]
    pub(super) fn hit(&mut self) {
        self.hits += 1;
    }

    /// The window for a miss of `page`. Units: pages, the needed one included.
    fn next_window(&mut self, page: PageNo) -> u32 {
        let hits = core::mem::take(&mut self.hits);
        let is_adjacent = page.0.abs_diff(self.previous) == 1;
        let wished = match hits {
            0 if is_adjacent => 2,
            0 => 1,
            _ => (hits.min(WINDOW_PAGES_MAX) + 2).next_power_of_two().max(4),
        };
        self.previous = page.0;
        self.window = wished.min(WINDOW_PAGES_MAX).max(self.window / 2);
        self.window
    }
}

impl SoftPager {
    /// Pins all of `want`, waiting for what is missing as the policy says.
    pub(super) fn acquire_waiting(&mut self, want: &PageSet, fresh: u32) -> Result<Acquired, PagerError> {
        let is_missing =
            |page: &PageNo| matches!(self.table.get(*page), Entry::Remote(_) | Entry::Fetching(_));
        let missing: Vec<PageNo> = want.pages().filter(is_missing).collect();
        self.pin_all(want);
        for (done, &page) in missing.iter().enumerate() {
            let guesses = if self.policy == Prefetch::Guided { &missing[done + 1..] } else { &[] };
            match self.bring(page, guesses) {
                Ok(Some(frame)) => {
                    if self.pool.pin(frame) {
                        self.readahead.hit();
                    }
                }
                Ok(None) => {}
                Err(error) => {
                    let left = &missing[done..];
                    self.unpin_all(want.pages().filter(|page| left.binary_search(page).is_err()));
                    return Err(error);
                }
            }
        }
        while !self.make_fresh(fresh) {
            if let Err(error) = self.clean_now() {
                self.unpin_all(want.pages());
                return Err(error);
            }
        }
        Ok(Acquired::Ready)
    }

    /// A touch that no plan had named.
    #[cold]
    pub(super) fn fault(&mut self, page: PageNo) -> Result<FrameNo, PagerError> {
        self.counters.unplanned_faults += 1;
        let frame = self.bring(page, &[])?;
        Ok(frame.expect("a page that was far does not become untouched by waiting for it"))
    }

    /// Waits until `page` is here; `None` if it is untouched.
    fn bring(&mut self, page: PageNo, guesses: &[PageNo]) -> Result<Option<FrameNo>, PagerError> {
        let mut is_tried = false;
        loop {
            match self.table.get(page) {
                Entry::Untouched => return Ok(None),
                Entry::Resident(frame) => {
                    self.waits.take_failure(page);
                    return Ok(Some(frame));
                }
                Entry::Remote(_) if is_tried => {
                    return Err(self.waits.take_failure(page).unwrap_or(PagerError::Link(LinkError::Io)));
                }
                Entry::Remote(_) => self.submit_fetch(page, guesses)?,
                Entry::Fetching(_) => {
                    if self.waits.promote(page) {
                        self.readahead.hit();
                    }
                }
            }
            is_tried = true;
            if matches!(self.table.get(page), Entry::Fetching(_)) && !self.wait_at_door() {
                return Err(PagerError::Link(LinkError::Down));
            }
            // Still on its way: wait on, whatever else has landed.
        }
    }

    /// Sends for `page`, and for what the policy guesses behind it in the same batch.
    fn submit_fetch(&mut self, page: PageNo, guesses: &[PageNo]) -> Result<(), PagerError> {
        if self.door.is_none() {
            return Err(PagerError::Link(LinkError::Down));
        }
        self.free_one_now()?;
        let Entry::Remote(checksum) = self.table.get(page) else {
            return Ok(()); // Landed, or left for the link, while a frame was made free.
        };
        let mut batch: Vec<Transfer> = Vec::with_capacity(1 + guesses.len());
        let frame = self.pool.take().expect("a frame was made free above");
        self.waits.start_at_once(page, true, self.now);
        batch.push(self.start_fetch(page, checksum, frame, TransferKind::FetchNeeded));
        if self.policy == Prefetch::Sequential {
            let window = self.readahead.next_window(page);
            let first = PageNo(page.0.saturating_add(1));
            let count = (window - 1).min(self.table.far_pages().saturating_sub(first.0));
            self.add_guesses(&mut batch, PageRange { first, count }.pages());
        } else {
            self.add_guesses(&mut batch, guesses.iter().copied());
        }
        let door = self.door.as_mut().expect("looked at above");
        door.submit(&batch, self.frames, self.now);
        Ok(())
    }

    fn add_guesses(&mut self, batch: &mut Vec<Transfer>, guesses: impl Iterator<Item = PageNo>) {
        for page in guesses {
            let Entry::Remote(checksum) = self.table.get(page) else { continue };
            if self.fetches_in_flight >= FETCHES_IN_FLIGHT_MAX {
                return;
            }
            let Some(frame) = self.take_frame() else { return };
            self.waits.start_at_once(page, false, self.now);
            batch.push(self.start_fetch(page, checksum, frame, TransferKind::FetchGuess));
        }
    }

    /// A frame for a command that runs and cannot wait its turn.
    pub(super) fn take_frame_now(&mut self) -> Result<FrameNo, PagerError> {
        self.free_one_now()?;
        Ok(self.pool.take().expect("a frame was made free above"))
    }

    fn free_one_now(&mut self) -> Result<(), PagerError> {
        while self.pool.free_count() == 0 {
            if !self.evict_one() {
                self.clean_now()?;
            }
        }
        Ok(())
    }

    /// Waits for a frame that can be evicted: a guess that lands, or a write back, sent now if need be.
    #[cold]
    fn clean_now(&mut self) -> Result<(), PagerError> {
        if self.door.is_none() {
            return Err(PagerError::NoFrame);
        }
        let errors = self.counters.write_back_errors;
        let at_hand = self.pool.evictable() + self.pool.free_count();
        let mut is_submitted = self.write_backs_in_flight + self.fetches_in_flight > 0;
        loop {
            if !is_submitted && !self.submit_write_backs() {
                return Err(PagerError::NoFrame);
            }
            // The body may have polled transfers that it has not submitted: then send others.
            is_submitted = self.wait_at_door();
            if self.pool.evictable() + self.pool.free_count() > at_hand {
                return Ok(());
            }
            if self.counters.write_back_errors > errors {
                return Err(PagerError::NoFrame);
            }
            is_submitted &= self.write_backs_in_flight + self.fetches_in_flight > 0;
        }
    }

    fn submit_write_backs(&mut self) -> bool {
        let mut batch = Vec::with_capacity(CLEAN_NOW_MAX);
        while batch.len() < CLEAN_NOW_MAX
            && let Some(frame) = self.next_to_clean()
        {
            batch.push(self.start_write_back(frame));
        }
        if let Some(door) = &mut self.door {
            door.submit(&batch, self.frames, self.now);
        }
        !batch.is_empty()
    }

    /// Waits until something lands, and handles it. False if nothing was in flight.
    fn wait_at_door(&mut self) -> bool {
        let Some(door) = &mut self.door else { return false };
        let mut landed = core::mem::take(&mut self.landed);
        door.wait_landed(self.frames, &mut landed);
        let has_landed = !landed.is_empty();
        for landed in landed.drain(..) {
            self.land(landed);
        }
        self.landed = landed;
        has_landed
    }
}
