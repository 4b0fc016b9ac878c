//! Transfers that have ended and wait to be polled: for links that move a page while it is submitted.
//!
//! Refuses to know how long anything takes: whatever is pushed here is over.

use farmem::{Instant, Landed, LinkError, Transfer};

/// What has ended since the last poll, in order.
#[derive(Default)]
pub(crate) struct Ended {
    landed: Vec<Landed>,
    since: Instant,
}

impl Ended {
    /// Records the end of a transfer that was submitted at `now`.
    #[inline]
    pub fn push(&mut self, transfer: Transfer, result: Result<(), LinkError>, now: Instant) {
        if self.landed.is_empty() {
            self.since = now;
        }
        self.landed.push(Landed { transfer, result });
    }

    /// Moves everything to `landed`; keeps the memory.
    #[inline]
    pub fn drain_into(&mut self, landed: &mut Vec<Landed>) {
        landed.append(&mut self.landed);
    }

    /// When the oldest ended, if there is one.
    #[inline]
    pub fn due(&self) -> Option<Instant> {
        (!self.landed.is_empty()).then_some(self.since)
    }

    /// How many wait to be polled.
    #[inline]
    pub fn len(&self) -> usize {
        self.landed.len()
    }
}
