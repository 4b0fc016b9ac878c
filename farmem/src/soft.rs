//! The soft pager: where each far page is, in four bytes of a table of ours.
//!
//! ```text
//! tag (2 bits)   30 bits
//! 00 untouched   0
//! 01 remote      checksum of the 4096 bytes in far memory
//! 10 resident    frame number
//! 11 fetching    frame number
//! ```
//!
//! Regions of 4096 pages exist only while one of their pages is touched. No kernel, no page table of the
//! MMU, no fault: residency is looked up before a page is touched.

use crate::link::Link;
use crate::mapping::{Checksum, Entry, Mapping, Resolved, Touch};
use crate::page::{FarAddr, Frame, FrameNo, PageNo, PageRange};
use crate::pager::{PagerError, Prefetch};
use crate::residency::{Residency, ZEROS};
use alloc::boxed::Box;
use alloc::vec::Vec;

/// Pages in a region: 16 KiB of entries for 16 MiB of far memory.
const REGION_PAGES: usize = 4096;
const VALUE_BITS: u32 = Checksum::BITS;
const VALUE_MASK: u32 = (1 << VALUE_BITS) - 1;
const REMOTE: u32 = 1;
const RESIDENT: u32 = 2;
const FETCHING: u32 = 3;

/// The pager that checks residency in software.
pub type SoftPager = Residency<SoftTable>;

#[inline]
fn decode(raw: u32) -> Entry {
    let value = raw & VALUE_MASK;
    match raw >> VALUE_BITS {
        REMOTE => Entry::Remote(Checksum::from_bits(value)),
        RESIDENT => Entry::Resident(FrameNo(value)),
        FETCHING => Entry::Fetching(FrameNo(value)),
        _ => Entry::Untouched,
    }
}

#[inline]
fn encode(entry: Entry) -> u32 {
    let (tag, value) = match entry {
        Entry::Untouched => (0, 0),
        Entry::Remote(checksum) => (REMOTE, checksum.bits()),
        Entry::Resident(frame) => (RESIDENT, frame.0),
        Entry::Fetching(frame) => (FETCHING, frame.0),
    };
    tag << VALUE_BITS | value
}

struct Region {
    touched: u32,
    entries: [u32; REGION_PAGES],
}

/// The entries of all far pages.
pub struct SoftTable {
    regions: Vec<Option<Box<Region>>>,
    regions_in_use: usize,
}

impl SoftTable {
    /// A table of untouched pages. Bounds: `far_pages` is one more than the highest page number.
    pub fn new(far_pages: u32) -> SoftTable {
        let regions = (far_pages as usize).div_ceil(REGION_PAGES);
        SoftTable { regions: (0..regions).map(|_| None).collect(), regions_in_use: 0 }
    }
}

impl Mapping for SoftTable {
    const IS_MMU: bool = false;

    #[inline]
    fn get(&self, page: PageNo) -> Entry {
        let index = page.0 as usize;
        match &self.regions[index / REGION_PAGES] {
            Some(region) => decode(region.entries[index % REGION_PAGES]),
            None => Entry::Untouched,
        }
    }

    fn set(&mut self, page: PageNo, entry: Entry) {
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
        *raw = encode(entry);
        let is_touched = *raw != 0;
        region.touched = region.touched + u32::from(is_touched) - u32::from(was_touched);
        if region.touched == 0 {
            *slot = None;
            self.regions_in_use -= 1;
        }
    }

    // Absent regions are stepped over whole.
    fn first_touched(&self, range: PageRange) -> Option<PageNo> {
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

    fn far_pages(&self) -> u32 {
        u32::try_from(self.regions.len() * REGION_PAGES).unwrap_or(u32::MAX)
    }

    fn near_bytes(&self) -> usize {
        self.regions.capacity() * size_of::<Option<Box<Region>>>() + self.regions_in_use * size_of::<Region>()
    }

    #[inline]
    fn read(pager: &mut SoftPager, addr: FarAddr, len: usize) -> Result<&[u8], PagerError> {
        let bytes = match pager.readable(addr.page())? {
            Some(frame) => &pager.frame(frame).0,
            None => &ZEROS.0,
        };
        Ok(&bytes[addr.offset()..addr.offset() + len])
    }

    #[inline]
    fn write(pager: &mut SoftPager, addr: FarAddr, len: usize) -> Result<&mut [u8], PagerError> {
        let frame = pager.writable(addr.page())?;
        Ok(&mut pager.frame_mut(frame).0[addr.offset()..addr.offset() + len])
    }

    fn bring(pager: &mut SoftPager, page: PageNo) -> Result<(), PagerError> {
        pager.resolve(page, Touch::Read).map(|_: Resolved| ())
    }
}

impl SoftPager {
    /// A pager over an arena of frames, of which at most `budget_frames` are ever touched at a time.
    ///
    /// `door` is a handle to the link that the body drives, for unplanned faults and the policies that
    /// wait; without one those end as `Link(Down)` or `NoFrame`.
    /// Bounds: `far_pages` is one more than the highest page number; the page table grows as it is used.
    /// # Panics
    /// If the arena has 2^30 frames or more.
    pub fn new(
        frames: &'static mut [Frame],
        budget_frames: u32,
        far_pages: u32,
        policy: Prefetch,
        door: Option<Box<dyn Link>>,
    ) -> SoftPager {
        Residency::over(SoftTable::new(far_pages), frames, budget_frames, policy, door)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_entry_survives_its_encoding() {
        let mut table = SoftTable::new(10_000);
        let all = [
            Entry::Remote(Checksum::from_bits(0)),
            Entry::Remote(Checksum::from_bits(VALUE_MASK)),
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
        let mut table = SoftTable::new(10_000);
        let empty_bytes = table.near_bytes();
        table.set(PageNo(5000), Entry::Resident(FrameNo(1)));
        table.set(PageNo(5001), Entry::Remote(Checksum::from_bits(7)));
        assert_eq!(table.first_touched(PageRange { first: PageNo(0), count: 10_000 }), Some(PageNo(5000)));
        assert_eq!(table.first_touched(PageRange { first: PageNo(5002), count: 4_000 }), None);
        table.set(PageNo(5000), Entry::Untouched);
        assert!(table.near_bytes() > empty_bytes);
        table.set(PageNo(5001), Entry::Untouched);
        assert_eq!(table.near_bytes(), empty_bytes);
    }
}
