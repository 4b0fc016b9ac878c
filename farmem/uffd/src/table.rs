//! Where each page is, and where its memory is: the mapping behind the userfaultfd pager.
//!
//! ```text
//!             set(Resident)            before the next touch: enter, in runs
//!   at home ─────────────────► arriving ─────────────────────────────────────► in the range
//!     ▲                                    (or by the touch's own fault)           │
//!     └───────────── leaving ◄─────────────────────────────────────────────────────┘
//!    settle, in runs            set(anything else), lend
//! ```
//!
//! The kernel shows accessed and dirty bits to nobody, so a touch notes them here. A frame that a link reads is lent: it
//! is at home, and its page is read and written there, until it is taken back.

use crate::kernel::{OpenError, Way};
use crate::range::{FarRange, Run};
use crate::touch::{self, Place};
use farmem::{
    Entry, FarAddr, Frame, FrameNo, Mapping, PageNo, PageRange, PagerError, Residency, Resolved, SoftTable,
    Touch, Used,
};
use std::mem;

/// The Linux pager that really faults.
pub type UffdPager = Residency<UffdTable>;

/// Pages that wait to be mapped; those beyond it are mapped by the fault of their first touch. Four times the fetches
/// in flight.
const ARRIVING_MAX: usize = 1024;
/// Frames that wait to be brought home; then they are, whoever asks for them.
const LEAVING_MAX: usize = 1024;

/// In `places`: the frame's memory is at home. Page 0 is never allocated.
const HOME: PageNo = PageNo(0);

const ACCESSED: u8 = 1;
const WRITTEN: u8 = 1 << 1;
/// A link reads the frame.
const LENT: u8 = 1 << 2;

/// Where all far pages are.
pub struct UffdTable {
    entries: SoftTable,
    range: FarRange,
    /// For each frame, the page in the range where its memory is. Pages of zeros until they are used.
    places: Vec<u32>,
    /// For each frame, what has been done to it.
    flags: Vec<u8>,
    /// One more than the highest frame that has been used.
    frames_used: usize,
    arriving: Vec<(PageNo, FrameNo)>,
    /// What has lost its page, or is lent. `true` if nobody wants its content.
    leaving: Vec<(PageNo, FrameNo, bool)>,
    /// What became of the last touch that faulted.
    outcome: Result<(), PagerError>,
}

/// Calls `each` with every run of consecutive pages in consecutive frames.
fn in_runs(places: impl Iterator<Item = (PageNo, FrameNo)>, mut each: impl FnMut(Run)) {
    let mut run: Option<Run> = None;
    for (page, frame) in places {
        let follows = run.as_mut().is_some_and(|run| run.take(page, frame));
        if !follows && let Some(whole) = run.replace(Run { page, frame, count: 1 }) {
            each(whole);
        }
    }
    if let Some(whole) = run {
        each(whole);
    }
}

impl UffdTable {
    pub(crate) fn open(frames: &mut [Frame], far_pages: u32, way: Way) -> Result<UffdTable, OpenError> {
        touch::take_signal();
        Ok(UffdTable {
            entries: SoftTable::new(far_pages),
            range: FarRange::map(frames, far_pages, way)?,
            places: vec![HOME.0; frames.len()],
            flags: vec![0; frames.len()],
            frames_used: 0,
            arriving: Vec::with_capacity(ARRIVING_MAX),
            leaving: Vec::with_capacity(LEAVING_MAX),
            outcome: Ok(()),
        })
    }

    pub(crate) fn range(&mut self) -> &mut FarRange {
        &mut self.range
    }

    #[inline]
    fn place_of(&self, frame: FrameNo) -> PageNo {
        PageNo(self.places[frame.0 as usize])
    }

