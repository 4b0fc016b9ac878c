//! Far memory that takes no pages: a full node, or one that is gone.
//!
//! ```text
//!   write back fails ─► tried again ─► ... fails 32 times and for 250 ms, none succeeds ─► certain
//!                                     (tried on, even if nobody wants a frame)  one succeeds ─► forgotten
//!   certain: who needs a frame that only a write back could free is told so, at once
//!   some fail, some succeed (one node of several): who finds no frame for 2 s is told so
//! ```
//!
//! Refuses to give up a dirty page: they stay local, and are written back when far memory takes them again.

use super::Residency;
use crate::link::LinkError;
use crate::mapping::{Entry, Mapping};
use crate::page::{Instant, PageSet};
use crate::pager::PagerError;

/// Failures in a row that are no accident: half of what may be in flight.
const FAILURES_MIN: u32 = 32;
/// What a failure counts for which the link has waited in vain for its deadline: two of them are no accident.
const FAILURES_DOWN: u32 = FAILURES_MIN / 2;
/// How long they last at least: what a switch or a busy node may take. Units: nanoseconds.
const PATIENCE_NS: u64 = 250_000_000;
/// How long anybody waits for frames while write backs fail: twice the deadline of a link. Units: nanoseconds.
const WAIT_NS_MAX: u64 = 2_000_000_000;

/// What is known of failed write backs since the last one that succeeded.
#[derive(Default)]
pub(super) struct Refusal {
    failures: u32,
    since: Instant,
    /// Whether nobody is to wait for a write back.
    is_certain: bool,
    /// Who wants so many fresh frames and does not find them has waited in vain already, until then.
    vain_fresh: u32,
    vain_until: Instant,
}

impl Refusal {
    fn note_failure(&mut self, error: LinkError, now: Instant) {
        if self.failures == 0 {
            self.since = now;
        }
        let weight = if error == LinkError::Down { FAILURES_DOWN } else { 1 };
        self.failures = self.failures.saturating_add(weight);
        self.is_certain = self.failures >= FAILURES_MIN && now.0.saturating_sub(self.since.0) >= PATIENCE_NS;
    }

    fn is_vain(&self, fresh: u32, now: Instant) -> bool {
        self.is_certain || (now < self.vain_until && fresh >= self.vain_fresh)
    }

    /// Waits that began then or before are given up.
    fn given_up(&self, now: Instant) -> Option<Instant> {
        if self.is_certain { Some(now) } else { now.0.checked_sub(WAIT_NS_MAX).map(Instant) }
    }
}

impl<M: Mapping> Residency<M> {
    /// A write back has landed: well, or not. Who waits for frames in vain is woken to hear so.
    pub(super) fn note_write_back(&mut self, result: Result<(), LinkError>) {
        let Err(error) = result else {
            if self.refusal.failures > 0 {
                self.refusal.failures = 0;
                self.refusal.is_certain = false;
                self.waits.forget_refusals();
            }
            return;
        };
        self.refusal.note_failure(error, self.now);
        let Some(latest) = self.refusal.given_up(self.now) else { return };
        if let Some(fresh) = self.waits.give_up_fresh(latest) {
            self.refusal.vain_fresh = fresh;
            self.refusal.vain_until = Instant(self.now.0 + PATIENCE_NS);
        }
        while self.frames_at_hand() == 0
            && let Some((slot, page)) = self.waits.next_needed()
            && self.waits.pending(slot).since <= latest
            && (!M::IS_MMU || self.waits.has_room_for_failure())
        {
            self.waits.settle(page, Err(PagerError::Refused));
        }
    }

    /// Whether nobody is to wait for a write back.
    pub(super) fn is_refused(&self) -> bool {
        self.refusal.is_certain
    }

    /// Whether a wait for this set would be for a write back, and in vain.
    pub(super) fn is_vain(&self, want: &PageSet, fresh: u32) -> bool {
        let of_want = |page| match self.mapping.get(page) {
            Entry::Remote(_) => 1,
            // It is not to be evicted for its own neighbours.
            Entry::Resident(frame) => u32::from(self.pool.meta(frame).is_evictable()),
            Entry::Untouched | Entry::Fetching(_) => 0,
        };
        self.refusal.is_vain(fresh, self.now)
            && self.frames_at_hand() < fresh + want.pages().map(of_want).sum::<u32>()
    }

    /// Frames that are free or can be evicted, but for those that are kept for a reservation.
    fn frames_at_hand(&self) -> u32 {
        let kept = self.reservation.as_ref().map_or(0, |reservation| reservation.fresh);
        (self.pool.free_count() + self.pool.evictable()).saturating_sub(kept + self.pool.over_budget())
    }
}
