//! `--measure-faults`: what a page fault costs, in instructions, each kind apart.
//!
//! ```text
//!   touch that is mapped        the floor: the call and its instruction, subtracted from what follows
//!   read of an untouched page   trap, answered with zeros
//!   first write                 trap, a zeroed frame of the reserve; with the loop's idle part beside
//!   first write, no reserve     trap, eviction and zeroing in it
//!   fetch, alone or guided      trap, transfer to the link, landing; the link's copy is not counted
//! ```
//!
//! Needs `-icount shift=0`. Refuses to measure without.

use super::clock::{LeapClock, Work, counts_instructions};
use crate::arch::memory::Ram;
use crate::far::{SharedLink, mem};
use crate::mm::{self, MmuPager};
use alloc::boxed::Box;
use alloc::string::String;
use farmem::{Acquired, Instant, PAGE_SIZE, PageNo, PageRange, PageSet, Pager, Prefetch, Wire};

/// Faults of each kind; medians are printed.
const FAULTS: u32 = 64;
const FRAMES: u64 = 1024;
const FAR_PAGES: u64 = 8192;

struct Bed {
    pager: MmuPager,
    link: SharedLink,
    clock: LeapClock,
}

/// Measures and prints, one line a kind.
///
/// # Errors
/// If instructions are not counted, or RAM is short.
pub fn run(ram: &mut Ram) -> Result<(), String> {
    if !counts_instructions() {
        return Err("instructions are not counted: boot with -icount shift=0".into());
    }
    let mut bed = Bed::new(Prefetch::None, ram)?;
    bed.write(0);
    let floor = bed.median(|bed, _| bed.write(0));
    println!("fault touch-mapped {floor}");
    let say = |name: &str, cost: u64| println!("fault {name} {}", cost.saturating_sub(floor));
    say("read-untouched", bed.median(|bed, at| bed.read(4096 + at)));
    // The reserve is made anew before each: what that costs is the next line.
    let mut idle = [0; FAULTS as usize];
    let first_write = bed.median(|bed, at| {
        idle[at as usize] = bed.cost(Bed::balance);
        bed.cost(|bed| bed.write(512 + at))
    });
    idle.sort_unstable();
    say("first-write", first_write);
    println!("fault first-write-idle-part {}", idle[FAULTS as usize / 2]);
    bed.fill_and_clean();
    // All frames are taken and clean: with the idle part evicting, and without it.
    let mut idle = 0;
    let evicting = bed.median(|bed, at| {
        idle += bed.cost(Bed::balance);
        bed.cost(|bed| bed.write(5000 + at))
    });
    say("first-write-under-pressure", evicting);
    println!("fault first-write-under-pressure-idle-part {}", idle / u64::from(FAULTS));
    while bed.pager.stats().frames_free > 0 {
        let next = 6000 + bed.pager.stats().frames_free as u32;
        bed.write(next);
    }
    say("first-write-no-reserve", bed.median(|bed, at| bed.cost(|bed| bed.write(7000 + at))));
    drop(bed);
    let fetch_cost = |policy, pages: u32, ram: &mut Ram| -> Result<u64, String> {
        let mut bed = Bed::new(policy, ram)?;
        bed.fill_and_clean();
        bed.evict();
        Ok(bed.median(|bed, at| {
            let mut want = PageSet::new();
            want.push(PageRange { first: PageNo(at * 8), count: pages });
            want.normalise();
            bed.balance();
            let cost = bed.cost(|bed| assert_eq!(bed.acquire(&want), Acquired::Ready));
            bed.pager.release(&want);
            cost
        }))
    };
    let [one, four] = [1, 4].map(|pages| fetch_cost(Prefetch::None, pages, ram));
    let (one, four) = (one?, four?);
    println!("fault fetch-of-1 {one}");
    println!("fault fetch-of-4-one-by-one {four}");
    let guided = fetch_cost(Prefetch::Guided, 4, ram)?;
    println!("fault fetch-of-4-guided {guided}");
    let guided_alone = fetch_cost(Prefetch::Guided, 1, ram)?;
    println!("fault guide-up-call {}", guided_alone.saturating_sub(one));
    Ok(())
}

