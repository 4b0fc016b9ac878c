//! Each pager against a plain map from page to byte, over a link that delays, reorders and fails.
//!
//! Everything is drawn from proptest's input, so a failing case replays as it was.

use farmem::{
    Acquired, Frame, FrameNo, Link, PAGE_SIZE, PageNo, PageRange, PageSet, Pager, PagerError, Prefetch,
    SoftPager, Ticket,
};
use proptest::prelude::*;
use std::collections::HashMap;
use tests::fake_mmu;
use tests::pager_contract::{Rig, set};
use tests::scripted_link::ScriptedLink;

const PAGES: u32 = 48;
const FAR_PAGES: u32 = 1 << 13;

#[derive(Clone, Debug)]
enum Op {
    /// Acquire pages, fill the first with the byte, check the others.
    Run {
        pages: Vec<u32>,
        byte: u8,
        overwrite: bool,
    },
    /// Begin a wait, to be looked at when it is woken.
    Park {
        pages: Vec<u32>,
        fresh: u32,
        reserve: bool,
    },
    Cancel,
    /// Touch without a plan.
    Touch {
        page: u32,
        byte: Option<u8>,
    },
    Guess {
        pages: Vec<u32>,
    },
    Drop {
        page: u32,
        count: u32,
    },
    Hold {
        page: u32,
    },
    Unhold,
    Evict {
        page: u32,
        count: u32,
    },
    EvictAll,
    Budget {
        frames: u32,
    },
    FailFetches {
        count: u32,
    },
    FailWriteBacks {
        count: u32,
    },
    Turn,
}

fn page() -> impl Strategy<Value = u32> {
    // Two regions of the page table.
    (0..PAGES).prop_map(|page| if page % 2 == 0 { page + 1 } else { page + 4096 })
}

fn op() -> impl Strategy<Value = Op> {
    let pages = || prop::collection::vec(page(), 1..4);
    prop_oneof![
        8 => (pages(), any::<u8>(), any::<bool>()).prop_map(|(pages, byte, overwrite)| Op::Run { pages, byte, overwrite }),
        3 => (pages(), 0..3u32, any::<bool>()).prop_map(|(pages, fresh, reserve)| Op::Park { pages, fresh, reserve }),
        1 => Just(Op::Cancel),
        2 => (page(), any::<Option<u8>>()).prop_map(|(page, byte)| Op::Touch { page, byte }),
        1 => pages().prop_map(|pages| Op::Guess { pages }),
        2 => (page(), 1..4u32).prop_map(|(page, count)| Op::Drop { page, count }),
        2 => page().prop_map(|page| Op::Hold { page }),
        2 => Just(Op::Unhold),
        2 => (page(), 1..9u32).prop_map(|(page, count)| Op::Evict { page, count }),
        1 => Just(Op::EvictAll),
        1 => (10..24u32).prop_map(|frames| Op::Budget { frames }),
        1 => (1..3u32).prop_map(|count| Op::FailFetches { count }),
        1 => (1..3u32).prop_map(|count| Op::FailWriteBacks { count }),
        6 => Just(Op::Turn),
    ]
}

/// Holds kept at a time: with a plan of 3 pages and one copy they stay within the smallest budget.
const HOLDS_MAX: usize = 4;

struct Model {
    rig: Rig,
    bytes: HashMap<u32, u8>,
    held: Vec<(FrameNo, u8)>,
    parked: Vec<(Ticket, PageSet, u32, bool)>,
}

impl Model {
    fn byte(&self, page: u32) -> u8 {
        self.bytes.get(&page).copied().unwrap_or(0)
    }

    /// Acquires, while whoever is parked is served as in an engine; failures that the link was told to make
    /// are tried again.
    fn acquire(&mut self, want: &PageSet, fresh: u32) {
        for round in 0..1_000 {
            let reserve = round > 8 && self.parked.iter().all(|parked| !parked.3);
            match self.rig.pager.acquire(want, fresh, reserve, self.rig.now) {
                Ok(Acquired::Ready) => return,
                Ok(Acquired::Waiting(ticket)) => self.await_ticket(ticket),
                // Only a door that fails its write backs leaves a synchronous policy without a frame.
                Err(PagerError::Link(_) | PagerError::NoFrame | PagerError::Refused) => self.rig.turn(),
                Err(error) => panic!("{error:?}"),
            }
        }
        panic!("{want:?} was never there at once");
    }

