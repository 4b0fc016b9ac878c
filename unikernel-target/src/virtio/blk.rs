//! Far memory on a drive: virtio-blk as a link.
//!
//! ```text
//!   batch ─► runs of adjacent pages ─► request: header │ frame ... frame │ status ─► device ─► landed
//!                    └─ no slot free: waiting, needed first, oldest first
//! ```
//!
//! Pages move straight between the drive and the frames. The device is polled and asked not to interrupt.
//! Refuses to trim, and to trust the device: an answer to no request, or of another length, is an error, and a
//! device that answers what was never asked is reset, so that it writes to no frame any more.

use super::{Memory, Transport};
use crate::arch::time;
use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::vec::Vec;
use bitflags::bitflags;
use core::fmt;
use core::slice;
use farmem::{Frame, FrameNo, Instant, Landed, Link, LinkError, PAGE_SIZE, Transfer, TransferKind};
use virtio_drivers::queue::VirtQueue;
use virtio_drivers::transport::{DeviceStatus, Transport as _};

/// Descriptors: what QEMU offers unless told otherwise.
const QUEUE_SIZE: usize = 256;
const QUEUE: u16 = 0;
/// Pages in one request: with header and status, seven such requests fit the queue.
const RUN_PAGES_MAX: usize = 32;
/// Requests in flight: of single pages, so many fit the queue (3 descriptors each).
const REQUESTS_MAX: usize = 85;
/// Pages in flight or waiting for which there is room from the start.
const TRANSFERS: usize = 512;
const SECTORS_A_PAGE: u64 = 8;
/// A drive that says nothing for so long is lost. Units: nanoseconds.
const WAIT_NS_MAX: u64 = 30_000_000_000;

bitflags! {
    /// Feature bits. Source: virtio 1.2, 5.2.3 and 6.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    struct Features: u64 {
        const READ_ONLY = 1 << 5;
        /// The drive may cache what is written: far memory need not survive the machine.
        const FLUSH = 1 << 9;
        const VERSION_1 = 1 << 32;
    }
}

/// Request types and statuses. Source: virtio 1.2, 5.2.6.
const IN: u32 = 0;
const OUT: u32 = 1;
const STATUS_OK: u8 = 0;
const STATUS_PENDING: u8 = 0xff;

/// The drive will not do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BlkError {
    /// It speaks no virtio 1.
    Legacy,
    /// Nothing can be written to it.
    ReadOnly,
    /// It has not one whole page.
    Empty,
    /// What the queue's driver answered.
    Device(virtio_drivers::Error),
}

impl fmt::Display for BlkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BlkError::Legacy => f.write_str("the drive speaks no virtio 1"),
            BlkError::ReadOnly => f.write_str("the drive is read-only"),
            BlkError::Empty => f.write_str("the drive has not one page"),
            BlkError::Device(error) => write!(f, "the drive failed: {error}"),
        }
    }
}

impl From<virtio_drivers::Error> for BlkError {
    fn from(error: virtio_drivers::Error) -> BlkError {
        BlkError::Device(error)
    }
}

/// What the device reads of a request, and where it writes how it went. Its address never changes.
#[repr(C)]
struct Request {
    /// Type (with the reserved half above it) and sector: 16 bytes, little-endian as the machine.
    header: [u64; 2],
    status: [u8; 1],
    count: usize,
    pages: [Transfer; RUN_PAGES_MAX],
}

/// A drive as far memory.
pub struct BlkLink {
    transport: Transport,
    queue: Box<VirtQueue<Memory, QUEUE_SIZE>>,
    pages: u32,
    requests: Box<[Request]>,
    /// Requests that are not in flight.
    free: Vec<usize>,
    /// Which request each descriptor chain in flight is of.
    given: [Option<u8>; QUEUE_SIZE],
    free_descriptors: usize,
    /// What waits for a request or for descriptors: needed fetches, and the rest.
    needed: VecDeque<Transfer>,
    others: VecDeque<Transfer>,
    ended: Vec<Landed>,
    in_flight: usize,
    /// When the drive last had nothing to do, or did something.
    heard_at: Instant,
    is_broken: bool,
}

