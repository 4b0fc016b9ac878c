//! Whole lists and whole chunks under another key: COPY, RENAME, and LMOVE of an element with a chunk of
//! its own.

use super::chunk::{self, Side};
use super::directory::Directory;
use super::{List, ListId, Shape, small};
use crate::error::Outcome;
use crate::keyspace::index::{Entry, Kind};
use crate::keyspace::{Found, KeySpace};
use farmem::FarAddr;

impl KeySpace {
    /// Copies a list for `key`. Answers an entry that the caller puts in an index; nothing else changes.
    /// # Errors
    /// As [`KeySpace::push_list`].
    pub fn copy_list(&mut self, found: Found, key: &[u8]) -> Outcome<Entry> {
        let id = match self.list_shape(found)? {
            Shape::Small(chunk) => return self.copy_small(chunk, key),
            Shape::Large(id) => id,
        };
        let (key_object, _) = self.key_object_for(key)?;
        let mut copy = List { key_object, chunks: Directory::default() };
        let mut next = self.lists.get(id).chunks.first(Side::Head);
        while let Some(place) = next {
            let chunk = self.lists.get(id).chunks.get(place);
            match chunk::copy(&mut self.far, chunk, Side::Tail, chunk.len()) {
                Ok(chunk) => copy.chunks.push(Side::Tail, chunk),
                Err(failure) => {
                    copy.free(&mut self.far);
                    return Err(failure);
                }
            }
            next = self.lists.get(id).chunks.after(place);
        }
        let id = self.lists.insert(copy);
        Ok(self.list_entry(key, id, key_object))
    }

    /// Gives a list another key. Answers its entry under that key, for the caller to put in an index; the
    /// old entry is void, and is to be taken out of its index *without* freeing its value.
    /// # Errors
    /// As [`KeySpace::push_list`]: then nothing has changed and the old entry is good.
    pub fn rename_list(&mut self, found: Found, key: &[u8]) -> Outcome<Entry> {
        match self.list_shape(found)? {
            Shape::Small(chunk) => {
                let entry = self.copy_small(chunk, key)?;
                self.far.free(found.entry.addr());
                Ok(entry)
            }
            Shape::Large(id) => {
                let (key_object, _) = self.key_object_for(key)?;
                let old = core::mem::replace(&mut self.lists.get_mut(id).key_object, key_object);
                self.far.free(old);
                Ok(self.list_entry(key, id, key_object))
            }
        }
    }

    pub(super) fn list_entry(&self, key: &[u8], id: ListId, key_object: FarAddr) -> Entry {
        let fresh = self.new_entry(key, Kind::SmallList, key_object);
        Entry::new_list(fresh.hash40(), id.0).with_access(fresh.access())
    }

    /// Copies a small list, which becomes large if the new key leaves no room for it.
    fn copy_small(&mut self, chunk: chunk::Chunk, key: &[u8]) -> Outcome<Entry> {
        if small::size_for(key.len(), chunk.len()) > small::SMALL_LIST_MAX {
            let (key_object, _) = self.key_object_for(key)?;
            let mut copy = List { key_object, chunks: Directory::default() };
            match self.small_to_chunk(chunk, Side::Tail, 0) {
                Ok(chunk) => copy.chunks.push(Side::Tail, chunk),
                Err(failure) => {
                    copy.free(&mut self.far);
                    return Err(failure);
                }
            }
            let id = self.lists.insert(copy);
            return Ok(self.list_entry(key, id, key_object));
        }
        let mut wire = core::mem::take(&mut self.lists.scratch);
        wire.clear();
        let created = match self.far.copy_out(chunk.addr(), chunk.len(), &mut wire) {
            Ok(()) => small::create(&mut self.far, key, &wire, chunk.count, 0),
            Err(error) => Err(error.into()),
        };
        self.lists.scratch = wire;
        let (object, _) = created?;
        Ok(self.new_entry(key, Kind::SmallList, object))
    }

    /// Whether the element at an end has a chunk of its own that no other element can share: it is moved
    /// to another list without being read.
    pub fn has_own_chunk(&self, shape: Shape, side: Side) -> bool {
        let Shape::Large(id) = shape else { return false };
        let end = self.lists.get(id).chunks.end(side);
        end.is_some_and(|chunk| chunk.count == 1 && chunk.len() > chunk::CHUNK_BYTES_MAX)
    }

    /// Makes `key` a large list, if it is none yet, so that a chunk can be moved to it. The directory of a
    /// new list is empty.
    pub fn widen_list(&mut self, db: usize, key: &[u8], found: Option<Found>) -> Outcome<ListId> {
        let mut chunks = Directory::default();
        if let Some(found) = found {
            match self.list_shape(found)? {
                Shape::Small(chunk) => chunks.push(Side::Tail, self.small_to_chunk(chunk, Side::Tail, 0)?),
                Shape::Large(id) => return Ok(id),
            }
        }
        let stored = self.store_large(db, key, found, chunks)?;
        Ok(ListId::of(stored.entry))
    }

    /// Moves the chunk at an end of a list to an end of another or the same one. Reads nothing. Says
    /// whether the list it came from is empty now; the caller deletes that.
    pub fn move_chunk(&mut self, from: (ListId, Side), to: (ListId, Side)) -> bool {
        let chunk = self.lists.change(from.0, |chunks| chunks.pop(from.1)).expect("no list is empty");
        self.lists.change(to.0, |chunks| chunks.push(to.1, chunk));
        self.lists.get(from.0).chunks.len() == 0
    }
}
