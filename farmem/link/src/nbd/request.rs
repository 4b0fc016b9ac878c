//! Requests that a node has not answered: which transfers each stands for, found by the cookie that comes back.
//!
//! ```text
//!   cookie (64 bits)   serial (32) ── tells a late answer from one to whoever has the slot now
//!                      slot   (32) ── where the request is kept
//! ```
//!
//! A request moves a run of consecutive pages, each with a frame of its own. Refuses to know connections.

use super::proto::{Command, Request as Header};
use crate::absence::Asked;
use farmem::{Instant, PAGE_SIZE, Transfer, TransferKind};
use zerocopy::IntoBytes;

/// A request's place in [`Requests`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Slot(u32);

/// One request. Keeps its memory when its slot is used again.
pub(super) struct Request {
    pub(super) kind: TransferKind,
    /// In the order of their pages; none for a trim.
    pub(super) transfers: Vec<Transfer>,
    /// When the first of them was submitted.
    pub(super) at: Instant,
    pub(super) header: [u8; Header::LEN],
    cookie: u64,
    is_busy: bool,
}

impl Request {
    /// Bytes behind the request's header.
    pub(super) fn payload_sent_bytes(&self) -> usize {
        if self.kind == TransferKind::WriteBack { self.payload_bytes() } else { 0 }
    }

    /// Bytes behind the header of a reply that is no error.
    pub(super) fn payload_received_bytes(&self) -> usize {
        match self.kind {
            TransferKind::FetchNeeded | TransferKind::FetchGuess => self.payload_bytes(),
            TransferKind::WriteBack | TransferKind::Trim => 0,
        }
    }

    fn payload_bytes(&self) -> usize {
        self.transfers.len() * PAGE_SIZE
    }

    pub(super) fn cookie(&self) -> u64 {
        self.cookie
    }
}

/// All requests of a link.
#[derive(Default)]
pub(super) struct Requests {
    all: Vec<Request>,
    free: Vec<Slot>,
    serial: u32,
}

impl Requests {
    /// A request for `pages` pages from that of `first` on, whose transfers the caller adds (but for a trim's).
    pub(super) fn begin(&mut self, first: Asked, pages: u32) -> Slot {
        let slot = self.free.pop().unwrap_or_else(|| {
            let slot = Slot(self.all.len() as u32);
            self.all.push(Request {
                kind: TransferKind::Trim,
                transfers: Vec::new(),
                at: Instant(0),
                header: [0; Header::LEN],
                cookie: 0,
                is_busy: false,
            });
            slot
        });
        self.serial = self.serial.wrapping_add(1);
        let request = &mut self.all[slot.0 as usize];
        request.kind = first.transfer.kind;
        request.at = first.at;
        request.cookie = u64::from(self.serial) << 32 | u64::from(slot.0);
        request.is_busy = true;
        let command = match request.kind {
            TransferKind::FetchNeeded | TransferKind::FetchGuess => Command::READ,
            TransferKind::WriteBack => Command::WRITE,
            TransferKind::Trim => Command::TRIM,
        };
        let (offset, len) = (u64::from(first.transfer.page.0) * PAGE_SIZE as u64, pages * PAGE_SIZE as u32);
        let header = Header::new(command, request.cookie, offset, len);
        request.header.copy_from_slice(header.as_bytes());
        slot
    }

    pub(super) fn get(&self, slot: Slot) -> &Request {
        &self.all[slot.0 as usize]
    }

    pub(super) fn get_mut(&mut self, slot: Slot) -> &mut Request {
        &mut self.all[slot.0 as usize]
    }

    /// The request with this cookie, if one is under way.
    pub(super) fn find(&self, cookie: u64) -> Option<Slot> {
        let slot = Slot(cookie as u32);
        let request = self.all.get(slot.0 as usize)?;
        (request.is_busy && request.cookie == cookie).then_some(slot)
    }

    /// Ends a request.
    pub(super) fn end(&mut self, slot: Slot) {
        let request = &mut self.all[slot.0 as usize];
        request.is_busy = false;
        request.transfers.clear();
        self.free.push(slot);
    }
}
