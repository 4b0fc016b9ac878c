//! Lists against a model: random commands over a small local memory, every reply compared byte for byte.

mod support;

use engine::ClientId;
use farmem::Prefetch;
use proptest::prelude::*;
use std::collections::{HashMap, VecDeque};
use support::{Store, bulk};

type List = VecDeque<Vec<u8>>;

const KEYS: [&str; 3] = ["a", "list:b", "c"];

/// One command, with indexes that are taken modulo what there is.
#[derive(Clone, Debug)]
enum Op {
    Push { key: usize, tail: bool, elements: Vec<Vec<u8>> },
    Pop { key: usize, tail: bool, count: Option<u64> },
    Range { key: usize, start: i64, stop: i64 },
    Index { key: usize, index: i64 },
    Set { key: usize, index: i64, element: Vec<u8> },
    Insert { key: usize, behind: bool, pivot: u32, element: Vec<u8> },
    Remove { key: usize, count: i64, element: u32 },
    Trim { key: usize, start: i64, stop: i64 },
    Position { key: usize, element: u32, rank: i64, count: u64, compare_max: u64 },
    Move { from: usize, to: usize, from_tail: bool, to_tail: bool },
    Copy { from: usize, to: usize },
    Rename { from: usize, to: usize },
    Evict,
}

/// Elements of every size that lies another way: few different ones, so that searches find some.
fn element() -> impl Strategy<Value = Vec<u8>> {
    let len = prop_oneof![
        6 => Just(0usize),
        20 => 1usize..12,
        20 => Just(100usize),
        20 => Just(1024usize),
        6 => 900usize..1100,
        3 => 4000usize..4200,
        2 => Just(20_000usize),
        1 => Just(300_000usize),
    ];
    (len, 0u8..4).prop_map(|(len, tag)| vec![b'a' + tag; len])
}

fn op() -> impl Strategy<Value = Op> {
    let key = || 0usize..KEYS.len();
    let index = || -40i64..40;
    prop_oneof![
        10 => (key(), any::<bool>(), prop::collection::vec(element(), 1..40))
            .prop_map(|(key, tail, elements)| Op::Push { key, tail, elements }),
        10 => (key(), any::<bool>(), element())
            .prop_map(|(key, tail, element)| Op::Push { key, tail, elements: vec![element] }),
        8 => (key(), any::<bool>(), prop::option::of(0u64..30))
            .prop_map(|(key, tail, count)| Op::Pop { key, tail, count }),
        8 => (key(), index(), index()).prop_map(|(key, start, stop)| Op::Range { key, start, stop }),
        3 => (key(), index()).prop_map(|(key, index)| Op::Index { key, index }),
        6 => (key(), index(), element()).prop_map(|(key, index, element)| Op::Set { key, index, element }),
        6 => (key(), any::<bool>(), any::<u32>(), element())
            .prop_map(|(key, behind, pivot, element)| Op::Insert { key, behind, pivot, element }),
        4 => (key(), -4i64..4, any::<u32>()).prop_map(|(key, count, element)| Op::Remove { key, count, element }),
        3 => (key(), -30i64..20, -20i64..60).prop_map(|(key, start, stop)| Op::Trim { key, start, stop }),
        4 => (key(), any::<u32>(), -3i64..4, 0u64..4, 0u64..50).prop_map(|(key, element, rank, count, compare_max)| {
            Op::Position { key, element, rank: if rank == 0 { 1 } else { rank }, count, compare_max }
        }),
        6 => (key(), key(), any::<bool>(), any::<bool>())
            .prop_map(|(from, to, from_tail, to_tail)| Op::Move { from, to, from_tail, to_tail }),
        2 => (key(), key()).prop_map(|(from, to)| Op::Copy { from, to }),
        2 => (key(), key()).prop_map(|(from, to)| Op::Rename { from, to }),
        6 => Just(Op::Evict),
    ]
}

