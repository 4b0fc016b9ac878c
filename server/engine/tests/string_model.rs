//! Strings against a map: random commands, tiny budgets, evictions at any time, replies read late.

mod support;

use engine::ClientId;
use farmem::Prefetch;
use proptest::prelude::*;
use std::collections::BTreeMap;
use support::{Store, bulk, request};

/// Local memory of the store: 256 frames, of which one value may hold 16. Units: bytes.
const LOCAL_MEMORY: u64 = 1 << 20;

/// Replies that are read late at a time.
const READERS: usize = 3;

type Key = usize;

#[derive(Clone, Debug)]
enum Op {
    Set(Key, Vec<u8>),
    SetGet(Key, Vec<u8>),
    SetNx(Key, Vec<u8>),
    SetExpiring(Key, Vec<u8>, u64),
    GetSet(Key, Vec<u8>),
    MSet(Vec<(Key, Vec<u8>)>),
    MSetNx(Vec<(Key, Vec<u8>)>),
    Append(Key, Vec<u8>),
    SetRange(Key, usize, Vec<u8>),
    SetBit(Key, usize, bool),
    IncrBy(Key, i64),
    Get(Key),
    MGet(Vec<Key>),
    GetDel(Key),
    GetRange(Key, i64, i64),
    GetBit(Key, usize),
    Strlen(Key),
    Evict,
    Advance(u64),
    /// A second client asks for a value and reads it later.
    BeginRead(usize, Key),
    EndRead(usize),
}

/// Short keys, one that leaves a page half, one that has pages of its own, one in the way.
fn name(key: Key) -> Vec<u8> {
    match key {
        0..4 => format!("key{key}").into_bytes(),
        4 => vec![b'h'; 2000],
        5 => vec![b'p'; 4085],
        _ => vec![b'l'; 9000],
    }
}

fn key() -> impl Strategy<Value = Key> {
    0..7usize
}

fn value() -> impl Strategy<Value = Vec<u8>> {
    let len = prop_oneof![
        4 => 0..100usize,
        3 => 1900..2200usize,
        3 => 4000..4200usize,
        2 => 8100..8300usize,
        2 => 1..60_000usize,
        1 => 262_000..300_000usize,
    ];
    (len, any::<u8>()).prop_map(|(len, seed)| (0..len).map(|at| (at as u8).wrapping_mul(31) ^ seed).collect())
}

fn number() -> impl Strategy<Value = Vec<u8>> {
    any::<i32>().prop_map(|number| number.to_string().into_bytes())
}

fn op() -> impl Strategy<Value = Op> {
    let offset =
        || prop_oneof![3 => 0..200usize, 3 => 3900..4300usize, 2 => 0..40_000usize, 1 => 0..400_000usize];
    let index = || prop_oneof![-300..300i64, -70_000..70_000i64, Just(0), Just(-1)];
    prop_oneof![
        6 => (key(), value()).prop_map(|(key, value)| Op::Set(key, value)),
        2 => (key(), number()).prop_map(|(key, value)| Op::Set(key, value)),
        2 => (key(), value()).prop_map(|(key, value)| Op::SetGet(key, value)),
        1 => (key(), value()).prop_map(|(key, value)| Op::SetNx(key, value)),
        1 => (key(), value(), 1..50u64).prop_map(|(key, value, ms)| Op::SetExpiring(key, value, ms)),
        1 => (key(), value()).prop_map(|(key, value)| Op::GetSet(key, value)),
        1 => prop::collection::vec((key(), value()), 1..5).prop_map(Op::MSet),
        1 => prop::collection::vec((key(), value()), 1..3).prop_map(Op::MSetNx),
        6 => (key(), value()).prop_map(|(key, value)| Op::Append(key, value)),
        6 => (key(), offset(), value()).prop_map(|(key, offset, value)| Op::SetRange(key, offset, value)),
        2 => (key(), offset(), any::<bool>()).prop_map(|(key, offset, on)| Op::SetBit(key, offset * 8 + 3, on)),
        2 => (key(), -1000..1000i64).prop_map(|(key, by)| Op::IncrBy(key, by)),
        4 => key().prop_map(Op::Get),
        1 => prop::collection::vec(key(), 1..8).prop_map(Op::MGet),
        3 => key().prop_map(Op::GetDel),
        4 => (key(), index(), index()).prop_map(|(key, start, end)| Op::GetRange(key, start, end)),
        1 => (key(), offset()).prop_map(|(key, offset)| Op::GetBit(key, offset * 8 + 3)),
        1 => key().prop_map(Op::Strlen),
        4 => Just(Op::Evict),
        1 => (1..60u64).prop_map(Op::Advance),
        3 => (0..READERS, key()).prop_map(|(reader, key)| Op::BeginRead(reader, key)),
        2 => (0..READERS).prop_map(Op::EndRead),
    ]
}

