//! `remora-unikernel`: the bare-metal body of Remora, one image that boots in QEMU.
//!
//! ```text
//!   arch ─► main ─► body ─┬─► net ─► virtio        clients
//!                         ├─► engine               the brain
//!                         ├─► mm                   the far heap's page tables and page faults
//!                         ├─► far                  far memory
//!                         └─► bench                the store under load, without a network
//! ```
//!
//! Refuses to start with anything it does not understand: one line on the console, and QEMU exits with 1.
#![no_std]
#![no_main]

extern crate alloc;

#[macro_use]
mod arch;
mod bench;
mod body;
mod far;
mod mm;
mod net;
mod virtio;

use arch::memory::Ram;
use arch::power::{Failure, fail};

/// Where `arch` goes once the machine can be used.
fn main(ram: Ram, command_line: &[u8]) -> ! {
    let Err(why) = body::start(ram, command_line);
    println!("remora-unikernel: {why}");
    fail(Failure::Start)
}
