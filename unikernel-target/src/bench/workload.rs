//! What the store is filled with, and what is then asked of it: `remora-bench`'s workloads of the same names.
//!
//! | name | values | request |
//! |---|---|---|
//! | `get_4k`, `get_64k` | strings of one size | GET of any key |
//! | `get_mixed` | 4, 8, 16, 32, 64, 128 KiB in equal numbers | GET of any key |
//! | `lrange_100` | lists of 200 x 1 KiB | LRANGE 0 99 of any list |
//! | `lrange_mid` | the same | LRANGE s s+49, s random |
//!
//! Refuses to depend on anything but its seed: the same requests, every time.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

/// Elements of a list.
const LIST_ELEMENTS: u64 = 200;
const ELEMENT_BYTES: usize = 1024;
/// Sizes of `get_mixed`: six consecutive keys have them all.
const MIXED_SIZES: u64 = 6;
const MIXED_MEAN_BYTES: u64 = 43_008;

/// The names, for who has typed another.
pub const NAMES: &str = "get_4k, get_64k, get_mixed, lrange_100 or lrange_mid";

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Get(usize),
    GetMixed,
    LrangeFront,
    LrangeMiddle,
}

/// A workload over so much data.
#[derive(Clone)]
pub struct Workload {
    /// As it was typed.
    pub name: String,
    kind: Kind,
    keys: u64,
}

/// A request and the reply that it must get.
#[derive(Clone, Default)]
pub struct Request {
    /// As it is sent.
    pub bytes: Vec<u8>,
    /// Bytes of the reply.
    pub reply_len: usize,
    reply: Reply,
}

#[derive(Clone, Copy, Default)]
enum Reply {
    #[default]
    Ok,
    Integer,
    Value {
        key: u64,
        len: usize,
    },
    Elements {
        list: u64,
        first: u64,
        count: u64,
    },
}

/// SplitMix64. Source: Steele, Lea and Flood, OOPSLA'14.
pub struct Random(pub u64);

impl Random {
    /// The next number.
    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

/// Appends bytes that belong to `of` and to nothing else.
fn noise(into: &mut Vec<u8>, of: u64, len: usize) {
    let mut random = Random(of);
    let (mut word, mut left) = (random.draw(), len);
    while left > 0 {
        let taken = left.min(8);
        into.extend_from_slice(&word.to_le_bytes()[..taken]);
        word = word.rotate_left(7).wrapping_add(0x9e37_79b9);
        left -= taken;
    }
}

fn bulk_len(len: usize) -> usize {
    1 + digits(len) + 2 + len + 2
}

fn digits(number: usize) -> usize {
    number.checked_ilog10().map_or(1, |log| log as usize + 1)
}

fn command(words: &[&[u8]]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", words.len()).into_bytes();
    for word in words {
        bytes.extend(format!("${}\r\n", word.len()).bytes());
        bytes.extend_from_slice(word);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes
}

impl Workload {
    /// The workload of this name over `data_bytes`; `None` if there is none, or the data is not one value.
    pub fn new(name: &str, data_bytes: u64) -> Option<Workload> {
        let (kind, mean) = match name {
            "get_4k" => (Kind::Get(4 << 10), 4 << 10),
            "get_64k" => (Kind::Get(64 << 10), 64 << 10),
            "get_mixed" => (Kind::GetMixed, MIXED_MEAN_BYTES),
            "lrange_100" => (Kind::LrangeFront, LIST_ELEMENTS * ELEMENT_BYTES as u64),
            "lrange_mid" => (Kind::LrangeMiddle, LIST_ELEMENTS * ELEMENT_BYTES as u64),
            _ => return None,
        };
        let keys = data_bytes / mean;
        (keys > 0).then(|| Workload { name: name.into(), kind, keys })
    }

    fn size(&self, key: u64) -> usize {
        match self.kind {
            Kind::Get(size) => size,
            _ => 4096 << (key % MIXED_SIZES),
        }
    }

    /// How many requests fill the store.
    pub fn fill_len(&self) -> u64 {
        match self.kind {
            Kind::Get(_) | Kind::GetMixed => self.keys,
            Kind::LrangeFront | Kind::LrangeMiddle => self.keys * LIST_ELEMENTS,
        }
    }

    /// The request that fills the store further. The elements of a list come one by one, between those of others.
    pub fn fill(&self, index: u64) -> Request {
        match self.kind {
            Kind::Get(_) | Kind::GetMixed => {
                let mut value = Vec::new();
                noise(&mut value, index, self.size(index));
                let bytes = command(&[b"SET", format!("key:{index:012}").as_bytes(), &value]);
                Request { bytes, reply_len: 5, reply: Reply::Ok }
            }
            Kind::LrangeFront | Kind::LrangeMiddle => {
                let (list, element) = (index % self.keys, index / self.keys);
                let mut value = Vec::new();
                noise(&mut value, list * LIST_ELEMENTS + element, ELEMENT_BYTES);
                let bytes = command(&[b"RPUSH", format!("list:{list:012}").as_bytes(), &value]);
                Request { bytes, reply_len: 3 + digits(element as usize + 1), reply: Reply::Integer }
            }
        }
    }

    /// A request of the measured part.
    pub fn ask(&self, random: &mut Random) -> Request {
        let key = random.draw() % self.keys;
        let (first, count) = match self.kind {
            Kind::Get(_) | Kind::GetMixed => {
                let len = self.size(key);
                let bytes = command(&[b"GET", format!("key:{key:012}").as_bytes()]);
                return Request { bytes, reply_len: bulk_len(len), reply: Reply::Value { key, len } };
            }
            Kind::LrangeFront => (0, 100),
            Kind::LrangeMiddle => (random.draw() % (LIST_ELEMENTS - 49), 50),
        };
        let (from, to) = (format!("{first}"), format!("{}", first + count - 1));
        let name = format!("list:{key:012}");
        Request {
            bytes: command(&[b"LRANGE", name.as_bytes(), from.as_bytes(), to.as_bytes()]),
            reply_len: 3 + digits(count as usize) + count as usize * bulk_len(ELEMENT_BYTES),
            reply: Reply::Elements { list: key, first, count },
        }
    }
}

impl Request {
    /// Whether this is the whole reply, to the byte.
    pub fn is_answered_by(&self, got: &[u8]) -> bool {
        let mut value = Vec::new();
        let mut rest = got;
        let mut take = |wanted: &[u8]| {
            let is_there = rest.starts_with(wanted);
            rest = rest.get(wanted.len()..).unwrap_or_default();
            is_there
        };
        let mut bulk = |take: &mut dyn FnMut(&[u8]) -> bool, of: u64, len: usize| {
            value.clear();
            noise(&mut value, of, len);
            take(format!("${len}\r\n").as_bytes()) && take(&value) && take(b"\r\n")
        };
        let is_right = match self.reply {
            Reply::Ok => take(b"+OK\r\n"),
            Reply::Integer => return got.first() == Some(&b':'),
            Reply::Value { key, len } => bulk(&mut take, key, len),
            Reply::Elements { list, first, count } => {
                take(format!("*{count}\r\n").as_bytes())
                    && (first..first + count)
                        .all(|index| bulk(&mut take, list * LIST_ELEMENTS + index, ELEMENT_BYTES))
            }
        };
        is_right && rest.is_empty()
    }
}
