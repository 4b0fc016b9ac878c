//! The index entry: what near memory knows of a key, in 16 bytes.
//!
//! ```text
//!   word 0   | fingerprint 40                         | access 24 |
//!   word 1   | aux 15 | ttl 1 | kind 4 | address / 8, 44          |
//!                               '------- identity, 48 ------------'
//! ```
//!
//! Refuses to hold the key: it lies in the far heap, at the address, and whoever looks it up compares it
//! there. A word 1 of zero is an empty slot, so the far address 0 is never an entry's.

use farmem::FarAddr;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::table::{HASH_BITS, Slot};

const ACCESS_BITS: u32 = 64 - HASH_BITS;
const ADDR_BITS: u32 = 44;
const KIND_SHIFT: u32 = ADDR_BITS;
const TTL_SHIFT: u32 = KIND_SHIFT + 4;
const AUX_SHIFT: u32 = TTL_SHIFT + 1;
const ACCESS_MASK: u64 = (1 << ACCESS_BITS) - 1;
const ADDR_MASK: u64 = (1 << ADDR_BITS) - 1;
const IDENTITY_MASK: u64 = (1 << TTL_SHIFT) - 1;
const TTL_BIT: u64 = 1 << TTL_SHIFT;
/// Objects are aligned to 8 bytes, so that 44 bits reach 128 TiB; 2^32 pages need 41 of them.
const ADDR_ALIGN_SHIFT: u32 = 3;

/// The greatest value of [`Entry::access`].
pub const ACCESS_MAX: u32 = (1 << ACCESS_BITS) - 1;
/// The greatest value of [`Entry::aux`].
pub const AUX_MAX: u16 = (1 << (64 - AUX_SHIFT)) - 1;

/// The fingerprint of a key: the leading 40 bits of its XXH3, and 1 where they are zero. The seed is
/// secret, so that no client can choose keys that collide.
#[inline]
pub fn fingerprint(key: &[u8], seed: u64) -> u64 {
    (xxh3_64_with_seed(key, seed) >> ACCESS_BITS).max(1)
}

/// How a value lies in far memory. Four bits are kept of it: there is room for twelve more.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u8)]
pub enum Kind {
    /// A string in one object, together with its key.
    SmallString = 0,
    /// A string on pages of its own.
    LargeString = 1,
    /// A list in one object, together with its key.
    SmallList = 2,
    /// A list with a near directory of its chunks; the entry holds the directory's number.
    LargeList = 3,
}

impl Kind {
    /// Whether the value is a string, however it lies.
    #[inline]
    pub fn is_string(self) -> bool {
        matches!(self, Kind::SmallString | Kind::LargeString)
    }

    #[inline]
    fn of_bits(bits: u64) -> Kind {
        match bits {
            0 => Kind::SmallString,
            1 => Kind::LargeString,
            2 => Kind::SmallList,
            3 => Kind::LargeList,
            _ => unreachable!("only a Kind is ever stored in an entry"),
        }
    }
}

/// Which value an entry stands for: address and kind. No two entries of a database share one.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Identity(u64);

impl Identity {
    /// The identity as a number that is never zero. Bounds: below 2^48.
    #[inline]
    pub fn get(self) -> u64 {
        self.0
    }

    /// The identity that [`Identity::get`] gave out as `bits`.
    #[inline]
    pub(super) fn from_bits(bits: u64) -> Identity {
        Identity(bits)
    }
}

/// What near memory knows of a key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Entry {
    tag: u64,
    value: u64,
}

impl Entry {
    /// An entry for a value at `addr`, without an expiry time, never used.
    /// # Panics
    /// If `addr` is null, not aligned to 8 bytes, or beyond 2^47.
    #[inline]
    pub fn new(hash40: u64, kind: Kind, addr: FarAddr) -> Entry {
        assert!(addr.0.is_multiple_of(1 << ADDR_ALIGN_SHIFT), "objects are aligned to 8 bytes");
        Entry::of_field(hash40, kind, addr.0 >> ADDR_ALIGN_SHIFT)
    }

    /// An entry for the list whose near directory has the number `list`.
    #[inline]
    pub fn new_list(hash40: u64, list: u32) -> Entry {
        Entry::of_field(hash40, Kind::LargeList, u64::from(list) + 1)
    }

    #[inline]
    fn of_field(hash40: u64, kind: Kind, field: u64) -> Entry {
        assert!(field != 0 && field <= ADDR_MASK, "an entry's address is not null and below 2^47");
        assert!(hash40 != 0 && hash40 >> HASH_BITS == 0, "a fingerprint has 40 bits and is not zero");
        Entry { tag: hash40 << ACCESS_BITS, value: field | (kind as u64) << KIND_SHIFT }
    }

    /// How the value lies in far memory.
    #[inline]
    pub fn kind(self) -> Kind {
        Kind::of_bits(self.value >> KIND_SHIFT & 15)
    }

    /// Where the value lies; of no meaning for [`Kind::LargeList`].
    #[inline]
    pub fn addr(self) -> FarAddr {
        FarAddr((self.value & ADDR_MASK) << ADDR_ALIGN_SHIFT)
    }

    /// The number of the list's near directory; of a meaning for [`Kind::LargeList`] alone.
    #[inline]
    pub fn list(self) -> u32 {
        ((self.value & ADDR_MASK) - 1) as u32
    }

    /// Which value this is.
    #[inline]
    pub fn identity(self) -> Identity {
        Identity(self.value & IDENTITY_MASK)
    }

