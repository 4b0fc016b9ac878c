//! Descriptors that the runtime watches.
//!
//! Refuses anything but an `OwnedFd`. The constructor below is deprecated because a type may lie about its
//! descriptor; this one cannot, and so the server needs no unsafe code for it.

use std::io;
use std::os::fd::OwnedFd;
use tokio::io::{Interest, unix::AsyncFd};

/// A descriptor that can be awaited. Readiness is told by edges.
pub type Watched = AsyncFd<OwnedFd>;

/// Watches a descriptor that does not block.
///
/// # Errors
/// What epoll_ctl answers.
#[allow(deprecated, reason = "unsound only for types that lie about their descriptor")]
pub fn watch(descriptor: OwnedFd, interest: Interest) -> io::Result<Watched> {
    AsyncFd::with_interest(descriptor, interest)
}
