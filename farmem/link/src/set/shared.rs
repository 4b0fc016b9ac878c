//! One set of links with two owners on one thread: the pager, which waits at it, and the body, which drives it.
//!
//! Refuses to be used by two at a time.

use super::LinkSet;
use farmem::{Frame, Instant, Landed, Link, Transfer};
use std::cell::{Ref, RefCell, RefMut};
use std::rc::Rc;

/// A link set that the pager's synchronous faults and the body's driver share.
#[derive(Clone)]
pub struct SharedLink(Rc<RefCell<LinkSet>>);

impl SharedLink {
    /// Makes it sharable.
    pub fn new(set: LinkSet) -> SharedLink {
        SharedLink(Rc::new(RefCell::new(set)))
    }

    /// The set, to be asked how it is. Not to be kept across a call of the link.
    pub fn set(&self) -> Ref<'_, LinkSet> {
        self.0.borrow()
    }

    /// The set, to have links added or removed. Not to be kept across a call of the link.
    pub fn set_mut(&self) -> RefMut<'_, LinkSet> {
        self.0.borrow_mut()
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
