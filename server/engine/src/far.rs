//! The far heap as commands use it: the allocator and the pager as one, reads and writes of any length.
//!
//! Refuses to know what the bytes mean. An *object* is anything allocated here, named by its address: a
//! small one lies in one page, one that is larger than a page has whole pages of its own.
//!
//! A *borrowed* object is being read by a streamed reply: freeing it waits until the last borrower is
//! gone, and whoever wants to change bytes that the borrower may still read has to replace it.

use crate::error::Outcome;
use crate::lost::FarAdmin;
use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use farmem::{Extent, FarAddr, Heap, HeapError, PAGE_SIZE, PageNo, PageRange, PageState, Pager, PagerError};

/// Who reads an object across commands, and whether it was freed meanwhile.
#[derive(Default)]
struct Borrow {
    readers: u32,
    doomed: bool,
}

/// Heap and pager as one.
pub struct Far {
    pub pager: Box<dyn Pager>,
    pub heap: Heap,
    /// Frames that the pager may use. See [`Far::set_budget`].
    budget_frames: u32,
    /// By the object's number. Of a known size, which the capacity of a hash table with a random seed has not: near
    /// memory decides the budget, and a simulation must come out twice alike.
    borrows: BTreeMap<u64, Borrow>,
    /// Whom to ask about links; none in a body without any.
    pub admin: Option<Box<dyn FarAdmin>>,
    /// Whether some page may be lost: looked at by every tick.
    pub may_have_lost: bool,
}

/// A reply of more pages than this is streamed whatever the budget. 256 pages are 1 MiB.
const HOLD_PAGES_MAX: u32 = 256;

/// Whether writing to a page needs no fetch.
fn is_at_hand(pager: &dyn Pager, page: PageNo) -> bool {
    !matches!(pager.state(page), PageState::Remote | PageState::Fetching)
}

impl Far {
    pub fn new(pager: Box<dyn Pager>, far_pages: u32, budget_frames: u32) -> Far {
        Far {
            pager,
            heap: Heap::new(far_pages),
            budget_frames,
            borrows: BTreeMap::new(),
            admin: None,
            may_have_lost: false,
        }
    }

    /// Sets how many frames the pager may use.
    pub fn set_budget(&mut self, frames: u32) {
        self.budget_frames = frames;
        self.pager.set_budget(frames);
    }

    /// Frames that the pager may use.
    pub fn budget_frames(&self) -> u32 {
        self.budget_frames
    }

    /// Allocates an object of `size` bytes: within one page if it fits, else on pages of its own.
    pub fn allocate(&mut self, size: usize) -> Result<FarAddr, HeapError> {
        if size > PAGE_SIZE {
            return self.allocate_extent(size, FarAddr::NULL).map(|extent| extent.first.addr());
        }
        let pager = &self.pager;
        self.heap.allocate_small(size, |page| is_at_hand(pager.as_ref(), page))
    }

    /// A place to gather the small object at `object` to; `None` if that would fetch a page.
    pub fn allocate_gathered(&mut self, object: FarAddr) -> Option<FarAddr> {
        let pager = &self.pager;
        self.heap.gather(object, |page| is_at_hand(pager.as_ref(), page))
    }

    /// Allocates whole pages for `size` bytes; `owner` is kept near, beside the page count.
    pub fn allocate_extent(&mut self, size: usize, owner: FarAddr) -> Result<Extent, HeapError> {
        let pages = size.div_ceil(PAGE_SIZE) as u32;
        self.heap.allocate_extent(pages, owner.0 / 8)
    }

    /// The object that owns an extent. See [`Far::allocate_extent`].
    #[inline]
    pub fn owner(&self, extent: FarAddr) -> FarAddr {
        FarAddr(self.heap.owner(extent.page()) * 8)
    }

