//! `remora-contract`: the pager's contract on the bare machine, over the page tables and the page faults that
//! the store has.
//!
//! ```text
//!   tests/contract ─► MmuPager ─► page tables, #PF ─► scripted far memory        no network, no engine
//! ```
//!
//! An image of its own, so that the store's carries no test. Prints each sentence as it holds and powers off; one that
//! does not hold panics, and QEMU exits with 3. Refuses every directive.
#![no_std]
#![no_main]
#![allow(dead_code, reason = "the store uses all of `arch` and `mm`")]

extern crate alloc;

#[macro_use]
mod arch;
mod mm;

use alloc::boxed::Box;
use arch::memory::Ram;
use arch::power::{self, Failure, fail};
use contract::SENTENCES;
use contract::scripted_link::ScriptedLink;
use core::cell::RefCell;
use farmem::{PAGE_SIZE, Pager, Prefetch};

/// For the scripts of the far memory and the pagers' tables. Units: bytes.
const HEAP_BYTES: u64 = 64 << 20;
const FAR_PAGES: u32 = 1 << 20;

/// Where `arch` goes once the machine can be used.
fn main(mut ram: Ram, _command_line: &[u8]) -> ! {
    if ram.give_to_heap(HEAP_BYTES) < HEAP_BYTES {
        println!("remora-contract: too little RAM: the machine has {} MiB", ram.total_bytes() >> 20);
        fail(Failure::Start);
    }
    let ram = RefCell::new(ram);
    // An arena is never given back: all of them together are some megabytes.
    let factory = move |frames: u32, policy: Prefetch, link: ScriptedLink| -> Box<dyn Pager> {
        let arena = ram.borrow_mut().take(u64::from(frames) * PAGE_SIZE as u64);
        let arena = arena.unwrap_or_else(|error| panic!("too little RAM: {error}"));
        arena.iter_mut().for_each(|frame| frame.0.fill(0xAA));
        Box::new(mm::pager(arena, frames, FAR_PAGES, policy, Some(Box::new(link))))
    };
    let mut faults = 0;
    for (sentence, holds) in SENTENCES {
        print!("contract {sentence} ");
        holds(&factory);
        println!("holds, {} page faults", mm::faults() - faults);
        faults = mm::faults();
    }
    println!("contract: {} sentences hold", SENTENCES.len());
    power::off();
}
