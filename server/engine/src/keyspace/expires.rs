//! When keys expire: near memory, for the keys that have a time and no other.
//!
//! Refuses to know what time it is and to delete a key: it answers whoever does.
//!
//! ```text
//!   expiry, 24 bytes   | fingerprint | identity of the entry | at_ms |
//! ```
//!
//! The fingerprint places the expiry; the identity tells apart two keys that share it.

use super::index::Identity;
use super::table::{Position, Slot, Table};

/// One key's expiry time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Expiry {
    hash40: u64,
    identity: u64,
    /// Units: milliseconds since 1970.
    pub at_ms: u64,
}

impl Expiry {
    /// The key's fingerprint.
    #[inline]
    pub fn hash40(&self) -> u64 {
        self.hash40
    }

    /// Which of the entries with that fingerprint is meant.
    #[inline]
    pub fn identity(&self) -> Identity {
        Identity::from_bits(self.identity)
    }
}

impl Slot for Expiry {
    const EMPTY: Expiry = Expiry { hash40: 0, identity: 0, at_ms: 0 };

    #[inline]
    fn is_empty(&self) -> bool {
        self.identity == 0
    }

    #[inline]
    fn hash40(&self) -> u64 {
        self.hash40
    }
}

/// The expiry times of one database.
#[derive(Default)]
pub struct Expires {
    table: Table<Expiry>,
    /// Of all `at_ms`, for their average.
    sum_ms: u128,
}

impl Expires {
    /// No expiry times.
    pub fn new() -> Expires {
        Expires::default()
    }

    /// How many keys have an expiry time.
    #[inline]
    pub fn len(&self) -> usize {
        self.table.len()
    }

    /// Whether no key has one.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.table.is_empty()
    }

    /// When the key expires. Units: milliseconds since 1970.
    #[inline]
    pub fn get(&self, hash40: u64, identity: Identity) -> Option<u64> {
        self.position(hash40, identity).map(|at| self.table.get(at).at_ms)
    }

    /// Gives the key an expiry time, or another one.
    pub fn set(&mut self, hash40: u64, identity: Identity, at_ms: u64) {
        self.remove(hash40, identity);
        self.table.insert(Expiry { hash40, identity: identity.get(), at_ms });
        self.sum_ms += u128::from(at_ms);
    }

    /// Takes the expiry time of a key away and returns it.
    pub fn remove(&mut self, hash40: u64, identity: Identity) -> Option<u64> {
        let at = self.position(hash40, identity)?;
        let at_ms = self.table.remove(at).at_ms;
        self.sum_ms -= u128::from(at_ms);
        Some(at_ms)
    }

    /// Tells that the key's value lies elsewhere now. Returns whether the key has an expiry time.
    pub fn relocate(&mut self, hash40: u64, from: Identity, to: Identity) -> bool {
        let Some(at) = self.position(hash40, from) else { return false };
        self.table.get_mut(at).identity = to.get();
        true
    }

    /// Some expiry, nearly evenly chosen by `random`, of which every bit is random: for the active cycle.
    #[inline]
    pub fn random(&self, random: u64) -> Option<Expiry> {
        self.table.random(random).map(|(_, expiry)| expiry)
    }

    /// Shows some expiry times in an order that stays. See [`Table::scan`].
    #[inline]
    pub fn scan(&self, cursor: u64, at_least: usize, see: impl FnMut(&Expiry)) -> u64 {
        self.table.scan(cursor, at_least, see)
    }

    /// All expiry times, in no order that means anything.
    pub fn iter(&self) -> impl Iterator<Item = &Expiry> + '_ {
        self.table.iter()
    }

    /// The average time that is left, zero when none is. Units: milliseconds.
    pub fn average_ttl_ms(&self, now_ms: u64) -> u64 {
        let average_ms = self.sum_ms.checked_div(self.len() as u128).unwrap_or(0);
        u64::try_from(average_ms).expect("an average is no greater than the greatest").saturating_sub(now_ms)
    }

    /// The near memory that the times take.
    pub fn near_bytes(&self) -> usize {
        self.table.near_bytes()
    }

    /// Gives up all times and all memory.
    pub fn clear(&mut self) {
        *self = Expires::new();
    }

    #[inline]
    fn position(&self, hash40: u64, identity: Identity) -> Option<Position> {
        self.table.find(hash40).find(|&at| self.table.get(at).identity == identity.get())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keyspace::index::{Entry, Kind};
    use farmem::FarAddr;

    fn identity(at: u64) -> Identity {
        Entry::new(1, Kind::SmallString, FarAddr(at * 8)).identity()
    }

    #[test]
    fn two_keys_of_one_fingerprint_expire_apart() {
        let mut expires = Expires::new();
        expires.set(9, identity(1), 1000);
        expires.set(9, identity(2), 2000);
        expires.set(9, identity(1), 3000);
        assert_eq!((expires.get(9, identity(1)), expires.get(9, identity(2))), (Some(3000), Some(2000)));
        assert_eq!(expires.remove(9, identity(1)), Some(3000));
        assert_eq!((expires.get(9, identity(1)), expires.get(9, identity(2))), (None, Some(2000)));
        assert_eq!((expires.len(), expires.remove(9, identity(1))), (1, None));
    }

    #[test]
    fn a_value_that_moves_keeps_its_time() {
        let mut expires = Expires::new();
        expires.set(9, identity(1), 1000);
        assert!(expires.relocate(9, identity(1), identity(5)));
        assert!(!expires.relocate(9, identity(1), identity(6)));
        assert_eq!((expires.get(9, identity(1)), expires.get(9, identity(5))), (None, Some(1000)));
    }

    #[test]
    fn the_average_follows_every_change() {
        let mut expires = Expires::new();
        assert_eq!(expires.average_ttl_ms(5), 0);
        expires.set(1, identity(1), u64::MAX);
        expires.set(1, identity(1), 1000);
        expires.set(2, identity(2), 3000);
        assert_eq!((expires.average_ttl_ms(500), expires.average_ttl_ms(5000)), (1500, 0));
        expires.remove(1, identity(1));
        assert_eq!(expires.average_ttl_ms(500), 2500);
        expires.clear();
        assert_eq!((expires.average_ttl_ms(500), expires.random(3)), (0, None));
    }

    #[test]
    fn the_active_cycle_meets_every_key() {
        let mut expires = Expires::new();
        (1..=20).for_each(|key| expires.set(key << 30, identity(key), key));
        let mut met = [false; 21];
        for draw in 0..2000u64 {
            let expiry = expires.random(draw).expect("twenty keys have a time");
            assert_eq!((expiry.hash40(), expiry.identity()), (expiry.at_ms << 30, identity(expiry.at_ms)));
            met[expiry.at_ms as usize] = true;
        }
        assert!(met[1..].iter().all(|met| *met));
        assert_eq!(expires.iter().count(), 20);
    }
}
