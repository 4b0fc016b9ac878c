//! Lists: elements ready for the wire, in chunks in the far heap.
//!
//! ```text
//! small list   object │ framed key │ count u16 │ used u16 │ elements │      one object, no near memory
//! large list   object │ framed key │
//!              near   List { key's object, directory ──► chunk, chunk, ... }
//!              far                                        └► object │ elements │
//! ```
//!
//! A list is small while it fits in [`SMALL_LIST_MAX`] and never becomes small again. Refuses to parse
//! options and to reply: `commands::list` does.

mod change;
pub mod chunk;
pub mod copying;
pub mod directory;
mod push;
pub mod search;
mod small;
mod transfer;
pub mod wire;

use crate::error::Outcome;
use crate::far::Far;
use crate::keyspace::index::{Entry, Kind};
use crate::keyspace::{Found, KeySpace};
use crate::stream::FarSlice;
use alloc::vec::Vec;
pub use change::{Removal, Target};
pub use chunk::{CHUNK_BYTES_MAX, Chunk, Side};
use directory::{Directory, Place};
use farmem::{FarAddr, PageRange, PageSet};

/// The number of a list's near directory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ListId(u32);

impl ListId {
    /// The directory of a [`Kind::LargeList`].
    #[inline]
    pub fn of(entry: Entry) -> ListId {
        ListId(entry.list())
    }
}

/// A list with a directory.
pub struct List {
    /// The object that holds the key.
    pub key_object: FarAddr,
    /// Its chunks.
    pub chunks: Directory,
}

impl List {
    /// Frees everything that the list has in far memory.
    fn free(self, far: &mut Far) {
        for chunk in self.chunks.iter() {
            far.free(chunk.object);
        }
        if self.key_object != FarAddr::NULL {
            far.free(self.key_object);
        }
    }
}

/// The directories of all lists that have one.
#[derive(Default)]
pub struct Lists {
    lists: Vec<Option<List>>,
    /// What [`Lists::version`] answers of each.
    versions: Vec<u64>,
    /// The youngest of them.
    version: u64,
    vacant: Vec<u32>,
    /// Near memory of all directories. Units: bytes.
    directory_bytes: usize,
    /// Elements on their way, kept so that no command allocates for them.
    scratch: Vec<u8>,
    /// Where a reply's elements lie, kept for the same reason.
    pub slices: Vec<FarSlice>,
}

impl Lists {
    /// The directory of a list.
    #[inline]
    pub fn get(&self, id: ListId) -> &List {
        self.lists[id.0 as usize].as_ref().expect("an entry names a list that exists")
    }

    #[inline]
    fn get_mut(&mut self, id: ListId) -> &mut List {
        self.lists[id.0 as usize].as_mut().expect("an entry names a list that exists")
    }

    fn insert(&mut self, list: List) -> ListId {
        self.directory_bytes += list.chunks.near_bytes();
        let id = match self.vacant.pop() {
            Some(number) => ListId(number),
            None => {
                self.lists.push(None);
                self.versions.push(0);
                let last = self.lists.len() - 1;
                ListId(u32::try_from(last).expect("2^32 directories are more than near memory has"))
            }
        };
        self.lists[id.0 as usize] = Some(list);
        self.note_change(id);
        id
    }

    /// Changes with every change of the list's elements, and is no other list's, past or present.
    pub fn version(&self, id: ListId) -> u64 {
        self.versions[id.0 as usize]
    }

    #[inline]
    fn note_change(&mut self, id: ListId) {
        self.version += 1;
        self.versions[id.0 as usize] = self.version;
    }

    /// Changes a directory.
    #[inline]
    fn change<T>(&mut self, id: ListId, change: impl FnOnce(&mut Directory) -> T) -> T {
        self.note_change(id);
        let chunks = &mut self.get_mut(id).chunks;
        let before = chunks.near_bytes();
        let result = change(chunks);
        let after = chunks.near_bytes();
        self.directory_bytes = self.directory_bytes + after - before;
        result
    }

    /// Frees a list: its chunks, its key's object and its directory.
    pub fn free(&mut self, far: &mut Far, id: ListId) {
        let list = self.lists[id.0 as usize].take().expect("an entry names a list that exists");
        self.directory_bytes -= list.chunks.near_bytes();
        self.vacant.push(id.0);
        list.free(far);
    }

    /// Units: bytes.
    pub fn near_bytes(&self) -> usize {
        self.lists.capacity() * size_of::<Option<List>>()
            + self.versions.capacity() * size_of::<u64>()
            + self.vacant.capacity() * size_of::<u32>()
            + self.directory_bytes
            + self.scratch.capacity()
            + self.slices.capacity() * size_of::<FarSlice>()
    }

