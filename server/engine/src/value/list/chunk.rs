//! A chunk: elements back to back in one far object, and what near memory knows of them.
//!
//! ```text
//!            start                          end
//! object  │ free │ $3 CRLF foo CRLF │ $3 ... │ free │      tail pushes write at `end`, head pushes before
//! ```                                                      `start`
//!
//! If all elements have the same length on the wire (`wire_len`), where each of them lies is arithmetic;
//! otherwise (`MIXED`) it takes a walk from the start, and the number of elements is kept small.

use super::wire::{self, Head};
use crate::error::Outcome;
use crate::far::Far;
use crate::value::string::Source;
use alloc::vec::Vec;
use farmem::{FarAddr, PageRange, PageState, PagerError};

/// A chunk of more than one element has at most so many bytes: 4 pages, so that a walk through it, or a
/// copy of it, stays in the microseconds. Units: bytes.
pub const CHUNK_BYTES_MAX: usize = 16 * 1024;

/// A chunk of mixed lengths takes no more elements than this: a pop from its tail walks over all of them,
/// 128 x 4 ns.
pub const MIXED_ELEMENTS_MAX: u32 = 128;

/// The `wire_len` of a chunk whose elements differ in length.
const MIXED: u32 = 0;

/// An end of a list.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Side {
    /// Index 0.
    Head,
    /// Index -1.
    Tail,
}

/// What near memory knows of a chunk: 24 bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Chunk {
    /// The object.
    pub object: FarAddr,
    /// Where the first element begins. Units: bytes from the object's start.
    start: u32,
    /// Where the last element ends. Units: bytes from the object's start.
    end: u32,
    /// How many elements there are.
    pub count: u32,
    /// Length of each element on the wire; `MIXED` if they differ. Units: bytes.
    wire_len: u32,
}

impl Chunk {
    /// A chunk without elements, which begins and ends at `at`.
    pub fn empty(object: FarAddr, at: usize) -> Chunk {
        Chunk { object, start: at as u32, end: at as u32, count: 0, wire_len: MIXED }
    }

    /// A chunk about whose elements nothing is known but their number.
    #[inline]
    pub fn mixed(object: FarAddr, start: usize, end: usize, count: u32) -> Chunk {
        Chunk { object, start: start as u32, end: end as u32, count, wire_len: MIXED }
    }

    /// The chunk that `wire` would be at the start of an object.
    pub fn of_wire(wire: &[u8]) -> Chunk {
        let mut chunk = Chunk::empty(FarAddr::NULL, 0);
        while let Some(head) = Head::parse(&wire[chunk.len()..]) {
            chunk.add(Side::Tail, head.wire_len());
        }
        chunk
    }

    /// The same elements at `start` of another object.
    pub fn moved_to(self, object: FarAddr, start: usize) -> Chunk {
        Chunk { object, start: start as u32, end: (start + self.len()) as u32, ..self }
    }

    /// Where the first element begins.
    #[inline]
    pub fn addr(&self) -> FarAddr {
        self.object.plus(self.start as usize)
    }

    /// Where the last element ends. Units: bytes from the object's start.
    #[inline]
    pub fn end(&self) -> usize {
        self.end as usize
    }

    /// Length of all elements. Units: bytes.
    #[inline]
    pub fn len(&self) -> usize {
        (self.end - self.start) as usize
    }

    /// The pages under the elements.
    #[inline]
    pub fn pages(&self) -> PageRange {
        PageRange::covering(self.addr(), self.len())
    }

    /// Length of each element on the wire, if it is the same for all of them.
    #[inline]
    pub fn uniform(&self) -> Option<usize> {
        match self.count {
            1 => Some(self.len()),
            _ => (self.wire_len != MIXED).then_some(self.wire_len as usize),
        }
    }

    /// Whether an element of this length on the wire may be in here.
    #[inline]
    pub fn may_contain(&self, wire_len: usize) -> bool {
        self.uniform().is_none_or(|uniform| uniform == wire_len)
    }

    /// Where element `index` begins, or the last one ends, if that is known without reading. Units: bytes
    /// from the first element.
    #[inline]
    pub fn known_offset(&self, index: u32) -> Option<usize> {
        match index {
            0 => Some(0),
            _ if index == self.count => Some(self.len()),
            _ => self.uniform().map(|wire_len| wire_len * index as usize),
        }
    }

    /// As [`Chunk::known_offset`], walking over the elements if need be.
    #[inline]
    pub fn offset(&self, far: &mut Far, index: u32) -> Result<usize, PagerError> {
        match self.known_offset(index) {
            Some(offset) => Ok(offset),
            None => wire::skip(far, self.addr(), index),
        }
    }

    /// Where the elements `from..to` lie.
    #[inline]
    pub fn run(&self, far: &mut Far, from: u32, to: u32) -> Result<(FarAddr, usize), PagerError> {
        let begin = self.offset(far, from)?;
        if to - from == 1 && self.uniform().is_none() && to != self.count {
            let addr = self.addr().plus(begin);
            return Ok((addr, wire::head_at(far, addr)?.wire_len()));
        }
        Ok((self.addr().plus(begin), self.offset(far, to)? - begin))
    }

