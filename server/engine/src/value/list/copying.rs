//! A long list on its way to another key, some chunks at a time.
//!
//! ```text
//!   source   [ copied, given back ] [ borrowed: as they were when the copy began ]
//!   copied   [ chunks             ] target: the chunk in the making, `done` bytes of it
//! ```
//!
//! Refuses to wait: whoever runs the steps fetches what [`ListCopy::plan`] names in between.

use super::chunk::{Chunk, Side};
use super::directory::Directory;
use super::{List, ListId};
use crate::error::Outcome;
use crate::far::Far;
use crate::keyspace::KeySpace;
use crate::keyspace::index::Entry;
use alloc::collections::VecDeque;
use farmem::{FarAddr, PageSet};

/// A copy of a list, unfinished.
pub struct ListCopy {
    /// What is still to be copied, borrowed.
    source: VecDeque<Chunk>,
    copied: Directory,
    /// The copy of the first source chunk, if that has begun.
    target: FarAddr,
    /// Bytes of that chunk that are copied.
    done: usize,
}

impl ListCopy {
    /// Begins to copy a list: nothing is read yet.
    pub fn begin(keys: &mut KeySpace, id: ListId) -> ListCopy {
        let source: VecDeque<Chunk> = keys.lists.get(id).chunks.iter().copied().collect();
        source.iter().for_each(|chunk| keys.far.borrow_object(chunk.object));
        ListCopy { source, copied: Directory::default(), target: FarAddr::NULL, done: 0 }
    }

    /// Whether all chunks are copied.
    pub fn is_done(&self) -> bool {
        self.source.is_empty()
    }

    /// How many chunks the next step copies, and how many bytes of the first: whole chunks of `step_bytes`
    /// together at most, or a part of one that is longer.
    fn next_step(&self, step_bytes: usize) -> (usize, usize) {
        let Some(first) = self.source.front() else { return (0, 0) };
        let here = (first.len() - self.done).min(step_bytes);
        if self.done > 0 || first.len() > step_bytes {
            return (1, here);
        }
        let mut left = step_bytes;
        let fits = self.source.iter().take_while(|chunk| {
            let fits = chunk.len() <= left;
            left = left.saturating_sub(chunk.len());
            fits
        });
        (fits.count(), here)
    }

    /// Names the pages of the next step; returns how many bytes it writes to fresh pages, a page for each
    /// chunk included.
    pub fn plan(&self, step_bytes: usize, page_bytes: usize, pages: &mut PageSet) -> usize {
        let (chunks, first) = self.next_step(step_bytes);
        let mut bytes = 0;
        for (index, chunk) in self.source.iter().take(chunks).enumerate() {
            let (from, len) = if index == 0 { (self.done, first) } else { (0, chunk.len()) };
            pages.push_bytes(chunk.addr().plus(from), len);
            bytes += len + page_bytes;
        }
        bytes
    }

    /// Copies what [`ListCopy::plan`] has named.
    /// # Errors
    /// Far memory is full or lost; the copy is then to be ended.
    pub fn step(&mut self, far: &mut Far, step_bytes: usize) -> Outcome {
        let (chunks, first) = self.next_step(step_bytes);
        for index in 0..chunks {
            let chunk = self.source[0];
            let len = if index == 0 { first } else { chunk.len() };
            if self.done == 0 {
                self.target = far.allocate(chunk.len())?;
            }
            far.copy_within(chunk.addr().plus(self.done), self.target.plus(self.done), len)?;
            self.done += len;
            if self.done == chunk.len() {
                self.copied.push(Side::Tail, chunk.moved_to(self.target, 0));
                (self.target, self.done) = (FarAddr::NULL, 0);
                self.source.pop_front();
                far.return_object(chunk.object);
            }
        }
        Ok(())
    }

    /// Gives up: frees what is copied, and gives back what is not.
    pub fn end(self, far: &mut Far) {
        self.source.iter().for_each(|chunk| far.return_object(chunk.object));
        if self.target != FarAddr::NULL {
            far.free(self.target);
        }
        List { key_object: FarAddr::NULL, chunks: self.copied }.free(far);
    }

    /// Near memory that this takes. Units: bytes.
    pub fn near_bytes(&self) -> usize {
        self.source.capacity() * size_of::<Chunk>() + self.copied.near_bytes()
    }
}

impl KeySpace {
    /// Makes a finished copy the list of `key`. Answers its entry, for an index.
    /// # Errors
    /// Far memory is full or lost: then the copy is freed.
    pub fn name_list(&mut self, copy: ListCopy, key: &[u8]) -> Outcome<Entry> {
        assert!(copy.is_done(), "a list is named when all of it is there");
        match self.key_object_for(key) {
            Ok((key_object, _)) => {
                let id = self.lists.insert(List { key_object, chunks: copy.copied });
                Ok(self.list_entry(key, id, key_object))
            }
            Err(failure) => {
                copy.end(&mut self.far);
                Err(failure)
            }
        }
    }
}
