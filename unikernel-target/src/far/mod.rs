//! Far memory as the guest reaches it, named by a URI.
//!
//! | URI | is |
//! |---|---|
//! | `mem:512mb[?latency=2.6us&bandwidth=100gbit]` | RAM of this machine that the store does not count as local |
//! | `virtio-blk:` | the first drive: a raw file, QEMU's `nbd://`, vhost-user-blk |
//!
//! Refuses to know what is in a page.

pub mod clock;
pub mod mem;

use crate::arch::memory::Ram;
use crate::virtio::blk::BlkLink;
use crate::virtio::{self, DeviceType, Transport};
use alloc::boxed::Box;
use alloc::format;
use alloc::rc::Rc;
use alloc::string::String;
use alloc::vec::Vec;
use clock::MachineClock;
use core::cell::RefCell;
use farmem::{Frame, Instant, Landed, Link, Transfer, Wire};

/// Far memory that a URI names.
///
/// # Errors
/// In words for whoever typed it.
pub fn open(uri: &str, ram: &mut Ram, devices: &mut Vec<Transport>) -> Result<SharedLink, String> {
    let bad = |why: &str| format!("bad directive 'far-memory {uri}': {why}");
    let link: Box<dyn Link> = match uri.split_once(':') {
        Some(("mem", rest)) => {
            let (size, wire) = mem_uri(rest).map_err(bad)?;
            let frames = ram.take(size).map_err(|error| bad(&format!("{error}")))?;
            Box::new(mem::MemLink::new(frames, wire, MachineClock))
        }
        Some(("virtio-blk", "")) => {
            let drive = virtio::take(devices, DeviceType::Block)
                .ok_or_else(|| bad("no drive: give the machine a virtio-blk device"))?;
            Box::new(BlkLink::new(drive).map_err(|error| bad(&format!("{error}")))?)
        }
        _ => return Err(bad("here it is mem:SIZE or virtio-blk:")),
    };
    Ok(SharedLink::new(link))
}

/// What follows `mem:`. Units: bytes.
///
/// # Errors
/// What is wrong with it.
pub fn mem_uri(rest: &str) -> Result<(u64, Wire), &'static str> {
    let (size, query) = rest.split_once('?').unwrap_or((rest, ""));
    let size = bytes(size).ok_or("a size like 512mb is expected after 'mem:'")?;
    let wire =
        wire(query).ok_or("after '?' it takes latency=2.6us and bandwidth=100gbit, with '&' between")?;
    Ok((size, wire))
}

/// `latency=2.6us&bandwidth=100gbit`, either or none.
fn wire(query: &str) -> Option<Wire> {
    let mut wire = Wire::default();
    for parameter in query.split('&').filter(|parameter| !parameter.is_empty()) {
        match parameter.split_once('=')? {
            ("latency", value) => {
                wire.latency_ns = scaled(value, &[("ns", 1.0), ("us", 1e3), ("ms", 1e6), ("s", 1e9)])?;
            }
            ("bandwidth", value) => {
                wire.bandwidth_bits = scaled(value, &[("kbit", 1e3), ("mbit", 1e6), ("gbit", 1e9)])?;
            }
            _ => return None,
        }
    }
    Some(wire)
}

/// A number and its unit. Bounds: below 2^53.
fn scaled(typed: &str, units: &[(&str, f64)]) -> Option<u64> {
    let end = typed.find(|letter: char| letter != '.' && !letter.is_ascii_digit())?;
    let (number, unit) = typed.split_at(end);
    let &(_, scale) = units.iter().find(|(name, _)| *name == unit)?;
    let value = number.parse::<f64>().ok()? * scale + 0.5;
    (value < (1u64 << 53) as f64).then_some(value as u64)
}

/// `512mb`, `1gb`; at least one page.
pub fn bytes(typed: &str) -> Option<u64> {
    let digits = typed.bytes().take_while(u8::is_ascii_digit).count();
    let unit = match &typed[digits..] {
        "kb" => 1 << 10,
        "mb" => 1 << 20,
        "gb" => 1 << 30,
        _ => return None,
    };
    typed[..digits].parse::<u64>().ok()?.checked_mul(unit).filter(|bytes| *bytes > 0)
}

/// A link with two handles: the driver's, and the pager's door.
#[derive(Clone)]
pub struct SharedLink(Rc<RefCell<Box<dyn Link>>>);

impl SharedLink {
    /// A link with as many handles as there are clones.
    pub fn new(link: Box<dyn Link>) -> SharedLink {
        SharedLink(Rc::new(RefCell::new(link)))
    }
}

impl Link for SharedLink {
    fn submit(&mut self, batch: &[Transfer], frames: &mut [Frame], now: Instant) {
        self.0.borrow_mut().submit(batch, frames, now);
    }

    fn poll_landed(&mut self, frames: &mut [Frame], now: Instant, landed: &mut Vec<Landed>) {
        self.0.borrow_mut().poll_landed(frames, now, landed);
    }

    fn wait_landed(&mut self, frames: &mut [Frame], landed: &mut Vec<Landed>) {
        self.0.borrow_mut().wait_landed(frames, landed);
    }

    fn next_due(&self) -> Option<Instant> {
        self.0.borrow().next_due()
    }

    fn in_flight(&self) -> usize {
        self.0.borrow().in_flight()
    }

    fn capacity_pages(&self) -> u32 {
        self.0.borrow().capacity_pages()
    }
}
