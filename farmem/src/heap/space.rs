//! The far address space as regions of pages: which pages are free, and the word of each used page.
//!
//! ```text
//! far address space   │ region 0 │ region 1 │ region 2 │  ...      4096 pages each, page 0 never used
//! near: regions         map        map        -                    only while the region has a used page
//! near: words           words      -          -                    only where a slab page or extent starts
//! ```
//!
//! Slab pages and extents open regions of their own while there are any, so that short-lived small
//! objects do not cut up the room for extents. Refuses to know size classes and owners.

use super::class::Word;
use super::freemap::{FreeMap, REGION_PAGES};
use super::runs::LongestRuns;
use crate::page::{PageNo, PageRange};
use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;
use core::ops::Range;

type Words = [u64; REGION_PAGES as usize];

/// What a region was opened for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Purpose {
    /// Pages of small objects.
    Slabs,
    /// Runs of whole pages.
    Extents,
}

struct Region {
    purpose: Purpose,
    map: FreeMap,
}

/// All pages of far memory.
pub(super) struct Space {
    capacity_pages: u32,
    used_pages: u32,
    regions: Vec<Option<Box<Region>>>,
    words: Vec<Option<Box<Words>>>,
    /// Longest runs of the regions opened for slabs; zero for all others.
    slab_runs: LongestRuns,
    /// Longest runs of the regions opened for extents; zero for all others.
    extent_runs: LongestRuns,
    /// No region below this one is untouched.
    untouched_from: usize,
    boxed_bytes: usize,
}

fn region_of(page: u32) -> usize {
    (page / REGION_PAGES) as usize
}

/// A run of pages, cut at region borders: each region and the indexes in it.
fn pieces(first: u32, count: u32) -> impl Iterator<Item = (usize, Range<u32>)> {
    let end = first + count;
    (region_of(first)..=region_of(end - 1)).map(move |region| {
        let base = region as u32 * REGION_PAGES;
        (region, first.saturating_sub(base)..(end - base).min(REGION_PAGES))
    })
}

impl Space {
    pub(super) fn new(capacity_pages: u32) -> Space {
        Space {
            capacity_pages,
            used_pages: 0,
            regions: Vec::new(),
            words: Vec::new(),
            slab_runs: LongestRuns::default(),
            extent_runs: LongestRuns::default(),
            untouched_from: 0,
            boxed_bytes: 0,
        }
    }

    pub(super) fn capacity_pages(&self) -> u32 {
        self.capacity_pages
    }

    pub(super) fn used_pages(&self) -> u32 {
        self.used_pages
    }

    /// Pages that could still be handed out, one by one.
    pub(super) fn free_pages(&self) -> u32 {
        self.capacity_pages.saturating_sub(1) - self.used_pages
    }

    /// Units: bytes of near memory.
    pub(super) fn near_bytes(&self) -> usize {
        self.boxed_bytes
            + (self.regions.capacity() + self.words.capacity()) * size_of::<usize>()
            + self.slab_runs.near_bytes()
            + self.extent_runs.near_bytes()
    }

    /// The word of a page; blank if it was never set.
    #[inline]
    pub(super) fn word(&self, page: PageNo) -> Word {
        match self.words.get(region_of(page.0)) {
            Some(Some(words)) => Word(words[(page.0 % REGION_PAGES) as usize]),
            _ => Word::BLANK,
        }
    }

    /// The word of a page that has one: a slab page or the first of an extent.
    /// # Panics
    /// If nothing in the page's region has a word: a wild address.
    #[inline]
    pub(super) fn word_mut(&mut self, page: PageNo) -> &mut u64 {
        match self.words.get_mut(region_of(page.0)) {
            Some(Some(words)) => &mut words[(page.0 % REGION_PAGES) as usize],
            _ => panic!("nothing was allocated at {page:?}"),
        }
    }

    /// Takes one free page for small objects, and gives it `word`.
    pub(super) fn take_page(&mut self, word: Word) -> Option<PageNo> {
        let page = self.find_page()?;
        self.take(page, 1, Purpose::Slabs);
        self.start(page, word);
        Some(PageNo(page))
    }

    /// Takes `count` consecutive free pages, and gives the first of them `word`.
    pub(super) fn take_run(&mut self, count: u32, word: Word) -> Option<PageNo> {
        let first = self.find_run(count)?;
        self.take(first, count, Purpose::Extents);
        self.start(first, word);
        Some(PageNo(first))
    }

