//! What moves between frames and far memory, and the contract of whatever moves it.

use crate::page::{Frame, FrameNo, Instant, PageNo};
use alloc::vec::Vec;

/// Which way a page moves, and how urgently.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum TransferKind {
    /// Far memory to frame, and a command waits for it.
    FetchNeeded,
    /// Far memory to frame, because it will probably be wanted.
    FetchGuess,
    /// Frame to far memory.
    WriteBack,
    /// The content is dead: far memory may give the space back. Best effort; never lands. The pages may be
    /// written back again at once, and then the trim must not destroy what was written: see [`Link`].
    Trim,
}

/// One page to move. While a fetch is in flight its frame belongs to the link; while a write back is in
/// flight the link may read the frame at any time and nothing gives the frame away.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Transfer {
    /// Which way.
    pub kind: TransferKind,
    /// The page, or the first of `count` pages for a [`TransferKind::Trim`].
    pub page: PageNo,
    /// How many pages; 1 except for a trim.
    pub count: u32,
    /// The frame (meaningless for a trim).
    pub frame: FrameNo,
}

/// The world is wrong: a link could not move a page.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum LinkError {
    /// The device or node answered with an error.
    Io,
    /// The link is down, and not expected back in time.
    Down,
    /// The page lies beyond the end of this far memory.
    OutOfRange,
    /// What held the page has come back without it: it is gone for good, until it is written anew.
    Lost,
}

/// A transfer that has ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Landed {
    /// The transfer as it was submitted.
    pub transfer: Transfer,
    /// Whether the page moved.
    pub result: Result<(), LinkError>,
}

/// A connection to far memory: a queue of transfers with completions, batched, many in flight, out of
/// order. One contract suite holds every implementation.
///
/// Order: whoever submits has at most one transfer of a page in flight, so transfers may end in any order. But
/// a trim never lands, so it may be followed by a write back of the same page at any time: then the link lets the trim
/// end first, or forgets it for that page. Nothing else is ever in flight for a page when it is trimmed.
pub trait Link {
    /// Starts a batch. Shape: needed fetches come first in `batch` and are never delayed by the rest.
    /// Everything but a trim lands exactly once.
    fn submit(&mut self, batch: &[Transfer], frames: &mut [Frame], now: Instant);
    /// Appends what has ended by `now` to `landed`; never waits.
    fn poll_landed(&mut self, frames: &mut [Frame], now: Instant, landed: &mut Vec<Landed>);
    /// Waits until something that is in flight has ended and appends it. Returns at once when nothing is
    /// in flight. The only call that may wait; it serves synchronous faults.
    fn wait_landed(&mut self, frames: &mut [Frame], landed: &mut Vec<Landed>);
    /// When the next completion is due, if this link knows (a modelled one does); `None` when nothing is
    /// in flight or when completions announce themselves otherwise.
    fn next_due(&self) -> Option<Instant>;
    /// Transfers that have been submitted and have not landed.
    fn in_flight(&self) -> usize;
    /// Far memory behind this link. Units: pages.
    fn capacity_pages(&self) -> u32;
}