    /// A way through the chunks, away from an end.
    pub fn cursor(&self, shape: Shape, side: Side) -> Cursor {
        match shape {
            Shape::Small(chunk) => Cursor::Small(Some(chunk)),
            Shape::Large(id) => Cursor::Large(id, side, self.get(id).chunks.first(side)),
        }
    }

    /// Plans the pages to read for `count` elements from `start`, if they are at most `pages_max`; else
    /// (the reply will be streamed) those pages alone that tell where the range begins and ends.
    pub fn plan_range(&self, id: ListId, start: u64, count: u64, pages_max: u32, pages: &mut PageSet) {
        let mut total = 0;
        self.each_in_range(id, start, count, |_, range| {
            total += range.count;
            total <= pages_max
        });
        let short = total <= pages_max;
        let end = start + count;
        if short {
            self.each_in_range(id, start, count, |_, range| {
                pages.push(range);
                true
            });
            return;
        }
        self.plan_bounds(id, start, end, pages);
    }

    /// As [`Lists::plan_range`] for the last `count` elements, which leave the last one first: where each of them
    /// begins is to be read too, where their chunk does not tell, if that is in at most `read_max` pages.
    pub fn plan_reversed(&self, id: ListId, count: u64, pages_max: u32, read_max: u32, pages: &mut PageSet) {
        let start = self.get(id).chunks.len() - count;
        self.plan_range(id, start, count, pages_max, pages);
        let mut total = 0;
        self.each_in_range(id, start, count, |chunk, range| {
            total += if chunk.uniform().is_none() { range.count } else { 0 };
            total <= read_max
        });
        if total <= read_max {
            self.each_in_range(id, start, count, |chunk, range| {
                if chunk.uniform().is_none() {
                    pages.push(range);
                }
                true
            });
        }
    }

    /// Plans the pages that tell where the elements `start..end` begin and end.
    pub fn plan_bounds(&self, id: ListId, start: u64, end: u64, pages: &mut PageSet) {
        for (index, bound) in [(start, start), (end - 1, end)] {
            let (place, first) = self.get(id).chunks.locate(index);
            let chunk = self.get(id).chunks.get(place);
            if chunk.known_offset((bound - first) as u32).is_none() {
                pages.push(chunk.pages());
            }
        }
    }

    /// Plans to push: the pages of the end's chunk that are here stay here. Asks for none that is not.
    pub fn plan_push(&self, far: &Far, id: ListId, side: Side, pages: &mut PageSet) {
        let Some(end) = self.get(id).chunks.end(side) else { return };
        if end.len() <= CHUNK_BYTES_MAX {
            let here = far.pages_of(end.object).pages();
            here.filter(|page| far.pager.resident(page.addr(), 1).is_some())
                .for_each(|page| pages.push_page(page));
        }
    }

    /// Plans to put an element of `wire_len` bytes in the place of element `index`.
    pub fn plan_set(&self, id: ListId, index: u64, wire_len: usize, pages: &mut PageSet) {
        let (place, first) = self.get(id).chunks.locate(index);
        let chunk = self.get(id).chunks.get(place);
        let within = (index - first) as u32;
        match chunk.uniform() {
            // It is replaced as a whole.
            _ if chunk.count == 1 => {}
            Some(uniform) if uniform == wire_len => pages.push(chunk.run_pages(within, within + 1)),
            _ => pages.push(chunk.pages()),
        }
    }

    /// Shows `see` the chunks under a range and the pages to read of each, until it returns false.
    fn each_in_range(
        &self,
        id: ListId,
        start: u64,
        count: u64,
        mut see: impl FnMut(Chunk, PageRange) -> bool,
    ) {
        let chunks = &self.get(id).chunks;
        let (place, first) = chunks.locate(start);
        let (mut next, mut from, mut left) = (Some(place), (start - first) as u32, count);
        while left > 0 {
            let place = next.expect("a range lies within the list");
            let chunk = chunks.get(place);
            let here = left.min(u64::from(chunk.count - from)) as u32;
            if !see(chunk, chunk.run_pages(from, from + here)) {
                return;
            }
            left -= u64::from(here);
            from = 0;
            next = chunks.after(place);
        }
    }

    /// All pages of a list, its key's among them.
    pub fn all_pages(&self, far: &Far, id: ListId, pages: &mut PageSet) {
        let list = self.get(id);
        pages.push(far.pages_of(list.key_object));
        for chunk in list.chunks.iter() {
            pages.push(far.pages_of(chunk.object));
        }
    }
}

/// Where a list's elements are. Valid until the list changes.
#[derive(Clone, Copy, Debug)]
pub enum Shape {
    /// All in one object, beside the key.
    Small(Chunk),
    /// In the chunks of a directory.
    Large(ListId),
}

/// A way through a list's chunks.
#[derive(Clone, Copy)]
pub enum Cursor {
    /// Of a small list.
    Small(Option<Chunk>),
    /// Of a large one: where it stands, and away from which end it goes.
    Large(ListId, Side, Option<Place>),
}