    /// Takes these very pages if all of them are free.
    pub(super) fn take_exactly(&mut self, range: PageRange) -> bool {
        let free = self.is_free(range);
        if free && range.count > 0 {
            self.take(range.first.0, range.count, Purpose::Extents);
        }
        free
    }

    /// Whether all of these pages exist and are free.
    pub(super) fn is_free(&self, range: PageRange) -> bool {
        let (first, count) = (range.first.0, range.count);
        let fits = self.capacity_pages.checked_sub(first).is_some_and(|left| count <= left);
        fits && (count == 0
            || pieces(first, count).all(|(region, pages)| match self.region(region) {
                Some(region) => region.map.is_free(pages),
                None => true,
            }))
    }

    /// Gives back used pages; their words have to be blank. Calls `closed` with each region that has no
    /// used page any more.
    pub(super) fn give(&mut self, range: PageRange, mut closed: impl FnMut(usize)) {
        if range.count == 0 {
            return;
        }
        for (index, pages) in pieces(range.first.0, range.count) {
            let region = self.regions[index].as_mut().expect("a used page lies in an open region");
            region.map.give(pages.clone());
            if region.map.is_untouched() {
                self.close(index);
                closed(index);
                continue;
            }
            let run = region.map.run_around(pages).len() as u32;
            let purpose = region.purpose;
            let runs = self.runs_mut(purpose);
            if run > runs.get(index) {
                runs.set(index, run);
            }
        }
        self.used_pages -= range.count;
        if self.used_pages == 0 {
            *self = Space::new(self.capacity_pages);
        }
    }

    fn region(&self, index: usize) -> Option<&Region> {
        self.regions.get(index)?.as_deref()
    }

    fn region_count(&self) -> usize {
        self.capacity_pages.div_ceil(REGION_PAGES) as usize
    }

    fn runs_mut(&mut self, purpose: Purpose) -> &mut LongestRuns {
        match purpose {
            Purpose::Slabs => &mut self.slab_runs,
            Purpose::Extents => &mut self.extent_runs,
        }
    }

    /// The pages of a region that may be used: not page 0, nothing beyond the capacity.
    fn usable(&self, region: usize) -> Range<u32> {
        let base = region as u32 * REGION_PAGES;
        u32::from(region == 0)..(self.capacity_pages - base).min(REGION_PAGES)
    }

    fn find_page(&self) -> Option<u32> {
        let open = |region: usize| {
            let page = self.region(region)?.map.first_free()?;
            Some(region as u32 * REGION_PAGES + page)
        };
        if let Some(region) = self.slab_runs.first_with(1) {
            return open(region);
        }
        if let Some(region) = self.untouched(1) {
            return Some(region as u32 * REGION_PAGES + self.usable(region).start);
        }
        open(self.extent_runs.first_with(1)?)
    }

    fn find_run(&mut self, count: u32) -> Option<u32> {
        if count > self.free_pages() {
            return None;
        }
        if count <= REGION_PAGES {
            if let Some(first) = self.find_run_in(Purpose::Extents, count) {
                return Some(first);
            }
            if let Some(region) = self.untouched(count) {
                return Some(region as u32 * REGION_PAGES + self.usable(region).start);
            }
            if let Some(first) = self.find_run_in(Purpose::Slabs, count) {
                return Some(first);
            }
        }
        self.find_run_across(count)
    }

    /// The lowest run inside one region of this purpose. Each miss makes a bound exact, so a region is
    /// searched in vain once until pages come back to it.
    fn find_run_in(&mut self, purpose: Purpose, count: u32) -> Option<u32> {
        while let Some(index) = self.runs_mut(purpose).first_with(count) {
            let region = self.region(index).expect("a region with a run is open");
            match region.map.find_run(count) {
                Ok(page) => return Some(index as u32 * REGION_PAGES + page),
                Err(longest) => self.runs_mut(purpose).set(index, longest),
            }
        }
        None
    }

