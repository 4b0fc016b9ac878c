//! Small lists: everything in one object, beside the key.
//!
//! ```text
//! │ framed key │ count u16 │ used u16 │ $3 CRLF foo CRLF │ ... │ free │
//!              └ rest                 └ rest + HEADER_LEN
//! ```
//!
//! The key's page is read anyway, so whatever is done to a small list fetches no other page.

use super::chunk::{self, Chunk, Side};
use super::directory::Directory;
use super::{List, wire};
use crate::error::Outcome;
use crate::far::Far;
use crate::keyspace::index::{Entry, Kind};
use crate::keyspace::object::{self, framed_len};
use crate::keyspace::{Found, KeySpace};
use crate::value::string::Source;
use alloc::vec::Vec;
use farmem::{FarAddr, PAGE_SIZE};

/// The largest object of a small list, its key included: half a page, so that it shares its page with at
/// least one other. Units: bytes.
pub const SMALL_LIST_MAX: usize = 2048;

/// Count and used bytes.
const HEADER_LEN: usize = 4;

fn read_u16(bytes: &[u8]) -> u16 {
    u16::from_le_bytes([bytes[0], bytes[1]])
}

fn write_header(room: &mut [u8], count: u32, used: usize) {
    room[..2].copy_from_slice(&(count as u16).to_le_bytes());
    room[2..HEADER_LEN].copy_from_slice(&(used as u16).to_le_bytes());
}

/// Reads where the elements are.
pub fn read(far: &mut Far, found: Found) -> Outcome<Chunk> {
    let object = found.entry.addr();
    let header = far.bytes(object.plus(found.rest), HEADER_LEN)?;
    let (count, used) = (read_u16(header), read_u16(&header[2..]));
    let start = found.rest + HEADER_LEN;
    Ok(Chunk::mixed(object, start, start + usize::from(used), u32::from(count)))
}

/// The object that a small list of `used` bytes needs. Units: bytes.
pub fn size_for(key_len: usize, used: usize) -> usize {
    framed_len(key_len) + HEADER_LEN + used
}

/// Writes a small list to a new object with room for `spare` bytes more; answers it and its key's end.
pub(super) fn create(
    far: &mut Far,
    key: &[u8],
    wire: &[u8],
    count: u32,
    spare: usize,
) -> Outcome<(FarAddr, usize)> {
    let size = size_for(key.len(), wire.len());
    let object = far.allocate((size + spare).min(SMALL_LIST_MAX))?;
    let room = match far.pager.bytes_mut(object, size) {
        Ok(room) => room,
        Err(error) => {
            far.free(object);
            return Err(error.into());
        }
    };
    let rest = object::write_framed(room, key);
    write_header(&mut room[rest..], count, wire.len());
    room[rest + HEADER_LEN..].copy_from_slice(wire);
    Ok((object, rest))
}

impl KeySpace {
    /// Makes `key` a small list, or puts these elements in the place of those that it has.
    ///
    /// Bounds: the list fits, see [`size_for`].
    pub(super) fn store_small(
        &mut self,
        db: usize,
        key: &[u8],
        found: Option<Found>,
        wire: &[u8],
        count: u32,
    ) -> Outcome<Found> {
        let Some(found) = found else {
            let (object, rest) = create(&mut self.far, key, wire, count, 0)?;
            let entry = self.new_entry(key, Kind::SmallList, object);
            return Ok(self.put(db, None, entry, rest));
        };
        let object = found.entry.addr();
        if size_for(key.len(), wire.len()) <= self.far.heap.size_of_slot(object) {
            let room = self.far.pager.bytes_mut(object.plus(found.rest), HEADER_LEN + wire.len())?;
            write_header(room, count, wire.len());
            room[HEADER_LEN..].copy_from_slice(wire);
            return Ok(found);
        }
        // A list that has grown once will grow again.
        let (object, rest) = create(&mut self.far, key, wire, count, wire.len() / 2)?;
        let entry = self.dbs[db].index.get(found.position).moved_to(Kind::SmallList, object);
        Ok(self.put(db, Some(found), entry, rest))
    }

