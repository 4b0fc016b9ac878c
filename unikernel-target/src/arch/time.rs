//! What time it is: the time-stamp counter since boot, and the date that the machine was started at.
//!
//! The counter's rate is measured once against the PIT (channel 0; microvm has no port 0x61 for channel 2).
//! Refuses to follow changes of the wall clock: the date is read once.

use core::arch::x86_64::_rdtsc;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};
use farmem::Instant;
use x86_64::instructions::port::Port;

/// Input of the PIT. Units: Hz.
const PIT_HZ: u64 = 1_193_182;
/// How long the counter is watched: a tenth of a percent in error is less than a microsecond a millisecond.
const WATCH_TICKS: u16 = 11_932;

/// The counter at boot.
static START: AtomicU64 = AtomicU64::new(0);
/// Nanoseconds a count, as a fraction of 2^32.
static SCALE: AtomicU64 = AtomicU64::new(1 << 32);
/// The wall clock at boot. Units: microseconds since 1970.
static BOOT_UNIX_US: AtomicU64 = AtomicU64::new(0);

/// Measures the counter's rate and reads the date. `watched` is called when the watch begins and when it
/// ends, for others who measure theirs; the second call is told how many nanoseconds it took.
pub fn init(mut watched: impl FnMut(Option<u64>)) {
    let pit_ns = |ticks: u64| ticks * 1_000_000_000 / PIT_HZ;
    start_pit();
    let (pit_from, tsc_from) = (read_pit(), tsc());
    watched(None);
    let (pit_ticks, tsc_to) = loop {
        let ticks = pit_from.wrapping_sub(read_pit());
        if ticks >= WATCH_TICKS {
            break (ticks, tsc());
        }
    };
    let elapsed_ns = pit_ns(u64::from(pit_ticks));
    watched(Some(elapsed_ns));
    SCALE.store((elapsed_ns << 32) / (tsc_to - tsc_from).max(1), Relaxed);
    START.store(tsc_to, Relaxed);
    BOOT_UNIX_US.store(date_unix_s() * 1_000_000, Relaxed);
}

/// The time-stamp counter: under QEMU's `-icount shift=0` it counts instructions.
#[inline]
pub fn tsc() -> u64 {
    // SAFETY: every x86-64 has the counter.
    unsafe { _rdtsc() }
}

/// Time since boot.
#[inline]
pub fn now() -> Instant {
    let counts = tsc() - START.load(Relaxed);
    Instant(((u128::from(counts) * u128::from(SCALE.load(Relaxed))) >> 32) as u64)
}

/// The wall clock at boot. Units: microseconds since 1970.
pub fn boot_unix_us() -> u64 {
    BOOT_UNIX_US.load(Relaxed)
}

/// A number that nobody can guess, if the processor has a source of such.
pub fn random_seed() -> u64 {
    let drawn = x86_64::instructions::random::RdRand::new().and_then(|source| source.get_u64());
    drawn.unwrap_or_else(|| {
        crate::println!("remora: no RDRAND: hash seeds are guessable");
        tsc().wrapping_mul(0x9e37_79b9_7f4a_7c15)
    })
}

/// Channel 0, both bytes, mode 0, counting down from the top.
fn start_pit() {
    // SAFETY: the PIT's ports; nobody else uses it.
    unsafe {
        Port::<u8>::new(0x43).write(0x30);
        Port::<u8>::new(0x40).write(0xff);
        Port::<u8>::new(0x40).write(0xff);
    }
}

fn read_pit() -> u16 {
    // SAFETY: as above; latching makes the two reads one value.
    unsafe {
        Port::<u8>::new(0x43).write(0);
        let low = Port::<u8>::new(0x40).read();
        u16::from(low) | u16::from(Port::<u8>::new(0x40).read()) << 8
    }
}

/// The battery-backed clock. Units: seconds since 1970. Zero where there is none.
fn date_unix_s() -> u64 {
    let read = |register: u8| {
        // SAFETY: reading the clock's registers; bit 7 keeps NMIs masked, which nobody sends.
        unsafe {
            Port::<u8>::new(0x70).write(0x80 | register);
            Port::<u8>::new(0x71).read()
        }
    };
    let read_all = || [0u8, 2, 4, 7, 8, 9].map(read);
    let mut fields = read_all();
    // It may be changing just now: the same answer twice is a good one.
    for _ in 0..4 {
        let again = read_all();
        if again == fields {
            break;
        }
        fields = again;
    }
    let is_binary = read(11) & 4 != 0;
    let [second, minute, hour, day, month, year] =
        fields.map(|field| u64::from(if is_binary { field } else { (field >> 4) * 10 + (field & 15) }));
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) || year > 99 {
        return 0;
    }
    days_since_1970(2000 + year, month, day) * 86_400 + hour * 3600 + minute * 60 + second
}

/// Source: Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms", `days_from_civil`.
fn days_since_1970(year: u64, month: u64, day: u64) -> u64 {
    let year = if month <= 2 { year - 1 } else { year };
    let (era, year_of_era) = (year / 400, year % 400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}
