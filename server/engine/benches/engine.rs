//! What a request costs: decode, index lookup, plan, and whole commands on data that is here or far.
//!
//! The far memory is a map in this process, and a page arrives as soon as it is asked for. No socket: a
//! reply is looked at and forgotten.
#![forbid(unsafe_code)]

#[path = "../../../farmem/benches/cases/mod.rs"]
mod cases;
#[path = "../tests/support/mod.rs"]
mod support;

use cases::Case;
use engine::ClientId;
use engine::keyspace::index::{Entry, Kind};
use engine::keyspace::table::{HASH_BITS, Table};
use engine::resp::decode::{Decoder, Limits, Parsed};
use farmem::{FarAddr, Prefetch};
use std::hint::black_box;
use support::{Store, request};

const LIMITS: Limits = Limits { bulk_len_max: 512 << 20, spool_min: u64::MAX, authenticated: true };
/// Keys of the index and of the stores: no cache of the processor matters to a count.
const ENTRIES: u64 = 10_000;
const KEYS: usize = 512;
/// Room for all of it.
const AMPLE_BYTES: u64 = 64 << 20;
/// Room for an eighth of 512 values of a page.
const TIGHT_BYTES: u64 = 1 << 20;

fn main() {
    cases::main(
        "engine",
        &[
            Case { name: "decode_get", prepare: || decode(&request(&[b"GET", b"key:000000000001"]), 1) },
            Case { name: "decode_get_16", prepare: || decode(&request(&[b"GET", b"key:000000000001"]), 16) },
            Case {
                name: "decode_set_4k",
                prepare: || decode(&request(&[b"SET", b"key:000000000001", &[7; 4096]]), 1),
            },
            Case { name: "index_find", prepare: index_find },
            Case { name: "index_insert_remove", prepare: index_insert_remove },
            Case { name: "plan_get", prepare: || plan(&[b"GET", b"key:7"]) },
            Case { name: "plan_lrange_100", prepare: || plan(&[b"LRANGE", b"list", b"0", b"99"]) },
            Case { name: "get_64", prepare: || repeated(64, 1) },
            Case { name: "get_64_pipeline_16", prepare: || repeated(64, 16) },
            Case { name: "get_4k", prepare: || repeated(4096, 1) },
            Case { name: "get_64k", prepare: || repeated(65536, 1) },
            Case { name: "set_64", prepare: set_64 },
            Case { name: "lrange_100", prepare: lrange_100 },
            Case { name: "get_4k_far", prepare: get_4k_far },
        ],
    );
}

/// Parses `times` requests that came together.
fn decode(request: &[u8], times: usize) -> Box<dyn FnMut()> {
    let buffer = request.repeat(times);
    let mut spans = Vec::new();
    Box::new(move || {
        let mut rest = black_box(&buffer[..]);
        while !rest.is_empty() {
            match Decoder::default().parse(rest, &mut spans, &LIMITS) {
                Ok(Parsed::Complete { consumed }) => rest = &rest[consumed..],
                _ => panic!("the request is whole"),
            }
        }
    })
}

/// SplitMix64: the n-th number of a sequence.
fn hash40(n: u64) -> u64 {
    let z = n.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    ((z ^ (z >> 27)) >> (64 - HASH_BITS)).max(1)
}

fn index_entry(n: u64) -> Entry {
    Entry::new(hash40(n), Kind::SmallString, FarAddr((n + 1) * 8))
}

fn index() -> Table<Entry> {
    let mut table = Table::new();
    (0..ENTRIES).for_each(|n| {
        table.insert(index_entry(n));
    });
    table
}

fn index_find() -> Box<dyn FnMut()> {
    let table = index();
    let mut n = 0;
    Box::new(move || {
        n = (n + 1) % ENTRIES;
        black_box(table.find(black_box(hash40(n))).next());
    })
}

fn index_insert_remove() -> Box<dyn FnMut()> {
    let mut table = index();
    let mut n = 0;
    Box::new(move || {
        n = (n + 1) % ENTRIES;
        let position = table.insert(index_entry(ENTRIES + n));
        black_box(table.remove(position));
    })
}

