//! The command table: every command that there is, and the way from a name to its row.
//!
//! ```text
//! "GeT" ─ fold case, 8 bytes ─> word ─ x SEED >> 54 ─> slot ─> row, if word and length agree
//! ```
//!
//! The hash is perfect: the compiler searches a seed with which no two names share a slot.
//! Refuses to know subcommands: they hang on their container's row.

mod bitmap;
mod connection;
mod generic;
mod list;
mod server;
mod string;

use super::spec::CommandSpec;

const GROUPS: [&[CommandSpec]; 6] = [
    string::COMMANDS,
    bitmap::COMMANDS,
    list::COMMANDS,
    generic::COMMANDS,
    connection::COMMANDS,
    server::COMMANDS,
];

/// How many commands there are, subcommands not counted.
pub const COUNT: usize = {
    let mut count = 0;
    let mut group = 0;
    while group < GROUPS.len() {
        count += GROUPS[group].len();
        group += 1;
    }
    count
};

/// Every command.
pub static COMMANDS: [&CommandSpec; COUNT] = {
    let mut rows = [&GROUPS[0][0]; COUNT];
    let (mut group, mut count) = (0, 0);
    while group < GROUPS.len() {
        let mut at = 0;
        while at < GROUPS[group].len() {
            rows[count] = &GROUPS[group][at];
            (at, count) = (at + 1, count + 1);
        }
        group += 1;
    }
    rows
};

/// 2^10 slots for about 80 names: a random seed fits with a chance of e^(-80^2 / 2^11), 1 in 23.
const SLOT_BITS: u32 = 10;
const EMPTY: u8 = u8::MAX;
const _: () = assert!(COUNT < EMPTY as usize, "a slot is one byte");

/// A seed without collisions, and what stands in each slot.
const PERFECT: (u64, [u8; 1 << SLOT_BITS]) = {
    let mut seed = 0x9e37_79b9_7f4a_7c15u64;
    loop {
        if let Some(slots) = fill(seed) {
            break (seed, slots);
        }
        seed = seed.wrapping_mul(0xd134_2543_de82_ef95).wrapping_add(2) | 1;
    }
};

const SEED: u64 = PERFECT.0;
static SLOTS: [u8; 1 << SLOT_BITS] = PERFECT.1;

/// The folded word of each command's name.
static WORDS: [u64; COUNT] = {
    let mut words = [0; COUNT];
    let mut at = 0;
    while at < COUNT {
        words[at] = fold(COMMANDS[at].name.as_bytes());
        at += 1;
    }
    words
};

const fn fill(seed: u64) -> Option<[u8; 1 << SLOT_BITS]> {
    let mut slots = [EMPTY; 1 << SLOT_BITS];
    let (mut group, mut count) = (0, 0);
    while group < GROUPS.len() {
        let mut at = 0;
        while at < GROUPS[group].len() {
            let name = GROUPS[group][at].name.as_bytes();
            let slot = slot(fold(name), name.len(), seed);
            if slots[slot] != EMPTY {
                return None;
            }
            slots[slot] = count;
            (at, count) = (at + 1, count + 1);
        }
        group += 1;
    }
    Some(slots)
}

const fn slot(word: u64, len: usize, seed: u64) -> usize {
    ((word ^ len as u64).wrapping_mul(seed) >> (u64::BITS - SLOT_BITS)) as usize
}

/// The first eight bytes in lower case. Names are letters only, and what folds to a letter is that letter,
/// so folded words are equal only if the names are.
#[inline]
const fn fold(name: &[u8]) -> u64 {
    const LOWER: u64 = 0x2020_2020_2020_2020;
    if let Some(head) = name.first_chunk::<8>() {
        return u64::from_le_bytes(*head) | LOWER;
    }
    if let (Some(head), Some(tail)) = (name.first_chunk::<4>(), name.last_chunk::<4>()) {
        let shift = (name.len() as u32 - 4) * 8;
        return u32::from_le_bytes(*head) as u64 | (u32::from_le_bytes(*tail) as u64) << shift | LOWER;
    }
    match *name {
        [a, b, c] => u32::from_le_bytes([a, b, c, 0]) as u64 | LOWER,
        [a, b] => u16::from_le_bytes([a, b]) as u64 | LOWER,
        [a] => a as u64 | LOWER,
        _ => LOWER,
    }
}

/// The command of this name, in any case.
#[inline]
#[must_use]
pub fn lookup(name: &[u8]) -> Option<&'static CommandSpec> {
    let word = fold(name);
    let index = SLOTS[slot(word, name.len(), SEED)] as usize;
    let (&candidate, spec) = (WORDS.get(index)?, *COMMANDS.get(index)?);
    let long_enough = candidate == word && spec.name.len() == name.len();
    let tail = name.get(8..).unwrap_or_default();
    (long_enough && (tail.is_empty() || tail.eq_ignore_ascii_case(&spec.name.as_bytes()[8..])))
        .then_some(spec)
}
