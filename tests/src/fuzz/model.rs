//! What strings and lists do, in the plainest way: a map of vectors. The truth that the engine is held to.
//!
//! Knows the commands that the fuzz target sends and answers in RESP2. Refuses to be fast.

use std::collections::HashMap;

type Words<'a> = [&'a [u8]];

const WRONG_TYPE: &str = "-WRONGTYPE Operation against a key holding the wrong kind of value\r\n";
const NOT_INTEGER: &str = "-ERR value is not an integer or out of range\r\n";
const NO_KEY: &str = "-ERR no such key\r\n";

/// A value.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Value {
    /// A string.
    Text(Vec<u8>),
    /// A list; never empty.
    List(Vec<Vec<u8>>),
}

/// A database.
#[derive(Clone, Default, PartialEq)]
pub struct Model {
    keys: HashMap<Vec<u8>, Value>,
}

/// The value had the wrong type.
struct Wrong;

impl Model {
    /// Runs one command; the answer is its reply.
    pub fn run(&mut self, words: &Words<'_>) -> Vec<u8> {
        let name = words[0].to_ascii_uppercase();
        let replied = match &name[..] {
            b"GET" | b"SET" | b"APPEND" | b"STRLEN" | b"SETRANGE" | b"GETRANGE" | b"INCR" | b"MGET"
            | b"GETDEL" => self.text_command(&name, words),
            b"DEL" | b"EXISTS" | b"TYPE" | b"RENAME" | b"COPY" => Ok(self.key_command(&name, words)),
            _ => self.list_command(&name, words),
        };
        replied.unwrap_or_else(|Wrong| WRONG_TYPE.into())
    }

    fn text(&self, key: &[u8]) -> Result<Option<&Vec<u8>>, Wrong> {
        match self.keys.get(key) {
            None => Ok(None),
            Some(Value::Text(text)) => Ok(Some(text)),
            Some(Value::List(_)) => Err(Wrong),
        }
    }

    /// The list, an empty one if there is no key. To be given back with [`Model::put`].
    fn take(&mut self, key: &[u8]) -> Result<Vec<Vec<u8>>, Wrong> {
        match self.keys.get_mut(key) {
            None => Ok(Vec::new()),
            Some(Value::List(list)) => Ok(std::mem::take(list)),
            Some(Value::Text(_)) => Err(Wrong),
        }
    }

    fn put(&mut self, key: &[u8], list: Vec<Vec<u8>>) {
        if list.is_empty() {
            self.keys.remove(key);
        } else {
            self.keys.insert(key.to_vec(), Value::List(list));
        }
    }

    fn text_command(&mut self, name: &[u8], words: &Words<'_>) -> Result<Vec<u8>, Wrong> {
        let key = words[1];
        Ok(match name {
            b"GET" => bulk(self.text(key)?.map(Vec::as_slice)),
            b"GETDEL" => {
                let reply = bulk(self.text(key)?.map(Vec::as_slice));
                self.keys.remove(key);
                reply
            }
            b"MGET" => {
                let found: Vec<_> = words[1..].iter().map(|key| self.text(key).ok().flatten()).collect();
                array(&found, |text| bulk(text.map(Vec::as_slice)))
            }
            b"SET" => {
                self.keys.insert(key.to_vec(), Value::Text(words[2].to_vec()));
                b"+OK\r\n".to_vec()
            }
            b"STRLEN" => integer(self.text(key)?.map_or(0, Vec::len) as i64),
            b"GETRANGE" => {
                let text = self.text(key)?.cloned().unwrap_or_default();
                bulk(Some(&text[part(number(words[2]), number(words[3]), text.len())]))
            }
            b"APPEND" | b"SETRANGE" => {
                let mut text = self.text(key)?.cloned().unwrap_or_default();
                let (at, added) = match name {
                    b"APPEND" => (text.len(), words[2]),
                    _ => (number(words[2]) as usize, words[3]),
                };
                if !added.is_empty() {
                    text.resize(text.len().max(at + added.len()), 0);
                    text[at..at + added.len()].copy_from_slice(added);
                }
                let len = text.len() as i64;
                if !added.is_empty() || name == b"APPEND" {
                    self.keys.insert(key.to_vec(), Value::Text(text));
                }
                integer(len)
            }
            _ => {
                let Some(value) = self.text(key)?.map_or(Some(0), |text| parse(text)) else {
                    return Ok(NOT_INTEGER.into());
                };
                let Some(sum) = value.checked_add(1) else {
                    return Ok(b"-ERR increment or decrement would overflow\r\n".to_vec());
                };
                self.keys.insert(key.to_vec(), Value::Text(sum.to_string().into_bytes()));
                integer(sum)
            }
        })
    }

