//! Writing into a string: what APPEND, SETRANGE and SETBIT have in common.
//!
//! ```text
//!   old      │ page │ page │ page: end of data, zeros │ room ...      source at an offset
//!                            └── read only if some of its old bytes stay
//! ```
//!
//! A string grows where it lies if its slot or the pages behind it have room, with some to spare; else it
//! moves. One that a streamed reply still reads is copied, never changed.

use super::{Encoding, Source, is_small};
use crate::error::Outcome;
use crate::far::Far;
use crate::keyspace::index::{Entry, Kind};
use crate::keyspace::object::{self, Framed, framed_len};
use crate::keyspace::{Found, KeySpace};
use farmem::{FarAddr, HeapError, PAGE_SIZE, PageNo, PageRange, PageSet, PageState, PagerError};

/// Where something is to be written into a string.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Place {
    /// Behind its end.
    End,
    /// At an offset. Units: bytes.
    At(usize),
}

/// Up to here a string that grows gets twice the room, above it an eighth more: so the copies of many
/// appends cost no more than the appends. 256 pages are 1 MiB, where Redis stops doubling too.
const DOUBLED_PAGES_MAX: usize = 256;

/// Spare pages that are looked at for the last one with data, when the length is not at hand. A value of
/// less than 1 MiB that has doubled is beyond that now and then, and waits once more.
const SPARE_LOOK_MAX: usize = 32;

/// Pages for a string that grows to `len` bytes.
fn roomy_pages(len: usize) -> usize {
    let pages = len.div_ceil(PAGE_SIZE);
    pages + pages.min(DOUBLED_PAGES_MAX).max(pages / 8)
}

/// The page indexes of an extent that a write of `len` bytes at `offset` must read: those that it covers in
/// part, as far as old data lies there.
fn pages_read(old_len: usize, offset: usize, len: usize) -> [Option<usize>; 2] {
    let end = offset + len;
    let stays = |page: usize| {
        let start = page * PAGE_SIZE;
        start < old_len && (offset > start || end < old_len.min(start + PAGE_SIZE))
    };
    let (first, last) = (offset / PAGE_SIZE, end.saturating_sub(1) / PAGE_SIZE);
    [
        Some(first).filter(|&page| len > 0 && stays(page)),
        Some(last).filter(|&page| page > first && stays(page)),
    ]
}

impl KeySpace {
    /// The length of a large string, if the page that says it is here.
    pub fn large_len_if_resident(&mut self, entry: Entry) -> Option<usize> {
        let key_object = self.far.owner(entry.addr());
        if !self.far.all_resident(self.far.pages_of(key_object)) {
            return None;
        }
        let key = object::framed_at(&mut self.far, key_object).ok()?;
        Some(object::framed_at(&mut self.far, key_object.plus(key.end())).ok()?.len)
    }

    /// Plans to write `len` bytes into a large string: the pages that have to be read. Answers how many
    /// frames are needed beside those for the bytes themselves.
    pub fn plan_splice(&mut self, entry: Entry, place: Place, len: usize, plan: &mut PageSet) -> u32 {
        let extent = self.far.pages_of(entry.addr());
        let old_len = self.large_len_if_resident(entry);
        let offset = match (place, old_len) {
            (Place::At(offset), _) => offset,
            (Place::End, Some(old_len)) => old_len,
            (Place::End, None) => {
                plan.push(self.last_page_with_data(extent));
                return 0;
            }
        };
        // Without the length, the last page may or may not have old bytes that stay: it waits for it.
        let sure_len = old_len.unwrap_or((extent.count as usize - 1) * PAGE_SIZE);
        let new_len = old_len.unwrap_or(0).max(offset + len);
        if self.has_to_move(entry, new_len) {
            // A longer one is moved step by step before it is written to.
            if extent.count > self.far.hold_pages_max() {
                return 0;
            }
            plan.push(extent);
            return extent.count;
        }
        for page in pages_read(sure_len, offset, len).into_iter().flatten() {
            plan.push_page(PageNo(extent.first.0 + page as u32));
        }
        0
    }

    /// Whether a large string that becomes `len` bytes long is copied: somebody reads it, or there is no room where it
    /// lies.
    pub(super) fn has_to_move(&self, entry: Entry, len: usize) -> bool {
        let extent = self.far.pages_of(entry.addr());
        let pages = len.div_ceil(PAGE_SIZE) as u32;
        pages > extent.count && !self.far.heap.can_grow_extent(extent.first, pages)
            || self.far.is_borrowed(entry.addr())
    }

