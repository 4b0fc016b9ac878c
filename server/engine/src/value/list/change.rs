//! Changing a list anywhere but by a push: popping, trimming, setting, inserting, removing.
//!
//! Everything is read and written anew before anything is changed, so that no failure leaves half of it:
//! a chunk is replaced by new ones, and the old object is freed last.

use super::chunk::{self, CHUNK_BYTES_MAX, Chunk, Side};
use super::directory::{Directory, Place};
use super::search::{Finding, Match};
use super::small::{self, SMALL_LIST_MAX};
use super::{Shape, wire};
use crate::error::Outcome;
use crate::far::Far;
use crate::keyspace::{Found, KeySpace};
use crate::value::string::Source;
use alloc::vec::Vec;
use farmem::PageRange;

/// A list that a command is about to change.
#[derive(Clone, Copy, Debug)]
pub struct Target<'a> {
    /// Its database.
    pub db: usize,
    /// Its key.
    pub key: &'a [u8],
    /// Its entry.
    pub found: Found,
    /// Where its elements are.
    pub shape: Shape,
}

/// A place between, or over, the elements of one chunk.
struct Spot {
    /// `None` in a small list.
    place: Option<Place>,
    chunk: Chunk,
    /// Units: bytes from the chunk's first element.
    at: usize,
    /// How much of the old content goes: one element, or nothing. Units: bytes.
    cut: usize,
}

/// A chunk that loses elements: as it was, and what comes in its place.
type Thinned = (Place, Chunk, Option<Chunk>);

/// Elements on their way out of a list. Nothing of it changes before [`KeySpace::remove`].
pub struct Removal {
    side: Side,
    limit: u64,
    removed: u64,
    thinned: Vec<Thinned>,
    /// What is left of a small list. Wire bytes.
    kept: Vec<u8>,
}

impl Removal {
    /// Up to `limit` elements, seen from an end.
    pub fn new(side: Side, limit: u64) -> Removal {
        Removal { side, limit, removed: 0, thinned: Vec::new(), kept: Vec::new() }
    }

    /// How many elements go.
    pub fn removed(&self) -> u64 {
        self.removed
    }

    /// Writes a candidate anew without what was found in it. Says whether those are enough.
    pub fn see(&mut self, far: &mut Far, finding: Finding) -> Outcome<bool> {
        let Finding { at, matches, wire } = finding;
        select(matches, self.side, self.limit - self.removed);
        if !matches.is_empty() {
            match at.place {
                Some(place) => self.thinned.push((place, at.chunk, without(far, at.chunk, wire, matches)?)),
                None => self.kept = others(wire, matches),
            }
            self.removed += matches.len() as u64;
        }
        Ok(self.removed == self.limit)
    }

    /// Gives up: frees what was written anew.
    pub fn end(self, far: &mut Far) {
        self.thinned.iter().filter_map(|(_, _, new)| *new).for_each(|new| far.free(new.object));
    }

    /// Near memory that this takes. Units: bytes.
    pub fn near_bytes(&self) -> usize {
        self.thinned.capacity() * size_of::<Thinned>() + self.kept.capacity()
    }
}

impl KeySpace {
    /// Takes one element of `len` bytes off an end, and deletes a list that is empty then.
    #[inline]
    pub fn pop_element(&mut self, target: &Target, side: Side, len: usize) -> Outcome {
        let id = match target.shape {
            _ if self.shape_len(target.shape) == 1 => {
                self.delete(target.db, target.found);
                return Ok(());
            }
            Shape::Small(chunk) => {
                let (front, back) = if side == Side::Head { ((1, len), (0, 0)) } else { ((0, 0), (1, len)) };
                return self.trim_small(target.found, chunk, front, back);
            }
            Shape::Large(id) => id,
        };
        let mut end = self.lists.get(id).chunks.end(side).expect("no list is empty");
        if end.count == 1 {
            self.lists.change(id, |chunks| chunks.pop(side));
            self.far.free(end.object);
        } else {
            end.cut(side, 1, len);
            self.lists.change(id, |chunks| chunks.set_end(side, end));
        }
        Ok(())
    }

