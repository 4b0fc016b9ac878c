//! Elements as they lie in far pages: ready for the wire.
//!
//! ```text
//! │ $ │ length │ CR LF │ data ... │ CR LF │ $ │ length │ ...        the same in RESP2 and RESP3
//! ```
//!
//! Refuses to know what holds the elements. Reading goes forwards only: nothing tells backwards where an
//! element begins.

use crate::error::Outcome;
use crate::far::Far;
use crate::value::string::Source;
use alloc::vec::Vec;
use farmem::{FarAddr, PAGE_SIZE, PagerError};

/// The longest head: `$`, ten digits (an extent has at most 2^30 bytes), CR LF. Units: bytes.
pub const HEAD_MAX: usize = 13;

const CRLF: &[u8] = b"\r\n";

/// What stands before an element's data.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Head {
    /// Length of the head. Units: bytes.
    pub size: usize,
    /// Length of the data. Units: bytes.
    pub len: usize,
}

impl Head {
    /// Reads the head at the front of `bytes`; `None` if they end before it does.
    #[inline]
    pub fn parse(bytes: &[u8]) -> Option<Head> {
        let mut len = 0;
        for (at, &byte) in bytes.iter().enumerate().skip(1) {
            if byte == b'\r' {
                return (at + 1 < bytes.len()).then_some(Head { size: at + 2, len });
            }
            assert!(byte.is_ascii_digit(), "an element begins with its length");
            len = len * 10 + usize::from(byte - b'0');
        }
        None
    }

    /// Length of the whole element. Units: bytes.
    #[inline]
    pub fn wire_len(self) -> usize {
        self.size + self.len + CRLF.len()
    }
}

/// Length of an element of `len` data bytes on the wire. Units: bytes.
#[inline]
pub fn wire_len(len: usize) -> usize {
    let digits = len.checked_ilog10().map_or(1, |power| power as usize + 1);
    1 + digits + 2 + len + 2
}

/// Length of the head of an element of `len` data bytes.
#[inline]
pub fn head_len(len: usize) -> usize {
    wire_len(len) - len - CRLF.len()
}

/// Writes a head to `out`; returns its size.
#[inline]
fn write_head(out: &mut [u8; HEAD_MAX], len: usize) -> usize {
    let mut digits = itoa::Buffer::new();
    let digits = digits.format(len).as_bytes();
    let size = digits.len() + 3;
    out[0] = b'$';
    out[1..size - 2].copy_from_slice(digits);
    out[size - 2..size].copy_from_slice(CRLF);
    size
}

/// Appends an element to near bytes.
pub fn push(out: &mut Vec<u8>, data: &[u8]) {
    crate::resp::encode::bulk(out, data);
}

/// The head of the element at `addr`, wherever page ends fall.
#[inline]
pub fn head_at(far: &mut Far, addr: FarAddr) -> Result<Head, PagerError> {
    let here = HEAD_MAX.min(PAGE_SIZE - addr.offset());
    match Head::parse(far.bytes(addr, here)?) {
        Some(head) => Ok(head),
        None => split_head_at(far, addr),
    }
}

/// A head that crosses a page end.
#[cold]
fn split_head_at(far: &mut Far, addr: FarAddr) -> Result<Head, PagerError> {
    let mut bytes = [0u8; HEAD_MAX];
    let mut at = 0;
    far.for_each_slice(addr, HEAD_MAX, |slice| {
        bytes[at..at + slice.len()].copy_from_slice(slice);
        at += slice.len();
        true
    })?;
    Ok(Head::parse(&bytes).expect("no head is longer than HEAD_MAX"))
}

/// Walks over `count` elements from `addr`; returns how many bytes they take.
pub fn skip(far: &mut Far, addr: FarAddr, count: u32) -> Result<usize, PagerError> {
    let (mut skipped, mut left) = (0, count);
    while left > 0 {
        let at = addr.plus(skipped);
        let page = far.bytes(at, PAGE_SIZE - at.offset())?;
        let mut here = 0;
        while left > 0
            && here < page.len()
            && let Some(head) = Head::parse(&page[here..page.len().min(here + HEAD_MAX)])
        {
            here += head.wire_len();
            left -= 1;
        }
        if here == 0 {
            here = split_head_at(far, at)?.wire_len();
            left -= 1;
        }
        skipped += here;
    }
    Ok(skipped)
}

/// Writes an element to far memory that is fresh or free; nothing around it changes.
pub fn write_at(far: &mut Far, addr: FarAddr, source: Source) -> Outcome {
    let mut head = [0u8; HEAD_MAX];
    let len = source.len();
    let size = write_head(&mut head, len);
    let total = size + len + CRLF.len();
    if let Source::Near(data) = source
        && addr.offset() + total <= PAGE_SIZE
    {
        let room = far.pager.bytes_mut(addr, total)?;
        room[..size].copy_from_slice(&head[..size]);
        room[size..size + len].copy_from_slice(data);
        room[size + len..].copy_from_slice(CRLF);
        return Ok(());
    }
    far.write(addr, &head[..size])?;
    match source {
        Source::Near(data) => far.write(addr.plus(size), data)?,
        Source::Spooled(spooled) => far.copy_within(spooled.addr, addr.plus(size), len)?,
    }
    far.write(addr.plus(size + len), CRLF)?;
    Ok(())
}

/// Whether `len` bytes from `from` on of the data at `addr` are the needle's. Bounds: `from` is whole pages.
pub fn part_equals(far: &mut Far, addr: FarAddr, needle: Source, from: usize, len: usize) -> Outcome<bool> {
    match needle {
        Source::Near(data) => Ok(far.equals(addr.plus(from), &data[from..from + len])?),
        Source::Spooled(spooled) => far_equals(far, addr.plus(from), spooled.addr.plus(from), len),
    }
}

/// Whether two far ranges hold the same bytes. `b` starts on a page.
fn far_equals(far: &mut Far, a: FarAddr, b: FarAddr, len: usize) -> Outcome<bool> {
    let mut buffer = [0u8; PAGE_SIZE];
    let mut done = 0;
    while done < len {
        let here = (len - done).min(PAGE_SIZE);
        buffer[..here].copy_from_slice(far.bytes(b.plus(done), here)?);
        if !far.equals(a.plus(done), &buffer[..here])? {
            return Ok(false);
        }
        done += here;
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_element_is_as_long_as_its_wire_form_says() {
        for len in [0, 1, 9, 10, 99, 100, 999, 1000, 4096, 12345] {
            let mut out = Vec::new();
            push(&mut out, &alloc::vec![b'x'; len]);
            assert_eq!(out.len(), wire_len(len));
            let head = Head::parse(&out).expect("the whole element is there");
            assert_eq!((head.size, head.len, head.wire_len()), (head_len(len), len, out.len()));
        }
    }

    #[test]
    fn a_head_that_is_not_all_there_is_no_head() {
        for end in 0..6 {
            assert_eq!(Head::parse(&b"$123\r\n"[..end]), None);
        }
        assert_eq!(Head::parse(b"$123\r\n"), Some(Head { size: 6, len: 123 }));
    }
}