    /// The pages to read in order to find and to read the elements `from..to`.
    pub fn run_pages(&self, from: u32, to: u32) -> PageRange {
        match (self.known_offset(from), self.known_offset(to)) {
            (Some(begin), Some(end)) => PageRange::covering(self.addr().plus(begin), end - begin),
            _ => self.pages(),
        }
    }

    /// Whether an element of `wire_len` bytes may join: the chunk stays short, and quick to walk.
    #[inline]
    pub fn accepts(&self, wire_len: usize) -> bool {
        self.len() + wire_len <= CHUNK_BYTES_MAX
            && (self.count < MIXED_ELEMENTS_MAX || self.uniform() == Some(wire_len))
    }

    /// Where an element of `wire_len` bytes goes on this side. Units: bytes from the object's start.
    #[inline]
    pub fn place(&self, side: Side, wire_len: usize) -> Option<usize> {
        match side {
            Side::Head => (self.start as usize).checked_sub(wire_len),
            Side::Tail => Some(self.end as usize),
        }
    }

    /// Records an element that was written at [`Chunk::place`].
    #[inline]
    pub fn add(&mut self, side: Side, wire_len: usize) {
        let uniform = if self.count == 0 { Some(wire_len) } else { self.uniform() };
        self.wire_len = if uniform == Some(wire_len) { wire_len as u32 } else { MIXED };
        self.count += 1;
        match side {
            Side::Head => self.start -= wire_len as u32,
            Side::Tail => self.end += wire_len as u32,
        }
    }

    /// Takes `count` elements of `len` bytes in all off this side.
    #[inline]
    pub fn cut(&mut self, side: Side, count: u32, len: usize) {
        self.count -= count;
        match side {
            Side::Head => self.start += len as u32,
            Side::Tail => self.end -= len as u32,
        }
    }
}

/// Whether a page can be written to without a fetch.
#[inline]
pub fn at_hand(far: &Far, range: PageRange) -> bool {
    range.pages().all(|page| !matches!(far.pager.state(page), PageState::Remote | PageState::Fetching))
}

/// Elements in near memory, cut up into chunks of a good size.
struct Cut<'a> {
    rest: &'a [u8],
    /// Chunks are closed at this size, so that none of them is nearly empty. Units: bytes.
    full: usize,
}

impl<'a> Cut<'a> {
    fn new(wire: &'a [u8]) -> Cut<'a> {
        let chunks = wire.len().div_ceil(CHUNK_BYTES_MAX).max(1);
        Cut { rest: wire, full: wire.len().div_ceil(chunks) }
    }

    /// The next chunk's bytes, as a chunk of no object.
    fn next(&mut self) -> Option<(&'a [u8], Chunk)> {
        let mut chunk = Chunk::empty(FarAddr::NULL, 0);
        while let Some(head) = Head::parse(&self.rest[chunk.len()..]) {
            let wire_len = head.wire_len();
            if chunk.count > 0 && (!chunk.accepts(wire_len) || chunk.len() >= self.full) {
                break;
            }
            chunk.add(Side::Tail, wire_len);
        }
        let (taken, rest) = self.rest.split_at(chunk.len());
        self.rest = rest;
        (chunk.count > 0).then_some((taken, chunk))
    }
}

/// Writes elements that lie in near memory to new chunks, appended to `chunks`.
/// # Errors
/// As [`write_one`]; the chunks appended so far are the caller's to free.
pub fn write_all(far: &mut Far, wire: &[u8], chunks: &mut Vec<Chunk>) -> Outcome {
    let mut cut = Cut::new(wire);
    while let Some((bytes, chunk)) = cut.next() {
        let object = far.allocate(bytes.len())?;
        chunks.push(chunk.moved_to(object, 0));
        far.write(object, bytes)?;
    }
    Ok(())
}

/// Writes one element of any length to a chunk of its own, appended to `chunks`.
/// # Errors
/// Far memory is full, or no frame is to be had; the chunks appended so far are the caller's to free.
pub fn write_one(far: &mut Far, source: Source, chunks: &mut Vec<Chunk>) -> Outcome {
    let wire_len = wire::wire_len(source.len());
    let mut chunk = Chunk::empty(far.allocate(wire_len)?, 0);
    chunk.add(Side::Tail, wire_len);
    chunks.push(chunk);
    wire::write_at(far, chunk.object, source)
}

/// Copies a chunk's elements to a new object of at least `capacity` bytes, against the given side's
/// opposite end: what is pushed on that side has room.
pub fn copy(far: &mut Far, chunk: Chunk, side: Side, capacity: usize) -> Outcome<Chunk> {
    let object = far.allocate(capacity.max(chunk.len()))?;
    let start = match side {
        Side::Head => far.capacity_of(object) - chunk.len(),
        Side::Tail => 0,
    };
    if let Err(failure) = far.copy_within(chunk.addr(), object.plus(start), chunk.len()) {
        far.free(object);
        return Err(failure);
    }
    Ok(chunk.moved_to(object, start))
}
