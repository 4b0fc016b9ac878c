//! The keys: 16 databases, each a near index over objects in the far heap.
//!
//! Refuses to know commands. Finding a key compares the key in its object, so that page is planned by
//! whoever looks a key up; everything else here (deleting, expiring, counting) is near.

pub mod expire_cycle;
pub mod expires;
pub mod footprint;
mod gather;
pub mod index;
pub mod object;
pub mod rekey;
pub mod table;
pub mod warm;

use crate::error::Outcome;
use crate::far::Far;
use crate::maxmemory;
use crate::value::list::{ListId, Lists};
use alloc::vec::Vec;
use expires::Expires;
use farmem::{FarAddr, PageSet};
use index::{Entry, Kind, fingerprint};
use table::{Position, Table};

/// Databases, as Redis has by default.
pub const DATABASES: usize = 16;

/// One database: the index and the expiry times of the keys that have one.
#[derive(Default)]
pub struct Db {
    /// An entry a key.
    pub index: Table<Entry>,
    /// Expiry times.
    pub expires: Expires,
}

/// A key that exists. Valid until the index changes.
#[derive(Clone, Copy, Debug)]
pub struct Found {
    /// Where its entry stands in the index.
    pub position: Position,
    /// The entry as it was when the key was found.
    pub entry: Entry,
    /// Offset in the key's object of what follows the key.
    pub rest: usize,
}

/// What has happened to keys, for INFO.
#[derive(Clone, Copy, Default, Debug)]
pub struct KeyStats {
    /// Reads that found their key.
    pub hits: u64,
    /// Reads that did not.
    pub misses: u64,
    /// Keys deleted because their time was over.
    pub expired: u64,
    /// Keys deleted because `maxmemory` was reached.
    pub evicted: u64,
    /// Changes since the start, as Redis' `dirty`.
    pub changes: u64,
    /// Values moved to a fuller page.
    pub gathered: u64,
}

/// All keys and values.
pub struct KeySpace {
    /// The databases, by number.
    pub dbs: Vec<Db>,
    /// Heap and pager.
    pub far: Far,
    /// Directories of lists.
    pub lists: Lists,
    /// What has happened to keys.
    pub stats: KeyStats,
    /// The access clock that `find` stamps entries with. See `maxmemory`.
    pub clock: AccessClock,
    /// Secret of the fingerprints.
    pub seed: u64,
    /// What RANDOMKEY draws from.
    pub draw: u64,
    /// Whether keys expire by the clock; `DEBUG SET-ACTIVE-EXPIRE`.
    pub active_expire: bool,
    /// Whether small strings move to fuller pages as they are read; `activedefrag`.
    pub gathers: bool,
    /// Where the expire cycle goes on.
    pub cycle: expire_cycle::Cycle,
    /// Keys that go next when memory is short.
    pub eviction_pool: maxmemory::Pool,
}

/// How `find` records that a key was used.
#[derive(Clone, Copy, Default, Debug)]
pub struct AccessClock {
    /// Seconds, modulo 2^24.
    pub seconds: u32,
    /// Whether the 24 bits are Redis' LFU counter (8 bits) and minutes (16 bits) instead.
    pub lfu: bool,
    /// Redis' `lfu-log-factor`.
    pub lfu_log_factor: u32,
    /// Redis' `lfu-decay-time`. Units: minutes.
    pub lfu_decay_minutes: u32,
    /// State of the generator that LFU draws from.
    pub random: u64,
}

impl KeySpace {
    /// No keys yet, over an empty heap.
    pub fn new(far: Far, seed: u64) -> KeySpace {
        let mut dbs = Vec::with_capacity(DATABASES);
        dbs.resize_with(DATABASES, Db::default);
        KeySpace {
            dbs,
            far,
            lists: Lists::default(),
            stats: KeyStats::default(),
            clock: AccessClock { random: seed | 1, ..AccessClock::default() },
            seed,
            draw: seed,
            active_expire: true,
            gathers: true,
            cycle: expire_cycle::Cycle::default(),
            eviction_pool: maxmemory::Pool::default(),
        }
    }

    /// The key's fingerprint in the index.
    #[inline]
    pub fn fingerprint(&self, key: &[u8]) -> u64 {
        fingerprint(key, self.seed)
    }

    /// The object that begins with the key of `entry`; known from near memory.
    #[inline]
    pub fn key_object(&self, entry: Entry) -> FarAddr {
        match entry.kind() {
            Kind::SmallString | Kind::SmallList => entry.addr(),
            Kind::LargeString => self.far.owner(entry.addr()),
            Kind::LargeList => self.lists.get(ListId::of(entry)).key_object,
        }
    }