/// A value, and when it expires.
type Held = (Vec<u8>, Option<u64>);

/// What the store should hold.
#[derive(Default)]
struct Model {
    values: BTreeMap<Key, Held>,
    now_ms: u64,
}

fn ok() -> Vec<u8> {
    b"+OK\r\n".to_vec()
}

fn integer(value: i64) -> Vec<u8> {
    format!(":{value}\r\n").into_bytes()
}

impl Model {
    fn get(&self, key: Key) -> Option<&Vec<u8>> {
        let (value, expires) = self.values.get(&key)?;
        expires.is_none_or(|at_ms| at_ms > self.now_ms).then_some(value)
    }

    fn reply(&self, key: Key) -> Vec<u8> {
        self.get(key).map_or(b"$-1\r\n".to_vec(), |value| bulk(value))
    }

    fn set(&mut self, key: Key, value: &[u8]) {
        self.values.insert(key, (value.to_vec(), None));
    }

    /// Replaces the bytes; the expiry time stays.
    fn change(&mut self, key: Key, value: Vec<u8>) -> usize {
        let expires = self.get(key).is_some().then(|| self.values[&key].1).flatten();
        let len = value.len();
        self.values.insert(key, (value, expires));
        len
    }

    fn write_at(&mut self, key: Key, offset: usize, data: &[u8]) -> usize {
        let mut value = self.get(key).cloned().unwrap_or_default();
        value.resize(value.len().max(offset + data.len()), 0);
        value[offset..offset + data.len()].copy_from_slice(data);
        self.change(key, value)
    }

    fn range(&self, key: Key, start: i64, end: i64) -> Vec<u8> {
        let Some(value) = self.get(key) else { return Vec::new() };
        let len = value.len() as i64;
        let from_front = |index: i64| if index < 0 { (index + len).max(0) } else { index };
        let (first, last) = (from_front(start), from_front(end).min(len - 1));
        if (start < 0 && end < 0 && start > end) || first > last || len == 0 {
            return Vec::new();
        }
        value[first as usize..=last as usize].to_vec()
    }

    fn bit(&self, key: Key, offset: usize) -> i64 {
        let byte = self.get(key).and_then(|value| value.get(offset / 8)).copied().unwrap_or(0);
        i64::from(byte >> (7 - offset % 8) & 1)
    }

