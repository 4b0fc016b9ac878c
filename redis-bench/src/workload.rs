//! The workloads: what a server is filled with, and what is then asked of it.
//!
//! ```text
//!   name ─► Workload ─┬─ Dataset (from data bytes and a seed) ─┬─► Fill, Trim    load
//!                     │                                        └─► Traffic       run
//!                     └─ everything below derives from these: load and run need no shared state
//! ```
//!
//! Source: DiLOS (EuroSys'23) and the SIGCOMM'20 poster for the first seven, YCSB for `zipf_small`.
//! Refuses to send anything whose reply it could not judge.

use std::fmt;
use std::str::FromStr;

use rand::SeedableRng;
use rand::rngs::SmallRng;

use crate::keys::{KeyChoice, below};
use crate::units::ByteSize;
use crate::values::{VALUE_BYTES_MIN, mix};

pub mod source;

/// Elements of a list, on average.
const LIST_LENGTH_MEAN: u64 = 200;
/// Share of the keys that `sg` deletes, in percent.
const SG_DELETED_PERCENT: u64 = 73;
/// Share of reads in `zipf_small`, in percent.
const ZIPF_GET_PERCENT: u64 = 95;
/// Most keys of a data set: list lengths and survivors are kept as `u32`.
const KEYS_MAX: u64 = u32::MAX as u64;
/// Bytes of the largest value a workload may name: Redis' own limit of a string.
const VALUE_BYTES_MAX: u64 = 512 << 20;

/// Sizes of a workload's values.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Sizes {
    /// All alike.
    Fixed(usize),
    /// 4, 8, 16, 32, 64, 128 KiB in equal numbers.
    Mixed,
    /// 100-500 bytes; an overwrite draws a new size.
    Small,
}

impl Sizes {
    /// Bytes of the value of `key` that carries `serial`.
    #[inline]
    pub fn of(self, key: u64, serial: u64) -> usize {
        match self {
            Sizes::Fixed(bytes) => bytes,
            // Six consecutive keys have the six sizes, each six in an order of its own.
            Sizes::Mixed => 4096 << ((key + mix(key / 6)) % 6),
            Sizes::Small => 100 + (mix(key ^ mix(serial)) % 401) as usize,
        }
    }

    /// Bytes of a value on average.
    pub fn mean(self) -> u64 {
        match self {
            Sizes::Fixed(bytes) => bytes as u64,
            Sizes::Mixed => 43_008,
            Sizes::Small => 300,
        }
    }
}

/// Which elements of a list are read.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Range {
    /// `0 stop`
    Front {
        /// The last element asked for.
        stop: u32,
    },
    /// `s s+49`, s random.
    Middle,
}

/// What a workload does.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    /// GET of populated keys.
    Get(Sizes),
    /// SET over populated keys.
    Set(usize),
    /// LRANGE of populated lists.
    Lrange(Range, usize),
    /// LPUSH and RPOP in equal numbers.
    PushPop(usize),
    /// GET of the keys that outlived a deletion of most.
    Survivors,
    /// GET 95 % and SET 5 % of small values.
    ZipfSmall,
}

/// A workload by its name.
#[derive(Clone, Debug, PartialEq)]
pub struct Workload {
    /// As the user wrote it.
    pub name: String,
    /// What it does.
    pub kind: Kind,
}

/// The names, for `--help` and for errors.
pub const WORKLOADS: &str = "get_4k, get_64k, get_mixed, lrange_100, lrange_all, lrange_mid, sg, zipf_small, push_pop, \
redis_default_get, redis_default_set, or get:SIZE, set:SIZE, lrange_100:SIZE for another size of values or elements";

