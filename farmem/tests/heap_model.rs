//! The far heap against a naive model: a map of what was handed out, checked after every step.

use farmem::{Extent, FarAddr, Heap, HeapError, PAGE_SIZE, PageNo};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

/// One step. Picks are taken modulo what there is to pick from.
#[derive(Clone, Debug)]
enum Step {
    AllocateSmall { size: usize, local_in_16: u32 },
    FreeSmall { pick: usize },
    AllocateExtent { pages: u32, owner: u64 },
    FreeExtent { pick: usize },
    Grow { pick: usize, by: u32 },
    Shrink { pick: usize, to: u32 },
    FreeAll,
    Reset,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let size = prop_oneof![4 => 1..200usize, 2 => 0..=PAGE_SIZE, 1 => 2049..=PAGE_SIZE];
    let pages = prop_oneof![6 => 1..40u32, 2 => 1..1500u32, 1 => 4000..9000u32];
    let step = prop_oneof![
        400 => (size, 0..=16u32).prop_map(|(size, local_in_16)| Step::AllocateSmall { size, local_in_16 }),
        300 => any::<usize>().prop_map(|pick| Step::FreeSmall { pick }),
        60 => (pages, 0..Heap::OWNER_MAX).prop_map(|(pages, owner)| Step::AllocateExtent { pages, owner }),
        50 => any::<usize>().prop_map(|pick| Step::FreeExtent { pick }),
        20 => (any::<usize>(), 0..5000u32).prop_map(|(pick, by)| Step::Grow { pick, by }),
        20 => (any::<usize>(), any::<u32>()).prop_map(|(pick, to)| Step::Shrink { pick, to }),
        2 => Just(Step::FreeAll),
        1 => Just(Step::Reset),
    ];
    prop::collection::vec(step, 1..600)
}

struct Model {
    heap: Heap,
    capacity_pages: u32,
    /// Small objects: address and size of the slot.
    small: BTreeMap<FarAddr, usize>,
    /// Extents: pages and owner.
    extents: BTreeMap<PageNo, (u32, u64)>,
}

impl Model {
    fn new(capacity_pages: u32) -> Model {
        let heap = Heap::new(capacity_pages);
        Model { heap, capacity_pages, small: BTreeMap::new(), extents: BTreeMap::new() }
    }

    fn slab_pages(&self) -> BTreeSet<PageNo> {
        self.small.keys().map(|addr| addr.page()).collect()
    }

    fn used_pages(&self) -> u32 {
        let extents: u32 = self.extents.values().map(|(pages, _)| pages).sum();
        extents + self.slab_pages().len() as u32
    }

    /// Whether all these pages exist and hold nothing.
    fn is_free(&self, first: u32, pages: u32) -> bool {
        let end = first + pages;
        let slabs = self.slab_pages();
        first > 0
            && end <= self.capacity_pages
            && slabs.range(PageNo(first)..PageNo(end)).next().is_none()
            && self.extents.iter().all(|(at, (count, _))| at.0 + count <= first || end <= at.0)
    }

    /// Whether a run of `pages` free pages exists.
    fn has_run(&self, pages: u32) -> bool {
        let mut used: Vec<(u32, u32)> = self.slab_pages().iter().map(|page| (page.0, 1)).collect();
        used.extend(self.extents.iter().map(|(first, (count, _))| (first.0, *count)));
        used.push((0, 1));
        used.push((self.capacity_pages, 0));
        used.sort_unstable();
        used.windows(2).any(|pair| pair[1].0 - (pair[0].0 + pair[0].1) >= pages)
    }

    fn pick_small(&self, pick: usize) -> Option<FarAddr> {
        self.small.keys().nth(pick % self.small.len().max(1)).copied()
    }

    fn pick_extent(&self, pick: usize) -> Option<(PageNo, u32, u64)> {
        let picked = self.extents.iter().nth(pick % self.extents.len().max(1));
        picked.map(|(&first, &(pages, owner))| (first, pages, owner))
    }

    fn allocate_small(&mut self, size: usize, local_in_16: u32) {
        let at_hand = |page: PageNo| page.0.wrapping_mul(2_654_435_761) >> 28 < local_in_16;
        match self.heap.allocate_small(size, at_hand) {
            Ok(addr) => self.place_small(addr, size),
            Err(HeapError::FarMemoryFull) => {
                assert!(!self.has_run(1), "full with a free page");
                assert_eq!(self.heap.free_pages(), 0);
            }
        }
    }

