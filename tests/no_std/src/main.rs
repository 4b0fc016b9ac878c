//! Proof that the brain needs no operating system: `engine`, `farmem` and `sds` linked into a `no_std`,
//! `no_main` binary without a C library, and a session of a client run in it.
//!
//! Built for the host target on stable. If anything below `engine` pulled std in, this would not link: two
//! panic handlers. Exits with 0 if every reply was right, with the number of the first wrong one otherwise.
#![no_std]
#![no_main]

extern crate alloc;

mod bare;

use alloc::boxed::Box;
use alloc::vec::Vec;
use engine::{ClientId, Config, Engine, Now, Peer};
use farmem::{Frame, Instant, PAGE_SIZE, Pager, Prefetch, SoftPager};

/// Frames of local memory: 4 MiB.
const FRAMES: u32 = 1024;
/// Slices asked for at a time.
const SLICES: usize = 16;
const NOW: Now = Now { monotonic: Instant(1), unix_ms: 1_000_000, unix_us_rest: 0 };

/// Answers the process' exit code.
fn main() -> i32 {
    let mut header = [0; 16];
    if sds::write(&mut header, b"abc") != sds::total_len(3) {
        return 100;
    }
    let mut engine = engine();
    let peer = Peer { loopback: true, ..Peer::default() };
    let Ok(client) = engine.handle_connected(peer, NOW) else { return 99 };
    let session: [(&[u8], &[u8]); 4] = [
        (b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$5\r\nvalue\r\n", b"+OK\r\n"),
        (b"GET k\r\n", b"$5\r\nvalue\r\n"),
        (b"RPUSH l a b c\r\n", b":3\r\n"),
        (b"LRANGE l 1 -1\r\n", b"*2\r\n$1\r\nb\r\n$1\r\nc\r\n"),
    ];
    for (step, (request, reply)) in (1..).zip(session) {
        engine.handle_input(client, request, NOW);
        if output(&mut engine, client) != reply {
            return step;
        }
    }
    0
}

/// An engine over a pager that has no link: everything fits its frames.
fn engine() -> Engine {
    let frames: Vec<Frame> = (0..FRAMES).map(|_| Frame([0; PAGE_SIZE])).collect();
    let pager = SoftPager::new(frames.leak(), FRAMES, FRAMES, Prefetch::Ahead, None);
    let config = Config { local_memory: u64::from(FRAMES) * PAGE_SIZE as u64, ..Config::default() };
    let pager: Box<dyn Pager> = Box::new(pager);
    Engine::new(config, pager, FRAMES, 1, NOW)
}

/// All that the engine has for the client.
fn output(engine: &mut Engine, client: ClientId) -> Vec<u8> {
    let mut out = Vec::new();
    loop {
        let mut slices: [&[u8]; SLICES] = [&[]; SLICES];
        let count = engine.output(client, &mut slices);
        let bytes: usize = slices[..count].iter().map(|slice| slice.len()).sum();
        if bytes == 0 {
            return out;
        }
        slices[..count].iter().for_each(|slice| out.extend_from_slice(slice));
        engine.handle_written(client, bytes, NOW);
    }
}