    /// The last page of an extent that was ever written to, if there are not many spare ones behind it.
    fn last_page_with_data(&self, extent: PageRange) -> PageRange {
        let mut pages =
            (extent.first.0..extent.first.0 + extent.count).rev().take(SPARE_LOOK_MAX).map(PageNo);
        match pages.find(|&page| self.far.pager.state(page) != PageState::Untouched) {
            Some(page) => PageRange { first: page, count: 1 },
            None => PageRange { first: extent.first, count: 0 },
        }
    }

    /// Writes `source` at `offset` of a string, with zeros between its end and that; answers the new length.
    /// A key without a value counts as an empty string.
    /// # Errors
    /// Far memory is full, or a page is not to be had: then nothing has changed.
    pub fn splice_string(
        &mut self,
        db: usize,
        key: &[u8],
        found: Option<Found>,
        offset: usize,
        source: Source,
    ) -> Outcome<usize> {
        let Some(found) = found else {
            let stored = self.splice_small(db, key, None, &[], offset, source)?;
            self.set_encoding(db, stored, Encoding::Raw);
            return Ok(offset + source.len());
        };
        let value = self.string_ref(found)?;
        let len = value.len.max(offset + source.len());
        if found.entry.kind() == Kind::LargeString {
            self.splice_large(db, found, value.len, offset, source)?;
            return Ok(len);
        }
        if !self.splice_in_slot(found, value.len, offset, source)? {
            let mut old = [0; PAGE_SIZE];
            old[..value.len].copy_from_slice(self.far.bytes(value.addr, value.len)?);
            self.splice_small(db, key, Some(found), &old[..value.len], offset, source)?;
        }
        self.set_encoding(db, found, Encoding::Raw);
        Ok(len)
    }

    /// Writes into a small string where it lies, if its slot has the room; says whether it did.
    fn splice_in_slot(
        &mut self,
        found: Found,
        old_len: usize,
        offset: usize,
        source: Source,
    ) -> Outcome<bool> {
        let Source::Near(data) = source else { return Ok(false) };
        let len = old_len.max(offset + data.len());
        let addr = found.entry.addr();
        if found.rest + framed_len(len) > self.far.heap.size_of_slot(addr) {
            return Ok(false);
        }
        let room = self.far.pager.bytes_mut(addr.plus(found.rest), framed_len(len))?;
        let old = Framed::read(room);
        let mut front = [0u8; object::FRONT_MAX];
        let start = object::write_front(&mut front, len);
        if start != old.data {
            room.copy_within(old.data..old.data + old.len, start);
        }
        room[..start].copy_from_slice(&front[..start]);
        let value = &mut room[start..];
        if offset > old_len {
            value[old_len..offset].fill(0);
        }
        value[offset..offset + data.len()].copy_from_slice(data);
        value[len] = 0;
        Ok(true)
    }

    /// Makes a new value of a short one and what is written into it.
    fn splice_small(
        &mut self,
        db: usize,
        key: &[u8],
        found: Option<Found>,
        old: &[u8],
        offset: usize,
        source: Source,
    ) -> Outcome<Found> {
        let len = old.len().max(offset + source.len());
        let prepared = match source {
            Source::Near(data) if is_small(key.len(), len) => {
                let mut value = [0; PAGE_SIZE];
                value[..old.len()].copy_from_slice(old);
                value[offset..offset + data.len()].copy_from_slice(data);
                self.prepare_small(key, &value[..len])?
            }
            _ => self.prepare_large(key, len, |far, owner| {
                // A string that is made at once gets no more than it needs, one that grows gets room.
                let extent = match old {
                    [] => far.allocate_extent(len, owner)?.addr(),
                    _ => allocate_roomy(far, owner, len)?,
                };
                let written = far
                    .write_pages(extent.page(), old)
                    .and_then(|()| write_at(far, extent, old.len(), offset, source));
                written.inspect_err(|_| far.free(extent))?;
                Ok(extent)
            })?,
        };
        Ok(self.put_prepared(db, found, prepared))
    }

    /// Writes into a large string, in place if nobody reads it and there is room, else into a copy.
    fn splice_large(
        &mut self,
        db: usize,
        found: Found,
        old_len: usize,
        offset: usize,
        source: Source,
    ) -> Outcome {
        let len = old_len.max(offset + source.len());
        let extent = self.far.pages_of(found.entry.addr());
        if self.far.is_borrowed(extent.first.addr()) || !self.grow(extent, len) {
            return self.splice_copy(db, found, old_len, offset, source);
        }
        let addr = extent.first.addr();
        // Whatever has to be read is read before anything changes.
        for page in pages_read(old_len, offset, source.len()).into_iter().flatten() {
            self.far.bytes(addr.plus(page * PAGE_SIZE), 1)?;
        }
        write_at(&mut self.far, addr, old_len, offset, source)?;
        self.write_detached(self.far.owner(addr), found.rest, addr, len)?;
        self.set_encoding(db, found, Encoding::Raw);
        Ok(())
    }

