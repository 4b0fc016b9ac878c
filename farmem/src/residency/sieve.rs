//! The order in which eviction looks at frames: SIEVE.
//!
//! ```text
//! head ◄── newest ... ◄── hand ... ◄── oldest ── tail
//!                         moves ──► head, then starts at the tail again
//! ```
//!
//! New pages enter at the head; survivors keep their place, so that one round of the hand through a scan
//! costs the hot pages nothing. Chosen by measurement: farmem/EVICTION.md. Knows places only; whether a frame
//! may go is asked of the caller.
//!
//! Source: Zhang et al., "SIEVE is Simpler than LRU", NSDI'24.

use crate::page::FrameNo;
use alloc::vec::Vec;

const NONE: u32 = u32::MAX;
const UNLINKED: u32 = u32::MAX - 1;

#[derive(Clone, Copy)]
struct Place {
    towards_head: u32,
    towards_tail: u32,
}

/// A list of the frames that hold a page, and the hand. Eight bytes a frame.
pub(super) struct Sieve {
    places: Vec<Place>,
    head: u32,
    tail: u32,
    hand: u32,
}

impl Sieve {
    pub(super) const fn new() -> Sieve {
        Sieve { places: Vec::new(), head: NONE, tail: NONE, hand: NONE }
    }

    /// Makes room for frames without touching the memory.
    pub(super) fn reserve(&mut self, frames: usize) {
        self.places.reserve_exact(frames.saturating_sub(self.places.len()));
    }

    /// Puts a frame at the head, unless it has a place.
    pub(super) fn insert(&mut self, frame: FrameNo) {
        let index = frame.0 as usize;
        while self.places.len() <= index {
            self.places.push(Place { towards_head: UNLINKED, towards_tail: UNLINKED });
        }
        if self.places[index].towards_head != UNLINKED {
            return;
        }
        self.places[index] = Place { towards_head: NONE, towards_tail: self.head };
        match self.head {
            NONE => self.tail = frame.0,
            head => self.places[head as usize].towards_head = frame.0,
        }
        self.head = frame.0;
    }

    /// Takes a frame out, if it has a place.
    pub(super) fn remove(&mut self, frame: FrameNo) {
        let Some(place) = self.places.get_mut(frame.0 as usize) else { return };
        let Place { towards_head, towards_tail } = *place;
        if towards_head == UNLINKED {
            return;
        }
        *place = Place { towards_head: UNLINKED, towards_tail: UNLINKED };
        match towards_head {
            NONE => self.head = towards_tail,
            neighbour => self.places[neighbour as usize].towards_tail = towards_tail,
        }
        match towards_tail {
            NONE => self.tail = towards_head,
            neighbour => self.places[neighbour as usize].towards_head = towards_head,
        }
        if self.hand == frame.0 {
            self.hand = towards_head;
        }
    }

    /// Steps the hand over the next frame.
    #[inline]
    pub(super) fn step(&mut self) -> Option<FrameNo> {
        let frame = if self.hand == NONE { self.tail } else { self.hand };
        if frame == NONE {
            return None;
        }
        self.hand = self.places[frame as usize].towards_head;
        Some(FrameNo(frame))
    }

    /// Units: bytes.
    pub(super) fn near_bytes(&self) -> usize {
        self.places.len() * size_of::<Place>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hand_goes_from_the_oldest_to_the_newest_and_round_again() {
        let mut sieve = Sieve::new();
        [4, 0, 2].into_iter().for_each(|frame| sieve.insert(FrameNo(frame)));
        let steps: Vec<u32> = (0..4).filter_map(|_| sieve.step()).map(|frame| frame.0).collect();
        assert_eq!(steps, [4, 0, 2, 4]);
        sieve.remove(FrameNo(0)); // The hand stands on it.
        assert_eq!(sieve.step(), Some(FrameNo(2)));
        sieve.insert(FrameNo(0));
        sieve.remove(FrameNo(4));
        sieve.remove(FrameNo(2));
        sieve.remove(FrameNo(2));
        assert_eq!(sieve.step(), Some(FrameNo(0)));
        sieve.remove(FrameNo(0));
        assert_eq!(sieve.step(), None);
    }
}
