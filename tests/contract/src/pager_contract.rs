//! The contract of every pager: one suite, run by each implementation through a factory.
//!
//! A pager under test gets a scripted link as its door, and the suite drives the same link as a body would.

mod budget;
mod room;

use crate::scripted_link::ScriptedLink;
use alloc::boxed::Box;
use alloc::vec::Vec;
use farmem::{
    Acquired, FarAddr, Instant, Landed, Link, LinkError, PAGE_SIZE, PageNo, PageRange, PageSet, PageState,
    Pager, PagerError, Prefetch, Ticket, Transfer, TransferKind,
};

pub use budget::*;
pub use room::*;

/// Makes a pager of so many frames, with the policy, and with the link as its door.
pub type Factory = dyn Fn(u32, Prefetch, ScriptedLink) -> Box<dyn Pager>;

/// Turns of the loop after which a wait that is not over is called stuck.
const TURNS_MAX: usize = 2_000;

/// A pager, its link, and a body's loop reduced to what moves pages.
pub struct Rig {
    /// The pager under test.
    pub pager: Box<dyn Pager>,
    /// Its far memory.
    pub link: ScriptedLink,
    /// The virtual clock.
    pub now: Instant,
    /// The tickets that have come out so far.
    pub woken: Vec<Ticket>,
}

/// The set of these pages.
pub fn set(pages: &[u32]) -> PageSet {
    let mut set = PageSet::new();
    for &page in pages {
        set.push_page(PageNo(page));
    }
    set.normalise();
    set
}

fn run(first: u32, count: u32) -> PageRange {
    PageRange { first: PageNo(first), count }
}

impl Rig {
    /// A rig around a fresh pager.
    pub fn new(factory: &Factory, frames: u32, policy: Prefetch) -> Rig {
        let link = ScriptedLink::default();
        Rig { pager: factory(frames, policy, link.clone()), link, now: Instant(0), woken: Vec::new() }
    }

    /// Hands everything that may leave to the link.
    pub fn send(&mut self) -> Vec<Transfer> {
        let mut batch = Vec::new();
        while let Some(transfer) = self.pager.poll_transfer(self.now) {
            batch.push(transfer);
        }
        self.link.submit(&batch, self.pager.frames(), self.now);
        batch
    }

    /// Takes what has landed.
    pub fn land(&mut self) {
        let mut landed: Vec<Landed> = Vec::new();
        self.link.poll_landed(self.pager.frames(), self.now, &mut landed);
        for landed in landed {
            self.pager.handle_landed(landed, self.now);
        }
        while let Some(ticket) = self.pager.poll_woken() {
            self.woken.push(ticket);
        }
    }

    /// One turn of a body's loop: 10 us.
    pub fn turn(&mut self) {
        self.pager.balance(self.now);
        self.send();
        self.land();
        self.now.0 += 10_000;
    }

    /// Acquires, turning the loop for as long as it takes.
    pub fn acquire(&mut self, want: &PageSet, fresh: u32) -> Result<(), PagerError> {
        for round in 0..TURNS_MAX {
            match self.pager.acquire(want, fresh, round > 8, self.now)? {
                Acquired::Ready => return Ok(()),
                Acquired::Waiting(ticket) => self.await_ticket(ticket),
            }
        }
        panic!("{want:?} and {fresh} fresh frames were never there at once");
    }

    fn await_ticket(&mut self, ticket: Ticket) {
        for _ in 0..TURNS_MAX {
            if let Some(index) = self.woken.iter().position(|&woken| woken == ticket) {
                self.woken.remove(index);
                return;
            }
            self.turn();
        }
        panic!("{ticket:?} was never woken");
    }

    fn wait_of(&mut self, want: &PageSet, fresh: u32) -> Ticket {
        match self.pager.acquire(want, fresh, false, self.now) {
            Ok(Acquired::Waiting(ticket)) => ticket,
            other => panic!("expected a wait for {want:?}, not {other:?}"),
        }
    }

