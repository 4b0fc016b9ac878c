//! The near index against a model: what it finds, what a scan sees, what growth costs, what it weighs.
//!
//! Costs are counted in moved entries and bytes, never in time, so that they are the same everywhere.

use std::collections::{HashMap, HashSet};

use engine::keyspace::index::{Entry, Kind};
use engine::keyspace::table::{HASH_BITS, Position, SEGMENT_ENTRIES_MAX, Slot, Table};
use farmem::FarAddr;
use proptest::prelude::*;

/// SplitMix64: the n-th number of a sequence, for hashes that look like hashes.
fn hashed(n: u64) -> u64 {
    let z = n.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

fn even(n: u64) -> u64 {
    (hashed(n) >> (64 - HASH_BITS)).max(1)
}

fn entry(hash40: u64, id: u64) -> Entry {
    Entry::new(hash40, Kind::SmallString, FarAddr((id + 1) * 8))
}

fn id(entry: &Entry) -> u64 {
    entry.addr().0 / 8 - 1
}

/// How the fingerprints of a batch lie.
#[derive(Clone, Copy, Debug)]
enum Spread {
    /// Over the whole range, as those of real keys.
    Even,
    /// Over a few values: many keys to a fingerprint.
    Few,
    /// Over one narrow stretch: all leading bits equal.
    Narrow,
    /// Over both ends of the range.
    Ends,
}

impl Spread {
    fn hash40(self, n: u64) -> u64 {
        match self {
            Spread::Even => even(n),
            Spread::Few => even(n % 40),
            Spread::Narrow => (0x5a << 32) | (even(n) & 0xffff),
            Spread::Ends if n.is_multiple_of(2) => (even(n) & 0xff).max(1),
            Spread::Ends => (1 << HASH_BITS) - 1 - (even(n) & 0xff),
        }
    }
}

#[derive(Clone, Debug)]
enum Op {
    Insert(u16, Spread),
    Remove(u16),
    Clear,
}

fn op() -> impl Strategy<Value = Op> {
    let spread = prop_oneof![6 => Just(Spread::Even), 1 => Just(Spread::Few), 1 => Just(Spread::Narrow), 1 => Just(Spread::Ends)];
    prop_oneof![
        20 => (1..10_000u16, spread).prop_map(|(count, spread)| Op::Insert(count, spread)),
        20 => (1..14_000u16).prop_map(Op::Remove),
        1 => Just(Op::Clear),
    ]
}

/// The table and what it should hold.
#[derive(Default)]
struct Pair {
    table: Table<Entry>,
    by_hash: HashMap<u64, HashSet<u64>>,
    all: Vec<(u64, u64)>,
    next_id: u64,
}

impl Pair {
    fn apply(&mut self, op: &Op) {
        match *op {
            Op::Insert(count, spread) => (0..count).for_each(|_| self.insert(spread.hash40(self.next_id))),
            Op::Remove(count) => (0..count).for_each(|_| self.remove_one()),
            Op::Clear => *self = Pair { table: std::mem::take(&mut self.table), ..Pair::default() }.cleared(),
        }
    }

    fn cleared(mut self) -> Pair {
        self.table.clear();
        self
    }

    fn insert(&mut self, hash40: u64) {
        let id = self.next_id;
        self.next_id += 1;
        let position = self.table.insert(entry(hash40, id));
        assert_eq!(*self.table.get(position), entry(hash40, id));
        self.by_hash.entry(hash40).or_default().insert(id);
        self.all.push((hash40, id));
    }

    fn remove_one(&mut self) {
        if self.all.is_empty() {
            return;
        }
        let victim = hashed(self.all.len() as u64 ^ self.next_id << 32) as usize % self.all.len();
        let (hash40, id) = self.all.swap_remove(victim);
        let position = self.position(hash40, id).expect("what was put in is found");
        assert_eq!(self.table.remove(position), entry(hash40, id));
        assert!(self.position(hash40, id).is_none());
        self.by_hash.get_mut(&hash40).expect("the model has it").remove(&id);
    }

    fn position(&self, hash40: u64, wanted: u64) -> Option<Position> {
        self.table.find(hash40).find(|&position| id(self.table.get(position)) == wanted)
    }

    fn check(&self) {
        assert_eq!(self.table.len(), self.all.len());
        for (&hash40, ids) in &self.by_hash {
            let found: Vec<u64> =
                self.table.find(hash40).map(|position| id(self.table.get(position))).collect();
            assert_eq!(found.len(), ids.len(), "entries of {hash40:#x}");
            assert!(found.iter().all(|id| ids.contains(id)));
        }
        let mut listed: Vec<(u64, u64)> =
            self.table.iter().map(|entry| (entry.hash40(), id(entry))).collect();
        let mut all = self.all.clone();
        listed.sort_unstable();
        all.sort_unstable();
        assert_eq!(listed, all);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_table_agrees_with_a_map_of_sets(ops in prop::collection::vec(op(), 1..16)) {
        let mut pair = Pair::default();
        for op in &ops {
            pair.apply(op);
            pair.check();
        }
    }

    #[test]
    fn a_scan_sees_what_stays_once_whatever_comes_and_goes(
        stays in 1..20_000u64,
        equals in 0..50u64,
        at_least in 1..3_000usize,
        ops in prop::collection::vec(op(), 1..12),
    ) {
        let mut pair = Pair::default();
        let base = 1 << 40;
        let mut table_only = Vec::new();
        for n in 0..stays + equals {
            let hash40 = if n < stays { even(n ^ base) } else { even(base) };
            pair.table.insert(entry(hash40, base + n));
            table_only.push(base + n);
        }
        let mut seen: HashMap<u64, u32> = HashMap::new();
        let mut hashes: HashSet<u64> = HashSet::new();
        let mut cursor = 0;
        for step in 0.. {
            let mut batch = HashSet::new();
            cursor = pair.table.scan(cursor, at_least, |entry| {
                *seen.entry(id(entry)).or_default() += 1;
                batch.insert(entry.hash40());
            });
            prop_assert!(batch.is_disjoint(&hashes), "equal fingerprints come in one batch");
            hashes.extend(batch);
            if cursor == 0 {
                break;
            }
            prop_assert!(step < 100_000, "a scan ends");
            match &ops[step % ops.len()] {
                Op::Clear => (0..pair.all.len()).for_each(|_| pair.remove_one()),
                op if step < 40 => pair.apply(op),
                _ => {}
            }
        }
        for n in table_only {
            prop_assert_eq!(seen.get(&n), Some(&1));
        }
        prop_assert!(seen.values().all(|&times| times == 1));
    }
}

#[test]
fn a_scan_takes_any_number_for_a_cursor() {
    let mut table = Table::new();
    for n in 0..30_000 {
        table.insert(entry(even(n), n));
    }
    for cursor in [1, 1 << 39, (1 << 40) - 1, 1 << 40, u64::MAX].into_iter().chain((0..2000).map(even)) {
        let next = table.scan(cursor, 10, |entry| assert!(entry.hash40() >= cursor));
        assert!(next == 0 || next > cursor);
    }
    assert_eq!(Table::<Entry>::new().scan(0, 10, |_| unreachable!("there is nothing to see")), 0);
}

#[test]
fn no_insert_or_remove_moves_more_than_two_segments() {
    let mut table = Table::new();
    let (count, bound) = (2_000_000u64, 2 * SEGMENT_ENTRIES_MAX as u64);
    let mut worst = 0;
    let mut before = 0;
    for n in 0..count {
        table.insert(entry(even(n), n));
        worst = worst.max(table.moved() - before);
        before = table.moved();
    }
    let grown = before;
    for n in 0..count {
        let position = table.find(even(n)).find(|&at| id(table.get(at)) == n).expect("it was put in");
        table.remove(position);
        worst = worst.max(table.moved() - before);
        before = table.moved();
    }
    println!("worst {worst} moves, {} an insert on average", grown / count);
    assert!(worst <= bound, "{worst} entries were moved at once");
    assert!(grown / count <= 24, "{} moves an insert", grown / count);
    assert!(table.near_bytes() < 2048, "an empty table keeps {} bytes", table.near_bytes());
}

/// The bound of the project: at most 24 bytes of near memory a key, at any number of keys.
#[test]
fn an_entry_takes_at_most_24_bytes_at_any_size() {
    let mut table = Table::new();
    let (mut n, mut at, mut points) = (0u64, 100_000u64, Vec::new());
    while at <= 10_000_000 {
        while n < at {
            table.insert(entry(even(n), n));
            n += 1;
        }
        points.push(table.near_bytes() as f64 / n as f64);
        println!("{n:>9} entries: {:.2} bytes each", points[points.len() - 1]);
        at += at / 10;
    }
    let average = points.iter().sum::<f64>() / points.len() as f64;
    let worst = points.iter().copied().fold(0.0, f64::max);
    println!("average {average:.2}, worst {worst:.2}");
    assert!(average <= 24.0 && worst <= 24.0, "average {average:.2}, worst {worst:.2} bytes an entry");
    (0..n).filter(|n| n % 100 < 73).for_each(|n| {
        let position = table.find(even(n)).find(|&at| id(table.get(at)) == n).expect("it was put in");
        table.remove(position);
    });
    let left = table.near_bytes() as f64 / table.len() as f64;
    println!("after 73 % were deleted: {left:.2}");
    assert!(left <= 30.0, "{left:.2} bytes an entry after deletes");
    table.clear();
    assert!(table.near_bytes() < 2048);
}

#[test]
fn many_keys_of_one_fingerprint_neither_split_for_ever_nor_get_lost() {
    let mut table = Table::new();
    for n in 0..30_000 {
        table.insert(entry(7, n));
    }
    for n in 0..20_000 {
        table.insert(entry(even(n), 30_000 + n));
    }
    assert_eq!(table.find(7).count(), 30_000);
    assert!(table.near_bytes() < 50_000 * 30, "{} bytes", table.near_bytes());
    while let Some(position) = table.find(7).last() {
        assert_eq!(table.remove(position).hash40(), 7);
    }
    assert_eq!(table.len(), 20_000);
    assert!((0..20_000).all(|n| table.find(even(n)).any(|at| id(table.get(at)) == 30_000 + n)));
}

#[test]
fn random_meets_every_entry_about_as_often() {
    for count in [1u64, 2, 10, 500, 20_000] {
        let mut table = Table::new();
        for n in 0..count {
            table.insert(entry(even(n), n));
        }
        let mut met = vec![0u32; count as usize];
        for draw in 0..count * 100 {
            let (position, slot) = table.random(hashed(draw)).expect("the table is not empty");
            assert_eq!(*table.get(position), slot);
            met[id(&slot) as usize] += 1;
        }
        let (least, most) = (met.iter().min(), met.iter().max());
        assert!(least >= Some(&30) && most <= Some(&250), "{count}: {least:?} to {most:?} of 100 draws each");
    }
    assert!(Table::<Entry>::new().random(1).is_none());
}

#[test]
fn an_entry_is_changed_in_place() {
    let mut table = Table::new();
    let position = table.insert(entry(5, 1));
    table.get_mut(position).set_access(77);
    let found = table.find(5).next().expect("it was put in");
    assert_eq!((found, table.get(found).access()), (position, 77));
    assert!(!table.get(found).is_empty());
}
