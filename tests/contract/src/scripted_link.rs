//! A far memory that does what a test tells it: lands late, out of order, not at all, or with an error.
//!
//! It reads and writes frames as late as a real link may (the second half of a page only when it lands), and
//! asserts what every pager owes a link: a frame is in one transfer at a time, and so is a page that is
//! being written. Knows no pager.

use alloc::boxed::Box;
use alloc::rc::Rc;
use alloc::vec::Vec;
use core::cell::{RefCell, RefMut};
use farmem::{Frame, Instant, Landed, Link, LinkError, PAGE_SIZE, PageNo, Transfer, TransferKind};
use hashbrown::HashMap;

/// What the link does, and what it has done.
#[derive(Default)]
pub struct Script {
    /// The content of far memory.
    pub far: HashMap<PageNo, Box<[u8; PAGE_SIZE]>>,
    /// Everything that was submitted, in order.
    pub log: Vec<Transfer>,
    /// Fetches that will fail.
    pub failing_fetches: u32,
    /// Fetches that will bring something else than what is there.
    pub wrong_fetches: u32,
    /// Write backs that will fail.
    pub failing_write_backs: u32,
    /// Pages whose write backs fail, as those of one full node among several.
    pub refused_pages: core::ops::Range<u32>,
    /// While set, nothing lands but by waiting.
    pub is_stuck: bool,
    /// If not zero, what lands and when is drawn from this seed.
    pub seed: u64,
    flying: Vec<Transfer>,
}

/// A handle to one scripted far memory; clones are the same link.
#[derive(Clone, Default)]
pub struct ScriptedLink(Rc<RefCell<Script>>);

impl ScriptedLink {
    /// The script, to read or to change.
    pub fn script(&self) -> RefMut<'_, Script> {
        self.0.borrow_mut()
    }

    /// How many transfers of `kind` have been submitted.
    pub fn count(&self, kind: TransferKind) -> usize {
        self.script().log.iter().filter(|transfer| transfer.kind == kind).count()
    }
}

impl Script {
    fn draw(&mut self, below: usize) -> usize {
        self.seed = self.seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.seed >> 33) as usize % below
    }

    fn start(&mut self, transfer: Transfer, frames: &mut [Frame]) {
        self.log.push(transfer);
        let pages = transfer.page.0..transfer.page.0 + transfer.count;
        for other in &self.flying {
            if transfer.kind != TransferKind::Trim {
                assert_ne!(other.frame, transfer.frame, "one frame in two transfers: {other:?} {transfer:?}");
            }
            let is_write = other.kind == TransferKind::WriteBack;
            assert!(!(is_write && pages.contains(&other.page.0)), "{transfer:?} overtakes {other:?}");
        }
        match transfer.kind {
            TransferKind::Trim => {
                for page in pages {
                    self.far.remove(&PageNo(page));
                }
                return;
            }
            TransferKind::FetchNeeded | TransferKind::FetchGuess => {
                frames[transfer.frame.0 as usize].0.fill(0xEE)
            }
            TransferKind::WriteBack => self.write(transfer, frames, 0..PAGE_SIZE / 2),
        }
        self.flying.push(transfer);
    }

    fn write(&mut self, transfer: Transfer, frames: &[Frame], half: core::ops::Range<usize>) {
        let far = self.far.entry(transfer.page).or_insert_with(|| Box::new([0; PAGE_SIZE]));
        far[half.clone()].copy_from_slice(&frames[transfer.frame.0 as usize].0[half]);
    }

    fn land(&mut self, index: usize, frames: &mut [Frame]) -> Landed {
        let transfer = self.flying.remove(index);
        let failing = match transfer.kind {
            TransferKind::WriteBack => &mut self.failing_write_backs,
            _ => &mut self.failing_fetches,
        };
        if *failing > 0 {
            *failing -= 1;
            return Landed { transfer, result: Err(LinkError::Io) };
        }
        if transfer.kind == TransferKind::WriteBack && self.refused_pages.contains(&transfer.page.0) {
            return Landed { transfer, result: Err(LinkError::Io) };
        }
        if transfer.kind == TransferKind::WriteBack {
            self.write(transfer, frames, PAGE_SIZE / 2..PAGE_SIZE);
        } else {
            match self.far.get(&transfer.page) {
                Some(far) => frames[transfer.frame.0 as usize].0.copy_from_slice(&far[..]),
                None => frames[transfer.frame.0 as usize].0.fill(0xDD),
            }
            if self.wrong_fetches > 0 {
                self.wrong_fetches -= 1;
                frames[transfer.frame.0 as usize].0[4000] ^= 1;
            }
        }
        Landed { transfer, result: Ok(()) }
    }
}

impl Link for ScriptedLink {
    fn submit(&mut self, batch: &[Transfer], frames: &mut [Frame], _now: Instant) {
        for &transfer in batch {
            self.script().start(transfer, frames);
        }
    }

    fn poll_landed(&mut self, frames: &mut [Frame], _now: Instant, landed: &mut Vec<Landed>) {
        let mut script = self.script();
        if script.is_stuck {
            return;
        }
        let count = script.flying.len();
        let lands = if script.seed == 0 { count } else { script.draw(count + 1) };
        for _ in 0..lands {
            let index = if script.seed == 0 {
                0
            } else {
                let left = script.flying.len();
                script.draw(left)
            };
            landed.push(script.land(index, frames));
        }
    }

    fn wait_landed(&mut self, frames: &mut [Frame], landed: &mut Vec<Landed>) {
        let mut script = self.script();
        if script.flying.is_empty() {
            return;
        }
        let index = if script.seed == 0 {
            0
        } else {
            let left = script.flying.len();
            script.draw(left)
        };
        landed.push(script.land(index, frames));
    }

    fn next_due(&self) -> Option<Instant> {
        None
    }

    fn in_flight(&self) -> usize {
        self.script().flying.len()
    }

    fn capacity_pages(&self) -> u32 {
        1 << 20
    }
}
