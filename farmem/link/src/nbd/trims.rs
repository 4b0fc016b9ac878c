//! Dead pages that a node may give back: one trim at a time, in the background, never past a write.
//!
//! ```text
//!   trim ─► waiting runs (neighbours are one) ─► under way ─► answered
//!              │ a write back of a page             │ a write back of a page
//!              └─► cut out of the run               └─► held until the answer is there
//! ```
//!
//! Refuses to remember more than so many runs: a trim is best effort.

use super::request::Slot;
use crate::absence::Asked;
use std::collections::VecDeque;

/// Runs that wait; the oldest is forgotten.
const RUNS_MAX: usize = 4096;
/// Pages of one trim: 16 MiB, which a node punches in some milliseconds.
const TRIM_PAGES_MAX: u32 = 4096;

/// A run of pages: the first and how many.
type Run = (u32, u32);

/// All trims of a link.
#[derive(Default)]
pub(super) struct Trims {
    waiting: VecDeque<Run>,
    under_way: Option<(Slot, Run)>,
    /// Write backs of pages that are being trimmed.
    pub(super) held: Vec<Asked>,
}

/// Whether the page is in the run.
fn has(run: Run, page: u32) -> bool {
    page.wrapping_sub(run.0) < run.1
}

impl Trims {
    /// Queues a trim, as one with its neighbour if that came last.
    pub(super) fn push(&mut self, first: u32, count: u32) {
        match self.waiting.back_mut() {
            _ if count == 0 => {}
            Some(last) if last.0 + last.1 == first && last.1 + count <= TRIM_PAGES_MAX => last.1 += count,
            _ => {
                if self.waiting.len() == RUNS_MAX {
                    self.waiting.pop_front();
                }
                self.waiting.push_back((first, count));
            }
        }
    }

    /// A page is written back: no trim that waits may touch it. Whether one that is under way does.
    pub(super) fn cut(&mut self, page: u32) -> bool {
        if !self.waiting.is_empty()
            && let Some(at) = self.waiting.iter().position(|&run| has(run, page))
        {
            let (first, count) = self.waiting[at];
            let (before, after) = ((first, page - first), (page + 1, first + count - page - 1));
            self.waiting.remove(at);
            for run in [after, before].into_iter().filter(|run| run.1 > 0) {
                self.waiting.insert(at, run);
            }
            // A page that waits twice: it died twice.
            return self.cut(page);
        }
        self.under_way.is_some_and(|(_, run)| has(run, page))
    }

    /// The run to trim next, if none is under way.
    pub(super) fn next(&mut self) -> Option<Run> {
        if self.under_way.is_some() {
            return None;
        }
        let &(first, count) = self.waiting.front()?;
        let now = count.min(TRIM_PAGES_MAX);
        self.waiting.pop_front();
        if now < count {
            self.waiting.push_front((first + now, count - now));
        }
        Some((first, now))
    }

    /// Notes that this run is under way.
    pub(super) fn start(&mut self, slot: Slot, run: Run) {
        self.under_way = Some((slot, run));
    }

    /// The trim under way has ended, or is given up with its connection.
    pub(super) fn end(&mut self) -> std::vec::Drain<'_, Asked> {
        self.under_way = None;
        self.held.drain(..)
    }

    /// Whether there is nothing to trim and nothing being trimmed.
    pub(super) fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.under_way.is_none()
    }

    /// Forgets what waits.
    pub(super) fn forget(&mut self) {
        self.waiting.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_are_one_run_and_a_write_cuts_its_page_out() {
        let mut trims = Trims::default();
        (10..20).for_each(|page| trims.push(page, 1));
        trims.push(40, 2);
        assert!(!trims.cut(15));
        assert!(!trims.cut(10));
        assert!(!trims.cut(41));
        assert_eq!(trims.waiting, [(11, 4), (16, 4), (40, 1)]);
        let run = trims.next().expect("something waits");
        trims.start(super::super::request::Requests::default().begin(asked(), 4), run);
        assert!(trims.cut(12) && !trims.cut(15) && trims.next().is_none());
        trims.end();
        assert!(!trims.cut(12));
        assert_eq!(trims.next(), Some((16, 4)));
    }

    #[test]
    fn a_long_run_goes_out_in_parts() {
        let mut trims = Trims::default();
        trims.push(0, 10_000);
        let runs: Vec<_> = std::iter::from_fn(|| trims.next()).collect();
        assert_eq!(runs, [(0, 4096), (4096, 4096), (8192, 1808)]);
    }

    fn asked() -> Asked {
        let (page, frame) = (farmem::PageNo(11), farmem::FrameNo(0));
        let transfer = farmem::Transfer { kind: farmem::TransferKind::Trim, page, count: 4, frame };
        Asked { transfer, at: farmem::Instant(0) }
    }
}