    /// Frees an object, now or when its last borrower is gone. Fetches nothing, writes nothing back.
    pub fn free(&mut self, object: FarAddr) {
        if !self.borrows.is_empty()
            && let Some(borrow) = self.borrows.get_mut(&object.0)
        {
            borrow.doomed = true;
            return;
        }
        if self.heap.is_extent(object.page()) {
            let pages = self.heap.free_extent(object.page());
            self.pager.drop_pages(pages);
        } else if let Some(page) = self.heap.free(object) {
            self.pager.drop_pages(PageRange { first: page, count: 1 });
        }
    }

    /// The pages under an object, known without reading it.
    #[inline]
    pub fn pages_of(&self, object: FarAddr) -> PageRange {
        if object.offset() == 0 && self.heap.is_extent(object.page()) {
            let extent = self.heap.extent_at(object.page());
            return PageRange { first: extent.first, count: extent.pages };
        }
        PageRange { first: object.page(), count: 1 }
    }

    /// Bytes that an object may use without moving.
    pub fn capacity_of(&self, object: FarAddr) -> usize {
        if self.heap.is_extent(object.page()) {
            return self.heap.extent_at(object.page()).pages as usize * PAGE_SIZE;
        }
        self.heap.size_of_slot(object)
    }

    /// Marks an object as read across commands.
    pub fn borrow_object(&mut self, object: FarAddr) {
        self.borrows.entry(object.0).or_default().readers += 1;
    }

    /// Ends one [`Far::borrow_object`]; frees the object if that was asked for meanwhile.
    pub fn return_object(&mut self, object: FarAddr) {
        let borrow = self.borrows.get_mut(&object.0).expect("a borrower returns what it borrowed");
        borrow.readers -= 1;
        if borrow.readers == 0 {
            let doomed = borrow.doomed;
            self.borrows.remove(&object.0);
            if doomed {
                self.free(object);
            }
        }
    }

    /// Whether a streamed reply is still reading the object: then it must be replaced, not changed.
    #[inline]
    pub fn is_borrowed(&self, object: FarAddr) -> bool {
        !self.borrows.is_empty() && self.borrows.contains_key(&object.0)
    }

    /// Whether any streamed reply reads any object.
    pub fn has_borrowers(&self) -> bool {
        !self.borrows.is_empty()
    }

    /// `len` bytes that lie in one page.
    #[inline]
    pub fn bytes(&mut self, addr: FarAddr, len: usize) -> Result<&[u8], PagerError> {
        debug_assert!(addr.offset() + len <= PAGE_SIZE, "a read within one page");
        self.pager.bytes(addr, len)
    }

    /// Calls `each` with the slices of `len` bytes from `addr`, page by page; stops when it returns false.
    pub fn for_each_slice(
        &mut self,
        addr: FarAddr,
        len: usize,
        mut each: impl FnMut(&[u8]) -> bool,
    ) -> Result<(), PagerError> {
        let (mut at, mut left) = (addr, len);
        while left > 0 {
            let here = left.min(PAGE_SIZE - at.offset());
            if !each(self.bytes(at, here)?) {
                break;
            }
            at = at.plus(here);
            left -= here;
        }
        Ok(())
    }

    /// Appends `len` bytes from `addr` to `out`.
    pub fn copy_out(&mut self, addr: FarAddr, len: usize, out: &mut Vec<u8>) -> Result<(), PagerError> {
        out.reserve(len);
        self.for_each_slice(addr, len, |slice| {
            out.extend_from_slice(slice);
            true
        })
    }

    /// Whether the bytes from `addr` are `expected`.
    pub fn equals(&mut self, addr: FarAddr, expected: &[u8]) -> Result<bool, PagerError> {
        if addr.offset() + expected.len() <= PAGE_SIZE {
            return Ok(self.bytes(addr, expected.len())? == expected);
        }
        let (mut same, mut rest) = (true, expected);
        self.for_each_slice(addr, expected.len(), |slice| {
            let (head, tail) = rest.split_at(slice.len());
            same = slice == head;
            rest = tail;
            same
        })?;
        Ok(same)
    }

