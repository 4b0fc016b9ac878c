//! The console: the first serial port, polled.
//!
//! Refuses to read: whoever wants to talk to the store uses the network.

use core::fmt::{self, Write};
use x86_64::instructions::port::Port;

/// COM1. All three machines have it there.
const BASE: u16 = 0x3f8;
/// Polls for room before a byte is given up: a port that is not there must not hang the machine.
const POLLS_MAX: u32 = 100_000;

/// The console. Every line ends with a carriage return, too.
pub struct Console;

impl Write for Console {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            if byte == b'\n' {
                send(b'\r');
            }
            send(byte);
        }
        Ok(())
    }
}

fn send(byte: u8) {
    let (mut data, mut status) = (Port::<u8>::new(BASE), Port::<u8>::new(BASE + 5));
    // SAFETY: these ports are the UART's, and reading its line status changes nothing that matters.
    let ready = (0..POLLS_MAX).any(|_| unsafe { status.read() } & 0x20 != 0);
    if ready {
        // SAFETY: the transmit register is empty.
        unsafe { data.write(byte) };
    }
}

/// 115200 baud, 8 bits, no interrupts, FIFO on.
pub fn init() {
    for (register, value) in [(1, 0u8), (3, 0x80), (0, 1), (1, 0), (3, 3), (2, 0xc7), (4, 3)] {
        // SAFETY: the registers of the UART, in the order that its data sheet wants.
        unsafe { Port::<u8>::new(BASE + register).write(value) };
    }
}

/// Prints to the console.
#[macro_export]
macro_rules! print {
    ($($argument:tt)*) => {{
        use core::fmt::Write;
        // The console takes everything, or nothing can be told at all.
        let _ = write!($crate::arch::serial::Console, $($argument)*);
    }};
}

/// Prints a line to the console.
#[macro_export]
macro_rules! println {
    ($($argument:tt)*) => {{
        $crate::print!($($argument)*);
        $crate::print!("\n");
    }};
}
