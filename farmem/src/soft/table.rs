//! The page table: where each far page is, in four bytes.
//!
//! ```text
//! tag (2 bits)   30 bits
//! 00 untouched   0
//! 01 remote      checksum of the 4096 bytes in far memory
//! 10 resident    frame number
//! 11 fetching    frame number
//! ```
//!
//! Regions of 4096 pages exist only while one of their pages is touched. Knows no frame's state and
//! decides nothing.

use crate::page::{FrameNo, PAGE_SIZE, PageNo, PageRange};
use alloc::boxed::Box;
use alloc::vec::Vec;

/// Pages in a region: 16 KiB of entries for 16 MiB of far memory.
const REGION_PAGES: usize = 4096;
const VALUE_BITS: u32 = 30;
const VALUE_MASK: u32 = (1 << VALUE_BITS) - 1;
const REMOTE: u32 = 1;
const RESIDENT: u32 = 2;
const FETCHING: u32 = 3;

/// The low 30 bits of xxh3-64 over a page.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Checksum(u32);

impl Checksum {
    /// Of a frame that far memory knows nothing of.
    pub(super) const NONE: Checksum = Checksum(0);

    pub(super) fn of(bytes: &[u8; PAGE_SIZE]) -> Checksum {
        Checksum(xxhash_rust::xxh3::xxh3_64(bytes) as u32 & VALUE_MASK)
    }
}

/// Where a page is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Entry {
    Untouched,
    Remote(Checksum),
    Resident(FrameNo),
    Fetching(FrameNo),
}

impl Entry {
    #[inline]
    fn decode(raw: u32) -> Entry {
        let value = raw & VALUE_MASK;
        match raw >> VALUE_BITS {
            REMOTE => Entry::Remote(Checksum(value)),
            RESIDENT => Entry::Resident(FrameNo(value)),
            FETCHING => Entry::Fetching(FrameNo(value)),
            _ => Entry::Untouched,
        }
    }

    #[inline]
    fn encode(self) -> u32 {
        let (tag, value) = match self {
            Entry::Untouched => (0, 0),
            Entry::Remote(checksum) => (REMOTE, checksum.0),
            Entry::Resident(frame) => (RESIDENT, frame.0),
            Entry::Fetching(frame) => (FETCHING, frame.0),
        };
        tag << VALUE_BITS | value
    }
}

struct Region {
    touched: u32,
    entries: [u32; REGION_PAGES],
}

/// The entries of all far pages.
pub(super) struct PageTable {
    regions: Vec<Option<Box<Region>>>,
    regions_in_use: usize,
}

impl PageTable {
    pub(super) fn new(far_pages: u32) -> PageTable {
        let regions = (far_pages as usize).div_ceil(REGION_PAGES);
        PageTable { regions: (0..regions).map(|_| None).collect(), regions_in_use: 0 }
    }

    /// # Panics
    /// If `page` lies beyond the far memory that the pager was made for.
    #[inline]
    pub(super) fn get(&self, page: PageNo) -> Entry {
        let index = page.0 as usize;
        match &self.regions[index / REGION_PAGES] {
            Some(region) => Entry::decode(region.entries[index % REGION_PAGES]),
            None => Entry::Untouched,
        }
    }

    /// The frame of a resident page.
    #[inline]
    pub(super) fn resident(&self, page: PageNo) -> Option<FrameNo> {
        match self.get(page) {
            Entry::Resident(frame) => Some(frame),
            _ => None,
        }
    }

    pub(super) fn set(&mut self, page: PageNo, entry: Entry) {
        let index = page.0 as usize;
        let slot = &mut self.regions[index / REGION_PAGES];
        if slot.is_none() {
            if entry == Entry::Untouched {
                return;
            }
            *slot = Some(Box::new(Region { touched: 0, entries: [0; REGION_PAGES] }));
            self.regions_in_use += 1;
        }
        let region = slot.as_mut().expect("the region was made above");
        let raw = &mut region.entries[index % REGION_PAGES];
        let was_touched = *raw != 0;
        *raw = entry.encode();
        let is_touched = *raw != 0;
        region.touched = region.touched + u32::from(is_touched) - u32::from(was_touched);
        if region.touched == 0 {
            *slot = None;
            self.regions_in_use -= 1;
        }
    }

    /// The first page of `range` that is not untouched; absent regions are stepped over whole.
    pub(super) fn first_touched(&self, range: PageRange) -> Option<PageNo> {
        let end = range.first.0 as usize + range.count as usize;
        let mut index = range.first.0 as usize;
        while index < end {
            match self.regions.get(index / REGION_PAGES)? {
                Some(region) if region.entries[index % REGION_PAGES] != 0 => {
                    return Some(PageNo(index as u32));
                }
                Some(_) => index += 1,
                None => index = (index / REGION_PAGES + 1) * REGION_PAGES,
            }
        }
        None
    }

    pub(super) fn far_pages(&self) -> u32 {
        u32::try_from(self.regions.len() * REGION_PAGES).unwrap_or(u32::MAX)
    }

    /// Units: bytes.
    pub(super) fn near_bytes(&self) -> usize {
        self.regions.capacity() * size_of::<Option<Box<Region>>>() + self.regions_in_use * size_of::<Region>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_entry_survives_its_encoding() {
        let mut table = PageTable::new(10_000);
        let all = [
            Entry::Remote(Checksum(0)),
            Entry::Remote(Checksum(VALUE_MASK)),
            Entry::Resident(FrameNo(0)),
            Entry::Fetching(FrameNo(VALUE_MASK)),
            Entry::Untouched,
        ];
        for (page, entry) in (4094..).map(PageNo).zip(all) {
            table.set(page, entry);
            assert_eq!(table.get(page), entry);
        }
    }

    #[test]
    fn a_region_lives_only_while_one_of_its_pages_is_touched() {
        let mut table = PageTable::new(10_000);
        let empty_bytes = table.near_bytes();
        table.set(PageNo(5000), Entry::Resident(FrameNo(1)));
        table.set(PageNo(5001), Entry::Remote(Checksum(7)));
        assert_eq!(table.first_touched(PageRange { first: PageNo(0), count: 10_000 }), Some(PageNo(5000)));
        assert_eq!(table.first_touched(PageRange { first: PageNo(5002), count: 4_000 }), None);
        table.set(PageNo(5000), Entry::Untouched);
        assert!(table.near_bytes() > empty_bytes);
        table.set(PageNo(5001), Entry::Untouched);
        assert_eq!(table.near_bytes(), empty_bytes);
    }
}