impl FromStr for Workload {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("no workload `{text}`: there are {WORKLOADS}");
        let (name, size) = match text.split_once(':') {
            Some((name, size)) => (name, Some(size.parse::<ByteSize>()?.0)),
            None => (text, None),
        };
        if size.is_some_and(|size| !(VALUE_BYTES_MIN as u64..=VALUE_BYTES_MAX).contains(&size)) {
            return Err(format!("`{text}`: values are of {VALUE_BYTES_MIN} bytes to 512mb"));
        }
        let bytes = |default: usize| size.map_or(default, |size| size as usize);
        let kind = match (name, size) {
            ("get_4k", None) => Kind::Get(Sizes::Fixed(4 << 10)),
            ("get_64k", None) => Kind::Get(Sizes::Fixed(64 << 10)),
            ("get_mixed", None) => Kind::Get(Sizes::Mixed),
            ("redis_default_get", None) => Kind::Get(Sizes::Fixed(64)),
            ("redis_default_set", None) => Kind::Set(64),
            ("get", Some(_)) => Kind::Get(Sizes::Fixed(bytes(0))),
            ("set", Some(_)) => Kind::Set(bytes(0)),
            ("lrange_100", _) => Kind::Lrange(Range::Front { stop: 99 }, bytes(1024)),
            ("lrange_all", _) => Kind::Lrange(Range::Front { stop: 599 }, bytes(1024)),
            ("lrange_mid", _) => Kind::Lrange(Range::Middle, bytes(1024)),
            ("push_pop", _) => Kind::PushPop(bytes(1024)),
            ("sg", None) => Kind::Survivors,
            ("zipf_small", None) => Kind::ZipfSmall,
            _ => return Err(wrong()),
        };
        Ok(Workload { name: text.to_owned(), kind })
    }
}

impl fmt::Display for Workload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

impl Workload {
    /// The key distribution it has unless the user asks for another.
    pub fn usual_keys(&self) -> KeyChoice {
        if self.kind == Kind::ZipfSmall { KeyChoice::Zipf(0.99) } else { KeyChoice::Uniform }
    }

    /// Bytes of payload of a reply on average: what a fixed-reply server must send to be its ceiling.
    pub fn reply_shape(&self) -> ReplyShape {
        match self.kind {
            Kind::Get(sizes) => ReplyShape::Bulk(sizes.mean() as usize),
            Kind::Set(_) => ReplyShape::Ok,
            Kind::Lrange(Range::Front { stop }, bytes) => {
                ReplyShape::Bulks(u64::from(stop + 1).min(LIST_LENGTH_MEAN) as usize, bytes)
            }
            Kind::Lrange(Range::Middle, bytes) => ReplyShape::Bulks(50, bytes),
            Kind::PushPop(bytes) => ReplyShape::Bulk(bytes / 2),
            Kind::Survivors => ReplyShape::Bulk(128),
            Kind::ZipfSmall => ReplyShape::Bulk(300),
        }
    }

    /// The sizes of its string values; None if it is about lists.
    fn sizes(&self) -> Option<Sizes> {
        match self.kind {
            Kind::Get(sizes) => Some(sizes),
            Kind::Set(bytes) => Some(Sizes::Fixed(bytes)),
            Kind::Survivors => Some(Sizes::Fixed(128)),
            Kind::ZipfSmall => Some(Sizes::Small),
            Kind::Lrange(..) | Kind::PushPop(_) => None,
        }
    }
}

/// The reply a fixed-reply server gives for a workload.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum ReplyShape {
    /// `+OK`
    Ok,
    /// One bulk of so many bytes.
    Bulk(usize),
    /// So many bulks of so many bytes.
    Bulks(usize, usize),
}

/// What a server holds after `load`.
#[derive(Clone, Debug)]
pub struct Dataset {
    /// Of the bytes and of every draw.
    pub seed: u64,
    /// Keys that are populated, numbered from 0.
    pub keys: u64,
    /// What the keys hold.
    pub holds: Holds,
}

/// What the keys of a data set hold.
#[derive(Clone, Debug)]
pub enum Holds {
    /// Strings.
    Strings(Sizes),
    /// Strings, most of which are deleted: `order[..deleted]` go, in this order, `order[deleted..]` stay.
    Culled {
        /// A permutation of the keys.
        order: Vec<u32>,
        /// How many of them are deleted.
        deleted: usize,
    },
    /// Lists.
    Lists {
        /// How many elements each list has.
        lengths: Vec<u32>,
        /// Bytes of an element.
        element_bytes: usize,
    },
}

