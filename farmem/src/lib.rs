//! Far memory: a far address space of pages, the heap in it, and the pagers that make a page local.
//!
//! Knows pages, frames, extents and links; knows no string and no list. `no_std`, sans-IO: work for a
//! link leaves through [`Pager::poll_transfer`] and comes back through [`Pager::handle_landed`].
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod heap;
mod link;
mod mapping;
mod page;
mod pager;
mod residency;
mod soft;
mod wire;

pub use heap::{Extent, Heap, HeapError, HeapStats};
pub use link::{Landed, Link, LinkError, Transfer, TransferKind};
pub use mapping::{Checksum, Entry, Mapping, Resolved, Touch, Used};
pub use page::{FarAddr, Frame, FrameNo, Instant, PAGE_SIZE, PageNo, PageRange, PageSet};
pub use pager::{Acquired, PageState, Pager, PagerError, PagerStats, Prefetch, Ticket};
pub use residency::Residency;
pub use soft::{SoftPager, SoftTable};
pub use wire::{Wire, WireModel};