    /// Pushes to a small list that stays small; `added` is what is pushed, in list order.
    pub(super) fn push_small(
        &mut self,
        db: usize,
        key: &[u8],
        found: Found,
        side: Side,
        added: &[u8],
        count: u32,
    ) -> Outcome<Found> {
        let old = read(&mut self.far, found)?;
        let (object, used) = (found.entry.addr(), old.len());
        let count = old.count + count;
        if size_for(key.len(), used + added.len()) <= self.far.heap.size_of_slot(object) {
            let len = HEADER_LEN + used + added.len();
            let room = self.far.pager.bytes_mut(object.plus(found.rest), len)?;
            write_header(room, count, used + added.len());
            let at = match side {
                Side::Head => {
                    room.copy_within(HEADER_LEN..HEADER_LEN + used, HEADER_LEN + added.len());
                    HEADER_LEN
                }
                Side::Tail => HEADER_LEN + used,
            };
            room[at..at + added.len()].copy_from_slice(added);
            return Ok(found);
        }
        let mut wire = Vec::with_capacity(used + added.len());
        if side == Side::Head {
            wire.extend_from_slice(added);
        }
        self.far.copy_out(old.addr(), used, &mut wire)?;
        if side == Side::Tail {
            wire.extend_from_slice(added);
        }
        self.store_small(db, key, Some(found), &wire, count)
    }

    /// Takes elements off both ends of a small list; some are left. `front` and `back` are how many
    /// elements and how many bytes.
    pub(super) fn trim_small(
        &mut self,
        found: Found,
        chunk: Chunk,
        front: (u32, usize),
        back: (u32, usize),
    ) -> Outcome {
        let left = chunk.len() - front.1 - back.1;
        let room = self.far.pager.bytes_mut(found.entry.addr().plus(found.rest), HEADER_LEN + chunk.len())?;
        write_header(room, chunk.count - front.0 - back.0, left);
        if front.1 > 0 {
            room.copy_within(HEADER_LEN + front.1..HEADER_LEN + front.1 + left, HEADER_LEN);
        }
        Ok(())
    }

    /// Copies the elements of a small list to a chunk with room for `more` bytes on one side.
    pub(super) fn small_to_chunk(&mut self, chunk: Chunk, side: Side, more: usize) -> Outcome<Chunk> {
        let mut wire = Vec::with_capacity(chunk.len());
        self.far.copy_out(chunk.addr(), chunk.len(), &mut wire)?;
        let capacity = (chunk.len() + more).saturating_mul(2).min(chunk::CHUNK_BYTES_MAX);
        let known = Chunk::of_wire(&wire).moved_to(chunk.object, chunk.end() - chunk.len());
        chunk::copy(&mut self.far, known, side, capacity)
    }

    /// Makes `key` a large list of these chunks. On failure they are freed.
    pub(super) fn store_large(
        &mut self,
        db: usize,
        key: &[u8],
        found: Option<Found>,
        chunks: Directory,
    ) -> Outcome<Found> {
        let mut list = List { key_object: FarAddr::NULL, chunks };
        match self.key_object_for(key) {
            Ok((object, rest)) => {
                list.key_object = object;
                let id = self.lists.insert(list);
                let access = match found {
                    Some(found) => self.dbs[db].index.get(found.position).access(),
                    None => self.new_entry(key, Kind::SmallList, object).access(),
                };
                let entry = Entry::new_list(self.fingerprint(key), id.0).with_access(access);
                Ok(self.put(db, found, entry, rest))
            }
            Err(failure) => {
                list.free(&mut self.far);
                Err(failure)
            }
        }
    }

    /// Writes an object for a key alone; answers it and the key's end.
    pub(super) fn key_object_for(&mut self, key: &[u8]) -> Outcome<(FarAddr, usize)> {
        let object = self.far.allocate(framed_len(key.len()))?;
        match object::write_framed_at(&mut self.far, object, key) {
            Ok(rest) => Ok((object, rest)),
            Err(error) => {
                self.far.free(object);
                Err(error.into())
            }
        }
    }
}

/// Whether an argument may be in a small list: near, and not longer than a page.
pub fn is_short(source: Source) -> bool {
    matches!(source, Source::Near(_)) && wire::wire_len(source.len()) <= PAGE_SIZE
}