    /// Fills a page as a command would.
    pub fn fill(&mut self, page: u32, byte: u8) {
        let want = set(&[page]);
        self.acquire(&want, 1).expect("a page can be written");
        let addr = PageNo(page).addr();
        self.pager.bytes_mut(addr, PAGE_SIZE).expect("an acquired page can be changed").fill(byte);
        self.pager.release(&want);
    }

    /// Reads a page as a command would, and checks that all its bytes are `byte`.
    pub fn check(&mut self, page: u32, byte: u8) {
        let want = set(&[page]);
        self.acquire(&want, 0).expect("a page can be read");
        assert_eq!(self.byte_of(page), byte, "page {page}");
        self.pager.release(&want);
    }

    fn byte_of(&mut self, page: u32) -> u8 {
        let bytes = self.pager.bytes(PageNo(page).addr(), PAGE_SIZE).expect("the page is here");
        assert!(bytes.iter().all(|&byte| byte == bytes[0]), "page {page} is torn");
        bytes[0]
    }

    /// Brings pages to far memory, and nowhere else. Page `p` is filled with `p`.
    pub fn fill_far(&mut self, pages: &[u32]) {
        for &page in pages {
            self.fill(page, page as u8);
        }
        self.send_away(pages);
        self.pager.reset_stats();
        self.link.script().log.clear();
    }

    fn send_away(&mut self, pages: &[u32]) {
        for _ in 0..TURNS_MAX {
            for &page in pages {
                self.pager.evict(run(page, 1));
            }
            if pages.iter().all(|&page| self.pager.state(PageNo(page)) == PageState::Remote) {
                return;
            }
            self.turn();
        }
        panic!("{pages:?} were never evicted");
    }
}

/// The round trip.
pub fn a_written_page_comes_back_from_far_memory(factory: &Factory) {
    let mut rig = Rig::new(factory, 8, Prefetch::Ahead);
    rig.fill_far(&[1, 2, 5000]);
    for page in [1, 2, 5000] {
        rig.check(page, page as u8);
        assert_eq!(rig.pager.state(PageNo(page)), PageState::Clean);
    }
    assert_eq!(rig.pager.stats().pages_fetched, 3);
    let mut latencies_ns = Vec::new();
    rig.pager.drain_fetch_latencies(&mut latencies_ns);
    assert_eq!(latencies_ns.len(), 3);
}

/// Reading nothing fetches nothing and takes no frame.
pub fn an_untouched_page_reads_as_zeros_and_costs_nothing(factory: &Factory) {
    let mut rig = Rig::new(factory, 8, Prefetch::Ahead);
    let want = set(&[3, 4]);
    assert_eq!(rig.pager.acquire(&want, 0, false, rig.now), Ok(Acquired::Ready));
    assert_eq!(rig.byte_of(3), 0);
    rig.pager.release(&want);
    assert_eq!(rig.pager.state(PageNo(3)), PageState::Untouched);
    assert_eq!(rig.pager.stats().frames_free, 8);
    assert!(rig.link.script().log.is_empty());
}

/// All or nothing.
pub fn a_wait_pins_nothing_and_ends_when_all_its_pages_landed(factory: &Factory) {
    let mut rig = Rig::new(factory, 8, Prefetch::Ahead);
    rig.fill_far(&[1, 2, 3]);
    rig.check(1, 1);
    let ticket = rig.wait_of(&set(&[1, 2, 3]), 0);
    assert_eq!(rig.pager.stats().frames_pinned, 0);
    let sent = rig.send();
    assert_eq!(sent.iter().map(|transfer| transfer.page.0).collect::<Vec<_>>(), [2, 3]);
    assert!(rig.woken.is_empty());
    rig.land();
    assert_eq!(rig.woken, [ticket]);
    assert_eq!(rig.pager.stats().frames_pinned, 0);
    let want = set(&[1, 2, 3]);
    assert_eq!(rig.pager.acquire(&want, 0, false, rig.now), Ok(Acquired::Ready));
    assert_eq!(rig.pager.stats().frames_pinned, 3);
    rig.pager.release(&want);
    assert_eq!(rig.pager.stats().frames_pinned, 0);
}

