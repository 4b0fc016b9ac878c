//! One link of a set: what it is behind, how it is, and what it has moved.
//!
//! Refuses to know of other members.

use super::slabs::{MemberNo, SLAB_PAGES};
use crate::dax::DaxLink;
use crate::file::FileLink;
use crate::mem::MemLink;
use crate::nbd::NbdLink;
use crate::rdma::{RdmaCounts, RdmaLink};
use crate::uri::FarUri;
use crate::window::Stretch;
use farmem::{Frame, Instant, Landed, Link, PageNo, Transfer, TransferKind};
use std::io;
use std::os::fd::BorrowedFd;

/// Opens another link to the same far memory, in another thread.
pub type OpenTwin = Box<dyn FnOnce() -> io::Result<Box<dyn Link>> + Send>;

/// A link that may be gone for a while, and come back without what it had.
pub trait Door: Link {
    /// Whether it can be reached, as far as is known.
    fn is_up(&self) -> bool {
        true
    }

    /// How often it has come back without its content: whoever sees the number grow takes every page for lost
    /// that was not written since. May only grow in [`Link::poll_landed`] and [`Link::wait_landed`], and
    /// nothing that was submitted before may be written after that has returned.
    fn losses(&self) -> u32 {
        0
    }

    /// Whether what is submitted while it is gone waits a little for it.
    fn set_patient(&mut self, _is_patient: bool) {}

    /// What becomes readable when something has landed, if it announces that. To be watched for edges.
    fn event_fd(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    /// Whether it may be gone for a while at all.
    fn is_remote(&self) -> bool {
        false
    }

    /// Whether a trim is queued or under way: then nothing may be copied to it past the queue, lest the trim come last.
    fn is_trimming(&self) -> bool {
        false
    }

    /// See [`LinkSet::set_stretches`](super::LinkSet::set_stretches).
    fn set_stretches(&mut self, _stretches: &[Stretch]) {}

    /// What it has asked of an RDMA device, if it uses one.
    fn rdma_counts(&self) -> Option<RdmaCounts> {
        None
    }

    /// How to copy from it and to it, past what is queued here.
    ///
    /// # Errors
    /// `Unsupported` where there is no other way in.
    fn twin(&self) -> io::Result<OpenTwin> {
        Err(io::Error::new(io::ErrorKind::Unsupported, "it cannot be copied while it is used"))
    }
}

impl Door for MemLink {
    fn twin(&self) -> io::Result<OpenTwin> {
        let twin = MemLink::twin(self)?;
        Ok(Box::new(move || Ok(Box::new(twin))))
    }
}

impl Door for DaxLink {}

impl Door for FileLink {
    fn event_fd(&self) -> Option<BorrowedFd<'_>> {
        Some(self.event_fd())
    }
}

/// Opens what stands behind a URI.
pub(super) fn open(uri: &FarUri) -> io::Result<Box<dyn Door>> {
    Ok(match uri {
        FarUri::Mem { size_bytes, wire } => Box::new(MemLink::open(*size_bytes, *wire)?),
        FarUri::Dax { path, size_bytes } => Box::new(DaxLink::open(path, *size_bytes)?),
        FarUri::File { path, size_bytes } => Box::new(FileLink::open(path, *size_bytes)?),
        FarUri::Nbd(uri) => Box::new(NbdLink::open(uri)?),
        FarUri::Rdma(uri) => Box::new(RdmaLink::open(uri)?),
    })
}

/// One link of a set.
pub(super) struct Member {
    pub uri: String,
    /// `None` once it has been removed.
    pub door: Option<Box<dyn Door>>,
    /// The far slab that each slab of this link is, or was last.
    pub far_slabs: Vec<u32>,
    /// Slabs that hold nothing.
    pub free: Vec<u32>,
    /// Slabs that hold nothing any more, but may have something in flight.
    pub retired: Vec<u32>,
    /// To be drained and closed.
    pub is_leaving: bool,
    /// Losses that have been taken note of.
    pub losses: u32,
    /// Since when it has been gone.
    pub down_since: Option<Instant>,
    /// Scratch: this link's part of a batch.
    pub batch: Vec<Transfer>,
    pub pages_read: u64,
    pub pages_written: u64,
    pub errors: u64,
}

impl Member {
    /// A member with all of its slabs free. Shape: the last one may be cut short, if `slabs` says so.
    pub fn new(uri: String, door: Box<dyn Door>, slabs: u32) -> Member {
        Member {
            uri,
            losses: door.losses(),
            door: Some(door),
            far_slabs: vec![0; slabs as usize],
            free: (0..slabs).rev().collect(),
            retired: Vec::new(),
            is_leaving: false,
            down_since: None,
            batch: Vec::new(),
            pages_read: 0,
            pages_written: 0,
            errors: 0,
        }
    }

    /// Whether pages can be fetched from it and written to it.
    pub fn is_up(&self) -> bool {
        self.door.as_ref().is_some_and(|door| door.is_up())
    }

    pub fn in_flight(&self) -> usize {
        self.door.as_ref().map_or(0, |door| door.in_flight())
    }

    /// Takes a free slab for a far slab.
    pub fn take_slab(&mut self, far_slab: u32) -> Option<u32> {
        let slab = self.free.pop()?;
        self.far_slabs[slab as usize] = far_slab;
        Some(slab)
    }

    /// Submits what was gathered.
    pub fn submit(&mut self, frames: &mut [Frame], now: Instant) {
        if self.batch.is_empty() {
            return;
        }
        if let Some(door) = &mut self.door {
            door.submit(&self.batch, frames, now);
        }
        self.batch.clear();
    }

    /// Submits a batch as it is.
    #[inline]
    pub fn pass(&mut self, batch: &[Transfer], frames: &mut [Frame], now: Instant) {
        if let Some(door) = &mut self.door {
            door.submit(batch, frames, now);
        }
    }

    /// Appends what has landed, by this link's own pages.
    pub fn poll(&mut self, frames: &mut [Frame], now: Instant, landed: &mut Vec<Landed>) {
        if let Some(door) = &mut self.door {
            let before = landed.len();
            door.poll_landed(frames, now, landed);
            self.count(&landed[before..]);
        }
    }

    /// Waits until something has landed, and appends it.
    pub fn wait(&mut self, frames: &mut [Frame], landed: &mut Vec<Landed>) {
        if let Some(door) = &mut self.door {
            let before = landed.len();
            door.wait_landed(frames, landed);
            self.count(&landed[before..]);
        }
    }

    /// Counts what has landed.
    fn count(&mut self, landed: &[Landed]) {
        for end in landed {
            match (end.result, end.transfer.kind) {
                (Err(_), _) => self.errors += 1,
                (Ok(()), TransferKind::WriteBack) => self.pages_written += 1,
                (Ok(()), _) => self.pages_read += 1,
            }
        }
    }

    /// The far page that a page of this link is.
    pub fn far_page(&self, page: PageNo) -> PageNo {
        let PageNo(page) = page;
        PageNo(self.far_slabs[(page / SLAB_PAGES) as usize] * SLAB_PAGES + page % SLAB_PAGES)
    }

    /// Slabs that were freed may be used again once nothing of them is in flight.
    pub fn recycle(&mut self) {
        if !self.retired.is_empty() && self.in_flight() == 0 && !self.is_leaving {
            self.free.append(&mut self.retired);
        }
    }
}

/// Numbers of members.
pub(super) fn numbers(members: &[Member]) -> impl Iterator<Item = MemberNo> + use<> {
    (0..members.len() as u8).map(MemberNo)
}
