//! The slab pages that have both free and used slots, found again by size class.
//!
//! Three levels of bitmaps, so that a page costs two bits however many of them are partial:
//!
//! ```text
//! of_class[class]        bit r: region r may have a partial page of this class
//! region.groups[class]   bit g: pages 64g .. 64g+63 may have one
//! region.pages[g]        bit i: page 64g + i is partial (of whatever class)
//! ```
//!
//! The two upper levels are hints, cleared when a search finds nothing below. A search starts where the
//! last one of its class ended and goes round, so that every partial page is offered in its turn.

use super::class::{CLASS_FIELD, CLASSES, Class};
use super::freemap::REGION_PAGES;
use crate::page::PageNo;
use alloc::boxed::Box;
use alloc::vec::Vec;

const GROUPS: usize = REGION_PAGES as usize / 64;

struct Region {
    pages: [u64; GROUPS],
    groups: [u64; CLASSES],
}

/// The partial slab pages of all classes.
pub(super) struct PartialPages {
    regions: Vec<Option<Box<Region>>>,
    of_class: [Vec<u64>; CLASSES],
    counts: [u32; CLASS_FIELD],
    /// Where the next search of a class starts.
    cursors: [u32; CLASS_FIELD],
    total: u32,
    boxed_bytes: usize,
}

fn split(page: u32) -> (usize, usize, u32) {
    let index = (page % REGION_PAGES) as usize;
    ((page / REGION_PAGES) as usize, index / 64, page % 64)
}

impl PartialPages {
    pub(super) fn new() -> PartialPages {
        PartialPages {
            regions: Vec::new(),
            of_class: [const { Vec::new() }; CLASSES],
            counts: [0; CLASS_FIELD],
            cursors: [0; CLASS_FIELD],
            total: 0,
            boxed_bytes: 0,
        }
    }

    /// How many partial pages a class has.
    #[inline]
    pub(super) fn count(&self, class: Class) -> u32 {
        self.counts[class.index()]
    }

    /// How many partial pages there are.
    pub(super) fn total(&self) -> u32 {
        self.total
    }

    /// Units: bytes of near memory.
    pub(super) fn near_bytes(&self) -> usize {
        let of_class: usize = self.of_class.iter().map(|words| words.capacity()).sum();
        self.boxed_bytes + (self.regions.capacity() + of_class) * size_of::<u64>()
    }

    /// Adds a page that is not in here.
    pub(super) fn insert(&mut self, page: PageNo, class: Class) {
        let (region, group, bit) = split(page.0);
        if region >= self.regions.len() {
            self.regions.resize_with(region + 1, || None);
        }
        let boxed_bytes = &mut self.boxed_bytes;
        let entry = self.regions[region].get_or_insert_with(|| {
            *boxed_bytes += size_of::<Region>();
            Box::new(Region { pages: [0; GROUPS], groups: [0; CLASSES] })
        });
        debug_assert!(entry.pages[group] & 1 << bit == 0);
        entry.pages[group] |= 1 << bit;
        entry.groups[class.index()] |= 1 << group;
        let words = &mut self.of_class[class.index()];
        if region / 64 >= words.len() {
            words.resize(region / 64 + 1, 0);
        }
        words[region / 64] |= 1 << (region % 64);
        self.counts[class.index()] += 1;
        self.total += 1;
    }

    /// Takes out a page that is in here.
    pub(super) fn remove(&mut self, page: PageNo, class: Class) {
        let (region, group, bit) = split(page.0);
        let entry = self.regions[region].as_mut().expect("a partial page's region is kept");
        debug_assert!(entry.pages[group] & 1 << bit != 0);
        entry.pages[group] &= !(1 << bit);
        self.counts[class.index()] -= 1;
        self.total -= 1;
    }

    /// Whether a page is in here.
    pub(super) fn contains(&self, page: PageNo) -> bool {
        let (region, group, bit) = split(page.0);
        let entry = self.regions.get(region).and_then(|entry| entry.as_ref());
        entry.is_some_and(|entry| entry.pages[group] & 1 << bit != 0)
    }

    /// Gives back the near memory of a region that has no used page any more.
    pub(super) fn close(&mut self, region: usize) {
        if let Some(entry) = self.regions.get_mut(region).and_then(Option::take) {
            debug_assert!(entry.pages == [0; GROUPS]);
            self.boxed_bytes -= size_of::<Region>();
        }
    }