fn array<'a>(elements: impl ExactSizeIterator<Item = &'a Vec<u8>>) -> Vec<u8> {
    let mut out = format!("*{}\r\n", elements.len()).into_bytes();
    elements.for_each(|element| out.extend_from_slice(&bulk(element)));
    out
}

fn integer(value: i64) -> Vec<u8> {
    format!(":{value}\r\n").into_bytes()
}

/// The range that Redis means, as start and end.
fn range(start: i64, stop: i64, len: usize) -> (usize, usize) {
    let len = len as i64;
    let start = if start < 0 { start + len } else { start }.max(0);
    let stop = if stop < 0 { stop + len } else { stop }.min(len - 1);
    if start > stop { (0, 0) } else { (start as usize, stop as usize + 1) }
}

#[derive(Default)]
struct Model {
    lists: HashMap<usize, List>,
}

impl Model {
    fn get(&self, key: usize) -> List {
        self.lists.get(&key).cloned().unwrap_or_default()
    }

    fn put(&mut self, key: usize, list: List) {
        if list.is_empty() {
            self.lists.remove(&key);
        } else {
            self.lists.insert(key, list);
        }
    }

    /// Some element of the list, or one that is in none.
    fn pick(&self, key: usize, number: u32) -> Vec<u8> {
        let list = self.get(key);
        match list.len() {
            0 => b"none".to_vec(),
            len => list[number as usize % (len + 1) % len].clone(),
        }
    }
}

struct Run {
    store: Store,
    client: ClientId,
    model: Model,
}

impl Run {
    fn check(&mut self, words: &[&[u8]], expected: Vec<u8>) {
        let reply = self.store.command(self.client, words);
        let shown: Vec<_> =
            words.iter().map(|word| String::from_utf8_lossy(&word[..word.len().min(40)])).collect();
        assert!(
            reply == expected,
            "{shown:?}: {} bytes {:?}, expected {} bytes {:?}",
            reply.len(),
            String::from_utf8_lossy(&reply[..reply.len().min(200)]),
            expected.len(),
            String::from_utf8_lossy(&expected[..expected.len().min(200)])
        );
    }

