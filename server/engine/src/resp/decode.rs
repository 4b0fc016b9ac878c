//! Requests: from the bytes of a connection to the spans of one command's arguments.
//!
//! ```text
//! *3 CRLF  $3 CRLF SET CRLF  $1 CRLF k CRLF  $5 CRLF value CRLF
//! └ count  └ length └ span 0          └ span 1         └ span 2
//!
//!             first byte '*'            each bulk there
//!   Idle ──────────────────────> Bulks ─────────────────> Complete
//!     │ any other byte             │  │ one of spool_min or more is missing
//!     └──> inline line             │  └──> BigBulk ── spooled() ──> behind its bytes, on with Bulks
//!                                  └ bytes run out: Incomplete; the next call goes on from there
//! ```
//!
//! Copies nothing, interprets nothing, and never looks twice at a byte that it has passed: what an
//! incomplete command has told so far stays in the client's [`Decoder`]. The bytes handed to
//! [`Decoder::parse`] begin with the first byte of the command each time.
//!
//! Source: `processMultibulkBuffer` and `processInlineBuffer` of Redis 7.0, oddities included: the byte
//! behind a CR is skipped unseen, and a NUL in a line hides the end of the line.

use super::inline;
use crate::number::parse_i64;
use alloc::vec::Vec;

/// The longest inline command, count line or length line.
///
/// Units: bytes. Source: `PROTO_INLINE_MAX_SIZE`.
pub const LINE_LEN_MAX: usize = 64 * 1024;
/// The most arguments of one command. Source: `INT_MAX` in `processMultibulkBuffer`.
pub const ARGC_MAX: i64 = i32::MAX as i64;
/// The most arguments before the client has authenticated.
pub const UNAUTHENTICATED_ARGC_MAX: i64 = 10;
/// The longest argument before the client has authenticated. Units: bytes.
pub const UNAUTHENTICATED_BULK_LEN_MAX: u64 = 16 * 1024;
/// How many spans a count line may reserve ahead of its arguments: 1024 x 8 bytes = 8 KiB a client.
const RESERVED_SPANS_MAX: usize = 1024;
/// Digits of a length that the short path reads: below 10^9, so no overflow and below every limit in u32.
const SHORT_DIGITS_MAX: usize = 9;

/// Where one argument lies, from the first byte of the command.
///
/// The span of an argument that was taken out of band ([`Decoder::spooled`]) is empty.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    /// Its first byte.
    pub start: u32,
    /// Units: bytes.
    pub len: u32,
}

impl Span {
    #[inline]
    pub(super) fn new(start: usize, len: usize) -> Self {
        Self { start: start as u32, len: len as u32 }
    }

    /// The bytes of this argument in the `buffer` that was parsed.
    #[inline]
    #[must_use]
    pub fn of(self, buffer: &[u8]) -> &[u8] {
        &buffer[self.start as usize..self.start as usize + self.len as usize]
    }
}

/// What a connection may send.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// `proto-max-bulk-len`. Units: bytes.
    pub bulk_len_max: u64,
    /// A bulk of at least so many bytes that is not all there is reported as [`Parsed::BigBulk`].
    pub spool_min: u64,
    /// Whether the client has authenticated, or need not.
    pub authenticated: bool,
}

/// How far a call got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parsed {
    /// One command: the spans are its arguments, in the bytes that were parsed.
    Complete {
        /// The bytes that the command took.
        consumed: usize,
    },
    /// One inline command with quotes: the spans are its arguments, in [`Decoder::take_unquoted`].
    Unquoted {
        /// The bytes that the command took.
        consumed: usize,
    },
    /// Nothing to run: an empty line, or a count of zero or less.
    Empty {
        /// The bytes that it took.
        consumed: usize,
    },
    /// Call again, with the same bytes and what came behind them.
    Incomplete {
        /// At least so many further bytes are missing.
        missing: usize,
    },
    /// Incomplete, and the missing argument is large: the caller may take it out of band, or wait.
    BigBulk {
        /// Which argument it is; 0 is the command's name.
        arg: usize,
        /// How many arguments the command has.
        argc: usize,
        /// Units: bytes.
        len: u64,
        /// Where its data begins.
        data_start: usize,
    },
}

