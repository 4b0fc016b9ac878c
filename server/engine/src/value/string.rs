//! Strings: beside their key if both fit in a page, else on pages of their own.
//!
//! ```text
//!            set_string, splice_string                    splice_string
//!   (none) ──────────────────────────► small ───────────────────────────► large
//!                                        ▲            set_string            │
//!                                        └──────────────────────────────────┘
//! ```
//!
//! A large string's pages are zero behind its end, as far as its extent goes: whoever makes it longer need
//! not read them. Pages that nothing was written to stay untouched, and a gap that SETRANGE leaves costs
//! neither a frame nor far memory.
//!
//! Refuses to parse options and to reply. See `keyspace::object` for the layout.

pub mod copying;
mod splice;

use crate::args::{Args, Spooled};
use crate::error::Outcome;
use crate::far::Far;
use crate::keyspace::index::{Entry, Kind};
use crate::keyspace::object::{self, FRONT_MAX, detached_len, framed_len};
use crate::keyspace::{Found, KeySpace};
use crate::number;
use crate::spool;
use farmem::{FarAddr, PAGE_SIZE};
pub use splice::Place;
use splice::allocate_roomy;

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

/// How Redis would hold a string, where that does not follow from its bytes. Kept in the entry's aux bits;
/// OBJECT ENCODING is all that it is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u16)]
pub enum Encoding {
    /// As SET holds it: an integer if it is one, else embedded if it is short.
    Plain = 0,
    /// APPEND, SETRANGE or SETBIT wrote into it: never an integer, never embedded.
    Raw = 1,
    /// INCRBYFLOAT made it: never an integer.
    Text = 2,
}

impl Encoding {
    fn of(entry: Entry) -> Encoding {
        match entry.aux() {
            1 => Encoding::Raw,
            2 => Encoding::Text,
            _ => Encoding::Plain,
        }
    }
}

/// Longest embedded string. Source: Redis' `OBJ_ENCODING_EMBSTR_SIZE_LIMIT`. Units: bytes.
const EMBEDDED_MAX: usize = 44;

