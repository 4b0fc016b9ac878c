//! What the library's functions answer, as results that say what was wanted.
//!
//! Refuses to decide what is to be done about an error.

use std::ffi::c_int;
use std::io;
use std::ptr::NonNull;

/// What a machine says that cannot do RDMA.
pub(super) fn missing(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::Unsupported, format!("rdma:// needs libibverbs and an RDMA device: {why}"))
}

/// What a function has answered that gives an object or null.
pub(super) fn made<T>(object: *mut T, what: &str) -> io::Result<NonNull<T>> {
    NonNull::new(object).ok_or_else(|| explain(what, io::Error::last_os_error()))
}

/// What a function has answered that gives zero or the error's number.
pub(super) fn done(code: c_int, what: &str) -> io::Result<()> {
    if code == 0 { Ok(()) } else { Err(explain(what, io::Error::from_raw_os_error(code.abs()))) }
}

fn explain(what: &str, error: io::Error) -> io::Error {
    let hint = match error.raw_os_error() {
        Some(libc::ENOMEM | libc::EPERM | libc::EAGAIN) => " (ulimit -l unlimited lets it lock memory)",
        _ => "",
    };
    io::Error::new(error.kind(), format!("cannot {what}: {error}{hint}"))
}