    fn run(&mut self, op: &Op) {
        match op {
            Op::Push { key, tail, elements } => {
                let mut list = self.model.get(*key);
                for element in elements {
                    if *tail { list.push_back(element.clone()) } else { list.push_front(element.clone()) }
                }
                let mut words: Vec<&[u8]> =
                    vec![if *tail { b"RPUSH" } else { b"LPUSH" }, KEYS[*key].as_bytes()];
                words.extend(elements.iter().map(Vec::as_slice));
                self.check(&words, integer(list.len() as i64));
                self.model.put(*key, list);
            }
            Op::Pop { key, tail, count } => self.pop(*key, *tail, *count),
            Op::Range { key, start, stop } => {
                let list = self.model.get(*key);
                let (from, to) = range(*start, *stop, list.len());
                let words =
                    ["LRANGE", KEYS[*key], &start.to_string(), &stop.to_string()].map(|word| word.to_owned());
                self.check(&words.each_ref().map(|word| word.as_bytes()), array(list.range(from..to)));
            }
            Op::Index { key, index } => {
                let list = self.model.get(*key);
                let at = if *index < 0 { index + list.len() as i64 } else { *index };
                let element = usize::try_from(at).ok().and_then(|at| list.get(at));
                let expected = element.map_or(b"$-1\r\n".to_vec(), |element| bulk(element));
                self.check(&[b"LINDEX", KEYS[*key].as_bytes(), index.to_string().as_bytes()], expected);
            }
            Op::Set { key, index, element } => {
                let mut list = self.model.get(*key);
                let at = if *index < 0 { index + list.len() as i64 } else { *index };
                let at = usize::try_from(at).ok().filter(|&at| at < list.len());
                let expected: &[u8] = match at {
                    Some(at) => {
                        list[at] = element.clone();
                        b"+OK\r\n"
                    }
                    None if list.is_empty() => b"-ERR no such key\r\n",
                    None => b"-ERR index out of range\r\n",
                };
                let index = index.to_string();
                self.check(&[b"LSET", KEYS[*key].as_bytes(), index.as_bytes(), element], expected.to_vec());
                self.model.put(*key, list);
            }
            Op::Insert { key, behind, pivot, element } => {
                let pivot = self.model.pick(*key, *pivot);
                let mut list = self.model.get(*key);
                let expected = match list.iter().position(|other| *other == pivot) {
                    Some(at) => {
                        list.insert(at + usize::from(*behind), element.clone());
                        list.len() as i64
                    }
                    None => -i64::from(!list.is_empty()),
                };
                let side: &[u8] = if *behind { b"AFTER" } else { b"BEFORE" };
                self.check(&[b"LINSERT", KEYS[*key].as_bytes(), side, &pivot, element], integer(expected));
                self.model.put(*key, list);
            }
            Op::Remove { key, count, element } => self.remove(*key, *count, *element),
            Op::Trim { key, start, stop } => {
                let list = self.model.get(*key);
                let (from, to) = range(*start, *stop, list.len());
                let (start, stop) = (start.to_string(), stop.to_string());
                let words = [b"LTRIM", KEYS[*key].as_bytes(), start.as_bytes(), stop.as_bytes()];
                self.check(&words, b"+OK\r\n".to_vec());
                self.model.put(*key, list.range(from..to).cloned().collect());
            }
            Op::Position { key, element, rank, count, compare_max } => {
                self.position(*key, *element, *rank, *count, *compare_max);
            }
            Op::Move { from, to, from_tail, to_tail } => self.transfer(*from, *to, *from_tail, *to_tail),
            Op::Copy { from, to } => {
                let list = self.model.get(*from);
                if from != to && !list.is_empty() {
                    self.check(
                        &[b"COPY", KEYS[*from].as_bytes(), KEYS[*to].as_bytes(), b"REPLACE"],
                        integer(1),
                    );
                    self.model.put(*to, list);
                }
            }
            Op::Rename { from, to } => {
                let list = self.model.get(*from);
                if !list.is_empty() {
                    let words = [&b"RENAME"[..], KEYS[*from].as_bytes(), KEYS[*to].as_bytes()];
                    self.check(&words, b"+OK\r\n".to_vec());
                    self.model.put(*from, List::new());
                    self.model.put(*to, list);
                }
            }
            Op::Evict => self.store.evict_all(self.client),
        }
    }

    fn pop(&mut self, key: usize, tail: bool, count: Option<u64>) {
        let mut list = self.model.get(key);
        let taken = list.len().min(count.unwrap_or(1) as usize);
        let popped: Vec<Vec<u8>> =
            (0..taken).filter_map(|_| if tail { list.pop_back() } else { list.pop_front() }).collect();
        let expected = match (self.model.lists.contains_key(&key), count) {
            (false, None) => b"$-1\r\n".to_vec(),
            (false, Some(_)) => b"*-1\r\n".to_vec(),
            (true, None) => bulk(&popped[0]),
            (true, Some(_)) => array(popped.iter()),
        };
        let name: &[u8] = if tail { b"RPOP" } else { b"LPOP" };
        let count = count.map(|count| count.to_string());
        let mut words = vec![name, KEYS[key].as_bytes()];
        words.extend(count.as_ref().map(|count| count.as_bytes()));
        self.check(&words, expected);
        self.model.put(key, list);
    }

    fn remove(&mut self, key: usize, count: i64, element: u32) {
        let element = self.model.pick(key, element);
        let list = self.model.get(key);
        let limit = if count == 0 { usize::MAX } else { count.unsigned_abs() as usize };
        let mut hits: Vec<usize> = (0..list.len()).filter(|&at| list[at] == element).collect();
        if count < 0 {
            hits.reverse();
        }
        hits.truncate(limit);
        let kept = (0..list.len()).filter(|at| !hits.contains(at)).map(|at| list[at].clone()).collect();
        let count = count.to_string();
        self.check(&[b"LREM", KEYS[key].as_bytes(), count.as_bytes(), &element], integer(hits.len() as i64));
        self.model.put(key, kept);
    }

