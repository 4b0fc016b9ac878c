//! Replies on their way out: headers here, the bytes of a READ still in the memory.
//!
//! Refuses to grow: [`Outgoing::is_full`] says when they must be sent.

use farmem_link::nbd::proto::{ChunkHeader, ChunkKind, Errno, ErrorChunk, SimpleReply};
use std::ops::Range;
use zerocopy::IntoBytes;
use zerocopy::byteorder::big_endian::U64;

/// Replies in one send: with one slice of memory each they fill the kernel's IOV_MAX of 1024.
const REPLIES_MAX: usize = 512;
/// Bytes in one send, so that a client gets the first of many large replies before the last is copied.
const PAYLOAD_BYTES_MAX: u64 = 256 << 10;

/// How the client wants a READ to be answered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Style {
    Simple,
    Structured,
}

/// Replies in the order in which they will be sent.
pub(crate) struct Outgoing {
    style: Style,
    headers: Vec<u8>,
    /// Where each reply's header ends, and which bytes of the memory follow it.
    replies: Vec<(usize, Range<u64>)>,
    payload_bytes: u64,
}

impl Outgoing {
    pub fn new(style: Style) -> Outgoing {
        Outgoing { style, headers: Vec::new(), replies: Vec::new(), payload_bytes: 0 }
    }

    /// Answers a request with no more than whether it worked.
    #[inline]
    pub fn done(&mut self, cookie: U64, error: Errno) {
        self.headers.extend_from_slice(SimpleReply::new(error, cookie).as_bytes());
        self.replies.push((self.headers.len(), 0..0));
    }

    /// Answers a READ with these bytes of the memory.
    #[inline]
    pub fn data(&mut self, cookie: U64, bytes: Range<u64>) {
        let len = (bytes.end - bytes.start) as u32;
        match self.style {
            Style::Simple => {
                self.headers.extend_from_slice(SimpleReply::new(Errno::NONE, cookie).as_bytes());
            }
            // A chunk of data must have some.
            Style::Structured if len == 0 => {
                self.headers.extend_from_slice(ChunkHeader::last(ChunkKind::NONE, cookie, 0).as_bytes());
            }
            Style::Structured => {
                let header = ChunkHeader::last(ChunkKind::OFFSET_DATA, cookie, len + 8);
                self.headers.extend_from_slice(header.as_bytes());
                self.headers.extend_from_slice(&bytes.start.to_be_bytes());
            }
        }
        self.payload_bytes += u64::from(len);
        self.replies.push((self.headers.len(), bytes));
    }

    /// Answers a READ that failed.
    pub fn no_data(&mut self, cookie: U64, error: Errno) {
        if self.style == Style::Simple {
            return self.done(cookie, error);
        }
        let body = ErrorChunk { error, message_len: 0.into() };
        let header = ChunkHeader::last(ChunkKind::ERROR, cookie, ErrorChunk::LEN as u32);
        self.headers.extend_from_slice(header.as_bytes());
        self.headers.extend_from_slice(body.as_bytes());
        self.replies.push((self.headers.len(), 0..0));
    }

    /// Each reply's header and the bytes of the memory that follow it.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], Range<u64>)> {
        let starts = std::iter::once(0).chain(self.replies.iter().map(|(end, _)| *end));
        starts.zip(&self.replies).map(|(start, (end, bytes))| (&self.headers[start..*end], bytes.clone()))
    }

    pub fn len(&self) -> usize {
        self.replies.len()
    }

    pub fn is_empty(&self) -> bool {
        self.replies.is_empty()
    }

    #[inline]
    pub fn is_full(&self) -> bool {
        self.replies.len() >= REPLIES_MAX || self.payload_bytes >= PAYLOAD_BYTES_MAX
    }

    pub fn clear(&mut self) {
        self.headers.clear();
        self.replies.clear();
        self.payload_bytes = 0;
    }
}
