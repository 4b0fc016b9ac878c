//! What time it is, for the engine: read once a turn of the loop.

use crate::arch::time;
use engine::Now;

/// The time of this moment.
#[inline]
pub fn read() -> Now {
    let monotonic = time::now();
    let wall_us = time::boot_unix_us() + monotonic.0 / 1000;
    Now { monotonic, unix_ms: wall_us / 1000, unix_us_rest: (wall_us % 1000) as u32 }
}
