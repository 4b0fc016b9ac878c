//! Keys that all clients use: nobody knows the order, but some things hold in every order.
//!
//! ```text
//! INCR     every answer once, growing for each client, none beyond what was sent
//! RPUSH    elements that exist once; whoever reads sees those of one client in their order
//! LPOP     no element twice, none that was not pushed
//! SET/GET  a value says which one it is, and all of it is
//! ```
//!
//! A client that has vanished may or may not have had its commands run. Refuses to guess: what only it could
//! have done is allowed, not expected.

use super::model::{brief, integer};
use super::rng::Rng;
use std::collections::{HashMap, HashSet};

/// The keys, all of them.
pub const KEYS: [&str; 3] = ["shared:n", "shared:list", "shared:text"];

/// What was asked of a shared key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Asked {
    /// INCR.
    Count,
    /// RPUSH of this element.
    Push(Vec<u8>),
    /// LPOP.
    Pop,
    /// LRANGE of everything.
    Range,
    /// SET of this version.
    Write(u64),
    /// GET.
    Read,
}

/// What is known of the shared keys.
#[derive(Default)]
pub struct Shared {
    sent: i64,
    counted: HashSet<i64>,
    last_counted: HashMap<usize, i64>,
    pushed: HashSet<Vec<u8>>,
    /// Pushed elements whose push was answered.
    acknowledged: HashSet<Vec<u8>>,
    popped: HashSet<Vec<u8>>,
    /// Elements that clients which vanished may have taken along.
    lost_pops_max: usize,
    versions: u64,
}

impl Shared {
    /// The next thing to ask, as words.
    pub fn ask(&mut self, client: usize, rng: &mut Rng) -> (Asked, Vec<Vec<u8>>) {
        let [count, list, text] = KEYS.map(|key| key.as_bytes().to_vec());
        match rng.below(7) {
            0 => {
                self.sent += 1;
                (Asked::Count, vec![b"INCR".to_vec(), count])
            }
            1 | 2 => {
                let mut element = format!("{client}:{}:", self.pushed.len()).into_bytes();
                let padding = rng.one_of(&[0, 10, 200, 3000]);
                element.resize(element.len() + padding, b'.');
                self.pushed.insert(element.clone());
                (Asked::Push(element.clone()), vec![b"RPUSH".to_vec(), list, element])
            }
            3 => (Asked::Pop, vec![b"LPOP".to_vec(), list]),
            4 => (Asked::Range, words_of_range()),
            5 => {
                self.versions += 1;
                (Asked::Write(self.versions), vec![b"SET".to_vec(), text, version(self.versions)])
            }
            _ => (Asked::Read, vec![b"GET".to_vec(), text]),
        }
    }

    /// Holds a reply that is no error against what must hold.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn check(&mut self, client: usize, asked: &Asked, reply: &[u8]) -> Result<(), String> {
        match asked {
            Asked::Count => self.check_count(client, reply),
            Asked::Push(element) => {
                self.acknowledged.insert(element.clone());
                integer(reply).map(drop).ok_or_else(|| "a length".to_owned())
            }
            Asked::Pop => {
                let Some(popped) = elements(reply).pop() else { return Ok(()) };
                if !self.pushed.contains(&popped) {
                    return Err("an element that was pushed".to_owned());
                }
                if self.popped.insert(popped) { Ok(()) } else { Err("an element once".to_owned()) }
            }
            Asked::Range => self.check_range(&elements(reply)),
            Asked::Write(_) => (reply == b"+OK\r\n").then_some(()).ok_or_else(|| "OK".to_owned()),
            Asked::Read => {
                let Some(text) = elements(reply).pop() else { return Ok(()) };
                let number = std::str::from_utf8(&text[..text.len().min(8)])
                    .ok()
                    .and_then(|digits| digits.parse().ok());
                let is_whole =
                    number.is_some_and(|number| number <= self.versions && version(number) == text);
                if is_whole { Ok(()) } else { Err("one version of the value, whole".to_owned()) }
            }
        }
    }

    fn check_count(&mut self, client: usize, reply: &[u8]) -> Result<(), String> {
        let count = integer(reply).ok_or("a count")?;
        let last = self.last_counted.insert(client, count).unwrap_or(0);
        if count <= last || count > self.sent || !self.counted.insert(count) {
            return Err(format!("a count never answered before, above {last}, up to {}", self.sent));
        }
        Ok(())
    }

    fn check_range(&self, seen: &[Vec<u8>]) -> Result<(), String> {
        let mut last = HashMap::new();
        for element in seen {
            if !self.pushed.contains(element) {
                return Err(format!("elements that were pushed, and not {}", brief(element)));
            }
            let mut parts = element.split(|byte| *byte == b':').map(|part| {
                std::str::from_utf8(part).ok().and_then(|digits| digits.parse::<u64>().ok()).unwrap_or(0)
            });
            let (client, number) = (parts.next(), parts.next());
            if last.insert(client, number).is_some_and(|before| before >= number) {
                return Err(format!("the elements of one client in their order, at {}", brief(element)));
            }
        }
        Ok(())
    }

    /// A command of a client that has vanished: it may have run, or may not.
    pub fn forget(&mut self, asked: &Asked) {
        if *asked == Asked::Pop {
            self.lost_pops_max += 1;
        }
    }

    /// Holds the state at the end against all that was answered: `list` and `count` are replies to LRANGE
    /// and GET.
    ///
    /// # Panics
    /// If something was lost or has appeared.
    pub fn check_end(&self, list: &[u8], count: &[u8]) {
        let left: HashSet<Vec<u8>> = elements(list).into_iter().collect();
        let due =
            self.acknowledged.difference(&self.popped).filter(|element| !left.contains(*element)).count();
        assert!(due <= self.lost_pops_max, "{due} elements are gone, of which {} may be", self.lost_pops_max);
        assert!(left.is_disjoint(&self.popped), "an element that was popped is there");
        assert!(left.is_subset(&self.pushed), "an element that was not pushed is there");
        let count = elements(count).pop().and_then(|digits| String::from_utf8(digits).ok()?.parse().ok());
        let (low, high) = (self.counted.len() as i64, self.sent);
        assert!((low..=high).contains(&count.unwrap_or(0)), "{count:?} is not between {low} and {high}");
    }
}

/// `LRANGE` of the whole shared list.
pub fn words_of_range() -> Vec<Vec<u8>> {
    [b"LRANGE".as_slice(), KEYS[1].as_bytes(), b"0", b"-1"].map(<[u8]>::to_vec).to_vec()
}

/// A value that says which one it is.
fn version(number: u64) -> Vec<u8> {
    let mut rng = Rng::new(number);
    let len = rng.one_of(&[0, 50, 1000, 4096, 9000, 70_000]);
    [format!("{number:08}").into_bytes(), rng.bytes(len)].concat()
}

/// The bulk strings of a reply that is one, or an array of them. Nulls are left out.
pub fn elements(reply: &[u8]) -> Vec<Vec<u8>> {
    let mut elements = Vec::new();
    let mut at = 0;
    while let Some(end) = reply[at..].iter().position(|byte| *byte == b'\n') {
        let head = &reply[at..at + end - 1];
        at += end + 1;
        let len = std::str::from_utf8(&head[1..]).ok().and_then(|digits| digits.parse::<usize>().ok());
        if let (b'$', Some(len)) = (head[0], len) {
            elements.push(reply[at..at + len].to_vec());
            at += len + 2;
        }
    }
    elements
}
