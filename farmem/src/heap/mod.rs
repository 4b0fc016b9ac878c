//! The far heap: hands out addresses in far memory, and never touches what is there.
//!
//! ```text
//!  size < a page                                   a page or more
//!  ┌──────┬──────┬──────┬──────┬──┐                ┌──────────────┬──────────────┬───────
//!  │ slot │ free │ slot │ slot │  │ a slab page:   │ page         │ page         │  ...    an extent:
//!  └──────┴──────┴──────┴──────┴──┘ one size class └──────────────┴──────────────┴───────  whole pages
//! ```
//!
//! A slab page is in one of four states; `current` is the one page a class that allocations go to:
//!
//! ```text
//!            opened                  last free slot taken
//!   free ────────────► current ────────────────────────────► full
//!    ▲                  │ ▲ ▲                                │ │
//!    │ last slot freed  │ │ └────────────────────────────────┘ │ a slot freed: current if there is none,
//!    │                  ▼ │ at hand when a page is needed      ▼ else partial
//!    └───────────────── partial ◄──────────────────────────────┘
//! ```
//!
//! All metadata is near: 8.4 bytes a page where there are small objects, 8.2 where extents start, a
//! third of a byte in extents of 1 GiB, nothing where a region of 16 MiB is unused. Refuses to know
//! what is in an object, and whether its page is local: whoever allocates says so.

mod class;
mod freemap;
mod partial;
mod runs;
mod space;
mod sparse;

use crate::page::{FarAddr, PAGE_SIZE, PageNo, PageRange};
use class::{CLASS_FIELD, Class, Word};
use partial::PartialPages;
use space::Space;

/// How many partial pages an allocation looks at before it opens a fresh page: a miss of the page table
/// each, so four of them cost about what opening a page does.
const CANDIDATES_MAX: u32 = 4;

/// The same when far memory is short: half of a group of 64, still under a microsecond.
const CANDIDATES_SHORT_MAX: u32 = 32;

/// Far memory is short when less than this part of it is free: the rest is kept for extents, which
/// cannot use partial pages.
const SHORT_PART: u32 = 16;

/// The world is wrong, as the heap sees it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum HeapError {
    /// No free far memory of this shape is left.
    FarMemoryFull,
}

/// A run of whole far pages that belongs to one value.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Extent {
    /// Where it starts.
    pub first: PageNo,
    /// How long it is. Bounds: 1 to [`Heap::EXTENT_PAGES_MAX`].
    pub pages: u32,
}

impl Extent {
    /// The pages of the extent.
    #[inline]
    pub fn range(self) -> PageRange {
        PageRange { first: self.first, count: self.pages }
    }

    /// The address of the extent's first byte.
    #[inline]
    pub fn addr(self) -> FarAddr {
        self.first.addr()
    }
}

/// What the heap has handed out, and what it costs.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct HeapStats {
    /// Far memory. Units: pages.
    pub capacity_pages: u32,
    /// Pages that hold at least one object.
    pub used_pages: u32,
    /// Slots and extents handed out. Units: bytes.
    pub used_bytes: u64,
    /// Slab pages that have both free and used slots and are not being filled.
    pub partial_pages: u32,
    /// Near memory of the allocator. Units: bytes.
    pub near_bytes: u64,
}

impl HeapStats {
    /// Bytes of used pages a byte handed out; 1.0 is perfect, and what an empty heap has.
    pub fn fragmentation_ratio(&self) -> f64 {
        if self.used_bytes == 0 {
            return 1.0;
        }
        f64::from(self.used_pages) * PAGE_SIZE as f64 / self.used_bytes as f64
    }
}

/// The allocator of far memory.
///
/// Invariants: objects are disjoint and lie in `1..capacity_pages`; an object smaller than a page never
/// crosses one; an extent starts on a page. A double free or a wild address panics: we are wrong.
pub struct Heap {
    space: Space,
    partial: PartialPages,
    /// The page of each class that allocations go to; `NO_PAGE` if there is none. It has a free and a
    /// used slot, and is not among the partial pages.
    current: [PageNo; CLASS_FIELD],
    /// The partial page of each class whose fetch was last advised; `NO_PAGE` if there is none.
    advised: [PageNo; CLASS_FIELD],
    /// The advice that the caller has not taken yet; `NO_PAGE` if there is none.
    advice: PageNo,
    used_bytes: u64,
}

