//! Far memory that is RAM of the same machine: a page moves as it is submitted.
//!
//! Refuses to model a wire.

use alloc::vec::Vec;
use farmem::{Frame, Instant, Landed, Link, LinkError, Transfer, TransferKind};

/// Far memory in RAM.
pub struct MemLink {
    far: &'static mut [Frame],
    ended: Vec<Landed>,
}

impl MemLink {
    /// Far memory in these frames.
    pub fn new(far: &'static mut [Frame]) -> MemLink {
        MemLink { far, ended: Vec::new() }
    }
}

impl Link for MemLink {
    fn submit(&mut self, batch: &[Transfer], frames: &mut [Frame], _: Instant) {
        for &transfer in batch {
            let frame = transfer.frame.0 as usize;
            let far = self.far.get_mut(transfer.page.0 as usize);
            let result = match (transfer.kind, far) {
                (TransferKind::Trim, _) => continue,
                (_, None) => Err(LinkError::OutOfRange),
                (TransferKind::WriteBack, Some(far)) => {
                    far.0.copy_from_slice(&frames[frame].0);
                    Ok(())
                }
                (TransferKind::FetchNeeded | TransferKind::FetchGuess, Some(far)) => {
                    frames[frame].0.copy_from_slice(&far.0);
                    Ok(())
                }
            };
            self.ended.push(Landed { transfer, result });
        }
    }

    fn poll_landed(&mut self, _: &mut [Frame], _: Instant, landed: &mut Vec<Landed>) {
        landed.append(&mut self.ended);
    }

    fn wait_landed(&mut self, _: &mut [Frame], landed: &mut Vec<Landed>) {
        landed.append(&mut self.ended);
    }

    fn next_due(&self) -> Option<Instant> {
        (!self.ended.is_empty()).then_some(Instant(0))
    }

    fn in_flight(&self) -> usize {
        self.ended.len()
    }

    fn capacity_pages(&self) -> u32 {
        self.far.len() as u32
    }
}
