//! The requests of one client, from its first to its last.
//!
//! ```text
//!   receive ──► requests ─┬─ READ, WRITE: at once ──────────────────► replies ──► one send
//!      ▲                  └─ TRIM, WRITE_ZEROES, CACHE, syncs ─► backlog ──┘ a step after each send
//!      └── only when nothing whole is left to look at
//! ```
//!
//! Replies therefore leave out of order. Everything is bounded: what is not yet looked at by the input's buffer, what is
//! not yet sent by [`Outgoing::is_full`], what is not yet done by the backlog. A client that stops reading
//! stops this thread, and nobody else. Refuses nonsense with an error, and ends the connection of a client
//! whose next request cannot be found.

use crate::backlog::{Backlog, Work};
use crate::export::{Export, errno};
use crate::input::Input;
use crate::outgoing::{Outgoing, Style};
use crate::wire::Wire;
use farmem_link::nbd::proto::{Command, CommandFlags, Errno, PAYLOAD_BYTES_MAX, REQUEST_MAGIC, Request};
use std::io;
use std::ops::Range;
use zerocopy::FromBytes;

/// Rest of a WRITE that is received straight into the memory; less of it comes with the requests behind it.
const STRAIGHT_BYTES_MIN: usize = 32 << 10;

/// One client at work on one export.
pub(crate) struct Session<'a> {
    export: &'a Export,
    wire: &'a mut Wire,
    input: Input,
    replies: Outgoing,
    backlog: Backlog,
    structured: bool,
}

/// Whether the client has said that it goes.
#[derive(PartialEq, Eq)]
enum Next {
    Request,
    Disconnect,
}

