//! Looking for an element: chunk by chunk, and not in those that cannot hold it.
//!
//! ```text
//!   short list   every candidate is here ──► search_list, at once
//!   long list    ListSearch: candidates borrowed ──► plan ─► (fetch) ─► step ─► plan ─► ... others run in between
//! ```
//!
//! Refuses to change anything: whoever searches in order to change asks at the end whether the list is
//! still the one that was searched ([`ListSearch::version`]).

use super::chunk::{CHUNK_BYTES_MAX, Chunk, Side};
use super::directory::Place;
use super::wire::{self, Head};
use super::{ListId, Lists, Shape};
use crate::error::Outcome;
use crate::far::Far;
use crate::keyspace::KeySpace;
use crate::value::string::Source;
use alloc::collections::VecDeque;
use alloc::vec::Vec;
use farmem::{PAGE_SIZE, PageSet};

/// An element that was looked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Match {
    /// Its number in the chunk.
    pub index: u32,
    /// Where it begins. Units: bytes from the chunk's first element.
    pub at: usize,
    /// Its length on the wire. Units: bytes.
    pub len: usize,
}

/// What is looked for, and where.
#[derive(Clone, Copy)]
pub struct Wanted {
    /// The end at which the search begins.
    pub side: Side,
    /// Units: bytes.
    pub wire_len: usize,
    /// Elements to look at.
    pub elements_max: u64,
}

/// A chunk that may hold what is looked for.
#[derive(Clone, Copy, Debug)]
pub struct Candidate {
    pub chunk: Chunk,
    /// `None` in a small list.
    pub place: Option<Place>,
    /// Elements between it and the end at which the search begins.
    pub before: u64,
}

/// What one candidate holds.
pub struct Finding<'a> {
    pub at: Candidate,
    /// From the head on; there may be none.
    pub matches: &'a mut Vec<Match>,
    /// The chunk's bytes, unless it is so long that it has one element alone.
    pub wire: &'a [u8],
}

impl Lists {
    fn candidates(&self, shape: Shape, wanted: Wanted) -> impl Iterator<Item = Candidate> + '_ {
        let mut cursor = self.cursor(shape, wanted.side);
        let mut before = 0;
        let all = core::iter::from_fn(move || {
            let (chunk, place) = cursor.next(self)?;
            let at = Candidate { chunk, place, before };
            before += u64::from(chunk.count);
            Some(at)
        });
        all.take_while(move |at| at.before < wanted.elements_max)
            .filter(move |at| at.chunk.may_contain(wanted.wire_len))
    }

    /// Whether all candidates have at most `pages_max` pages together, so that one plan takes them.
    pub fn is_short_search(&self, id: ListId, wanted: Wanted, pages_max: u32) -> bool {
        let mut total = 0;
        self.candidates(Shape::Large(id), wanted).all(|at| {
            total += at.chunk.pages().count;
            total <= pages_max
        })
    }

    /// Plans all candidates.
    pub fn plan_short_search(&self, id: ListId, wanted: Wanted, pages: &mut PageSet) {
        self.candidates(Shape::Large(id), wanted).for_each(|at| pages.push(at.chunk.pages()));
    }
}

impl KeySpace {
    /// Looks into the candidates one after the other, until `see` has enough.
    pub fn search_list(
        &mut self,
        shape: Shape,
        wanted: Wanted,
        needle: Source,
        mut see: impl FnMut(&mut Far, Finding) -> Outcome<bool>,
    ) -> Outcome {
        let (mut wire, mut matches) = (Vec::new(), Vec::new());
        for at in self.lists.candidates(shape, wanted) {
            matches_in(&mut self.far, at.chunk, needle, &mut wire, &mut matches)?;
            if see(&mut self.far, Finding { at, matches: &mut matches, wire: &wire })? {
                break;
            }
        }
        Ok(())
    }
}

/// A search through a long list, unfinished. What others write meanwhile is not seen.
pub struct ListSearch {
    /// Those that are still to be looked into, borrowed.
    candidates: VecDeque<Candidate>,
    /// Bytes of the first one's only element that are known to be the needle's.
    equal: usize,
    version: u64,
}

impl ListSearch {
    /// Begins to search a list: nothing is read yet.
    pub fn begin(keys: &mut KeySpace, id: ListId, wanted: Wanted) -> ListSearch {
        let candidates: VecDeque<Candidate> = keys.lists.candidates(Shape::Large(id), wanted).collect();
        candidates.iter().for_each(|at| keys.far.borrow_object(at.chunk.object));
        ListSearch { candidates, equal: 0, version: keys.lists.version(id) }
    }

