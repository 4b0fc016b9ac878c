//! How a key and its value lie in the far heap.
//!
//! Refuses to allocate and to look anything up: layout only.
//!
//! ```text
//! framed SDS      │h│ header (h bytes) │ data │ NUL │     h says where the data starts, so that a reader
//!                                                       from the front finds the SDS' flags byte
//! small string    │ framed key │ framed value │          one object, within one page
//! large string    │ framed key │h│ header │              the value's data fills pages of its own:
//!                 │ data ........................ │       page-aligned, contiguous, NUL only if there is room
//! small list      │ framed key │ chunk │                 see value::chunk
//! large list      │ framed key │                         its chunks are objects of their own
//! ```

use farmem::{FarAddr, PAGE_SIZE, PagerError};
use sds::{Class, Header};

use crate::far::Far;

/// Bytes that a framed SDS of `len` data bytes takes.
#[inline]
pub fn framed_len(len: usize) -> usize {
    2 + Class::for_len(len).header_len() + len
}

/// Bytes to keep for a detached header of a value of `len` bytes: at least those of a 32-bit header, so that
/// a value can grow to 4 GiB without its key having to move.
#[inline]
pub fn detached_len(len: usize) -> usize {
    1 + Class::for_len(len).max(Class::ThirtyTwo).header_len()
}

/// Writes the detached header of a value of `len` bytes in an extent with room for `capacity`; returns how
/// many bytes that took.
#[inline]
pub fn write_detached(out: &mut [u8], len: usize, capacity: usize) -> usize {
    let size = Header::with_capacity(len, capacity).encode(&mut out[1..]);
    out[0] = size as u8;
    1 + size
}

/// Where a framed SDS keeps its data.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Framed {
    /// Offset of the data from the start of the frame.
    pub data: usize,
    /// Units: bytes.
    pub len: usize,
}

impl Framed {
    /// Reads the front of a framed SDS.
    #[inline]
    pub fn read(bytes: &[u8]) -> Framed {
        let data = 1 + bytes[0] as usize;
        Framed {
            data,
            len: sds::read_backward(bytes, data).expect("an object begins with a framed SDS").len(),
        }
    }

    /// Offset of the first byte after the frame.
    #[inline]
    pub fn end(self) -> usize {
        self.data + self.len + 1
    }
}

/// Writes the front of a framed SDS (all but data and NUL); returns how many bytes that took.
#[inline]
pub fn write_front(out: &mut [u8], len: usize) -> usize {
    let header = Header::for_len(len);
    let size = header.encode(&mut out[1..]);
    out[0] = size as u8;
    1 + size
}

/// Writes a framed SDS to `out`; returns how many bytes that took.
#[inline]
pub fn write_framed(out: &mut [u8], data: &[u8]) -> usize {
    let front = write_front(out, data.len());
    out[front..front + data.len()].copy_from_slice(data);
    out[front + data.len()] = 0;
    front + data.len() + 1
}

/// Longest front of a framed SDS: tag and a 64-bit header.
pub const FRONT_MAX: usize = 1 + 17;

/// Reads the frame at `addr`, wherever page ends fall.
#[inline]
pub fn framed_at(far: &mut Far, addr: FarAddr) -> Result<Framed, PagerError> {
    let room = PAGE_SIZE - addr.offset();
    if room >= FRONT_MAX {
        return Ok(Framed::read(far.bytes(addr, room)?));
    }
    let mut front = [0u8; FRONT_MAX];
    let mut at = 0;
    far.for_each_slice(addr, FRONT_MAX, |slice| {
        front[at..at + slice.len()].copy_from_slice(slice);
        at += slice.len();
        true
    })?;
    Ok(Framed::read(&front))
}

/// Whether the object at `addr` begins with `key`; if so, the offset of what follows the key.
#[inline]
pub fn match_key(far: &mut Far, addr: FarAddr, key: &[u8]) -> Result<Option<usize>, PagerError> {
    let room = PAGE_SIZE - addr.offset();
    let bytes = far.bytes(addr, room)?;
    let framed = Framed::read(bytes);
    if framed.len != key.len() {
        return Ok(None);
    }
    if framed.end() <= room {
        let same = bytes[framed.data..framed.data + framed.len] == *key;
        return Ok(same.then_some(framed.end()));
    }
    Ok(far.equals(addr.plus(framed.data), key)?.then_some(framed.end()))
}

/// Copies the key of the object at `addr` to `out`.
pub fn read_key(far: &mut Far, addr: FarAddr, out: &mut alloc::vec::Vec<u8>) -> Result<(), PagerError> {
    let framed = framed_at(far, addr)?;
    far.copy_out(addr.plus(framed.data), framed.len, out)
}

/// Writes a framed SDS to far memory, wherever page ends fall; returns how many bytes that took.
pub fn write_framed_at(far: &mut Far, addr: FarAddr, data: &[u8]) -> Result<usize, PagerError> {
    let mut front = [0u8; FRONT_MAX];
    let size = write_front(&mut front, data.len());
    far.write(addr, &front[..size])?;
    far.write(addr.plus(size), data)?;
    far.write(addr.plus(size + data.len()), &[0])?;
    Ok(size + data.len() + 1)
}