impl Dataset {
    /// The data set of `workload` with `data` bytes of values.
    ///
    /// # Errors
    /// A sentence, if `data` is less than one value or more than [`KEYS_MAX`] of them.
    pub fn new(workload: &Workload, data: ByteSize, seed: u64) -> Result<Self, String> {
        let element_bytes = match workload.kind {
            Kind::Lrange(_, bytes) | Kind::PushPop(bytes) => bytes,
            _ => 0,
        };
        let mean = workload.sizes().map_or(element_bytes as u64, Sizes::mean);
        let values = data.0 / mean;
        if values == 0 || values > KEYS_MAX {
            return Err(format!(
                "{data} of {workload}, whose values have {mean} bytes, is {values} values: give between 1 and {KEYS_MAX}"
            ));
        }
        Ok(match workload.sizes() {
            Some(_) if workload.kind == Kind::Survivors => {
                let order = shuffled(values as u32, seed);
                let deleted = (values * SG_DELETED_PERCENT / 100) as usize;
                Dataset { seed, keys: values, holds: Holds::Culled { order, deleted } }
            }
            Some(sizes) => Dataset { seed, keys: values, holds: Holds::Strings(sizes) },
            None => {
                let lists = (values / LIST_LENGTH_MEAN).max(1);
                let mut lengths = vec![0; lists as usize];
                let mut rng = push_order(seed);
                (0..values).for_each(|_| lengths[below(&mut rng, lists) as usize] += 1);
                Dataset { seed, keys: lists, holds: Holds::Lists { lengths, element_bytes } }
            }
        })
    }

    /// Requests that fill a server, and requests that then delete.
    pub fn load_requests(&self) -> (u64, u64) {
        match &self.holds {
            Holds::Strings(_) => (self.keys, 0),
            Holds::Culled { deleted, .. } => (self.keys, *deleted as u64),
            Holds::Lists { lengths, .. } => (lengths.iter().map(|&n| u64::from(n)).sum(), 0),
        }
    }
}

/// The draws that say which list each element is pushed to.
fn push_order(seed: u64) -> SmallRng {
    SmallRng::seed_from_u64(mix(seed ^ 0x11))
}

/// A random permutation of `0..count`. Source: Fisher and Yates.
fn shuffled(count: u32, seed: u64) -> Vec<u32> {
    let mut order: Vec<u32> = (0..count).collect();
    let mut rng = SmallRng::seed_from_u64(mix(seed ^ 0x5a));
    for at in (1..order.len()).rev() {
        order.swap(at, below(&mut rng, at as u64 + 1) as usize);
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dataset(name: &str, data: &str) -> Dataset {
        let workload: Workload = name.parse().expect("a workload");
        Dataset::new(&workload, data.parse().expect("a size"), 1).expect("a data set")
    }

    #[test]
    fn the_six_sizes_come_in_equal_numbers() {
        let mut counts = std::collections::BTreeMap::new();
        (0..6_000).for_each(|key| *counts.entry(Sizes::Mixed.of(key, 0)).or_insert(0) += 1);
        let expected: Vec<(usize, i32)> = (0..6).map(|power| (4096 << power, 1000)).collect();
        assert_eq!(counts.into_iter().collect::<Vec<_>>(), expected);
        assert_eq!(Sizes::Mixed.mean(), (0..6).map(|power| 4096u64 << power).sum::<u64>() / 6);
    }

    #[test]
    fn lists_have_two_hundred_elements_on_average_and_none_is_lost() {
        let data = dataset("lrange_100", "64mb");
        let Holds::Lists { lengths, .. } = &data.holds else { panic!("lists") };
        assert_eq!(lengths.iter().sum::<u32>(), 65_536);
        assert_eq!(lengths.len(), 327);
        assert!(lengths.iter().all(|&n| (120..300).contains(&n)), "{lengths:?}");
    }

    #[test]
    fn sg_deletes_73_percent_and_no_key_twice() {
        let data = dataset("sg", "1mb");
        let Holds::Culled { mut order, deleted } = data.holds else { panic!("culled") };
        assert_eq!((data.keys, deleted), (8192, 5980));
        order.sort_unstable();
        assert!(order.iter().enumerate().all(|(at, &key)| at == key as usize));
    }

    #[test]
    fn a_workload_that_is_none_says_which_there_are() {
        for name in ["", "get", "get_5k", "get:1", "get:0", "set:1tb", "sg:4kb"] {
            assert!(name.parse::<Workload>().is_err(), "{name}");
        }
        assert!("x".parse::<Workload>().expect_err("none").contains("get_mixed"));
    }

    #[test]
    fn too_little_data_is_a_sentence() {
        let workload: Workload = "get_64k".parse().expect("a workload");
        assert!(Dataset::new(&workload, ByteSize(100), 1).is_err());
    }
}
