//! The units of far memory: page, frame, far address, and sets of pages.
//!
//! A *page* is 4096 bytes of the far address space; a *frame* is 4096 bytes of local memory.

use alloc::vec::Vec;

/// Bytes in a page and in a frame.
pub const PAGE_SIZE: usize = 4096;

/// A 4096-byte unit of the far address space. Bounds: 2^32 pages, 16 TiB. Page 0 is never allocated.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct PageNo(pub u32);

/// A 4096-byte unit of local memory.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct FrameNo(pub u32);

impl FrameNo {
    /// Stands for an untouched page: reads as zeros, is no frame of the arena.
    pub const ZERO: FrameNo = FrameNo(u32::MAX);
}

/// A byte address in the far address space. Objects are aligned to 8 bytes. Zero means "nowhere".
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct FarAddr(pub u64);

/// A point on the body's monotonic clock. Units: nanoseconds since an arbitrary start.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Instant(pub u64);

/// The memory of one frame.
#[repr(C, align(4096))]
pub struct Frame(pub [u8; PAGE_SIZE]);

impl PageNo {
    /// The far address of the page's first byte.
    #[inline]
    pub fn addr(self) -> FarAddr {
        FarAddr(u64::from(self.0) * PAGE_SIZE as u64)
    }
}

impl FarAddr {
    /// The address that names nothing.
    pub const NULL: FarAddr = FarAddr(0);

    /// The page that holds this byte.
    #[inline]
    pub fn page(self) -> PageNo {
        PageNo((self.0 / PAGE_SIZE as u64) as u32)
    }

    /// The byte's offset in its page.
    #[inline]
    pub fn offset(self) -> usize {
        (self.0 % PAGE_SIZE as u64) as usize
    }

    /// The address `bytes` further on.
    #[inline]
    pub fn plus(self, bytes: usize) -> FarAddr {
        FarAddr(self.0 + bytes as u64)
    }
}

/// A run of consecutive pages.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct PageRange {
    /// The first page of the run.
    pub first: PageNo,
    /// How many pages; zero is an empty run.
    pub count: u32,
}

impl PageRange {
    /// The pages under `len` bytes from `addr`; empty when `len` is zero.
    #[inline]
    pub fn covering(addr: FarAddr, len: usize) -> PageRange {
        if len == 0 {
            return PageRange { first: addr.page(), count: 0 };
        }
        let last = addr.plus(len - 1).page();
        PageRange { first: addr.page(), count: last.0 - addr.page().0 + 1 }
    }

    /// The pages of the run in ascending order.
    #[inline]
    pub fn pages(self) -> impl Iterator<Item = PageNo> {
        (self.first.0..self.first.0 + self.count).map(PageNo)
    }
}

/// The pages that a command will touch.
///
/// Shape: after [`PageSet::normalise`] the runs are sorted, disjoint and not adjacent. Reused as a
/// scratch buffer, so that planning allocates nothing once it is warm.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct PageSet {
    ranges: Vec<PageRange>,
    unsorted: bool,
}

impl PageSet {
    /// The empty set.
    pub const fn new() -> PageSet {
        PageSet { ranges: Vec::new(), unsorted: false }
    }

    /// Forgets all pages and keeps the memory.
    #[inline]
    pub fn clear(&mut self) {
        self.ranges.clear();
        self.unsorted = false;
    }

    /// Adds a run; runs may come in any order and overlap.
    #[inline]
    pub fn push(&mut self, range: PageRange) {
        if range.count == 0 {
            return;
        }
        if let Some(last) = self.ranges.last_mut() {
            let last_end = last.first.0 + last.count;
            if range.first >= last.first && range.first.0 <= last_end {
                let end = last_end.max(range.first.0 + range.count);
                last.count = end - last.first.0;
                return;
            }
            self.unsorted |= range.first < last.first;
        }
        self.ranges.push(range);
    }

    /// Adds one page.
    #[inline]
    pub fn push_page(&mut self, page: PageNo) {
        self.push(PageRange { first: page, count: 1 });
    }

    /// Adds the pages under `len` bytes from `addr`.
    #[inline]
    pub fn push_bytes(&mut self, addr: FarAddr, len: usize) {
        self.push(PageRange::covering(addr, len));
    }

    /// Sorts and merges the runs; must be called before the set is acquired.
    #[inline]
    pub fn normalise(&mut self) {
        if self.unsorted {
            self.sort_and_merge();
        }
    }

    #[cold]
    fn sort_and_merge(&mut self) {
        let mut ranges = core::mem::take(&mut self.ranges);
        ranges.sort_unstable();
        self.unsorted = false;
        for range in ranges.drain(..) {
            self.push(range);
        }
    }

    /// The runs, in order after [`PageSet::normalise`].
    #[inline]
    pub fn ranges(&self) -> &[PageRange] {
        &self.ranges
    }

    /// Every page, in ascending order after [`PageSet::normalise`].
    #[inline]
    pub fn pages(&self) -> impl Iterator<Item = PageNo> + '_ {
        self.ranges.iter().flat_map(|range| range.pages())
    }

    /// Makes it the same as `other`, in the memory that it has.
    pub(crate) fn copy_from(&mut self, other: &PageSet) {
        self.ranges.clear();
        self.ranges.extend_from_slice(&other.ranges);
        self.unsorted = other.unsorted;
    }

    /// Units: bytes.
    pub(crate) fn near_bytes(&self) -> usize {
        self.ranges.capacity() * size_of::<PageRange>()
    }

    /// How many pages the set has.
    #[inline]
    pub fn len(&self) -> usize {
        self.ranges.iter().map(|range| range.count as usize).sum()
    }

    /// Whether the set has no page.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }
}
