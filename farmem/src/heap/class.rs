//! Size classes of small objects, and the word that describes one used page.
//!
//! ```text
//!                  63  62 61       56 55                                   0
//! slab page        │ 1    │  class   │  free slots, bit i set: slot i free  │
//! extent's first   │ 2    │  pages - 1 (18 bits)  │  owner (44 bits)        │
//! any other page   │ 0                                                      │
//! ```
//!
//! The smallest slot is 72 bytes so that the free map of a page (4096 / 72 = 56 slots) and its class fit
//! one word. Refuses to know where a page is or who owns it.

use crate::page::PAGE_SIZE;

/// Sizes of the slots. For each number of slots a page can have, the largest multiple of 8 that fits,
/// so a smaller class always buys at least one more slot a page.
const SIZES: [u16; CLASSES] = [
    72, 80, 88, 96, 104, 112, 120, 128, 136, 144, 152, 160, 168, 176, 184, 192, 200, 208, 224, 240, 256, 272,
    288, 312, 336, 368, 408, 448, 512, 584, 680, 816, 1024, 1360, 2048, 4096,
];

/// How many size classes there are. Bounds: 64, the class field has 6 bits.
pub(super) const CLASSES: usize = 36;

/// Room for every value of the class field, so that indexing by class needs no bounds check.
pub(super) const CLASS_FIELD: usize = 64;

const CLASS_SHIFT: u32 = 56;
const KIND_SHIFT: u32 = 62;
const SLOTS_MASK: u64 = (1 << CLASS_SHIFT) - 1;
const OWNER_BITS: u32 = 44;

/// The largest extent: 1 GiB, what the 18 bits of the word can say.
pub(super) const EXTENT_PAGES_MAX: u32 = 1 << (KIND_SHIFT - OWNER_BITS);

/// Owners are below this: 44 bits, enough for any far address.
pub(super) const OWNER_MAX: u64 = 1 << OWNER_BITS;

#[derive(Clone, Copy)]
struct Shape {
    size: u16,
    /// 2^24 / size, rounded up: `offset * reciprocal >> 24` is `offset / size` for every offset in a page.
    reciprocal: u32,
    all_free: u64,
}

const SHAPES: [Shape; CLASS_FIELD] = {
    let mut shapes = [Shape { size: 0, reciprocal: 0, all_free: 0 }; CLASS_FIELD];
    let mut class = 0;
    while class < CLASSES {
        let size = SIZES[class];
        let slots = PAGE_SIZE / size as usize;
        assert!(slots <= CLASS_SHIFT as usize && size.is_multiple_of(8));
        shapes[class] =
            Shape { size, reciprocal: (1u32 << 24).div_ceil(size as u32), all_free: (1 << slots) - 1 };
        class += 1;
    }
    shapes
};

/// The class of each size, in steps of 8 bytes.
const CLASS_OF: [u8; PAGE_SIZE / 8 + 1] = {
    let mut table = [0; PAGE_SIZE / 8 + 1];
    let mut step = 0;
    let mut class = 0;
    while step < table.len() {
        while (SIZES[class] as usize) < step * 8 {
            class += 1;
        }
        table[step] = class as u8;
        step += 1;
    }
    table
};

/// A size class. Bounds: below [`CLASSES`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Class(u8);

impl Class {
    /// The smallest class whose slots hold `size` bytes. Bounds: `size` at most a page.
    #[inline]
    pub(super) fn of(size: usize) -> Class {
        assert!(size <= PAGE_SIZE, "an object of more than a page is an extent");
        Class(CLASS_OF[size.div_ceil(8)])
    }

    /// For tables indexed by class. Bounds: below [`CLASS_FIELD`].
    #[inline]
    pub(super) fn index(self) -> usize {
        usize::from(self.0) % CLASS_FIELD
    }

    /// Bytes in a slot.
    #[inline]
    pub(super) fn slot_size(self) -> usize {
        usize::from(SHAPES[self.index()].size)
    }

    /// The slot that starts at `offset` of its page.
    /// # Panics
    /// If none does.
    #[inline]
    fn slot_at(self, offset: usize) -> u32 {
        let shape = &SHAPES[self.index()];
        let slot = (offset as u64 * u64::from(shape.reciprocal)) >> 24;
        assert!(slot * u64::from(shape.size) == offset as u64, "no slot starts at this address");
        slot as u32
    }
}

/// What is known near of one page.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Word(pub(super) u64);

impl Word {
    /// A free page, or one inside an extent.
    pub(super) const BLANK: Word = Word(0);

    /// A slab page whose slots are all free.
    #[inline]
    pub(super) fn slab(class: Class) -> Word {
        Word(1 << KIND_SHIFT | u64::from(class.0) << CLASS_SHIFT | SHAPES[class.index()].all_free)
    }

