//! What the far heap promises, one sentence a test. The model test is in `tests/heap_model.rs`.

use super::*;
use alloc::vec::Vec;

/// Pages in 16 MiB, the unit in which metadata comes and goes.
const REGION: u32 = 4096;

fn local(_: PageNo) -> bool {
    true
}

fn remote(_: PageNo) -> bool {
    false
}

fn fill(heap: &mut Heap, size: usize, count: usize) -> Vec<FarAddr> {
    (0..count).map(|_| heap.allocate_small(size, local).expect("there is room")).collect()
}

fn extent(heap: &mut Heap, pages: u32) -> Extent {
    heap.allocate_extent(pages, 0).expect("there is room")
}

#[test]
fn page_zero_is_never_handed_out_and_all_others_are() {
    let mut heap = Heap::new(10);
    let addrs = fill(&mut heap, 4096, 9);
    let pages: Vec<u32> = addrs.iter().map(|addr| addr.page().0).collect();
    assert_eq!(pages, [1, 2, 3, 4, 5, 6, 7, 8, 9]);
    assert_eq!(heap.allocate_small(1, local), Err(HeapError::FarMemoryFull));
    assert_eq!(heap.allocate_extent(1, 0), Err(HeapError::FarMemoryFull));
    assert_eq!(heap.free_pages(), 0);
}

#[test]
fn a_heap_of_no_pages_is_full() {
    for capacity in [0, 1] {
        let mut heap = Heap::new(capacity);
        assert_eq!(heap.allocate_small(8, local), Err(HeapError::FarMemoryFull));
        assert_eq!(heap.allocate_extent(1, 0), Err(HeapError::FarMemoryFull));
    }
}

#[test]
fn a_page_is_reported_empty_when_its_last_object_goes() {
    let mut heap = Heap::new(100);
    let addrs = fill(&mut heap, 1000, 5);
    assert_eq!(addrs[3].page(), PageNo(1));
    assert_eq!(addrs[4].page(), PageNo(2));
    assert_eq!(heap.free(addrs[0]), None);
    assert_eq!(heap.free(addrs[4]), Some(PageNo(2)));
    assert_eq!(heap.free(addrs[2]), None);
    assert_eq!(heap.free(addrs[1]), None);
    assert_eq!(heap.free(addrs[3]), Some(PageNo(1)));
    assert_eq!(heap.stats(), Heap::new(100).stats());
}

#[test]
fn a_freed_slot_is_used_again_before_a_fresh_page() {
    let mut heap = Heap::new(1000);
    let addrs = fill(&mut heap, 100, 39 * 10);
    assert_eq!(heap.stats().used_pages, 10);
    let freed: Vec<FarAddr> = addrs.iter().copied().step_by(7).collect();
    for &addr in &freed {
        assert_eq!(heap.free(addr), None);
    }
    let mut again = fill(&mut heap, 100, freed.len());
    again.sort_unstable();
    assert_eq!(again, freed);
    assert_eq!(heap.stats().used_pages, 10);
}

#[test]
fn a_remote_partial_page_is_left_alone_while_far_memory_lasts() {
    let mut heap = Heap::new(1000);
    let addrs = fill(&mut heap, 1024, 4 * 10);
    for addr in addrs.iter().step_by(2) {
        assert_eq!(heap.free(*addr), None);
    }
    let addr = heap.allocate_small(1024, remote).expect("there is room");
    assert_eq!(addr.page(), PageNo(11));
}

#[test]
fn a_partial_page_that_is_local_again_is_found_among_remote_ones() {
    let mut heap = Heap::new(1000);
    let addrs = fill(&mut heap, 2048, 2 * 100);
    for addr in addrs.iter().step_by(2) {
        assert_eq!(heap.free(*addr), None);
    }
    let mut found = 0;
    for _ in 0..2 * 100 / CANDIDATES_MAX {
        let addr = heap.allocate_small(2048, |page| page.0 > 100 || page.0 == 77).expect("there is room");
        found += u32::from(addr.page() == PageNo(77));
    }
    assert_eq!(found, 1);
}

