//! What clients send: commands of every kind on a few keys each, in the sizes where something changes.

use super::rng::Rng;

/// Keys of one client. The last one's name is longer than a page.
const KEYS: usize = 10;
/// Where a value moves from its key's page to its own, from one page to two, from input to spool.
const SIZES: [usize; 16] =
    [0, 1, 20, 63, 200, 1000, 2040, 3900, 4080, 4096, 4097, 8192, 12_000, 20_000, 270_000, 3 << 20];
const INDEXES: [i64; 14] = [0, 1, 2, 5, 17, 60, 300, -1, -2, -7, -50, -400, 1000, -1000];
const OFFSETS: [i64; 7] = [0, 1, 7, 100, 4095, 4096, 9000];

/// Commands, the frequent ones several times.
const NAMES: [&str; 72] = [
    "GET",
    "GET",
    "GET",
    "GET",
    "SET",
    "SET",
    "SET",
    "SETNX",
    "GETSET",
    "SETEX",
    "PSETEX",
    "GETDEL",
    "MGET",
    "MGET",
    "MSET",
    "MSETNX",
    "APPEND",
    "APPEND",
    "STRLEN",
    "SETRANGE",
    "GETRANGE",
    "GETRANGE",
    "INCR",
    "INCRBY",
    "DEL",
    "UNLINK",
    "EXISTS",
    "TOUCH",
    "TYPE",
    "RENAME",
    "RENAMENX",
    "COPY",
    "EXPIRE",
    "PEXPIRE",
    "PEXPIREAT",
    "PERSIST",
    "TTL",
    "PTTL",
    "PING",
    "LPUSH",
    "LPUSH",
    "LPUSH",
    "RPUSH",
    "RPUSH",
    "RPUSH",
    "RPUSH",
    "LPUSHX",
    "RPUSHX",
    "LPOP",
    "LPOP",
    "RPOP",
    "RPOP",
    "LLEN",
    "LRANGE",
    "LRANGE",
    "LRANGE",
    "LRANGE",
    "LRANGE",
    "LINDEX",
    "LINDEX",
    "LSET",
    "LSET",
    "LINSERT",
    "LINSERT",
    "LREM",
    "LREM",
    "LTRIM",
    "LMOVE",
    "LMOVE",
    "RPOPLPUSH",
    "LRANGE",
    "GET",
];

/// One client's stream of commands.
pub struct Traffic {
    /// What its keys begin with.
    pub name_space: String,
    /// Longest value. Units: bytes.
    pub value_max: usize,
    /// The database that is its own, if it has one.
    pub owns_database: bool,
    /// The last values that were sent, for commands that look for one.
    recent: Vec<Vec<u8>>,
}

impl Traffic {
    /// Commands on keys that begin with `name_space`.
    pub fn new(name_space: String, value_max: usize, owns_database: bool) -> Traffic {
        Traffic { name_space, value_max, owns_database, recent: Vec::new() }
    }

    /// All the keys there can be.
    pub fn keys(&self) -> Vec<Vec<u8>> {
        (0..KEYS).map(|number| self.numbered(number)).collect()
    }

    fn numbered(&self, number: usize) -> Vec<u8> {
        let mut key = format!("{}:{number}", self.name_space).into_bytes();
        if number == KEYS - 1 {
            key.resize(5000, b'k');
        }
        key
    }

    /// A key. Even ones mostly hold strings and odd ones lists, so that there is something to work on.
    fn key(&self, rng: &mut Rng, wants_list: bool) -> Vec<u8> {
        let number = rng.below(KEYS / 2) * 2 + usize::from(wants_list);
        self.numbered(if rng.one_in(20) { number ^ 1 } else { number })
    }

    fn value(&mut self, rng: &mut Rng, is_element: bool) -> Vec<u8> {
        if rng.one_in(6) {
            return rng.between(0, 1000).to_string().into_bytes();
        }
        if rng.one_in(4) && !self.recent.is_empty() {
            return self.recent[rng.below(self.recent.len())].clone();
        }
        let mut len = rng.one_of(&SIZES);
        if is_element && !rng.one_in(30) {
            len %= 4096;
        }
        let value = rng.bytes(len.min(self.value_max));
        if value.len() < 10_000 {
            self.recent.push(value.clone());
            if self.recent.len() > 8 {
                self.recent.remove(0);
            }
        }
        value
    }

