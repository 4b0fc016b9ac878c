//! One client's keys as they ought to be, time and eviction included: the fuzzing model with clocks.
//!
//! ```text
//! possible states ──command, reply──► those states in which that is the reply, after the command
//! ```
//!
//! Whether a key with an expiry time is still there is not always known, because a command runs somewhere
//! between its sending and its reply; nor is it under `maxmemory`. Then both states are possible until a
//! reply tells them apart. No state left: the reply is wrong. Refuses to know what runs the commands.

use crate::fuzz::model;
use std::collections::HashMap;

/// From..=to: when something happened or will happen. Units: milliseconds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Span {
    /// Not before.
    pub from_ms: u64,
    /// Not after.
    pub to_ms: u64,
}

/// States that are possible at once; more would be a scenario that tells nothing.
const POSSIBLE_MAX: usize = 256;

/// What a reply must be.
enum Due {
    Exactly(Vec<u8>),
    /// An integer.
    Between(i64, i64),
}

/// All that may be the case.
pub struct Model {
    possible: Vec<State>,
}

#[derive(Clone, Default, PartialEq)]
struct State {
    values: model::Model,
    deadlines: HashMap<Vec<u8>, Span>,
}

impl Default for Model {
    fn default() -> Model {
        Model { possible: vec![State::default()] }
    }
}

impl Model {
    /// Runs a command that ran at some time of `when`, and holds its reply against the model's.
    ///
    /// # Errors
    /// What the reply ought to have been.
    pub fn check(
        &mut self,
        words: &[Vec<u8>],
        reply: &[u8],
        when: Span,
        keys_vanish: bool,
    ) -> Result<(), String> {
        let keys = keys_of(words);
        let mut next: Vec<State> = Vec::new();
        let mut wanted = String::from("nothing");
        for state in std::mem::take(&mut self.possible) {
            for mut state in state.variants(keys.clone(), when, keys_vanish) {
                let due = state.run(words, when);
                if !due.allows(reply) {
                    wanted = due.shown();
                } else if !next.contains(&state) {
                    next.push(state);
                }
            }
        }
        assert!(next.len() <= POSSIBLE_MAX, "too much is possible");
        self.possible = next;
        if self.possible.is_empty() { Err(wanted) } else { Ok(()) }
    }
}

impl State {
    /// This state with every combination of those `keys` gone that may have gone by themselves.
    fn variants(mut self, keys: impl Iterator<Item = Vec<u8>>, when: Span, keys_vanish: bool) -> Vec<State> {
        let mut unsure = Vec::new();
        for key in keys {
            let deadline = self.deadlines.get(&key).copied();
            if deadline.is_some_and(|at| at.to_ms <= when.from_ms) {
                self.delete(&key);
            } else if keys_vanish || deadline.is_some_and(|at| at.from_ms <= when.to_ms) {
                unsure.push(key);
            }
        }
        let mut variants = vec![self];
        for key in unsure {
            for index in 0..variants.len() {
                if variants[index].exists(&key) {
                    let mut without = variants[index].clone();
                    without.delete(&key);
                    variants.push(without);
                }
            }
        }
        variants
    }

    fn base(&mut self, words: &[&[u8]]) -> Vec<u8> {
        self.values.run(words)
    }

    fn exists(&mut self, key: &[u8]) -> bool {
        self.base(&[b"EXISTS", key]) == b":1\r\n"
    }

    fn delete(&mut self, key: &[u8]) {
        self.base(&[b"DEL", key]);
        self.deadlines.remove(key);
    }