/// The client broke the protocol: it gets the error and its connection is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the texts below say what each is")]
pub enum ProtocolError {
    InvalidMultibulkLength,
    InvalidBulkLength,
    ExpectedDollar(u8),
    UnbalancedQuotes,
    TooBigInlineRequest,
    TooBigMultibulkCount,
    TooBigBulkCount,
    UnauthenticatedMultibulkLength,
    UnauthenticatedBulkLength,
}

impl ProtocolError {
    /// The error that the client is told, in Redis' words.
    pub fn encode(self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"-ERR Protocol error: ");
        out.extend_from_slice(self.text().as_bytes());
        if let Self::ExpectedDollar(got) = self {
            // A line break would end the reply early; Redis maps it to a blank as well.
            let got = if matches!(got, b'\r' | b'\n') { b' ' } else { got };
            out.extend_from_slice(&[got, b'\'']);
        }
        out.extend_from_slice(b"\r\n");
    }

    fn text(self) -> &'static str {
        match self {
            Self::InvalidMultibulkLength => "invalid multibulk length",
            Self::InvalidBulkLength => "invalid bulk length",
            Self::ExpectedDollar(_) => "expected '$', got '",
            Self::UnbalancedQuotes => "unbalanced quotes in request",
            Self::TooBigInlineRequest => "too big inline request",
            Self::TooBigMultibulkCount => "too big mbulk count string",
            Self::TooBigBulkCount => "too big bulk count string",
            Self::UnauthenticatedMultibulkLength => "unauthenticated multibulk length",
            Self::UnauthenticatedBulkLength => "unauthenticated bulk length",
        }
    }
}

/// What one client's incomplete command has told so far; small and empty between commands.
#[derive(Debug, Default)]
pub struct Decoder {
    /// The first byte not yet understood.
    at: usize,
    /// Bytes behind `at` known to hold no end of line.
    scanned: usize,
    /// Arguments in all; 0 before the count line.
    argc: usize,
    bulk: Bulk,
    /// The spans so far, of an incomplete command only.
    pending: Vec<Span>,
    unquoted: Vec<u8>,
}

/// Where the next argument stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Bulk {
    /// Its length line is next.
    #[default]
    Length,
    /// Its `.0` bytes and their CRLF are next.
    Data(u64),
    /// Its bytes were taken out of band; their CRLF is next.
    Spooled,
}

impl Decoder {
    /// Parses one command from the front of `buffer`; `spans` receives its arguments.
    ///
    /// # Errors
    /// The client broke the protocol. The decoder is of no further use.
    #[inline]
    pub fn parse(
        &mut self,
        buffer: &[u8],
        spans: &mut Vec<Span>,
        limits: &Limits,
    ) -> Result<Parsed, ProtocolError> {
        spans.clear();
        if self.argc > 0 {
            core::mem::swap(spans, &mut self.pending);
            let parsed = self.bulks(buffer, spans, limits);
            if matches!(parsed, Ok(Parsed::Complete { .. })) {
                self.pending = Vec::new(); // an idle client holds no memory for arguments
            }
            return parsed;
        }
        match buffer.first() {
            None => Ok(Parsed::Incomplete { missing: 1 }),
            Some(b'*') => self.multibulk(buffer, spans, limits),
            Some(_) => self.inline(buffer, spans),
        }
    }

    /// The bytes that the [`Parsed::BigBulk`] of the last call is made of will not be in the buffer: the
    /// caller takes exactly its `len` bytes out, and what follows them stands at its `data_start`.
    ///
    /// # Panics
    /// If the last call did not return [`Parsed::BigBulk`].
    pub fn spooled(&mut self) {
        assert!(matches!(self.bulk, Bulk::Data(_)), "only an argument whose length is known is spooled");
        self.bulk = Bulk::Spooled;
    }

    /// The arguments of an incomplete command that are there already.
    #[must_use]
    pub fn pending(&self) -> &[Span] {
        &self.pending
    }

    /// The bytes that the spans of [`Parsed::Unquoted`] lie in.
    #[must_use]
    pub fn take_unquoted(&mut self) -> Vec<u8> {
        core::mem::take(&mut self.unquoted)
    }

    /// Near memory behind this decoder. Units: bytes.
    #[must_use]
    pub fn near_bytes(&self) -> usize {
        self.pending.capacity() * size_of::<Span>() + self.unquoted.capacity()
    }