/// Order on the wire.
pub fn a_needed_page_leaves_before_an_older_guess(factory: &Factory) {
    let mut rig = Rig::new(factory, 32, Prefetch::Ahead);
    rig.fill_far(&[1, 2, 3]);
    rig.pager.prefetch(&set(&[1, 2]), rig.now);
    rig.wait_of(&set(&[2, 3]), 0);
    let sent: Vec<_> = rig.send().iter().map(|transfer| (transfer.kind, transfer.page.0)).collect();
    let needed = TransferKind::FetchNeeded;
    assert_eq!(sent, [(needed, 2), (needed, 3), (TransferKind::FetchGuess, 1)]);
}

/// With hardly a frame to spare, guesses give way.
pub fn a_wrong_guess_never_delays_the_needed_page(factory: &Factory) {
    let mut rig = Rig::new(factory, 8, Prefetch::Ahead);
    let far: Vec<u32> = (1..=20).collect();
    rig.fill_far(&far);
    rig.pager.prefetch(&set(&far[4..]), rig.now);
    let ticket = rig.wait_of(&set(&[1, 2, 3, 4]), 0);
    let sent = rig.send();
    assert!(sent[..4].iter().all(|transfer| transfer.kind == TransferKind::FetchNeeded));
    rig.land();
    assert_eq!(rig.woken, [ticket]);
}

/// One fetch for both.
pub fn a_guess_under_way_serves_the_one_who_needs_it(factory: &Factory) {
    let mut rig = Rig::new(factory, 32, Prefetch::Ahead);
    rig.fill_far(&[1]);
    rig.pager.prefetch(&set(&[1]), rig.now);
    rig.send();
    let ticket = rig.wait_of(&set(&[1]), 0);
    assert!(rig.send().is_empty());
    rig.land();
    assert_eq!(rig.woken, [ticket]);
    rig.check(1, 1);
    assert_eq!(rig.pager.stats().pages_fetched, 1);
}

/// A reply is a snapshot.
pub fn a_held_frame_stays_as_it_was_under_writes_and_drops(factory: &Factory) {
    let mut rig = Rig::new(factory, 8, Prefetch::Ahead);
    for page in 1..=3 {
        rig.fill(page, page as u8);
    }
    let held: Vec<_> = (1..=3).map(|page| rig.pager.hold(PageNo(page)).expect("it is resident")).collect();
    assert_eq!(rig.pager.held_frames(), 3);
    rig.fill(1, 101);
    rig.pager.page_overwrite(PageNo(2)).expect("a frame is free").fill(102);
    rig.pager.drop_pages(run(3, 1));
    for _ in 0..20 {
        rig.turn();
        rig.pager.evict_all();
    }
    for (page, &frame) in (1..=3).zip(&held) {
        assert!(rig.pager.held(frame).iter().all(|&byte| byte == page), "held page {page} has changed");
    }
    rig.check(1, 101);
    rig.check(2, 102);
    rig.check(3, 0);
    held.into_iter().for_each(|frame| rig.pager.unhold(frame));
    assert_eq!(rig.pager.held_frames(), 0);
    rig.send_away(&[1, 2]);
    assert_eq!(rig.pager.stats().frames_free, 8);
}

/// The page is dirty again when its write back lands.
pub fn a_write_during_a_write_back_is_not_lost(factory: &Factory) {
    let mut rig = Rig::new(factory, 8, Prefetch::Ahead);
    rig.fill(1, 1);
    rig.pager.evict(run(1, 1));
    assert_eq!(rig.send().len(), 1);
    assert_eq!(rig.pager.state(PageNo(1)), PageState::Cleaning);
    rig.fill(1, 2);
    rig.land();
    assert_eq!(rig.pager.state(PageNo(1)), PageState::Dirty);
    rig.send_away(&[1]);
    rig.check(1, 2);
}

/// Dead bytes do not travel.
pub fn dropped_pages_are_never_written_back(factory: &Factory) {
    let mut rig = Rig::new(factory, 8, Prefetch::Ahead);
    for page in 1..=4 {
        rig.fill(page, 7);
    }
    rig.pager.evict(run(1, 4));
    rig.pager.drop_pages(run(1, 4));
    rig.pager.evict_all();
    for _ in 0..10 {
        rig.turn();
    }
    assert!(rig.link.script().log.is_empty());
    assert_eq!(rig.pager.stats().frames_free, 8);
    assert_eq!(rig.pager.stats().pages_dropped, 4);
}