    /// Takes `front` and `back` elements off the ends, and deletes a list that is empty then. Reads the
    /// chunks at the new ends alone, and only if their elements are of mixed length.
    pub fn trim_list(&mut self, target: &Target, front: u64, back: u64) -> Outcome {
        let len = self.shape_len(target.shape);
        if front + back >= len {
            self.delete(target.db, target.found);
            return Ok(());
        }
        let id = match target.shape {
            Shape::Small(chunk) => {
                let head = chunk.offset(&mut self.far, front as u32)?;
                let tail = chunk.len() - chunk.offset(&mut self.far, chunk.count - back as u32)?;
                return self.trim_small(target.found, chunk, (front as u32, head), (back as u32, tail));
            }
            Shape::Large(id) => id,
        };
        let chunks = &self.lists.get(id).chunks;
        let ((first_place, first), (last_place, last)) =
            (chunks.locate(front), chunks.locate(len - back - 1));
        let (first_chunk, last_chunk) = (chunks.get(first_place), chunks.get(last_place));
        let gone = (front - first) as u32;
        let head = first_chunk.offset(&mut self.far, gone)?;
        let kept = (len - back - last) as u32;
        let tail = last_chunk.len() - last_chunk.offset(&mut self.far, kept)?;
        // From here on nothing can fail.
        self.drop_chunks(id, Side::Head, first);
        self.drop_chunks(id, Side::Tail, len - last - u64::from(last_chunk.count));
        self.lists.change(id, |chunks| {
            for (side, count, len) in [(Side::Head, gone, head), (Side::Tail, last_chunk.count - kept, tail)]
            {
                let mut end = chunks.end(side).expect("some element is left");
                end.cut(side, count, len);
                chunks.set_end(side, end);
            }
        });
        Ok(())
    }

    /// Frees whole chunks at an end that have `elements` elements together. Reads nothing.
    fn drop_chunks(&mut self, id: super::ListId, side: Side, elements: u64) {
        let mut left = elements;
        while left > 0 {
            let chunk =
                self.lists.change(id, |chunks| chunks.pop(side)).expect("the caller has counted them");
            self.far.free(chunk.object);
            left -= u64::from(chunk.count);
        }
    }

    /// Puts another element in the place of element `index`.
    pub fn set_element(&mut self, target: &Target, index: u64, source: Source) -> Outcome {
        let (place, chunk, first) = match target.shape {
            Shape::Small(chunk) => (None, chunk, 0),
            Shape::Large(id) => {
                let chunks = &self.lists.get(id).chunks;
                let (place, first) = chunks.locate(index);
                (Some(place), chunks.get(place), first)
            }
        };
        let within = (index - first) as u32;
        let (addr, cut) = chunk.run(&mut self.far, within, within + 1)?;
        let same_len = cut == wire::wire_len(source.len());
        let pages = PageRange::covering(addr, cut);
        // A chunk of one element is replaced rather than fetched.
        let in_place =
            same_len && cut <= CHUNK_BYTES_MAX && (chunk.count > 1 || chunk::at_hand(&self.far, pages));
        if in_place && !self.far.is_borrowed(chunk.object) {
            if let Shape::Large(id) = target.shape {
                self.lists.note_change(id);
            }
            // Each page is made writable first: the write itself cannot fail half-way then.
            for page in pages.pages() {
                self.far.pager.bytes_mut(page.addr(), 1)?;
            }
            return wire::write_at(&mut self.far, addr, source);
        }
        let at = (addr.0 - chunk.addr().0) as usize;
        self.splice(target, Spot { place, chunk, at, cut }, source)
    }

    /// Inserts an element before or behind a match that a search has found.
    pub fn insert_element(
        &mut self,
        target: &Target,
        found: (Chunk, Option<Place>, Match),
        behind: bool,
        source: Source,
    ) -> Outcome {
        let (chunk, place, pivot) = found;
        let at = if behind { pivot.at + pivot.len } else { pivot.at };
        self.splice(target, Spot { place, chunk, at, cut: 0 }, source)
    }

    /// Rewrites one chunk with an element in place of what the spot cuts out.
    fn splice(&mut self, target: &Target, spot: Spot, source: Source) -> Outcome {
        let mut near = Vec::new();
        let source = nearer(&mut self.far, source, &mut near)?;
        let chunk = spot.chunk;
        let keeps_chunk = chunk.len() > CHUNK_BYTES_MAX && spot.cut == 0;
        let mut chunks = Vec::new();
        let written = if keeps_chunk {
            chunk::write_one(&mut self.far, source, &mut chunks)
        } else if let (None, Source::Near(data)) = (spot.place, source)
            && small::size_for(target.key.len(), chunk.len() - spot.cut + wire::wire_len(data.len()))
                <= SMALL_LIST_MAX
        {
            let mut wire = Vec::with_capacity(SMALL_LIST_MAX);
            rewritten(&mut self.far, &spot, data, &mut wire)?;
            let count = chunk.count + u32::from(spot.cut == 0);
            self.store_small(target.db, target.key, Some(target.found), &wire, count)?;
            return Ok(());
        } else {
            write_around(&mut self.far, &spot, source, &mut chunks)
        };
        if let Err(failure) = written {
            free_all(&mut self.far, &chunks);
            return Err(failure);
        }
        if keeps_chunk {
            chunks.insert(if spot.at == 0 { 1 } else { 0 }, chunk);
        }
        let (Some(place), Shape::Large(id)) = (spot.place, target.shape) else {
            let mut directory = Directory::default();
            chunks.iter().for_each(|chunk| directory.push(Side::Tail, *chunk));
            self.store_large(target.db, target.key, Some(target.found), directory)?;
            return Ok(());
        };
        self.lists.change(id, |directory| directory.replace(place, &chunks));
        if !keeps_chunk {
            self.far.free(chunk.object);
        }
        Ok(())
    }

