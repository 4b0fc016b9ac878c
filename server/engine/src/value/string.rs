//! Strings: beside their key if both fit in a page, else on pages of their own.
//!
//! Refuses to parse options and to reply. See `keyspace::object` for the layout.

use crate::args::{Args, Spooled};
use crate::error::Outcome;
use crate::keyspace::index::{Entry, Kind};
use crate::keyspace::object::{self, Framed, detached_len, framed_len};
use crate::keyspace::{Found, KeySpace};
use crate::spool;
use farmem::{FarAddr, PAGE_SIZE};

/// A string's data in far memory. Valid until the key space changes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct StringRef {
    /// The first byte of the data.
    pub addr: FarAddr,
    /// Units: bytes.
    pub len: usize,
    /// The object that holds the data, for borrowing.
    pub object: FarAddr,
}

/// Where a new value's bytes come from.
#[derive(Clone, Copy)]
pub enum Source<'a> {
    /// Near memory, e.g. the client's input.
    Near(&'a [u8]),
    /// An extent that the value takes over.
    Spooled(Spooled),
}

impl<'a> Source<'a> {
    /// Argument `index` of a command.
    #[inline]
    pub fn argument(args: &Args<'a>, index: usize) -> Source<'a> {
        match args.spooled(index) {
            Some(spooled) => Source::Spooled(spooled),
            None => Source::Near(args.get(index)),
        }
    }

    /// Units: bytes.
    #[inline]
    pub fn len(&self) -> usize {
        match self {
            Source::Near(bytes) => bytes.len(),
            Source::Spooled(spooled) => spooled.len,
        }
    }
}

/// Whether a string of `len` bytes lies beside its key.
#[inline]
pub fn is_small(key_len: usize, len: usize) -> bool {
    framed_len(key_len) + framed_len(len) <= PAGE_SIZE
}

impl KeySpace {
    /// Where a string's data lies.
    #[inline]
    pub fn string_ref(&mut self, found: Found) -> Outcome<StringRef> {
        let entry = found.entry;
        if entry.kind() == Kind::SmallString {
            let at = entry.addr().plus(found.rest);
            let framed = object::framed_at(&mut self.far, at)?;
            return Ok(StringRef { addr: at.plus(framed.data), len: framed.len, object: entry.addr() });
        }
        let key_object = self.far.owner(entry.addr());
        let framed: Framed = object::framed_at(&mut self.far, key_object.plus(found.rest))?;
        Ok(StringRef { addr: entry.addr(), len: framed.len, object: entry.addr() })
    }

    /// Makes `key` hold a string. An existing value of any type is replaced; its expiry time stays.
    /// # Errors
    /// Far memory is full, or no frame is to be had: then nothing has changed.
    pub fn set_string(&mut self, db: usize, key: &[u8], found: Option<Found>, source: Source) -> Outcome<Found> {
        if let Source::Near(value) = source
            && is_small(key.len(), value.len())
        {
            return self.set_small(db, key, found, value);
        }
        self.set_large(db, key, found, source)
    }

    #[inline]
    fn set_small(&mut self, db: usize, key: &[u8], found: Option<Found>, value: &[u8]) -> Outcome<Found> {
        let size = framed_len(key.len()) + framed_len(value.len());
        if let Some(found) = found
            && found.entry.kind() == Kind::SmallString
        {
            let slot = self.far.heap.size_of_slot(found.entry.addr());
            if size <= slot && size * 2 > slot {
                let at = found.entry.addr().plus(found.rest);
                let room = self.far.pager.bytes_mut(at, framed_len(value.len()))?;
                object::write_framed(room, value);
                let entry = found.entry.with_aux(0);
                if entry != found.entry {
                    *self.dbs[db].index.get_mut(found.position) = entry;
                }
                return Ok(Found { entry, ..found });
            }
        }
        let addr = self.far.allocate(size)?;
        let room = match self.far.pager.bytes_mut(addr, size) {
            Ok(room) => room,
            Err(error) => {
                self.far.free(addr);
                return Err(error.into());
            }
        };
        let rest = object::write_framed(room, key);
        object::write_framed(&mut room[rest..], value);
        let entry = self.new_entry(key, Kind::SmallString, addr);
        Ok(self.put(db, found, entry, rest))
    }

    fn set_large(&mut self, db: usize, key: &[u8], found: Option<Found>, source: Source) -> Outcome<Found> {
        let len = source.len();
        let size = framed_len(key.len()) + detached_len(len);
        let key_object = self.far.allocate(size)?;
        let written = self.write_large(key_object, key, source);
        let (extent, rest) = match written {
            Ok(written) => written,
            Err(failure) => {
                self.far.free(key_object);
                return Err(failure);
            }
        };
        let entry = self.new_entry(key, Kind::LargeString, extent);
        Ok(self.put(db, found, entry, rest))
    }

    /// Writes key object and data of a large string; answers the data's extent and the key's end.
    fn write_large(&mut self, key_object: FarAddr, key: &[u8], source: Source) -> Outcome<(FarAddr, usize)> {
        let len = source.len();
        let mut front = [0u8; 18];
        let front_len = object::write_front(&mut front, len);
        let rest = object::write_framed_at(&mut self.far, key_object, key)?;
        self.far.write(key_object.plus(rest), &front[..front_len])?;
        let extent = match source {
            Source::Spooled(spooled) => {
                spool::adopt_spooled(&mut self.far, spooled);
                self.far.heap.set_owner(spooled.addr.page(), key_object.0 / 8);
                spooled.addr
            }
            Source::Near(value) => {
                let extent = self.far.allocate_extent(len.max(1), key_object)?.first;
                if let Err(error) = self.far.write_pages(extent, value) {
                    self.far.free(extent.addr());
                    return Err(error.into());
                }
                extent.addr()
            }
        };
        Ok((extent, rest))
    }

    /// Puts `entry` where `found` was and frees what that held, or adds it.
    #[inline]
    pub fn put(&mut self, db: usize, found: Option<Found>, entry: Entry, rest: usize) -> Found {
        match found {
            Some(found) => {
                self.replace(db, found, entry);
                self.free_value(found.entry);
                let entry = *self.dbs[db].index.get(found.position);
                Found { position: found.position, entry, rest }
            }
            None => Found { position: self.insert(db, entry), entry, rest },
        }
    }
}
