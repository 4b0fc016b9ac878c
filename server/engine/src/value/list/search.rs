//! Looking for an element: chunk by chunk, and not in those that cannot hold it.

use super::chunk::{CHUNK_BYTES_MAX, Chunk};
use super::wire::{self, Head};
use super::{ListId, Lists};
use crate::error::Outcome;
use crate::far::Far;
use crate::value::string::Source;
use alloc::vec::Vec;
use farmem::PageSet;

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

impl Lists {
    /// Plans the chunks that may hold an element of `wire_len` bytes, if they have at most `pages_max`
    /// pages together; a longer list is read chunk by chunk in execution.
    pub fn plan_search(&self, id: ListId, wire_len: usize, pages_max: u32, pages: &mut PageSet) {
        let candidates = || self.get(id).chunks.iter().filter(|chunk| chunk.may_contain(wire_len));
        let mut total = 0;
        let few = candidates().all(|chunk| {
            total += chunk.pages().count;
            total <= pages_max
        });
        if few {
            candidates().for_each(|chunk| pages.push(chunk.pages()));
        }
    }
}

/// Finds the elements of a chunk whose data is `needle`. Leaves the chunk's bytes in `wire`, unless it is
/// so long that it has one element alone.
pub fn matches_in(
    far: &mut Far,
    chunk: Chunk,
    needle: Source,
    wire: &mut Vec<u8>,
    matches: &mut Vec<Match>,
) -> Outcome {
    matches.clear();
    wire.clear();
    if !chunk.may_contain(wire::wire_len(needle.len())) {
        return Ok(());
    }
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
        if wire::matches(far, addr, head, needle)? {
            matches.push(Match { index, at, len: head.wire_len() });
        }
        at += head.wire_len();
    }
    Ok(())
}
