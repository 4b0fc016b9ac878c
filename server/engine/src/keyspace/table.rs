//! A hash table of small slots that grows in small steps and is walked in hash order.
//!
//! ```text
//!   fingerprint      directory            segments (entries in hash order)
//!   00...... ------> [ 0 ] -------------> 0: depth 1, [ . a b . c ... ]
//!   01...... ------> [ 0 ] ---'
//!   10...... ------> [ 1 ] -------------> 1: depth 2, [ d . e f . ... ]
//!   11...... ------> [ 2 ] -------------> 2: depth 2, [ . g . h i ... ]
//! ```
//!
//! The directory (extendible hashing) is indexed by the leading bits of the fingerprint. A full segment
//! grows by an eighth, or splits in two when it is large; a sparse one shrinks, and two small buddies
//! merge. So one insert moves at most one segment's entries, whatever the table holds.
//!
//! Refuses to see keys: all that it knows of an entry is its 40-bit fingerprint, and two entries may
//! have the same one. Which of them is meant is for the caller, who can read the key.

mod segment;

use alloc::vec;
use alloc::vec::Vec;
use core::iter::FusedIterator;
use core::mem::size_of;

use segment::Segment;

/// A segment with this many entries splits: 8192 * 16 bytes / 0.775 = 165 KiB are moved at once.
pub const SEGMENT_ENTRIES_MAX: usize = 8192;
/// A full segment this large splits early rather than growing once more for a few entries.
const SPLIT_ENTRIES_MIN: usize = SEGMENT_ENTRIES_MAX / 8 * 7;
/// Two buddies merge when they have no more than this together: far below a split, so that a table
/// whose size hovers does neither.
const MERGE_ENTRIES_MAX: usize = SEGMENT_ENTRIES_MAX / 4;
/// The most leading bits that the directory tells apart: 2^20 segments * 4096 = 4 G entries.
const DEPTH_MAX: u8 = 20;
/// The directory has at most so many words a segment, so that many equal fingerprints, which no split
/// can part, do not double it for nothing. An even hash needs two.
const DIRECTORY_PER_SEGMENT_MAX: usize = 16;
/// Slots that [`Table::random`] tries before it takes the next entry in order. Segments are more than
/// half full, so all of them are empty with odds of 2^-64.
const RANDOM_TRIES_MAX: usize = 64;
/// Slots that a search looks at together: one cache line of 16-byte slots. Five in six entries lie no
/// further than that from their home; the others take a second look.
const WINDOW: usize = 4;
/// What an allocator adds to each allocation, for [`Table::near_bytes`].
const ALLOCATION_OVERHEAD: usize = 16;

/// Bits of a key's hash that a slot keeps.
pub const HASH_BITS: u32 = 40;

/// What a [`Table`] holds: a small value that carries its own fingerprint.
pub trait Slot: Copy {
    /// The value of a slot without an entry.
    const EMPTY: Self;
    /// Whether this is [`Slot::EMPTY`].
    fn is_empty(&self) -> bool;
    /// The fingerprint: `HASH_BITS` bits of a hash. It never changes while the entry is in a table.
    /// Bounds: zero for [`Slot::EMPTY`] and for no entry, so that a search need not tell them apart.
    fn hash40(&self) -> u64;
}

/// Where an entry lies. Bounds: good until the next insert, remove or clear.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Position {
    segment: u32,
    slot: u32,
}

/// The table.
pub struct Table<S> {
    directory: Vec<u32>,
    segments: Vec<Segment<S>>,
    /// The directory has 2^depth words.
    depth: u8,
    /// How many segments are as deep as the directory: without one it is halved.
    deepest: u32,
    len: usize,
    /// Slots of all segments, empty ones too.
    slots: usize,
    moved: u64,
}

impl<S: Slot> Default for Table<S> {
    fn default() -> Table<S> {
        Table::new()
    }
}

impl<S: Slot> Table<S> {
    /// A table without entries.
    pub fn new() -> Table<S> {
        let segments = vec![Segment::new(0, 0)];
        Table { directory: vec![0], segments, depth: 0, deepest: 1, len: 0, slots: 0, moved: 0 }
    }