impl Cursor {
    /// The next chunk, and its place if the list is large.
    #[inline]
    pub fn next(&mut self, lists: &Lists) -> Option<(Chunk, Option<Place>)> {
        match self {
            Cursor::Small(chunk) => chunk.take().map(|chunk| (chunk, None)),
            Cursor::Large(id, side, next) => {
                let place = (*next)?;
                let chunks = &lists.get(*id).chunks;
                *next = chunks.next(*side, place);
                Some((chunks.get(place), Some(place)))
            }
        }
    }
}

impl KeySpace {
    /// Where a list's elements are.
    /// # Panics
    /// If `found` is no list.
    #[inline]
    pub fn list_shape(&mut self, found: Found) -> Outcome<Shape> {
        match found.entry.kind() {
            Kind::SmallList => Ok(Shape::Small(small::read(&mut self.far, found)?)),
            Kind::LargeList => Ok(Shape::Large(ListId::of(found.entry))),
            kind => panic!("{kind:?} is no list"),
        }
    }

    /// How many elements a list has.
    #[inline]
    pub fn shape_len(&self, shape: Shape) -> u64 {
        match shape {
            Shape::Small(chunk) => u64::from(chunk.count),
            Shape::Large(id) => self.lists.get(id).chunks.len(),
        }
    }

    /// Where `count` elements from `start` lie, a slice a chunk.
    /// # Panics
    /// If the range leaves the list.
    #[inline]
    pub fn list_slices(
        &mut self,
        shape: Shape,
        start: u64,
        count: u64,
        slices: &mut Vec<FarSlice>,
    ) -> Outcome {
        let id = match shape {
            Shape::Small(chunk) => {
                slices.push(self.slice_of(chunk, start as u32, (start + count) as u32)?);
                return Ok(());
            }
            Shape::Large(id) => id,
        };
        let (place, first) = self.lists.get(id).chunks.locate(start);
        let (mut next, mut from, mut left) = (Some(place), (start - first) as u32, count);
        while left > 0 {
            let place = next.expect("a range lies within the list");
            let chunks = &self.lists.get(id).chunks;
            let chunk = chunks.get(place);
            next = chunks.after(place);
            let here = left.min(u64::from(chunk.count - from)) as u32;
            slices.push(self.slice_of(chunk, from, from + here)?);
            left -= u64::from(here);
            from = 0;
        }
        Ok(())
    }

    #[inline]
    fn slice_of(&mut self, chunk: Chunk, from: u32, to: u32) -> Outcome<FarSlice> {
        let (addr, len) = chunk.run(&mut self.far, from, to)?;
        Ok(FarSlice { addr, len, object: chunk.object })
    }

    /// Where the element `index` lies.
    /// # Panics
    /// If there is no such element.
    #[inline]
    pub fn list_element(&mut self, shape: Shape, index: u64) -> Outcome<FarSlice> {
        match shape {
            Shape::Small(chunk) => self.slice_of(chunk, index as u32, index as u32 + 1),
            Shape::Large(id) => {
                let chunks = &self.lists.get(id).chunks;
                let (place, first) = chunks.locate(index);
                let within = (index - first) as u32;
                self.slice_of(chunks.get(place), within, within + 1)
            }
        }
    }

    /// Where the last `count` elements lie, the last one first, a slice an element.
    pub fn list_slices_reversed(&mut self, shape: Shape, count: u64, slices: &mut Vec<FarSlice>) -> Outcome {
        let mut cursor = self.lists.cursor(shape, Side::Tail);
        let mut left = count;
        while left > 0 {
            let (chunk, _) = cursor.next(&self.lists).expect("the caller has checked the count");
            let here = left.min(u64::from(chunk.count)) as u32;
            let (mut addr, _) = chunk.run(&mut self.far, chunk.count - here, chunk.count)?;
            let begin = slices.len();
            for _ in 0..here {
                let len = match chunk.uniform() {
                    Some(len) => len,
                    None => wire::head_at(&mut self.far, addr)?.wire_len(),
                };
                slices.push(FarSlice { addr, len, object: FarAddr::NULL });
                addr = addr.plus(len);
            }
            slices[begin..].reverse();
            slices.last_mut().expect("here is not zero").object = chunk.object;
            left -= u64::from(here);
        }
        Ok(())
    }

    /// What a list takes: its objects and its directory. Units: bytes.
    pub fn list_bytes(&self, entry: Entry) -> usize {
        if entry.kind() == Kind::SmallList {
            return self.far.capacity_of(entry.addr());
        }
        let list = self.lists.get(ListId::of(entry));
        let chunks: usize = list.chunks.iter().map(|chunk| self.far.capacity_of(chunk.object)).sum();
        self.far.capacity_of(list.key_object) + chunks + size_of::<List>() + list.chunks.near_bytes()
    }
}
