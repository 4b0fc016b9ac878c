//! The network card: virtio-net as a device of smoltcp.
//!
//! ```text
//!   buffer: ├ header, 12 bytes ┤ Ethernet frame ...                ┤
//!   free ─► in the device's hands ─► used ─► smoltcp reads it ─► back to the device      (receive)
//!   free ─► smoltcp writes it ─► in the device's hands ─► used ─► free                   (transmit)
//! ```
//!
//! Where the host offers it (tap does, user networking does not), the host computes checksums and cuts
//! segments of up to 64 KiB in both directions. The device is told of new buffers once a turn (`notify`).
//! Refuses to trust the device: a used buffer that was never given away, or is longer than it is, is an
//! error and nothing is read from it.

use super::{Memory, Transport};
use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;
use bitflags::bitflags;
use core::fmt;
use core::num::NonZeroUsize;
use smoltcp::phy::{Checksum, Device, DeviceCapabilities, Medium, PacketMeta, RxToken, TxToken};
use smoltcp::time::Instant;
use virtio_drivers::queue::VirtQueue;
use virtio_drivers::transport::Transport as _;

/// Descriptors of each queue: what QEMU offers unless told otherwise.
const QUEUE_SIZE: usize = 256;
const RECEIVE: u16 = 0;
const TRANSMIT: u16 = 1;

/// `struct virtio_net_hdr_v1`. Source: virtio 1.2, 5.1.6.
const HEADER: usize = 12;
const ETHERNET_HEADER: usize = 14;
const IP_MTU: usize = 1500;
/// A frame of the usual size, with its header, in whole cache lines.
const SMALL: usize = 1536 + 64;
/// A frame that the host cuts or has joined: IP's 64 KiB.
const LARGE: usize = 65_536 + 64;
/// Receive buffers where the host joins segments: 8 MiB.
const RECEIVE_LARGE: usize = 128;
/// Transmit buffers. Large ones, 3 MiB, only where the host cuts segments.
const TRANSMIT_SMALL: usize = 192;
const TRANSMIT_LARGE: usize = 48;

bitflags! {
    /// Feature bits. Source: virtio 1.2, 5.1.3 and 6.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    struct Features: u64 {
        /// The host completes checksums of what we send.
        const CHECKSUM = 1 << 0;
        /// What arrives needs no check, and may not have one.
        const GUEST_CHECKSUM = 1 << 1;
        const MAC = 1 << 5;
        /// The host joins segments before they arrive; needs `GUEST_CHECKSUM`.
        const GUEST_TSO4 = 1 << 7;
        /// The host cuts what we send into segments; needs `CHECKSUM`.
        const HOST_TSO4 = 1 << 11;
        const VERSION_1 = 1 << 32;
    }
}

/// Flags and segment types of a header.
const NEEDS_CHECKSUM: u8 = 1;
const GSO_TCPV4: u8 = 1;

type Queue = Box<VirtQueue<Memory, QUEUE_SIZE>>;

/// The card will not do, or has failed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NetError {
    /// It speaks no virtio 1.
    Legacy,
    /// What the queues' driver answered.
    Device(virtio_drivers::Error),
}

impl fmt::Display for NetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NetError::Legacy => f.write_str("the network card speaks no virtio 1"),
            NetError::Device(error) => write!(f, "the network card failed: {error}"),
        }
    }
}

impl From<virtio_drivers::Error> for NetError {
    fn from(error: virtio_drivers::Error) -> NetError {
        NetError::Device(error)
    }
}

/// The network card.
pub struct Card {
    transport: Transport,
    receive: Receive,
    transmit: Transmit,
    mac: [u8; 6],
}

struct Receive {
    queue: Queue,
    /// In the device's hands, by descriptor.
    given: Vec<Option<Box<[u8]>>>,
    /// The device was not told yet of buffers that it got.
    untold: bool,
    checksums: bool,
    /// The device has answered something that makes no sense.
    broken: bool,
}

struct Transmit {
    queue: Queue,
    given: Vec<Option<Box<[u8]>>>,
    small: Vec<Box<[u8]>>,
    large: Vec<Box<[u8]>>,
    untold: bool,
    checksums: bool,
    cuts: bool,
}

