//! A value under another key, or a copy of it: what COPY, RENAME and MOVE are made of.
//!
//! ```text
//! small    │ key │ value │   ──►  │ other key │ value │        a new object, within one page each
//! large    │ key │h│ header │ ─►  │ other key │h│ header │     the pages of the data stay as they are
//! ```
//!
//! Refuses to look keys up: callers have found what is there, and put what is made here in an index.

use super::index::{Entry, Kind};
use super::object::{self, detached_len, framed_len};
use super::table::Position;
use super::{Found, KeySpace};
use crate::error::Outcome;
use crate::value::string::is_small;
use alloc::vec::Vec;
use farmem::FarAddr;

impl KeySpace {
    /// Where an entry lies in its index, told by its identity; near memory only.
    #[inline]
    pub fn position_of(&self, db: usize, entry: Entry) -> Option<Position> {
        let index = &self.dbs[db].index;
        index.find(entry.hash40()).find(|&at| index.get(at).identity() == entry.identity())
    }

    /// Takes an entry out of its index, and answers when it expires; the value stays.
    /// # Panics
    /// If it is not there.
    pub fn take_entry(&mut self, db: usize, entry: Entry) -> Option<u64> {
        let position = self.position_of(db, entry).expect("the entry was found in this database");
        let taken = self.dbs[db].index.remove(position);
        taken.has_ttl().then(|| self.dbs[db].expires.remove(taken.hash40(), taken.identity())).flatten()
    }

    /// Puts an entry in an index that does not have its key.
    pub fn put_entry(&mut self, db: usize, entry: Entry, at_ms: Option<u64>) {
        self.insert(db, entry.with_ttl(at_ms.is_some()));
        if let Some(at_ms) = at_ms {
            self.dbs[db].expires.set(entry.hash40(), entry.identity(), at_ms);
        }
    }

    /// Deletes what an entry stands for; near memory only.
    /// # Panics
    /// If it is not there.
    pub fn delete_entry(&mut self, db: usize, entry: Entry) {
        self.take_entry(db, entry);
        self.free_value(entry);
    }

    /// Gives a value another key. Answers its entry under that key, for an index; the old entry is void, and
    /// is to be taken out of its index without freeing its value. Access clock and aux go along.
    /// # Errors
    /// Far memory is full or a page is not to be had: then nothing has changed.
    pub fn rename_value(&mut self, found: Found, key: &[u8]) -> Outcome<Entry> {
        let old = found.entry;
        let renamed = match old.kind() {
            Kind::SmallString => {
                let copy = self.copy_small_string(found, key)?;
                self.far.free(old.addr());
                copy
            }
            Kind::LargeString => self.rename_large_string(found, key)?,
            Kind::SmallList | Kind::LargeList => self.rename_list(found, key)?,
        };
        Ok(renamed.with_access(old.access()).with_aux(old.aux()))
    }

    /// Copies a value for another key, as a whole. Answers the copy's entry, for an index.
    /// # Errors
    /// As [`KeySpace::rename_value`].
    pub fn copy_value(&mut self, found: Found, key: &[u8]) -> Outcome<Entry> {
        let copy = match found.entry.kind() {
            Kind::SmallString => self.copy_small_string(found, key)?,
            Kind::LargeString => {
                let value = self.string_ref(found)?;
                let extent = self.far.allocate_extent(value.len.max(1), FarAddr::NULL)?.addr();
                let copied = self.far.copy_within(value.addr, extent, value.len);
                copied
                    .and_then(|()| self.name_extent(extent, value.len, key))
                    .inspect_err(|_| self.far.free(extent))?
            }
            Kind::SmallList | Kind::LargeList => self.copy_list(found, key)?,
        };
        Ok(copy.with_aux(found.entry.aux()))
    }

    /// Makes an extent of `len` bytes the string of `key`. Answers its entry, for an index.
    /// # Errors
    /// As [`KeySpace::rename_value`]: the extent is still the caller's then.
    pub fn name_extent(&mut self, extent: FarAddr, len: usize, key: &[u8]) -> Outcome<Entry> {
        let mut header = [0u8; HEADER_MAX];
        let size = object::write_front(&mut header, len);
        self.own_extent(extent, key, &header[..size])
    }

    fn rename_large_string(&mut self, found: Found, key: &[u8]) -> Outcome<Entry> {
        let extent = found.entry.addr();
        let old = self.far.owner(extent);
        let front = old.plus(found.rest);
        let size = object::framed_at(&mut self.far, front)?.data;
        let mut header = Vec::with_capacity(size);
        self.far.copy_out(front, size, &mut header)?;
        let entry = self.own_extent(extent, key, &header)?;
        self.far.free(old);
        Ok(entry)
    }

    /// Writes the object of `key` with a large string's header, and makes it the owner of the string's pages.
    fn own_extent(&mut self, extent: FarAddr, key: &[u8], header: &[u8]) -> Outcome<Entry> {
        let object = self.far.allocate(framed_len(key.len()) + header.len())?;
        let written = object::write_framed_at(&mut self.far, object, key)
            .and_then(|rest| self.far.write(object.plus(rest), header));
        if let Err(error) = written {
            self.far.free(object);
            return Err(error.into());
        }
        self.far.heap.set_owner(extent.page(), object.0 / 8);
        Ok(self.new_entry(key, Kind::LargeString, extent))
    }

    fn copy_small_string(&mut self, found: Found, key: &[u8]) -> Outcome<Entry> {
        let value = self.string_ref(found)?;
        let mut bytes = Vec::with_capacity(value.len);
        self.far.copy_out(value.addr, value.len, &mut bytes)?;
        if !is_small(key.len(), value.len) {
            let extent = self.far.allocate_extent(value.len.max(1), FarAddr::NULL)?.addr();
            let written = self.far.write_pages(extent.page(), &bytes).map_err(Into::into);
            return written
                .and_then(|()| self.name_extent(extent, value.len, key))
                .inspect_err(|_| self.far.free(extent));
        }
        let size = framed_len(key.len()) + framed_len(value.len);
        let object = self.far.allocate(size)?;
        let room = match self.far.pager.bytes_mut(object, size) {
            Ok(room) => room,
            Err(error) => {
                self.far.free(object);
                return Err(error.into());
            }
        };
        let rest = object::write_framed(room, key);
        object::write_framed(&mut room[rest..], &bytes);
        Ok(self.new_entry(key, Kind::SmallString, object))
    }
}

/// Longest detached header of a string: tag and a 64-bit header. Units: bytes.
const HEADER_MAX: usize = 18;

/// Bytes that naming a value `key` takes anew: the key's object, with a small value in it at worst.
pub fn naming_bytes(key: &[u8]) -> usize {
    framed_len(key.len()) + detached_len(farmem::PAGE_SIZE) + farmem::PAGE_SIZE
}
