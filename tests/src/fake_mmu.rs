//! A mapping with an MMU that exists only in software: what the unikernel's page tables do, with a processor
//! that remembers every translation until it is told to forget it.
//!
//! ```text
//!   touch ─► remembered? ─yes─► the entry must still say so, or the test fails
//!               └─no─► entry resident? ─yes─► accessed, written; remember it
//!                           └─no─► resolve, and touch again
//! ```
//!
//! Worse than any real processor: nothing is forgotten by itself, and a page that is remembered as written
//! never says again that it was. So a missing invalidation loses a write here, always.

use farmem::{
    Entry, FarAddr, Frame, FrameNo, Link, Mapping, PAGE_SIZE, PageNo, PageRange, Pager, PagerError, Prefetch,
    Residency, Resolved, Touch, Used,
};
use std::collections::{BTreeMap, HashMap};

/// The pager over the fake.
pub type FakeMmuPager = Residency<FakeMmu>;

/// What an untouched page reads as.
static ZEROS: [u8; PAGE_SIZE] = [0; PAGE_SIZE];

/// Makes a pager over the fake.
pub fn pager(
    frames: &'static mut [Frame],
    budget_frames: u32,
    far_pages: u32,
    policy: Prefetch,
    door: Option<Box<dyn Link>>,
) -> FakeMmuPager {
    Residency::over(FakeMmu::new(far_pages), frames, budget_frames, policy, door)
}

#[derive(Clone, Copy)]
struct PageTableEntry {
    entry: Entry,
    used: Used,
}

/// What the processor remembers of an entry.
#[derive(Clone, Copy)]
struct Translation {
    frame: FrameNo,
    is_written: bool,
}

/// Page tables, and the translations that the processor remembers.
pub struct FakeMmu {
    far_pages: u32,
    entries: BTreeMap<PageNo, PageTableEntry>,
    remembered: HashMap<PageNo, Translation>,
    /// To be forgotten before the next touch.
    stale: Vec<PageNo>,
}

impl FakeMmu {
    fn new(far_pages: u32) -> FakeMmu {
        FakeMmu { far_pages, entries: BTreeMap::new(), remembered: HashMap::new(), stale: Vec::new() }
    }

    fn forget_stale(&mut self) {
        for page in self.stale.drain(..) {
            self.remembered.remove(&page);
        }
    }

    /// What the processor does: the frame, or `None` for a fault.
    fn touch(&mut self, page: PageNo, touch: Touch) -> Option<FrameNo> {
        let is_write = touch == Touch::Write;
        if let Some(known) = self.remembered.get_mut(&page) {
            let entry = self.entries.get_mut(&page).expect("a remembered page has an entry");
            assert_eq!(entry.entry, Entry::Resident(known.frame), "a stale translation of {page:?} was used");
            if is_write && !known.is_written {
                known.is_written = true;
                entry.used.written = true;
            }
            return Some(known.frame);
        }
        let PageTableEntry { entry: Entry::Resident(frame), used } = self.entries.get_mut(&page)? else {
            return None;
        };
        used.accessed = true;
        used.written |= is_write;
        self.remembered.insert(page, Translation { frame: *frame, is_written: used.written });
        Some(*frame)
    }
}

/// The frame under an address, after as many faults as it takes; `None` reads as zeros.
fn translate(pager: &mut FakeMmuPager, page: PageNo, touch: Touch) -> Result<Option<FrameNo>, PagerError> {
    pager.mapping().forget_stale();
    loop {
        if let Some(frame) = pager.mapping().touch(page, touch) {
            return Ok(Some(frame));
        }
        match pager.resolve(page, touch)? {
            Resolved::Mapped => pager.mapping().forget_stale(),
            Resolved::Zeros => return Ok(None),
        }
    }
}

impl Mapping for FakeMmu {
    const IS_MMU: bool = true;

    fn get(&self, page: PageNo) -> Entry {
        assert!(page.0 < self.far_pages, "{page:?} is beyond far memory");
        self.entries.get(&page).map_or(Entry::Untouched, |entry| entry.entry)
    }

    fn set(&mut self, page: PageNo, entry: Entry) {
        if self.resident(page).is_some() {
            self.stale.push(page);
        }
        match entry {
            Entry::Untouched => self.entries.remove(&page),
            _ => self.entries.insert(page, PageTableEntry { entry, used: Used::default() }),
        };
    }

    fn first_touched(&self, range: PageRange) -> Option<PageNo> {
        let end = PageNo(range.first.0 + range.count);
        self.entries.range(range.first..end).next().map(|(&page, _)| page)
    }

    fn far_pages(&self) -> u32 {
        self.far_pages
    }

    fn near_bytes(&self) -> usize {
        self.entries.len() * size_of::<u64>()
    }

    fn take_used(&mut self, page: PageNo) -> Used {
        self.entries.get_mut(&page).map(|entry| std::mem::take(&mut entry.used)).unwrap_or_default()
    }

    fn is_written(&self, page: PageNo) -> bool {
        self.entries.get(&page).is_some_and(|entry| entry.used.written)
    }

    fn watch_writes(&mut self, page: PageNo) {
        self.entries.get_mut(&page).expect("a page that is written back is resident").used = Used::default();
        self.stale.push(page);
    }

    fn read(pager: &mut FakeMmuPager, addr: FarAddr, len: usize) -> Result<&[u8], PagerError> {
        let bytes = match translate(pager, addr.page(), Touch::Read)? {
            Some(frame) => &pager.frames()[frame.0 as usize].0,
            None => &ZEROS,
        };
        Ok(&bytes[addr.offset()..addr.offset() + len])
    }

    fn write(pager: &mut FakeMmuPager, addr: FarAddr, len: usize) -> Result<&mut [u8], PagerError> {
        pager.unshare(addr.page())?;
        let frame = translate(pager, addr.page(), Touch::Write)?.expect("a written page has a frame");
        Ok(&mut pager.frames()[frame.0 as usize].0[addr.offset()..addr.offset() + len])
    }

    fn bring(pager: &mut FakeMmuPager, page: PageNo) -> Result<(), PagerError> {
        translate(pager, page, Touch::Read).map(|_| ())
    }
}
