//! One connection to a node: requests go out in batches, payloads come straight into their frames.
//!
//! ```text
//!   out:   request │ request + frames │ ...          ─► one sendmsg
//!   in:    head ─► frame, head ─► frame, frame, ...  ◄─ one readv, as if the node answered in order
//!            │ another cookie, or an error: what was read too far
//!            └─► spill ─► parsed by the book ─► frames
//! ```
//!
//! A node may answer in any order, but hardly any does when pages are all it has: so the reply that is expected next
//! is read to where it would belong, and a wrong guess costs a copy. Over TLS everything comes through the spill, because
//! it has to be decrypted first. Refuses to wait; any breach of the protocol is an error, and the connection's end.

use super::dial::Stream;
use super::proto::{Errno, SIMPLE_REPLY_MAGIC, SimpleReply};
use super::request::{Request, Requests, Slot};
use farmem::{Frame, PAGE_SIZE};
use rustix::io::Errno as SystemError;
use rustix::net::{SendAncillaryBuffer, SendFlags, sendmsg};
use rustls::ClientConnection;
use std::collections::VecDeque;
use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use zerocopy::FromBytes;

/// Slices of one system call; the system takes 1024.
const SLICES_MAX: usize = 1024;
/// Payload that one readv asks for: what a socket holds at a time, more or less. Units: bytes.
const AHEAD_BYTES_MAX: usize = 512 << 10;
/// Requests that one sendmsg takes.
const SENT_TOGETHER_MAX: usize = 256;

/// A request that the node has answered.
pub(super) type Answer = (Slot, Errno);

/// A connection and what is under way on it.
pub(super) struct Connection {
    stream: Stream,
    /// Not or not wholly sent, oldest first.
    out: VecDeque<Slot>,
    /// Bytes of the first of `out` that are sent.
    sent_bytes: usize,
    /// Not answered, in the order of sending.
    flight: VecDeque<Slot>,
    /// The reply whose payload is coming in, and how much of it is there.
    current: Option<(Slot, usize)>,
    /// Read and not understood yet; on a plain connection less than a head, between two calls.
    spill: Vec<u8>,
    /// Scratch: where heads are read to.
    heads: Vec<[u8; SimpleReply::LEN]>,
    /// Scratch: whose heads those are.
    expected: Vec<Slot>,
    /// Pages of the requests in `flight`.
    pages: u32,
}

impl Connection {
    pub(super) fn new(stream: Stream) -> Connection {
        Connection {
            stream,
            out: VecDeque::new(),
            sent_bytes: 0,
            flight: VecDeque::new(),
            current: None,
            spill: Vec::new(),
            heads: Vec::new(),
            expected: Vec::new(),
            pages: 0,
        }
    }

