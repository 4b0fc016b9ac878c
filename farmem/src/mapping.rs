//! What a pager stands on: the table that says where each far page is, and how a touch finds its frame.
//!
//! ```text
//!               SoftTable           the unikernel's page tables       Linux' userfaultfd
//! get, set      an array of ours    the entries that the MMU reads    an array; the kernel is told in batches
//! read, write   looks the page up   touches it; a missing page        touches it; a missing page
//!                                   traps into `resolve`              is a signal, and that resolves it
//! take_used     no bits             bits set by the MMU               bits set by the touch
//! frame         in the arena        in the arena, mapped twice        in the arena or in the far range
//! ```
//!
//! Decides nothing: who is evicted, written back or asked for ahead is the business of
//! [`Residency`](crate::Residency).

use crate::page::{FarAddr, Frame, FrameNo, PAGE_SIZE, PageNo, PageRange};
use crate::pager::PagerError;
use crate::residency::Residency;

/// Thirty bits that a page's bytes come to: of XXH3, or of what [`Mapping::checksum`] has instead.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Checksum(u32);

impl Checksum {
    /// How many bits one takes in a table's entry.
    pub const BITS: u32 = 30;
    /// Of a frame that far memory knows nothing of.
    pub(crate) const NONE: Checksum = Checksum(0);

    /// By XXH3: the low bits of 64.
    pub fn of(bytes: &[u8; PAGE_SIZE]) -> Checksum {
        Checksum::from_bits(twox_hash::XxHash3_64::oneshot(bytes) as u32)
    }

    /// From the low [`Checksum::BITS`] of `bits`.
    #[inline]
    pub const fn from_bits(bits: u32) -> Checksum {
        Checksum(bits & ((1 << Checksum::BITS) - 1))
    }

    /// For a table's entry.
    #[inline]
    pub const fn bits(self) -> u32 {
        self.0
    }
}

/// Where a page is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Entry {
    /// Never written.
    Untouched,
    /// In far memory, with the checksum of what is there.
    Remote(Checksum),
    /// In a frame.
    Resident(FrameNo),
    /// On its way into a frame.
    Fetching(FrameNo),
}

/// What has been done to a page behind the pager's back.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Used {
    /// Read or written.
    pub accessed: bool,
    /// Written.
    pub written: bool,
}

/// How a page is touched.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Touch {
    /// To read it.
    Read,
    /// To change it.
    Write,
}

/// What [`Residency::resolve`] has made of a touch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Resolved {
    /// The page is in its frame: touch it again.
    Mapped,
    /// The page is untouched, takes no frame, and reads as zeros.
    Zeros,
}

/// The table of all far pages, and the way from a far address to a frame's bytes.
///
/// A mapping whose pages are touched through an MMU keeps old translations until it is told to forget them:
/// it may put that off (and do many at once), but not beyond the next `read` or `write`.
pub trait Mapping: Sized {
    /// Whether a touch of a missing page traps, and the mapping knows accessed and written pages: a constant,
    /// so that a mapping without an MMU pays for neither.
    const IS_MMU: bool;

    /// Where a page is.
    /// # Panics
    /// If `page` lies beyond the far memory that the mapping was made for.
    fn get(&self, page: PageNo) -> Entry;
    /// Notes where a page is from now on; a resident page counts as not used.
    fn set(&mut self, page: PageNo, entry: Entry);
    /// Makes an untouched page resident; false, and nothing is changed, if it is not untouched or its entry has
    /// still to be made.
    #[inline]
    fn settle_untouched(&mut self, page: PageNo, frame: FrameNo) -> bool {
        let is_untouched = self.get(page) == Entry::Untouched;
        if is_untouched {
            self.set(page, Entry::Resident(frame));
        }
        is_untouched
    }
    /// The first page of `range` that is not untouched.
    fn first_touched(&self, range: PageRange) -> Option<PageNo>;
    /// One more than the highest page number.
    fn far_pages(&self) -> u32;
    /// Near memory of the table. Units: bytes.
    fn near_bytes(&self) -> usize;

    /// The frame of a resident page.
    #[inline]
    fn resident(&self, page: PageNo) -> Option<FrameNo> {
        match self.get(page) {
            Entry::Resident(frame) => Some(frame),
            _ => None,
        }
    }

    /// What has been done to a resident page since this was last asked. A write that follows may go unseen
    /// until [`Mapping::watch_writes`].
    #[inline]
    fn take_used(&mut self, _page: PageNo) -> Used {
        Used::default()
    }

    /// The frame of a resident page, and what [`Mapping::take_used`] says of it.
    #[inline]
    fn take_resident(&mut self, page: PageNo) -> Option<(FrameNo, Used)> {
        let frame = self.resident(page)?;
        let used = if Self::IS_MMU { self.take_used(page) } else { Used::default() };
        Some((frame, used))
    }

    /// Whether `take_used` would answer that the resident page was written.
    #[inline]
    fn is_written(&self, _page: PageNo) -> bool {
        false
    }

    /// Lets no write to the resident page go unseen from now on.
    #[inline]
    fn watch_writes(&mut self, _page: PageNo) {}

    /// Makes what a trap needs before the next one comes: a trap allocates nothing.
    #[inline]
    fn prepare(&mut self) {}

    /// The checksum of a frame's bytes. It never leaves near memory: equal bytes have equal ones for as long as
    /// the mapping lives is all that it must be.
    #[inline]
    fn checksum(&self, frame: &Frame) -> Checksum {
        Checksum::of(&frame.0)
    }

    /// The memory of a frame: in the arena, unless the mapping moves it to where its page is touched.
    #[inline]
    fn frame<'f>(&'f self, frames: &'f [Frame], frame: FrameNo) -> &'f Frame {
        &frames[frame.0 as usize]
    }

    /// [`Mapping::frame`], to be changed.
    #[inline]
    fn frame_mut<'f>(&'f mut self, frames: &'f mut [Frame], frame: FrameNo) -> &'f mut Frame {
        &mut frames[frame.0 as usize]
    }

    /// Copies a frame's content into another one.
    #[inline]
    fn copy_frame(&mut self, frames: &mut [Frame], from: FrameNo, to: FrameNo) {
        let [from, to] = frames
            .get_disjoint_mut([from.0 as usize, to.0 as usize])
            .expect("a frame is copied into another one of the arena");
        to.0.copy_from_slice(&from.0);
    }

    /// A link reads the frame in the arena from the next [`Mapping::settle`] on: until
    /// [`Mapping::take_back`] its memory stays there.
    #[inline]
    fn lend(&mut self, _frame: FrameNo) {}

    /// The link has read the frame.
    #[inline]
    fn take_back(&mut self, _frame: FrameNo) {}

    /// Brings home whatever has left the far range: links and the system are about to be given frames of the arena.
    #[inline]
    fn settle(&mut self) {}

    /// [`Pager::bytes`](crate::Pager::bytes).
    /// # Errors
    /// As there.
    fn read(pager: &mut Residency<Self>, addr: FarAddr, len: usize) -> Result<&[u8], PagerError>;
    /// [`Pager::bytes_mut`](crate::Pager::bytes_mut).
    /// # Errors
    /// As there.
    fn write(pager: &mut Residency<Self>, addr: FarAddr, len: usize) -> Result<&mut [u8], PagerError>;
    /// Waits for a page that a policy without `ahead` needs now, by touching it if that traps.
    /// # Errors
    /// Of the fetch.
    fn bring(pager: &mut Residency<Self>, page: PageNo) -> Result<(), PagerError>;
}