    /// The [`Lists::version`] of the list that is searched.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// How many candidates the next step looks into: whole chunks of `pages_max` together, or one element
    /// that has a chunk of its own.
    fn next_step(&self, pages_max: u32) -> usize {
        let mut left = pages_max;
        let fits = self.candidates.iter().take_while(|at| {
            let pages = at.chunk.pages().count;
            let fits = pages <= left && at.chunk.len() <= CHUNK_BYTES_MAX;
            left = left.saturating_sub(pages);
            fits
        });
        fits.count().max(1).min(self.candidates.len())
    }

    /// The part of an element with a chunk of its own that the next step compares. Units: bytes.
    fn next_part(&self, needle: Source, pages_max: u32) -> usize {
        (needle.len() - self.equal).min(pages_max.max(1) as usize * PAGE_SIZE)
    }

    /// Names the pages of the next step, the needle's among them.
    pub fn plan(&self, needle: Source, pages_max: u32, pages: &mut PageSet) {
        let Some(first) = self.candidates.front() else { return };
        let (from, len) = if first.chunk.len() > CHUNK_BYTES_MAX {
            let len = self.next_part(needle, pages_max);
            pages.push_bytes(first.chunk.addr().plus(wire::head_len(needle.len()) + self.equal), len);
            (self.equal, len)
        } else {
            let step = self.candidates.iter().take(self.next_step(pages_max));
            step.for_each(|at| pages.push(at.chunk.pages()));
            (0, needle.len())
        };
        if let Source::Spooled(spooled) = needle {
            pages.push_bytes(spooled.addr.plus(from), len);
        }
    }

    /// Looks into what [`ListSearch::plan`] has named. Says whether the search is over: `see` has enough, or there are
    /// no more candidates.
    /// # Errors
    /// Far memory is lost, or `see` has failed; the search is then to be ended.
    pub fn step(
        &mut self,
        far: &mut Far,
        needle: Source,
        pages_max: u32,
        mut see: impl FnMut(&mut Far, Finding) -> Outcome<bool>,
    ) -> Outcome<bool> {
        let (mut wire, mut matches) = (Vec::new(), Vec::new());
        for _ in 0..self.next_step(pages_max) {
            let at = self.candidates[0];
            if at.chunk.len() > CHUNK_BYTES_MAX {
                let part = self.next_part(needle, pages_max);
                let data = at.chunk.addr().plus(wire::head_len(needle.len()));
                let same = wire::part_equals(far, data, needle, self.equal, part)?;
                self.equal += part;
                if same && self.equal < needle.len() {
                    return Ok(false);
                }
                self.equal = 0;
                matches.clear();
                matches.extend(same.then_some(Match { index: 0, at: 0, len: at.chunk.len() }));
            } else {
                matches_in(far, at.chunk, needle, &mut wire, &mut matches)?;
            }
            let is_enough = see(far, Finding { at, matches: &mut matches, wire: &wire })?;
            self.candidates.pop_front();
            far.return_object(at.chunk.object);
            if is_enough {
                return Ok(true);
            }
        }
        Ok(self.candidates.is_empty())
    }

    /// Gives back what was not looked into.
    pub fn end(self, far: &mut Far) {
        self.candidates.iter().for_each(|at| far.return_object(at.chunk.object));
    }

    /// Near memory that this takes. Units: bytes.
    pub fn near_bytes(&self) -> usize {
        self.candidates.capacity() * size_of::<Candidate>()
    }
}

/// Finds the elements of a chunk whose data is `needle`. Leaves the chunk's bytes in `wire`, unless it is
/// so long that it has one element alone.
fn matches_in(
    far: &mut Far,
    chunk: Chunk,
    needle: Source,
    wire: &mut Vec<u8>,
    matches: &mut Vec<Match>,
) -> Outcome {
    matches.clear();
    wire.clear();
    let data = match needle {
        Source::Near(data) if chunk.len() <= CHUNK_BYTES_MAX => data,
        _ => return matches_one_by_one(far, chunk, needle, matches),
    };
    far.copy_out(chunk.addr(), chunk.len(), wire)?;
    let mut at = 0;
    for index in 0..chunk.count {
        let head = Head::parse(&wire[at..]).expect("a chunk has as many elements as it says");
        let len = head.wire_len();
        if head.len == data.len() && wire[at + head.size..at + head.size + head.len] == *data {
            matches.push(Match { index, at, len });
        }
        at += len;
    }
    Ok(())
}

/// As [`matches_in`], where element or needle do not fit in near memory.
fn matches_one_by_one(far: &mut Far, chunk: Chunk, needle: Source, matches: &mut Vec<Match>) -> Outcome {
    let mut at = 0;
    for index in 0..chunk.count {
        let addr = chunk.addr().plus(at);
        let head = wire::head_at(far, addr)?;
        if head.len == needle.len() && wire::part_equals(far, addr.plus(head.size), needle, 0, head.len)? {
            matches.push(Match { index, at, len: head.wire_len() });
        }
        at += head.wire_len();
    }
    Ok(())
}