    #[inline]
    fn multibulk(
        &mut self,
        buffer: &[u8],
        spans: &mut Vec<Span>,
        limits: &Limits,
    ) -> Result<Parsed, ProtocolError> {
        let (value, taken) = match short_line(&buffer[1..]) {
            Some((value, taken)) => (value as i64, taken + 1),
            None => match self.line_end(buffer, ProtocolError::TooBigMultibulkCount)? {
                None => return Ok(Parsed::Incomplete { missing: 1 }),
                Some(end) => {
                    (parse_i64(&buffer[1..end]).ok_or(ProtocolError::InvalidMultibulkLength)?, end + 2)
                }
            },
        };
        if value > ARGC_MAX {
            return Err(ProtocolError::InvalidMultibulkLength);
        }
        if value > UNAUTHENTICATED_ARGC_MAX && !limits.authenticated {
            return Err(ProtocolError::UnauthenticatedMultibulkLength);
        }
        if value <= 0 {
            self.scanned = 0; // an earlier call may have looked at a part of this line
            return Ok(Parsed::Empty { consumed: taken });
        }
        self.argc = value as usize;
        (self.at, self.scanned) = (taken, 0);
        spans.reserve(self.argc.min(RESERVED_SPANS_MAX));
        self.bulks(buffer, spans, limits)
    }

    /// The arguments from `self.at` on.
    #[inline]
    fn bulks(
        &mut self,
        buffer: &[u8],
        spans: &mut Vec<Span>,
        limits: &Limits,
    ) -> Result<Parsed, ProtocolError> {
        let quick_len_max = match limits.authenticated {
            true => limits.bulk_len_max,
            false => limits.bulk_len_max.min(UNAUTHENTICATED_BULK_LEN_MAX),
        };
        let mut at = self.at;
        // Behind an interruption the length of the next argument may be known already.
        let mut bulk = core::mem::take(&mut self.bulk);
        while spans.len() < self.argc {
            let len = match bulk {
                Bulk::Data(len) => len,
                Bulk::Spooled => 0,
                Bulk::Length => match short_bulk_line(buffer, at) {
                    Some((len, taken)) if len <= quick_len_max => {
                        at += taken;
                        len
                    }
                    _ => match self.bulk_line(buffer, at, limits)? {
                        None => return Ok(self.interrupt(at, Bulk::Length, spans, 1)),
                        Some((len, taken)) => {
                            at += taken;
                            len
                        }
                    },
                },
            };
            // Compared in 64 bits: a length near u64::MAX is beyond bulk_len_max, whatever that is.
            let there = buffer.len().saturating_sub(at) as u64;
            if there < len + 2 {
                if matches!(bulk, Bulk::Length) {
                    bulk = Bulk::Data(len);
                }
                let arg = spans.len();
                let incomplete = self.interrupt(at, bulk, spans, (len + 2 - there) as usize);
                if len >= limits.spool_min && bulk != Bulk::Spooled {
                    return Ok(Parsed::BigBulk { arg, argc: self.argc, len, data_start: at });
                }
                return Ok(incomplete);
            }
            spans.push(if bulk == Bulk::Spooled { Span::default() } else { Span::new(at, len as usize) });
            bulk = Bulk::Length;
            at += len as usize + 2;
        }
        assert!(at <= u32::MAX as usize, "a command in near memory is far below 4 GiB");
        (self.argc, self.at, self.scanned) = (0, 0, 0);
        Ok(Parsed::Complete { consumed: at })
    }

    /// Keeps what is understood so far for the next call.
    #[cold]
    fn interrupt(&mut self, at: usize, bulk: Bulk, spans: &mut Vec<Span>, missing: usize) -> Parsed {
        (self.at, self.bulk) = (at, bulk);
        if self.pending.capacity() == 0 {
            // The caller's vector serves all clients: the first time, this one leaves with a copy.
            self.pending.extend_from_slice(spans);
        } else {
            core::mem::swap(spans, &mut self.pending);
        }
        spans.clear();
        Parsed::Incomplete { missing }
    }

