//! What execute does to pages: read, change, overwrite, drop.
//!
//! A held frame is never changed: a write to its page moves the page to a new frame, and the old one lives
//! on as an orphan. A page that a link reads may be changed, and is dirty again when it lands.

use super::Residency;
use super::frames::{FAR_COPY, FrameMeta, FrameState, ORPHAN, REFERENCED};

use crate::mapping::{Entry, Mapping};
use crate::page::{FrameNo, PageNo, PageRange};
use crate::pager::PagerError;

/// Frames filled with zeros in one turn: with some 100 ns each, a microsecond.
const ZEROED_A_CALL_MAX: usize = 8;

impl<M: Mapping> Residency<M> {
    /// The frame to read `page` from; `None` if it is untouched.
    #[inline]
    pub(crate) fn readable(&mut self, page: PageNo) -> Result<Option<FrameNo>, PagerError> {
        match self.mapping.get(page) {
            Entry::Resident(frame) => Ok(Some(frame)),
            Entry::Untouched => Ok(None),
            Entry::Remote(_) | Entry::Fetching(_) => self.fault(page).map(Some),
        }
    }

    /// The frame to change `page` in.
    #[inline]
    pub(crate) fn writable(&mut self, page: PageNo) -> Result<FrameNo, PagerError> {
        let frame = match self.mapping.get(page) {
            Entry::Resident(frame) => frame,
            Entry::Untouched => return self.zero_fill(page),
            Entry::Remote(_) | Entry::Fetching(_) => self.fault(page)?,
        };
        if self.pool.meta(frame).holds > 0 {
            return self.copy_on_write(page, frame);
        }
        self.pool.mark_dirty(frame);
        Ok(frame)
    }

    /// Gives an untouched page a frame of zeros.
    pub(super) fn zero_fill(&mut self, page: PageNo) -> Result<FrameNo, PagerError> {
        let frame = match self.pool.take_zeroed() {
            Some(frame) => frame,
            None => {
                let frame = self.take_frame_now()?;
                self.frame_mut(frame).0.fill(0);
                frame
            }
        };
        self.settle_in(page, frame, 0, 0);
        Ok(frame)
    }

    /// Most of what [`Residency::resolve`] is asked for, and all that most traps need: the first write to an
    /// untouched page, with a frame of zeros at hand. False, and nothing is done, if it is anything else.
    #[inline]
    pub fn first_write(&mut self, page: PageNo) -> bool {
        let Some(frame) = self.pool.zeroed() else { return false };
        if !self.mapping.settle_untouched(page, frame) {
            return false;
        }
        self.pool.take_zeroed();
        self.pool.move_in(frame, page, 0, 0);
        true
    }

    /// Fills free frames with zeros for first writes to come, a few at a time. Only where those are traps: elsewhere
    /// nobody waits any less.
    pub(super) fn zero_ahead(&mut self) {
        for _ in 0..ZEROED_A_CALL_MAX {
            let Some(frame) = self.pool.take_to_zero() else { return };
            self.frame_mut(frame).0.fill(0);
            self.pool.keep_zeroed(frame);
        }
    }

    /// Moves the page out of a held frame, so that it may be changed where it is mapped. To be called before
    /// a write that no table is asked about.
    /// # Errors
    /// `NoFrame`, `Refused`.
    #[inline]
    pub fn unshare(&mut self, page: PageNo) -> Result<(), PagerError> {
        if self.pool.held() > 0
            && let Some(frame) = self.mapping.resident(page)
            && self.pool.meta(frame).holds > 0
        {
            self.copy_on_write(page, frame)?;
        }
        Ok(())
    }

    /// The frame to write all of `page` into; what it held is gone.
    pub(super) fn overwritable(&mut self, page: PageNo) -> Result<FrameNo, PagerError> {
        let old = self.mapping.get(page);
        if let Entry::Resident(frame) = old
            && self.pool.meta(frame).holds == 0
        {
            self.pool.mark_dirty(frame);
            return Ok(frame);
        }
        let frame = self.take_frame_now()?;
        // Taking a frame may land transfers, so look again.
        match self.mapping.get(page) {
            Entry::Untouched => self.settle_in(page, frame, 0, 0),
            Entry::Resident(old) => self.replace(page, old, frame),
            Entry::Remote(_) | Entry::Fetching(_) => {
                self.leave_far(page);
                self.settle_in(page, frame, 0, FAR_COPY);
            }
        }
        Ok(frame)
    }

    /// Moves `page` out of a held frame into a new one.
    #[cold]
    fn copy_on_write(&mut self, page: PageNo, held: FrameNo) -> Result<FrameNo, PagerError> {
        let frame = self.take_frame_now()?;
        self.mapping.copy_frame(self.frames, held, frame);
        self.replace(page, held, frame);
        Ok(frame)
    }

    /// Makes `frame` the page's dirty frame, with the pins of `old`, which is given up.
    fn replace(&mut self, page: PageNo, old: FrameNo, frame: FrameNo) {
        let FrameMeta { pins, flags, .. } = *self.pool.meta(old);
        self.give_up(old);
        self.settle_in(page, frame, pins, flags & (FAR_COPY | REFERENCED));
    }

    /// Makes a taken frame the dirty home of `page`.
    fn settle_in(&mut self, page: PageNo, frame: FrameNo, pins: u16, flags: u8) {
        self.pool.move_in(frame, page, pins, flags);
        self.mapping.set(page, Entry::Resident(frame));
    }

    /// Takes the page's frame away from it: free, or an orphan while a reply or a link still uses it.
    fn give_up(&mut self, frame: FrameNo) {
        self.pool.leave(frame);
        let meta = self.pool.update(frame, |meta| {
            meta.pins = 0;
            meta.flags |= ORPHAN;
            if meta.state == FrameState::Dirty {
                meta.state = FrameState::Clean;
            }
            *meta
        });
        match meta.state {
            FrameState::Cleaning => self.orphan_write_backs.push(meta.page),
            FrameState::Fetching => {}
            _ if meta.holds > 0 => {}
            _ => self.pool.free(frame),
        }
    }

    /// Ends a page's life in far memory or on its way from there; whoever waited for it needs no fetch.
    fn leave_far(&mut self, page: PageNo) {
        if let Entry::Fetching(frame) = self.mapping.get(page) {
            self.give_up(frame);
        }
        self.mapping.set(page, Entry::Untouched);
        self.waits.settle(page, Ok(()));
        self.waits.take_failure(page);
        self.counters.pages_dropped += 1;
    }

    pub(super) fn drop_range(&mut self, range: PageRange) {
        let end = range.first.0 + range.count;
        let mut next = range.first;
        while let Some(page) = self.mapping.first_touched(PageRange { first: next, count: end - next.0 }) {
            self.drop_page(page);
            next = PageNo(page.0 + 1);
        }
    }

    fn drop_page(&mut self, page: PageNo) {
        let Entry::Resident(frame) = self.mapping.get(page) else {
            self.leave_far(page);
            self.queue_trim(page);
            return;
        };
        let meta = *self.pool.meta(frame);
        self.give_up(frame);
        self.mapping.set(page, Entry::Untouched);
        self.counters.pages_dropped += 1;
        // While it is still being written back, its landing asks for the trim.
        if meta.has(FAR_COPY) && meta.state != FrameState::Cleaning {
            self.queue_trim(page);
        }
    }
}