    pub(super) fn socket(&self) -> BorrowedFd<'_> {
        self.stream.socket.as_fd()
    }

    /// Pages under way, trims apart.
    pub(super) fn pages(&self) -> u32 {
        self.pages
    }

    /// What is under way, oldest first.
    pub(super) fn flight(&self) -> impl Iterator<Item = Slot> + '_ {
        self.flight.iter().copied()
    }

    /// Queues a request; [`Connection::send`] sends it.
    pub(super) fn enqueue(&mut self, slot: Slot, requests: &Requests) {
        self.pages += requests.get(slot).transfers.len() as u32;
        self.out.push_back(slot);
        self.flight.push_back(slot);
    }

    /// Sends what the socket takes.
    ///
    /// # Errors
    /// What the system answers.
    pub(super) fn send(&mut self, requests: &Requests, frames: &[Frame]) -> io::Result<()> {
        if self.stream.tls.is_some() {
            return self.send_tls(requests, frames);
        }
        while !self.out.is_empty() {
            let (mut slices, mut bytes) = (Vec::with_capacity(2 * SENT_TOGETHER_MAX), 0);
            for &slot in self.out.iter().take(SENT_TOGETHER_MAX) {
                let request = requests.get(slot);
                if slices.len() + 1 + request.transfers.len() > SLICES_MAX && bytes > 0 {
                    break;
                }
                bytes += push_slices(request, frames, &mut slices);
            }
            let mut left = slices.as_mut_slice();
            IoSlice::advance_slices(&mut left, self.sent_bytes);
            let wanted = bytes - self.sent_bytes;
            let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
            let sent = match sendmsg(&self.stream.socket, left, &mut SendAncillaryBuffer::default(), flags) {
                Ok(sent) => sent,
                Err(SystemError::AGAIN | SystemError::INTR | SystemError::NOBUFS) => return Ok(()),
                Err(error) => return Err(error.into()),
            };
            self.note_sent(sent, requests);
            if sent < wanted {
                return Ok(());
            }
        }
        Ok(())
    }

    fn send_tls(&mut self, requests: &Requests, frames: &[Frame]) -> io::Result<()> {
        loop {
            while let Some(&slot) = self.out.front() {
                let mut slices = Vec::new();
                push_slices(requests.get(slot), frames, &mut slices);
                let mut left = slices.as_mut_slice();
                IoSlice::advance_slices(&mut left, self.sent_bytes);
                let taken = self.tls().writer().write_vectored(left)?;
                if taken == 0 {
                    break;
                }
                self.note_sent(taken, requests);
            }
            if !self.tls().wants_write() {
                return Ok(());
            }
            let Stream { socket, tls } = &mut self.stream;
            match tls.as_mut().expect("only called with TLS").write_tls(&mut &*socket) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }

    fn tls(&mut self) -> &mut ClientConnection {
        self.stream.tls.as_mut().expect("only called with TLS")
    }

    fn note_sent(&mut self, mut sent: usize, requests: &Requests) {
        while let Some(&slot) = self.out.front() {
            let request = requests.get(slot);
            let left = request.header.len() + request.payload_sent_bytes() - self.sent_bytes;
            if sent < left {
                self.sent_bytes += sent;
                return;
            }
            sent -= left;
            self.sent_bytes = 0;
            self.out.pop_front();
        }
    }

    /// Takes what has arrived, and appends what is answered.
    ///
    /// # Errors
    /// What the system answers, `UnexpectedEof` if the node is gone, `InvalidData` if it breaks the protocol.
    pub(super) fn receive(
        &mut self,
        requests: &Requests,
        frames: &mut [Frame],
        answers: &mut Vec<Answer>,
    ) -> io::Result<()> {
        if self.stream.tls.is_some() {
            return self.receive_tls(requests, frames, answers);
        }
        while self.receive_some(requests, frames, answers)? && !self.flight.is_empty() {}
        Ok(())
    }

    /// One readv. Whether there may be more.
    fn receive_some(
        &mut self,
        requests: &Requests,
        frames: &mut [Frame],
        answers: &mut Vec<Answer>,
    ) -> io::Result<bool> {
        let part = self.expect(requests);
        let mut slices: Vec<IoSliceMut<'_>> = Vec::with_capacity(SLICES_MAX);
        if let Some((slot, have)) = self.current {
            push_frames(requests.get(slot), have, frames, &mut slices);
        }
        let mut idle = [0];
        if self.expected.is_empty() && slices.is_empty() {
            slices.push(IoSliceMut::new(&mut idle));
        }
        for (index, (slot, head)) in self.expected.iter().zip(&mut self.heads).enumerate() {
            slices.push(IoSliceMut::new(&mut head[if index == 0 { part } else { 0 }..]));
            push_frames(requests.get(*slot), 0, frames, &mut slices);
        }
        let room: usize = slices.iter().map(|slice| slice.len()).sum();
        let got = match rustix::io::readv(&self.stream.socket, &mut slices) {
            Ok(0) => return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the node has hung up")),
            Ok(got) => got,
            Err(SystemError::AGAIN | SystemError::INTR) => {
                self.spill.extend_from_slice(self.heads.first().map_or(&[], |head| &head[..part]));
                return Ok(false);
            }
            Err(error) => return Err(error.into()),
        };
        if self.flight.is_empty() {
            return Err(wrong("it answers what nobody has asked"));
        }
        self.walk(got, part, requests, frames, answers)?;
        Ok(got == room)
    }

    /// Chooses the replies to read ahead for, and gives the spilled start of a head back to the first of them.
    fn expect(&mut self, requests: &Requests) -> usize {
        let (mut bytes, mut slices) = (0, 0);
        let current = self.current.map(|(slot, have)| {
            bytes = requests.get(slot).payload_received_bytes() - have;
            slices = bytes / PAGE_SIZE + 1;
            slot
        });
        self.expected.clear();
        // What is not wholly sent is the end of the flight, and cannot be answered.
        let sent = self.flight.iter().take(self.flight.len() - self.out.len());
        for &slot in sent.filter(|&&slot| Some(slot) != current) {
            let payload = requests.get(slot).payload_received_bytes();
            slices += 1 + payload / PAGE_SIZE;
            if slices > SLICES_MAX || bytes > AHEAD_BYTES_MAX {
                break;
            }
            bytes += payload;
            self.expected.push(slot);
        }
        if self.heads.len() < self.expected.len() {
            self.heads.resize(self.expected.len(), [0; SimpleReply::LEN]);
        }
        let part = self.spill.len();
        debug_assert!(part < SimpleReply::LEN, "whole heads are parsed at once");
        if let Some(head) = self.heads.first_mut().filter(|_| part > 0) {
            head[..part].copy_from_slice(&self.spill);
        }
        self.spill.clear();
        part
    }

    /// Understands `left` bytes that lie where they were expected to belong.
    fn walk(
        &mut self,
        mut left: usize,
        part: usize,
        requests: &Requests,
        frames: &mut [Frame],
        answers: &mut Vec<Answer>,
    ) -> io::Result<()> {
        if let Some((slot, have)) = self.current {
            let taken = left.min(requests.get(slot).payload_received_bytes() - have);
            left -= taken;
            self.advance(slot, have + taken, requests, answers);
        }
        for index in 0..self.expected.len() {
            let part = if index == 0 { part } else { 0 };
            if left + part < SimpleReply::LEN {
                self.spill.extend_from_slice(&self.heads[index][..part + left]);
                return Ok(());
            }
            left -= SimpleReply::LEN - part;
            let slot = self.expected[index];
            let request = requests.get(slot);
            let (cookie, error) = parse_head(&self.heads[index])?;
            if cookie != request.cookie() || error != Errno::NONE {
                self.spill_from(index, left, requests, frames);
                return self.parse_spill(requests, frames, answers);
            }
            let taken = left.min(request.payload_received_bytes());
            left -= taken;
            self.advance(slot, taken, requests, answers);
        }
        Ok(())
    }

    /// Gathers the head that was not the expected one, and the `left` bytes behind it.
    fn spill_from(&mut self, index: usize, mut left: usize, requests: &Requests, frames: &[Frame]) {
        self.spill.extend_from_slice(&self.heads[index]);
        let mut take = |bytes: &[u8], left: &mut usize| {
            let taken = bytes.len().min(*left);
            self.spill.extend_from_slice(&bytes[..taken]);
            *left -= taken;
        };
        for (offset, &slot) in self.expected[index..].iter().enumerate() {
            if offset > 0 {
                take(&self.heads[index + offset], &mut left);
            }
            let request = requests.get(slot);
            if request.payload_received_bytes() > 0 {
                for transfer in &request.transfers {
                    take(&frames[transfer.frame.0 as usize].0, &mut left);
                }
            }
        }
    }

    /// Notes that so much of a reply's payload is in its frames.
    fn advance(&mut self, slot: Slot, have: usize, requests: &Requests, answers: &mut Vec<Answer>) {
        if have < requests.get(slot).payload_received_bytes() {
            self.current = Some((slot, have));
        } else {
            self.current = None;
            self.answer(slot, Errno::NONE, requests, answers);
        }
    }

    fn answer(&mut self, slot: Slot, error: Errno, requests: &Requests, answers: &mut Vec<Answer>) {
        let at = self.flight.iter().position(|&other| other == slot);
        self.flight.remove(at.expect("what is answered was under way"));
        self.pages -= requests.get(slot).transfers.len() as u32;
        answers.push((slot, error));
    }

    fn receive_tls(
        &mut self,
        requests: &Requests,
        frames: &mut [Frame],
        answers: &mut Vec<Answer>,
    ) -> io::Result<()> {
        loop {
            let Stream { socket, tls } = &mut self.stream;
            let tls = tls.as_mut().expect("only called with TLS");
            match tls.read_tls(&mut &*socket) {
                Ok(0) => return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the node has hung up")),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
            let state = tls.process_new_packets().map_err(|error| wrong(&error.to_string()))?;
            let (start, more) = (self.spill.len(), state.plaintext_bytes_to_read());
            self.spill.resize(start + more, 0);
            tls.reader().read_exact(&mut self.spill[start..])?;
            self.parse_spill(requests, frames, answers)?;
        }
    }

    /// Understands the spill by the book, whatever the order; what is left is part of a head.
    fn parse_spill(
        &mut self,
        requests: &Requests,
        frames: &mut [Frame],
        answers: &mut Vec<Answer>,
    ) -> io::Result<()> {
        let spill = std::mem::take(&mut self.spill);
        let mut rest = spill.as_slice();
        loop {
            if let Some((slot, have)) = self.current {
                let taken = copy_payload(requests.get(slot), have, rest, frames);
                rest = &rest[taken..];
                self.advance(slot, have + taken, requests, answers);
                if self.current.is_some() {
                    break;
                }
            }
            let Some((head, behind)) = rest.split_first_chunk() else { break };
            rest = behind;
            let (cookie, error) = parse_head(head)?;
            let is_ours = |slot: &Slot| self.flight.contains(slot) && !self.out.contains(slot);
            let slot = requests.find(cookie).filter(is_ours);
            let slot = slot.ok_or_else(|| wrong("it answers what nobody has asked"))?;
            if error == Errno::NONE {
                self.advance(slot, 0, requests, answers);
            } else {
                self.answer(slot, error, requests, answers);
            }
        }
        self.spill.extend_from_slice(rest);
        Ok(())
    }
}

/// The cookie and the outcome that a reply's head tells.
fn parse_head(head: &[u8; SimpleReply::LEN]) -> io::Result<(u64, Errno)> {
    let reply = SimpleReply::ref_from_bytes(head).expect("the head has the header's length");
    if reply.magic.get() != SIMPLE_REPLY_MAGIC {
        return Err(wrong("its answer makes no sense"));
    }
    Ok((reply.cookie.get(), reply.error))
}

/// Appends a request as it goes out. How many bytes.
fn push_slices<'a>(request: &'a Request, frames: &'a [Frame], slices: &mut Vec<IoSlice<'a>>) -> usize {
    slices.push(IoSlice::new(&request.header));
    if request.payload_sent_bytes() > 0 {
        let pages = request.transfers.iter().map(|transfer| &frames[transfer.frame.0 as usize].0);
        slices.extend(pages.map(|page| IoSlice::new(page)));
    }
    request.header.len() + request.payload_sent_bytes()
}

