//! Which pages of one region are free: a bit a page, and searches by whole words.
//!
//! Refuses to know where its region lies; pages are indexes `0..4096` here.

use core::ops::Range;

/// Pages in a region: 16 MiB of far memory, so that its map is 64 words of 64 bits.
pub(super) const REGION_PAGES: u32 = 4096;

const WORD_BITS: u32 = u64::BITS;
const WORDS: usize = (REGION_PAGES / WORD_BITS) as usize;

/// The free pages of one region.
pub(super) struct FreeMap {
    /// Bit set: the page is free.
    words: [u64; WORDS],
    free: u32,
    usable: u32,
}

impl FreeMap {
    /// A map in which the pages `usable` are free and all others never will be.
    pub(super) fn new(usable: Range<u32>) -> FreeMap {
        let count = usable.len() as u32;
        let mut map = FreeMap { words: [0; WORDS], free: 0, usable: count };
        map.give(usable);
        map
    }

    /// How many pages are free.
    pub(super) fn free(&self) -> u32 {
        self.free
    }

    /// Whether every page that can be free is.
    pub(super) fn is_untouched(&self) -> bool {
        self.free == self.usable
    }

    /// The lowest free page.
    pub(super) fn first_free(&self) -> Option<u32> {
        Some(self.next(0, true)).filter(|&page| page < REGION_PAGES)
    }

    /// The lowest run of `count` free pages, or else a bound on the longest run: it is below `count`.
    pub(super) fn find_run(&self, count: u32) -> Result<u32, u32> {
        if count <= WORD_BITS {
            return self.find_short_run(count).ok_or(count - 1);
        }
        let mut longest = 0;
        let mut start = self.next(0, true);
        while start < REGION_PAGES {
            let end = self.next(start, false);
            if end - start >= count {
                return Ok(start);
            }
            longest = longest.max(end - start);
            start = self.next(end, true);
        }
        Err(longest)
    }

    /// As `find_run`, for runs of at most 64 pages: a few instructions a word however cut up it is.
    fn find_short_run(&self, count: u32) -> Option<u32> {
        let mut run_before = 0;
        for (index, &word) in self.words.iter().enumerate() {
            let base = index as u32 * WORD_BITS;
            if run_before + word.trailing_ones() >= count {
                return Some(base - run_before);
            }
            // Bit i of `starts` stays set while the `length` pages from i on are free.
            let (mut starts, mut length) = (word, 1);
            while length < count && starts != 0 {
                let step = length.min(count - length);
                starts &= starts >> step;
                length += step;
            }
            if starts != 0 {
                return Some(base + starts.trailing_zeros());
            }
            run_before = if word == u64::MAX { run_before + WORD_BITS } else { word.leading_ones() };
        }
        None
    }

    /// The whole free run that `within` (itself free) is part of.
    pub(super) fn run_around(&self, within: Range<u32>) -> Range<u32> {
        self.after_last_used(within.start)..self.next(within.end, false)
    }

    /// How many pages are free from the region's first page on.
    pub(super) fn prefix(&self) -> u32 {
        self.next(0, false)
    }

    /// How many pages are free up to the region's last page.
    pub(super) fn suffix(&self) -> u32 {
        REGION_PAGES - self.after_last_used(REGION_PAGES)
    }

    /// Whether all these pages are free.
    pub(super) fn is_free(&self, pages: Range<u32>) -> bool {
        self.next(pages.start, false) >= pages.end
    }

    /// Marks free pages as used.
    /// # Panics
    /// If one is used.
    pub(super) fn take(&mut self, pages: Range<u32>) {
        for (word, mask) in masks(pages.clone()) {
            assert!(self.words[word] & mask == mask, "a page is handed out once");
            self.words[word] &= !mask;
        }
        self.free -= pages.len() as u32;
    }

    /// Marks used pages as free.
    /// # Panics
    /// If one is free.
    pub(super) fn give(&mut self, pages: Range<u32>) {
        for (word, mask) in masks(pages.clone()) {
            assert!(self.words[word] & mask == 0, "a page is given back once");
            self.words[word] |= mask;
        }
        self.free += pages.len() as u32;
    }

