//! The driver: moves pages between the engine and the link, once a turn of the loop.
//!
//! ```text
//!   exchange ─► clients that may go on ─┐
//!      ▲                                │
//!      └────── while anything moved ────┘
//! ```
//!
//! The twin of the Linux body's driver; the network and `--bench` have the same one. Refuses to wait.

use engine::{ClientId, Engine, Exchange, Now};
use farmem::{Instant, Link};

/// Rounds of moving pages in one turn; then the others get their look. Each is a batch, so 8 are plenty.
const ROUNDS_MAX: usize = 8;
/// Clients served between two looks at the link.
const READY_MAX: usize = 256;

/// What moves the pages.
pub struct Driver<L> {
    link: L,
    exchange: Exchange,
}

impl<L: Link> Driver<L> {
    /// A driver of `link`.
    pub fn new(link: L) -> Driver<L> {
        Driver { link, exchange: Exchange::default() }
    }

    /// Moves pages, and serves those who waited for them, until nothing moves. Whether anything did.
    pub fn turn(
        &mut self,
        engine: &mut Engine,
        now: impl Fn() -> Now,
        mut serve: impl FnMut(&mut Engine, ClientId, Now),
    ) -> bool {
        let mut ever = false;
        for _ in 0..ROUNDS_MAX {
            let now = now();
            let mut moved = self.exchange.run(engine, &mut self.link, false, now);
            for _ in 0..READY_MAX {
                let Some(id) = engine.poll_ready(now) else { break };
                serve(engine, id, now);
                moved = true;
            }
            if !moved {
                break;
            }
            ever = true;
        }
        // Frames that the store gives up stay where they are: nobody else could use them.
        while engine.poll_discard().is_some() {}
        ever
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