/// The landing of a page that has died meanwhile changes nothing.
pub fn a_page_dropped_on_its_way_is_not_resurrected(factory: &Factory) {
    let mut rig = Rig::new(factory, 8, Prefetch::Ahead);
    rig.fill_far(&[1, 2]);
    let ticket = rig.wait_of(&set(&[1, 2]), 0);
    rig.send();
    rig.pager.drop_pages(run(1, 1));
    rig.fill(1, 9);
    rig.land();
    assert_eq!(rig.woken, [ticket]);
    rig.check(1, 9);
    rig.check(2, 2);
    // The same for a page that was on its way out: its old content must not land after its new one.
    rig.pager.evict(run(1, 1));
    rig.send();
    rig.pager.drop_pages(run(1, 1));
    rig.fill(1, 10);
    rig.send_away(&[1]);
    rig.check(1, 10);
}

/// A trim that waits must not kill what came after it.
pub fn a_page_rewritten_after_a_drop_is_not_trimmed(factory: &Factory) {
    let mut rig = Rig::new(factory, 8, Prefetch::Ahead);
    rig.fill_far(&[1, 2, 3]);
    rig.pager.drop_pages(run(1, 3));
    rig.fill(2, 22);
    rig.send_away(&[2]);
    for _ in 0..4 {
        rig.turn();
    }
    rig.check(2, 22);
    assert!(!rig.link.script().far.contains_key(&PageNo(1)));
}

/// Writing does not read.
pub fn an_overwritten_page_is_never_fetched(factory: &Factory) {
    let mut rig = Rig::new(factory, 8, Prefetch::Ahead);
    rig.fill_far(&[1]);
    rig.pager.page_overwrite(PageNo(1)).expect("a frame is free").fill(5);
    assert_eq!(rig.pager.state(PageNo(1)), PageState::Dirty);
    rig.send_away(&[1]);
    assert_eq!(rig.pager.stats().pages_fetched, 0);
    rig.check(1, 5);
}

/// Never data.
pub fn a_wrong_checksum_is_an_error_and_the_next_try_works(factory: &Factory) {
    let mut rig = Rig::new(factory, 8, Prefetch::Ahead);
    rig.fill_far(&[1]);
    let flip = |rig: &Rig| rig.link.script().far.get_mut(&PageNo(1)).expect("it is far")[4000] ^= 1;
    flip(&rig);
    assert_eq!(rig.acquire(&set(&[1]), 0), Err(PagerError::ChecksumMismatch(PageNo(1))));
    assert_eq!(rig.pager.state(PageNo(1)), PageState::Remote);
    assert_eq!(rig.pager.bytes(PageNo(1).addr(), 1), Err(PagerError::ChecksumMismatch(PageNo(1))));
    assert_eq!(rig.pager.stats().checksum_failures, 4, "each try is two fetches");
    flip(&rig);
    rig.check(1, 1);
}

/// A link with copies takes another for the second fetch; what that brings takes the place of what was wrong.
pub fn what_comes_wrong_once_is_fetched_again_and_written_back(factory: &Factory) {
    for policy in [Prefetch::Ahead, Prefetch::None, Prefetch::Guided] {
        let mut rig = Rig::new(factory, 8, policy);
        rig.fill_far(&[1, 2]);
        rig.link.script().wrong_fetches = 1;
        rig.check(1, 1);
        let before = rig.link.count(TransferKind::WriteBack);
        rig.send_away(&[1, 2]);
        assert_eq!(rig.link.count(TransferKind::WriteBack), before + 1, "{policy:?}");
        rig.check(1, 1);
        rig.check(2, 2);
        let stats = rig.pager.stats();
        assert_eq!((stats.checksum_failures, stats.pages_repaired), (1, 1), "{policy:?}");
    }
}

