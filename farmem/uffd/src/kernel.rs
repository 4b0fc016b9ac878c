//! The userfaultfd: opened, told of ranges, and asked to move pages.
//!
//! ```text
//!   /dev/userfaultfd ─no─► userfaultfd(2), faults of user mode only ─no─► OpenError
//!            └──────────────────┴─► API: SIGBUS, MOVE if the kernel has it (6.8) ─► register ─► move, copy, zero
//! ```
//!
//! Knows addresses and lengths, no page and no frame. With `UFFD_FEATURE_SIGBUS` nobody reads the descriptor:
//! a missing page is a signal to the thread that touched it.
//!
//! Source: userfaultfd(2), ioctl_userfaultfd(2).

use linux_raw_sys::general::{
    _UFFDIO_API, _UFFDIO_COPY, _UFFDIO_MOVE, _UFFDIO_REGISTER, _UFFDIO_ZEROPAGE, UFFD_API, UFFD_FEATURE_MOVE,
    UFFD_FEATURE_SIGBUS, UFFD_USER_MODE_ONLY, UFFDIO, uffdio_api, uffdio_copy, uffdio_move, uffdio_range,
    uffdio_register, uffdio_zeropage,
};
use std::fmt;
use std::fs::OpenOptions;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

/// How a page gets into the range and out of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Way {
    /// The best that the kernel has: its page is moved, or, before Linux 6.8, copied.
    Best,
    /// Copied, as on an older kernel.
    Copy,
}

/// The pager cannot be: one line.
#[derive(Debug)]
pub enum OpenError {
    /// Neither the device nor the system call is allowed.
    NotAllowed {
        /// Of opening `/dev/userfaultfd`.
        device: io::Error,
        /// Of userfaultfd(2).
        call: io::Error,
    },
    /// The kernel's userfaultfd lacks what is needed: Linux 4.14 has it.
    TooOld(io::Error),
    /// No room for the range, or it cannot be registered.
    NoRange(io::Error),
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            OpenError::NotAllowed { device, call } => write!(
                f,
                "userfaultfd is not allowed here (/dev/userfaultfd: {device}; the system call: {call}): use --pager soft"
            ),
            OpenError::TooOld(error) => write!(f, "this kernel's userfaultfd has no SIGBUS mode: {error}"),
            OpenError::NoRange(error) => write!(f, "cannot map the far heap for userfaultfd: {error}"),
        }
    }
}

impl std::error::Error for OpenError {}

/// `_IOWR(UFFDIO, number, T)`.
const fn read_write<T>(number: u32) -> libc::Ioctl {
    rustix::ioctl::opcode::read_write::<T>(UFFDIO as u8, number as u8) as libc::Ioctl
}

const API: libc::Ioctl = read_write::<uffdio_api>(_UFFDIO_API);
const REGISTER: libc::Ioctl = read_write::<uffdio_register>(_UFFDIO_REGISTER);
const MOVE: libc::Ioctl = read_write::<uffdio_move>(_UFFDIO_MOVE);
const COPY: libc::Ioctl = read_write::<uffdio_copy>(_UFFDIO_COPY);
const ZEROPAGE: libc::Ioctl = read_write::<uffdio_zeropage>(_UFFDIO_ZEROPAGE);
/// `USERFAULTFD_IOC_NEW` of linux/userfaultfd.h.
const NEW: libc::Ioctl = rustix::ioctl::opcode::none(UFFDIO as u8, 0) as libc::Ioctl;

/// An open userfaultfd in SIGBUS mode.
pub(crate) struct Uffd {
    descriptor: OwnedFd,
    /// Whether it moves pages.
    pub(crate) moves: bool,
}

impl Uffd {
    /// Opens one by the device, or else by the system call, which an unprivileged process may use for faults of
    /// its own code.
    pub(crate) fn open(way: Way) -> Result<Uffd, OpenError> {
        let wished = if way == Way::Best { UFFD_FEATURE_MOVE } else { 0 };
        let mut error = None;
        for feature in [wished, 0] {
            // A descriptor that has refused a handshake takes no other one.
            let descriptor = descriptor()?;
            let features = u64::from(UFFD_FEATURE_SIGBUS | feature);
            let mut api = uffdio_api { api: u64::from(UFFD_API), features, ioctls: 0 };
            match ask(&descriptor, API, &mut api) {
                Ok(()) => return Ok(Uffd { descriptor, moves: feature != 0 }),
                Err(refused) => error = Some(refused),
            }
        }
        Err(OpenError::TooOld(error.unwrap_or_else(io::Error::last_os_error)))
    }

