//! The cap of the whole data set, near and far, and the floor under the frames.
//!
//! ```text
//! before a write:  used > maxmemory, or near > what leaves frames to work with
//!                     │ noeviction          │ any other policy
//!                     ▼                     ▼
//!                    OOM       sample keys, delete the best of them, until it fits (or OOM: no key left)
//! ```
//!
//! Refuses to fetch: which key goes is known from the access clock and the expiry times, which are near, and
//! its pages are dropped where they are.

use crate::config::MaxmemoryPolicy;
use crate::engine::FRAMES_MIN;
use crate::error::CommandError;
use crate::keyspace::index::Entry;
use crate::keyspace::{Db, KeySpace};
use crate::server::Server;
use alloc::vec::Vec;
use farmem::PAGE_SIZE;

/// Keys that go for one write; the next write goes on. 64 of 300 ns are 20 us.
const EVICTIONS_MAX: usize = 64;

/// The part of local memory that is always left for frames.
const FRAMES_PART: u64 = 8;

/// Near memory above this leaves too few frames to work with. Units: bytes.
pub fn near_max(local_memory: u64) -> u64 {
    let frames = (local_memory / FRAMES_PART).max(u64::from(FRAMES_MIN) * PAGE_SIZE as u64);
    local_memory.saturating_sub(frames)
}

/// The best candidates that were met and did not go yet, as Redis keeps 16: `EVPOOL_SIZE`.
const POOL_MAX: usize = 16;

/// A key that may go.
#[derive(Clone, Copy, Debug)]
struct Candidate {
    db: usize,
    entry: Entry,
    /// The greater, the better it goes.
    score: u64,
}

/// Candidates from one write to the next: it makes few samples as good as many.
#[derive(Default, Debug)]
pub struct Pool {
    /// The one that goes best is last.
    candidates: Vec<Candidate>,
    /// The policy that has scored them.
    policy: MaxmemoryPolicy,
}

impl Pool {
    fn add(&mut self, candidate: Candidate) {
        let same = |other: &Candidate| {
            other.db == candidate.db && other.entry.identity() == candidate.entry.identity()
        };
        self.candidates.retain(|other| !same(other));
        let at = self.candidates.partition_point(|other| other.score < candidate.score);
        self.candidates.insert(at, candidate);
        if self.candidates.len() > POOL_MAX {
            self.candidates.remove(0);
        }
    }
}

impl KeySpace {
    /// All memory that counts: far objects, and near memory but for frames. Units: bytes.
    pub fn used_bytes(&self, client_buffer_bytes: u64) -> u64 {
        self.far.heap.stats().used_bytes + self.near_used_bytes(client_buffer_bytes)
    }

    /// Near memory but for frames. Units: bytes.
    fn near_used_bytes(&self, client_buffer_bytes: u64) -> u64 {
        self.near_bytes() as u64 + self.far.near_bytes() + client_buffer_bytes
    }

    /// Makes room for a write by the policy, or refuses it.
    ///
    /// Bounds: without `maxmemory` two comparisons; near memory is as of the last tick then, in which no more
    /// keys can come than fit beside the process' allowance.
    /// # Errors
    /// Redis' OOM, if nothing may go or nothing is left that may.
    #[inline]
    pub fn make_room(&mut self, server: &mut Server) -> Result<(), CommandError> {
        let near_is_low =
            server.near_bytes - server.client_buffer_bytes <= near_max(server.config.local_memory);
        if server.config.maxmemory == 0 && near_is_low {
            return Ok(());
        }
        self.evict_until_it_fits(server)
    }

    #[cold]
    fn evict_until_it_fits(&mut self, server: &mut Server) -> Result<(), CommandError> {
        let policy = server.config.maxmemory_policy;
        for _ in 0..EVICTIONS_MAX {
            if self.fits(server) {
                return Ok(());
            }
            let Some(candidate) = self.choose_candidate(server, policy) else {
                return Err(CommandError::OUT_OF_MEMORY);
            };
            self.delete_entry(candidate.db, candidate.entry);
            self.stats.evicted += 1;
        }
        Ok(())
    }

