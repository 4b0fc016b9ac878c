//! What a link asks of a node that it is connected to: pages moved in chains, and word when they have.
//!
//! ```text
//!   NEEDED  ── chain ─► queue pair 0 ─┐
//!                                     ├─► one completion queue ─► ends        the fabric: verbs, or a fake one
//!   REST    ── chain ─► queue pair 1 ─┘
//! ```
//!
//! Refuses to know transfers, deadlines and what is to be done when a pair is broken.

use super::proto::LANES;
use crate::nbd::proto::Generation;
use crate::window::Stretch;
use farmem::{Frame, FrameNo, PageNo};
use std::io;
use std::os::fd::BorrowedFd;

/// The lane of the pages that somebody waits for.
pub const NEEDED: usize = 0;
/// The lane of guesses and write backs.
pub const REST: usize = 1;
/// Pages of one chain, and so of one ring of the doorbell and one completion: 256 KiB, 21 us at 100 Gb/s. More would keep
/// the first of them waiting for the last.
pub const CHAIN_PAGES_MAX: usize = 64;
/// Pages under way on a lane: 2 MiB of needed ones, and two chains of the others, so that one is moving while the next is
/// made.
pub const LANE_PAGES_MAX: [usize; LANES] = [512, 2 * CHAIN_PAGES_MAX];
/// Every work request makes one completion at most: when it is signalled, or when it fails. So a completion
/// queue of as many entries as both lanes have work requests never overruns. 512 + 128 = 640.
pub const COMPLETIONS_MAX: usize = LANE_PAGES_MAX[NEEDED] + LANE_PAGES_MAX[REST];

/// One page to move.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Move {
    /// From or to there.
    pub page: PageNo,
    /// From or to here.
    pub frame: FrameNo,
    /// From there to here, or the other way.
    pub is_read: bool,
    /// What the end will say. Ids of a lane go up by one from zero.
    pub id: u64,
    /// Whether a success is told. A failure always is.
    pub is_signalled: bool,
}

/// What has become of a work request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// It is done, and so is everything before it on its lane.
    Done,
    /// It alone is at fault, e.g. because it is out of bounds. The pair is broken.
    Refused,
    /// It was not done, perhaps, and would be if it were tried again. The pair is broken.
    Broken,
}

/// A completion.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct End {
    /// The lane that it was posted on.
    pub lane: usize,
    /// As it was posted.
    pub id: u64,
    /// What has become of it.
    pub outcome: Outcome,
    /// The device's words for what went wrong; empty if nothing did.
    pub words: String,
}

/// A node that can be reached: two lanes and their completions. Once anything fails it is of no use any more,
/// and is dropped; then nothing touches a frame for it.
pub trait Fabric: Send {
    /// Posts a chain on a lane with one ring of the doorbell. Shape: at most [`CHAIN_PAGES_MAX`] moves.
    ///
    /// # Errors
    /// The chain may be under way in part.
    fn post(&mut self, lane: usize, chain: &[Move], frames: &mut [Frame]) -> io::Result<()>;

    /// Appends what has completed; a call into memory only.
    ///
    /// # Errors
    /// The completion queue is broken.
    fn poll(&mut self, frames: &mut [Frame], ends: &mut Vec<End>) -> io::Result<()>;

    /// From now on frames lie in these stretches, and the device forgets all others. Nothing is under way. The number is
    /// another one each time that they change; without this call all frames are one stretch.
    fn set_stretches(&mut self, number: u64, stretches: &[Stretch]);

    /// Lets an event fd become readable at the next completion. What completes before this returns may go untold.
    ///
    /// # Errors
    /// What the device answers.
    fn arm(&mut self) -> io::Result<()>;

    /// Takes back what [`Fabric::arm`] has brought.
    fn disarm(&mut self);

    /// Looks whether the node has hung up.
    ///
    /// # Errors
    /// If it has.
    fn check_control(&mut self) -> io::Result<()>;

    /// What becomes readable: the completions when armed, and what the node says.
    fn event_fds(&self) -> Vec<BorrowedFd<'_>>;
}

/// A node that has been reached.
pub struct Reached {
    /// The way to it.
    pub fabric: Box<dyn Fabric>,
    /// Pages that may be used.
    pub pages: u32,
    /// What is in them.
    pub generation: Generation,
}

/// How to come to the node again.
pub trait Dial: Send {
    /// Tries from now on until it succeeds.
    fn start(&mut self);

    /// The node, if it has been reached.
    ///
    /// # Errors
    /// If nobody is trying.
    #[expect(clippy::result_unit_err, reason = "there is nothing to say but to start again")]
    fn poll(&mut self) -> Result<Option<Reached>, ()>;

    /// What becomes readable when it has been reached, if that is announced.
    fn bell(&self) -> Option<BorrowedFd<'_>>;
}