/// Once to everybody who waited is once too often.
pub fn a_failing_fetch_is_reported_once_and_then_retried(factory: &Factory) {
    let mut rig = Rig::new(factory, 8, Prefetch::Ahead);
    rig.fill_far(&[1, 2]);
    rig.link.script().failing_fetches = 1;
    assert_eq!(rig.acquire(&set(&[1, 2]), 0), Err(PagerError::Link(LinkError::Io)));
    rig.check(1, 1);
    rig.check(2, 2);
    assert_eq!(rig.pager.stats().fetch_errors, 1);
}

/// Who asks when far memory is well again hears nothing of the pages that nobody was told of.
pub fn a_value_whose_pages_all_fail_is_one_failure(factory: &Factory) {
    for one_by_one in [false, true] {
        let mut rig = Rig::new(factory, 8, Prefetch::Ahead);
        rig.fill_far(&[1, 2, 3]);
        rig.link.script().failing_fetches = 3;
        rig.link.script().seed = u64::from(one_by_one);
        assert_eq!(rig.acquire(&set(&[1, 2, 3]), 0), Err(PagerError::Link(LinkError::Io)));
        for _ in 0..TURNS_MAX {
            rig.turn();
        }
        assert_eq!(rig.pager.stats().fetch_errors, 3);
        (1..=3).for_each(|page| rig.check(page, page as u8));
    }
}

/// What is resident stays so.
pub fn failing_write_backs_are_retried_and_lose_nothing(factory: &Factory) {
    let mut rig = Rig::new(factory, 8, Prefetch::Ahead);
    rig.link.script().failing_write_backs = 30;
    for page in 1..=24 {
        rig.fill(page, page as u8);
    }
    for page in 1..=24 {
        rig.check(page, page as u8);
    }
    assert_eq!(rig.pager.stats().write_back_errors, 30);
}

/// Evicting everything evicts nothing of these.
pub fn eviction_takes_no_pinned_held_or_dirty_frame(factory: &Factory) {
    let mut rig = Rig::new(factory, 8, Prefetch::Ahead);
    rig.fill_far(&[1, 2, 3]);
    let want = set(&[1, 2, 3]);
    rig.acquire(&want, 0).expect("they fit");
    let held = rig.pager.hold(PageNo(2)).expect("it is pinned");
    rig.link.script().is_stuck = true;
    rig.pager.bytes_mut(PageNo(3).addr(), 1).expect("it is pinned")[0] = 3;
    assert_eq!(rig.pager.evict_all(), 0);
    rig.pager.release(&want);
    assert_eq!(rig.pager.evict_all(), 1);
    assert_eq!(rig.pager.state(PageNo(1)), PageState::Remote);
    assert_eq!(rig.pager.state(PageNo(2)), PageState::Clean);
    assert_eq!(rig.pager.state(PageNo(3)), PageState::Dirty);
    rig.pager.unhold(held);
    assert_eq!(rig.pager.evict(run(1, 3)), 1);
}

/// Sixteen times more data than frames.
pub fn tiny_budgets_make_progress(factory: &Factory) {
    for frames in [4, 5, 8, 16] {
        for policy in [Prefetch::Ahead, Prefetch::None, Prefetch::Sequential, Prefetch::Guided] {
            let mut rig = Rig::new(factory, frames, policy);
            let pages = frames * 16;
            for page in 1..=pages {
                rig.fill(page, page as u8);
            }
            for page in 1..pages {
                let want = set(&[page, page + 1]);
                rig.acquire(&want, 1).expect("three frames are there");
                assert_eq!((rig.byte_of(page), rig.byte_of(page + 1)), (page as u8, (page + 1) as u8));
                rig.pager.release(&want);
            }
        }
    }
}

/// A wait that cannot end is not begun.
pub fn a_plan_beyond_the_frames_is_refused(factory: &Factory) {
    let mut rig = Rig::new(factory, 8, Prefetch::Ahead);
    let far: Vec<u32> = (1..=20).collect();
    rig.fill_far(&far);
    assert_eq!(rig.acquire(&set(&far), 0), Err(PagerError::PlanTooLarge));
    assert_eq!(rig.acquire(&set(&[1]), 8), Err(PagerError::PlanTooLarge));
    rig.check(20, 20);
}

