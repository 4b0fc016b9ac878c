//! Expiry by the clock: keys whose time is over go even if nobody asks for them.
//!
//! ```text
//! tick ─► for each database with times: a round of looks, and another while enough of them were over
//!              cursor ──► │ times in hash order ............ │
//! ```
//!
//! Refuses to fetch: the time names its entry by fingerprint and identity, and deleting is near.

use super::expires::Expiry;
use super::{DATABASES, KeySpace};
use alloc::vec::Vec;

/// Expiry times of one round: 24 bytes each, in order, so about ten microseconds.
const ROUND_LOOKS: usize = 512;
/// Keys deleted a tick: at about 300 ns each these are 2.5 ms of 100.
const DELETIONS_MAX: usize = 8192;
/// Rounds a tick and database without a deletion in between are one; with them at most so many.
const ROUNDS_MAX: usize = 64;
/// Another round follows while more than one in so many looks met a key whose time was over: Redis' 10 %.
const STALE_ONE_IN: usize = 10;

/// Where the cycle goes on.
#[derive(Default)]
pub struct Cycle {
    /// The database whose turn it is.
    db: usize,
    /// In each database, the fingerprint to go on from.
    cursors: [u64; DATABASES],
    /// Times that were over, of one round.
    over: Vec<Expiry>,
}

impl KeySpace {
    /// Deletes keys whose time is over: all of them sooner or later, and soon if they are many. Bounded work
    /// a call; to be called every tick.
    pub fn expire_cycle(&mut self, now_ms: u64) {
        if !self.active_expire {
            return;
        }
        let mut left = DELETIONS_MAX;
        for _ in 0..DATABASES {
            let db = self.cycle.db;
            left = left.saturating_sub(self.expire_some(db, now_ms, left));
            if left == 0 {
                return;
            }
            self.cycle.db = (db + 1) % DATABASES;
        }
    }

    /// Rounds in one database; answers how many keys went.
    fn expire_some(&mut self, db: usize, now_ms: u64, deletions_max: usize) -> usize {
        let mut deleted = 0;
        for _ in 0..ROUNDS_MAX {
            if self.dbs[db].expires.is_empty() {
                break;
            }
            let gone = self.expire_round(db, now_ms);
            deleted += gone;
            if gone * STALE_ONE_IN <= ROUND_LOOKS || deleted >= deletions_max {
                break;
            }
        }
        deleted
    }

    fn expire_round(&mut self, db: usize, now_ms: u64) -> usize {
        let mut over = core::mem::take(&mut self.cycle.over);
        over.clear();
        let mut looks = 0;
        let mut at = self.cycle.cursors[db];
        // A round may begin before the end of the order and go on at its beginning, once.
        for _ in 0..2 {
            at = self.dbs[db].expires.scan(at, ROUND_LOOKS - looks, |expiry| {
                looks += 1;
                if expiry.at_ms <= now_ms {
                    over.push(*expiry);
                }
            });
            if at != 0 || looks >= ROUND_LOOKS || looks >= self.dbs[db].expires.len() {
                break;
            }
        }
        self.cycle.cursors[db] = at;
        let mut deleted = 0;
        for expiry in &over {
            deleted += usize::from(self.expire_one(db, expiry));
        }
        self.stats.expired += deleted as u64;
        self.cycle.over = over;
        deleted
    }

    /// Deletes the key of an expiry time; false if it was seen twice in one round and is gone already.
    fn expire_one(&mut self, db: usize, expiry: &Expiry) -> bool {
        let index = &self.dbs[db].index;
        let position = index.find(expiry.hash40()).find(|&at| index.get(at).identity() == expiry.identity());
        let Some(entry) = position.map(|at| *index.get(at)) else { return false };
        self.delete_entry(db, entry);
        true
    }
}