    /// Plans the pages that looking up `key` reads. Answers the entry that is, or is almost surely, the
    /// key's: the page of a second key with this fingerprint is read first, and then the plan is made again.
    #[inline]
    pub fn plan_key(&mut self, db: usize, key: &[u8], plan: &mut PageSet) -> Option<Entry> {
        let hash = self.fingerprint(key);
        let mut only = None;
        let mut count = 0;
        for position in self.dbs[db].index.find(hash) {
            let entry = *self.dbs[db].index.get(position);
            let pages = self.far.pages_of(self.key_object(entry));
            // A lost page cannot be waited for: whoever reads it hears so, and whoever overwrites it need not.
            if !(self.far.may_have_lost && self.far.is_any_lost(pages)) {
                plan.push(pages);
            }
            count += 1;
            only = Some(entry);
        }
        if count > 1 {
            return self.choose(db, hash, key);
        }
        only
    }

    /// The entry of `key` among several of one fingerprint, if their objects are resident.
    #[cold]
    fn choose(&mut self, db: usize, hash: u64, key: &[u8]) -> Option<Entry> {
        let entries: Vec<Entry> =
            self.dbs[db].index.find(hash).map(|position| *self.dbs[db].index.get(position)).collect();
        entries.into_iter().find(|&entry| {
            let object = self.key_object(entry);
            let all = self
                .far
                .pages_of(object)
                .pages()
                .all(|page| self.far.pager.resident(page.addr(), 1).is_some());
            all && matches!(object::match_key(&mut self.far, object, key), Ok(Some(_)))
        })
    }

    /// Finds a key, and deletes it instead if its time is over. Does not count as a use.
    pub fn peek(&mut self, db: usize, key: &[u8], now_ms: u64) -> Outcome<Option<Found>> {
        let hash = self.fingerprint(key);
        let mut matched = None;
        for position in self.dbs[db].index.find(hash) {
            let entry = *self.dbs[db].index.get(position);
            let object = match entry.kind() {
                Kind::SmallString | Kind::SmallList => entry.addr(),
                Kind::LargeString => self.far.owner(entry.addr()),
                Kind::LargeList => self.lists.get(ListId::of(entry)).key_object,
            };
            if let Some(rest) = object::match_key(&mut self.far, object, key)? {
                matched = Some(Found { position, entry, rest });
                break;
            }
        }
        let Some(found) = matched else { return Ok(None) };
        if found.entry.has_ttl() && self.expire_at(db, found.entry).is_some_and(|at_ms| at_ms <= now_ms) {
            self.delete(db, found);
            self.stats.expired += 1;
            return Ok(None);
        }
        Ok(Some(found))
    }

    /// Finds a key for a command that uses it.
    #[inline]
    pub fn find(&mut self, db: usize, key: &[u8], now_ms: u64) -> Outcome<Option<Found>> {
        let found = self.peek(db, key, now_ms)?;
        if let Some(found) = found {
            self.touch(db, found);
        }
        Ok(found)
    }

    /// Finds a key for a command that only reads, and counts the hit or miss.
    #[inline]
    pub fn find_read(&mut self, db: usize, key: &[u8], now_ms: u64) -> Outcome<Option<Found>> {
        let found = self.find(db, key, now_ms)?;
        match found {
            Some(_) => self.stats.hits += 1,
            None => self.stats.misses += 1,
        }
        Ok(found)
    }

    /// Stamps the entry with the access clock.
    #[inline]
    pub fn touch(&mut self, db: usize, found: Found) {
        let stamp =
            if self.clock.lfu { self.clock.lfu_touched(found.entry.access()) } else { self.clock.seconds };
        if stamp != found.entry.access() {
            self.dbs[db].index.get_mut(found.position).set_access(stamp);
        }
    }

    /// When a key expires. Units: milliseconds since 1970.
    #[inline]
    pub fn expire_at(&self, db: usize, entry: Entry) -> Option<u64> {
        if !entry.has_ttl() {
            return None;
        }
        self.dbs[db].expires.get(entry.hash40(), entry.identity())
    }

    /// Sets or takes away the expiry time.
    pub fn set_expire(&mut self, db: usize, found: Found, at_ms: Option<u64>) {
        let entry = found.entry;
        match at_ms {
            Some(at_ms) => self.dbs[db].expires.set(entry.hash40(), entry.identity(), at_ms),
            None if entry.has_ttl() => {
                self.dbs[db].expires.remove(entry.hash40(), entry.identity());
            }
            None => return,
        }
        self.dbs[db].index.get_mut(found.position).set_has_ttl(at_ms.is_some());
    }

