//! The only place that waits: unplanned faults and the policies none, sequential and guided.
//!
//! ```text
//! none        needed ─► wait ─► next
//! sequential  needed + window of following pages ─► wait for needed ─► next
//! guided      needed + the rest of the plan ─► wait for all
//! ```
//!
//! Whatever else lands meanwhile is handled as if the body had brought it. Measures no latency: no clock
//! runs in here. May run in a trap: nothing here allocates once it is warm.

use super::Residency;
use super::moves::FETCHES_IN_FLIGHT_MAX;
use crate::link::{LinkError, TransferKind};
use crate::mapping::{Entry, Mapping, Resolved, Touch};
use crate::page::{FrameNo, PageNo, PageRange, PageSet};
use crate::pager::{Acquired, PagerError, Prefetch};

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

impl<M: Mapping> Residency<M> {
    /// Pins all of `want`, waiting for what is missing as the policy says.
    pub(super) fn acquire_waiting(&mut self, want: &PageSet, fresh: u32) -> Result<Acquired, PagerError> {
        let Residency { mapping, plan, .. } = self;
        let is_missing = |page: &PageNo| matches!(mapping.get(*page), Entry::Remote(_) | Entry::Fetching(_));
        plan.clear();
        plan.extend(want.pages().filter(is_missing));
        self.pin_all(want);
        let brought = self.bring_plan();
        let asked = core::mem::take(&mut self.planned);
        let mut plan = core::mem::take(&mut self.plan);
        if let Err(error) = brought {
            // The last page asked for is the one that failed; it and what follows have no pin yet.
            let left = &plan[asked - 1..];
            self.unpin_all(want.pages().filter(|page| left.binary_search(page).is_err()));
            return Err(error);
        }
        plan.clear();
        self.plan = plan;
        while !self.make_fresh(fresh) {
            if let Err(error) = self.clean_now() {
                self.unpin_all(want.pages());
                return Err(error);
            }
        }
        Ok(Acquired::Ready)
    }

    /// Brings and pins the missing pages of the plan one after the other.
    fn bring_plan(&mut self) -> Result<(), PagerError> {
        while let Some(&page) = self.plan.get(self.planned) {
            self.planned += 1;
            M::bring(self, page)?;
            if let Some(frame) = self.mapping.resident(page)
                && self.pool.pin(frame)
            {
                self.readahead.hit();
            }
        }
        Ok(())
    }

    /// Makes the page under a touch that found no frame resident; the touch is then made again.
    ///
    /// The page that is *needed* goes on the wire before those that the guide (what is left of the plan that
    /// is being acquired) *guesses* at, so that a wrong guess costs bandwidth, never latency. May run in a trap:
    /// allocates nothing and touches no far address.
    /// # Errors
    /// `Link`, `ChecksumMismatch`, `NoFrame`, `Refused` of the fetch.
    pub fn resolve(&mut self, page: PageNo, touch: Touch) -> Result<Resolved, PagerError> {
        match self.mapping.get(page) {
            Entry::Resident(_) => {} // Landed while its transfer was waited for.
            Entry::Untouched if touch == Touch::Read => return Ok(Resolved::Zeros),
            Entry::Untouched => self.zero_fill(page).map(|_| ())?,
            Entry::Remote(_) | Entry::Fetching(_) => {
                let is_planned = self.planned > 0 && self.plan.get(self.planned - 1) == Some(&page);
                self.counters.unplanned_faults += u64::from(!is_planned);
                let Some(frame) = self.bring(page)? else { return Ok(Resolved::Zeros) };
                if !is_planned {
                    // Who waited for it is here, and pins nothing.
                    self.pool.forsake(frame);
                }
            }
        }
        Ok(Resolved::Mapped)
    }

    /// A touch that no plan had named.
    #[cold]
    pub(super) fn fault(&mut self, page: PageNo) -> Result<FrameNo, PagerError> {
        self.counters.unplanned_faults += 1;
        let frame = self.bring(page)?;
        let frame = frame.expect("a page that was far does not become untouched by waiting for it");
        self.pool.forsake(frame);
        Ok(frame)
    }