impl BlkLink {
    /// Sets the drive up.
    ///
    /// # Errors
    /// If it is a legacy device, read-only, empty, or its queue is too short.
    pub fn new(mut transport: Transport) -> Result<BlkLink, BlkError> {
        let offered = Features::from_bits_truncate(transport.read_device_features());
        if !offered.contains(Features::VERSION_1) {
            return Err(BlkError::Legacy);
        }
        if offered.contains(Features::READ_ONLY) {
            return Err(BlkError::ReadOnly);
        }
        transport.begin_init(Features::VERSION_1 | Features::FLUSH);
        // In halves: the fields of a configuration are aligned to four bytes only.
        let [low, high] = transport.read_consistent(|| transport.read_config_space::<[u32; 2]>(0))?;
        let sectors = u64::from(high) << 32 | u64::from(low);
        let pages = u32::try_from(sectors / SECTORS_A_PAGE).unwrap_or(u32::MAX);
        if pages == 0 {
            return Err(BlkError::Empty);
        }
        let mut queue = Box::new(VirtQueue::new(&mut transport, QUEUE, false, false)?);
        queue.set_dev_notify(false);
        transport.finish_init();
        let none =
            Transfer { kind: TransferKind::Trim, page: farmem::PageNo(0), count: 0, frame: FrameNo(0) };
        let request = || Request { header: [0; 2], status: [0], count: 0, pages: [none; RUN_PAGES_MAX] };
        Ok(BlkLink {
            transport,
            queue,
            pages,
            requests: (0..REQUESTS_MAX).map(|_| request()).collect(),
            free: (0..REQUESTS_MAX).collect(),
            given: [None; QUEUE_SIZE],
            free_descriptors: QUEUE_SIZE,
            needed: VecDeque::with_capacity(TRANSFERS),
            others: VecDeque::with_capacity(TRANSFERS),
            ended: Vec::with_capacity(TRANSFERS),
            in_flight: 0,
            heard_at: Instant(0),
            is_broken: false,
        })
    }

    /// Gives the device as many requests as it has room for: needed fetches first.
    fn start(&mut self, frames: &mut [Frame]) {
        let mut started = false;
        while self.free_descriptors >= RUN_PAGES_MAX + 2
            && !(self.needed.is_empty() && self.others.is_empty())
            && let Some(slot) = self.free.pop()
        {
            let line = if self.needed.is_empty() { &mut self.others } else { &mut self.needed };
            let request = &mut self.requests[slot];
            request.count = take_run(line, &mut request.pages);
            let is_write = request.pages[0].kind == TransferKind::WriteBack;
            request.header = [
                u64::from(if is_write { OUT } else { IN }),
                u64::from(request.pages[0].page.0) * SECTORS_A_PAGE,
            ];
            request.status = [STATUS_PENDING];
            let descriptors = request.count + 2;
            // SAFETY: the request stays where it is and as it is, and its frames are the link's, until the
            // device has used it or is reset.
            match with_buffers(request, frames, |inputs, outputs| unsafe { self.queue.add(inputs, outputs) })
            {
                Ok(token) => {
                    self.given[usize::from(token)] = Some(slot as u8);
                    self.free_descriptors -= descriptors;
                    started = true;
                }
                Err(_) => self.fail(slot, LinkError::Io),
            }
        }
        if started && self.queue.should_notify() {
            self.transport.notify(QUEUE);
        }
    }

    /// Ends a request: all its pages.
    fn end(&mut self, slot: usize, result: Result<(), LinkError>) {
        let request = &self.requests[slot];
        let pages = &request.pages[..request.count];
        self.ended.extend(pages.iter().map(|&transfer| Landed { transfer, result }));
        self.free.push(slot);
    }

    fn fail(&mut self, slot: usize, error: LinkError) {
        self.end(slot, Err(error));
    }

    /// Takes what the device has used.
    fn collect(&mut self, frames: &mut [Frame]) {
        while let Some(token) = self.queue.peek_used() {
            let Some(slot) = self.given.get_mut(usize::from(token)).and_then(Option::take) else {
                return self.give_up();
            };
            let slot = usize::from(slot);
            let request = &mut self.requests[slot];
            // SAFETY: the buffers that were added under this token.
            let used = with_buffers(request, frames, |inputs, outputs| unsafe {
                self.queue.pop_used(token, inputs, outputs)
            });
            let request = &self.requests[slot];
            self.free_descriptors += request.count + 2;
            let is_read = request.pages[0].kind != TransferKind::WriteBack;
            let whole = (request.count * PAGE_SIZE + 1) as u32;
            let result = match used {
                Ok(len) if request.status == [STATUS_OK] && (!is_read || len == whole) => Ok(()),
                _ => Err(LinkError::Io),
            };
            self.end(slot, result);
        }
    }

    /// The device has answered what was never asked, or nothing for too long: it is reset, so that it
    /// touches no frame any more, and nothing more is asked of it.
    fn give_up(&mut self) {
        self.transport.set_status(DeviceStatus::empty());
        while self.transport.get_status() != DeviceStatus::empty() {
            core::hint::spin_loop();
        }
        self.is_broken = true;
        for token in 0..QUEUE_SIZE {
            if let Some(slot) = self.given[token].take() {
                self.fail(usize::from(slot), LinkError::Down);
            }
        }
        let waiting = self.needed.drain(..).chain(self.others.drain(..));
        self.ended.extend(waiting.map(|transfer| Landed { transfer, result: Err(LinkError::Down) }));
    }
}