    /// The reply that a command should get, and what it does.
    fn apply(&mut self, op: &Op) -> Vec<u8> {
        match op {
            Op::Set(key, value) => self.set(*key, value),
            Op::SetGet(key, value) | Op::GetSet(key, value) => {
                let old = self.reply(*key);
                self.set(*key, value);
                return old;
            }
            Op::SetNx(key, value) => {
                let new = self.get(*key).is_none();
                if new {
                    self.set(*key, value);
                }
                return integer(i64::from(new));
            }
            Op::SetExpiring(key, value, ms) => {
                self.values.insert(*key, (value.clone(), Some(self.now_ms + ms)));
            }
            Op::MSet(pairs) => pairs.iter().for_each(|(key, value)| self.set(*key, value)),
            Op::MSetNx(pairs) => {
                let new = pairs.iter().all(|(key, _)| self.get(*key).is_none());
                if new {
                    pairs.iter().for_each(|(key, value)| self.set(*key, value));
                }
                return integer(i64::from(new));
            }
            Op::Append(key, value) => {
                let end = self.get(*key).map_or(0, Vec::len);
                return integer(self.write_at(*key, end, value) as i64);
            }
            Op::SetRange(key, _, value) if value.is_empty() => {
                return integer(self.get(*key).map_or(0, Vec::len) as i64);
            }
            Op::SetRange(key, offset, value) => return integer(self.write_at(*key, *offset, value) as i64),
            Op::SetBit(key, offset, on) => {
                let old = self.bit(*key, *offset);
                let byte = self.get(*key).and_then(|value| value.get(offset / 8)).copied().unwrap_or(0);
                let bit = 1 << (7 - offset % 8);
                self.write_at(*key, offset / 8, &[if *on { byte | bit } else { byte & !bit }]);
                return integer(old);
            }
            Op::IncrBy(key, by) => {
                let text = self.get(*key).map_or("0".into(), |value| String::from_utf8_lossy(value));
                let number = text.parse::<i64>().ok().filter(|number| number.to_string() == text);
                let Some(number) = number else {
                    return b"-ERR value is not an integer or out of range\r\n".to_vec();
                };
                self.change(*key, (number + by).to_string().into_bytes());
                return integer(number + by);
            }
            Op::Get(key) => return self.reply(*key),
            Op::MGet(keys) => {
                let replies = keys.iter().map(|key| self.reply(*key));
                return [format!("*{}\r\n", keys.len()).into_bytes()]
                    .into_iter()
                    .chain(replies)
                    .flatten()
                    .collect();
            }
            Op::GetDel(key) => {
                let old = self.reply(*key);
                self.values.remove(key);
                return old;
            }
            Op::GetRange(key, start, end) => return bulk(&self.range(*key, *start, *end)),
            Op::GetBit(key, offset) => return integer(self.bit(*key, *offset)),
            Op::Strlen(key) => return integer(self.get(*key).map_or(0, Vec::len) as i64),
            Op::Evict | Op::Advance(_) | Op::BeginRead(..) | Op::EndRead(_) => {
                unreachable!("these are not commands")
            }
        }
        ok()
    }
}

fn words(op: &Op) -> Vec<Vec<u8>> {
    let text = |number: i64| number.to_string().into_bytes();
    let word = |word: &str| word.as_bytes().to_vec();
    let pairs = |command: &str, pairs: &[(Key, Vec<u8>)]| {
        let pairs = pairs.iter().flat_map(|(key, value)| [name(*key), value.clone()]);
        [word(command)].into_iter().chain(pairs).collect()
    };
    match op {
        Op::Set(key, value) => vec![word("SET"), name(*key), value.clone()],
        Op::SetGet(key, value) => vec![word("SET"), name(*key), value.clone(), word("GET")],
        Op::SetNx(key, value) => vec![word("SETNX"), name(*key), value.clone()],
        Op::SetExpiring(key, value, ms) => vec![word("PSETEX"), name(*key), text(*ms as i64), value.clone()],
        Op::GetSet(key, value) => vec![word("GETSET"), name(*key), value.clone()],
        Op::MSet(all) => pairs("MSET", all),
        Op::MSetNx(all) => pairs("MSETNX", all),
        Op::Append(key, value) => vec![word("APPEND"), name(*key), value.clone()],
        Op::SetRange(key, offset, value) => {
            vec![word("SETRANGE"), name(*key), text(*offset as i64), value.clone()]
        }
        Op::SetBit(key, offset, on) => {
            vec![word("SETBIT"), name(*key), text(*offset as i64), text(i64::from(*on))]
        }
        Op::IncrBy(key, by) => vec![word("INCRBY"), name(*key), text(*by)],
        Op::Get(key) => vec![word("GET"), name(*key)],
        Op::MGet(keys) => [word("MGET")].into_iter().chain(keys.iter().map(|key| name(*key))).collect(),
        Op::GetDel(key) => vec![word("GETDEL"), name(*key)],
        Op::GetRange(key, start, end) => vec![word("GETRANGE"), name(*key), text(*start), text(*end)],
        Op::GetBit(key, offset) => vec![word("GETBIT"), name(*key), text(*offset as i64)],
        Op::Strlen(key) => vec![word("STRLEN"), name(*key)],
        Op::Evict | Op::Advance(_) | Op::BeginRead(..) | Op::EndRead(_) => {
            unreachable!("these are not commands")
        }
    }
}

