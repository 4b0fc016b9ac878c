//! Far-memory transports: what stands behind a far-memory URI, as [`farmem::Link`]s.
//!
//! ```text
//!   FarUri ──► LinkSet ──┬─► MemLink   a named mapping of this process, with a wire model if asked
//!   (typed)    (slabs)   ├─► DaxLink   a byte-addressable file or device, copied by the processor
//!                        ├─► FileLink  O_DIRECT and io_uring, straight into and out of frames
//!                        ├─► NbdLink   a memory node over TCP, TLS or a Unix socket
//!                        └─► RdmaLink  a memory node, whose memory the network card reads and writes by itself
//! ```
//!
//! Knows pages, frames and bytes; knows neither who asks for a page nor why, and never retries: what fails
//! lands with its error (but a node whose connection breaks may come back within the deadline). Linux only.
//! Time comes from the `now` that the caller passes; [`monotonic_now`] is the clock of a body, and the only one
//! used where a link really waits.
#![deny(unsafe_code)]

mod absence;
#[allow(unsafe_code)]
mod arena;
mod dax;
mod ended;
#[allow(unsafe_code)]
mod file;
#[allow(unsafe_code)]
pub mod malloc;
#[allow(unsafe_code)]
mod map;
mod mem;
pub mod nbd;
pub mod rdma;
mod redial;
mod set;
mod uri;
#[allow(unsafe_code)]
mod window;

pub use arena::{Arena, Discarder};
pub use dax::DaxLink;
pub use farmem::Wire;
pub use file::FileLink;
pub use mem::MemLink;
pub use nbd::NbdLink;
pub use rdma::RdmaLink;
pub use set::{
    Copier, Door, InlineCopier, Job, JobEnd, LinkSet, LinkState, OpenError, OpenTwin, PagerDoor, SharedLink,
};
pub use uri::{FarUri, UriError};
pub use window::{Stretch, Window};

use farmem::{Instant, PAGE_SIZE};
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

/// Now, on this process' `CLOCK_MONOTONIC`.
#[inline]
pub fn monotonic_now() -> Instant {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    Instant(now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64)
}

/// The whole pages of a far memory of this size.
///
/// # Errors
/// `InvalidInput` if there are none, or more than a page number can name.
fn whole_pages(size_bytes: u64) -> io::Result<u32> {
    match u32::try_from(size_bytes / PAGE_SIZE as u64) {
        Ok(0) => Err(io::Error::new(io::ErrorKind::InvalidInput, "it is smaller than a page; give a ?size=")),
        Ok(pages) => Ok(pages),
        Err(_) => Err(io::Error::new(io::ErrorKind::InvalidInput, "it is larger than 16 TiB; give a ?size=")),
    }
}

/// How often, and after which pauses, a lock is tried: a server that was stopped a moment ago is still
/// giving its memory back, and holds the lock meanwhile. 20 of 50 ms are a second.
const LOCK_TRIES_MAX: u32 = 20;
const LOCK_PAUSE: Duration = Duration::from_millis(50);

/// Makes sure that no other link, of this process or another, uses the same file.
///
/// # Errors
/// `WouldBlock` if one does, and still does a second later.
fn lock_alone(file: impl AsFd) -> io::Result<()> {
    for _ in 0..LOCK_TRIES_MAX {
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(()),
            Err(Errno::WOULDBLOCK) => std::thread::sleep(LOCK_PAUSE),
            Err(other) => return Err(other.into()),
        }
    }
    Err(io::Error::new(io::ErrorKind::WouldBlock, "another server uses it already"))
}
