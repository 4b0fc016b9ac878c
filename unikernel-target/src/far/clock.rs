//! The clock of a modelled wire: the machine's own, or one that jumps.
//!
//! Refuses to know what time is measured for.

use crate::arch::time;
use farmem::Instant;

/// What a link asks for the time, and waits with.
pub trait Clock {
    /// The time of this moment.
    fn now(&self) -> Instant;
    /// Lets time pass while nothing else can be done; at most until `due`.
    fn pass(&self, due: Instant);
    /// Does what is not the processor's work, but a device's that is modelled: it takes no time.
    fn aside<R>(&self, work: impl FnOnce() -> R) -> R;
}

/// The machine's clock.
pub struct MachineClock;

impl Clock for MachineClock {
    #[inline]
    fn now(&self) -> Instant {
        time::now()
    }

    #[inline]
    fn pass(&self, _: Instant) {
        core::hint::spin_loop();
    }

    #[inline]
    fn aside<R>(&self, work: impl FnOnce() -> R) -> R {
        work()
    }
}