    /// How many entries there are.
    #[inline]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The near memory that the table takes, its spare room and the allocator's headers included.
    pub fn near_bytes(&self) -> usize {
        let segments = self.segments.capacity() * size_of::<Segment<S>>();
        let headers = (self.segments.len() + 2) * ALLOCATION_OVERHEAD;
        self.slots * size_of::<S>() + segments + headers + self.directory.capacity() * size_of::<u32>()
    }

    /// Entries that inserts and removes have moved since the start: what growth costs, in a unit that
    /// is the same on every machine.
    pub fn moved(&self) -> u64 {
        self.moved
    }

    /// Where the entries with this fingerprint lie: mostly none or one.
    #[inline]
    pub fn find(&self, hash40: u64) -> Matches<'_, S> {
        debug_assert!(hash40 != 0, "zero is the fingerprint of no entry");
        let number = self.directory[leading(hash40, self.depth) as usize];
        let segment = &self.segments[number as usize];
        let home = segment.home(hash40);
        let (equal, more) = window(segment.slots(), home, hash40);
        Matches { slots: segment.slots(), hash40, segment: number, from: home as u32, equal, more }
    }

    /// The entry at `position`.
    #[inline]
    pub fn get(&self, position: Position) -> &S {
        &self.segments[position.segment as usize].slots()[position.slot as usize]
    }

    /// The entry at `position`, to be changed in place; its fingerprint must stay and it must not
    /// become empty.
    #[inline]
    pub fn get_mut(&mut self, position: Position) -> &mut S {
        self.segments[position.segment as usize].slot_mut(position.slot as usize)
    }

    /// Adds an entry, beside those that have the same fingerprint.
    /// # Panics
    /// If `slot` is empty or its fingerprint is zero.
    pub fn insert(&mut self, slot: S) -> Position {
        assert!(!slot.is_empty() && slot.hash40() != 0, "an entry has a value and a fingerprint");
        let mut at = self.segment_of(slot.hash40());
        if self.segments[at].is_full() || self.segments[at].len() >= SEGMENT_ENTRIES_MAX {
            self.make_room(at);
            at = self.segment_of(slot.hash40());
        }
        let inserted = match self.segments[at].insert(slot) {
            Some(inserted) => inserted,
            None => {
                self.relaid(at, Segment::lengthen);
                self.segments[at].insert(slot).expect("a tail has a free slot once it was made longer")
            }
        };
        self.len += 1;
        self.moved += inserted.shifted as u64;
        position(at, inserted.index)
    }

    /// Takes an entry out. All positions are void after it.
    /// # Panics
    /// If nothing lies at `position`.
    pub fn remove(&mut self, position: Position) -> S {
        let at = position.segment as usize;
        let removed = self.segments[at].remove(position.slot as usize);
        self.len -= 1;
        if !self.merge(at) {
            self.relaid(at, Segment::shrink_if_sparse);
        }
        removed
    }

    /// Gives up all entries and all memory.
    pub fn clear(&mut self) {
        *self = Table { moved: self.moved, ..Table::new() };
    }

    /// Some entry, nearly evenly chosen by `random`, a number of which every bit is random.
    pub fn random(&self, random: u64) -> Option<(Position, S)> {
        if self.is_empty() {
            return None;
        }
        let mut state = random;
        for _ in 0..RANDOM_TRIES_MAX {
            let drawn = mix(&mut state);
            let at = self.segment_of(drawn >> (64 - HASH_BITS));
            let slots = self.segments[at].slots();
            let index = (((mix(&mut state) >> 32) * slots.len() as u64) >> 32) as usize;
            if let Some(slot) = slots.get(index).filter(|slot| !slot.is_empty()) {
                return Some((position(at, index), *slot));
            }
        }
        let from = random as usize % self.segments.len();
        let (after, before) = (from..self.segments.len(), 0..from);
        after.chain(before).find_map(|at| {
            let index = self.segments[at].slots().iter().position(|slot| !slot.is_empty())?;
            Some((position(at, index), self.segments[at].slots()[index]))
        })
    }

    /// Shows `see` at least `at_least` further entries in hash order, beginning at `cursor`, and returns
    /// the cursor to go on from; 0 begins, and 0 says that the end was reached.
    ///
    /// A cursor is a fingerprint, whose place in the order no growth or shrinking changes: an entry that
    /// stays in the table is seen exactly once by a scan that runs to its end. Entries with the same
    /// fingerprint are seen together.
    pub fn scan(&self, cursor: u64, at_least: usize, mut see: impl FnMut(&S)) -> u64 {
        if cursor >> HASH_BITS != 0 {
            return 0;
        }
        let mut from = cursor;
        let mut last = from;
        let mut seen = 0;
        loop {
            let segment = &self.segments[self.segment_of(from)];
            let run = segment.slots().get(segment.home(from)..).unwrap_or_default();
            for slot in run.iter().filter(|slot| !slot.is_empty() && slot.hash40() >= from) {
                let hash40 = slot.hash40();
                if seen >= at_least.max(1) && hash40 != last {
                    return hash40;
                }
                see(slot);
                seen += 1;
                last = hash40;
            }
            from = (u64::from(segment.prefix()) + 1) << (HASH_BITS - u32::from(segment.depth()));
            if from >> HASH_BITS != 0 {
                return 0;
            }
        }
    }

    /// All entries, in no order that means anything.
    pub fn iter(&self) -> impl Iterator<Item = &S> + '_ {
        self.segments.iter().flat_map(Segment::slots).filter(|slot| !slot.is_empty())
    }

    #[inline]
    fn segment_of(&self, hash40: u64) -> usize {
        self.directory[leading(hash40, self.depth) as usize] as usize
    }

    #[cold]
    fn make_room(&mut self, at: usize) {
        let splits = self.segments[at].len() >= SPLIT_ENTRIES_MIN && self.may_split(at);
        if splits {
            self.split(at);
        } else if self.segments[at].is_full() {
            self.relaid(at, Segment::grow);
        }
    }

    fn may_split(&self, at: usize) -> bool {
        let depth = self.segments[at].depth();
        let doubled = self.directory.len() * 2;
        depth < DEPTH_MAX
            && (depth < self.depth || doubled <= self.segments.len() * DIRECTORY_PER_SEGMENT_MAX)
    }

    /// Lets `change` lay a segment out afresh and keeps the sums true.
    fn relaid(&mut self, at: usize, change: impl FnOnce(&mut Segment<S>) -> usize) {
        let segment = &mut self.segments[at];
        self.slots -= segment.slots().len();
        self.moved += change(segment) as u64;
        self.slots += segment.slots().len();
    }

    fn split(&mut self, at: usize) {
        if self.segments[at].depth() == self.depth {
            self.directory = self.directory.iter().flat_map(|&segment| [segment, segment]).collect();
            self.depth += 1;
            self.deepest = 0;
        }
        let lower = &mut self.segments[at];
        self.moved += lower.len() as u64;
        self.slots -= lower.slots().len();
        let upper = lower.split();
        self.slots += lower.slots().len() + upper.slots().len();
        if upper.depth() == self.depth {
            self.deepest += 2;
        }
        self.segments.push(upper);
        self.point_directory(self.segments.len() - 1);
    }

    /// Merges the segment with its buddy while both are small. Returns whether it did.
    fn merge(&mut self, at: usize) -> bool {
        let mut at = at;
        let mut merged = false;
        while let Some(buddy) = self.small_buddy(at) {
            let (lower, upper) = if self.segments[at].prefix() & 1 == 0 { (at, buddy) } else { (buddy, at) };
            at = self.merge_into(lower, upper);
            merged = true;
        }
        merged
    }

    fn small_buddy(&self, at: usize) -> Option<usize> {
        let segment = &self.segments[at];
        let depth = segment.depth();
        if depth == 0 || segment.len() > MERGE_ENTRIES_MAX {
            return None;
        }
        let first = ((segment.prefix() ^ 1) as usize) << (self.depth - depth);
        let buddy = self.directory[first] as usize;
        let fits = self.segments[buddy].len() + segment.len() <= MERGE_ENTRIES_MAX;
        (fits && self.segments[buddy].depth() == depth).then_some(buddy)
    }

    /// Moves the entries of `upper` to `lower`, fills its place with the last segment, and returns where
    /// the merged one lies.
    fn merge_into(&mut self, lower: usize, upper: usize) -> usize {
        let gone = self.segments.swap_remove(upper);
        let merged = if lower == self.segments.len() { upper } else { lower };
        if upper < self.segments.len() {
            self.point_directory(upper);
        }
        if gone.depth() == self.depth {
            self.deepest -= 2;
        }
        let lower = &mut self.segments[merged];
        self.moved += (lower.len() + gone.len()) as u64;
        self.slots -= lower.slots().len() + gone.slots().len();
        lower.merge(gone);
        self.slots += lower.slots().len();
        self.point_directory(merged);
        self.halve_directory();
        merged
    }

    /// Writes the number of a segment into every word of the directory that leads to it.
    fn point_directory(&mut self, at: usize) {
        let segment = &self.segments[at];
        let shift = self.depth - segment.depth();
        let first = (segment.prefix() as usize) << shift;
        let number = u32::try_from(at).expect("there are at most 2^DEPTH_MAX segments");
        self.directory[first..first + (1 << shift)].fill(number);
    }

    /// Halves the directory for as long as no segment needs all of its bits.
    fn halve_directory(&mut self) {
        while self.deepest == 0 && self.depth > 0 {
            self.directory = self.directory.iter().step_by(2).copied().collect();
            self.depth -= 1;
            self.segments.shrink_to(self.directory.len());
            let deepest = self.segments.iter().filter(|segment| segment.depth() == self.depth).count();
            self.deepest = u32::try_from(deepest).expect("there are at most 2^DEPTH_MAX segments");
        }
    }
}