    fn fits(&self, server: &Server) -> bool {
        let near = self.near_used_bytes(server.client_buffer_bytes);
        let maxmemory = server.config.maxmemory;
        let below_cap = maxmemory == 0 || self.far.heap.stats().used_bytes + near <= maxmemory;
        // Buffers of clients come and go: no key has to go for them.
        below_cap && near - server.client_buffer_bytes <= near_max(server.config.local_memory)
    }

    /// The best of some keys to go; `None` if no key may.
    fn choose_candidate(&mut self, server: &mut Server, policy: MaxmemoryPolicy) -> Option<Candidate> {
        if policy == MaxmemoryPolicy::NoEviction {
            return None;
        }
        if is_random(policy) {
            return self.sample(server, policy);
        }
        let mut pool = core::mem::take(&mut self.eviction_pool);
        if pool.policy != policy {
            pool = Pool { policy, ..Pool::default() };
        }
        for _ in 0..server.config.maxmemory_samples {
            if let Some(candidate) = self.sample(server, policy) {
                pool.add(candidate);
            }
        }
        let mut chosen = None;
        while chosen.is_none()
            && let Some(candidate) = pool.candidates.pop()
        {
            chosen = Some(candidate).filter(|candidate| self.is_current(candidate, policy));
        }
        self.eviction_pool = pool;
        chosen
    }

    /// Whether a candidate's key is there and was not used since it was scored.
    fn is_current(&self, candidate: &Candidate, policy: MaxmemoryPolicy) -> bool {
        self.position_of(candidate.db, candidate.entry).is_some_and(|position| {
            let entry = self.dbs[candidate.db].index.get(position);
            entry.access() == candidate.entry.access() && (entry.has_ttl() || !is_volatile(policy))
        })
    }

    /// Some key, of any database.
    fn sample(&self, server: &mut Server, policy: MaxmemoryPolicy) -> Option<Candidate> {
        let size = |db: &Db| if is_volatile(policy) { db.expires.len() } else { db.index.len() };
        let mut rank = server.draw().checked_rem(self.dbs.iter().map(size).sum::<usize>() as u64)? as usize;
        let db = self.dbs.iter().position(|db| {
            let inside = rank < size(db);
            rank = rank.saturating_sub(size(db));
            inside
        })?;
        self.sample_of(db, policy, server.draw())
    }

    fn sample_of(&self, db: usize, policy: MaxmemoryPolicy, random: u64) -> Option<Candidate> {
        let mut at_ms = 0;
        let entry = if is_volatile(policy) {
            let expiry = self.dbs[db].expires.random(random)?;
            at_ms = expiry.at_ms;
            let index = &self.dbs[db].index;
            let position =
                index.find(expiry.hash40()).find(|&at| index.get(at).identity() == expiry.identity())?;
            *index.get(position)
        } else {
            self.dbs[db].index.random(random)?.1
        };
        let score = match policy {
            MaxmemoryPolicy::AllkeysLru | MaxmemoryPolicy::VolatileLru => {
                u64::from(self.clock.idle_seconds(entry.access()))
            }
            MaxmemoryPolicy::AllkeysLfu | MaxmemoryPolicy::VolatileLfu => {
                u64::from(255 - self.clock.lfu_count(entry.access()))
            }
            MaxmemoryPolicy::VolatileTtl => u64::MAX - at_ms,
            MaxmemoryPolicy::AllkeysRandom
            | MaxmemoryPolicy::VolatileRandom
            | MaxmemoryPolicy::NoEviction => 0,
        };
        Some(Candidate { db, entry, score })
    }
}

/// Whether only keys with an expiry time go.
fn is_volatile(policy: MaxmemoryPolicy) -> bool {
    matches!(
        policy,
        MaxmemoryPolicy::VolatileLru
            | MaxmemoryPolicy::VolatileLfu
            | MaxmemoryPolicy::VolatileRandom
            | MaxmemoryPolicy::VolatileTtl
    )
}

/// Whether the first key drawn goes.
fn is_random(policy: MaxmemoryPolicy) -> bool {
    matches!(policy, MaxmemoryPolicy::AllkeysRandom | MaxmemoryPolicy::VolatileRandom)
}
