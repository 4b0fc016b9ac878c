//! The paging contract: what the engine may ask of the far heap, whoever pages it.
//!
//! ```text
//!             bytes_mut            poll_transfer(Fetch)          handle_landed
//! untouched ───────────► dirty      remote ───────────► fetching ───────────► clean
//!     ▲                   │  ▲                                                 │ │
//!     │ drop_pages        │  └───────────── bytes_mut ─────────────────────────┘ │ evict
//!     └── (any state)     │ poll_transfer(WriteBack)        handle_landed        ▼
//!                         └──────────────────────► cleaning ─────────► clean ─► remote
//! ```

use crate::link::{Landed, LinkError, Transfer};
use crate::page::{FarAddr, Frame, FrameNo, Instant, PageNo, PageRange, PageSet};
use alloc::vec::Vec;

/// The right to be woken: names one wait of one parked client. Never reused while it is waited for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Ticket(pub u64);

/// What a pager does on a miss.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum Prefetch {
    /// Demand paging: one page at a time, waiting for each.
    None,
    /// Demand paging with a readahead window.
    Sequential,
    /// The guide's pages all at once; the command that needs them waits and everybody with it.
    Guided,
    /// Plan, acquire, park: the others do not wait.
    #[default]
    Ahead,
}

/// Where a page is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum PageState {
    /// Never written: reads as zeros and costs nothing.
    Untouched,
    /// Only in far memory.
    Remote,
    /// On its way into a frame.
    Fetching,
    /// In a frame, and the same as in far memory.
    Clean,
    /// In a frame, and newer than far memory.
    Dirty,
    /// In a frame, being written back.
    Cleaning,
}

/// The answer to [`Pager::acquire`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Acquired {
    /// Every page is resident and pinned, and the fresh frames are there.
    Ready,
    /// Something is missing; nothing is pinned. The ticket comes out of [`Pager::poll_woken`].
    Waiting(Ticket),
}

/// The world is wrong, as the pager sees it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PagerError {
    /// The set can never be resident at once in the frames that there are.
    PlanTooLarge,
    /// No frame could be made free: everything is pinned, or there is nothing to write it back to.
    NoFrame,
    /// No frame is left but those whose pages far memory does not take.
    Refused,
    /// A page's bytes are not those that were written back.
    ChecksumMismatch(PageNo),
    /// The link could not move a page.
    Link(LinkError),
}

/// Counters and gauges of a pager. Units: pages, frames, nanoseconds.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct PagerStats {
    /// Frames that the pager may use.
    pub frames_total: u64,
    /// Frames that hold nothing.
    pub frames_free: u64,
    /// Frames whose content is newer than far memory (dirty or cleaning).
    pub frames_dirty: u64,
    /// Frames that cannot be evicted (pinned or held).
    pub frames_pinned: u64,
    /// Pages fetched, needed and guessed.
    pub pages_fetched: u64,
    /// Of those, pages that were only guessed.
    pub pages_guessed: u64,
    /// Pages written back.
    pub pages_written_back: u64,
    /// Frames given up by eviction.
    pub pages_evicted: u64,
    /// Pages freed without their content ever being moved again.
    pub pages_dropped: u64,
    /// Touches of a page that no plan had named; each one waited for its fetch.
    pub unplanned_faults: u64,
    /// Fetches that brought something else than what had been written back.
    pub checksum_failures: u64,
    /// Pages of which a second fetch brought the right content, which was then written back once more.
    pub pages_repaired: u64,
    /// Fetches that a link failed.
    pub fetch_errors: u64,
    /// Write backs that a link failed; they are tried again.
    pub write_back_errors: u64,
    /// Near memory of page table and frame table. Units: bytes.
    pub near_bytes: u64,
}

/// The far heap as the engine sees it: pages that are here, or on their way.
///
/// Invariant: but for an unplanned touch (counted) and the synchronous policies, nothing here waits or
/// does I/O. One contract suite holds every implementation. Object-safe, because the pager is chosen at
/// run time.
pub trait Pager {
    /// Pins every page of `want` and makes sure that `fresh` more frames can be taken at once, or starts
    /// fetching what is missing and names the wait.
    ///
    /// Shape: `want` is normalised. Untouched pages of `want` need no fetch and are skipped. All or
    /// nothing: `Waiting` pins no page, so two clients never each hold half of what the other needs.
    /// With `reserve`, resident and landed pages of this wait stay pinned, and its `fresh` frames are kept
    /// from other fetches, until the next acquire with `reserve` (which takes the reservation over, whatever
    /// it answers) or until the ticket is cancelled: one such wait at a time, the caller sees to that, and
    /// runs it as soon as it is woken. So nobody starves.
    /// A synchronous policy waits in here and never answers `Waiting`.
    /// # Errors
    /// `PlanTooLarge` if `want` and `fresh` exceed the frames; `Link`, `ChecksumMismatch` when a page of
    /// this set failed to arrive since the last acquire (the failure is reported once, then retried);
    /// `Refused` if it would wait for frames while far memory takes no page.
    fn acquire(
        &mut self,
        want: &PageSet,
        fresh: u32,
        reserve: bool,
        now: Instant,
    ) -> Result<Acquired, PagerError>;
    /// Unpins what [`Pager::acquire`] pinned: the same set, once. Pages that were dropped since have lost
    /// their pin, and pages that were untouched never had one: for those it does nothing.
    fn release(&mut self, want: &PageSet);
    /// Forgets a wait whose client is gone; the pages may still land.
    fn cancel(&mut self, ticket: Ticket);
    /// Asks for pages that will probably be wanted: best effort, after everything needed, dropped when
    /// frames are short. Does nothing unless the policy is `Ahead`.
    fn prefetch(&mut self, guess: &PageSet, now: Instant);