#[test]
fn remote_partial_pages_are_all_used_again_when_far_memory_is_short() {
    let mut heap = Heap::new(101);
    let addrs = fill(&mut heap, 512, 8 * 100);
    let freed: Vec<FarAddr> = addrs.iter().copied().step_by(3).collect();
    for &addr in &freed {
        assert_eq!(heap.free(addr), None);
    }
    let mut again: Vec<FarAddr> =
        freed.iter().map(|_| heap.allocate_small(512, remote).expect("there are free slots")).collect();
    again.sort_unstable();
    assert_eq!(again, freed);
    assert_eq!(heap.allocate_small(512, remote), Err(HeapError::FarMemoryFull));
}

#[test]
fn a_cut_up_heap_advises_pages_to_fetch_and_then_fills_them() {
    let mut heap = Heap::new(10_000);
    let addrs = fill(&mut heap, 512, 8 * 1000);
    for (index, addr) in addrs.iter().enumerate() {
        if index % 8 != 0 {
            assert_eq!(heap.free(*addr), None);
        }
    }
    assert_eq!(heap.poll_advice(), None);
    let mut fetched = Vec::new();
    for _ in 0..7 * 1000 {
        heap.allocate_small(512, |page| page.0 > 1000 || fetched.contains(&page)).expect("there is room");
        fetched.extend(heap.poll_advice());
    }
    assert!(fetched.len() > 300, "{} pages advised", fetched.len());
    assert!(heap.stats().fragmentation_ratio() < 1.6);
}

#[test]
fn a_heap_in_order_advises_nothing() {
    let mut heap = Heap::new(10_000);
    let addrs = fill(&mut heap, 512, 8 * 1000);
    for addr in addrs.iter().step_by(8) {
        assert_eq!(heap.free(*addr), None);
    }
    for _ in 0..8000 {
        heap.allocate_small(512, |page| page.0 > 1000).expect("there is room");
        assert_eq!(heap.poll_advice(), None);
    }
}

#[test]
fn small_objects_leave_the_last_free_pages_to_extents() {
    let mut heap = Heap::new(1601);
    let addrs = fill(&mut heap, 2048, 2 * 1500);
    for addr in addrs.iter().step_by(2) {
        assert_eq!(heap.free(*addr), None);
    }
    for _ in 0..1500 {
        heap.allocate_small(2048, remote).expect("there is room");
    }
    assert_eq!(heap.stats().used_pages, 1500);
    extent(&mut heap, 100);
}

#[test]
fn a_current_page_that_was_evicted_is_not_written_to() {
    let mut heap = Heap::new(100);
    let first = heap.allocate_small(100, local).expect("there is room");
    let second = heap.allocate_small(100, |page| page != first.page()).expect("there is room");
    assert_ne!(first.page(), second.page());
    let third = heap.allocate_small(100, |page| page != second.page()).expect("there is room");
    assert_eq!(third.page(), first.page());
}

#[test]
fn an_extent_remembers_its_length_and_owner() {
    let mut heap = Heap::new(1000);
    let one = heap.allocate_extent(3, 7).expect("there is room");
    let two = heap.allocate_extent(1, Heap::OWNER_MAX - 1).expect("there is room");
    assert_eq!(two.first.0, one.first.0 + 3);
    assert_eq!((heap.extent_at(one.first), heap.owner(one.first)), (one, 7));
    assert_eq!((heap.extent_at(two.first), heap.owner(two.first)), (two, Heap::OWNER_MAX - 1));
    heap.set_owner(one.first, 8);
    assert_eq!((heap.extent_at(one.first), heap.owner(one.first)), (one, 8));
    assert_eq!(heap.free_extent(one.first), one.range());
    assert_eq!(heap.free_extent(two.first), two.range());
    assert_eq!(heap.stats(), Heap::new(1000).stats());
}