/// A value in far memory that no key leads to yet.
pub struct Prepared {
    entry: Entry,
    rest: usize,
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
        let framed = object::framed_at(&mut self.far, key_object.plus(found.rest))?;
        Ok(StringRef { addr: entry.addr(), len: framed.len, object: entry.addr() })
    }

    /// What OBJECT ENCODING says of a string: `int`, `embstr` or `raw`.
    pub fn string_encoding(&mut self, found: Found) -> Outcome<&'static str> {
        let value = self.string_ref(found)?;
        let encoding = Encoding::of(found.entry);
        if encoding == Encoding::Raw || value.len > EMBEDDED_MAX {
            return Ok("raw");
        }
        let is_integer = encoding == Encoding::Plain
            && value.len <= number::I64_LEN_MAX
            && number::parse_i64(self.far.bytes(value.addr, value.len)?).is_some();
        Ok(if is_integer { "int" } else { "embstr" })
    }

    /// Records how Redis would hold a string.
    pub fn set_encoding(&mut self, db: usize, found: Found, encoding: Encoding) {
        self.dbs[db].index.get_mut(found.position).set_aux(encoding as u16);
    }

    /// Makes `key` hold a string. An existing value of any type is replaced; its expiry time stays.
    /// # Errors
    /// Far memory is full, or no frame is to be had: then nothing has changed.
    #[inline]
    pub fn set_string(
        &mut self,
        db: usize,
        key: &[u8],
        found: Option<Found>,
        source: Source,
    ) -> Outcome<Found> {
        if let Some(found) = found
            && self.goes_in_place(found, source)
            && let Source::Near(value) = source
        {
            return self.overwrite_string(db, found, value);
        }
        if let Some(found) = found
            && found.entry.kind() == Kind::LargeString
            && !is_small(key.len(), source.len())
        {
            return self.replace_extent(db, found, source);
        }
        let prepared = self.prepare_string(key, source)?;
        Ok(self.put_prepared(db, found, prepared))
    }

    /// Whether `source` can be written over the old value as that lies: small over small in a slot that is
    /// not twice too large, large over as many pages if they are here and nobody reads them.
    #[inline]
    pub fn goes_in_place(&self, found: Found, source: Source) -> bool {
        let Source::Near(value) = source else { return false };
        let addr = found.entry.addr();
        match found.entry.kind() {
            Kind::SmallString => {
                let size = found.rest + framed_len(value.len());
                let slot = self.far.heap.size_of_slot(addr);
                size <= slot && size * 2 > slot
            }
            Kind::LargeString => {
                let pages = self.far.pages_of(addr);
                found.rest + framed_len(value.len()) > PAGE_SIZE
                    && value.len().div_ceil(PAGE_SIZE) == pages.count as usize
                    && pages.count <= self.far.hold_pages_max()
                    && !self.far.is_borrowed(addr)
                    && self.far.all_resident(pages)
            }
            _ => false,
        }
    }

    /// Writes over the old value. See [`KeySpace::goes_in_place`].
    #[inline]
    fn overwrite_string(&mut self, db: usize, found: Found, value: &[u8]) -> Outcome<Found> {
        let addr = found.entry.addr();
        if found.entry.kind() == Kind::SmallString {
            let room = self.far.pager.bytes_mut(addr.plus(found.rest), framed_len(value.len()))?;
            object::write_framed(room, value);
        } else {
            self.far.write_pages(addr.page(), value)?;
            self.write_detached(self.far.owner(addr), found.rest, addr, value.len())?;
        }
        let entry = self.dbs[db].index.get_mut(found.position);
        if entry.aux() != Encoding::Plain as u16 {
            entry.set_aux(Encoding::Plain as u16);
        }
        Ok(Found { entry: *entry, ..found })
    }

    /// Puts a large value under a key that holds a large value: the key's object stays.
    fn replace_extent(&mut self, db: usize, found: Found, source: Source) -> Outcome<Found> {
        let key_object = self.far.owner(found.entry.addr());
        let extent = match source {
            Source::Spooled(spooled) => {
                spool::adopt_spooled(&mut self.far, spooled);
                self.far.heap.set_owner(spooled.addr.page(), key_object.0 / 8);
                spooled.addr
            }
            Source::Near(value) => write_extent(&mut self.far, key_object, value)?,
        };
        self.swap_extent(db, found, extent, source.len(), Encoding::Plain)
    }

    /// Makes `extent`, which the key's object owns, the value of a large string. On an error it is freed.
    fn swap_extent(
        &mut self,
        db: usize,
        found: Found,
        extent: FarAddr,
        len: usize,
        encoding: Encoding,
    ) -> Outcome<Found> {
        let old = *self.dbs[db].index.get(found.position);
        let key_object = self.far.owner(old.addr());
        if let Err(failure) = self.write_detached(key_object, found.rest, extent, len) {
            self.far.free(extent);
            return Err(failure);
        }
        let entry = old.moved_to(Kind::LargeString, extent).with_aux(encoding as u16);
        self.replace(db, Found { entry: old, ..found }, entry);
        self.far.free(old.addr());
        Ok(Found { entry: *self.dbs[db].index.get(found.position), ..found })
    }

    /// Writes the header of a large value behind its key.
    fn write_detached(&mut self, key_object: FarAddr, rest: usize, extent: FarAddr, len: usize) -> Outcome {
        let mut front = [0u8; FRONT_MAX];
        let size = object::write_detached(&mut front, len, self.far.capacity_of(extent));
        Ok(self.far.write(key_object.plus(rest), &front[..size])?)
    }

    /// Writes a string and its key to far memory.
    /// # Errors
    /// Far memory is full, or no frame is to be had: then nothing is left of it.
    pub fn prepare_string(&mut self, key: &[u8], source: Source) -> Outcome<Prepared> {
        match source {
            Source::Near(value) if is_small(key.len(), value.len()) => self.prepare_small(key, value),
            Source::Near(value) => {
                self.prepare_large(key, value.len(), |far, owner| write_extent(far, owner, value))
            }
            Source::Spooled(spooled) => self.prepare_large(key, spooled.len, |far, owner| {
                spool::adopt_spooled(far, spooled);
                far.heap.set_owner(spooled.addr.page(), owner.0 / 8);
                Ok(spooled.addr)
            }),
        }
    }

    #[inline]
    fn prepare_small(&mut self, key: &[u8], value: &[u8]) -> Outcome<Prepared> {
        let size = framed_len(key.len()) + framed_len(value.len());
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
        Ok(Prepared { entry: self.new_entry(key, Kind::SmallString, addr), rest })
    }

    /// Writes the key's object of a large string of `len` bytes; `extent` makes its pages, owned by that.
    fn prepare_large(
        &mut self,
        key: &[u8],
        len: usize,
        extent: impl FnOnce(&mut Far, FarAddr) -> Outcome<FarAddr>,
    ) -> Outcome<Prepared> {
        let key_object = self.far.allocate(framed_len(key.len()) + detached_len(len))?;
        let extent = object::write_framed_at(&mut self.far, key_object, key)
            .map_err(Into::into)
            .and_then(|rest| Ok((rest, extent(&mut self.far, key_object)?)));
        let written = extent.and_then(|(rest, extent)| {
            let header = self.write_detached(key_object, rest, extent, len);
            header.inspect_err(|_| self.far.free(extent)).map(|()| (rest, extent))
        });
        match written {
            Ok((rest, extent)) => {
                Ok(Prepared { entry: self.new_entry(key, Kind::LargeString, extent), rest })
            }
            Err(failure) => {
                self.far.free(key_object);
                Err(failure)
            }
        }
    }

    /// Makes `key` hold what was prepared for it; the old value's expiry time stays.
    #[inline]
    pub fn put_prepared(&mut self, db: usize, found: Option<Found>, prepared: Prepared) -> Found {
        self.put(db, found, prepared.entry, prepared.rest)
    }

    /// Frees what was prepared.
    pub fn discard(&mut self, prepared: Prepared) {
        self.free_value(prepared.entry);
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

/// Writes `value` to pages of its own; zeros behind it.
fn write_extent(far: &mut Far, owner: FarAddr, value: &[u8]) -> Outcome<FarAddr> {
    let extent = far.allocate_extent(value.len().max(1), owner)?.first;
    if let Err(error) = far.write_pages(extent, value) {
        far.free(extent.addr());
        return Err(error.into());
    }
    Ok(extent.addr())
}
