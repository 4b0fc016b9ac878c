//! A client of the simulation: sends its commands in odd pieces, reads when it likes, checks every reply.

use super::model::{Model, Span, brief};
use super::rng::Rng;
use super::scenario::Scenario;
use super::shared::{Asked, Shared};
use super::traffic::Traffic;
use engine::{ClientId, Engine, Now};
use std::collections::VecDeque;

/// Slices of output taken at a time.
const SLICES: usize = 8;

/// Longest first line of a reply. Errors quote the client's words, 128 bytes of them at most.
const HEAD_MAX: usize = 1024;

/// What a sent command is checked by.
#[derive(Clone, Debug)]
pub enum Check {
    /// The client's own model.
    Own,
    /// What holds for shared keys.
    Shared(Asked),
    /// Any reply will do.
    Nothing,
}

struct Pending {
    words: Vec<Vec<u8>>,
    check: Check,
    sent_ms: u64,
}

/// One connection and what is known about it.
pub struct Client {
    /// Its name in the engine.
    pub id: ClientId,
    /// Its number among the clients of the simulation, never given twice.
    pub number: usize,
    /// What it sends.
    pub traffic: Traffic,
    /// Bytes that are to be sent.
    outbox: VecDeque<u8>,
    pending: VecDeque<Pending>,
    model: Model,
    heard: Vec<u8>,
    scanner: Scanner,
    /// The command that was answered last, for people.
    pub last_answered: String,
    /// It reads nothing for so many steps.
    pub paused: u32,
    /// Steps without a byte either way, while it would have read.
    pub idle_steps: u32,
}

/// What became of a client in a step.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fate {
    /// It goes on.
    Lives,
    /// The engine has closed its connection.
    Closed,
}

/// What replies were like.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Heard {
    /// Replies.
    pub replies: u64,
    /// Of those, errors that the world was to blame for.
    pub world_errors: u64,
    /// Checksum over all bytes, in the order in which they came.
    pub digest: u64,
}

impl Client {
    /// A client that is connected.
    pub fn new(id: ClientId, number: usize, traffic: Traffic) -> Client {
        Client {
            id,
            number,
            traffic,
            outbox: VecDeque::new(),
            pending: VecDeque::new(),
            model: Model::default(),
            heard: Vec::new(),
            scanner: Scanner::default(),
            last_answered: String::new(),
            paused: 0,
            idle_steps: 0,
        }
    }

    /// Commands that are not answered yet.
    pub fn owed(&self) -> usize {
        self.pending.len()
    }

    /// What is not answered yet, for people.
    pub fn waits_for(&self) -> String {
        self.pending.front().map_or_else(String::new, |pending| shown(&pending.words))
    }

    /// Queues a command.
    pub fn ask(&mut self, words: Vec<Vec<u8>>, check: Check, now: Now) {
        self.outbox.extend(format!("*{}\r\n", words.len()).into_bytes());
        for word in &words {
            self.outbox.extend(format!("${}\r\n", word.len()).into_bytes());
            self.outbox.extend(word);
            self.outbox.extend(b"\r\n");
        }
        self.pending.push_back(Pending { words, check, sent_ms: now.unix_ms });
    }

    /// Sends some of what is to be sent. Whether there was any.
    pub fn send(&mut self, engine: &mut Engine, rng: &mut Rng, now: Now) -> bool {
        if self.outbox.is_empty() || !engine.wants_input(self.id) {
            return false;
        }
        let most = rng.one_of(&[1, 10, 1000, 16_384, 65_536]);
        let len = rng.between(1, most) as usize;
        let bytes: Vec<u8> = self.outbox.drain(..len.min(self.outbox.len())).collect();
        engine.handle_input(self.id, &bytes, now);
        true
    }

    /// Reads some of what there is. Whether there was any.
    pub fn read(&mut self, engine: &mut Engine, rng: &mut Rng, now: Now) -> bool {
        if engine.output(self.id, &mut [&[][..]; 1]) == 0 {
            engine.handle_writable(self.id, now);
        }
        let mut slices: [&[u8]; SLICES] = [&[]; SLICES];
        let count = engine.output(self.id, &mut slices);
        let before = self.heard.len();
        slices[..count].iter().for_each(|slice| self.heard.extend_from_slice(slice));
        let mut bytes = self.heard.len() - before;
        if bytes > 1 && rng.one_in(4) {
            bytes = rng.between(1, bytes as u64) as usize;
            self.heard.truncate(before + bytes);
        }
        if bytes > 0 {
            engine.handle_written(self.id, bytes, now);
        }
        bytes > 0
    }