    fn run(&mut self, words: &[Vec<u8>], when: Span) -> Due {
        let words: Vec<&[u8]> = words.iter().map(Vec::as_slice).collect();
        let due = match words[0] {
            b"PTTL" => return self.remaining(words[1], when, 1),
            b"TTL" => return self.remaining(words[1], when, 1000),
            b"PING" => b"+PONG\r\n".to_vec(),
            b"FLUSHDB" => {
                *self = State::default();
                b"+OK\r\n".to_vec()
            }
            b"SET" | b"SETEX" | b"PSETEX" | b"SETNX" | b"GETSET" | b"MSET" | b"MSETNX" => {
                self.write(&words, when)
            }
            b"EXPIRE" | b"PEXPIRE" | b"PEXPIREAT" | b"PERSIST" => self.change_deadline(&words, when),
            b"INCRBY" => self.add(words[1], number(words[2])),
            b"TOUCH" => self.base(&[&[&b"EXISTS"[..]], &words[1..]].concat()),
            b"UNLINK" => self.base(&[&[&b"DEL"[..]], &words[1..]].concat()),
            b"LPUSHX" | b"RPUSHX" if !self.exists(words[1]) => b":0\r\n".to_vec(),
            b"LPUSHX" => self.base(&[&[&b"LPUSH"[..]], &words[1..]].concat()),
            b"RPUSHX" => self.base(&[&[&b"RPUSH"[..]], &words[1..]].concat()),
            b"RPOPLPUSH" => self.base(&[b"LMOVE", words[1], words[2], b"RIGHT", b"LEFT"]),
            b"RENAMENX" if self.exists(words[1]) && self.exists(words[2]) => b":0\r\n".to_vec(),
            b"RENAMENX" => match self.transfer(&[b"RENAME", words[1], words[2]]) {
                done if done == b"+OK\r\n" => b":1\r\n".to_vec(),
                error => error,
            },
            b"RENAME" | b"COPY" => self.transfer(&words),
            _ => self.base(&words),
        };
        let mut deadlines = std::mem::take(&mut self.deadlines);
        deadlines.retain(|key, _| self.exists(key));
        self.deadlines = deadlines;
        Due::Exactly(due)
    }

    /// RENAME and COPY: the expiry time goes along.
    fn transfer(&mut self, words: &[&[u8]]) -> Vec<u8> {
        let reply = self.base(words);
        if reply != b"+OK\r\n" && reply != b":1\r\n" {
            return reply;
        }
        let deadline = match words[0] {
            b"RENAME" => self.deadlines.remove(words[1]),
            _ => self.deadlines.get(words[1]).copied(),
        };
        self.deadlines.remove(words[2]);
        if let Some(deadline) = deadline {
            self.deadlines.insert(words[2].to_vec(), deadline);
        }
        reply
    }

    /// Commands that replace strings whole.
    fn write(&mut self, words: &[&[u8]], when: Span) -> Vec<u8> {
        let key = words[1];
        match words[0] {
            b"SETNX" if self.exists(key) => return b":0\r\n".to_vec(),
            b"SETNX" => {
                self.put(key, words[2], None);
                return b":1\r\n".to_vec();
            }
            b"GETSET" => {
                let old = self.base(&[b"GET", key]);
                if old[0] != b'-' {
                    self.put(key, words[2], None);
                }
                return old;
            }
            b"SETEX" => self.put(key, words[3], Some(when.plus(number(words[2]) as u64 * 1000))),
            b"PSETEX" => self.put(key, words[3], Some(when.plus(number(words[2]) as u64))),
            b"SET" => return self.set(words, when),
            b"MSETNX" if words[1..].iter().step_by(2).any(|key| self.exists(key)) => {
                return b":0\r\n".to_vec();
            }
            many => {
                words[1..].chunks(2).for_each(|pair| self.put(pair[0], pair[1], None));
                if many == b"MSETNX" {
                    return b":1\r\n".to_vec();
                }
            }
        }
        b"+OK\r\n".to_vec()
    }

    fn set(&mut self, words: &[&[u8]], when: Span) -> Vec<u8> {
        let key = words[1];
        let has = |option: &[u8]| words[3..].contains(&option);
        let after =
            |option: &[u8]| words[3..].iter().position(|word| *word == option).map(|at| words[4 + at]);
        let old = has(b"GET").then(|| self.base(&[b"GET", key]));
        if let Some(error) = old.as_ref().filter(|old| old[0] == b'-') {
            return error.clone();
        }
        if (has(b"NX") && self.exists(key)) || (has(b"XX") && !self.exists(key)) {
            return old.unwrap_or_else(|| b"$-1\r\n".to_vec());
        }
        let kept = self.deadlines.get(key).copied().filter(|_| has(b"KEEPTTL"));
        let given = after(b"PX").map(|ms| when.plus(number(ms) as u64));
        self.put(key, words[2], given.or(kept));
        old.unwrap_or_else(|| b"+OK\r\n".to_vec())
    }

