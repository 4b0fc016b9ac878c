//! Halting until there is something to do: a device's interrupt, or a time.
//!
//! ```text
//!   devices ─► I/O APIC (every pin: the same vector, by edges) ─┐
//!   local APIC's timer ─────────────────────────────────────────┴─► the halt ends, nothing else happens
//! ```
//!
//! Interrupts are enabled in a halt only, so nothing is ever interrupted; devices are polled as always.
//! Refuses to know which device it was.

use core::sync::atomic::{AtomicU64, Ordering::Relaxed};
use farmem::Instant;
use x86_64::instructions::interrupts::{disable, enable_and_hlt};
use x86_64::instructions::port::Port;

const LOCAL_APIC: u64 = 0xfee0_0000;
/// microvm has a second one for its many devices; elsewhere nothing answers there.
const IO_APICS: [u64; 2] = [0xfec0_0000, 0xfec1_0000];

/// Registers of the local APIC.
const SPURIOUS: u64 = 0xf0;
const TIMER: u64 = 0x320;
const TIMER_INITIAL: u64 = 0x380;
const TIMER_CURRENT: u64 = 0x390;
const TIMER_DIVIDE: u64 = 0x3e0;
/// Divide by one.
const DIVIDE_BY_1: u32 = 0b1011;

const DEVICE_VECTOR: u32 = 0x40;
const TIMER_VECTOR: u32 = 0x41;
const SPURIOUS_VECTOR: u32 = 0xff;
/// The first pin that a device of ours may have: below are keyboard, PIT and serial ports.
const FIRST_PIN: u32 = 5;
/// Longest halt; whoever waits longer halts again. Units: nanoseconds.
const HALT_MAX_NS: u64 = 100_000_000;

/// Counts of the timer a nanosecond, as a fraction of 2^32.
static TIMER_SCALE: AtomicU64 = AtomicU64::new(0);

fn local_apic(register: u64) -> *mut u32 {
    (LOCAL_APIC + register) as *mut u32
}

fn write(register: u64, value: u32) {
    // SAFETY: a register of the local APIC, which `boot` has mapped.
    unsafe { local_apic(register).write_volatile(value) }
}

/// For [`super::time::init`]: lets the timer run while the PIT is watched.
pub fn watch_timer(elapsed_ns: Option<u64>) {
    let Some(elapsed_ns) = elapsed_ns else {
        write(SPURIOUS, 0x100 | SPURIOUS_VECTOR);
        write(TIMER_DIVIDE, DIVIDE_BY_1);
        write(TIMER, 1 << 16);
        return write(TIMER_INITIAL, u32::MAX);
    };
    // SAFETY: as in `write`.
    let left = unsafe { local_apic(TIMER_CURRENT).read_volatile() };
    TIMER_SCALE.store((u64::from(u32::MAX - left) << 32) / elapsed_ns.max(1), Relaxed);
    write(TIMER_INITIAL, 0);
    write(TIMER, TIMER_VECTOR);
}

/// Leads all interrupts of devices here, and those of the old controllers nowhere.
pub fn init() {
    // SAFETY: masks all pins of both 8259s.
    unsafe {
        Port::<u8>::new(0x21).write(0xff);
        Port::<u8>::new(0xa1).write(0xff);
    }
    for base in IO_APICS {
        let (select, window) = (base as *mut u32, (base + 0x10) as *mut u32);
        // SAFETY: the registers of an I/O APIC, or addresses where nothing answers; mapped by `boot`.
        unsafe {
            select.write_volatile(1);
            let pins = (window.read_volatile() >> 16 & 0xff) + 1;
            if pins > 240 {
                continue;
            }
            let first = if base == IO_APICS[0] { FIRST_PIN } else { 0 };
            for pin in first..pins {
                select.write_volatile(0x11 + pin * 2);
                window.write_volatile(0);
                select.write_volatile(0x10 + pin * 2);
                window.write_volatile(DEVICE_VECTOR);
            }
        }
    }
}

/// Halts until a device has something or it is `until`. An interrupt that came since the last halt ends
/// this one at once, so whoever looks at all devices and then halts misses nothing.
pub fn halt(now: Instant, until: Instant) {
    let wait_ns = until.0.saturating_sub(now.0).min(HALT_MAX_NS);
    let counts = (wait_ns * (TIMER_SCALE.load(Relaxed) >> 16)) >> 16;
    if counts == 0 {
        return;
    }
    write(TIMER_INITIAL, counts.min(u64::from(u32::MAX)) as u32);
    enable_and_hlt();
    disable();
}