/// A store and one client of it.
struct Bed {
    store: Store,
    client: ClientId,
}

impl Bed {
    fn new(local_bytes: u64) -> Bed {
        let mut store = Store::new(local_bytes, Prefetch::Ahead);
        let client = store.connect();
        Bed { store, client }
    }

    /// Strings of `bytes` under key:0, key:1 and so on.
    fn with_strings(local_bytes: u64, bytes: usize) -> Bed {
        let mut bed = Bed::new(local_bytes);
        for at in 0..KEYS {
            let key = format!("key:{at}");
            assert_eq!(bed.store.command(bed.client, &[b"SET", key.as_bytes(), &vec![7; bytes]]), b"+OK\r\n");
        }
        bed
    }

    /// A list of 200 elements of 1 KiB.
    fn with_list() -> Bed {
        let mut bed = Bed::new(AMPLE_BYTES);
        (0..200).for_each(|_| {
            bed.store.command(bed.client, &[b"RPUSH", b"list", &[7; 1024]]);
        });
        bed
    }

    /// Sends bytes, and takes the reply as a socket would that is always ready.
    fn ask(&mut self, bytes: &[u8]) {
        let Store { engine, now, .. } = &mut self.store;
        engine.handle_input(self.client, bytes, *now);
        while !self.take_reply() {
            self.store.turn();
        }
    }

    /// False if there was none yet.
    fn take_reply(&mut self) -> bool {
        let Store { engine, now, .. } = &mut self.store;
        let mut taken = false;
        loop {
            engine.handle_writable(self.client, *now);
            let mut slices: [&[u8]; 64] = [&[]; 64];
            let count = engine.output(self.client, &mut slices);
            let bytes: usize = black_box(&slices[..count]).iter().map(|slice| slice.len()).sum();
            if bytes == 0 {
                return taken;
            }
            taken = true;
            engine.handle_written(self.client, bytes, *now);
        }
    }
}

/// Names the pages of a command, and does nothing else.
fn plan(words: &'static [&'static [u8]]) -> Box<dyn FnMut()> {
    let mut bed = if words[1] == b"list" { Bed::with_list() } else { Bed::with_strings(AMPLE_BYTES, 4096) };
    let command = request(words);
    let mut pages = farmem::PageSet::default();
    Box::new(move || {
        bed.store.engine.plan_only(0, black_box(&command), bed.store.now, &mut pages);
        assert!(!black_box(&pages).is_empty());
    })
}

/// GET of values of `bytes` that are here, `pipeline` of them together.
fn repeated(bytes: usize, pipeline: usize) -> Box<dyn FnMut()> {
    let mut bed = Bed::with_strings(AMPLE_BYTES, bytes);
    let command = request(&[b"GET", b"key:7"]).repeat(pipeline);
    Box::new(move || bed.ask(black_box(&command)))
}

/// SET over a value as long.
fn set_64() -> Box<dyn FnMut()> {
    let mut bed = Bed::with_strings(AMPLE_BYTES, 64);
    let command = request(&[b"SET", b"key:7", &[8; 64]]);
    Box::new(move || bed.ask(black_box(&command)))
}

/// LRANGE list 0 99.
fn lrange_100() -> Box<dyn FnMut()> {
    let mut bed = Bed::with_list();
    let command = request(&[b"LRANGE", b"list", b"0", b"99"]);
    Box::new(move || bed.ask(black_box(&command)))
}

/// GET of values of which an eighth is here, one after the other: each is far. Planned, parked, fetched,
/// planned again, executed; another page is evicted.
fn get_4k_far() -> Box<dyn FnMut()> {
    let mut bed = Bed::with_strings(TIGHT_BYTES, 4096);
    let commands: Vec<_> = (0..KEYS).map(|at| request(&[b"GET", format!("key:{at}").as_bytes()])).collect();
    let mut at = 0;
    Box::new(move || {
        at = (at + 1) % KEYS;
        bed.ask(black_box(&commands[at]));
        bed.store.turn();
    })
}