/// Takes the longest run of adjacent pages that move the same way off the front of a line.
fn take_run(line: &mut VecDeque<Transfer>, pages: &mut [Transfer; RUN_PAGES_MAX]) -> usize {
    let mut count: usize = 0;
    while let Some(&next) = line.front()
        && count < RUN_PAGES_MAX
        && (count == 0
            || next.page.0 == pages[count - 1].page.0 + 1
                && (next.kind == TransferKind::WriteBack) == (pages[0].kind == TransferKind::WriteBack))
    {
        pages[count] = next;
        count += 1;
        line.pop_front();
    }
    count
}

/// Calls `with` with what the device reads and what it writes of a request.
fn with_buffers<R>(
    request: &mut Request,
    frames: &mut [Frame],
    with: impl for<'a> FnOnce(&'a [&'a [u8]], &'a mut [&'a mut [u8]]) -> R,
) -> R {
    let header: &[u8] =
        // SAFETY: the header's own 16 bytes, for as long as the request is borrowed.
        unsafe { slice::from_raw_parts((&raw const request.header).cast(), size_of_val(&request.header)) };
    let frames_at = frames.as_mut_ptr();
    // SAFETY: a frame is in one transfer at a time (the pager's promise), so these slices are disjoint; the
    // index is within the arena.
    let frame = |transfer: &Transfer| unsafe {
        assert!((transfer.frame.0 as usize) < frames.len(), "a frame of the arena");
        slice::from_raw_parts_mut(frames_at.add(transfer.frame.0 as usize).cast::<u8>(), PAGE_SIZE)
    };
    let pages = &request.pages[..request.count];
    if pages[0].kind == TransferKind::WriteBack {
        let mut inputs: [&[u8]; RUN_PAGES_MAX + 1] = [header; RUN_PAGES_MAX + 1];
        for (input, page) in inputs[1..].iter_mut().zip(pages) {
            *input = frame(page);
        }
        with(&inputs[..=pages.len()], &mut [&mut request.status])
    } else {
        let mut outputs: [&mut [u8]; RUN_PAGES_MAX + 1] = core::array::from_fn(|_| &mut [][..]);
        for (output, page) in outputs.iter_mut().zip(pages) {
            *output = frame(page);
        }
        let count = pages.len();
        outputs[count] = &mut request.status;
        with(&[header], &mut outputs[..=count])
    }
}

impl Link for BlkLink {
    fn submit(&mut self, batch: &[Transfer], frames: &mut [Frame], now: Instant) {
        if self.in_flight == 0 {
            self.heard_at = now;
        }
        for &transfer in batch.iter().filter(|transfer| transfer.kind != TransferKind::Trim) {
            self.in_flight += 1;
            if self.is_broken {
                self.ended.push(Landed { transfer, result: Err(LinkError::Down) });
            } else if transfer.page.0 >= self.pages {
                self.ended.push(Landed { transfer, result: Err(LinkError::OutOfRange) });
            } else if transfer.kind == TransferKind::FetchNeeded {
                self.needed.push_back(transfer);
            } else {
                self.others.push_back(transfer);
            }
        }
        if !self.is_broken {
            self.start(frames);
        }
    }

    fn poll_landed(&mut self, frames: &mut [Frame], now: Instant, landed: &mut Vec<Landed>) {
        if !self.is_broken {
            self.collect(frames);
        }
        if self.in_flight == 0 || !self.ended.is_empty() {
            self.heard_at = now;
        } else if !self.is_broken && now.0.saturating_sub(self.heard_at.0) > WAIT_NS_MAX {
            self.give_up();
        }
        if !self.is_broken {
            self.start(frames);
        }
        self.in_flight -= self.ended.len();
        landed.append(&mut self.ended);
    }

    fn wait_landed(&mut self, frames: &mut [Frame], landed: &mut Vec<Landed>) {
        let before = landed.len();
        while self.in_flight > 0 && landed.len() == before {
            self.poll_landed(frames, time::now(), landed);
            core::hint::spin_loop();
        }
    }

    /// The drive is polled: whatever is in flight is due at once.
    fn next_due(&self) -> Option<Instant> {
        (self.in_flight > 0).then_some(Instant(0))
    }

    fn in_flight(&self) -> usize {
        self.in_flight
    }

    fn capacity_pages(&self) -> u32 {
        self.pages
    }
}