impl<'a> Session<'a> {
    pub fn new(wire: &'a mut Wire, export: &'a Export, structured: bool) -> Session<'a> {
        let style = if structured { Style::Structured } else { Style::Simple };
        Session {
            export,
            wire,
            input: Input::new(),
            replies: Outgoing::new(style),
            backlog: Backlog::default(),
            structured,
        }
    }

    /// Serves until the client goes.
    ///
    /// # Errors
    /// Of the connection, of the memory in the middle of a reply, `InvalidData` if the client breaks the protocol.
    pub fn run(&mut self) -> io::Result<()> {
        loop {
            while let Ok((request, _)) = Request::read_from_prefix(self.input.bytes()) {
                self.input.take(Request::LEN);
                if self.handle(&request)? == Next::Disconnect {
                    return self.finish();
                }
                while self.backlog.is_full() {
                    self.step()?;
                }
                if self.replies.is_full() {
                    self.send()?;
                }
            }
            self.send()?;
            // A step each time round, so that a client that never pauses still gets its slow requests done.
            while !self.backlog.is_empty() {
                self.step()?;
                if self.wire.is_readable()? {
                    break;
                }
            }
            if self.input.fill(self.wire)? == 0 {
                return self.finish();
            }
        }
    }

    /// Answers everything that was asked before the client went.
    fn finish(&mut self) -> io::Result<()> {
        while !self.backlog.is_empty() {
            self.step()?;
        }
        self.send()
    }

    fn step(&mut self) -> io::Result<()> {
        self.backlog.step(&self.export.memory, &mut self.replies);
        self.send()
    }

    fn send(&mut self) -> io::Result<()> {
        if self.replies.is_empty() {
            return Ok(());
        }
        self.wire.send(&self.export.memory, &mut self.replies)
    }

    fn handle(&mut self, request: &Request) -> io::Result<Next> {
        if request.magic.get() != REQUEST_MAGIC {
            return Err(wrong("it sends something that is no request"));
        }
        let (cookie, len) = (request.cookie, request.len.get());
        self.export.count(request.command, len);
        match request.command {
            Command::DISC => return Ok(Next::Disconnect),
            Command::WRITE => return self.write(request).map(|()| Next::Request),
            Command::READ => match self.check(request) {
                Ok(bytes) => self.replies.data(cookie, bytes),
                Err(error) => {
                    self.export.counters.refused.add(1);
                    self.replies.no_data(cookie, error);
                }
            },
            command => match self.check(request) {
                Ok(bytes) => self.begin(request, command, bytes),
                Err(error) => self.refuse(request, error),
            },
        }
        Ok(Next::Request)
    }

    /// Starts what is not done at once.
    fn begin(&mut self, request: &Request, command: Command, bytes: Range<u64>) {
        let (cookie, flags) = (request.cookie, flags_of(request));
        let sync = flags.contains(CommandFlags::FUA) && self.export.memory.is_kept();
        match command {
            Command::TRIM => self.backlog.push(cookie, Work::Discard, bytes, sync),
            Command::CACHE => self.backlog.push(cookie, Work::Expect, bytes, sync),
            Command::WRITE_ZEROES => {
                let keep = flags.contains(CommandFlags::NO_HOLE);
                self.backlog.push(cookie, Work::Zero { keep }, bytes, sync);
            }
            Command::FLUSH if self.export.memory.is_kept() => self.backlog.push_sync(cookie),
            _ => self.replies.done(cookie, Errno::NONE),
        }
    }

    /// The bytes that a request is about, if they exist and its flags make sense.
    #[inline]
    fn check(&self, request: &Request) -> Result<Range<u64>, Errno> {
        let (start, len) = (request.offset.get(), request.len.get());
        let (allowed, len_max, past_the_end) = match request.command {
            Command::READ if self.structured => (CommandFlags::DF, PAYLOAD_BYTES_MAX, Errno::EINVAL),
            Command::READ => (CommandFlags::empty(), PAYLOAD_BYTES_MAX, Errno::EINVAL),
            Command::WRITE => (CommandFlags::empty(), PAYLOAD_BYTES_MAX, Errno::ENOSPC),
            Command::WRITE_ZEROES => (CommandFlags::NO_HOLE, u32::MAX, Errno::ENOSPC),
            Command::FLUSH if start != 0 || len != 0 => return Err(Errno::EINVAL),
            Command::TRIM | Command::CACHE | Command::FLUSH => {
                (CommandFlags::empty(), u32::MAX, Errno::EINVAL)
            }
            _ => return Err(Errno::EINVAL),
        };
        // FUA may come with every command, whether it means anything there or not.
        if !(allowed | CommandFlags::FUA).contains(flags_of(request)) || len > len_max {
            return Err(Errno::EINVAL);
        }
        let end = start.checked_add(u64::from(len)).filter(|&end| end <= self.export.memory.len());
        end.map(|end| start..end).ok_or(past_the_end)
    }

    /// Takes the bytes that follow a WRITE: those that are here by a copy, the others straight from the socket.
    fn write(&mut self, request: &Request) -> io::Result<()> {
        if request.len.get() > PAYLOAD_BYTES_MAX {
            return Err(wrong("it writes more at once than it may"));
        }
        let bytes = match self.check(request) {
            Ok(bytes) => bytes,
            Err(error) => {
                self.skip(request.len.get() as usize)?;
                self.refuse(request, error);
                return Ok(());
            }
        };
        let mut left = bytes;
        let mut kept = Ok(());
        while left.start < left.end && kept.is_ok() {
            let len = (left.end - left.start) as usize;
            let here = self.input.take(len);
            let taken = if !here.is_empty() {
                kept = self.export.memory.write(left.start, here);
                here.len()
            } else if len >= STRAIGHT_BYTES_MIN {
                let (taken, result) = self.wire.receive(&self.export.memory, left.start, len)?;
                kept = result;
                taken
            } else {
                self.refill()?;
                0
            };
            left.start += taken as u64;
        }
        if let Err(error) = kept {
            log::warn!("cannot keep what a client writes: {error}");
            self.skip((left.end - left.start) as usize)?;
            self.refuse(request, errno(&error));
        } else if flags_of(request).contains(CommandFlags::FUA) && self.export.memory.is_kept() {
            self.backlog.push_sync(request.cookie);
        } else {
            self.replies.done(request.cookie, Errno::NONE);
        }
        Ok(())
    }

    /// Reads past the bytes of a WRITE that failed.
    fn skip(&mut self, mut len: usize) -> io::Result<()> {
        while len > 0 {
            match self.input.take(len).len() {
                0 => self.refill()?,
                taken => len -= taken,
            }
        }
        Ok(())
    }

    fn refill(&mut self) -> io::Result<()> {
        match self.input.fill(self.wire)? {
            0 => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "it went in the middle of a WRITE")),
            _ => Ok(()),
        }
    }

    fn refuse(&mut self, request: &Request, error: Errno) {
        self.export.counters.refused.add(1);
        self.replies.done(request.cookie, error);
    }
}

fn flags_of(request: &Request) -> CommandFlags {
    CommandFlags::from_bits_retain(request.flags.get())
}

fn wrong(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}