    /// Writes `data` at `addr`; what lies around it stays.
    pub fn write(&mut self, addr: FarAddr, data: &[u8]) -> Result<(), PagerError> {
        let (mut at, mut rest) = (addr, data);
        while !rest.is_empty() {
            let here = rest.len().min(PAGE_SIZE - at.offset());
            let (head, tail) = rest.split_at(here);
            self.pager.bytes_mut(at, here)?.copy_from_slice(head);
            at = at.plus(here);
            rest = tail;
        }
        Ok(())
    }

    /// Fills fresh pages from the start of `first` with `data`: nothing is fetched for it, and what the
    /// pages held is gone.
    pub fn write_pages(&mut self, first: PageNo, data: &[u8]) -> Result<(), PagerError> {
        let mut page = first;
        for chunk in data.chunks(PAGE_SIZE) {
            let frame = self.pager.page_overwrite(page)?;
            frame[..chunk.len()].copy_from_slice(chunk);
            frame[chunk.len()..].fill(0);
            page = PageNo(page.0 + 1);
        }
        Ok(())
    }

    /// Copies `len` bytes within far memory, page by page. The ranges do not overlap, and `to` is fresh.
    pub fn copy_within(&mut self, from: FarAddr, to: FarAddr, len: usize) -> Outcome {
        let mut buffer = [0u8; PAGE_SIZE];
        let mut done = 0;
        while done < len {
            let source = from.plus(done);
            let here = (len - done).min(PAGE_SIZE - source.offset());
            buffer[..here].copy_from_slice(self.bytes(source, here)?);
            self.write(to.plus(done), &buffer[..here])?;
            done += here;
        }
        Ok(())
    }

    /// Near memory of allocator, page table and borrows. Units: bytes.
    pub fn near_bytes(&self) -> u64 {
        let borrows = self.borrows.len() * 2 * size_of::<(u64, Borrow)>();
        self.heap.near_bytes() as u64 + self.pager.stats().near_bytes + borrows as u64
    }

    /// Whether every page of the run is in a frame.
    pub fn all_resident(&self, range: PageRange) -> bool {
        range.pages().all(|page| self.pager.resident(page.addr(), 1).is_some())
    }

    /// Whether reading the run fetches nothing: every page is in a frame or was never written.
    pub fn all_here(&self, range: PageRange) -> bool {
        range.pages().all(|page| {
            self.pager.resident(page.addr(), 1).is_some() || self.pager.state(page) == PageState::Untouched
        })
    }

    /// Whether a page of the run is lost: far memory has come back without it.
    pub fn is_any_lost(&self, range: PageRange) -> bool {
        let Some(admin) = &self.admin else { return false };
        let is_away = |page| matches!(self.pager.state(page), PageState::Remote | PageState::Fetching);
        self.may_have_lost && range.pages().any(|page| is_away(page) && admin.is_lost(page))
    }

    /// The largest reply that holds its frames; a larger one is streamed. Units: pages.
    pub fn hold_pages_max(&self) -> u32 {
        HOLD_PAGES_MAX.min(self.budget_frames / 16)
    }

    /// The most that one command plans to read without holding it. Units: pages.
    pub fn read_pages_max(&self) -> u32 {
        self.budget_frames / 4
    }

    /// Whether a reply may hold `pages` more frames: all replies together hold at most a quarter of them.
    pub fn hold_allowed(&self, pages: u32) -> bool {
        self.pager.held_frames() + pages <= self.budget_frames / 4
    }
}

impl Far {
    /// Frees everything at once. Bounds: nothing is borrowed.
    pub fn reset(&mut self) {
        assert!(self.borrows.is_empty(), "nobody may be reading what is freed here");
        self.heap.reset();
        let all = self.heap.stats().capacity_pages;
        self.pager.drop_pages(PageRange { first: PageNo(1), count: all.saturating_sub(1) });
    }
}