/// Page 0 is never handed out.
const NO_PAGE: PageNo = PageNo(0);

impl Heap {
    /// The largest extent: 1 GiB.
    pub const EXTENT_PAGES_MAX: u32 = class::EXTENT_PAGES_MAX;

    /// Owners of extents are below this: 44 bits, enough for any far address.
    pub const OWNER_MAX: u64 = class::OWNER_MAX;

    /// An empty heap over the pages `1..capacity_pages`; costs no near memory until it is used.
    pub fn new(capacity_pages: u32) -> Heap {
        Heap {
            space: Space::new(capacity_pages),
            partial: PartialPages::new(),
            current: [NO_PAGE; CLASS_FIELD],
            advised: [NO_PAGE; CLASS_FIELD],
            advice: NO_PAGE,
            used_bytes: 0,
        }
    }

    /// A place for an object of `size` bytes, aligned to 8, within one page.
    ///
    /// `at_hand` says whether writing to a page needs no fetch (it is resident or untouched); such pages
    /// are preferred, a fresh page is next. Only when far memory is short does the object go to a page
    /// that is not at hand.
    ///
    /// Bounds: `size` at most a page.
    /// # Errors
    /// `FarMemoryFull` if no page is free and no page of this size class has a free slot.
    #[inline]
    pub fn allocate_small(
        &mut self,
        size: usize,
        mut at_hand: impl FnMut(PageNo) -> bool,
    ) -> Result<FarAddr, HeapError> {
        let class = Class::of(size);
        let mut page = self.current[class.index()];
        if page == NO_PAGE || !at_hand(page) {
            page = self.open(class, at_hand)?;
        }
        let word = self.space.word_mut(page);
        let mut taken = Word(*word);
        let offset = taken.take_slot(class);
        *word = taken.0;
        if taken.is_full() {
            self.current[class.index()] = NO_PAGE;
        }
        self.used_bytes += class.slot_size() as u64;
        Ok(page.addr().plus(offset))
    }

    /// Frees a small object. Returns its page if that has no object any more: its content is dead.
    /// # Panics
    /// If no small object is at `addr`.
    #[inline]
    #[must_use = "the pager has to drop a page that is empty"]
    pub fn free(&mut self, addr: FarAddr) -> Option<PageNo> {
        let page = addr.page();
        let word = self.space.word_mut(page);
        let before = Word(*word);
        let class = before.class().expect("a small object lies on a slab page");
        let mut after = before;
        after.free_slot(class, addr.offset());
        *word = after.0;
        self.used_bytes -= class.slot_size() as u64;
        if after.is_empty(class) {
            self.close(page, class, before.is_full());
            return Some(page);
        }
        if before.is_full() {
            self.unfill(page, class);
        }
        None
    }

    /// How many bytes a small object may have in place: the size of its slot.
    /// # Panics
    /// If no small object is at `addr`.
    #[inline]
    pub fn size_of_slot(&self, addr: FarAddr) -> usize {
        let word = self.space.word(addr.page());
        let class = word.class().expect("a small object lies on a slab page");
        word.used_slot(class, addr.offset());
        class.slot_size()
    }

    /// The size of the slot that an object of `size` bytes gets. Bounds: `size` at most a page.
    #[inline]
    pub fn slot_size_for(size: usize) -> usize {
        Class::of(size).slot_size()
    }

    /// A run of whole pages, which remembers a number for its owner.
    ///
    /// Bounds: `pages` 1 to [`Heap::EXTENT_PAGES_MAX`]; `owner` below [`Heap::OWNER_MAX`].
    /// # Errors
    /// `FarMemoryFull` if no run of free pages is long enough.
    pub fn allocate_extent(&mut self, pages: u32, owner: u64) -> Result<Extent, HeapError> {
        let word = Word::extent(pages, owner);
        let first = self.space.take_run(pages, word).ok_or(HeapError::FarMemoryFull)?;
        self.used_bytes += bytes_of(pages);
        Ok(Extent { first, pages })
    }

