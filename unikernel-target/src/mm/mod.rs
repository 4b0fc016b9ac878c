//! The far heap as one mapped range, paged by the machine's own page tables.
//!
//! ```text
//!   bytes, bytes_mut ─► touch ─┬─ mapped: no look-up, no check             (touch)
//!                              └─ #PF ─► Residency::resolve ─► touch again (touch)
//!   Residency ─► FarTables: entries, accessed and dirty bits               (tables)
//!                     ├─► Stale: translations to be forgotten, in batches  (stale)
//!                     └─► Way: what a page's bytes come to                 (checksum)
//! ```
//!
//! Which page is fetched, evicted or written back is decided in `farmem`, by the code that runs on Linux
//! too. Refuses to let anything but [`touch`] fault: any other page fault is a bug and ends the machine.

mod checksum;
mod stale;
mod tables;
mod touch;

use alloc::boxed::Box;
use farmem::{Frame, Link, Prefetch, Residency};
use tables::FarTables;

pub use touch::{far_fault, faults};

/// The pager of the bare machine.
pub type MmuPager = Residency<FarTables>;

/// A pager over these frames; see [`farmem::SoftPager::new`]. Bounds: one at a time, it owns the far range.
pub fn pager(
    frames: &'static mut [Frame],
    budget_frames: u32,
    far_pages: u32,
    policy: Prefetch,
    door: Option<Box<dyn Link>>,
) -> MmuPager {
    let tables = FarTables::new(frames, far_pages);
    Residency::over(tables, frames, budget_frames, policy, door)
}
