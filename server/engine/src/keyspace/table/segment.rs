//! One segment of a [`Table`](super::Table): an open-addressed array whose entries lie in hash order.
//!
//! ```text
//!   fingerprint, 40 bits      | depth bits: which segment | 32 bits: home | rest: order only |
//!
//!   home = bits * homes >> 32, never falling as the fingerprint rises
//!
//!   slots   [ . a b . c d e . . f ]  [ g . . . ]
//!           |<------ homes ------>|  |<- tail ->|     a <= b <= c ... by fingerprint
//! ```
//!
//! An entry lies at its home or, where that is taken, in the first slot after its equals and its
//! lessers: so a search ends at the first empty slot or the first greater fingerprint, and a walk from
//! left to right is a walk in hash order. There is no wrapping round: the tail takes what runs over.
//!
//! Refuses to know other segments: when to split and with whom to merge is the table's.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::mem;

use super::{HASH_BITS, Slot, WINDOW, leading};

/// A segment grows when it is fuller than this. Units: entries a 1024 homes (0.82).
const LOAD_MAX: u64 = 840;
/// A segment shrinks when it is emptier than this. Units: entries a 1024 homes (0.55).
const LOAD_MIN: u64 = 563;
/// A growing segment gets an eighth more homes, which leaves it 0.73 full: 0.775 on average, which is
/// 16 / 0.775 = 20.6 bytes a 16-byte slot.
const GROWTH_SHIFT: u32 = 3;
/// The fewest homes a segment with entries has.
const HOMES_MIN: u64 = 8;
/// The most free tail slots a segment is given. At a load of 0.82 a run of 32 over the end has odds of
/// about e^(-0.44 * 32), one in a million; when it does happen the tail is made longer by an eighth.
const TAIL_MAX: usize = 32;

/// An array of slots for the fingerprints that start with `prefix`, a number of `depth` bits.
pub(super) struct Segment<S> {
    slots: Box<[S]>,
    homes: u32,
    len: u32,
    prefix: u32,
    depth: u8,
}

impl<S: Slot> Segment<S> {
    /// A segment without entries and without memory.
    pub(super) fn new(prefix: u32, depth: u8) -> Segment<S> {
        Segment { slots: Box::default(), homes: 0, len: 0, prefix, depth }
    }

    /// The entries of `sorted` laid out at `homes`.
    fn laid_out(prefix: u32, depth: u8, sorted: Vec<S>, homes: u32) -> Segment<S> {
        let mut segment = Segment::new(prefix, depth);
        segment.lay_out(sorted, homes);
        segment
    }

    /// How many entries the segment has.
    #[inline]
    pub(super) fn len(&self) -> usize {
        self.len as usize
    }

    /// How many leading bits its fingerprints share.
    #[inline]
    pub(super) fn depth(&self) -> u8 {
        self.depth
    }

    /// The bits that its fingerprints share.
    #[inline]
    pub(super) fn prefix(&self) -> u32 {
        self.prefix
    }

    /// Its slots, empty ones too, in hash order.
    #[inline]
    pub(super) fn slots(&self) -> &[S] {
        &self.slots
    }

    /// The slot at `index`, to be changed in place; its fingerprint stays.
    #[inline]
    pub(super) fn slot_mut(&mut self, index: usize) -> &mut S {
        &mut self.slots[index]
    }

    /// Whether one more entry should wait for [`Segment::grow`].
    #[inline]
    pub(super) fn is_full(&self) -> bool {
        u64::from(self.len) * 1024 >= u64::from(self.homes) * LOAD_MAX
    }

    /// The first slot that `hash40` may lie in.
    #[inline]
    pub(super) fn home(&self, hash40: u64) -> usize {
        home(hash40, self.depth, self.homes)
    }

    /// Puts `slot` before its equals; `None` if the run of entries reaches the end of the tail.
    pub(super) fn insert(&mut self, slot: S) -> Option<Inserted> {
        let hash40 = slot.hash40();
        let run = &self.slots[self.home(hash40)..];
        let skipped = run.iter().position(|s| s.is_empty() || s.hash40() >= hash40)?;
        let shifted = run[skipped..].iter().position(S::is_empty)?;
        let index = self.home(hash40) + skipped;
        self.slots.copy_within(index..index + shifted, index + 1);
        self.slots[index] = slot;
        self.len += 1;
        Some(Inserted { index, shifted })
    }

    /// Takes the entry at `index` out and moves those that it had pushed on back by one.
    pub(super) fn remove(&mut self, index: usize) -> S {
        let removed = self.slots[index];
        assert!(!removed.is_empty(), "a position names an entry until the next change");
        let mut end = index + 1;
        while let Some(slot) = self.slots.get(end)
            && !slot.is_empty()
            && self.home(slot.hash40()) < end
        {
            end += 1;
        }
        self.slots.copy_within(index + 1..end, index);
        self.slots[end - 1] = S::EMPTY;
        self.len -= 1;
        removed
    }