impl Card {
    /// Sets the card up and gives it all receive buffers.
    ///
    /// # Errors
    /// If it is a legacy device, or its queues are too short.
    pub fn new(mut transport: Transport) -> Result<Card, NetError> {
        let mut wanted = Features::from_bits_truncate(transport.read_device_features());
        if !wanted.contains(Features::VERSION_1) {
            return Err(NetError::Legacy);
        }
        wanted.set(Features::HOST_TSO4, wanted.contains(Features::CHECKSUM | Features::HOST_TSO4));
        wanted.set(Features::GUEST_TSO4, wanted.contains(Features::GUEST_CHECKSUM | Features::GUEST_TSO4));
        let features = transport.begin_init(wanted);
        let mut mac = [2, 0, 0, 0, 0, 1];
        if features.contains(Features::MAC) {
            mac = transport.read_consistent(|| transport.read_config_space::<[u8; 6]>(0))?;
        }
        let mut receive = Receive {
            queue: Box::new(VirtQueue::new(&mut transport, RECEIVE, false, false)?),
            given: (0..QUEUE_SIZE).map(|_| None).collect(),
            untold: false,
            checksums: !features.contains(Features::GUEST_CHECKSUM),
            broken: false,
        };
        let joins = features.contains(Features::GUEST_TSO4);
        let (count, size) = if joins { (RECEIVE_LARGE, LARGE) } else { (QUEUE_SIZE, SMALL) };
        let cuts = features.contains(Features::HOST_TSO4);
        let large = if cuts { TRANSMIT_LARGE } else { 0 };
        let transmit = Transmit {
            queue: Box::new(VirtQueue::new(&mut transport, TRANSMIT, false, false)?),
            given: (0..QUEUE_SIZE).map(|_| None).collect(),
            small: (0..TRANSMIT_SMALL).map(|_| vec![0; SMALL].into_boxed_slice()).collect(),
            large: (0..large).map(|_| vec![0; LARGE].into_boxed_slice()).collect(),
            untold: false,
            checksums: !features.contains(Features::CHECKSUM),
            cuts,
        };
        transport.finish_init();
        (0..count).for_each(|_| receive.give(vec![0; size].into_boxed_slice()));
        let mut card = Card { transport, receive, transmit, mac };
        card.listen(false);
        card.notify();
        Ok(card)
    }

    /// The card's address.
    pub fn mac(&self) -> [u8; 6] {
        self.mac
    }

    /// Tells the device of all buffers that it got since the last time.
    #[inline]
    pub fn notify(&mut self) {
        if core::mem::take(&mut self.receive.untold) && self.receive.queue.should_notify() {
            self.transport.notify(RECEIVE);
        }
        if core::mem::take(&mut self.transmit.untold) && self.transmit.queue.should_notify() {
            self.transport.notify(TRANSMIT);
        }
    }

    /// Whether the device has broken its contract: nothing more can be expected of it.
    pub fn is_broken(&self) -> bool {
        self.receive.broken
    }

    /// Whether the device has used a buffer since the last look.
    pub fn has_something(&self) -> bool {
        self.receive.queue.can_pop() || self.transmit.queue.can_pop()
    }

    /// Whether the device is to interrupt when it has something. What it has already is no reason for it:
    /// look at [`Card::has_something`] after this and before a halt.
    pub fn listen(&mut self, on: bool) {
        self.transport.ack_interrupt();
        self.receive.queue.set_dev_notify(on);
        self.transmit.queue.set_dev_notify(on);
    }
}

impl Receive {
    fn give(&mut self, mut buffer: Box<[u8]>) {
        // SAFETY: the buffer stays in `given` untouched until the device has used it.
        match unsafe { self.queue.add(&[], &mut [&mut buffer]) } {
            Ok(token) => self.given[usize::from(token)] = Some(buffer),
            // Its queue has a descriptor for each buffer, so this is a lost device's.
            Err(_) => self.broken = true,
        }
        self.untold = true;
    }

    /// The next buffer that the device has used, and where its frame ends.
    fn take(&mut self) -> Option<(Box<[u8]>, usize)> {
        let token = self.queue.peek_used()?;
        let Some(mut buffer) = self.given.get_mut(usize::from(token)).and_then(Option::take) else {
            self.broken = true;
            return None;
        };
        // SAFETY: the buffer that was added under this token.
        match unsafe { self.queue.pop_used(token, &[], &mut [&mut buffer]) } {
            Ok(len) if (HEADER..=buffer.len()).contains(&(len as usize)) => Some((buffer, len as usize)),
            _ => {
                self.broken = true;
                self.give(buffer);
                None
            }
        }
    }
}

impl Transmit {
    /// Takes back what the device has sent.
    fn reclaim(&mut self) {
        while let Some(token) = self.queue.peek_used() {
            let Some(buffer) = self.given.get_mut(usize::from(token)).and_then(Option::take) else { return };
            // SAFETY: the buffer that was added under this token.
            let _ = unsafe { self.queue.pop_used(token, &[&buffer], &mut []) };
            if buffer.len() == LARGE { self.large.push(buffer) } else { self.small.push(buffer) }
        }
    }

    fn has_room(&self) -> bool {
        !self.small.is_empty() && (!self.cuts || !self.large.is_empty())
    }