#[test]
fn an_extent_grows_in_place_only_into_free_pages() {
    let mut heap = Heap::new(100);
    let one = extent(&mut heap, 10);
    assert!(heap.try_grow_extent(one.first, 20));
    let two = extent(&mut heap, 10);
    assert_eq!(two.first.0, one.first.0 + 20);
    assert!(!heap.try_grow_extent(one.first, 21));
    assert_eq!(heap.extent_at(one.first).pages, 20);
    assert!(heap.try_grow_extent(one.first, 20));
    assert!(heap.try_grow_extent(two.first, 79));
    assert!(!heap.try_grow_extent(two.first, 80));
    let tail = heap.shrink_extent(two.first, 5);
    assert_eq!(tail, PageRange { first: PageNo(two.first.0 + 5), count: 74 });
    assert_eq!(heap.stats().used_pages, 25);
    assert_eq!(extent(&mut heap, 74).range(), tail);
}

#[test]
fn an_extent_grows_across_region_borders() {
    let mut heap = Heap::new(4 * REGION);
    let one = extent(&mut heap, 4000);
    assert!(heap.try_grow_extent(one.first, 3 * REGION));
    assert_eq!(heap.stats().used_pages, 3 * REGION);
    assert_eq!(heap.shrink_extent(one.first, 1).count, 3 * REGION - 1);
    assert_eq!(heap.free_extent(one.first).count, 1);
    assert_eq!(heap.stats(), Heap::new(4 * REGION).stats());
}

#[test]
fn huge_extents_span_regions_and_fill_far_memory_to_the_last_page() {
    let max = Heap::EXTENT_PAGES_MAX;
    let mut heap = Heap::new(2 * max + 10);
    let one = extent(&mut heap, max);
    let two = extent(&mut heap, max);
    let rest = extent(&mut heap, 9);
    assert_eq!([one.first.0, two.first.0, rest.first.0], [1, 1 + max, 1 + 2 * max]);
    assert_eq!(heap.allocate_extent(1, 0), Err(HeapError::FarMemoryFull));
    let per_page = heap.near_bytes() as f64 / f64::from(2 * max);
    assert!(per_page < 0.5, "{per_page} bytes a page inside huge extents");
    assert_eq!(heap.free_extent(one.first).count, max);
    assert_eq!(extent(&mut heap, max - 1).first, one.first);
}

#[test]
fn an_extent_may_lie_across_the_border_of_two_half_used_regions() {
    let mut heap = Heap::new(2 * REGION);
    let one = extent(&mut heap, REGION - 11);
    let two = extent(&mut heap, REGION);
    assert_eq!(two.first.0, REGION);
    assert_eq!(heap.shrink_extent(two.first, 100).count, REGION - 100);
    assert_eq!(heap.free_extent(two.first).count, 100);
    let three = extent(&mut heap, REGION + 10);
    assert_eq!(three.first.0, one.first.0 + one.pages);
    assert_eq!(heap.free_pages(), 0);
}

#[test]
fn small_objects_and_extents_keep_to_regions_of_their_own() {
    let mut heap = Heap::new(10 * REGION);
    let small = heap.allocate_small(100, local).expect("there is room");
    let large = extent(&mut heap, 2);
    assert_eq!([small.page().0 / REGION, large.first.0 / REGION], [0, 1]);
    for _ in 0..100 {
        let small = heap.allocate_small(4096, local).expect("there is room");
        let large = extent(&mut heap, 20);
        assert_eq!([small.page().0 / REGION, large.first.0 / REGION], [0, 1]);
    }
}

#[test]
fn small_objects_use_the_holes_between_extents_when_there_is_nothing_else() {
    let mut heap = Heap::new(REGION);
    let extents: Vec<Extent> = (0..REGION - 1).map(|_| extent(&mut heap, 1)).collect();
    assert_eq!(heap.free_extent(extents[500].first).count, 1);
    let addr = heap.allocate_small(100, local).expect("there is a hole");
    assert_eq!(addr.page(), extents[500].first);
    assert_eq!(heap.free(addr), Some(extents[500].first));
}

