//! Far memory that is RAM of the same machine, behind a modelled wire if one is asked for.
//!
//! The wire is [`farmem::WireModel`], the one of the Linux body's `mem:`: a page that is fetched is copied
//! when it lands, a page that is written back when it leaves. Without a model a page moves as it is
//! submitted. The time is its clock's. Refuses to move a page that it has not.

use super::clock::Clock;
use alloc::vec::Vec;
use farmem::{Frame, Instant, Landed, Link, LinkError, Transfer, TransferKind, Wire, WireModel};

/// Transfers for which there is room from the start, so that a trap allocates nothing: those that a pager
/// has in flight, fetches and write backs.
const TRANSFERS: usize = 512;

/// Far memory in RAM.
pub struct MemLink<C> {
    clock: C,
    far: &'static mut [Frame],
    /// `None` without a model.
    wire: Option<WireModel>,
    ended: Vec<Landed>,
}

impl<C: Clock> MemLink<C> {
    /// Far memory in these frames.
    pub fn new(far: &'static mut [Frame], wire: Wire, clock: C) -> MemLink<C> {
        let wire = (wire != Wire::default()).then(|| WireModel::new(wire, TRANSFERS));
        MemLink { clock, far, wire, ended: Vec::with_capacity(TRANSFERS) }
    }

    /// Copies the page. Bounds: far memory has it.
    fn copy(&mut self, transfer: Transfer, frames: &mut [Frame]) {
        let far = &mut self.far[transfer.page.0 as usize].0;
        let frame = &mut frames[transfer.frame.0 as usize].0;
        self.clock.aside(|| match transfer.kind {
            TransferKind::WriteBack => far.copy_from_slice(frame),
            _ => frame.copy_from_slice(far),
        });
    }
}

impl<C: Clock> Link for MemLink<C> {
    fn submit(&mut self, batch: &[Transfer], frames: &mut [Frame], _turn: Instant) {
        // A command that waits sends in the middle of a turn, whose time is older than that.
        let now = self.clock.now();
        if let Some(wire) = &mut self.wire {
            wire.begin(now);
        }
        for &transfer in batch.iter().filter(|transfer| transfer.kind != TransferKind::Trim) {
            if transfer.page.0 as usize >= self.far.len() {
                self.ended.push(Landed { transfer, result: Err(LinkError::OutOfRange) });
                continue;
            }
            if self.wire.is_none() || transfer.kind == TransferKind::WriteBack {
                self.copy(transfer, frames);
            }
            match &mut self.wire {
                Some(wire) => wire.send(transfer, now),
                None => self.ended.push(Landed { transfer, result: Ok(()) }),
            }
        }
        if let Some(wire) = &mut self.wire {
            wire.begin(now);
        }
    }

    fn poll_landed(&mut self, frames: &mut [Frame], now: Instant, landed: &mut Vec<Landed>) {
        landed.append(&mut self.ended);
        if let Some(wire) = &mut self.wire {
            wire.begin(now);
        }
        while let Some(transfer) = self.wire.as_mut().and_then(|wire| wire.pop_landed(now)) {
            if transfer.kind != TransferKind::WriteBack {
                self.copy(transfer, frames);
            }
            landed.push(Landed { transfer, result: Ok(()) });
        }
    }

    fn wait_landed(&mut self, frames: &mut [Frame], landed: &mut Vec<Landed>) {
        let before = landed.len();
        while self.in_flight() > 0 && landed.len() == before {
            self.poll_landed(frames, self.clock.now(), landed);
            if landed.len() == before
                && let Some(due) = self.next_due()
            {
                self.clock.pass(due);
            }
        }
    }

    fn next_due(&self) -> Option<Instant> {
        if self.ended.is_empty() { self.wire.as_ref()?.next_due() } else { Some(Instant(0)) }
    }

    fn in_flight(&self) -> usize {
        self.ended.len() + self.wire.as_ref().map_or(0, WireModel::in_flight)
    }

    fn capacity_pages(&self) -> u32 {
        self.far.len() as u32
    }
}