/// Where the entries with one fingerprint lie.
#[derive(Clone)]
pub struct Matches<'a, S> {
    slots: &'a [S],
    hash40: u64,
    segment: u32,
    /// The first slot of the window that was looked at.
    from: u32,
    /// A bit for each slot of the window that has the fingerprint and was not given out yet.
    equal: u32,
    /// Whether the next window may have some.
    more: bool,
}

/// Looks at the `WINDOW` slots after `from` at once, without a branch that depends on what lies there:
/// how far an entry is from its home is a coin toss that no branch predictor wins.
#[inline]
fn window<S: Slot>(slots: &[S], from: usize, hash40: u64) -> (u32, bool) {
    let Some(window) = slots.get(from..).and_then(|rest| rest.first_chunk::<WINDOW>()) else {
        return last_window(slots, from, hash40);
    };
    let equal =
        window.iter().enumerate().fold(0, |bits, (i, slot)| bits | u32::from(slot.hash40() == hash40) << i);
    let last = &window[WINDOW - 1];
    (equal, !last.is_empty() & (last.hash40() <= hash40))
}

#[cold]
fn last_window<S: Slot>(slots: &[S], from: usize, hash40: u64) -> (u32, bool) {
    let bits = slots.iter().skip(from).enumerate();
    (bits.fold(0, |bits, (i, slot)| bits | u32::from(slot.hash40() == hash40) << i), false)
}

impl<S: Slot> Iterator for Matches<'_, S> {
    type Item = Position;

    #[inline]
    fn next(&mut self) -> Option<Position> {
        while self.equal == 0 {
            if !self.more {
                return None;
            }
            self.from += WINDOW as u32;
            (self.equal, self.more) = window(self.slots, self.from as usize, self.hash40);
        }
        let slot = self.from + self.equal.trailing_zeros();
        self.equal &= self.equal - 1;
        Some(Position { segment: self.segment, slot })
    }
}

impl<S: Slot> FusedIterator for Matches<'_, S> {}

#[inline]
fn position(segment: usize, slot: usize) -> Position {
    Position { segment: segment as u32, slot: slot as u32 }
}

/// The leading `depth` bits of a fingerprint.
#[inline]
fn leading(hash40: u64, depth: u8) -> u32 {
    (hash40 >> (HASH_BITS - u32::from(depth))) as u32
}

/// The next number of the SplitMix64 sequence.
fn mix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (*state ^ (*state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