    fn await_ticket(&mut self, ticket: Ticket) {
        for _ in 0..2_000 {
            if let Some(index) = self.rig.woken.iter().position(|&woken| woken == ticket) {
                self.rig.woken.remove(index);
                return;
            }
            self.rig.turn();
            let woken = std::mem::take(&mut self.rig.woken);
            let (mine, others) = woken.into_iter().partition(|&woken| woken == ticket);
            self.rig.woken = others;
            self.check_invariants();
            self.rig.woken = mine;
        }
        panic!("{ticket:?} was never woken");
    }

    fn look(&mut self, page: u32) {
        let expected = self.byte(page);
        let bytes = self.rig.pager.bytes(PageNo(page).addr(), PAGE_SIZE).expect("an acquired page is here");
        assert!(bytes.iter().all(|&byte| byte == expected), "page {page}: not all {expected}");
    }

    fn run(&mut self, pages: &[u32], byte: u8, overwrite: bool) {
        let want = set(pages);
        self.acquire(&want, 1);
        let faults = self.rig.pager.stats().unplanned_faults;
        pages.iter().for_each(|&page| self.look(page));
        let page = PageNo(pages[0]);
        let target = if overwrite {
            self.rig.pager.page_overwrite(page)
        } else {
            self.rig.pager.bytes_mut(page.addr(), PAGE_SIZE)
        };
        target.expect("a fresh frame was promised").fill(byte);
        self.bytes.insert(page.0, byte);
        pages.iter().for_each(|&page| self.look(page));
        assert_eq!(self.rig.pager.stats().unplanned_faults, faults, "a planned page was not here");
        self.rig.pager.release(&want);
    }

    fn step(&mut self, op: Op) {
        match op {
            Op::Run { pages, byte, overwrite } => self.run(&pages, byte, overwrite),
            Op::Park { pages, fresh, reserve } => {
                let want = set(&pages);
                let reserve = reserve && self.parked.iter().all(|parked| !parked.3);
                match self.rig.pager.acquire(&want, fresh, reserve, self.rig.now) {
                    Ok(Acquired::Ready) => self.rig.pager.release(&want),
                    Ok(Acquired::Waiting(ticket)) => self.parked.push((ticket, want, fresh, reserve)),
                    Err(_) => {}
                }
            }
            Op::Cancel => {
                if let Some((ticket, ..)) = self.parked.pop() {
                    self.rig.pager.cancel(ticket);
                    self.rig.woken.retain(|&woken| woken != ticket);
                }
            }
            Op::Touch { page, byte } => self.touch(page, byte),
            Op::Guess { pages } => self.rig.pager.prefetch(&set(&pages), self.rig.now),
            Op::Drop { page, count } => {
                self.rig.pager.drop_pages(PageRange { first: PageNo(page), count });
                self.bytes.retain(|&written, _| !(page..page + count).contains(&written));
            }
            Op::Hold { page } if self.held.len() < HOLDS_MAX => {
                if let Some(frame) = self.rig.pager.hold(PageNo(page)) {
                    self.held.push((frame, self.byte(page)));
                }
            }
            Op::Hold { .. } => {}
            Op::Unhold if !self.held.is_empty() => {
                let (frame, _) = self.held.remove(0);
                self.rig.pager.unhold(frame);
            }
            Op::Unhold => {}
            Op::Evict { page, count } => {
                self.rig.pager.evict(PageRange { first: PageNo(page), count });
            }
            Op::EvictAll => {
                self.rig.pager.evict_all();
            }
            Op::Budget { frames } => self.rig.pager.set_budget(frames),
            Op::FailFetches { count } => self.rig.link.script().failing_fetches = count,
            Op::FailWriteBacks { count } => self.rig.link.script().failing_write_backs = count,
            Op::Turn => {
                self.rig.turn();
                while self.rig.pager.poll_discard().is_some() {}
            }
        }
    }

    fn touch(&mut self, page: u32, byte: Option<u8>) {
        let addr = PageNo(page).addr();
        let expected = self.byte(page);
        let touched = match byte {
            None => self.rig.pager.bytes(addr, PAGE_SIZE).map(|bytes| {
                assert!(bytes.iter().all(|&byte| byte == expected), "page {page}: not all {expected}");
            }),
            Some(byte) => self.rig.pager.bytes_mut(addr, PAGE_SIZE).map(|bytes| {
                bytes.fill(byte);
                self.bytes.insert(page, byte);
            }),
        };
        // The link may have been told to fail, or all frames may be reserved or held.
        let is_excused =
            |error| matches!(error, PagerError::Link(_) | PagerError::NoFrame | PagerError::Refused);
        assert!(touched.is_ok() || touched.is_err_and(is_excused), "{touched:?}");
    }

