//! What all clients have sent and nobody has used yet is bounded together, not only client by client.
//!
//! ```text
//! input of all, in 16ths of local memory (4 MB at least)
//!    0 ─────────────────► 1 ─────────────────────────────────────► 4
//!      plain buffers        arguments of a page go far at once       the largest sender is closed
//! of that, what waits for frames
//!    0 ─────────────────► 1
//!                           nobody is read from, until half of it has found its frames
//! ```
//!
//! Refuses to judge a single client: how much one command may hold near is the decoder's limits'.

use crate::client::{Client, ClientId};
use crate::engine::Engine;
use alloc::vec::Vec;

/// The least share, so that one client's large command of many small arguments is no crowd: four of them are
/// half of the 32 MB by which a process may exceed a tiny local memory. Units: bytes.
const SHARE_MIN: usize = 4 << 20;
/// Shares of input that does not move by itself, above which clients are closed.
const SHARES_MAX: usize = 4;

/// The input that all clients together keep near.
#[derive(Default)]
pub(crate) struct Crowd {
    /// Units: bytes.
    input_bytes: usize,
    /// Of these, what waits for frames to put a large argument in: it moves without anybody reading more.
    stuck_bytes: usize,
    /// Clients that are not read from before others' input has found its frames.
    gated: Vec<ClientId>,
}

/// What of a client's input is counted in the sums.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct Counted {
    input_bytes: usize,
    stuck_bytes: usize,
}

impl Counted {
    #[inline]
    fn of(client: &Client) -> Counted {
        let input_bytes = client.input.capacity();
        let is_stuck = client.spool.is_some() && client.parked.is_some();
        Counted { input_bytes, stuck_bytes: if is_stuck { input_bytes } else { 0 } }
    }
}

impl Engine {
    /// A 16th of local memory, or [`SHARE_MIN`].
    fn crowd_share(&self) -> usize {
        (self.server.config.local_memory as usize / 16).max(SHARE_MIN)
    }

    /// Whether the clients hold so much input that further arguments of a page go far as they arrive.
    #[inline]
    pub(crate) fn is_crowded(&self) -> bool {
        self.crowd.input_bytes > self.crowd_share()
    }

    /// Brings the sums up to date for a client that goes back to its place, or away.
    #[inline]
    pub(crate) fn count_input(&mut self, client: &mut Client) {
        let counted = Counted::of(client);
        if counted != client.counted {
            self.recount(client, counted);
        }
    }

    #[cold]
    fn recount(&mut self, client: &mut Client, counted: Counted) {
        let before = core::mem::replace(&mut client.counted, counted);
        self.crowd.input_bytes = self.crowd.input_bytes + counted.input_bytes - before.input_bytes;
        self.crowd.stuck_bytes = self.crowd.stuck_bytes + counted.stuck_bytes - before.stuck_bytes;
        if !self.crowd.gated.is_empty() && self.crowd.stuck_bytes <= self.crowd_share() / 2 {
            self.ready.extend(self.crowd.gated.drain(..));
        }
    }

    /// Forgets the input of a client that is going.
    pub(crate) fn uncount_input(&mut self, client: &mut Client) {
        self.recount(client, Counted::default());
    }

    /// Whether this client has to wait before it is read from. It is among the ready ones when that is over:
    /// soon, because what is waited for is a write back.
    pub(crate) fn is_gated(&mut self, id: ClientId) -> bool {
        let is_gated = self.crowd.stuck_bytes > self.crowd_share();
        if is_gated && !self.crowd.gated.contains(&id) {
            self.crowd.gated.push(id);
        }
        is_gated
    }

    /// Closes the clients that hold the most input, until what all of them hold is bounded again. As Redis 7.0
    /// does beyond `maxmemory-clients`.
    #[inline]
    pub(crate) fn disperse_crowd(&mut self) {
        if self.is_overrun() {
            self.close_largest();
        }
    }

    #[inline]
    fn is_overrun(&self) -> bool {
        self.crowd.input_bytes - self.crowd.stuck_bytes > SHARES_MAX * self.crowd_share()
    }

    #[cold]
    fn close_largest(&mut self) {
        while self.is_overrun() {
            let largest = self.clients.iter().filter(|client| !client.killed && client.parked.is_none());
            let Some(largest) = largest.max_by_key(|client| client.input.capacity()) else { return };
            let id = largest.id;
            let mut client = self.clients.take(id).expect("it was there on the line above");
            client.killed = true;
            client.input = Vec::new();
            client.decoder = Default::default();
            self.server.stats.evicted_clients += 1;
            self.ready.push_back(id);
            self.put_back(client);
        }
    }
}