    fn key_command(&mut self, name: &[u8], words: &Words<'_>) -> Vec<u8> {
        match name {
            b"DEL" => {
                integer(words[1..].iter().filter(|key| self.keys.remove(**key).is_some()).count() as i64)
            }
            b"EXISTS" => {
                integer(words[1..].iter().filter(|key| self.keys.contains_key(**key)).count() as i64)
            }
            b"TYPE" => match self.keys.get(words[1]) {
                None => b"+none\r\n".to_vec(),
                Some(Value::Text(_)) => b"+string\r\n".to_vec(),
                Some(Value::List(_)) => b"+list\r\n".to_vec(),
            },
            b"RENAME" => match self.keys.remove(words[1]) {
                None => NO_KEY.into(),
                Some(value) => {
                    self.keys.insert(words[2].to_vec(), value);
                    b"+OK\r\n".to_vec()
                }
            },
            _ if words[1] == words[2] => b"-ERR source and destination objects are the same\r\n".to_vec(),
            _ => match self.keys.get(words[1]).cloned() {
                Some(value) => {
                    self.keys.insert(words[2].to_vec(), value); // sent with REPLACE
                    integer(1)
                }
                None => integer(0),
            },
        }
    }

    fn list_command(&mut self, name: &[u8], words: &Words<'_>) -> Result<Vec<u8>, Wrong> {
        let key = words[1];
        if name == b"LMOVE" {
            return self.move_element(words);
        }
        let mut list = self.take(key)?;
        let reply = match name {
            b"LPUSH" | b"RPUSH" => {
                for word in &words[2..] {
                    let at = if name == b"LPUSH" { 0 } else { list.len() };
                    list.insert(at, word.to_vec());
                }
                integer(list.len() as i64)
            }
            b"LPOP" | b"RPOP" => {
                pop(&mut list, name == b"LPOP", words.get(2).map(|count| number(count) as usize))
            }
            b"LLEN" => integer(list.len() as i64),
            b"LRANGE" => {
                let range = clamp(number(words[2]), number(words[3]), list.len());
                array(&list[range], |element| bulk(Some(element)))
            }
            b"LINDEX" => bulk(position(number(words[2]), list.len()).map(|at| list[at].as_slice())),
            b"LSET" if list.is_empty() => NO_KEY.into(),
            b"LSET" => match position(number(words[2]), list.len()) {
                None => b"-ERR index out of range\r\n".to_vec(),
                Some(at) => {
                    list[at] = words[3].to_vec();
                    b"+OK\r\n".to_vec()
                }
            },
            b"LINSERT" if list.is_empty() => integer(0),
            b"LINSERT" => match list.iter().position(|element| element == words[3]) {
                None => integer(-1),
                Some(at) => {
                    list.insert(at + usize::from(words[2] == b"AFTER"), words[4].to_vec());
                    integer(list.len() as i64)
                }
            },
            b"LREM" => integer(remove(&mut list, number(words[2]), words[3])),
            b"LTRIM" => {
                let range = clamp(number(words[2]), number(words[3]), list.len());
                list = list[range].to_vec();
                b"+OK\r\n".to_vec()
            }
            _ => unreachable!("the target sends no {}", String::from_utf8_lossy(name)),
        };
        self.put(key, list);
        Ok(reply)
    }