    /// The next partial page of `class`, round and round; `is_of` tells whether a page is of the class.
    pub(super) fn next(&mut self, class: Class, is_of: impl Fn(PageNo) -> bool) -> Option<PageNo> {
        if self.count(class) == 0 {
            return None;
        }
        let from = self.cursors[class.index()];
        let found = self.search(class, from, &is_of).or_else(|| self.search(class, 0, &is_of));
        let page = found.expect("the count says that there is one");
        self.cursors[class.index()] = page.0.wrapping_add(1);
        Some(page)
    }

    /// The lowest partial page of `class` from `from` on.
    fn search(&mut self, class: Class, from: u32, is_of: &impl Fn(PageNo) -> bool) -> Option<PageNo> {
        let (first_region, first_group, first_bit) = split(from);
        let mut at = first_region;
        while let Some(region) = next_bit(&self.of_class[class.index()], at) {
            let start = if region == first_region { (first_group, first_bit) } else { (0, 0) };
            if let Some(entry) = &mut self.regions[region]
                && let Some(index) =
                    entry.search(class, start, |index| is_of(PageNo(region as u32 * REGION_PAGES + index)))
            {
                return Some(PageNo(region as u32 * REGION_PAGES + index));
            }
            let bare = self.regions[region].as_ref().is_none_or(|entry| entry.groups[class.index()] == 0);
            if bare {
                self.of_class[class.index()][region / 64] &= !(1 << (region % 64));
            }
            at = region + 1;
        }
        None
    }
}

impl Region {
    /// The lowest partial page of `class` from bit `start.1` of group `start.0` on.
    fn search(&mut self, class: Class, start: (usize, u32), is_of: impl Fn(u32) -> bool) -> Option<u32> {
        let mut groups = self.groups[class.index()] & (u64::MAX << start.0);
        while groups != 0 {
            let group = groups.trailing_zeros() as usize;
            let from = if group == start.0 { start.1 } else { 0 };
            let mut pages = self.pages[group] & (u64::MAX << from);
            while pages != 0 {
                let index = group as u32 * 64 + pages.trailing_zeros();
                if is_of(index) {
                    return Some(index);
                }
                pages &= pages - 1;
            }
            if from == 0 {
                self.groups[class.index()] &= !(1 << group);
            }
            groups &= groups - 1;
        }
        None
    }
}

/// The first set bit from `from` on.
fn next_bit(words: &[u64], from: usize) -> Option<usize> {
    let first = words.get(from / 64)? & (u64::MAX << (from % 64));
    let rest = words[from / 64 + 1..].iter().copied();
    core::iter::once(first).chain(rest).position(|word| word != 0).map(|skipped| {
        let word = from / 64 + skipped;
        let bits = if skipped == 0 { first } else { words[word] };
        word * 64 + bits.trailing_zeros() as usize
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_partial_page_of_a_class_is_offered_in_turn_and_no_other() {
        let mut partial = PartialPages::new();
        let (small, large) = (Class::of(72), Class::of(1000));
        let of_small = [1, 5, 63, 64, 4095, 4096, 70 * 4096 + 17];
        for page in of_small {
            partial.insert(PageNo(page), small);
            partial.insert(PageNo(page + 1000), large);
        }
        let is_small = |page: PageNo| of_small.contains(&page.0);
        for round in 0..3 {
            for page in of_small {
                assert_eq!(partial.next(small, is_small), Some(PageNo(page)), "round {round}");
            }
        }
        assert_eq!(partial.next(Class::of(4096), |_| false), None);
        for page in of_small {
            partial.remove(PageNo(page), small);
        }
        assert_eq!(partial.next(small, is_small), None);
        assert_eq!(partial.count(large), 7);
        assert_eq!(partial.next(large, |page| !is_small(page)), Some(PageNo(1001)));
    }

    #[test]
    fn near_memory_goes_back_when_a_region_is_closed() {
        let mut partial = PartialPages::new();
        partial.insert(PageNo(123_456_789), Class::of(72));
        assert!(partial.contains(PageNo(123_456_789)) && !partial.contains(PageNo(5)));
        let near_bytes = partial.near_bytes();
        partial.remove(PageNo(123_456_789), Class::of(72));
        assert!(!partial.contains(PageNo(123_456_789)));
        partial.close(123_456_789 / REGION_PAGES as usize);
        assert_eq!(partial.near_bytes(), near_bytes - size_of::<Region>());
        assert_eq!(partial.next(Class::of(72), |_| true), None);
    }
}
