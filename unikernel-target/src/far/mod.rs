//! Far memory as the guest reaches it, named by a URI.
//!
//! | URI | is |
//! |---|---|
//! | `mem:512mb` | RAM of this machine that the store does not count as local |
//!
//! Refuses to know what is in a page.

mod mem;

use crate::arch::memory::Ram;
use alloc::boxed::Box;
use alloc::format;
use alloc::rc::Rc;
use alloc::string::String;
use alloc::vec::Vec;
use core::cell::RefCell;
use farmem::{Frame, Instant, Landed, Link, Transfer};

/// Far memory that a URI names.
///
/// # Errors
/// In words for whoever typed it.
pub fn open(uri: &str, ram: &mut Ram) -> Result<SharedLink, String> {
    let bad = |why: &str| format!("bad directive 'far-memory {uri}': {why}");
    match uri.split_once(':') {
        Some(("mem", rest)) => {
            let size = bytes(rest).ok_or_else(|| bad("a size like 512mb is expected after 'mem:'"))?;
            let frames = ram.take(size).map_err(|error| bad(&format!("{error}")))?;
            Ok(SharedLink(Rc::new(RefCell::new(Box::new(mem::MemLink::new(frames))))))
        }
        _ => Err(bad("here it is mem:SIZE")),
    }
}

/// `512mb`, `1gb`; at least one page.
fn bytes(typed: &str) -> Option<u64> {
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