    fn move_element(&mut self, words: &Words<'_>) -> Result<Vec<u8>, Wrong> {
        let mut from = self.take(words[1])?;
        if from.is_empty() {
            return Ok(bulk(None));
        }
        if matches!(self.keys.get(words[2]), Some(Value::Text(_))) {
            self.put(words[1], from);
            return Err(Wrong);
        }
        let element = from.remove(if words[3] == b"LEFT" { 0 } else { from.len() - 1 });
        self.put(words[1], from);
        let mut to = self.take(words[2])?;
        to.insert(if words[4] == b"LEFT" { 0 } else { to.len() }, element.clone());
        self.put(words[2], to);
        Ok(bulk(Some(&element)))
    }
}

fn pop(list: &mut Vec<Vec<u8>>, from_left: bool, count: Option<usize>) -> Vec<u8> {
    let wanted = count.unwrap_or(1).min(list.len());
    let popped: Vec<Vec<u8>> = if from_left {
        list.drain(..wanted).collect()
    } else {
        list.drain(list.len() - wanted..).rev().collect()
    };
    match count {
        None => bulk(popped.first().map(Vec::as_slice)),
        Some(_) if popped.is_empty() && list.is_empty() => b"*-1\r\n".to_vec(),
        Some(_) => array(&popped, |element| bulk(Some(element))),
    }
}

fn remove(list: &mut Vec<Vec<u8>>, count: i64, value: &[u8]) -> i64 {
    let most = if count == 0 { usize::MAX } else { count.unsigned_abs() as usize };
    let mut at: Vec<usize> = (0..list.len()).filter(|&index| list[index] == value).collect();
    if count < 0 {
        at.reverse();
    }
    at.truncate(most);
    at.sort_unstable_by(|a, b| b.cmp(a));
    at.iter().for_each(|&index| drop(list.remove(index)));
    at.len() as i64
}

/// Elements `start..=stop` of `len`, negative ones from the end.
fn clamp(start: i64, stop: i64, len: usize) -> std::ops::Range<usize> {
    let len = len as i64;
    let start = if start < 0 { (start + len).max(0) } else { start };
    let stop = (if stop < 0 { stop + len } else { stop }).min(len - 1);
    if start > stop { 0..0 } else { start as usize..stop as usize + 1 }
}

/// Bytes `start..=stop` of `len` for GETRANGE, which takes a stop before the first byte for the first byte.
fn part(start: i64, stop: i64, len: usize) -> std::ops::Range<usize> {
    if start < 0 && stop < 0 && start > stop {
        return 0..0;
    }
    let stop = if stop < 0 { (stop + len as i64).max(0) } else { stop };
    clamp(start, stop, len)
}

fn position(index: i64, len: usize) -> Option<usize> {
    let at = if index < 0 { index + len as i64 } else { index };
    (0..len as i64).contains(&at).then_some(at as usize)
}

/// An integer as Redis accepts one: its only spelling.
fn parse(text: &[u8]) -> Option<i64> {
    let value: i64 = std::str::from_utf8(text).ok()?.parse().ok()?;
    (value.to_string().as_bytes() == text).then_some(value)
}

/// A number that the target has made itself.
fn number(word: &[u8]) -> i64 {
    parse(word).expect("the target sends numbers where they belong")
}

fn integer(value: i64) -> Vec<u8> {
    format!(":{value}\r\n").into_bytes()
}

fn bulk(text: Option<&[u8]>) -> Vec<u8> {
    let Some(text) = text else { return b"$-1\r\n".to_vec() };
    [format!("${}\r\n", text.len()).as_bytes(), text, b"\r\n"].concat()
}

fn array<T>(items: &[T], encode: impl Fn(&T) -> Vec<u8>) -> Vec<u8> {
    let mut reply = format!("*{}\r\n", items.len()).into_bytes();
    items.iter().for_each(|item| reply.extend(encode(item)));
    reply
}