    /// The access clock. Bounds: up to [`ACCESS_MAX`].
    #[inline]
    pub fn access(self) -> u32 {
        (self.tag & ACCESS_MASK) as u32
    }

    /// Sets the access clock to `access`, modulo 2^24.
    #[inline]
    pub fn set_access(&mut self, access: u32) {
        self.tag = (self.tag & !ACCESS_MASK) | (u64::from(access) & ACCESS_MASK);
    }

    /// The entry with the access clock at `access`, modulo 2^24.
    #[inline]
    pub fn with_access(mut self, access: u32) -> Entry {
        self.set_access(access);
        self
    }

    /// Whether the key has an expiry time.
    #[inline]
    pub fn has_ttl(self) -> bool {
        self.value & TTL_BIT != 0
    }

    /// Records whether the key has an expiry time.
    #[inline]
    pub fn set_has_ttl(&mut self, has_ttl: bool) {
        self.value = (self.value & !TTL_BIT) | u64::from(has_ttl) << TTL_SHIFT;
    }

    /// The entry with or without an expiry time.
    #[inline]
    pub fn with_ttl(mut self, has_ttl: bool) -> Entry {
        self.set_has_ttl(has_ttl);
        self
    }

    /// Fifteen bits for the use of the value's kind; zero in a new entry.
    #[inline]
    pub fn aux(self) -> u16 {
        (self.value >> AUX_SHIFT) as u16
    }

    /// Sets the fifteen bits.
    /// # Panics
    /// If `aux` is beyond [`AUX_MAX`].
    #[inline]
    pub fn set_aux(&mut self, aux: u16) {
        assert!(aux <= AUX_MAX, "aux has 15 bits");
        self.value = (self.value & !(u64::from(AUX_MAX) << AUX_SHIFT)) | u64::from(aux) << AUX_SHIFT;
    }

    /// The entry with the fifteen bits set to `aux`.
    #[inline]
    pub fn with_aux(mut self, aux: u16) -> Entry {
        self.set_aux(aux);
        self
    }

    /// The same key with its value elsewhere: fingerprint, access clock, expiry and aux stay.
    #[inline]
    pub fn moved_to(self, kind: Kind, addr: FarAddr) -> Entry {
        let moved = Entry::new(self.hash40(), kind, addr);
        Entry { tag: self.tag, value: moved.value | self.value & !IDENTITY_MASK }
    }
}

impl Slot for Entry {
    const EMPTY: Entry = Entry { tag: 0, value: 0 };

    #[inline]
    fn is_empty(&self) -> bool {
        self.value == 0
    }

    #[inline]
    fn hash40(&self) -> u64 {
        self.tag >> ACCESS_BITS
    }
}

impl Entry {
    /// The key's fingerprint.
    #[inline]
    pub fn hash40(self) -> u64 {
        Slot::hash40(&self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FAR_END: FarAddr = FarAddr((1 << 47) - 8);

    #[test]
    fn every_field_of_an_entry_keeps_to_its_bits() {
        let all_ones = (1 << HASH_BITS) - 1;
        let mut entry =
            Entry::new(all_ones, Kind::LargeList, FAR_END).with_access(ACCESS_MAX).with_aux(AUX_MAX);
        entry.set_has_ttl(true);
        assert_eq!((entry.tag, entry.value), (u64::MAX, !(12 << KIND_SHIFT)));
        entry.set_access(5);
        entry.set_has_ttl(false);
        entry.set_aux(7);
        assert_eq!((entry.hash40(), entry.access()), (all_ones, 5));
        assert_eq!((entry.kind(), entry.addr()), (Kind::LargeList, FAR_END));
        assert_eq!((entry.has_ttl(), entry.aux()), (false, 7));
        entry.set_access(1 << ACCESS_BITS | 9);
        assert_eq!((entry.hash40(), entry.access()), (all_ones, 9));
    }

    #[test]
    fn the_first_list_is_not_an_empty_slot() {
        let entry = Entry::new_list(1, 0);
        assert!(!entry.is_empty());
        assert_eq!((entry.kind(), entry.list()), (Kind::LargeList, 0));
        assert_eq!(Entry::new_list(1, u32::MAX).list(), u32::MAX);
        assert!(Entry::EMPTY.is_empty());
    }

    #[test]
    fn identity_is_address_and_kind_and_nothing_else() {
        let entry = Entry::new(1, Kind::SmallString, FarAddr(64));
        assert_eq!(entry.identity(), entry.with_ttl(true).with_aux(3).with_access(2).identity());
        assert_ne!(entry.identity(), Entry::new(1, Kind::SmallList, FarAddr(64)).identity());
        assert_ne!(entry.identity(), Entry::new(1, Kind::SmallString, FarAddr(72)).identity());
    }

    #[test]
    fn a_moved_entry_keeps_clock_expiry_and_aux() {
        let entry = Entry::new(77, Kind::SmallString, FarAddr(64)).with_access(9).with_ttl(true).with_aux(3);
        let moved = entry.moved_to(Kind::LargeString, FarAddr(4096));
        assert_eq!((moved.kind(), moved.addr()), (Kind::LargeString, FarAddr(4096)));
        assert_eq!((moved.hash40(), moved.access(), moved.has_ttl(), moved.aux()), (77, 9, true, 3));
    }

    #[test]
    fn fingerprints_have_forty_bits_and_depend_on_the_seed() {
        assert!(fingerprint(b"key", 1) >> HASH_BITS == 0);
        assert_eq!(fingerprint(b"key", 1), fingerprint(b"key", 1));
        assert_ne!(fingerprint(b"key", 1), fingerprint(b"key", 2));
    }
}