    /// Hands faults of the range over to this descriptor, in the given `UFFDIO_REGISTER_MODE_*`.
    pub(crate) fn register(&self, start: usize, len: usize, mode: u32) -> io::Result<()> {
        let range = uffdio_range { start: start as u64, len: len as u64 };
        ask(&self.descriptor, REGISTER, &mut uffdio_register { range, mode: u64::from(mode), ioctls: 0 })
    }

    /// Moves pages from `src` to `dst`, where there are none. Answers how many bytes have moved, and what stopped it.
    ///
    /// # Safety
    /// Nobody has a reference into either range.
    pub(crate) unsafe fn move_pages(&self, dst: usize, src: usize, len: usize) -> (usize, io::Result<()>) {
        let mut request =
            uffdio_move { dst: dst as u64, src: src as u64, len: len as u64, mode: 0, move_: 0 };
        let result = ask(&self.descriptor, MOVE, &mut request);
        (request.move_.max(0) as usize, result)
    }

    /// Copies pages from `src` to `dst`, where there are none; as [`Uffd::move_pages`].
    ///
    /// # Safety
    /// Nobody has a reference into `dst`.
    pub(crate) unsafe fn copy_pages(&self, dst: usize, src: usize, len: usize) -> (usize, io::Result<()>) {
        let mut request = uffdio_copy { dst: dst as u64, src: src as u64, len: len as u64, mode: 0, copy: 0 };
        let result = ask(&self.descriptor, COPY, &mut request);
        (request.copy.max(0) as usize, result)
    }

    /// Lets a missing page read as zeros.
    pub(crate) fn zero_page(&self, start: usize, len: usize) -> io::Result<()> {
        let range = uffdio_range { start: start as u64, len: len as u64 };
        ask(&self.descriptor, ZEROPAGE, &mut uffdio_zeropage { range, mode: 0, zeropage: 0 })
    }
}

/// One of the requests of ioctl_userfaultfd(2).
fn ask<T>(descriptor: &OwnedFd, request: libc::Ioctl, argument: &mut T) -> io::Result<()> {
    // SAFETY: every request of this file is named with the size of its argument, which the kernel reads and writes;
    // that what it does to memory is right is what `move_pages` and `copy_pages` ask of their callers, and registering
    // and zero pages change nothing that anybody has a reference to.
    match unsafe { libc::ioctl(descriptor.as_raw_fd(), request, &raw mut *argument) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

/// A fresh descriptor, which has made no handshake.
fn descriptor() -> Result<OwnedFd, OpenError> {
    let flags = libc::O_CLOEXEC | libc::O_NONBLOCK | UFFD_USER_MODE_ONLY as libc::c_int;
    let device = match from_device(flags) {
        Ok(descriptor) => return Ok(descriptor),
        Err(error) => error,
    };
    // SAFETY: the call takes flags and makes a descriptor.
    let raw = unsafe { libc::syscall(libc::SYS_userfaultfd, flags) };
    match owned(raw) {
        Ok(descriptor) => Ok(descriptor),
        Err(call) => Err(OpenError::NotAllowed { device, call }),
    }
}

fn from_device(flags: libc::c_int) -> io::Result<OwnedFd> {
    let device = OpenOptions::new().read(true).write(true).open("/dev/userfaultfd")?;
    // SAFETY: the request takes flags by value and makes a descriptor.
    owned(i64::from(unsafe { libc::ioctl(device.as_raw_fd(), NEW, flags) }))
}

fn owned(raw: i64) -> io::Result<OwnedFd> {
    match libc::c_int::try_from(raw) {
        // SAFETY: the kernel has just made it for us, and nobody else knows it.
        Ok(raw) if raw >= 0 => Ok(unsafe { OwnedFd::from_raw_fd(raw) }),
        _ => Err(io::Error::last_os_error()),
    }
}
