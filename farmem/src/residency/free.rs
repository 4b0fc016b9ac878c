//! The free frames, taken in the order of their addresses.
//!
//! ```text
//! frames   0        1 1 1 1        0 0 0 0 0       1 1        1 = free
//!                   ▲ cursor: taken next, then the one behind it ... then round again
//! ```
//!
//! Frames that are taken together become free together, because eviction goes by age: the free ones lie just
//! ahead of the cursor, in runs. So the pages of a value lie in neighbouring frames, which share lines of the
//! machine's page tables and leave in fewer slices. A stack of free frames forgets that order within some
//! rounds. Knows numbers only; what a frame holds is the frame table's.

use crate::page::FrameNo;
use alloc::vec::Vec;

/// Levels of words, 64 to one: 64^6 is more than there are frame numbers.
const LEVELS: usize = 6;

/// A set of frames: a bit each, and above each 64 words of bits a word that tells which are not zero.
pub(super) struct FreeFrames {
    levels: [Vec<u64>; LEVELS],
    cursor: usize,
    count: u32,
}

impl FreeFrames {
    pub(super) const fn new() -> FreeFrames {
        FreeFrames { levels: [const { Vec::new() }; LEVELS], cursor: 0, count: 0 }
    }

    /// Makes room for frames below `frames`, so that no insertion allocates.
    #[inline]
    pub(super) fn reserve(&mut self, frames: usize) {
        if self.levels[0].len() * 64 < frames {
            self.grow(frames);
        }
    }

    #[cold]
    fn grow(&mut self, frames: usize) {
        let mut words = frames;
        for level in &mut self.levels {
            words = words.div_ceil(64);
            if level.len() < words {
                level.reserve_exact(words - level.len());
                level.resize(words, 0);
            }
        }
    }

    /// Adds a frame that is not in the set.
    #[inline]
    pub(super) fn insert(&mut self, frame: FrameNo) {
        let mut index = frame.0 as usize;
        if index / 64 >= self.levels[0].len() {
            self.reserve(index + 1);
        }
        self.count += 1;
        for level in &mut self.levels {
            let word = &mut level[index / 64];
            let was_empty = *word == 0;
            *word |= 1 << (index % 64);
            if !was_empty {
                return;
            }
            index /= 64;
        }
    }

    /// Takes the next frame at or behind the cursor.
    #[inline]
    pub(super) fn take(&mut self) -> Option<FrameNo> {
        if self.count == 0 {
            return None;
        }
        let found = self.next_from(self.cursor).or_else(|| self.next_from(0));
        let found = found.expect("the set is not empty");
        self.cursor = found + 1;
        self.count -= 1;
        let mut index = found;
        for level in &mut self.levels {
            let word = &mut level[index / 64];
            *word &= !(1 << (index % 64));
            if *word != 0 {
                break;
            }
            index /= 64;
        }
        Some(FrameNo(found as u32))
    }

    /// The first frame of the set that is not below `start`.
    #[inline]
    fn next_from(&self, start: usize) -> Option<usize> {
        let mut index = start;
        for (height, level) in self.levels.iter().enumerate() {
            let word = level.get(index / 64)? & (!0 << (index % 64));
            if word != 0 {
                let first = index / 64 * 64 + word.trailing_zeros() as usize;
                let below = self.levels[..height].iter().rev();
                return Some(below.fold(first, |at, level| at * 64 + level[at].trailing_zeros() as usize));
            }
            index = index / 64 + 1;
        }
        None
    }

    #[inline]
    pub(super) fn len(&self) -> u32 {
        self.count
    }

    /// Units: bytes.
    pub(super) fn near_bytes(&self) -> usize {
        self.levels.iter().map(|level| level.capacity() * size_of::<u64>()).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::collections::BTreeSet;

    #[test]
    fn frames_are_taken_upwards_and_round_again() {
        let mut free = FreeFrames::new();
        [70, 3, 5000, 4, 300_000].into_iter().for_each(|frame| free.insert(FrameNo(frame)));
        assert_eq!([free.take(), free.take()], [Some(FrameNo(3)), Some(FrameNo(4))]);
        free.insert(FrameNo(3)); // Behind the cursor: it waits for the next round.
        let rest: Vec<u32> = core::iter::from_fn(|| free.take()).map(|frame| frame.0).collect();
        assert_eq!(rest, [70, 5000, 300_000, 3]);
        assert_eq!((free.len(), free.take()), (0, None));
    }

    #[test]
    fn it_is_a_set() {
        let mut free = FreeFrames::new();
        let (mut model, mut cursor, mut random) = (BTreeSet::new(), 0, 1u64);
        for _ in 0..100_000 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let frame = (random >> 33) as u32 % 20_000;
            if random >> 63 == 0 {
                if model.insert(frame) {
                    free.insert(FrameNo(frame));
                }
            } else {
                let wanted = model.range(cursor..).next().or(model.first()).copied();
                assert_eq!(free.take(), wanted.map(FrameNo));
                if let Some(frame) = wanted {
                    model.remove(&frame);
                    cursor = frame + 1;
                }
            }
            assert_eq!(free.len() as usize, model.len());
        }
    }
}
