//! Pushing: into the chunk at the end if its page is here, else into a new one. Fetches nothing.
//!
//! ```text
//! room in the end's chunk, page at hand ──► write there
//! chunk full but short, all at hand ──────► grow it: longer in place, or a copy of twice the size
//! else ───────────────────────────────────► open a chunk; the cold one stays as it is
//! ```

use super::chunk::{self, CHUNK_BYTES_MAX, Chunk, Side, at_hand};
use super::directory::Directory;
use super::small::{self, SMALL_LIST_MAX};
use super::{ListId, wire};
use crate::error::Outcome;
use crate::far::Far;
use crate::keyspace::index::Kind;
use crate::keyspace::{Found, KeySpace};
use crate::value::string::Source;
use farmem::{PAGE_SIZE, PageRange};

/// A new chunk has room for this at least, and for a second element, while that costs no more than
/// `SPARE_MAX`. Units: bytes.
const OPEN_MIN: usize = 256;
const SPARE_MAX: usize = 1024;

/// What a push of several elements has done so far, to be taken back if it cannot end.
struct Undo {
    side: Side,
    /// The end's chunk as it was.
    end: Option<Chunk>,
    /// Whether that chunk was copied to another object; the old one is freed at the end.
    moved: bool,
    /// Chunks opened since.
    opened: u32,
}

impl Undo {
    #[cold]
    fn take_back(self, far: &mut Far, chunks: &mut Directory) {
        for _ in 0..self.opened {
            let chunk = chunks.pop(self.side).expect("as many were opened");
            far.free(chunk.object);
        }
        if let Some(end) = self.end {
            if self.moved {
                far.free(chunks.end(self.side).expect("it was there before").object);
            }
            chunks.set_end(self.side, end);
        }
    }
}

impl KeySpace {
    /// Pushes elements one after the other to an end of a list, which is made if there is none. Answers
    /// the list and its length.
    /// # Errors
    /// Far memory is full, or no frame is to be had: then nothing has changed.
    pub fn push_list<'a>(
        &mut self,
        db: usize,
        key: &[u8],
        found: Option<Found>,
        side: Side,
        elements: impl DoubleEndedIterator<Item = Source<'a>> + Clone,
    ) -> Outcome<(Found, u64)> {
        let (mut total, mut count, mut short) = (0, 0, true);
        for source in elements.clone() {
            total += wire::wire_len(source.len());
            short &= small::is_short(source);
            count += 1;
        }
        let old = match found {
            Some(found) if found.entry.kind() == Kind::LargeList => {
                let id = ListId::of(found.entry);
                let far = &mut self.far;
                self.lists.change(id, |chunks| push_all(far, chunks, side, elements, total))?;
                return Ok((found, self.lists.get(id).chunks.len()));
            }
            Some(found) => Some(small::read(&mut self.far, found)?),
            None => None,
        };
        let (old_len, old_count) = old.map_or((0, 0), |chunk| (chunk.len(), chunk.count));
        let length = u64::from(old_count) + u64::from(count);
        if !short || small::size_for(key.len(), old_len + total) > SMALL_LIST_MAX {
            let found = self.outgrow(db, key, found, old, side, elements, total)?;
            return Ok((found, length));
        }
        let mut added = core::mem::take(&mut self.lists.scratch);
        added.clear();
        match side {
            Side::Head => elements.rev().for_each(|source| push_near(&mut added, source)),
            Side::Tail => elements.for_each(|source| push_near(&mut added, source)),
        }
        let stored = match found {
            Some(found) => self.push_small(db, key, found, side, &added, count),
            None => self.store_small(db, key, None, &added, count),
        };
        self.lists.scratch = added;
        Ok((stored?, length))
    }

    /// Makes a list large that is too long to be small with these elements.
    #[allow(clippy::too_many_arguments, reason = "one caller; a struct would only rename them")]
    fn outgrow<'a>(
        &mut self,
        db: usize,
        key: &[u8],
        found: Option<Found>,
        old: Option<Chunk>,
        side: Side,
        elements: impl Iterator<Item = Source<'a>>,
        total: usize,
    ) -> Outcome<Found> {
        let mut chunks = Directory::default();
        if let Some(old) = old {
            chunks.push(Side::Tail, self.small_to_chunk(old, side, total)?);
        }
        if let Err(failure) = push_all(&mut self.far, &mut chunks, side, elements, total) {
            chunks.iter().for_each(|chunk| self.far.free(chunk.object));
            return Err(failure);
        }
        self.store_large(db, key, found, chunks)
    }
}

fn push_near(out: &mut alloc::vec::Vec<u8>, source: Source) {
    let Source::Near(data) = source else { unreachable!("a short element is near") };
    wire::push(out, data);
}