    /// Sends the first `len` bytes of a buffer.
    fn send(&mut self, buffer: Box<[u8]>, len: usize) {
        // SAFETY: the buffer stays in `given` untouched until the device has used it.
        match unsafe { self.queue.add(&[&buffer[..len]], &mut []) } {
            Ok(token) => self.given[usize::from(token)] = Some(buffer),
            Err(_) => self.small.push(buffer),
        }
        self.untold = true;
    }
}

impl Device for Card {
    type RxToken<'a> = Received<'a>;
    type TxToken<'a> = Sending<'a>;

    fn receive(&mut self, _: Instant) -> Option<(Received<'_>, Sending<'_>)> {
        let sending = sending(&mut self.transmit)?;
        let (buffer, end) = self.receive.take()?;
        Some((Received { queue: &mut self.receive, buffer, end }, sending))
    }

    fn transmit(&mut self, _: Instant) -> Option<Sending<'_>> {
        sending(&mut self.transmit)
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ethernet;
        capabilities.max_transmission_unit = IP_MTU + ETHERNET_HEADER;
        capabilities.checksum.tcp = match (self.receive.checksums, self.transmit.checksums) {
            (true, true) => Checksum::Both,
            (true, false) => Checksum::Rx,
            (false, true) => Checksum::Tx,
            (false, false) => Checksum::None,
        };
        // IP's total length, which has 16 bits, and the Ethernet header.
        capabilities.segmentation.tcpv4 =
            NonZeroUsize::new(65_535 + ETHERNET_HEADER).filter(|_| self.transmit.cuts);
        capabilities
    }
}

fn sending(queue: &mut Transmit) -> Option<Sending<'_>> {
    if !queue.has_room() {
        queue.reclaim();
    }
    queue.has_room().then_some(Sending { queue, segment: 0 })
}

/// A frame that has arrived.
pub struct Received<'a> {
    queue: &'a mut Receive,
    buffer: Box<[u8]>,
    end: usize,
}

impl RxToken for Received<'_> {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, read: F) -> R {
        let result = read(&self.buffer[HEADER..self.end]);
        self.queue.give(self.buffer);
        result
    }
}

/// Room for a frame.
pub struct Sending<'a> {
    queue: &'a mut Transmit,
    /// Payload bytes of each segment that the host is to cut; zero: it is to cut none.
    segment: u16,
}

impl TxToken for Sending<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, write: F) -> R {
        let queue = self.queue;
        let from = if HEADER + len > SMALL { &mut queue.large } else { &mut queue.small };
        let mut buffer = from.pop().expect("a token exists only while there is a buffer of both kinds");
        let (header, frame) = buffer[..HEADER + len].split_at_mut(HEADER);
        header.fill(0);
        let result = write(frame);
        if !queue.checksums {
            offload(header, frame, self.segment);
        }
        queue.send(buffer, HEADER + len);
        result
    }

    fn set_meta(&mut self, meta: PacketMeta) {
        self.segment = meta.segmentation_offload_size.map_or(0, |size| size.get());
    }
}

/// Leaves the checksum of a TCP segment, and cutting it, to the host: the checksum field gets the sum of
/// the pseudo header, and the header says where the rest is. Source: virtio 1.2, 5.1.6.2.
fn offload(header: &mut [u8], frame: &mut [u8], segment: u16) {
    const IP: usize = ETHERNET_HEADER;
    const PROTOCOL_TCP: u8 = 6;
    if frame.len() < IP + 40 || frame[12..14] != [8, 0] || frame[IP + 9] != PROTOCOL_TCP {
        return;
    }
    let tcp = IP + usize::from(frame[IP] & 15) * 4;
    let word = |at: usize| u32::from(frame[at]) << 8 | u32::from(frame[at + 1]);
    let addresses: u32 = (0..4).map(|index| word(IP + 12 + index * 2)).sum();
    let sum = addresses + u32::from(PROTOCOL_TCP) + (frame.len() - tcp) as u32;
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = ((sum & 0xffff) + (sum >> 16)) as u16;
    let tcp_header = usize::from(frame[tcp + 12] >> 4) * 4;
    frame[tcp + 16..tcp + 18].copy_from_slice(&sum.to_be_bytes());
    header[0] = NEEDS_CHECKSUM;
    if segment > 0 {
        header[1] = GSO_TCPV4;
        header[2..4].copy_from_slice(&((tcp + tcp_header) as u16).to_le_bytes());
        header[4..6].copy_from_slice(&segment.to_le_bytes());
    }
    header[6..8].copy_from_slice(&(tcp as u16).to_le_bytes());
    header[8..10].copy_from_slice(&16u16.to_le_bytes());
}