    fn put(&mut self, key: &[u8], value: &[u8], deadline: Option<Span>) {
        self.base(&[b"SET", key, value]);
        match deadline {
            Some(deadline) => self.deadlines.insert(key.to_vec(), deadline),
            None => self.deadlines.remove(key),
        };
    }

    fn add(&mut self, key: &[u8], added: i64) -> Vec<u8> {
        let mut reply = self.base(&[b"INCR", key]);
        if reply[0] == b':' {
            let sum = number(&reply[1..reply.len() - 2]) - 1 + added;
            self.base(&[b"SET", key, sum.to_string().as_bytes()]);
            reply = format!(":{sum}\r\n").into_bytes();
        }
        reply
    }

    fn change_deadline(&mut self, words: &[&[u8]], when: Span) -> Vec<u8> {
        let key = words[1];
        let has_changed = match words[0] {
            b"PERSIST" => self.deadlines.remove(key).is_some(),
            _ if !self.exists(key) => false,
            name => {
                let time = number(words[2]) as u64;
                let deadline = match name {
                    b"EXPIRE" => when.plus(time * 1000),
                    b"PEXPIRE" => when.plus(time),
                    _ => Span { from_ms: time, to_ms: time },
                };
                self.deadlines.insert(key.to_vec(), deadline);
                true
            }
        };
        format!(":{}\r\n", i32::from(has_changed)).into_bytes()
    }

    /// TTL and PTTL, rounded to the nearest unit.
    fn remaining(&mut self, key: &[u8], when: Span, unit_ms: i64) -> Due {
        if !self.exists(key) {
            return Due::Exactly(b":-2\r\n".to_vec());
        }
        let Some(deadline) = self.deadlines.get(key) else { return Due::Exactly(b":-1\r\n".to_vec()) };
        let left = |until: u64, now: u64| (until as i64 - now as i64 + unit_ms / 2) / unit_ms;
        Due::Between(left(deadline.from_ms, when.to_ms), left(deadline.to_ms, when.from_ms))
    }
}

impl Due {
    fn allows(&self, reply: &[u8]) -> bool {
        match self {
            Due::Exactly(due) => due == reply,
            Due::Between(low, high) => integer(reply).is_some_and(|value| (*low..=*high).contains(&value)),
        }
    }

    fn shown(&self) -> String {
        match self {
            Due::Exactly(due) => brief(due),
            Due::Between(low, high) => format!("{low} to {high}"),
        }
    }
}

impl Span {
    /// So much later.
    pub fn plus(self, ms: u64) -> Span {
        Span { from_ms: self.from_ms + ms, to_ms: self.to_ms + ms }
    }
}

/// The keys that a command names.
fn keys_of(words: &[Vec<u8>]) -> impl Iterator<Item = Vec<u8>> + Clone {
    let (count, step) = match words[0].as_slice() {
        b"PING" | b"FLUSHDB" => (0, 1),
        b"MGET" | b"DEL" | b"UNLINK" | b"EXISTS" | b"TOUCH" => (words.len() - 1, 1),
        b"MSET" | b"MSETNX" => (words.len() / 2, 2),
        b"RENAME" | b"RENAMENX" | b"COPY" | b"LMOVE" | b"RPOPLPUSH" => (2, 1),
        _ => (1, 1),
    };
    let mut keys: Vec<Vec<u8>> = words[1..].iter().step_by(step).take(count).cloned().collect();
    keys.sort_unstable();
    keys.dedup();
    keys.into_iter()
}

/// The number of an integer reply.
pub fn integer(reply: &[u8]) -> Option<i64> {
    std::str::from_utf8(reply.strip_prefix(b":")?.strip_suffix(b"\r\n")?).ok()?.parse().ok()
}

/// A number that the traffic has made itself.
fn number(word: &[u8]) -> i64 {
    std::str::from_utf8(word).ok().and_then(|text| text.parse().ok()).expect("a number where one belongs")
}

/// The start of some bytes, for people.
pub fn brief(bytes: &[u8]) -> String {
    const SHOWN: usize = 60;
    let start = bytes[..bytes.len().min(SHOWN)].escape_ascii();
    if bytes.len() > SHOWN { format!("{start}... ({} bytes)", bytes.len()) } else { start.to_string() }
}
