//! The Linux pager that really faults: the far heap is one mapped range, and a touch of a missing page goes
//! through userfaultfd. There to compare with [`farmem::SoftPager`], which looks residency up instead.
//!
//! ```text
//!   bytes, bytes_mut ─► touch ─┬─ mapped: the bytes are there                          (touch)
//!                              └─ SIGBUS ─► Residency::resolve ─► mapped ─► touch again (touch)
//!   Residency ─► UffdTable: where each page is, what arrives in and leaves the range    (table)
//!                     └─► FarRange: the range and the arena, pages moved in runs         (range)
//!                              └─► Uffd: /dev/userfaultfd or the system call             (kernel)
//! ```
//!
//! Which page is fetched, evicted or written back is decided in `farmem`, by the code that every pager runs. Refuses to
//! let anything but a touch fault: any other SIGBUS goes to whoever had the signal before.
//!
//! A page's memory is in one place at a time: in the arena while a link fills or reads it, in the range while it
//! is mapped. So what is mapped is counted once, as the frame that it is.

mod kernel;
mod range;
mod table;
mod touch;

pub use kernel::{OpenError, Way};
pub use table::{UffdPager, UffdTable};

use farmem::{Frame, Link, Prefetch, Residency};

/// A pager over these frames; see [`farmem::SoftPager::new`].
///
/// Bounds: `frames` is memory of its own that nothing else reads or writes but links, through
/// [`farmem::Pager::frames`]: pages are taken out of it and put back. A link that teaches a device the frames'
/// pages (RDMA) does not go with that.
/// # Errors
/// If the kernel lends no userfaultfd, or not the room for the range.
pub fn pager(
    frames: &'static mut [Frame],
    budget_frames: u32,
    far_pages: u32,
    policy: Prefetch,
    door: Option<Box<dyn Link>>,
    way: Way,
) -> Result<UffdPager, OpenError> {
    let table = UffdTable::open(frames, far_pages, way)?;
    Ok(Residency::over(table, frames, budget_frames, policy, door))
}
