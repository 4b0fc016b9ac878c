//! The machine: boot, exceptions, memory, time, console, the end.
//!
//! Refuses to know what it is used for. Unsafe code of the unikernel lives here, in `mm` and in `virtio`.

mod boot;
pub mod exceptions;
pub mod heap;
pub mod idle;
pub mod memory;
pub mod power;
#[macro_use]
pub mod serial;
mod string;
pub mod time;

use memory::{Ram, StartInfo};
use power::{Failure, fail};

/// Where `boot` goes: makes the machine usable and starts the body.
extern "C" fn start(info: *const StartInfo) -> ! {
    serial::init();
    exceptions::init();
    time::init(idle::watch_timer);
    idle::init();
    // SAFETY: `boot` passes what the loader has passed to it, and only the image has been written so far.
    let (ram, command_line) = unsafe { Ram::from_loader(info) };
    crate::main(ram, &command_line)
}

#[panic_handler]
fn panic(info: &core::panic::PanicInfo<'_>) -> ! {
    println!("\nremora: {info}");
    fail(Failure::Bug)
}
