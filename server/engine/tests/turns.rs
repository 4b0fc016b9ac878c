//! The engine's turn: what is parked, what is streamed, what is spooled, under budgets that are too small.

mod support;

use farmem::Prefetch;
use support::{Store, bulk, request};

/// Bytes that tell pages apart.
fn pattern(seed: u32, len: usize) -> Vec<u8> {
    let mut state = seed | 1;
    (0..len)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 17;
            state ^= state << 5;
            state as u8
        })
        .collect()
}

const MODES: [Prefetch; 4] = [Prefetch::Ahead, Prefetch::Guided, Prefetch::Sequential, Prefetch::None];

#[test]
fn values_of_every_size_come_back_through_a_small_local_memory() {
    for mode in MODES {
        let mut store = Store::new(2 << 20, mode);
        let client = store.connect();
        let sizes = [0, 1, 31, 32, 300, 2000, 4000, 4060, 4096, 5000, 8192, 65_536, 131_072];
        for round in 0..40u32 {
            for (index, &len) in sizes.iter().enumerate() {
                let key = format!("key:{round}:{index}");
                let value = pattern(round * 100 + index as u32, len);
                assert_eq!(store.command(client, &[b"SET", key.as_bytes(), &value]), b"+OK\r\n", "{mode:?}");
            }
        }
        for round in 0..40u32 {
            for (index, &len) in sizes.iter().enumerate() {
                let key = format!("key:{round}:{index}");
                let value = pattern(round * 100 + index as u32, len);
                let got = store.command(client, &[b"GET", key.as_bytes()]);
                assert_eq!(got, bulk(&value), "{mode:?} {key} of {len} bytes");
            }
        }
    }
}

#[test]
fn a_value_larger_than_local_memory_is_spooled_in_and_streamed_out() {
    let mut store = Store::new(2 << 20, Prefetch::Ahead);
    let client = store.connect();
    let value = pattern(7, 16 << 20);
    let set = request(&[b"SET", b"big", &value]);
    let mut reply = Vec::new();
    for part in set.chunks(50_000) {
        reply.extend(store.raw(client, part));
    }
    assert_eq!(reply, b"+OK\r\n");
    let got = store.command(client, &[b"GET", b"big"]);
    assert!(got == bulk(&value), "16 MiB come back as they went in");
}

#[test]
fn a_streamed_reply_is_the_value_that_stood_when_the_command_ran() {
    let mut store = Store::new(2 << 20, Prefetch::Ahead);
    let (reader, writer) = (store.connect(), store.connect());
    let old = pattern(1, 4 << 20);
    for part in request(&[b"SET", b"k", &old]).chunks(60_000) {
        store.raw(writer, part);
    }
    store.engine.handle_input(reader, &request(&[b"GET", b"k"]), store.now);
    // Until the GET has run: two commands that wait at the same time may run in either order.
    while store.turn() {}
    assert_eq!(store.command(writer, &[b"SET", b"k", b"new"]), b"+OK\r\n");
    assert_eq!(store.ask(writer, "FLUSHALL"), "+OK\r\n");
    let mut got = store.drain(reader);
    while store.turn() {
        got.extend(store.drain(reader));
    }
    assert!(got == bulk(&old));
    assert_eq!(store.ask(writer, "GET k"), "$-1\r\n");
    assert_eq!(store.farmem(writer, "far_used_bytes"), 0, "the old value is freed when its reader is done");
}

#[test]
fn a_slow_reader_keeps_neither_frames_nor_buffers() {
    let mut store = Store::new(4 << 20, Prefetch::Ahead);
    let setter = store.connect();
    let value = pattern(3, 60_000);
    store.command(setter, &[b"SET", b"k", &value]);
    let readers: Vec<_> = (0..20).map(|_| store.connect()).collect();
    for &reader in &readers {
        store.engine.handle_input(reader, &request(&[b"GET", b"k"]), store.now);
    }
    for _ in 0..10 {
        store.advance_ms(100);
    }
    assert_eq!(store.farmem(setter, "frames_pinned"), 0);
    for &reader in &readers {
        let mut got = store.drain(reader);
        while store.turn() {
            got.extend(store.drain(reader));
        }
        assert!(got == bulk(&value));
    }
}

#[test]
fn a_pipeline_keeps_its_order_when_one_of_its_commands_waits() {
    let mut store = Store::new(2 << 20, Prefetch::Ahead);
    let client = store.connect();
    store.ask(client, "SET cold 1");
    let other = pattern(9, 100_000);
    store.command(client, &[b"SET", b"large", &other]);
    store.evict_all(client);
    let pipeline = [request(&[b"GET", b"cold"]), request(&[b"PING"]), request(&[b"GET", b"large"])].concat();
    let want = [b"$1\r\n1\r\n+PONG\r\n".to_vec(), bulk(&other)].concat();
    assert!(store.raw(client, &pipeline) == want);
}

#[test]
fn pages_of_commands_behind_a_parked_one_come_in_the_same_batch() {
    let mut store = Store::new(4 << 20, Prefetch::Ahead);
    let client = store.connect();
    let values: Vec<Vec<u8>> = (0..16).map(|seed| pattern(seed, 8192)).collect();
    for (index, value) in values.iter().enumerate() {
        store.command(client, &[b"SET", format!("k{index}").as_bytes(), value]);
    }
    store.evict_all(client);
    let parks = store.farmem(client, "parks_total");
    let pipeline: Vec<u8> =
        (0..16).flat_map(|index| request(&[b"GET", format!("k{index}").as_bytes()])).collect();
    let want: Vec<u8> = values.iter().flat_map(|value| bulk(value)).collect();
    assert!(store.raw(client, &pipeline) == want);
    assert_eq!(store.farmem(client, "parks_total") - parks, 1, "one wait serves the whole pipeline");
}