    /// The length line at `at` and the bytes it takes, as Redis checks it; `None` if its end is missing.
    #[cold]
    fn bulk_line(
        &mut self,
        buffer: &[u8],
        at: usize,
        limits: &Limits,
    ) -> Result<Option<(u64, usize)>, ProtocolError> {
        if at != self.at {
            self.scanned = 0;
        }
        let line = &buffer[at..];
        let Some(end) = self.line_end(line, ProtocolError::TooBigBulkCount)? else {
            return Ok(None);
        };
        if line[0] != b'$' {
            return Err(ProtocolError::ExpectedDollar(line[0]));
        }
        let len = parse_i64(&line[1..end])
            .and_then(|len| u64::try_from(len).ok())
            .filter(|&len| len <= limits.bulk_len_max)
            .ok_or(ProtocolError::InvalidBulkLength)?;
        if len > UNAUTHENTICATED_BULK_LEN_MAX && !limits.authenticated {
            return Err(ProtocolError::UnauthenticatedBulkLength);
        }
        Ok(Some((len, end + 2)))
    }

    /// Where the CR of this line is, if it and the byte behind it are there.
    fn line_end(&mut self, line: &[u8], too_big: ProtocolError) -> Result<Option<usize>, ProtocolError> {
        match self.find(line, b'\r') {
            Some(end) if end + 2 <= line.len() => {
                self.scanned = 0;
                Ok(Some(end))
            }
            None if line.len() > LINE_LEN_MAX => Err(too_big),
            _ => Ok(None),
        }
    }

    /// The first `byte` of `line` that no NUL comes before, and remembers how far it has looked.
    fn find(&mut self, line: &[u8], byte: u8) -> Option<usize> {
        let unseen = line.get(self.scanned..).unwrap_or_default();
        match memchr::memchr2(byte, 0, unseen) {
            Some(offset) => {
                self.scanned += offset;
                (line[self.scanned] == byte).then_some(self.scanned)
            }
            None => {
                self.scanned = line.len();
                None
            }
        }
    }

    #[cold]
    fn inline(&mut self, buffer: &[u8], spans: &mut Vec<Span>) -> Result<Parsed, ProtocolError> {
        let Some(end) = self.find(buffer, b'\n') else {
            let too_big = buffer.len() > LINE_LEN_MAX;
            return if too_big {
                Err(ProtocolError::TooBigInlineRequest)
            } else {
                Ok(Parsed::Incomplete { missing: 1 })
            };
        };
        self.scanned = 0;
        let consumed = end + 1;
        let line = buffer[..end].strip_suffix(b"\r").unwrap_or(&buffer[..end]);
        if inline::split_plain(line, spans) {
            return Ok(if spans.is_empty() {
                Parsed::Empty { consumed }
            } else {
                Parsed::Complete { consumed }
            });
        }
        self.unquoted.clear();
        if !inline::split_quoted(line, &mut self.unquoted, spans) {
            return Err(ProtocolError::UnbalancedQuotes);
        }
        Ok(Parsed::Unquoted { consumed })
    }
}

/// The short path of a length line: `$`, a number without oddities, CR and one more byte.
#[inline(always)]
fn short_bulk_line(buffer: &[u8], at: usize) -> Option<(u64, usize)> {
    let line = buffer.get(at..)?;
    // Nearly every length has one or two digits; with its data and CRLF it is at least these six bytes.
    if let Some(&[b'$', first, second, third, ..]) = line.first_chunk::<6>() {
        let (high, low) = (first.wrapping_sub(b'0'), second.wrapping_sub(b'0'));
        if second == b'\r' && high <= 9 {
            return Some((u64::from(high), 4));
        }
        if third == b'\r' && (1..=9).contains(&high) && low <= 9 {
            return Some((u64::from(high * 10 + low), 5));
        }
    }
    let (&b'$', line) = line.split_first()? else { return None };
    short_line(line).map(|(value, taken)| (value, taken + 1))
}

/// Up to nine digits, CR and one more byte; `None` sends the line to the careful path.
#[inline(always)]
fn short_line(line: &[u8]) -> Option<(u64, usize)> {
    let mut value = 0;
    for (index, &byte) in line.iter().take(SHORT_DIGITS_MAX + 1).enumerate() {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            // A leading zero is only the number zero; and what lies behind the CR must be there.
            let plain =
                byte == b'\r' && index > 0 && (line[0] != b'0' || index == 1) && index + 1 < line.len();
            return plain.then_some((value, index + 2));
        }
        value = value * 10 + u64::from(digit);
    }
    None
}
