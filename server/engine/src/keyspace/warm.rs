//! Several keys looked at together before they are looked up one by one.
//!
//! ```text
//!   slot of the index ──► key's object ──► its page's frame ──► its first bytes
//! ```
//!
//! Each step tells where the next one lies, so that a lookup in much memory waits for memory three or four times. Nothing
//! in one lookup needs another: each step made for all keys, their waits overlap.
//!
//! Refuses to fetch, to plan and to count: what is not here stays where it is, and nothing that this reads is used.

use super::KeySpace;
use super::index::{Entry, Kind};
use core::hint::black_box;
use farmem::FarAddr;

/// Keys that are looked at together: as many lines as a core waits for at once, and some.
pub const WARM_MAX: usize = 16;

impl KeySpace {
    /// Brings what finding these keys reads into the caches.
    pub fn warm(&self, db: usize, hashes: &[u64]) {
        let index = &self.dbs[db].index;
        let mut entries = [None::<Entry>; WARM_MAX];
        for (entry, &hash) in entries.iter_mut().zip(hashes) {
            *entry = index.find(hash).next().map(|position| *index.get(position));
        }
        let mut objects = [None::<FarAddr>; WARM_MAX];
        for (object, &entry) in objects.iter_mut().zip(&entries) {
            *object = entry.map(|entry| self.key_object(entry));
        }
        let values = entries.iter().flatten().filter(|entry| entry.kind() == Kind::LargeString);
        for addr in objects.iter().copied().flatten().chain(values.map(|entry| entry.addr())) {
            black_box(self.far.pager.resident(addr, 1).map(|bytes| bytes[0]));
        }
    }
}