    /// Takes the elements of a removal out of the list, which is still the one that was searched; deletes a list that
    /// is empty then. Answers how many.
    pub fn remove(&mut self, target: &Target, removal: Removal) -> Outcome<u64> {
        let Removal { removed, mut thinned, kept, .. } = removal;
        if removed == self.shape_len(target.shape) {
            self.delete(target.db, target.found);
            return Ok(removed);
        }
        match target.shape {
            Shape::Small(chunk) if removed > 0 => {
                let count = chunk.count - removed as u32;
                self.store_small(target.db, target.key, Some(target.found), &kept, count)?;
            }
            Shape::Small(_) => {}
            Shape::Large(id) => {
                // From the last to the first: places before a replaced one stay good.
                thinned.sort_unstable_by_key(|(place, _, _)| core::cmp::Reverse(*place));
                for (place, old, new) in thinned {
                    self.lists.change(id, |chunks| chunks.replace(place, new.as_slice()));
                    self.far.free(old.object);
                }
            }
        }
        Ok(removed)
    }
}

/// The matches that count, seen from an end.
fn select(matches: &mut Vec<Match>, side: Side, limit: u64) {
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    if let Some(surplus) = matches.len().checked_sub(limit) {
        match side {
            Side::Head => matches.truncate(limit),
            Side::Tail => drop(matches.drain(..surplus)),
        }
    }
}

/// A chunk's bytes without the matches.
fn others(wire: &[u8], matches: &[Match]) -> Vec<u8> {
    let (mut kept, mut from) = (Vec::with_capacity(wire.len()), 0);
    for gone in matches {
        kept.extend_from_slice(&wire[from..gone.at]);
        from = gone.at + gone.len;
    }
    kept.extend_from_slice(&wire[from..]);
    kept
}

/// Writes a chunk without the matches; `None` if nothing is left.
fn without(far: &mut Far, chunk: Chunk, wire: &[u8], matches: &[Match]) -> Outcome<Option<Chunk>> {
    if matches.len() == chunk.count as usize {
        return Ok(None);
    }
    let kept = others(wire, matches);
    let object = far.allocate(kept.len())?;
    if let Err(error) = far.write(object, &kept) {
        far.free(object);
        return Err(error.into());
    }
    Ok(Some(Chunk::of_wire(&kept).moved_to(object, 0)))
}

/// The chunk's bytes with `data` in place of what the spot cuts out.
fn rewritten(far: &mut Far, spot: &Spot, data: &[u8], wire: &mut Vec<u8>) -> Outcome {
    let behind = spot.at + spot.cut;
    far.copy_out(spot.chunk.addr(), spot.at, wire)?;
    wire::push(wire, data);
    far.copy_out(spot.chunk.addr().plus(behind), spot.chunk.len() - behind, wire)?;
    Ok(())
}

/// Writes the chunk's bytes, with an element in place of what the spot cuts out, to new chunks.
fn write_around(far: &mut Far, spot: &Spot, source: Source, chunks: &mut Vec<Chunk>) -> Outcome {
    let mut wire = Vec::with_capacity(CHUNK_BYTES_MAX);
    if let Source::Near(data) = source
        && wire::wire_len(data.len()) <= CHUNK_BYTES_MAX
    {
        rewritten(far, spot, data, &mut wire)?;
        return chunk::write_all(far, &wire, chunks);
    }
    let behind = spot.at + spot.cut;
    far.copy_out(spot.chunk.addr(), spot.at, &mut wire)?;
    chunk::write_all(far, &wire, chunks)?;
    chunk::write_one(far, source, chunks)?;
    wire.clear();
    far.copy_out(spot.chunk.addr().plus(behind), spot.chunk.len() - behind, &mut wire)?;
    chunk::write_all(far, &wire, chunks)
}

/// An argument that is short enough to share a chunk, in near memory.
fn nearer<'a>(far: &mut Far, source: Source<'a>, near: &'a mut Vec<u8>) -> Outcome<Source<'a>> {
    match source {
        Source::Spooled(spooled) if wire::wire_len(spooled.len) <= CHUNK_BYTES_MAX => {
            far.copy_out(spooled.addr, spooled.len, near)?;
            Ok(Source::Near(near))
        }
        _ => Ok(source),
    }
}

fn free_all(far: &mut Far, chunks: &[Chunk]) {
    chunks.iter().for_each(|chunk| far.free(chunk.object));
}