/// `fresh` is a promise, and is kept without the door.
pub fn fresh_frames_are_there_when_a_command_runs(factory: &Factory) {
    let mut rig = Rig::new(factory, 16, Prefetch::Ahead);
    for page in 1..=16 {
        rig.fill(page, page as u8);
    }
    let want = set(&[1, 2]);
    rig.acquire(&want, 8).expect("ten frames are there");
    assert!(rig.pager.stats().frames_free >= 8);
    rig.link.script().is_stuck = true;
    let sent = rig.link.script().log.len();
    for page in 101..=108 {
        rig.pager.bytes_mut(PageNo(page).addr(), PAGE_SIZE).expect("it was promised").fill(page as u8);
    }
    assert_eq!(rig.link.script().log.len(), sent);
    rig.pager.release(&want);
    rig.link.script().is_stuck = false;
    for page in (1..=16).chain(101..=108) {
        rig.check(page, page as u8);
    }
}

/// Under thrash the reserved wait ends.
pub fn a_reservation_keeps_what_has_landed(factory: &Factory) {
    let mut rig = Rig::new(factory, 8, Prefetch::Ahead);
    let far: Vec<u32> = (1..=40).collect();
    rig.fill_far(&far);
    let want = set(&[1, 2, 3, 4]);
    rig.acquire(&set(&[1]), 0).expect("one frame is there");
    rig.pager.release(&set(&[1]));
    let Ok(Acquired::Waiting(ticket)) = rig.pager.acquire(&want, 1, true, rig.now) else {
        panic!("2-4 are far")
    };
    rig.await_ticket(ticket);
    for page in 5..=40 {
        rig.check(page, page as u8);
    }
    for page in 1..=4 {
        assert_eq!(rig.pager.state(PageNo(page)), PageState::Clean, "reserved page {page} was evicted");
    }
    assert_eq!(rig.pager.acquire(&want, 1, true, rig.now), Ok(Acquired::Ready));
    rig.pager.release(&want);
    assert_eq!(rig.pager.stats().frames_pinned, 0);
}

/// A client that goes takes its pins along, and is never woken.
pub fn a_cancelled_wait_leaves_no_pin(factory: &Factory) {
    let mut rig = Rig::new(factory, 8, Prefetch::Ahead);
    rig.fill_far(&[1, 2, 3]);
    let Ok(Acquired::Waiting(reserved)) = rig.pager.acquire(&set(&[1, 2]), 0, true, rig.now) else {
        panic!("far")
    };
    let plain = rig.wait_of(&set(&[2, 3]), 0);
    rig.pager.cancel(plain);
    rig.turn();
    assert_eq!(rig.woken, [reserved]);
    rig.pager.cancel(reserved);
    assert_eq!(rig.pager.stats().frames_pinned, 0);
    assert_eq!(rig.pager.evict_all(), 3);
}

/// Nobody evicts what a client waited for before its turn comes, whatever the reserve of free frames lacks.
pub fn background_work_leaves_what_has_landed_to_who_waited_for_it(factory: &Factory) {
    let mut rig = Rig::new(factory, 64, Prefetch::Ahead);
    rig.fill_far(&[1]);
    rig.link.script().failing_write_backs = u32::MAX;
    for page in 2..=60 {
        rig.fill(page, page as u8);
    }
    let ticket = rig.wait_of(&set(&[1]), 0);
    rig.turn();
    rig.turn();
    assert_eq!(rig.woken, [ticket]);
    rig.pager.balance(rig.now);
    assert_eq!(rig.pager.state(PageNo(1)), PageState::Clean);
    rig.check(1, 1);
}

