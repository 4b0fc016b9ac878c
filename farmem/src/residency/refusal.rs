//! Far memory that takes no pages: a full node, or one that is gone.
//!
//! ```text
//!   write back fails ─► tried again ─► ... fails 32 times and for 250 ms, none succeeds ─► certain
//!                                                              one succeeds ─► forgotten
//!   certain: who needs a frame that only a write back could free is told so, at once
//! ```
//!
//! Refuses to give up a dirty page: they stay local, and are written back when far memory takes them again.

use super::Residency;
use crate::mapping::{Entry, Mapping};
use crate::page::{Instant, PageSet};
use crate::pager::PagerError;

/// Failures in a row that are no accident: half of what may be in flight.
const FAILURES_MIN: u32 = 32;
/// How long they last at least: what a switch or a busy node may take. Units: nanoseconds.
const PATIENCE_NS: u64 = 250_000_000;

/// What is known of failed write backs since the last one that succeeded.
#[derive(Default)]
pub(super) struct Refusal {
    failures: u32,
    since: Instant,
    /// Whether nobody is to wait for a write back.
    pub(super) is_certain: bool,
}

impl Refusal {
    fn note_failure(&mut self, now: Instant) {
        if self.failures == 0 {
            self.since = now;
        }
        self.failures = self.failures.saturating_add(1);
        self.is_certain = self.failures >= FAILURES_MIN && now.0.saturating_sub(self.since.0) >= PATIENCE_NS;
    }
}

impl<M: Mapping> Residency<M> {
    /// A write back has landed: well, or not. Who waits for frames in vain is woken to hear so.
    pub(super) fn note_write_back(&mut self, is_taken: bool) {
        if is_taken {
            self.refusal = Refusal::default();
            return;
        }
        self.refusal.note_failure(self.now);
        if !self.refusal.is_certain {
            return;
        }
        self.waits.wake_short_of_frames();
        let kept = self.reservation.as_ref().map_or(0, |reservation| reservation.fresh);
        if self.pool.free_count() + self.pool.evictable() <= kept {
            while let Some((_, page)) = self.waits.next_needed() {
                self.waits.settle(page, Err(PagerError::Refused));
            }
        }
    }

    /// Whether a wait for this set could end without a write back.
    pub(super) fn has_frames_for(&self, want: &PageSet, fresh: u32) -> bool {
        let of_want = |page| match self.mapping.get(page) {
            Entry::Remote(_) => 1,
            // It is not to be evicted for its own neighbours.
            Entry::Resident(frame) => u32::from(self.pool.meta(frame).is_evictable()),
            Entry::Untouched | Entry::Fetching(_) => 0,
        };
        let wanted = fresh + want.pages().map(of_want).sum::<u32>();
        let kept = self.reservation.as_ref().map_or(0, |reservation| reservation.fresh);
        self.pool.free_count() + self.pool.evictable() >= wanted + kept
    }
}