    fn check_invariants(&mut self) {
        for &(frame, byte) in &self.held {
            assert!(self.rig.pager.held(frame).iter().all(|&now| now == byte), "held {frame:?} has changed");
        }
        let woken = std::mem::take(&mut self.rig.woken);
        for ticket in woken {
            let Some(index) = self.parked.iter().position(|parked| parked.0 == ticket) else {
                panic!("{ticket:?} was woken twice, or after its cancellation");
            };
            let (_, want, fresh, reserve) = self.parked.remove(index);
            match self.rig.pager.acquire(&want, fresh, reserve, self.rig.now) {
                Ok(Acquired::Ready) => self.rig.pager.release(&want),
                Ok(Acquired::Waiting(ticket)) => self.parked.push((ticket, want, fresh, reserve)),
                Err(_) => {}
            }
        }
    }

    /// Everybody is served in the end, every page is what it was written to be, and nothing leaks.
    fn finish(mut self) {
        self.rig.link.script().failing_fetches = 0;
        self.rig.link.script().failing_write_backs = 0;
        for _ in 0..2_000 {
            if self.parked.is_empty() {
                break;
            }
            self.rig.turn();
            self.check_invariants();
        }
        assert!(self.parked.is_empty(), "never woken: {:?}", self.parked);
        for (frame, _) in std::mem::take(&mut self.held) {
            self.rig.pager.unhold(frame);
        }
        for page in (0..PAGES).chain(4096..4096 + PAGES) {
            self.acquire(&set(&[page]), 0);
            self.look(page);
            self.rig.pager.release(&set(&[page]));
        }
        self.rig.pager.drop_pages(PageRange { first: PageNo(0), count: FAR_PAGES });
        for _ in 0..200 {
            self.rig.turn();
        }
        let stats = self.rig.pager.stats();
        assert_eq!((stats.frames_pinned, stats.frames_dirty), (0, 0));
        assert_eq!(stats.frames_free, stats.frames_total, "frames have leaked");
        assert_eq!(stats.checksum_failures, 0);
        assert!(self.rig.link.script().far.is_empty(), "dead pages were not trimmed");
    }
}

/// Which pager is played.
#[derive(Clone, Copy, Debug)]
enum Kind {
    Soft,
    FakeMmu,
}

fn play(kind: Kind, policy: Prefetch, seed: u64, ops: Vec<Op>) {
    let factory = move |frames: u32, policy, link: ScriptedLink| -> Box<dyn Pager> {
        let arena: Vec<Frame> = (0..24).map(|_| Frame([0xAA; PAGE_SIZE])).collect();
        let door: Option<Box<dyn Link>> = Some(Box::new(link));
        match kind {
            Kind::Soft => Box::new(SoftPager::new(arena.leak(), frames, FAR_PAGES, policy, door)),
            Kind::FakeMmu => Box::new(fake_mmu::pager(arena.leak(), frames, FAR_PAGES, policy, door)),
        }
    };
    let rig = Rig::new(&factory, 12, policy);
    rig.link.script().seed = seed | 1;
    let mut model = Model { rig, bytes: HashMap::new(), held: Vec::new(), parked: Vec::new() };
    for op in ops {
        model.step(op);
        model.check_invariants();
    }
    model.finish();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(384))]

    #[test]
    fn pages_are_what_was_written_when_nobody_waits_for_another(
        kind in prop::sample::select(vec![Kind::Soft, Kind::FakeMmu]),
        seed: u64,
        ops in prop::collection::vec(op(), 1..250),
    ) {
        play(kind, Prefetch::Ahead, seed, ops);
    }

    #[test]
    fn pages_are_what_was_written_when_everybody_waits(
        kind in prop::sample::select(vec![Kind::Soft, Kind::FakeMmu]),
        seed: u64,
        policy in prop::sample::select(vec![Prefetch::None, Prefetch::Sequential, Prefetch::Guided]),
        ops in prop::collection::vec(op(), 1..250),
    ) {
        play(kind, policy, seed, ops);
    }
}