    /// Makes room for an eighth more entries. Returns how many it moved.
    pub(super) fn grow(&mut self) -> usize {
        let homes = u64::from(self.homes);
        let grown = homes + (homes >> GROWTH_SHIFT) + 2;
        let sorted = self.take_sorted();
        self.lay_out(sorted, narrow(grown.max(HOMES_MIN)))
    }

    /// Makes the tail longer, for a run that has reached its end. Returns how many entries it moved.
    pub(super) fn lengthen(&mut self) -> usize {
        let sorted = self.take_sorted();
        self.lay_out(sorted, self.homes)
    }

    /// Gives memory back if the segment has become sparse. Returns how many entries it moved.
    pub(super) fn shrink_if_sparse(&mut self) -> usize {
        let homes = u64::from(self.homes);
        if u64::from(self.len) * 1024 >= homes * LOAD_MIN || homes <= HOMES_MIN {
            return 0;
        }
        let sorted = self.take_sorted();
        let homes = roomy_homes(sorted.len(), self.prefix);
        self.lay_out(sorted, homes)
    }

    /// Keeps the lower half of the hash range and returns the upper one.
    pub(super) fn split(&mut self) -> Segment<S> {
        let mut lower = self.take_sorted();
        let (prefix, depth) = (self.prefix << 1, self.depth + 1);
        let middle = lower.partition_point(|s| leading(s.hash40(), depth) <= prefix);
        let homes = roomy_homes(lower.len() - middle, prefix | 1);
        let upper = lower.split_off(middle);
        let upper = Segment::laid_out(prefix | 1, depth, upper, homes);
        let homes = roomy_homes(lower.len(), prefix);
        *self = Segment::laid_out(prefix, depth, lower, homes);
        upper
    }

    /// The inverse of [`Segment::split`].
    pub(super) fn merge(&mut self, mut upper: Segment<S>) {
        assert!(self.prefix ^ 1 == upper.prefix && self.depth == upper.depth, "buddies merge");
        let mut sorted = self.take_sorted();
        sorted.append(&mut upper.take_sorted());
        let prefix = self.prefix >> 1;
        let homes = roomy_homes(sorted.len(), prefix);
        *self = Segment::laid_out(prefix, self.depth - 1, sorted, homes);
    }

    /// The entries without the gaps; the segment is left empty.
    fn take_sorted(&mut self) -> Vec<S> {
        let mut sorted = mem::take(&mut self.slots).into_vec();
        sorted.retain(|slot| !slot.is_empty());
        sorted
    }

    /// Spreads `sorted` over `homes` and a tail, in place. Returns how many entries it moved.
    fn lay_out(&mut self, sorted: Vec<S>, homes: u32) -> usize {
        let mut slots = sorted;
        let len = slots.len();
        let end = slots.iter().fold(0, |end, slot| end.max(home(slot.hash40(), self.depth, homes)) + 1);
        let overrun = end.saturating_sub(homes as usize);
        let tail = (homes as usize / 8).clamp(WINDOW, TAIL_MAX) + overrun / 8;
        let total = end.max(homes as usize) + tail;
        slots.reserve_exact(total - len);
        slots.resize(total, S::EMPTY);
        slots.shrink_to_fit();
        // The entries go to the far end, then each to its place: never past one that is still to go,
        // because those that are still to go need as many slots behind it as there are of them.
        slots.copy_within(..len, total - len);
        slots[..len.min(total - len)].fill(S::EMPTY);
        let mut place = 0;
        for from in total - len..total {
            let slot = mem::replace(&mut slots[from], S::EMPTY);
            place = home(slot.hash40(), self.depth, homes).max(place);
            slots[place] = slot;
            place += 1;
        }
        self.slots = slots.into_boxed_slice();
        self.homes = homes;
        self.len = u32::try_from(len).expect("a segment has fewer than 2^32 entries");
        len
    }
}

/// Where [`Segment::insert`] put an entry.
pub(super) struct Inserted {
    /// The slot.
    pub(super) index: usize,
    /// How many entries had to move on by one.
    pub(super) shifted: usize,
}

/// The first slot for `hash40` among `homes`.
#[inline]
fn home(hash40: u64, depth: u8, homes: u32) -> usize {
    let bits = (hash40 << (64 - HASH_BITS + u32::from(depth))) >> 32;
    ((bits * u64::from(homes)) >> 32) as usize
}

/// Homes for `len` entries at a load from 0.73 to 0.82 that depends on `prefix`, so that the segments of
/// a table grow one after the other and not all at once.
fn roomy_homes(len: usize, prefix: u32) -> u32 {
    let phase = u64::from(prefix.wrapping_mul(0x9e37_79b9) >> 24);
    let tightest = len as u64 * 1024 / LOAD_MAX + 1;
    narrow((tightest + ((tightest * phase) >> (8 + GROWTH_SHIFT))).max(HOMES_MIN))
}

fn narrow(homes: u64) -> u32 {
    u32::try_from(homes).expect("a segment has fewer than 2^32 homes")
}
