//! One connection: bytes to be sent, requests in flight, the reply that is coming in.
//!
//! Refuses to guess: a reply without a request is malformed.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::net::TcpStream;

use super::Tally;
use crate::resp::{Malformed, Reply, Scanner};
use crate::workload::Dataset;
use crate::workload::source::{Expect, Verdict};

/// Sent bytes are cut off the front of the buffer only beyond this, so that a backlog is moved rarely.
const SENT_BYTES_KEPT: usize = 1 << 20;

/// A request in flight.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pending {
    /// When it was sent, or due.
    pub(super) since_ns: u64,
    /// The right reply.
    pub(super) expect: Expect,
    /// True if the reply's bytes are kept and checked.
    pub(super) verify: bool,
}

/// A socket and its state.
pub(super) struct Connection {
    stream: TcpStream,
    out: Vec<u8>,
    sent: usize,
    pending: VecDeque<Pending>,
    scanner: Scanner,
    /// The bytes of the current reply, if it is to be verified.
    kept: Vec<u8>,
}

impl Connection {
    pub(super) fn new(stream: TcpStream) -> Self {
        Connection {
            stream,
            out: Vec::new(),
            sent: 0,
            pending: VecDeque::new(),
            scanner: Scanner::default(),
            kept: Vec::new(),
        }
    }

    #[inline]
    pub(super) fn in_flight(&self) -> usize {
        self.pending.len()
    }

    pub(super) fn in_flight_since(&self) -> impl Iterator<Item = u64> + '_ {
        self.pending.iter().map(|pending| pending.since_ns)
    }

    /// Where the next request is appended.
    #[inline]
    pub(super) fn outgoing(&mut self) -> &mut Vec<u8> {
        &mut self.out
    }

    #[inline]
    pub(super) fn push(&mut self, pending: Pending) {
        self.pending.push_back(pending);
    }

    /// Writes what the socket takes.
    #[inline]
    pub(super) fn flush(&mut self) -> io::Result<()> {
        while self.sent < self.out.len() {
            match self.stream.write(&self.out[self.sent..]) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => self.sent += written,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if self.sent > SENT_BYTES_KEPT {
                        self.out.drain(..self.sent);
                        self.sent = 0;
                    }
                    return Ok(());
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.out.clear();
        self.sent = 0;
        Ok(())
    }

    /// Reads what is there.
    #[inline]
    pub(super) fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.stream.read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => return other,
            }
        }
    }

    /// Consumes `input` up to the end of the current reply.
    #[inline]
    pub(super) fn advance(&mut self, input: &[u8]) -> Result<(usize, Option<(Pending, Reply)>), Malformed> {
        let verify = self.pending.front().ok_or(Malformed)?.verify;
        let (used, reply) = self.scanner.advance(input)?;
        if verify {
            self.kept.extend_from_slice(&input[..used]);
        }
        let answer = reply.and_then(|reply| Some((self.pending.pop_front()?, reply)));
        Ok((used, answer))
    }

    /// Counts what the reply that just ended is worth.
    #[inline]
    pub(super) fn judge(&mut self, data: &Dataset, pending: &Pending, reply: &Reply, tally: &mut Tally) {
        match pending.expect.judge(reply) {
            Verdict::Right if pending.verify => {
                tally.verified += 1;
                if let Err(difference) = pending.expect.verify(data, &self.kept) {
                    tally.wrong += 1;
                    tally.first_wrong.get_or_insert(difference);
                }
            }
            Verdict::Right => {}
            Verdict::Error => {
                tally.errors += 1;
                tally.first_error.get_or_insert_with(|| self.scanner.error_text());
            }
            Verdict::Wrong => {
                tally.wrong += 1;
                tally.first_wrong.get_or_insert_with(|| format!("{}: {reply:?}", pending.expect));
            }
        }
        self.kept.clear();
    }
}
