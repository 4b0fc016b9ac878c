//! One exchange between the engine and a link: what is to move leaves as one batch, what has moved comes back.
//!
//! ```text
//!   balance ─► poll_transfer ... ─► one batch ─► link ─► landed ─► engine
//! ```
//!
//! Every body does it once a round of its loop. Refuses to wait, and to know what a link is.

use crate::engine::{Engine, Now};
use alloc::vec::Vec;
use farmem::{Landed, Link, Transfer};

/// Transfers of one batch; the rest goes out in the next round.
const BATCH_MAX: usize = 1024;

/// The buffers of an exchange, kept from one to the next.
#[derive(Default)]
pub struct Exchange {
    batch: Vec<Transfer>,
    landed: Vec<Landed>,
}

impl Exchange {
    /// Gives the link what is to be moved and the engine what has moved. Whether anything did.
    ///
    /// A link that `is_restless` is asked although nothing of ours is in flight: it has work of its own.
    pub fn run(&mut self, engine: &mut Engine, link: &mut impl Link, is_restless: bool, now: Now) -> bool {
        engine.balance(now);
        while self.batch.len() < BATCH_MAX
            && let Some(transfer) = engine.poll_transfer(now)
        {
            self.batch.push(transfer);
        }
        let submitted = !self.batch.is_empty();
        if submitted {
            // The missing pages of all clients of this turn go on the wire together.
            link.submit(&self.batch, engine.frames(), now.monotonic);
            self.batch.clear();
        }
        if link.in_flight() == 0 && !is_restless {
            return submitted;
        }
        link.poll_landed(engine.frames(), now.monotonic, &mut self.landed);
        let landed = !self.landed.is_empty();
        for landed in self.landed.drain(..) {
            engine.handle_landed(landed, now);
        }
        submitted || landed
    }
}
