//! Sparse pages: which small objects are worth moving, and where to.
//!
//! ```text
//!   sparse  │ a │   │   │   │ b │   │      read a, read b
//!   current │ x │ y │ z │   │   │   │  ──────────────────►  │ x │ y │ z │ a │ b │   │     sparse: free
//! ```
//!
//! Deleting most of the objects at random empties hardly a page: those that are left lie a few to a page, and each
//! page that is fetched brings dead bytes. Whoever has an object at hand may move it to the page that is being
//! filled. Refuses to move anything itself, or to choose a page that would have to be fetched.

use super::{Heap, NO_PAGE};
use crate::page::{FarAddr, PageNo};

/// A page is sparse when at most one in so many of its slots is used: then moving what it holds saves at least
/// as many pages as it fills.
const SPARSE_PART: u32 = 2;

impl Heap {
    /// Whether the small object at `addr` lies on a sparse page, and far memory is cut up altogether.
    /// # Panics
    /// If no small object is at `addr`.
    #[inline]
    pub fn is_scattered(&self, addr: FarAddr) -> bool {
        if !self.is_cut_up() {
            return false;
        }
        let page = addr.page();
        let word = self.space.word(page);
        let class = word.class().expect("a small object lies on a slab page");
        let (used, all) = word.used_of_all(class);
        used * SPARSE_PART <= all && self.current[class.index()] != page
    }

    /// A place like that of the small object at `addr`, on the page of its class that is being filled. The old
    /// place stays the object's: whoever has moved it frees that.
    ///
    /// `at_hand` as for [`Heap::allocate_small`]; the place is always on such a page. `None` if there is none.
    /// # Panics
    /// If no small object is at `addr`.
    pub fn gather(&mut self, addr: FarAddr, at_hand: impl Fn(PageNo) -> bool) -> Option<FarAddr> {
        let page = addr.page();
        let class = self.space.word(page).class().expect("a small object lies on a slab page");
        let current = self.current[class.index()];
        let is_open = current != NO_PAGE && at_hand(current);
        // An allocation would take a page that is not at hand rather than one of the last free ones.
        if !is_open && self.is_short() {
            return None;
        }
        self.allocate_small(class.slot_size(), |other| other != page && at_hand(other)).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::page::PAGE_SIZE;
    use alloc::vec::Vec;

    /// 16 objects a page.
    const SIZE: usize = PAGE_SIZE / 16;

    /// A heap with `pages` pages, of each of which `left` objects are left.
    fn sparse(pages: usize, left: usize) -> (Heap, Vec<FarAddr>) {
        let mut heap = Heap::new(1 << 16);
        let all: Vec<FarAddr> =
            (0..pages * 16).map(|_| heap.allocate_small(SIZE, |_| true).expect("there is room")).collect();
        let (kept, gone): (Vec<_>, Vec<_>) = all.into_iter().enumerate().partition(|(at, _)| at % 16 < left);
        for (_, addr) in gone {
            assert_eq!(heap.free(addr), None);
        }
        (heap, kept.into_iter().map(|(_, addr)| addr).collect())
    }

    #[test]
    fn objects_that_are_moved_once_each_fill_as_many_pages_as_they_need() {
        let (mut heap, objects) = sparse(64, 4);
        assert_eq!(heap.stats().used_pages, 64);
        for addr in objects {
            if heap.is_scattered(addr) {
                let there = heap.gather(addr, |_| true).expect("pages are at hand");
                assert_ne!(there.page(), addr.page());
                let _ = heap.free(addr);
            }
        }
        let stats = heap.stats();
        assert_eq!(stats.used_bytes, 64 * 4 * SIZE as u64);
        assert!(stats.used_pages <= 64 * 4 / 16 * 3 / 2, "{} pages for 16 full ones", stats.used_pages);
    }

    #[test]
    fn a_heap_that_is_not_cut_up_has_no_scattered_object() {
        let (heap, objects) = sparse(64, 12);
        assert!(objects.iter().all(|&addr| !heap.is_scattered(addr)));
    }

    #[test]
    fn nothing_is_moved_to_a_page_that_would_have_to_be_fetched() {
        let (mut heap, objects) = sparse(64, 4);
        let fresh: Vec<_> = objects.iter().filter_map(|&addr| heap.gather(addr, |_| false)).collect();
        assert!(fresh.iter().all(|addr| objects.iter().all(|old| old.page() != addr.page())));
        // The last pages are kept for extents, and what is left is remote.
        while !heap.is_short() {
            heap.allocate_extent(1, 0).expect("there is room");
        }
        assert_eq!(heap.gather(objects[0], |_| false), None);
    }
}
