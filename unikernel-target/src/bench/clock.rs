//! A clock that jumps: it goes on while the processor works, and leaps over every wait.
//!
//! ```text
//!   time = work + waits        work: instructions counted, and so many more a request for a network that there
//!                                    is not; or so many nanoseconds a request
//!                              waits: leapt over, so nobody spins and nothing depends on the machine
//! ```
//!
//! Under `-icount shift=0` the time-stamp counter counts instructions, to the digit. Refuses to count what is
//! done aside: the modelled device's copying, and the client's own checks.

use crate::arch::time;
use crate::far::clock::Clock;
use alloc::rc::Rc;
use core::cell::Cell;
use engine::Now;
use farmem::Instant;

/// A core of 3 GHz that ends an instruction a cycle.
pub const INSTRUCTIONS_A_NS: u64 = 3;
/// The wall clock at the start: the same in every run. Units: milliseconds since 1970.
const START_UNIX_MS: u64 = 1_700_000_000_000;

/// What the clock says of the work.
#[derive(Clone, Copy, Default)]
pub struct Reading {
    /// The time. Units: nanoseconds.
    pub now_ns: u64,
    /// Of it, waits. Units: nanoseconds.
    pub waited_ns: u64,
    /// How many.
    pub waits: u64,
    /// Instructions, but for what was done aside.
    pub instructions: u64,
}

/// What the work of a request takes.
#[derive(Clone, Copy)]
pub enum Work {
    /// So long, whatever it is. Units: nanoseconds.
    Given(u64),
    /// Its instructions, and so many more of a network.
    Counted(u64),
}

struct State {
    start: u64,
    work: Work,
    aside: Cell<u64>,
    charged_ns: Cell<u64>,
    waited_ns: Cell<u64>,
    waits: Cell<u64>,
}

/// A handle; clones are the same clock.
#[derive(Clone)]
pub struct LeapClock(Rc<State>);

impl LeapClock {
    /// A clock at zero.
    pub fn new(work: Work) -> LeapClock {
        LeapClock(Rc::new(State {
            start: time::tsc(),
            work,
            aside: Cell::new(0),
            charged_ns: Cell::new(0),
            waited_ns: Cell::new(0),
            waits: Cell::new(0),
        }))
    }

    /// A request has been worked on.
    pub fn charge(&self) {
        let state = &*self.0;
        let ns = match state.work {
            Work::Given(ns) => ns,
            Work::Counted(network) => network / INSTRUCTIONS_A_NS,
        };
        state.charged_ns.set(state.charged_ns.get() + ns);
    }

    fn instructions(&self) -> u64 {
        time::tsc() - self.0.start - self.0.aside.get()
    }

    /// All that it knows.
    pub fn read(&self) -> Reading {
        Reading {
            now_ns: self.now().0,
            waited_ns: self.0.waited_ns.get(),
            waits: self.0.waits.get(),
            instructions: self.instructions(),
        }
    }

    /// The time for the engine.
    pub fn engine_now(&self) -> Now {
        let monotonic = self.now();
        let us = monotonic.0 / 1000;
        Now { monotonic, unix_ms: START_UNIX_MS + us / 1000, unix_us_rest: (us % 1000) as u32 }
    }
}

impl Clock for LeapClock {
    #[inline]
    fn now(&self) -> Instant {
        let state = &*self.0;
        let counted_ns = match state.work {
            Work::Given(_) => 0,
            Work::Counted(_) => self.instructions() / INSTRUCTIONS_A_NS,
        };
        Instant(counted_ns + state.charged_ns.get() + state.waited_ns.get())
    }

    fn pass(&self, due: Instant) {
        let left = due.0.saturating_sub(self.now().0);
        let state = &*self.0;
        state.waited_ns.set(state.waited_ns.get() + left);
        state.waits.set(state.waits.get() + u64::from(left > 0));
    }

    #[inline]
    fn aside<R>(&self, work: impl FnOnce() -> R) -> R {
        let before = time::tsc();
        let result = work();
        let aside = &self.0.aside;
        aside.set(aside.get() + (time::tsc() - before));
        result
    }
}

/// Whether the time-stamp counter counts instructions: then the same work takes the same, every time.
pub fn counts_instructions() -> bool {
    lap();
    let laps = [lap(), lap(), lap()];
    laps[0] == laps[1] && laps[1] == laps[2] && (1900..2200).contains(&laps[0])
}

/// What the counter makes of two thousand instructions.
#[inline(never)]
fn lap() -> u64 {
    let before = time::tsc();
    // SAFETY: changes a register that it names.
    unsafe {
        core::arch::asm!("mov ecx, 1000", "2:", "dec ecx", "jnz 2b", out("ecx") _, options(nomem, nostack));
    }
    time::tsc() - before
}
