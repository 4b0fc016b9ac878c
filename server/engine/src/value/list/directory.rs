//! The near directory of a list: which chunk holds which elements.
//!
//! ```text
//! blocks   │ block, sum 1900 │ block, sum 1920 │ ...     searched from the nearer end
//!               │ chunk │ chunk │ ... at most 128
//! ```
//!
//! Refuses to touch far memory. Ends are O(1); a place in the middle costs a step a block and a step a
//! chunk of one block: 10 M elements of 100 bytes have 520 blocks.

use super::chunk::{Chunk, Side};
use alloc::collections::VecDeque;

/// Chunks of one block: 3 KiB of near memory, which a search walks through in about 100 ns.
const BLOCK_CHUNKS_MAX: usize = 128;

/// Where a chunk stands. Bounds: good until a chunk before it, or in its block, comes or goes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Place {
    block: u32,
    slot: u32,
}

#[derive(Default)]
struct Block {
    chunks: VecDeque<Chunk>,
    /// Elements of all of them.
    sum: u64,
}

/// The chunks of one list, in order.
#[derive(Default)]
pub struct Directory {
    /// None of them is empty.
    blocks: VecDeque<Block>,
    /// Elements of all of them.
    len: u64,
    /// Room for chunks in all of them, used or not.
    capacity: usize,
}

impl Directory {
    /// How many elements there are.
    #[inline]
    pub fn len(&self) -> u64 {
        self.len
    }

    /// The chunk at an end.
    #[inline]
    pub fn end(&self, side: Side) -> Option<Chunk> {
        match side {
            Side::Head => self.blocks.front()?.chunks.front().copied(),
            Side::Tail => self.blocks.back()?.chunks.back().copied(),
        }
    }

    /// Puts another chunk in the place of the one at an end.
    /// # Panics
    /// If there is none.
    #[inline]
    pub fn set_end(&mut self, side: Side, chunk: Chunk) {
        let (block, slot) = match side {
            Side::Head => (self.blocks.front_mut(), 0),
            Side::Tail => (self.blocks.back_mut(), usize::MAX),
        };
        let block = block.expect("only a list with chunks has an end");
        let slot = slot.min(block.chunks.len() - 1);
        let old = core::mem::replace(&mut block.chunks[slot], chunk);
        block.sum = block.sum + u64::from(chunk.count) - u64::from(old.count);
        self.len = self.len + u64::from(chunk.count) - u64::from(old.count);
    }

    /// Adds a chunk at an end.
    pub fn push(&mut self, side: Side, chunk: Chunk) {
        let block = match side {
            Side::Head => self.blocks.front_mut(),
            Side::Tail => self.blocks.back_mut(),
        };
        let block = match block {
            Some(block) if block.chunks.len() < BLOCK_CHUNKS_MAX => block,
            _ => self.push_block(side),
        };
        let before = block.chunks.capacity();
        match side {
            Side::Head => block.chunks.push_front(chunk),
            Side::Tail => block.chunks.push_back(chunk),
        }
        let grown = block.chunks.capacity() - before;
        block.sum += u64::from(chunk.count);
        self.capacity += grown;
        self.len += u64::from(chunk.count);
    }

    fn push_block(&mut self, side: Side) -> &mut Block {
        if self.blocks.capacity() == 0 {
            self.blocks.reserve_exact(1);
        }
        match side {
            Side::Head => {
                self.blocks.push_front(Block::default());
                &mut self.blocks[0]
            }
            Side::Tail => {
                self.blocks.push_back(Block::default());
                self.blocks.back_mut().expect("pushed on the line above")
            }
        }
    }

    /// Takes the chunk at an end out.
    pub fn pop(&mut self, side: Side) -> Option<Chunk> {
        let block = match side {
            Side::Head => self.blocks.front_mut()?,
            Side::Tail => self.blocks.back_mut()?,
        };
        let chunk = match side {
            Side::Head => block.chunks.pop_front(),
            Side::Tail => block.chunks.pop_back(),
        };
        let chunk = chunk.expect("no block is empty");
        block.sum -= u64::from(chunk.count);
        self.len -= u64::from(chunk.count);
        if block.chunks.is_empty() {
            self.capacity -= block.chunks.capacity();
            match side {
                Side::Head => self.blocks.pop_front(),
                Side::Tail => self.blocks.pop_back(),
            };
        }
        Some(chunk)
    }