    /// The first page of an extent.
    #[inline]
    pub(super) fn extent(pages: u32, owner: u64) -> Word {
        assert!((1..=EXTENT_PAGES_MAX).contains(&pages), "an extent has 1 to 2^18 pages");
        assert!(owner < OWNER_MAX, "an owner has 44 bits");
        Word(2 << KIND_SHIFT | u64::from(pages - 1) << OWNER_BITS | owner)
    }

    /// The class, if this is a slab page.
    #[inline]
    pub(super) fn class(self) -> Option<Class> {
        (self.0 >> KIND_SHIFT == 1).then_some(Class((self.0 >> CLASS_SHIFT & 63) as u8))
    }

    /// The page count and owner, if an extent starts here.
    #[inline]
    pub(super) fn as_extent(self) -> Option<(u32, u64)> {
        let pages = (self.0 >> OWNER_BITS) as u32 % EXTENT_PAGES_MAX + 1;
        (self.0 >> KIND_SHIFT == 2).then_some((pages, self.0 % OWNER_MAX))
    }

    /// Whether a slab page has no free slot.
    #[inline]
    pub(super) fn is_full(self) -> bool {
        self.0 & SLOTS_MASK == 0
    }

    /// Whether a slab page of `class` has only free slots.
    #[inline]
    pub(super) fn is_empty(self, class: Class) -> bool {
        self.0 & SLOTS_MASK == SHAPES[class.index()].all_free
    }

    /// How many slots of a slab page of `class` are used, and how many there are.
    #[inline]
    pub(super) fn used_of_all(self, class: Class) -> (u32, u32) {
        let all = SHAPES[class.index()].all_free.count_ones();
        (all - (self.0 & SLOTS_MASK).count_ones(), all)
    }

    /// Takes the lowest free slot of a slab page that is not full; returns its offset in the page.
    #[inline]
    pub(super) fn take_slot(&mut self, class: Class) -> usize {
        let slot = self.0.trailing_zeros();
        debug_assert!(!self.is_full());
        self.0 &= self.0 - 1;
        slot as usize * class.slot_size()
    }

    /// Gives back the slot at `offset`.
    /// # Panics
    /// If no slot starts there, or it is free already.
    #[inline]
    pub(super) fn free_slot(&mut self, class: Class, offset: usize) {
        let bit = self.used_slot(class, offset);
        self.0 |= bit;
    }

    /// The bit of the used slot at `offset`.
    /// # Panics
    /// If no slot starts there, or it is free.
    #[inline]
    pub(super) fn used_slot(self, class: Class, offset: usize) -> u64 {
        let bit = 1u64 << class.slot_at(offset);
        assert!(bit & SHAPES[class.index()].all_free != 0, "the tail of a page is no slot");
        assert!(self.0 & bit == 0, "the slot is free");
        bit
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_size_gets_the_tightest_class_that_holds_it() {
        for size in 0..=PAGE_SIZE {
            let class = Class::of(size);
            assert!(class.slot_size() >= size);
            assert!(class.0 == 0 || usize::from(SIZES[class.index() - 1]) < size);
        }
    }

    #[test]
    fn classes_waste_little_of_a_slot_and_of_a_page() {
        for pair in SIZES.windows(2).take_while(|pair| pair[1] <= 1024) {
            assert!(u32::from(pair[1]) * 100 <= u32::from(pair[0]) * 126, "{pair:?}");
        }
        for size in SIZES {
            let tail = PAGE_SIZE % usize::from(size);
            assert!(tail * 100 <= PAGE_SIZE * 4, "{size} leaves {tail}");
        }
    }

    #[test]
    fn the_reciprocal_divides_every_offset_exactly() {
        for shape in &SHAPES[..CLASSES] {
            for offset in 0..PAGE_SIZE as u64 {
                let slot = (offset * u64::from(shape.reciprocal)) >> 24;
                assert_eq!(slot, offset / u64::from(shape.size));
            }
        }
    }

    #[test]
    fn a_word_keeps_the_largest_extent_and_owner() {
        let word = Word::extent(EXTENT_PAGES_MAX, OWNER_MAX - 1);
        assert_eq!(word.as_extent(), Some((EXTENT_PAGES_MAX, OWNER_MAX - 1)));
        assert_eq!(word.class(), None);
        assert_eq!(Word::extent(1, 0).as_extent(), Some((1, 0)));
        assert_eq!(Word::slab(Class::of(72)).as_extent(), None);
        assert_eq!(Word::BLANK.as_extent(), None);
    }

    #[test]
    fn a_page_of_each_class_hands_out_disjoint_slots_until_full() {
        for size in SIZES {
            let class = Class::of(usize::from(size));
            let mut word = Word::slab(class);
            let mut expected = 0;
            while !word.is_full() {
                assert_eq!(word.take_slot(class), expected);
                expected += usize::from(size);
            }
            assert!(expected <= PAGE_SIZE && expected + usize::from(size) > PAGE_SIZE);
            assert_eq!(word.class(), Some(class));
            while expected > 0 {
                expected -= usize::from(size);
                word.free_slot(class, expected);
            }
            assert!(word.is_empty(class));
        }
    }
}
