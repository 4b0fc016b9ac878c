//! The Simple Dynamic String format: how Redis lays out a string, as it lies in far pages.
//!
//! ```text
//!  class        header                                  data        end
//!  Five         [flags: len << 3 | 0]                   len bytes   NUL
//!  Eight        [len u8 ][alloc u8 ][flags 1]           ..  alloc   NUL
//!  Sixteen      [len u16][alloc u16][flags 2]           ..  alloc   NUL
//!  ThirtyTwo    [len u32][alloc u32][flags 3]           ..  alloc   NUL
//!  SixtyFour    [len u64][alloc u64][flags 4]           ..  alloc   NUL
//!                                           ^ flags     ^ data offset = header length
//! ```
//!
//! Integers are little-endian and packed. The flags byte is the last of the header, so a reader who
//! knows where the data begins reads *backwards* from there, as Redis does with an `sds` pointer.
//!
//! Refuses to know pages, addresses in memory, and growth: it turns a length into a header and a header
//! into the exact byte range of its string, and leaves where those bytes live to its caller.
//!
//! Source: `sds.h` of Redis 7.0 (`sdshdr5` to `sdshdr64`, `sdsReqType`).
#![no_std]
#![forbid(unsafe_code)]

mod class;
mod header;

pub use class::Class;
pub use header::{HEADER_LEN_MAX, Header};

use core::ops::Range;

/// The bytes that a string of `len` bytes takes without spare capacity: header, data, NUL.
#[inline]
#[must_use]
pub const fn total_len(len: usize) -> usize {
    Class::for_len(len).header_len() + len + 1
}

/// Writes `data` as a whole SDS (header, data, NUL) at the front of `out`.
///
/// Returns the bytes written, [`total_len`] of `data`; the data lies at the header's length.
/// # Panics
/// If `out` is shorter than that.
#[inline]
pub fn write(out: &mut [u8], data: &[u8]) -> usize {
    let header_len = Header::for_len(data.len()).encode(out);
    let end = header_len + data.len();
    out[header_len..end].copy_from_slice(data);
    out[end] = 0;
    end + 1
}

/// The header of the string whose data begins at `data_offset` of `bytes`, read backwards as Redis does.
///
/// `None` if what lies there is no SDS header: an unknown class, or one that begins before `bytes`.
#[inline]
#[must_use]
pub fn read_backward(bytes: &[u8], data_offset: usize) -> Option<Header> {
    Header::decode_at(bytes, data_offset)
}

/// The data of the string whose data begins at `data_offset` of `bytes`.
///
/// `None` if there is no header there, or the string runs past the end of `bytes`.
#[inline]
#[must_use]
pub fn data(bytes: &[u8], data_offset: usize) -> Option<&[u8]> {
    let header = Header::decode_at(bytes, data_offset)?;
    bytes.get(data_offset..data_offset.checked_add(header.len())?)
}

/// The exact bytes that the data of `header` occupies when it begins at `data_addr`.
///
/// Units: bytes of the caller's address space; the pages of a value are the pages of this range.
#[inline]
#[must_use]
pub const fn data_range(header: Header, data_addr: u64) -> Range<u64> {
    data_addr..data_addr + header.len() as u64
}

/// The exact bytes of the whole allocation, from the first of the header to behind the NUL that closes
/// the capacity, when the data begins at `data_addr`.
#[inline]
#[must_use]
pub const fn allocation_range(header: Header, data_addr: u64) -> Range<u64> {
    data_addr - header.class().header_len() as u64..data_addr + header.capacity() as u64 + 1
}