    /// The chunk at `place`.
    #[inline]
    pub fn get(&self, place: Place) -> Chunk {
        self.blocks[place.block as usize].chunks[place.slot as usize]
    }

    /// The place of the chunk that holds element `index`, and the number of that chunk's first element.
    /// # Panics
    /// If there is no such element.
    #[inline]
    pub fn locate(&self, index: u64) -> (Place, u64) {
        assert!(index < self.len, "the caller has checked the index");
        let (block, first) = self.locate_block(index);
        let chunks = &self.blocks[block].chunks;
        let sum = self.blocks[block].sum;
        if index - first < sum / 2 {
            let mut first = first;
            for (slot, chunk) in chunks.iter().enumerate() {
                if index < first + u64::from(chunk.count) {
                    return (Place { block: block as u32, slot: slot as u32 }, first);
                }
                first += u64::from(chunk.count);
            }
        } else {
            let mut end = first + sum;
            for (slot, chunk) in chunks.iter().enumerate().rev() {
                end -= u64::from(chunk.count);
                if index >= end {
                    return (Place { block: block as u32, slot: slot as u32 }, end);
                }
            }
        }
        unreachable!("a block's sum is that of its chunks")
    }

    fn locate_block(&self, index: u64) -> (usize, u64) {
        if index < self.len / 2 {
            let mut first = 0;
            for (number, block) in self.blocks.iter().enumerate() {
                if index < first + block.sum {
                    return (number, first);
                }
                first += block.sum;
            }
        } else {
            let mut end = self.len;
            for (number, block) in self.blocks.iter().enumerate().rev() {
                end -= block.sum;
                if index >= end {
                    return (number, end);
                }
            }
        }
        unreachable!("the list's length is the sum of its blocks")
    }

    /// The place behind `place`.
    #[inline]
    pub fn after(&self, place: Place) -> Option<Place> {
        let block = &self.blocks[place.block as usize];
        if (place.slot as usize) + 1 < block.chunks.len() {
            return Some(Place { slot: place.slot + 1, ..place });
        }
        ((place.block as usize) + 1 < self.blocks.len()).then_some(Place { block: place.block + 1, slot: 0 })
    }

    /// The place before `place`.
    #[inline]
    pub fn before(&self, place: Place) -> Option<Place> {
        if place.slot > 0 {
            return Some(Place { slot: place.slot - 1, ..place });
        }
        let block = place.block.checked_sub(1)?;
        Some(Place { block, slot: self.blocks[block as usize].chunks.len() as u32 - 1 })
    }

    /// The first place seen from an end.
    pub fn first(&self, side: Side) -> Option<Place> {
        let last = self.blocks.len().checked_sub(1)?;
        Some(match side {
            Side::Head => Place { block: 0, slot: 0 },
            Side::Tail => Place { block: last as u32, slot: self.blocks[last].chunks.len() as u32 - 1 },
        })
    }

    /// The next place going away from an end.
    #[inline]
    pub fn next(&self, side: Side, place: Place) -> Option<Place> {
        match side {
            Side::Head => self.after(place),
            Side::Tail => self.before(place),
        }
    }

    /// All chunks, from the head on.
    pub fn iter(&self) -> impl Iterator<Item = &Chunk> {
        self.blocks.iter().flat_map(|block| block.chunks.iter())
    }