    /// Frees an extent; the content of the pages returned is dead.
    /// # Panics
    /// If no extent starts at `first`.
    #[must_use = "the pager has to drop these pages"]
    pub fn free_extent(&mut self, first: PageNo) -> PageRange {
        let range = self.extent_at(first).range();
        *self.space.word_mut(first) = Word::BLANK.0;
        self.used_bytes -= bytes_of(range.count);
        self.give(range);
        range
    }

    /// The extent that starts at `first`.
    /// # Panics
    /// If none does.
    #[inline]
    pub fn extent_at(&self, first: PageNo) -> Extent {
        Extent { first, pages: self.extent_word(first).0 }
    }

    /// Whether an extent starts at `first`.
    #[inline]
    pub fn is_extent(&self, first: PageNo) -> bool {
        self.space.word(first).as_extent().is_some()
    }

    /// The number that the extent at `first` remembers.
    /// # Panics
    /// If no extent starts at `first`.
    #[inline]
    pub fn owner(&self, first: PageNo) -> u64 {
        self.extent_word(first).1
    }

    /// Changes the number that the extent at `first` remembers. Bounds: below [`Heap::OWNER_MAX`].
    /// # Panics
    /// If no extent starts at `first`.
    pub fn set_owner(&mut self, first: PageNo, owner: u64) {
        let (pages, _) = self.extent_word(first);
        *self.space.word_mut(first) = Word::extent(pages, owner).0;
    }

    /// Makes an extent longer where it is, if the pages behind it are free; says whether it did.
    /// # Panics
    /// If no extent starts at `first`, or it is longer than `new_pages` already.
    pub fn try_grow_extent(&mut self, first: PageNo, new_pages: u32) -> bool {
        let (pages, owner) = self.extent_word(first);
        let word = Word::extent(new_pages, owner);
        let count = new_pages.checked_sub(pages).expect("growing does not shrink");
        if !self.space.take_exactly(PageRange { first: PageNo(first.0 + pages), count }) {
            return false;
        }
        *self.space.word_mut(first) = word.0;
        self.used_bytes += bytes_of(count);
        true
    }

    /// Whether [`Heap::try_grow_extent`] would do it.
    /// # Panics
    /// If no extent starts at `first`.
    pub fn can_grow_extent(&self, first: PageNo, new_pages: u32) -> bool {
        let (pages, _) = self.extent_word(first);
        let count = new_pages.saturating_sub(pages);
        new_pages <= Heap::EXTENT_PAGES_MAX
            && self.space.is_free(PageRange { first: PageNo(first.0 + pages), count })
    }

    /// Makes an extent shorter; the content of the pages returned, its tail, is dead.
    /// # Panics
    /// If no extent starts at `first`, or it is shorter than `new_pages` already.
    #[must_use = "the pager has to drop these pages"]
    pub fn shrink_extent(&mut self, first: PageNo, new_pages: u32) -> PageRange {
        let (pages, owner) = self.extent_word(first);
        *self.space.word_mut(first) = Word::extent(new_pages, owner).0;
        let count = pages.checked_sub(new_pages).expect("shrinking does not grow");
        let tail = PageRange { first: PageNo(first.0 + new_pages), count };
        self.used_bytes -= bytes_of(count);
        self.give(tail);
        tail
    }

    /// A partial page that is worth a prefetch, if there is one: far memory is cut up, and allocations
    /// will go to this page instead of a fresh one if it is at hand by then. At most one for each page
    /// that allocations open.
    #[inline]
    pub fn poll_advice(&mut self) -> Option<PageNo> {
        let page = core::mem::replace(&mut self.advice, NO_PAGE);
        (page != NO_PAGE).then_some(page)
    }

    /// Frees everything at once, metadata too.
    pub fn reset(&mut self) {
        *self = Heap::new(self.space.capacity_pages());
    }