    /// The next command.
    pub fn next(&mut self, rng: &mut Rng, now_ms: u64) -> Vec<Vec<u8>> {
        if self.owns_database && rng.one_in(60) {
            return vec![b"FLUSHDB".to_vec()];
        }
        let name = rng.one_of(&NAMES);
        let is_list = matches!(name.as_bytes(), [b'L', ..] | [b'R', b'P', ..]) || rng.one_in(9);
        let mut words = vec![name.as_bytes().to_vec()];
        if name == "PING" {
            return words;
        }
        words.push(self.key(rng, is_list));
        let pick = |rng: &mut Rng, of: &[i64]| rng.one_of(of).to_string().into_bytes();
        match name {
            "SET" => {
                words.push(self.value(rng, false));
                self.set_options(rng, &mut words);
            }
            "SETNX" | "GETSET" | "APPEND" => words.push(self.value(rng, false)),
            "SETEX" => words.extend([rng.between(1, 3).to_string().into_bytes(), self.value(rng, false)]),
            "PSETEX" => words.extend([rng.between(1, 800).to_string().into_bytes(), self.value(rng, false)]),
            "MSET" | "MSETNX" => self.pairs(rng, &mut words),
            "MGET" | "DEL" | "UNLINK" | "EXISTS" | "TOUCH" => {
                (0..rng.below(3)).for_each(|_| words.push(self.key(rng, is_list)));
            }
            "SETRANGE" => words.extend([pick(rng, &OFFSETS), self.value(rng, false)]),
            "INCRBY" => words.push(pick(rng, &INDEXES)),
            "RENAME" | "RENAMENX" => words.push(self.key(rng, is_list)),
            "COPY" => words.extend([self.key(rng, is_list), b"REPLACE".to_vec()]),
            "EXPIRE" => words.push(rng.between(1, 4).to_string().into_bytes()),
            "PEXPIRE" => words.push(rng.between(1, 900).to_string().into_bytes()),
            "PEXPIREAT" => words.push((now_ms + rng.between(500, 3000)).to_string().into_bytes()),
            "GETRANGE" | "LRANGE" if rng.one_in(3) => words.extend([b"0".to_vec(), b"-1".to_vec()]),
            "GETRANGE" | "LRANGE" | "LTRIM" => words.extend([pick(rng, &INDEXES), pick(rng, &INDEXES)]),
            "LPUSH" | "RPUSH" | "LPUSHX" | "RPUSHX" => self.elements(rng, &mut words),
            "LPOP" | "RPOP" if rng.one_in(3) => words.push(rng.between(0, 30).to_string().into_bytes()),
            "LINDEX" => words.push(pick(rng, &INDEXES)),
            "LSET" | "LREM" => words.extend([pick(rng, &INDEXES), self.value(rng, true)]),
            "LINSERT" => {
                let side = rng.one_of(&["BEFORE", "AFTER"]).as_bytes().to_vec();
                words.extend([side, self.value(rng, true), self.value(rng, true)]);
            }
            "LMOVE" => {
                let mut side = || rng.one_of(&["LEFT", "RIGHT"]).as_bytes().to_vec();
                let sides = [side(), side()];
                words.push(self.key(rng, is_list));
                words.extend(sides);
            }
            "RPOPLPUSH" => words.push(self.key(rng, is_list)),
            _ => {}
        }
        words
    }

    fn set_options(&mut self, rng: &mut Rng, words: &mut Vec<Vec<u8>>) {
        let mut option = |name: &str| words.push(name.as_bytes().to_vec());
        match rng.below(16) {
            0 => option("NX"),
            1 => option("XX"),
            2 => option("GET"),
            3 => option("KEEPTTL"),
            4 | 5 => {
                option("PX");
                option(&rng.between(1, 2000).to_string());
            }
            6 => ["XX", "GET"].into_iter().for_each(option),
            _ => {}
        }
    }

    fn pairs(&mut self, rng: &mut Rng, words: &mut Vec<Vec<u8>>) {
        words.push(self.value(rng, false));
        for _ in 0..rng.below(3) {
            words.push(self.key(rng, false));
            words.push(self.value(rng, false));
        }
    }

    /// Elements to push: mostly few; sometimes hundreds of one size, so that lists of many chunks come about.
    fn elements(&mut self, rng: &mut Rng, words: &mut Vec<Vec<u8>>) {
        if rng.one_in(5) {
            let len = rng.one_of(&[5, 100, 1000]).min(self.value_max);
            (0..rng.between(20, 300)).for_each(|_| words.push(rng.bytes(len)));
            return;
        }
        (0..=rng.below(8)).for_each(|_| words.push(self.value(rng, true)));
    }
}