    /// Puts `chunks` in the place of one. Places before it stay good.
    pub fn replace(&mut self, place: Place, chunks: &[Chunk]) {
        let number = place.block as usize;
        let at = place.slot as usize;
        let block = &mut self.blocks[number];
        let capacity = self.capacity - block.chunks.capacity();
        let old = block.chunks[at];
        match chunks {
            [chunk] => block.chunks[at] = *chunk,
            _ => {
                block.chunks.remove(at);
                for (offset, chunk) in chunks.iter().enumerate() {
                    block.chunks.insert(at + offset, *chunk);
                }
            }
        }
        let added: u64 = chunks.iter().map(|chunk| u64::from(chunk.count)).sum();
        block.sum = block.sum + added - u64::from(old.count);
        self.len = self.len + added - u64::from(old.count);
        if block.chunks.is_empty() {
            self.blocks.remove(number);
            self.capacity = capacity;
            return;
        }
        if block.chunks.len() * 4 < block.chunks.capacity() {
            block.chunks.shrink_to(block.chunks.len() * 2);
        }
        self.capacity = capacity + block.chunks.capacity();
        if block.chunks.len() > BLOCK_CHUNKS_MAX {
            self.split(number);
        }
    }

    fn split(&mut self, number: usize) {
        let block = &mut self.blocks[number];
        let chunks = block.chunks.split_off(block.chunks.len() / 2);
        let sum = chunks.iter().map(|chunk| u64::from(chunk.count)).sum();
        block.sum -= sum;
        self.capacity += chunks.capacity();
        self.blocks.insert(number + 1, Block { chunks, sum });
    }

    /// Units: bytes.
    #[inline]
    pub fn near_bytes(&self) -> usize {
        self.capacity * size_of::<Chunk>() + self.blocks.capacity() * size_of::<Block>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;
    use farmem::FarAddr;

    fn chunk(count: u32) -> Chunk {
        Chunk::mixed(FarAddr(8), 0, 8 * count as usize, count)
    }

    fn counts(directory: &Directory) -> Vec<u32> {
        directory.iter().map(|chunk| chunk.count).collect()
    }

    #[test]
    fn every_element_is_found_in_its_chunk() {
        let mut directory = Directory::default();
        for count in 1..=600 {
            directory.push(if count % 3 == 0 { Side::Head } else { Side::Tail }, chunk(count));
        }
        let mut index = 0;
        for count in counts(&directory) {
            for within in [0, u64::from(count) - 1] {
                let (place, first) = directory.locate(index + within);
                assert_eq!((directory.get(place).count, first), (count, index));
            }
            index += u64::from(count);
        }
        assert_eq!(index, directory.len());
    }

    #[test]
    fn a_replaced_chunk_leaves_the_others_in_order() {
        let mut directory = Directory::default();
        for count in 1..=300 {
            directory.push(Side::Tail, chunk(count));
        }
        let mut model = counts(&directory);
        for (at, with) in [(250usize, 3u32), (130, 0), (129, 1), (0, 2), (0, 0)] {
            let index: u64 = model[..at].iter().map(|count| u64::from(*count)).sum();
            let (place, _) = directory.locate(index);
            let chunks: Vec<Chunk> = (0..with).map(|number| chunk(1000 + number)).collect();
            directory.replace(place, &chunks);
            model.splice(at..at + 1, chunks.iter().map(|chunk| chunk.count));
            assert_eq!(counts(&directory), model);
            assert_eq!(directory.len(), model.iter().map(|count| u64::from(*count)).sum());
        }
    }

    #[test]
    fn a_walk_from_either_end_sees_every_chunk() {
        let mut directory = Directory::default();
        for count in 1..=300 {
            directory.push(Side::Tail, chunk(count));
        }
        for side in [Side::Head, Side::Tail] {
            let mut seen = Vec::new();
            let mut next = directory.first(side);
            while let Some(place) = next {
                seen.push(directory.get(place).count);
                next = directory.next(side, place);
            }
            if side == Side::Tail {
                seen.reverse();
            }
            assert_eq!(seen, counts(&directory));
        }
    }

    #[test]
    fn popping_the_last_chunk_leaves_nothing() {
        let mut directory = Directory::default();
        directory.push(Side::Head, chunk(4));
        assert_eq!(directory.pop(Side::Tail).map(|chunk| chunk.count), Some(4));
        assert_eq!((directory.pop(Side::Head), directory.len()), (None, 0));
    }
}
