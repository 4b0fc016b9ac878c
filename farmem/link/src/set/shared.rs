//! One set of links with two owners on one thread: the pager, which waits at it, and the body, which drives it.
//!
//! Refuses to be used by two at a time.

use super::LinkSet;
use crate::monotonic_now;
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

    /// The pager's way to the set.
    pub fn door(&self) -> PagerDoor {
        PagerDoor(self.clone())
    }
}

/// What a command that cannot go on sends its transfers through, to wait for them.
///
/// It does so in the middle of a turn, and the turn's `now` is older than that: on a modelled wire what has
/// only just been asked for would have landed already. So they are sent by the clock.
pub struct PagerDoor(SharedLink);

impl Link for PagerDoor {
    fn submit(&mut self, batch: &[Transfer], frames: &mut [Frame], _now: Instant) {
        self.0.submit(batch, frames, monotonic_now());
    }

    fn poll_landed(&mut self, frames: &mut [Frame], now: Instant, landed: &mut Vec<Landed>) {
        self.0.poll_landed(frames, now, landed);
    }

    fn wait_landed(&mut self, frames: &mut [Frame], landed: &mut Vec<Landed>) {
        self.0.wait_landed(frames, landed);
    }

    fn next_due(&self) -> Option<Instant> {
        self.0.next_due()
    }

    fn in_flight(&self) -> usize {
        self.0.in_flight()
    }

    fn capacity_pages(&self) -> u32 {
        self.0.capacity_pages()
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::FarUri;
    use farmem::{FrameNo, PAGE_SIZE, PageNo, TransferKind};

    #[test]
    fn what_is_sent_through_the_door_of_an_old_turn_takes_its_time_all_the_same() {
        let uri: FarUri = "mem:1mb?latency=2ms".parse().expect("it is a URI");
        let mut door = SharedLink::new(LinkSet::open(&[uri], 1).expect("a megabyte is there")).door();
        let (mut frames, mut landed) = ([Frame([0; PAGE_SIZE])], Vec::new());
        let fetch =
            Transfer { kind: TransferKind::FetchNeeded, page: PageNo(1), count: 1, frame: FrameNo(0) };
        let begun = monotonic_now();
        door.submit(&[fetch], &mut frames, Instant(begun.0 - 1_000_000_000));
        door.wait_landed(&mut frames, &mut landed);
        assert_eq!(landed.len(), 1);
        assert!(monotonic_now().0 - begun.0 >= 2_000_000, "it landed before it could");
    }
}