    /// The first page from `from` on that is free (or is not), or `REGION_PAGES`.
    fn next(&self, from: u32, free: bool) -> u32 {
        if from >= REGION_PAGES {
            return REGION_PAGES;
        }
        let flip = if free { 0 } else { u64::MAX };
        let first = (from / WORD_BITS) as usize;
        let mut bits = (self.words[first] ^ flip) & (u64::MAX << (from % WORD_BITS));
        for word in first..WORDS {
            if word > first {
                bits = self.words[word] ^ flip;
            }
            if bits != 0 {
                return word as u32 * WORD_BITS + bits.trailing_zeros();
            }
        }
        REGION_PAGES
    }

    /// One more than the last used page below `before`, or 0.
    fn after_last_used(&self, before: u32) -> u32 {
        for (word, mask) in masks(0..before).rev() {
            let used = !self.words[word] & mask;
            if used != 0 {
                return word as u32 * WORD_BITS + WORD_BITS - used.leading_zeros();
            }
        }
        0
    }
}

/// The words under a range of bits, and the bits of the range in each.
fn masks(bits: Range<u32>) -> impl DoubleEndedIterator<Item = (usize, u64)> {
    let words = if bits.is_empty() { 0..0 } else { bits.start / WORD_BITS..bits.end.div_ceil(WORD_BITS) };
    words.map(move |word| {
        let base = word * WORD_BITS;
        let low = bits.start.saturating_sub(base);
        let high = (bits.end - base).min(WORD_BITS);
        (word as usize, (u64::MAX << low) & (u64::MAX >> (WORD_BITS - high)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fresh_map_is_one_run() {
        let map = FreeMap::new(1..REGION_PAGES);
        assert_eq!(map.first_free(), Some(1));
        assert_eq!(map.find_run(4095), Ok(1));
        assert_eq!(map.find_run(4096), Err(4095));
        assert_eq!((map.prefix(), map.suffix()), (0, 4095));
        assert!(map.is_untouched());
    }

    #[test]
    fn runs_are_found_across_word_borders_and_merge_again() {
        let mut map = FreeMap::new(0..REGION_PAGES);
        map.take(0..REGION_PAGES);
        assert_eq!(map.first_free(), None);
        assert_eq!(map.find_run(1), Err(0));
        assert_eq!(map.find_run(64), Err(63));
        map.give(60..70);
        map.give(200..328);
        assert_eq!(map.find_run(10), Ok(60));
        assert_eq!(map.find_run(11), Ok(200));
        assert_eq!(map.find_run(129), Err(128));
        map.give(70..200);
        assert_eq!(map.run_around(100..101), 60..328);
        assert!(map.is_free(60..328) && !map.is_free(59..328) && !map.is_free(60..329));
        assert_eq!(map.free(), 268);
    }

    #[test]
    fn the_lowest_run_is_found_whatever_its_length() {
        let mut map = FreeMap::new(0..REGION_PAGES);
        map.take(0..REGION_PAGES);
        // Runs of 1, 2, 3 ... 88 pages, one used page between them.
        let starts = (1..=88).map(|length: u32| (length, length * (length - 1) / 2 + length));
        for (length, start) in starts.clone() {
            map.give(start..start + length);
        }
        for (length, start) in starts {
            assert_eq!(map.find_run(length), Ok(start), "a run of {length}");
        }
        assert_eq!(map.find_run(89), Err(88));
    }

    #[test]
    fn prefix_and_suffix_reach_the_first_used_page() {
        let mut map = FreeMap::new(0..REGION_PAGES);
        map.take(130..131);
        assert_eq!((map.prefix(), map.suffix()), (130, 4096 - 131));
        map.take(4095..4096);
        assert_eq!(map.suffix(), 0);
        assert_eq!(map.run_around(4000..4001), 131..4095);
    }

    #[test]
    #[should_panic(expected = "a page is given back once")]
    fn a_page_that_is_free_cannot_be_given_back() {
        FreeMap::new(0..8).give(7..8);
    }
}