    fn position(&mut self, key: usize, element: u32, rank: i64, count: u64, compare_max: u64) {
        let element = self.model.pick(key, element);
        let list = self.model.get(key);
        let mut order: Vec<usize> = (0..list.len()).collect();
        if rank < 0 {
            order.reverse();
        }
        order.truncate(if compare_max == 0 { usize::MAX } else { compare_max as usize });
        let hits = order.into_iter().filter(|&at| list[at] == element).skip(rank.unsigned_abs() as usize - 1);
        let hits: Vec<usize> = hits.take(if count == 0 { usize::MAX } else { count as usize }).collect();
        let mut expected = format!("*{}\r\n", hits.len()).into_bytes();
        hits.iter().for_each(|&at| expected.extend(integer(at as i64)));
        let (rank, count, compare_max) = (rank.to_string(), count.to_string(), compare_max.to_string());
        let words = [
            &b"LPOS"[..],
            KEYS[key].as_bytes(),
            &element,
            b"RANK",
            rank.as_bytes(),
            b"COUNT",
            count.as_bytes(),
            b"MAXLEN",
            compare_max.as_bytes(),
        ];
        self.check(&words, expected);
    }

    fn transfer(&mut self, from: usize, to: usize, from_tail: bool, to_tail: bool) {
        let side = |tail: bool| if tail { &b"RIGHT"[..] } else { b"LEFT" };
        let mut source = self.model.get(from);
        let taken = if from_tail { source.pop_back() } else { source.pop_front() };
        let expected = taken.as_ref().map_or(b"$-1\r\n".to_vec(), |element| bulk(element));
        if let Some(element) = taken {
            self.model.put(from, source);
            let mut destination = self.model.get(to);
            if to_tail {
                destination.push_back(element)
            } else {
                destination.push_front(element)
            }
            self.model.put(to, destination);
        }
        let words = [b"LMOVE", KEYS[from].as_bytes(), KEYS[to].as_bytes(), side(from_tail), side(to_tail)];
        self.check(&words, expected);
    }

    fn check_all(&mut self) {
        for (key, name) in KEYS.iter().enumerate() {
            let list = self.model.get(key);
            self.check(&[b"LRANGE", name.as_bytes(), b"0", b"-1"], array(list.iter()));
            self.check(&[b"LLEN", name.as_bytes()], integer(list.len() as i64));
        }
    }

    fn stat(&mut self, field: &str) -> i64 {
        let stats = self.store.ask(self.client, "FARMEM STATS");
        let mut lines = stats.lines();
        lines.find(|line| *line == field).expect("the field is there");
        lines.next().and_then(|line| line.strip_prefix(':')?.parse().ok()).expect("an integer follows")
    }
}

fn run(ops: &[Op], local_memory: u64, prefetch: Prefetch) {
    let mut store = Store::new(local_memory, prefetch);
    let client = store.connect();
    let mut run = Run { store, client, model: Model::default() };
    for (number, op) in ops.iter().enumerate() {
        run.run(op);
        if number % 8 == 7 {
            run.check_all();
        }
    }
    run.check_all();
    run.store.evict_all(client);
    run.check_all();
    for key in KEYS {
        run.store.ask(client, &format!("DEL {key}"));
    }
    assert_eq!((run.stat("far_used_bytes"), run.stat("far_used_pages")), (0, 0), "nothing is left behind");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn every_reply_is_that_of_a_deque(ops in prop::collection::vec(op(), 1..80)) {
        run(&ops, 4 << 20, Prefetch::Ahead);
    }

    #[test]
    fn every_reply_is_that_of_a_deque_with_hardly_any_frames(ops in prop::collection::vec(op(), 1..60)) {
        run(&ops, 300 << 10, Prefetch::Ahead);
    }

    #[test]
    fn every_reply_is_that_of_a_deque_under_demand_paging(ops in prop::collection::vec(op(), 1..60)) {
        run(&ops, 1 << 20, Prefetch::None);
    }
}