    /// Makes an extent long enough, if it is not and the pages behind it are free.
    fn grow(&mut self, extent: PageRange, len: usize) -> bool {
        let pages = len.div_ceil(PAGE_SIZE);
        pages <= extent.count as usize
            || self.far.heap.try_grow_extent(extent.first, roomy_pages(len) as u32)
            || self.far.heap.try_grow_extent(extent.first, pages as u32)
    }

    /// Writes into a copy of a large string, which takes its place.
    fn splice_copy(
        &mut self,
        db: usize,
        found: Found,
        old_len: usize,
        offset: usize,
        source: Source,
    ) -> Outcome {
        let len = old_len.max(offset + source.len());
        let old = found.entry.addr();
        let owner = self.far.owner(old);
        let copy = allocate_roomy(&mut self.far, owner, len)?;
        let far = &mut self.far;
        let written = copy_pages(far, old, copy, old_len, offset, source.len())
            .and_then(|()| write_at(far, copy, old_len, offset, source));
        if let Err(error) = written {
            far.free(copy);
            return Err(error.into());
        }
        self.swap_extent(db, found, copy, len, Encoding::Raw)?;
        Ok(())
    }
}

/// Pages for a string of `len` bytes that will grow further, or at least for that.
pub(super) fn allocate_roomy(far: &mut Far, owner: FarAddr, len: usize) -> Result<FarAddr, HeapError> {
    let extent = match far.allocate_extent(roomy_pages(len) * PAGE_SIZE, owner) {
        Ok(extent) => extent,
        Err(_) => far.allocate_extent(len, owner)?,
    };
    Ok(extent.addr())
}

/// Copies the pages of a value of `old_len` bytes, but for untouched ones, which stay so, and those that a
/// write of `len` bytes at `offset` will cover whole.
fn copy_pages(
    far: &mut Far,
    from: FarAddr,
    to: FarAddr,
    old_len: usize,
    offset: usize,
    len: usize,
) -> Result<(), PagerError> {
    let mut buffer = [0u8; PAGE_SIZE];
    for page in 0..old_len.div_ceil(PAGE_SIZE) {
        let start = page * PAGE_SIZE;
        let covered = offset <= start && offset + len >= old_len.min(start + PAGE_SIZE);
        let source = from.plus(start);
        if covered || far.pager.state(source.page()) == PageState::Untouched {
            continue;
        }
        buffer.copy_from_slice(far.bytes(source, PAGE_SIZE)?);
        far.pager.page_overwrite(to.plus(start).page())?.copy_from_slice(&buffer);
    }
    Ok(())
}

/// Writes `source` at `offset` of an extent that holds `old_len` bytes and zeros behind them.
fn write_at(
    far: &mut Far,
    extent: FarAddr,
    old_len: usize,
    offset: usize,
    source: Source,
) -> Result<(), PagerError> {
    let spooled = match source {
        Source::Near(data) => return write_bytes(far, extent, old_len, offset, data),
        Source::Spooled(spooled) => spooled,
    };
    let mut buffer = [0u8; PAGE_SIZE];
    let mut done = 0;
    while done < spooled.len {
        let here = (spooled.len - done).min(PAGE_SIZE);
        buffer[..here].copy_from_slice(far.bytes(spooled.addr.plus(done), here)?);
        let old_len = if done == 0 { old_len } else { old_len.max(offset + done) };
        write_bytes(far, extent, old_len, offset + done, &buffer[..here])?;
        done += here;
    }
    Ok(())
}

fn write_bytes(
    far: &mut Far,
    extent: FarAddr,
    old_len: usize,
    offset: usize,
    data: &[u8],
) -> Result<(), PagerError> {
    let (mut at, mut rest) = (offset, data);
    while !rest.is_empty() {
        let addr = extent.plus(at);
        let within = addr.offset();
        let (head, tail) = rest.split_at(rest.len().min(PAGE_SIZE - within));
        let start = at - within;
        let stays = start < old_len && (within > 0 || at + head.len() < old_len.min(start + PAGE_SIZE));
        if stays {
            far.pager.bytes_mut(addr, head.len())?.copy_from_slice(head);
        } else {
            let page = far.pager.page_overwrite(addr.page())?;
            page[..within].fill(0);
            page[within..within + head.len()].copy_from_slice(head);
            page[within + head.len()..].fill(0);
        }
        at += head.len();
        rest = tail;
    }
    Ok(())
}