    /// Pages that hold nothing.
    #[inline]
    pub fn free_pages(&self) -> u32 {
        self.space.free_pages()
    }

    /// Near memory of the allocator. Units: bytes.
    pub fn near_bytes(&self) -> usize {
        self.space.near_bytes() + self.partial.near_bytes()
    }

    /// What has been handed out, and what it costs.
    pub fn stats(&self) -> HeapStats {
        HeapStats {
            capacity_pages: self.space.capacity_pages(),
            used_pages: self.space.used_pages(),
            used_bytes: self.used_bytes,
            partial_pages: self.partial.total(),
            near_bytes: self.near_bytes() as u64,
        }
    }

    #[inline]
    fn extent_word(&self, first: PageNo) -> (u32, u64) {
        self.space.word(first).as_extent().expect("an extent starts at this page")
    }

    /// Makes another page current: a partial one that is at hand, a fresh one, or any partial one. The
    /// page whose fetch was advised comes first.
    #[inline(never)]
    fn open(&mut self, class: Class, mut at_hand: impl FnMut(PageNo) -> bool) -> Result<PageNo, HeapError> {
        let previous = core::mem::replace(&mut self.current[class.index()], NO_PAGE);
        if previous != NO_PAGE {
            self.partial.insert(previous, class);
        }
        let short = self.is_short();
        let tries = if short { CANDIDATES_SHORT_MAX } else { CANDIDATES_MAX };
        let advised = core::mem::replace(&mut self.advised[class.index()], NO_PAGE);
        if self.space.word(advised).class() == Some(class)
            && self.partial.contains(advised)
            && at_hand(advised)
        {
            return Ok(self.reopen(advised, class));
        }
        let mut remote = None;
        for _ in 0..tries.min(self.partial.count(class)) {
            let space = &self.space;
            let page = self.partial.next(class, |page| space.word(page).class() == Some(class));
            let page = page.expect("the class has partial pages");
            if at_hand(page) {
                return Ok(self.reopen(page, class));
            }
            remote = Some(page);
        }
        if let (true, Some(page)) = (short, remote) {
            return Ok(self.reopen(page, class));
        }
        let page = self.space.take_page(Word::slab(class)).ok_or(HeapError::FarMemoryFull)?;
        if let Some(remote) = remote.filter(|_| self.is_cut_up()) {
            self.advised[class.index()] = remote;
            self.advice = remote;
        }
        self.current[class.index()] = page;
        Ok(page)
    }

    /// A full page got a free slot. Becoming current at once saves the pair of a free and an allocation
    /// the way through the bitmaps.
    #[inline]
    fn unfill(&mut self, page: PageNo, class: Class) {
        let current = &mut self.current[class.index()];
        if *current == NO_PAGE {
            *current = page;
        } else {
            self.partial.insert(page, class);
        }
    }

    fn reopen(&mut self, page: PageNo, class: Class) -> PageNo {
        self.partial.remove(page, class);
        self.current[class.index()] = page;
        page
    }

    #[inline(never)]
    fn close(&mut self, page: PageNo, class: Class, was_full: bool) {
        if self.current[class.index()] == page {
            self.current[class.index()] = NO_PAGE;
        } else if !was_full {
            self.partial.remove(page, class);
        }
        *self.space.word_mut(page) = Word::BLANK.0;
        self.give(PageRange { first: page, count: 1 });
    }

    fn give(&mut self, range: PageRange) {
        self.space.give(range, |region| self.partial.close(region));
        if self.space.used_pages() == 0 {
            self.partial = PartialPages::new();
        }
    }

    /// Whether little far memory is free.
    fn is_short(&self) -> bool {
        self.free_pages() <= self.space.capacity_pages() / SHORT_PART
    }

    /// Whether far memory is so cut up that fetching a page to fill it up is worth it: a third of the
    /// used pages would not be needed.
    fn is_cut_up(&self) -> bool {
        3 * self.used_bytes < 2 * bytes_of(self.space.used_pages())
    }
}

#[inline]
fn bytes_of(pages: u32) -> u64 {
    u64::from(pages) * PAGE_SIZE as u64
}

#[cfg(test)]
mod tests;