    /// Adds an entry for a key that does not exist.
    pub fn insert(&mut self, db: usize, entry: Entry) -> Position {
        self.dbs[db].index.insert(entry)
    }

    /// A fresh entry, stamped as just used.
    pub fn new_entry(&self, key: &[u8], kind: Kind, addr: FarAddr) -> Entry {
        let access = if self.clock.lfu { self.clock.lfu_fresh() } else { self.clock.seconds };
        Entry::new(self.fingerprint(key), kind, addr).with_access(access)
    }

    /// Puts another value under an existing key's entry; its expiry time goes along. The old value is the
    /// caller's to free.
    pub fn replace(&mut self, db: usize, found: Found, entry: Entry) {
        let old = found.entry;
        let entry = entry.with_ttl(old.has_ttl());
        if old.has_ttl() && old.identity() != entry.identity() {
            self.dbs[db].expires.relocate(old.hash40(), old.identity(), entry.identity());
        }
        *self.dbs[db].index.get_mut(found.position) = entry;
    }

    /// Deletes a key and its value. Touches near memory only.
    pub fn delete(&mut self, db: usize, found: Found) {
        let entry = self.dbs[db].index.remove(found.position);
        if entry.has_ttl() {
            self.dbs[db].expires.remove(entry.hash40(), entry.identity());
        }
        self.free_value(entry);
    }

    /// Frees the far memory of an entry that is no longer in the index.
    pub fn free_value(&mut self, entry: Entry) {
        match entry.kind() {
            Kind::SmallString | Kind::SmallList => self.far.free(entry.addr()),
            Kind::LargeString => {
                let key_object = self.far.owner(entry.addr());
                self.far.free(entry.addr());
                self.far.free(key_object);
            }
            Kind::LargeList => self.lists.free(&mut self.far, ListId::of(entry)),
        }
    }

    /// Deletes every key of one database.
    pub fn flush_db(&mut self, db: usize) {
        let old = core::mem::take(&mut self.dbs[db]);
        if self.dbs.iter().all(|db| db.index.is_empty()) && !self.far.has_borrowers() {
            self.far.reset();
            self.lists = Lists::default();
            return;
        }
        for entry in old.index.iter() {
            self.free_value(*entry);
        }
    }

    /// Deletes every key.
    pub fn flush_all(&mut self) {
        if self.far.has_borrowers() {
            (0..DATABASES).for_each(|db| self.flush_db(db));
            return;
        }
        self.dbs.fill_with(Db::default);
        self.far.reset();
        self.lists = Lists::default();
    }

    /// Keys in all databases.
    pub fn count(&self) -> usize {
        self.dbs.iter().map(|db| db.index.len()).sum()
    }

    /// Near memory of indexes, expiry times and list directories. Units: bytes.
    pub fn near_bytes(&self) -> usize {
        let dbs: usize = self.dbs.iter().map(|db| db.index.near_bytes() + db.expires.near_bytes()).sum();
        dbs + self.lists.near_bytes()
    }
}

impl AccessClock {
    /// Redis' counter of a key that was never read: 5, now.
    fn lfu_fresh(&self) -> u32 {
        (self.minutes() << 8) | LFU_INITIAL
    }

    /// Seconds since a key was used.
    pub fn idle_seconds(&self, access: u32) -> u32 {
        self.seconds.wrapping_sub(access) & index::ACCESS_MAX
    }

    fn minutes(&self) -> u32 {
        (self.seconds / 60) & 0xffff
    }

    /// Redis' `LFUDecrAndReturn`: the counter less one for each decay period since it was last touched.
    pub fn lfu_count(&self, access: u32) -> u32 {
        let idle = self.minutes().wrapping_sub(access >> 8) & 0xffff;
        let periods = idle.checked_div(self.lfu_decay_minutes).unwrap_or(0);
        (access & 0xff).saturating_sub(periods)
    }

    /// Redis' `LFULogIncr`: the larger the counter, the less likely it grows.
    fn lfu_touched(&mut self, access: u32) -> u32 {
        let count = self.lfu_count(access);
        let grown = if count < 255 {
            let base = count.saturating_sub(LFU_INITIAL);
            self.random ^= self.random << 13;
            self.random ^= self.random >> 7;
            self.random ^= self.random << 17;
            let draw = self.random >> 32;
            let one_in = u64::from(base * self.lfu_log_factor + 1);
            count + u32::from(draw.is_multiple_of(one_in))
        } else {
            count
        };
        (self.minutes() << 8) | grown
    }
}

/// Redis' `LFU_INIT_VAL`.
const LFU_INITIAL: u32 = 5;