/// A client that has asked for a value and not read it: what it should read.
struct Reader {
    client: ClientId,
    owed: Option<Vec<u8>>,
}

impl Reader {
    fn begin(&mut self, store: &mut Store, model: &Model, key: Key) {
        self.end(store);
        store.engine.handle_input(self.client, &request(&[b"GET", &name(key)]), store.now);
        // Until the command has run: its reply stays where it is.
        while store.turn() {}
        self.owed = Some(model.reply(key));
    }

    fn end(&mut self, store: &mut Store) {
        let Some(owed) = self.owed.take() else { return };
        let mut got = store.drain(self.client);
        while store.turn() || got.len() < owed.len() {
            let more = store.drain(self.client);
            assert!(!more.is_empty() || got.len() == owed.len() || store.turn(), "the reply has stopped");
            got.extend(more);
        }
        assert!(got == owed, "a reply is the value that stood when its command ran");
    }
}

fn check(mode: Prefetch, ops: &[Op]) {
    let mut store = Store::new(LOCAL_MEMORY, mode);
    let client = store.connect();
    let mut readers: Vec<Reader> =
        (0..READERS).map(|_| Reader { client: store.connect(), owed: None }).collect();
    let mut model = Model { now_ms: store.now.unix_ms, ..Model::default() };
    for op in ops {
        match op {
            Op::Evict => store.evict_all(client),
            Op::Advance(ms) => {
                store.advance_ms(*ms);
                model.now_ms += ms;
            }
            Op::BeginRead(reader, key) => readers[*reader].begin(&mut store, &model, *key),
            Op::EndRead(reader) => readers[*reader].end(&mut store),
            op => {
                let words = words(op);
                let words: Vec<&[u8]> = words.iter().map(Vec::as_slice).collect();
                let got = store.command(client, &words);
                let want = model.apply(op);
                assert!(got == want, "{mode:?} {}: {} bytes, not {}", brief(op), got.len(), want.len());
            }
        }
    }
    for reader in &mut readers {
        reader.end(&mut store);
    }
    for key in 0..7 {
        let got = store.command(client, &[b"GET", &name(key)]);
        assert!(got == model.reply(key), "{mode:?} key {key} at the end");
        store.command(client, &[b"GETDEL", &name(key)]);
    }
    assert_eq!(stat(&mut store, client, "far_used_bytes"), 0, "all far memory is free again");
    assert_eq!(stat(&mut store, client, "frames_held"), 0);
}

fn brief(op: &Op) -> String {
    let mut text = format!("{op:?}");
    text.truncate(60);
    text
}

/// A field of `FARMEM STATS`.
fn stat(store: &mut Store, client: ClientId, field: &str) -> u64 {
    let stats = store.ask(client, "FARMEM STATS");
    let mut lines = stats.lines().skip_while(|line| *line != field);
    lines.nth(1).and_then(|line| line.strip_prefix(':')?.parse().ok()).expect("a field of FARMEM STATS")
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn strings_do_what_a_map_does(
        mode in prop::sample::select(&[Prefetch::Ahead, Prefetch::Ahead, Prefetch::Guided, Prefetch::None][..]),
        ops in prop::collection::vec(op(), 1..80),
    ) {
        check(mode, &ops);
    }
}