/// Appends the frames of a fetch, but for the first `skip` bytes.
fn push_frames<'f>(request: &Request, skip: usize, frames: &mut [Frame], slices: &mut Vec<IoSliceMut<'f>>) {
    if request.payload_received_bytes() == 0 {
        return;
    }
    let mut skip_in_page = skip % PAGE_SIZE;
    for transfer in &request.transfers[skip / PAGE_SIZE..] {
        let page: *mut [u8; PAGE_SIZE] = &mut frames[transfer.frame.0 as usize].0;
        // SAFETY: the frame lies in `frames`, which the caller borrows mutably for as long as the slices live (the one
        // readv below it). No two slices overlap: by the contract of `Link` a frame belongs to the one transfer
        // that is in flight for it, and each transfer is in one request.
        let page = unsafe { &mut *page };
        slices.push(IoSliceMut::new(&mut page[std::mem::take(&mut skip_in_page)..]));
    }
}

/// Copies payload to where it belongs, behind the `have` bytes that are there. How much of `from` that took.
fn copy_payload(request: &Request, have: usize, from: &[u8], frames: &mut [Frame]) -> usize {
    let wanted = from.len().min(request.payload_received_bytes() - have);
    let mut done = 0;
    while done < wanted {
        let at = have + done;
        let page = &mut frames[request.transfers[at / PAGE_SIZE].frame.0 as usize].0[at % PAGE_SIZE..];
        let here = page.len().min(wanted - done);
        page[..here].copy_from_slice(&from[done..done + here]);
        done += here;
    }
    wanted
}

fn wrong(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}
