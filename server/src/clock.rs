//! What time it is, for the engine.
//!
//! The clock is read once a turn of the loop, not once a command: the first to ask in a turn reads it, and
//! the driver, whose turn is the last, makes the reading stale. Refuses to tell time zones and dates.

use engine::Now;
use rustix::time::{ClockId, clock_gettime};
use std::cell::Cell;

/// The clock of a body.
pub struct Clock {
    now: Cell<Now>,
    stale: Cell<bool>,
    /// Wall time less monotonic time. Units: microseconds.
    wall_offset_us: Cell<i64>,
}

impl Clock {
    /// A clock that knows the wall time of now.
    pub fn new() -> Clock {
        let clock =
            Clock { now: Cell::new(Now::default()), stale: Cell::new(true), wall_offset_us: Cell::new(0) };
        clock.set_wall_time();
        clock
    }

    /// The time of this turn.
    #[inline]
    pub fn now(&self) -> Now {
        if self.stale.get() { self.read() } else { self.now.get() }
    }

    /// The time of this moment, which becomes that of this turn.
    #[inline]
    pub fn read(&self) -> Now {
        let monotonic = farmem_link::monotonic_now();
        let wall_us = (monotonic.0 / 1000) as i64 + self.wall_offset_us.get();
        let now =
            Now { monotonic, unix_ms: wall_us as u64 / 1000, unix_us_rest: (wall_us as u64 % 1000) as u32 };
        self.now.set(now);
        self.stale.set(false);
        now
    }

    /// The turn is over.
    #[inline]
    pub fn end_turn(&self) {
        self.stale.set(true);
    }

    /// Follows what somebody did to the system's wall clock; to be called now and then.
    pub fn set_wall_time(&self) {
        let wall = clock_gettime(ClockId::Realtime);
        let wall_us = wall.tv_sec * 1_000_000 + wall.tv_nsec / 1000;
        self.wall_offset_us.set(wall_us - (farmem_link::monotonic_now().0 / 1000) as i64);
        self.stale.set(true);
    }
}

#[cfg(test)]
mod tests {
    use super::Clock;
    use std::time::{Duration, SystemTime, UNIX_EPOCH};

    #[test]
    fn a_turn_has_one_time_and_the_next_a_later_one() {
        let clock = Clock::new();
        let first = clock.now();
        std::thread::sleep(Duration::from_millis(2));
        assert_eq!(clock.now(), first);
        clock.end_turn();
        assert!(clock.now().monotonic.0 >= first.monotonic.0 + 2_000_000);
    }

    #[test]
    fn wall_time_is_that_of_the_system() {
        let now = Clock::new().now();
        let system =
            SystemTime::now().duration_since(UNIX_EPOCH).expect("it is after 1970").as_millis() as u64;
        assert!(system.abs_diff(now.unix_ms) < 1000);
        assert!(now.unix_us_rest < 1000);
    }
}