    /// Where a touch finds the page, after whatever has arrived is mapped.
    #[inline]
    pub(crate) fn place(&mut self, page: PageNo) -> Place {
        if !self.leaving.is_empty() {
            self.settle();
        }
        if !self.arriving.is_empty() {
            self.map_arrived();
        }
        match self.entries.get(page) {
            Entry::Untouched => Place::Nowhere,
            Entry::Resident(frame) if self.flags[frame.0 as usize] & LENT != 0 => Place::Home(frame),
            _ => Place::Range,
        }
    }

    /// Notes what was done to a resident page.
    #[inline]
    pub(crate) fn note(&mut self, page: PageNo, touch: Touch) {
        if let Some(frame) = self.entries.resident(page) {
            self.flags[frame.0 as usize] |= if touch == Touch::Write { ACCESSED | WRITTEN } else { ACCESSED };
        }
    }

    #[inline]
    pub(crate) fn take_outcome(&mut self) -> Result<(), PagerError> {
        mem::replace(&mut self.outcome, Ok(()))
    }

    /// Lets the touch that faulted go on: its page is mapped, and so is whatever else has come meanwhile, in as few
    /// calls as there are runs; or it reads zeros that nobody gets to see.
    pub(crate) fn end_fault(&mut self, page: PageNo, resolved: Result<Resolved, PagerError>) {
        self.settle();
        self.map_arrived();
        self.outcome = match (resolved, self.entries.get(page)) {
            (Ok(_), Entry::Resident(frame)) => {
                if self.place_of(frame) == HOME {
                    self.enter(Run { page, frame, count: 1 });
                }
                return;
            }
            (Ok(_), _) => unreachable!("a page that a touch waited for is resident"),
            (Err(error), _) => Err(error),
        };
        self.range.let_pass(page).expect("a missing page of the range can be let pass");
    }

    /// Maps what has arrived.
    fn map_arrived(&mut self) {
        let mut arrived = mem::take(&mut self.arriving);
        // Not those that have left again, or are lent, or were mapped by a touch.
        arrived.retain(|&(page, frame)| {
            self.entries.get(page) == Entry::Resident(frame)
                && self.place_of(frame) == HOME
                && self.flags[frame.0 as usize] & LENT == 0
        });
        arrived.sort_unstable();
        arrived.dedup();
        in_runs(arrived.drain(..), |run| self.enter(run));
        self.arriving = arrived;
    }

    fn enter(&mut self, run: Run) {
        // SAFETY: the frames are resident and at home, nobody's but the pager's: it is borrowed by who called, and
        // no link has them (they would be lent, or being fetched). Their pages are missing: nothing else maps them.
        unsafe { self.range.enter(run) }.expect("the kernel has memory for page tables");
        for index in 0..run.count {
            self.places[(run.frame.0 + index) as usize] = run.page.0 + index;
        }
    }

    /// Lets the frame's memory leave the range with the next `settle`.
    fn let_leave(&mut self, frame: FrameNo, is_dead: bool) {
        let page = self.place_of(frame);
        if page == HOME {
            return;
        }
        self.leaving.push((page, frame, is_dead));
        if self.leaving.len() == LEAVING_MAX {
            self.settle();
        }
    }
}

impl Mapping for UffdTable {
    const IS_MMU: bool = true;

    #[inline]
    fn get(&self, page: PageNo) -> Entry {
        self.entries.get(page)
    }

    fn set(&mut self, page: PageNo, entry: Entry) {
        if let Some(old) = self.entries.resident(page)
            && entry != Entry::Resident(old)
        {
            // An evicted frame is clean and held by nobody; one that was dropped or replaced may be held.
            self.let_leave(old, matches!(entry, Entry::Remote(_)));
        }
        self.entries.set(page, entry);
        if let Entry::Resident(frame) = entry {
            let index = frame.0 as usize;
            self.frames_used = self.frames_used.max(index + 1);
            self.flags[index] &= LENT;
            if self.arriving.len() < ARRIVING_MAX {
                self.arriving.push((page, frame));
            }
        }
    }

    fn first_touched(&self, range: PageRange) -> Option<PageNo> {
        self.entries.first_touched(range)
    }