/// Pushes all elements, or none.
fn push_all<'a>(
    far: &mut Far,
    chunks: &mut Directory,
    side: Side,
    elements: impl Iterator<Item = Source<'a>>,
    total: usize,
) -> Outcome {
    let mut undo = Undo { side, end: chunks.end(side), moved: false, opened: 0 };
    let mut more = total;
    for source in elements {
        if let Err(failure) = push_one(far, chunks, source, more, &mut undo) {
            undo.take_back(far, chunks);
            return Err(failure);
        }
        more -= wire::wire_len(source.len());
    }
    if let (true, Some(end)) = (undo.moved, undo.end) {
        far.free(end.object);
    }
    Ok(())
}

/// Pushes one element; `more` bytes are to come, its own included.
#[inline]
fn push_one(far: &mut Far, chunks: &mut Directory, source: Source, more: usize, undo: &mut Undo) -> Outcome {
    let side = undo.side;
    let wire_len = wire::wire_len(source.len());
    let Some((mut chunk, at)) = room(far, chunks, wire_len, undo)? else {
        return open(far, chunks, source, more, undo);
    };
    wire::write_at(far, chunk.object.plus(at), source)?;
    chunk.add(side, wire_len);
    chunks.set_end(side, chunk);
    Ok(())
}

/// The end's chunk and the place in it for `wire_len` bytes more, if there is one that needs no fetch.
#[inline]
fn room(
    far: &mut Far,
    chunks: &mut Directory,
    wire_len: usize,
    undo: &mut Undo,
) -> Outcome<Option<(Chunk, usize)>> {
    let Some(end) = chunks.end(undo.side) else { return Ok(None) };
    if !end.accepts(wire_len) || far.is_borrowed(end.object) {
        return Ok(None);
    }
    let capacity = far.capacity_of(end.object);
    if let Some(at) = end.place(undo.side, wire_len)
        && at + wire_len <= capacity
    {
        let pages = PageRange::covering(end.object.plus(at), wire_len);
        return Ok(at_hand(far, pages).then_some((end, at)));
    }
    if capacity >= CHUNK_BYTES_MAX || !at_hand(far, end.pages()) {
        return Ok(None);
    }
    let grown = grow(far, chunks, end, capacity, wire_len, undo)?;
    Ok(grown.place(undo.side, wire_len).map(|at| (grown, at)))
}

/// Gives the end's chunk more room.
fn grow(
    far: &mut Far,
    chunks: &mut Directory,
    end: Chunk,
    capacity: usize,
    wire_len: usize,
    undo: &mut Undo,
) -> Outcome<Chunk> {
    let longer = end.end() + wire_len;
    if undo.side == Side::Tail && capacity > PAGE_SIZE && longer <= CHUNK_BYTES_MAX {
        let pages = (capacity * 2).clamp(longer, CHUNK_BYTES_MAX).div_ceil(PAGE_SIZE) as u32;
        if far.heap.try_grow_extent(end.object.page(), pages) {
            return Ok(end);
        }
    }
    let wanted = (capacity * 2).clamp(end.len() + wire_len, CHUNK_BYTES_MAX);
    let grown = chunk::copy(far, end, undo.side, wanted)?;
    chunks.set_end(undo.side, grown);
    if undo.opened == 0 && !undo.moved {
        undo.moved = true;
    } else {
        far.free(end.object);
    }
    Ok(grown)
}

/// Opens a chunk at the end for one element.
#[inline(never)]
fn open(far: &mut Far, chunks: &mut Directory, source: Source, more: usize, undo: &mut Undo) -> Outcome {
    let side = undo.side;
    let wire_len = wire::wire_len(source.len());
    let object = far.allocate(open_capacity(far, chunks.end(side), wire_len, more))?;
    let from = match side {
        Side::Head if wire_len <= CHUNK_BYTES_MAX => far.capacity_of(object),
        Side::Head => wire_len,
        Side::Tail => 0,
    };
    let mut chunk = Chunk::empty(object, from);
    let at = chunk.place(side, wire_len).expect("the object is long enough");
    if let Err(failure) = wire::write_at(far, object.plus(at), source) {
        far.free(object);
        return Err(failure);
    }
    chunk.add(side, wire_len);
    chunks.push(side, chunk);
    undo.opened += 1;
    Ok(())
}

/// How long a new chunk is: as long as what is to come, or as the chunk before it turned out, if that is
/// here and so the list is in use; else little more than its first element.
fn open_capacity(far: &Far, end: Option<Chunk>, wire_len: usize, more: usize) -> usize {
    if wire_len > CHUNK_BYTES_MAX {
        return wire_len;
    }
    let like_last = match end {
        Some(end) if end.len() <= CHUNK_BYTES_MAX && at_hand(far, end.pages()) => end.len() + end.len() / 8,
        _ => 0,
    };
    let spare = (wire_len * 2).max(OPEN_MIN);
    let spare = if spare <= SPARE_MAX { spare } else { 0 };
    wire_len.max(like_last).max(spare).max(more).min(CHUNK_BYTES_MAX)
}
