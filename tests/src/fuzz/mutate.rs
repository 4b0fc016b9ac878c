//! Makes a new input out of old ones. Deterministic; knows no format but a few words that RESP likes.

/// Inputs never grow beyond this. Units: bytes.
pub const INPUT_LEN_MAX: usize = 8192;
/// Changes that one new input gets at most.
const CHANGES_MAX: u64 = 6;

const WORDS: &[&[u8]] = &[
    b"\r\n",
    b"*3\r\n",
    b"$3\r\n",
    b"$-1\r\n",
    b"*-1\r\n",
    b"$536870913\r\n",
    b"\"",
    b"'",
    b"\\x",
    b" ",
    b"\0",
    b"PING\r\n",
];

/// A small generator of random numbers (xorshift64*), so that a seed is all there is to know.
pub struct Random(u64);

impl Random {
    /// The same seed gives the same numbers.
    pub fn new(seed: u64) -> Random {
        Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    /// The next number.
    pub fn draw(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    /// The next number below `limit`; zero if that is zero.
    pub fn below(&mut self, limit: usize) -> usize {
        if limit == 0 { 0 } else { (self.draw() >> 16) as usize % limit }
    }
}

/// A new input: one of `corpus` with a few changes, some of which come from another of `corpus`.
pub fn mutate(corpus: &[Vec<u8>], random: &mut Random) -> Vec<u8> {
    let mut made = pick(corpus, random).to_vec();
    for _ in 0..=random.draw() % CHANGES_MAX {
        change(&mut made, corpus, random);
    }
    made.truncate(INPUT_LEN_MAX);
    made
}

fn pick<'a>(corpus: &'a [Vec<u8>], random: &mut Random) -> &'a [u8] {
    corpus.get(random.below(corpus.len())).map_or(&[], Vec::as_slice)
}

fn change(made: &mut Vec<u8>, corpus: &[Vec<u8>], random: &mut Random) {
    let at = random.below(made.len() + 1);
    match random.below(8) {
        0 if at < made.len() => made[at] ^= 1 << random.below(8),
        1 if at < made.len() => made[at] = random.draw() as u8,
        2 => made.truncate(at),
        3 => {
            let end = (at + 1 + random.below(16)).min(made.len());
            made.drain(at.min(end)..end);
        }
        4 => {
            let fresh = (0..=random.below(24)).map(|_| random.draw() as u8).collect::<Vec<_>>();
            made.splice(at..at, fresh);
        }
        5 => {
            let word = WORDS[random.below(WORDS.len())];
            made.splice(at..at, word.iter().copied());
        }
        6 => {
            let other = pick(corpus, random);
            let from = random.below(other.len() + 1);
            let to = (from + random.below(200)).min(other.len());
            made.splice(at..at, other[from..to].iter().copied());
        }
        _ => {
            let end = (at + random.below(64)).min(made.len());
            let copy = made[at..end].to_vec();
            made.splice(at..at, copy);
        }
    }
}