    /// The lowest run that crosses a region border.
    fn find_run_across(&self, count: u32) -> Option<u32> {
        let open = [&self.slab_runs, &self.extent_runs].into_iter().filter_map(|runs| runs.first_with(1));
        let lowest = open.chain([self.untouched_from]).min().unwrap_or(0);
        let (mut start, mut run) = (lowest as u32 * REGION_PAGES, 0);
        for index in lowest..self.region_count() {
            let base = index as u32 * REGION_PAGES;
            let (prefix, suffix) = match self.region(index) {
                Some(region) => (region.map.prefix(), region.map.suffix()),
                None => {
                    let pages = self.usable(index);
                    let prefix = if pages.start == 0 { pages.end } else { 0 };
                    let suffix = if pages.end == REGION_PAGES { pages.len() as u32 } else { 0 };
                    (prefix, suffix)
                }
            };
            if run + prefix >= count {
                return Some(start);
            }
            if prefix == REGION_PAGES {
                run += prefix;
            } else {
                // Wraps only behind the very last region, where nothing is read of it any more.
                (start, run) = (base.wrapping_add(REGION_PAGES - suffix), suffix);
            }
        }
        None
    }

    /// The lowest untouched region with at least `count` usable pages.
    fn untouched(&self, count: u32) -> Option<usize> {
        (self.untouched_from..self.region_count())
            .find(|&region| self.region(region).is_none() && self.usable(region).len() as u32 >= count)
    }

    fn take(&mut self, first: u32, count: u32, purpose: Purpose) {
        for (index, pages) in pieces(first, count) {
            self.open(index, purpose);
            let region = self.regions[index].as_mut().expect("just opened");
            region.map.take(pages);
            let (free, purpose) = (region.map.free(), region.purpose);
            let runs = self.runs_mut(purpose);
            if free < runs.get(index) {
                runs.set(index, free);
            }
        }
        self.used_pages += count;
    }

    fn start(&mut self, page: u32, word: Word) {
        let words = &mut self.words[region_of(page)];
        if words.is_none() {
            let blank: Box<[u64]> = vec![Word::BLANK.0; REGION_PAGES as usize].into_boxed_slice();
            *words = Some(blank.try_into().expect("it has one word a page"));
            self.boxed_bytes += size_of::<Words>();
        }
        *self.word_mut(PageNo(page)) = word.0;
    }

    fn open(&mut self, index: usize, purpose: Purpose) {
        if self.region(index).is_some() {
            return;
        }
        if index >= self.regions.len() {
            self.regions.resize_with(index + 1, || None);
            self.words.resize_with(index + 1, || None);
        }
        let map = FreeMap::new(self.usable(index));
        self.runs_mut(purpose).set(index, map.free());
        self.regions[index] = Some(Box::new(Region { purpose, map }));
        self.boxed_bytes += size_of::<Region>();
        if self.untouched_from == index {
            self.untouched_from += 1;
        }
    }

    fn close(&mut self, index: usize) {
        let region = self.regions[index].take().expect("only an open region is closed");
        self.boxed_bytes -= size_of::<Region>();
        if self.words[index].take().is_some() {
            self.boxed_bytes -= size_of::<Words>();
        }
        self.runs_mut(region.purpose).set(index, 0);
        self.untouched_from = self.untouched_from.min(index);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_page_of_the_largest_far_memory_is_usable() {
        let mut space = Space::new(u32::MAX);
        let last = PageRange { first: PageNo(u32::MAX - 10), count: 10 };
        assert!(!space.take_exactly(PageRange { count: 11, ..last }));
        assert!(space.take_exactly(last));
        assert!(!space.take_exactly(last));
        assert_eq!(space.find_run_across(u32::MAX - 10), None);
        assert_eq!(space.find_run_across(u32::MAX - 11), Some(1));
        assert_eq!(space.find_run(1), Some(u32::MAX - 4095));
        assert_eq!(space.find_page(), Some(1));
        space.give(last, |region| assert_eq!(region, (1 << 20) - 1));
        assert_eq!(space.find_run_across(u32::MAX - 1), Some(1));
        assert_eq!(space.near_bytes(), 0);
    }

    #[test]
    fn a_range_beyond_the_end_is_not_free() {
        let mut space = Space::new(100);
        assert!(!space.take_exactly(PageRange { first: PageNo(99), count: 2 }));
        assert!(!space.take_exactly(PageRange { first: PageNo(101), count: 0 }));
        assert!(space.take_exactly(PageRange { first: PageNo(100), count: 0 }));
        assert!(space.take_exactly(PageRange { first: PageNo(99), count: 1 }));
    }
}