    fn place_small(&mut self, addr: FarAddr, size: usize) {
        let slot = self.heap.size_of_slot(addr);
        assert!(slot >= size && slot == Heap::slot_size_for(size));
        assert!(addr.0.is_multiple_of(8), "aligned");
        assert!(addr.offset() + slot <= PAGE_SIZE, "within one page");
        assert!((1..self.capacity_pages).contains(&addr.page().0));
        if let Some((before, size)) = self.small.range(..=addr).next_back() {
            assert!(before.plus(*size) <= addr, "overlaps the object before it");
        }
        if let Some((after, _)) = self.small.range(addr..).next() {
            assert!(addr.plus(slot) <= *after, "overlaps the object behind it");
        }
        if let Some((first, (pages, _))) = self.extents.range(..=addr.page()).next_back() {
            assert!(first.0 + pages <= addr.page().0, "inside an extent");
        }
        self.small.insert(addr, slot);
    }

    fn free_small(&mut self, addr: FarAddr) {
        self.small.remove(&addr).expect("the model has it");
        let emptied = !self.slab_pages().contains(&addr.page());
        assert_eq!(self.heap.free(addr), emptied.then_some(addr.page()));
    }

    fn allocate_extent(&mut self, pages: u32, owner: u64) {
        match self.heap.allocate_extent(pages, owner) {
            Ok(extent) => {
                assert_eq!(extent.pages, pages);
                assert!(self.is_free(extent.first.0, pages), "overlap");
                self.extents.insert(extent.first, (pages, owner));
            }
            Err(HeapError::FarMemoryFull) => assert!(!self.has_run(pages), "a run was there"),
        }
    }

    fn free_extent(&mut self, first: PageNo) {
        let (pages, owner) = self.extents.remove(&first).expect("the model has it");
        assert_eq!(self.heap.owner(first), owner);
        assert_eq!(self.heap.free_extent(first), Extent { first, pages }.range());
    }

    fn free_all(&mut self) {
        while let Some(addr) = self.pick_small(0) {
            self.free_small(addr);
        }
        while let Some((first, ..)) = self.pick_extent(0) {
            self.free_extent(first);
        }
        assert_eq!(self.heap.stats(), Heap::new(self.capacity_pages).stats());
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::AllocateSmall { size, local_in_16 } => self.allocate_small(size, local_in_16),
            Step::FreeSmall { pick } => {
                if let Some(addr) = self.pick_small(pick) {
                    self.free_small(addr);
                }
            }
            Step::AllocateExtent { pages, owner } => self.allocate_extent(pages, owner),
            Step::FreeExtent { pick } => {
                if let Some((first, ..)) = self.pick_extent(pick) {
                    self.free_extent(first);
                }
            }
            Step::Grow { pick, by } => {
                if let Some((first, pages, owner)) = self.pick_extent(pick) {
                    let room = self.is_free(first.0 + pages, by);
                    assert_eq!(self.heap.try_grow_extent(first, pages + by), room || by == 0);
                    if room {
                        self.extents.insert(first, (pages + by, owner));
                    }
                }
            }
            Step::Shrink { pick, to } => {
                if let Some((first, pages, owner)) = self.pick_extent(pick) {
                    let to = 1 + to % pages;
                    let tail = self.heap.shrink_extent(first, to);
                    assert_eq!((tail.first.0, tail.count), (first.0 + to, pages - to));
                    self.extents.insert(first, (to, owner));
                }
            }
            Step::FreeAll => self.free_all(),
            Step::Reset => {
                self.heap.reset();
                self.small.clear();
                self.extents.clear();
            }
        }
    }

    fn check(&self) {
        let stats = self.heap.stats();
        assert_eq!(stats.used_pages, self.used_pages());
        assert_eq!(self.heap.free_pages(), self.capacity_pages.saturating_sub(1) - stats.used_pages);
        let small: usize = self.small.values().sum();
        let extents: u64 = self.extents.values().map(|&(pages, _)| u64::from(pages)).sum();
        assert_eq!(stats.used_bytes, small as u64 + extents * PAGE_SIZE as u64);
        for (&first, &(pages, owner)) in &self.extents {
            assert_eq!(self.heap.extent_at(first), Extent { first, pages });
            assert_eq!(self.heap.owner(first), owner);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn the_heap_agrees_with_a_map_of_what_it_handed_out(
        capacity_pages in prop_oneof![0..40u32, 40..400u32, 4000..4200u32, 8000..50_000u32],
        steps in steps(),
    ) {
        let mut model = Model::new(capacity_pages);
        for step in steps {
            model.step(step);
            model.check();
        }
        model.free_all();
    }
}