/// A hint is never needed for correctness.
pub fn an_unplanned_touch_works_and_is_counted(factory: &Factory) {
    let mut rig = Rig::new(factory, 8, Prefetch::Ahead);
    rig.fill_far(&[1, 2, 3]);
    assert_eq!(rig.byte_of(1), 1);
    rig.pager.bytes_mut(FarAddr(2 * PAGE_SIZE as u64), PAGE_SIZE).expect("the link is up").fill(20);
    // Also while the page is queued or on its way for somebody else.
    let ticket = rig.wait_of(&set(&[3]), 0);
    rig.send();
    assert_eq!(rig.byte_of(3), 3);
    rig.land();
    assert_eq!(rig.woken, [ticket]);
    assert_eq!(rig.pager.stats().unplanned_faults, 3);
    assert_eq!(rig.pager.stats().pages_fetched, 3);
    rig.check(2, 20);
}

/// Nothing is free and nothing is clean.
pub fn a_full_pager_writes_back_for_a_command_that_cannot_wait(factory: &Factory) {
    let mut rig = Rig::new(factory, 4, Prefetch::Ahead);
    for page in 1..=32 {
        rig.pager.bytes_mut(PageNo(page).addr(), PAGE_SIZE).expect("the door is open").fill(page as u8);
    }
    rig.link.script().failing_write_backs = u32::MAX;
    let full: Vec<_> = (51..60).map(|page| rig.pager.page_overwrite(PageNo(page)).err()).collect();
    assert_eq!(full.last(), Some(&Some(PagerError::Refused)));
    rig.link.script().failing_write_backs = 0;
    for page in 1..=32 {
        rig.check(page, page as u8);
    }
}

fn batches(policy: Prefetch, factory: &Factory) -> (Rig, Vec<(TransferKind, u32)>) {
    let mut rig = Rig::new(factory, 64, policy);
    rig.fill_far(&(1..=40).collect::<Vec<_>>());
    let want = set(&[3, 10, 20]);
    assert_eq!(rig.pager.acquire(&want, 0, false, rig.now), Ok(Acquired::Ready));
    assert_eq!([3, 10, 20].map(|page| rig.byte_of(page)), [3, 10, 20]);
    rig.pager.release(&want);
    rig.pager.prefetch(&set(&[40]), rig.now);
    assert!(rig.send().is_empty());
    let log = rig.link.script().log.iter().map(|transfer| (transfer.kind, transfer.page.0)).collect();
    (rig, log)
}

/// Demand paging.
pub fn the_policy_none_fetches_one_page_at_a_time(factory: &Factory) {
    let (_, log) = batches(Prefetch::None, factory);
    let needed = TransferKind::FetchNeeded;
    assert_eq!(log, [(needed, 3), (needed, 10), (needed, 20)]);
}

/// Readahead grows on a scan, and stays away from random reads.
pub fn the_policy_sequential_reads_ahead_of_a_scan(factory: &Factory) {
    let (mut rig, log) = batches(Prefetch::Sequential, factory);
    assert_eq!(log.len(), 3, "random reads were read ahead: {log:?}");
    for page in 21..=40 {
        rig.check(page, page as u8);
    }
    assert!(rig.link.count(TransferKind::FetchNeeded) < 3 + 10);
    assert!(rig.link.count(TransferKind::FetchGuess) > 10);
    assert_eq!(rig.pager.stats().pages_fetched, 23);
}

/// The plan in one batch, the first page first.
pub fn the_policy_guided_asks_for_the_plan_at_once(factory: &Factory) {
    let (rig, log) = batches(Prefetch::Guided, factory);
    let guess = TransferKind::FetchGuess;
    assert_eq!(log, [(TransferKind::FetchNeeded, 3), (guess, 10), (guess, 20)]);
    assert_eq!(rig.pager.stats().unplanned_faults, 0);
}

/// Far memory learns what is dead.
pub fn dead_far_pages_are_trimmed_in_runs(factory: &Factory) {
    let mut rig = Rig::new(factory, 8, Prefetch::Ahead);
    rig.fill_far(&(1..=20).collect::<Vec<_>>());
    rig.pager.drop_pages(run(1, 20));
    rig.turn();
    let log = rig.link.script().log.clone();
    assert!(
        matches!(log[..], [Transfer { kind: TransferKind::Trim, page: PageNo(1), count: 20, .. }]),
        "{log:?}"
    );
    assert!(rig.link.script().far.is_empty());
}
