//! The driver: moves pages between the engine and the link, once a turn of the loop.
//!
//! ```text
//!   balance ─► poll_transfer ... ─► one batch ─► link ─► landed ─► engine
//! ```
//!
//! The twin of the Linux body's driver. Refuses to wait.

use alloc::vec::Vec;
use engine::{Engine, Now};
use farmem::{Instant, Landed, Link, Transfer};

/// Transfers of one batch; the rest goes out in the next round.
const BATCH_MAX: usize = 1024;

/// What moves the pages.
pub struct Driver<L> {
    link: L,
    batch: Vec<Transfer>,
    landed: Vec<Landed>,
}

impl<L: Link> Driver<L> {
    /// A driver of `link`.
    pub fn new(link: L) -> Driver<L> {
        Driver { link, batch: Vec::new(), landed: Vec::new() }
    }

    /// Gives the link what is to be moved and the engine what has moved. Whether anything did.
    pub fn exchange(&mut self, engine: &mut Engine, now: Now) -> bool {
        engine.balance(now);
        while self.batch.len() < BATCH_MAX
            && let Some(transfer) = engine.poll_transfer(now)
        {
            self.batch.push(transfer);
        }
        let submitted = !self.batch.is_empty();
        if submitted {
            // The missing pages of all clients of this turn go on the wire together.
            self.link.submit(&self.batch, engine.frames(), now.monotonic);
            self.batch.clear();
        }
        if self.link.in_flight() == 0 {
            return submitted;
        }
        self.link.poll_landed(engine.frames(), now.monotonic, &mut self.landed);
        let landed = !self.landed.is_empty();
        for landed in self.landed.drain(..) {
            engine.handle_landed(landed, now);
        }
        submitted || landed
    }

    /// Transfers that are on their way.
    pub fn in_flight(&self) -> usize {
        self.link.in_flight()
    }

    /// When the next one lands, if the link knows.
    pub fn next_due(&self) -> Option<Instant> {
        self.link.next_due()
    }
}