    /// Where a page is.
    fn state(&self, page: PageNo) -> PageState;
    /// The bytes, if their page is resident (or untouched: then `None` too). Bounds: one page.
    fn resident(&self, addr: FarAddr, len: usize) -> Option<&[u8]>;
    /// The bytes, fetched on the spot if no plan named them (counted as an unplanned fault). An untouched
    /// page reads as zeros. Bounds: one page.
    /// # Errors
    /// `Link`, `ChecksumMismatch`, `NoFrame`, `Refused` of the fetch.
    fn bytes(&mut self, addr: FarAddr, len: usize) -> Result<&[u8], PagerError>;
    /// The bytes to be changed in place; the page becomes dirty. If the frame is held by a reply, the
    /// page moves to a new frame first, so that the reply stays as it was. Bounds: one page.
    /// # Errors
    /// As [`Pager::bytes`].
    fn bytes_mut(&mut self, addr: FarAddr, len: usize) -> Result<&mut [u8], PagerError>;
    /// A page that will be overwritten as a whole: whatever it held is dropped, never fetched. The
    /// content is arbitrary until written.
    /// # Errors
    /// `NoFrame`, `Refused`.
    fn page_overwrite(&mut self, page: PageNo) -> Result<&mut [u8], PagerError>;
    /// The content of these pages is dead: back to untouched, nothing is written back. A held frame lives
    /// on, without a page, until it is let go.
    fn drop_pages(&mut self, range: PageRange);

    /// Holds a resident page's frame for a reply: not evicted, not changed, until [`Pager::unhold`]. An
    /// untouched page answers [`FrameNo::ZERO`], which holds nothing. `None` if the page is not resident.
    fn hold(&mut self, page: PageNo) -> Option<FrameNo>;
    /// Lets go one hold.
    fn unhold(&mut self, frame: FrameNo);
    /// The bytes of a held frame; zeros for [`FrameNo::ZERO`].
    fn held(&self, frame: FrameNo) -> &[u8];
    /// Frames that are held.
    fn held_frames(&self) -> u32;

    /// The next page to move: needed fetches first, then guesses, write backs, trims. `None` when there
    /// is nothing to move or too much in flight.
    fn poll_transfer(&mut self, now: Instant) -> Option<Transfer>;
    /// Records that a transfer has ended; waits that it satisfies come out of [`Pager::poll_woken`].
    fn handle_landed(&mut self, landed: Landed, now: Instant);
    /// The next wait that is over (all pages landed, or one failed), oldest first.
    fn poll_woken(&mut self) -> Option<Ticket>;
    /// Background work: starts cleaning ahead of need and evicts down to the reserve of free frames.
    /// Bounded work a call; to be called once a turn of the loop.
    fn balance(&mut self, now: Instant);
    /// Sets how many frames may be used (the rest of the arena is given up, as soon as it can be).
    fn set_budget(&mut self, frames: u32);
    /// The next frame whose memory the body should give back to the system.
    fn poll_discard(&mut self) -> Option<FrameNo>;
    /// Evicts these pages if they are resident and unpinned; dirty ones are written back first (they stay
    /// resident until a later call finds them clean). Returns how many were given up.
    fn evict(&mut self, range: PageRange) -> u32;
    /// Evicts whatever can be; as [`Pager::evict`].
    fn evict_all(&mut self) -> u32;
    /// The memory of all frames, for links.
    fn frames(&mut self) -> &mut [Frame];
    /// Counters and gauges.
    fn stats(&self) -> PagerStats;
    /// Sets the counters (not the gauges) to zero.
    fn reset_stats(&mut self);
    /// The latencies of needed fetches that have landed since the last call, for the caller's histogram.
    /// Units: nanoseconds.
    fn drain_fetch_latencies(&mut self, into: &mut Vec<u64>);
}
