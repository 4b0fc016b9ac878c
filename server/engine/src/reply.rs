//! What a client is owed: near bytes, held frames and streams, in the order in which they leave.
//!
//! ```text
//! near    │ $4096 CRLF │ CRLF $3 CRLF foo CRLF │ ...        one growing buffer
//! pieces       ▲ frame 17          ▲ stream                each at its place in the near bytes
//! ```
//!
//! Refuses to know sockets: the body takes [`Output::slices`], sends what it can, and says how much.

use crate::resp::encode;
use crate::stream::{FarSlice, Stream};
use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::vec::Vec;
use farmem::{FrameNo, Pager};

/// Near buffers larger than this are given back when they are empty: a pipeline of 32 replies of a page fits,
/// or each of its rounds would map and unmap a buffer. Units: bytes.
const NEAR_KEPT_MAX: usize = 256 * 1024;

/// A part of a reply that lies in far pages.
pub enum Body {
    /// Bytes of a held frame.
    Frame { frame: FrameNo, offset: u16, len: u16 },
    /// A far range that is fetched as the socket drains.
    Stream(Box<Stream>),
}

struct Piece {
    /// Where in the near bytes it stands.
    at: usize,
    body: Body,
}

impl Piece {
    fn frame_len(&self) -> usize {
        match self.body {
            Body::Frame { len, .. } => len as usize,
            Body::Stream(_) => 0,
        }
    }
}

impl Piece {
    fn stream_bytes(&self) -> usize {
        match &self.body {
            Body::Stream(stream) => stream.near_bytes(),
            Body::Frame { .. } => 0,
        }
    }
}

/// A place in an output.
#[derive(Clone, Copy, Debug)]
pub struct Mark {
    near: usize,
    pieces: usize,
}

/// Everything that a client is still owed.
#[derive(Default)]
pub struct Output {
    near: Vec<u8>,
    near_sent: usize,
    pieces: VecDeque<Piece>,
    /// Bytes of the first piece (a frame) that are sent.
    piece_sent: usize,
    /// Bytes in pieces that are frames.
    frame_bytes: usize,
}

impl Output {
    /// The near buffer, to append to.
    #[inline]
    pub fn near(&mut self) -> &mut Vec<u8> {
        &mut self.near
    }

    /// Appends bytes of a frame that was held for this.
    #[inline]
    pub fn push_frame(&mut self, frame: FrameNo, offset: usize, len: usize) {
        self.frame_bytes += len;
        let body = Body::Frame { frame, offset: offset as u16, len: len as u16 };
        self.pieces.push_back(Piece { at: self.near.len(), body });
    }

    /// Appends a far range that is fetched as it leaves.
    pub fn push_stream(&mut self, stream: Stream) {
        self.pieces.push_back(Piece { at: self.near.len(), body: Body::Stream(Box::new(stream)) });
    }