#[test]
fn near_memory_stays_under_eight_and_a_half_bytes_a_page_when_every_page_is_partial() {
    let pages = 16 * REGION;
    let mut heap = Heap::new(pages);
    let addrs = fill(&mut heap, 2048, 2 * (pages as usize - 1));
    for addr in addrs.iter().step_by(2) {
        assert_eq!(heap.free(*addr), None);
    }
    assert!(heap.stats().partial_pages > pages - 10);
    let per_page = heap.near_bytes() as f64 / f64::from(pages);
    assert!(per_page < 8.5, "{per_page} bytes a page");
    for addr in addrs.iter().skip(1).step_by(2) {
        assert!(heap.free(*addr).is_some());
    }
    assert_eq!(heap.stats(), Heap::new(pages).stats());
}

#[test]
fn near_memory_of_an_emptied_region_goes_back_while_others_are_in_use() {
    let mut heap = Heap::new(4 * REGION);
    let before = fill(&mut heap, 4096, REGION as usize - 1);
    let near_bytes = heap.near_bytes();
    let after = fill(&mut heap, 4096, REGION as usize);
    assert!(heap.near_bytes() > near_bytes + 8 * REGION as usize);
    for addr in before {
        assert!(heap.free(addr).is_some());
    }
    assert!(heap.near_bytes() < near_bytes + 1024);
    assert_eq!(heap.allocate_small(4096, local).map(|addr| addr.page()), Ok(PageNo(1)));
    assert_eq!(heap.size_of_slot(after[0]), 4096);
}

#[test]
fn the_fragmentation_ratio_is_used_pages_over_used_bytes() {
    let mut heap = Heap::new(1000);
    assert_eq!(heap.stats().fragmentation_ratio(), 1.0);
    let addrs = fill(&mut heap, 1024, 400);
    assert_eq!(heap.stats().fragmentation_ratio(), 1.0);
    for addr in addrs.iter().skip(1).step_by(2) {
        assert_eq!(heap.free(*addr), None);
    }
    assert_eq!(heap.stats().fragmentation_ratio(), 2.0);
}

#[test]
fn reset_frees_everything_at_once() {
    let mut heap = Heap::new(1000);
    let addrs = fill(&mut heap, 300, 1000);
    extent(&mut heap, 50);
    assert_eq!(heap.free(addrs[500]), None);
    heap.reset();
    assert_eq!(heap.stats(), Heap::new(1000).stats());
    assert_eq!(heap.allocate_small(300, local), Ok(PageNo(1).addr()));
}

#[test]
#[should_panic(expected = "the slot is free")]
fn a_double_free_is_our_own_fault() {
    let mut heap = Heap::new(10);
    let addrs = fill(&mut heap, 100, 2);
    let _ = heap.free(addrs[0]);
    let _ = heap.free(addrs[0]);
}

#[test]
#[should_panic(expected = "no slot starts at this address")]
fn an_address_inside_an_object_is_no_object() {
    let mut heap = Heap::new(10);
    let addr = fill(&mut heap, 100, 1)[0];
    let _ = heap.free(addr.plus(8));
}

#[test]
#[should_panic(expected = "an extent starts at this page")]
fn the_middle_of_an_extent_is_no_extent() {
    let mut heap = Heap::new(10);
    let extent = extent(&mut heap, 3);
    let _ = heap.free_extent(PageNo(extent.first.0 + 1));
}

#[test]
#[should_panic(expected = "a small object lies on a slab page")]
fn an_extent_is_no_small_object() {
    let mut heap = Heap::new(10);
    let extent = extent(&mut heap, 3);
    let _ = heap.free(extent.addr());
}
