//! What a page costs: checksum, acquire of what is here, fetch and evict, write back.
//!
//! The far memory is an array in this process, and a page arrives as soon as it is asked for: what is
//! measured is the pager, one checksum and one copy of a page.
#![forbid(unsafe_code)]

mod cases;

use cases::Case;
use farmem::{
    Acquired, FarAddr, Frame, Instant, Landed, PAGE_SIZE, PageNo, PageRange, PageSet, Pager, Prefetch,
    SoftPager, TransferKind,
};
use std::hint::black_box;

/// Frames; a quarter of the pages, so that going round the pages misses each time.
const FRAMES: u32 = 128;
const PAGES: u32 = 512;
const NOW: Instant = Instant(1);

fn main() {
    cases::main(
        "pager",
        &[
            Case { name: "checksum_page", prepare: checksum_page },
            Case { name: "acquire_1", prepare: || acquire(1) },
            Case { name: "acquire_16", prepare: || acquire(16) },
            Case { name: "fetch_1", prepare: || fetch(1, false) },
            Case { name: "fetch_16", prepare: || fetch(16, false) },
            Case { name: "fetch_1_dirty_1", prepare: || fetch(1, true) },
        ],
    );
}

/// A pager and its far memory.
struct Bed {
    pager: SoftPager,
    far: Vec<Frame>,
}

impl Bed {
    /// Every page is written and most are far.
    fn new() -> Bed {
        let frames: Vec<Frame> = (0..FRAMES).map(|_| Frame([0; PAGE_SIZE])).collect();
        let pager = SoftPager::new(frames.leak(), FRAMES, PAGES, Prefetch::Ahead, None);
        let far = (0..PAGES).map(|_| Frame([0; PAGE_SIZE])).collect();
        let mut bed = Bed { pager, far };
        for page in 0..PAGES {
            bed.pager.page_overwrite(PageNo(page)).expect("a frame is free").fill(page as u8);
            bed.turn();
        }
        bed
    }

    /// Moves all that wants to move.
    fn turn(&mut self) {
        while let Some(transfer) = self.pager.poll_transfer(NOW) {
            let far = &mut self.far[transfer.page.0 as usize].0;
            let frame = transfer.frame.0 as usize;
            match transfer.kind {
                TransferKind::FetchNeeded | TransferKind::FetchGuess => {
                    self.pager.frames()[frame].0.copy_from_slice(far);
                }
                TransferKind::WriteBack => far.copy_from_slice(&self.pager.frames()[frame].0),
                TransferKind::Trim => continue,
            }
            self.pager.handle_landed(Landed { transfer, result: Ok(()) }, NOW);
        }
        while self.pager.poll_woken().is_some() {}
        self.pager.balance(NOW);
    }

    /// Pins the pages, fetched if need be.
    fn acquire(&mut self, want: &PageSet) {
        while self.pager.acquire(want, 0, false, NOW) != Ok(Acquired::Ready) {
            self.turn();
        }
    }
}

fn run_of(first: u32, count: u32) -> PageSet {
    let mut pages = PageSet::default();
    pages.push(PageRange { first: PageNo(first), count });
    pages.normalise();
    pages
}

fn checksum_page() -> Box<dyn FnMut()> {
    let page = vec![7; PAGE_SIZE];
    Box::new(move || {
        black_box(twox_hash::XxHash3_64::oneshot(black_box(&page)));
    })
}

/// Pins and unpins `count` pages that are here.
fn acquire(count: u32) -> Box<dyn FnMut()> {
    let mut bed = Bed::new();
    let want = run_of(0, count);
    bed.acquire(&want);
    bed.pager.release(&want);
    Box::new(move || {
        bed.acquire(black_box(&want));
        bed.pager.release(&want);
    })
}

/// Waits for `count` pages that are far, so that as many others are evicted; with `dirty`, those have to
/// be written back.
fn fetch(count: u32, dirty: bool) -> Box<dyn FnMut()> {
    let mut bed = Bed::new();
    let sets: Vec<PageSet> = (0..PAGES / count).map(|at| run_of(at * count, count)).collect();
    let mut at = 0;
    Box::new(move || {
        let want = &sets[at];
        at = (at + 1) % sets.len();
        bed.acquire(want);
        if dirty {
            for page in want.pages() {
                let addr = FarAddr(u64::from(page.0) * PAGE_SIZE as u64);
                bed.pager.bytes_mut(addr, 8).expect("it is pinned").fill(at as u8);
            }
        }
        bed.pager.release(want);
        bed.turn();
    })
}