    /// Whether everything has left.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.near_sent == self.near.len() && self.pieces.is_empty()
    }

    /// Bytes that can leave without another page being fetched; far ranges not counted.
    #[inline]
    pub fn ready_bytes(&self) -> usize {
        self.near.len() - self.near_sent + self.frame_bytes - self.piece_sent
    }

    /// Near memory that this takes. Units: bytes.
    pub fn near_bytes(&self) -> usize {
        let streams: usize = self.pieces.iter().map(Piece::stream_bytes).sum();
        self.near.capacity() + self.pieces.capacity() * size_of::<Piece>() + streams
    }

    /// Whether a stream is among what is owed: nothing more is executed for this client meanwhile.
    pub fn has_stream(&self) -> bool {
        self.pieces.iter().any(|piece| matches!(piece.body, Body::Stream(_)))
    }

    /// How many frames are held for this.
    pub fn frames_held(&self) -> usize {
        self.pieces.iter().filter(|piece| matches!(piece.body, Body::Frame { .. })).count()
    }

    /// Fills `slices` with what leaves next, in order; returns how many there are. Stops at a stream.
    pub fn slices<'a>(&'a self, pager: &'a dyn Pager, slices: &mut [&'a [u8]]) -> usize {
        let (mut count, mut near_at, mut sent) = (0, self.near_sent, self.piece_sent);
        for piece in &self.pieces {
            if piece.at > near_at {
                if count == slices.len() {
                    return count;
                }
                slices[count] = &self.near[near_at..piece.at];
                count += 1;
                near_at = piece.at;
            }
            let Body::Frame { frame, offset, len } = piece.body else { return count };
            if count == slices.len() {
                return count;
            }
            let (offset, len) = (offset as usize, len as usize);
            slices[count] = &pager.held(frame)[offset + sent..offset + len];
            count += 1;
            sent = 0;
        }
        if near_at < self.near.len() && count < slices.len() {
            slices[count] = &self.near[near_at..];
            count += 1;
        }
        count
    }

    /// Records that `bytes` have left; lets go the frames that they came from.
    pub fn advance(&mut self, mut bytes: usize, pager: &mut dyn Pager) {
        while bytes > 0 {
            let near_until = self.pieces.front().map_or(self.near.len(), |piece| piece.at);
            let near_here = (near_until - self.near_sent).min(bytes);
            self.near_sent += near_here;
            bytes -= near_here;
            if bytes == 0 {
                break;
            }
            let Some(Piece { body: Body::Frame { frame, len, .. }, .. }) = self.pieces.front() else {
                unreachable!("no more can leave than slices() gave out");
            };
            let (frame, len) = (*frame, *len as usize);
            let here = (len - self.piece_sent).min(bytes);
            bytes -= here;
            self.piece_sent += here;
            if self.piece_sent == len {
                self.pieces.pop_front();
                self.piece_sent = 0;
                self.frame_bytes -= len;
                pager.unhold(frame);
            }
        }
        if self.is_empty() {
            self.near.clear();
            self.near_sent = 0;
            self.near.shrink_to(NEAR_KEPT_MAX);
        }
    }

    /// The stream that must go on before anything else leaves, if that is where the output stands.
    pub fn stream_in_front(&mut self) -> Option<&mut Stream> {
        match self.pieces.front_mut() {
            Some(Piece { at, body: Body::Stream(stream) }) if *at == self.near_sent => Some(stream),
            _ => None,
        }
    }

    /// Puts `frames` in front of the stream that stands in front; takes the stream away if it is `done`.
    pub fn advance_stream(
        &mut self,
        frames: impl DoubleEndedIterator<Item = (FrameNo, usize, usize)>,
        done: bool,
    ) -> Option<Box<Stream>> {
        let at = self.near_sent;
        let ended = if done { self.pieces.pop_front() } else { None };
        for (frame, offset, len) in frames.rev() {
            self.frame_bytes += len;
            let body = Body::Frame { frame, offset: offset as u16, len: len as u16 };
            self.pieces.push_front(Piece { at, body });
        }
        match ended?.body {
            Body::Stream(stream) => Some(stream),
            Body::Frame { .. } => unreachable!("stream_in_front was checked"),
        }
    }

    /// Takes out all bytes in front of the first stream, letting go of their frames.
    pub fn take_ready(&mut self, pager: &mut dyn Pager) -> Vec<u8> {
        let mut ready = Vec::with_capacity(self.ready_bytes());
        while !self.is_empty() && self.stream_in_front().is_none() {
            let mut slices: [&[u8]; 16] = [&[]; 16];
            let count = self.slices(pager, &mut slices);
            let before = ready.len();
            for slice in &slices[..count] {
                ready.extend_from_slice(slice);
            }
            let taken = ready.len() - before;
            self.advance(taken, pager);
        }
        ready
    }

    /// Puts a far range in front of everything else.
    pub fn push_front_stream(&mut self, slice: FarSlice) {
        let mut stream = Stream::default();
        stream.push(slice);
        self.pieces.push_front(Piece { at: self.near_sent, body: Body::Stream(Box::new(stream)) });
    }

    /// Where the output stands, for [`Output::cut`].
    pub fn mark(&self) -> Mark {
        Mark { near: self.near.len(), pieces: self.pieces.len() }
    }

    /// Takes everything after `mark` out.
    pub fn cut(&mut self, mark: Mark) -> Output {
        self.near.truncate(mark.near);
        let pieces = self.pieces.split_off(mark.pieces);
        let cut = Output { pieces, ..Output::default() };
        self.frame_bytes -= cut.pieces.iter().map(Piece::frame_len).sum::<usize>();
        cut
    }

    /// Appends another output, of which nothing has left yet.
    pub fn append(&mut self, other: Output) {
        assert!(
            other.near_sent == 0 && other.piece_sent == 0,
            "only what is whole can stand behind something"
        );
        let base = self.near.len();
        self.pieces.extend(other.pieces.into_iter().map(|piece| Piece { at: base + piece.at, ..piece }));
        self.frame_bytes += other.frame_bytes;
        self.near.extend_from_slice(&other.near);
    }

    /// Drops everything: lets go of frames, and hands each stream to `end`.
    pub fn abandon(&mut self, pager: &mut dyn Pager, mut end: impl FnMut(Box<Stream>)) {
        for piece in self.pieces.drain(..) {
            match piece.body {
                Body::Frame { frame, .. } => pager.unhold(frame),
                Body::Stream(stream) => end(stream),
            }
        }
        self.near = Vec::new();
        (self.near_sent, self.piece_sent, self.frame_bytes) = (0, 0, 0);
    }
}

/// Writes one command's reply in the client's protocol version.
pub struct Reply<'a> {
    pub output: &'a mut Output,
    /// Whether the client speaks RESP3.
    pub resp3: bool,
}

impl Reply<'_> {
    /// `+OK`
    #[inline]
    pub fn ok(&mut self) {
        self.output.near().extend_from_slice(b"+OK\r\n");
    }

    /// A status line.
    pub fn simple(&mut self, text: &str) {
        encode::simple(self.output.near(), text.as_bytes());
    }

    /// An integer.
    #[inline]
    pub fn integer(&mut self, value: i64) {
        encode::integer(self.output.near(), value);
    }

    /// 1 or 0, as Redis answers yes and no.
    #[inline]
    pub fn yes_no(&mut self, yes: bool) {
        self.integer(i64::from(yes));
    }

    /// A bulk string.
    #[inline]
    pub fn bulk(&mut self, data: &[u8]) {
        encode::bulk(self.output.near(), data);
    }

    /// The null of the client's protocol version.
    #[inline]
    pub fn null(&mut self) {
        encode::null(self.output.near(), self.resp3);
    }

    /// A null array (RESP2) or null (RESP3).
    pub fn null_array(&mut self) {
        encode::null_array(self.output.near(), self.resp3);
    }

    /// The head of an array.
    #[inline]
    pub fn array(&mut self, len: usize) {
        encode::array_len(self.output.near(), len);
    }

    /// The head of a map of `pairs` pairs.
    pub fn map(&mut self, pairs: usize) {
        encode::map_len(self.output.near(), pairs, self.resp3);
    }

    /// Text that RESP3 clients show as it is.
    pub fn verbatim(&mut self, text: &str) {
        encode::verbatim(self.output.near(), "txt", text.as_bytes(), self.resp3);
    }
}