    /// Whether its connection is still there.
    pub fn fate(&self, engine: &Engine) -> Fate {
        if engine.should_close(self.id) { Fate::Closed } else { Fate::Lives }
    }

    /// Holds every reply that is whole against what it ought to be.
    ///
    /// # Panics
    /// If one is wrong.
    pub fn check(&mut self, scenario: &Scenario, shared: &mut Shared, now: Now, heard: &mut Heard) {
        while let Some(len) = self.scanner.whole(&self.heard) {
            let reply: Vec<u8> = self.heard.drain(..len).collect();
            let Some(pending) = self.pending.pop_front() else {
                panic!("a reply that nobody asked for: {}", brief(&reply));
            };
            if std::env::var_os("TRACE").is_some() {
                eprintln!(
                    "{} client {}: {} -> {}",
                    now.unix_ms,
                    self.number,
                    shown(&pending.words),
                    brief(&reply)
                );
            }
            heard.replies += 1;
            if scenario.is_cold {
                self.last_answered = shown(&pending.words);
            }
            heard.digest = reply
                .iter()
                .fold(heard.digest, |sum, byte| (sum ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3));
            if is_world_error(&reply) {
                let words = shown(&pending.words);
                assert!(scenario.allows(&reply), "{words}\n  answered without reason: {}", brief(&reply));
                heard.world_errors += 1;
                continue;
            }
            let when = Span { from_ms: pending.sent_ms, to_ms: now.unix_ms };
            let checked = match &pending.check {
                Check::Own => self.model.check(&pending.words, &reply, when, scenario.keys_vanish()),
                Check::Shared(asked) => shared.check(self.number, asked, &reply),
                Check::Nothing => Ok(()),
            };
            if let Err(due) = checked {
                let words = shown(&pending.words);
                panic!("client {}: {words}\n  due: {due}\n  got: {}", self.number, brief(&reply));
            }
        }
    }

    /// The client has gone: what it had asked of shared keys may have happened.
    pub fn forget(&self, shared: &mut Shared) {
        for pending in &self.pending {
            if let Check::Shared(asked) = &pending.check {
                shared.forget(asked);
            }
        }
    }
}

/// Whether a reply says that the world is wrong; nothing may have changed then.
fn is_world_error(reply: &[u8]) -> bool {
    reply.starts_with(b"-OOM") || reply.starts_with(b"-FARMEMORY")
}

/// Finds where a reply ends, in bytes that come bit by bit.
#[derive(Default)]
pub struct Scanner {
    at: usize,
    /// Values that are still to come, less the one that every reply is.
    more: usize,
}

impl Scanner {
    /// The length of the first reply in `bytes`, if it is whole. Then it is forgotten.
    pub fn whole(&mut self, bytes: &[u8]) -> Option<usize> {
        loop {
            let rest = bytes.get(self.at..)?;
            let end = rest.iter().take(HEAD_MAX).position(|byte| *byte == b'\n')?;
            let count: i64 = match rest[0] {
                b'$' | b'*' => {
                    std::str::from_utf8(&rest[1..end - 1]).ok().and_then(|digits| digits.parse().ok())?
                }
                _ => 0,
            };
            let body = if rest[0] == b'$' && count >= 0 { count as usize + 2 } else { 0 };
            if rest.len() < end + 1 + body {
                return None;
            }
            self.at += end + 1 + body;
            if rest[0] == b'*' {
                self.more += count.max(0) as usize;
            }
            if self.more == 0 {
                return Some(std::mem::take(&mut self.at));
            }
            self.more -= 1;
        }
    }
}

fn shown(words: &[Vec<u8>]) -> String {
    let head = words.iter().take(6).map(|word| brief(word)).collect::<Vec<_>>().join(" ");
    if words.len() > 6 { format!("{head} ... ({} words)", words.len()) } else { head }
}