impl Bed {
    fn new(policy: Prefetch, ram: &mut Ram) -> Result<Bed, String> {
        let mut take = |pages: u64| {
            ram.take(pages * PAGE_SIZE as u64).map_err(|error| alloc::format!("too little RAM: {error}"))
        };
        let (far, arena) = (take(FAR_PAGES)?, take(FRAMES)?);
        let clock = LeapClock::new(Work::Counted(0));
        let link = SharedLink::new(Box::new(mem::MemLink::new(far, Wire::default(), clock.clone())));
        let pager = mm::pager(arena, FRAMES as u32, FAR_PAGES as u32, policy, Some(Box::new(link.clone())));
        Ok(Bed { pager, link, clock })
    }

    fn cost<R>(&mut self, work: impl FnOnce(&mut Bed) -> R) -> u64 {
        let before = self.clock.read().instructions;
        work(self);
        self.clock.read().instructions - before
    }

    /// The median of what `kind` costs, over different pages. If it measures itself, it answers what it has found.
    fn median<R: Cost>(&mut self, mut kind: impl FnMut(&mut Bed, u32) -> R) -> u64 {
        let mut costs = [0; FAULTS as usize];
        for (at, cost) in (0..).zip(&mut costs) {
            let before = self.clock.read().instructions;
            let own = kind(self, at).cost();
            let all = self.clock.read().instructions - before;
            *cost = own.unwrap_or(all);
        }
        costs.sort_unstable();
        costs[FAULTS as usize / 2]
    }

    fn write(&mut self, page: u32) {
        self.pager.bytes_mut(PageNo(page).addr(), 1).expect("a frame is there")[0] = 1;
    }

    fn read(&mut self, page: u32) {
        assert_eq!(self.pager.bytes(PageNo(page).addr(), 1).expect("it can be had"), [0]);
    }

    fn acquire(&mut self, want: &PageSet) -> Acquired {
        self.pager.acquire(want, 0, false, Instant(0)).expect("the link is up")
    }

    /// The idle part of the loop.
    fn balance(&mut self) {
        self.pager.balance(Instant(0));
    }

    fn turn(&mut self) {
        use farmem::Link;
        self.balance();
        let mut landed = alloc::vec::Vec::new();
        while let Some(transfer) = self.pager.poll_transfer(Instant(0)) {
            self.link.submit(&[transfer], self.pager.frames(), Instant(0));
        }
        self.link.poll_landed(self.pager.frames(), Instant(0), &mut landed);
        landed.into_iter().for_each(|landed| self.pager.handle_landed(landed, Instant(0)));
    }

    /// Uses every frame, and has all of them written back.
    fn fill_and_clean(&mut self) {
        (0..2 * FRAMES as u32).for_each(|page| {
            self.write(page);
            self.turn();
        });
        // Dirty pages are written back and stay.
        for _ in 0..FRAMES {
            let all = PageRange { first: PageNo(0), count: 2 * FRAMES as u32 };
            if self.pager.stats().frames_dirty == 0 {
                break;
            }
            self.pager.evict(all);
            self.turn();
        }
        let mut want = PageSet::new();
        want.push(PageRange { first: PageNo(0), count: FRAMES as u32 / 2 });
        want.normalise();
        for page in 0..FRAMES as u32 {
            // Fetched again and clean: every frame is in use.
            self.pager.bytes(PageNo(page).addr(), 1).expect("the link is up");
        }
    }

    fn evict(&mut self) {
        for _ in 0..FRAMES {
            self.pager.evict(PageRange { first: PageNo(0), count: 2 * FRAMES as u32 });
            self.turn();
        }
    }
}

/// What a measured piece of work answers.
trait Cost {
    /// Its own measurement, if it has made one.
    fn cost(self) -> Option<u64>;
}

impl Cost for () {
    fn cost(self) -> Option<u64> {
        None
    }
}

impl Cost for u64 {
    fn cost(self) -> Option<u64> {
        Some(self)
    }
}