    fn far_pages(&self) -> u32 {
        self.range.far_pages()
    }

    fn near_bytes(&self) -> usize {
        self.entries.near_bytes() + self.frames_used * (size_of::<u32>() + size_of::<u8>())
    }

    #[inline]
    fn take_used(&mut self, page: PageNo) -> Used {
        let Some(frame) = self.entries.resident(page) else { return Used::default() };
        let slot = &mut self.flags[frame.0 as usize];
        let flags = mem::replace(slot, *slot & LENT);
        Used { accessed: flags & ACCESSED != 0, written: flags & WRITTEN != 0 }
    }

    #[inline]
    fn is_written(&self, page: PageNo) -> bool {
        self.entries.resident(page).is_some_and(|frame| self.flags[frame.0 as usize] & WRITTEN != 0)
    }

    fn watch_writes(&mut self, page: PageNo) {
        self.take_used(page);
    }

    fn frame<'f>(&'f self, frames: &'f [Frame], frame: FrameNo) -> &'f Frame {
        let page = self.place_of(frame);
        if page == HOME {
            return &frames[frame.0 as usize];
        }
        // SAFETY: the frame's memory is mapped at this page until `settle`, which needs the table for itself, and
        // whoever changes it has borrowed the pager for that.
        unsafe { &*self.range.page(page).cast::<Frame>() }
    }

    fn frame_mut<'f>(&'f mut self, frames: &'f mut [Frame], frame: FrameNo) -> &'f mut Frame {
        self.settle();
        let page = self.place_of(frame);
        if page == HOME {
            return &mut frames[frame.0 as usize];
        }
        // SAFETY: as in `frame`; the pager is borrowed to change it.
        unsafe { &mut *self.range.page(page).cast::<Frame>() }
    }

    fn copy_frame(&mut self, frames: &mut [Frame], from: FrameNo, to: FrameNo) {
        // Through a copy of our own: either may be in the range.
        let content = self.frame(frames, from).0;
        self.frame_mut(frames, to).0 = content;
    }

    fn lend(&mut self, frame: FrameNo) {
        self.flags[frame.0 as usize] |= LENT;
        self.let_leave(frame, false);
    }

    fn take_back(&mut self, frame: FrameNo) {
        self.flags[frame.0 as usize] &= !LENT;
    }

    /// Brings home what leaves, so that its pages are missing and links find its frames.
    fn settle(&mut self) {
        if self.leaving.is_empty() {
            return;
        }
        let mut leaving = mem::take(&mut self.leaving);
        leaving.sort_unstable_by_key(|&(page, frame, _)| (page, frame));
        leaving.dedup_by_key(|&mut (page, frame, _)| (page, frame));
        let Self { range, places, .. } = self;
        for dead in [false, true] {
            let places_of = leaving.iter().filter(|leaves| leaves.2 == dead);
            in_runs(places_of.map(|&(page, frame, _)| (page, frame)), |run| {
                // SAFETY: who calls has the pager for itself, so nobody refers to these pages; they are mapped, as
                // `places` says, and their frames' homes are empty meanwhile.
                unsafe { if dead { range.drop_dead(run) } else { range.leave(run) } };
                places[run.frame.0 as usize..(run.frame.0 + run.count) as usize].fill(HOME.0);
            });
        }
        leaving.clear();
        self.leaving = leaving;
    }

    #[inline]
    fn read(pager: &mut UffdPager, addr: FarAddr, len: usize) -> Result<&[u8], PagerError> {
        touch::read(pager, addr, len)
    }

    #[inline]
    fn write(pager: &mut UffdPager, addr: FarAddr, len: usize) -> Result<&mut [u8], PagerError> {
        touch::write(pager, addr, len)
    }

    fn bring(pager: &mut UffdPager, page: PageNo) -> Result<(), PagerError> {
        touch::read(pager, page.addr(), 1).map(|_| ())
    }
}
