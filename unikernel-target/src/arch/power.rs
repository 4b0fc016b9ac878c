//! The end: powering off, or leaving QEMU with an exit code that says what went wrong.
//!
//! | end | exit code of QEMU | how |
//! |---|---|---|
//! | SHUTDOWN | 0 | ACPI's power-off, or a reset under `-no-reboot` |
//! | the user is wrong | 1 | isa-debug-exit |
//! | we are wrong: a panic, an exception | 3 | isa-debug-exit |
//!
//! Refuses to come back.

use x86_64::instructions::port::Port;
use x86_64::structures::DescriptorTablePointer;
use x86_64::{VirtAddr, instructions};

/// Where the machine line puts isa-debug-exit. It ends QEMU with `value * 2 + 1`.
const DEBUG_EXIT_PORT: u16 = 0xf4;
/// PM1a control, where SeaBIOS puts it on q35 and pc. Writing sleep type 0 and "sleep enable" there powers off.
const ACPI_CONTROL_PORT: u16 = 0x604;
const ACPI_SLEEP_ENABLE: u16 = 1 << 13;

/// Why the machine ends before it was asked to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Failure {
    /// The configuration or the machine will not do.
    Start = 0,
    /// A bug.
    Bug = 1,
}

/// Powers the machine off; QEMU exits with 0.
pub fn off() -> ! {
    // SAFETY: where there is no ACPI (microvm) nothing listens at this port.
    unsafe { Port::<u16>::new(ACPI_CONTROL_PORT).write(ACPI_SLEEP_ENABLE) };
    // A triple fault resets every machine, and with -no-reboot a reset is an orderly end.
    let none = DescriptorTablePointer { limit: 0, base: VirtAddr::zero() };
    // SAFETY: without an IDT the exception below ends the machine, which is what is wanted.
    unsafe {
        instructions::tables::lidt(&none);
        core::arch::asm!("int3", options(noreturn));
    }
}

/// Ends the machine; QEMU exits with 1 or 3.
pub fn fail(failure: Failure) -> ! {
    // SAFETY: without the device nothing listens at this port.
    unsafe { Port::<u32>::new(DEBUG_EXIT_PORT).write(failure as u32) };
    loop {
        instructions::interrupts::disable();
        instructions::hlt();
    }
}