    /// Waits until `page` is here; `None` if it is untouched.
    fn bring(&mut self, page: PageNo) -> Result<Option<FrameNo>, PagerError> {
        let mut is_tried = false;
        loop {
            match self.mapping.get(page) {
                Entry::Untouched => return Ok(None),
                Entry::Resident(frame) => {
                    self.waits.take_failure(page);
                    return Ok(Some(frame));
                }
                Entry::Remote(_) if is_tried => {
                    return Err(self.waits.take_failure(page).unwrap_or(PagerError::Link(LinkError::Io)));
                }
                Entry::Remote(_) => self.submit_fetch(page)?,
                Entry::Fetching(_) => {
                    if self.waits.promote(page) {
                        self.readahead.hit();
                    }
                }
            }
            is_tried = true;
            if matches!(self.mapping.get(page), Entry::Fetching(_)) && !self.wait_at_door() {
                return Err(PagerError::Link(LinkError::Down));
            }
            // Still on its way: wait on, whatever else has landed.
        }
    }

    /// Sends for `page`, and for what the policy guesses behind it in the same batch.
    fn submit_fetch(&mut self, page: PageNo) -> Result<(), PagerError> {
        if self.door.is_none() {
            return Err(PagerError::Link(LinkError::Down));
        }
        self.free_one_now()?;
        let Entry::Remote(checksum) = self.mapping.get(page) else {
            return Ok(()); // Landed, or left for the link, while a frame was made free.
        };
        let frame = self.pool.take().expect("a frame was made free above");
        self.waits.start_at_once(page, true, self.now);
        let needed = self.start_fetch(page, checksum, frame, TransferKind::FetchNeeded);
        self.batch.push(needed);
        match self.policy {
            Prefetch::Sequential => {
                let window = self.readahead.next_window(page);
                let first = PageNo(page.0.saturating_add(1));
                let count = (window - 1).min(self.mapping.far_pages().saturating_sub(first.0));
                self.add_guesses(PageRange { first, count }.pages());
            }
            Prefetch::Guided => {
                let plan = core::mem::take(&mut self.plan);
                self.add_guesses(plan[self.planned..].iter().copied());
                self.plan = plan;
            }
            Prefetch::None | Prefetch::Ahead => {}
        }
        self.submit_batch();
        Ok(())
    }

    fn add_guesses(&mut self, guesses: impl Iterator<Item = PageNo>) {
        for page in guesses {
            let Entry::Remote(checksum) = self.mapping.get(page) else { continue };
            if self.fetches_in_flight >= FETCHES_IN_FLIGHT_MAX {
                return;
            }
            let Some(frame) = self.take_frame() else { return };
            self.waits.start_at_once(page, false, self.now);
            let guess = self.start_fetch(page, checksum, frame, TransferKind::FetchGuess);
            self.batch.push(guess);
        }
    }

    /// Hands the batch to the link.
    fn submit_batch(&mut self) {
        if let Some(door) = &mut self.door
            && !self.batch.is_empty()
        {
            self.mapping.settle();
            door.submit(&self.batch, self.frames, self.now);
        }
        self.batch.clear();
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
        if self.is_refused() {
            return Err(PagerError::Refused);
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
                return Err(PagerError::Refused);
            }
            is_submitted &= self.write_backs_in_flight + self.fetches_in_flight > 0;
        }
    }

    fn submit_write_backs(&mut self) -> bool {
        while self.batch.len() < CLEAN_NOW_MAX
            && let Some(frame) = self.next_to_clean()
        {
            let write_back = self.start_write_back(frame);
            self.batch.push(write_back);
        }
        let is_any = !self.batch.is_empty();
        self.submit_batch();
        is_any
    }

    /// Waits until something lands, and handles it. False if nothing was in flight.
    fn wait_at_door(&mut self) -> bool {
        self.batch.append(&mut self.second_tries);
        self.submit_batch();
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
