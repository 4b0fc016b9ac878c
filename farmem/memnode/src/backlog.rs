//! Requests that may take a while (TRIM, WRITE_ZEROES, CACHE, syncs): done a step at a time, between others.
//!
//! So a READ never waits for a TRIM of gigabytes, and its reply overtakes the TRIM's. Refuses to hold more than
//! [`BACKLOG_MAX`] requests: then the connection does them before it reads on.

use crate::export::errno;
use crate::memory::Memory;
use crate::outgoing::Outgoing;
use crate::touched::PAGE_BYTES;
use farmem_link::nbd::proto::Errno;
use std::collections::VecDeque;
use std::io;
use std::ops::Range;
use zerocopy::byteorder::big_endian::U64;

/// Requests of one connection that may wait here.
pub(crate) const BACKLOG_MAX: usize = 256;

/// Bytes that one step works through: giving back 1024 pages takes the kernel about a quarter of a millisecond.
const STEP_BYTES: u64 = 4 << 20;

/// What is to be done with a range.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Work {
    Discard,
    Zero { keep: bool },
    Expect,
}

#[derive(Debug)]
struct Slow {
    cookie: U64,
    work: Work,
    left: Range<u64>,
    sync: bool,
}

/// Requests in the order in which they will be done.
#[derive(Default)]
pub(crate) struct Backlog {
    slow: VecDeque<Slow>,
    /// To be answered once everything that was done is on stable storage.
    unsynced: Vec<U64>,
}

impl Backlog {
    /// Takes a request. With `sync` its answer means that the bytes are on stable storage.
    pub fn push(&mut self, cookie: U64, work: Work, bytes: Range<u64>, sync: bool) {
        self.slow.push_back(Slow { cookie, work, left: bytes, sync });
    }

    /// Takes a FLUSH, or a WRITE that is done and wants to be on stable storage.
    pub fn push_sync(&mut self, cookie: U64) {
        self.unsynced.push(cookie);
    }

    pub fn is_empty(&self) -> bool {
        self.slow.is_empty() && self.unsynced.is_empty()
    }

    pub fn is_full(&self) -> bool {
        self.slow.len() + self.unsynced.len() >= BACKLOG_MAX
    }

    /// Does a step of what is waiting, and answers what is finished. One sync serves all who wait for one.
    pub fn step(&mut self, memory: &Memory, replies: &mut Outgoing) {
        if !self.unsynced.is_empty() {
            let error = memory.sync().map_or_else(|error| errno(&error), |()| Errno::NONE);
            self.unsynced.drain(..).for_each(|cookie| replies.done(cookie, error));
        }
        let mut budget = STEP_BYTES;
        while budget > 0
            && let Some(slow) = self.slow.front_mut()
        {
            // Steps end where pages do: a page that lies in two steps would be given back by neither.
            let end = (slow.left.start + budget).next_multiple_of(PAGE_BYTES).min(slow.left.end);
            budget = budget.saturating_sub(end - slow.left.start);
            let done = slow.work.on(memory, slow.left.start..end);
            slow.left.start = end;
            match done {
                Err(error) => replies.done(slow.cookie, errno(&error)),
                Ok(()) if end < slow.left.end => return,
                Ok(()) if slow.sync => self.unsynced.push(slow.cookie),
                Ok(()) => replies.done(slow.cookie, Errno::NONE),
            }
            self.slow.pop_front();
        }
    }
}

impl Work {
    fn on(self, memory: &Memory, bytes: Range<u64>) -> io::Result<()> {
        match self {
            Work::Discard => memory.discard(bytes),
            Work::Zero { keep } => memory.zero(bytes, keep),
            Work::Expect => {
                memory.expect(bytes);
                Ok(())
            }
        }
    }
}
