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

/// The keys of a pipeline are warmed together; that may change no reply, fetch no page and count no hit.
#[test]
fn a_pipeline_moves_and_counts_what_its_commands_do_one_by_one() {
    let lines = |round: u32| -> Vec<String> {
        let one = |i: u32| match i % 8 {
            0 => format!("SET small{i} {round}"),
            1 => format!("GET small{}", i - 1),
            2 => format!("GET large{}", i % 5),
            3 => format!("LRANGE list{} 0 40", i % 3),
            4 => format!("DEL small{}", i - 4),
            5 => format!("GET small{}", i - 5),
            6 => "PING".to_owned(),
            _ => format!("EXISTS no such list{}", i % 3),
        };
        (0..100).map(one).collect()
    };
    let counted = |together: bool| {
        let mut store = Store::new(2 << 20, Prefetch::Ahead);
        let client = store.connect();
        for i in 0..5 {
            store.command(client, &[b"SET", format!("large{i}").as_bytes(), &pattern(i, 20_000)]);
            for element in 0..60 {
                let list = format!("list{}", i % 3);
                store.command(client, &[b"RPUSH", list.as_bytes(), &pattern(element, 300)]);
            }
        }
        store.evict_all(client);
        let mut replies = Vec::new();
        for round in 0..3 {
            let requests: Vec<Vec<u8>> = lines(round)
                .iter()
                .map(|line| request(&line.split(' ').map(str::as_bytes).collect::<Vec<_>>()))
                .collect();
            if together {
                replies.extend(store.raw(client, &requests.concat()));
            } else {
                requests.iter().for_each(|one| replies.extend(store.raw(client, one)));
            }
        }
        let info = store.ask(client, "INFO stats");
        let hits = info.lines().filter(|line| line.starts_with("keyspace_")).collect::<Vec<_>>().join(" ");
        let moved = ["pages_fetched", "unplanned_faults"].map(|field| store.farmem(client, field));
        (replies, hits, moved)
    };
    let (together, apart) = (counted(true), counted(false));
    assert!(together.0 == apart.0, "replies differ");
    assert_eq!((&together.1, together.2), (&apart.1, apart.2));
    assert!(together.1.contains("keyspace_hits") && together.2[0] > 0 && together.2[1] == 0, "{together:?}");
}

/// Sends `input` and nothing more; takes all that comes back until the engine wants the connection closed.
fn last_words(store: &mut Store, input: &[u8]) -> Vec<u8> {
    let client = store.connect();
    store.engine.handle_input(client, input, store.now);
    store.engine.handle_input_end(client);
    let mut out = store.drain(client);
    for _ in 0..10_000 {
        if store.engine.should_close(client) {
            store.engine.handle_disconnected(client);
            return out;
        }
        store.turn();
        out.extend(store.drain(client));
    }
    panic!("{} bytes were answered, and the connection stays", out.len());
}

#[test]
fn a_client_that_sends_no_more_is_answered_and_then_closed() {
    for mode in MODES {
        let mut store = Store::new(2 << 20, mode);
        let writer = store.connect();
        let mut wanted = Vec::new();
        for key in 0..60u32 {
            let value = pattern(key, 50_000);
            store.command(writer, &[b"SET", format!("k{key}").as_bytes(), &value]);
            wanted.extend(bulk(&value));
        }
        assert_eq!(last_words(&mut store, b""), b"");
        assert_eq!(last_words(&mut store, b"PING\r\n"), b"+PONG\r\n");
        assert_eq!(last_words(&mut store, b"PING\r\nGET k"), b"+PONG\r\n", "half a command is dropped");
        store.evict_all(writer);
        let pipeline: Vec<u8> =
            (0..60).flat_map(|key| request(&[b"GET", format!("k{key}").as_bytes()])).collect();
        assert!(last_words(&mut store, &pipeline) == wanted, "{mode:?}");
        let half_spooled = &request(&[b"SET", b"big", &pattern(1, 1 << 20)])[..500_000];
        assert_eq!(last_words(&mut store, half_spooled), b"");
        assert_eq!(store.ask(writer, "EXISTS big"), ":0\r\n");
    }
}

#[test]
fn less_local_memory_is_less_at_once() {
    let mut store = Store::new(8 << 20, Prefetch::Ahead);
    let client = store.connect();
    let before = store.farmem(client, "frames_total");
    assert_eq!(store.ask(client, "CONFIG SET local-memory 4mb"), "+OK\r\n");
    let after = store.farmem(client, "frames_total");
    assert!(after <= before - 1024, "{before} frames, then {after}");
}

/// Sends commands and takes what comes back within `turns` turns, in which others go on too.
fn meanwhile(store: &mut Store, client: engine::ClientId, line: &str, turns: u32) -> String {
    store.engine.handle_input(client, line.as_bytes(), store.now);
    let mut out = store.drain(client);
    for _ in 0..turns {
        store.turn();
        out.extend(store.drain(client));
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// A list of 600 elements of 20 kB and 3000 of 1 kB, 15 MB, pushed to `key`; what LRANGE answers.
fn long_list(store: &mut Store, client: engine::ClientId, key: &str) -> Vec<u8> {
    let mut range = b"*3600\r\n".to_vec();
    for index in 0..3600u32 {
        let element = pattern(index, if index % 6 == 0 { 20_000 } else { 1_000 });
        assert!(store.command(client, &[b"RPUSH", key.as_bytes(), &element]).starts_with(b":"));
        range.extend(bulk(&element));
    }
    range
}

#[test]
fn a_list_larger_than_local_memory_is_copied_in_steps_as_it_stood() {
    let mut store = Store::new(2 << 20, Prefetch::Ahead);
    let (copier, writer) = (store.connect(), store.connect());
    let list = long_list(&mut store, writer, "list");
    assert_eq!(store.ask(writer, "EXPIRE list 1000"), ":1\r\n");
    store.evict_all(writer);
    let faults = store.farmem(writer, "unplanned_faults");
    store.engine.handle_input(copier, &request(&[b"COPY", b"list", b"copy"]), store.now);
    // Others run meanwhile, and what they change is not copied.
    let changes = "LPUSH list new\r\nLSET list -1 other\r\nLTRIM list 0 600\r\nEXISTS copy\r\n";
    assert_eq!(meanwhile(&mut store, writer, changes, 40), ":3601\r\n+OK\r\n+OK\r\n:0\r\n");
    assert_eq!(store.drain(copier), b"", "it takes longer than that");
    assert_eq!(store.raw(copier, b""), b":1\r\n");
    assert_eq!(store.farmem(writer, "unplanned_faults"), faults);
    assert_eq!(store.ask(writer, "TTL copy"), ":1000\r\n");
    assert_eq!(store.ask(writer, "LLEN list"), ":601\r\n");
    assert!(store.command(writer, &[b"LRANGE", b"copy", b"0", b"-1"]) == list);
    assert_eq!(store.ask(writer, "DEL copy list"), ":2\r\n");
    assert_eq!(store.farmem(writer, "far_used_bytes"), 0);
}

#[test]
fn a_long_copy_that_is_given_up_leaves_nothing_behind() {
    let mut store = Store::new(2 << 20, Prefetch::Ahead);
    let writer = store.connect();
    let list = long_list(&mut store, writer, "list");
    let used = store.farmem(writer, "far_used_bytes");
    for end in ["gone", "taken", "flushed"] {
        let copier = store.connect();
        store.evict_all(writer);
        store.engine.handle_input(copier, &request(&[b"COPY", b"list", b"copy"]), store.now);
        assert_eq!(meanwhile(&mut store, writer, "PING\r\n", 10), "+PONG\r\n");
        assert_eq!(store.drain(copier), b"", "it has begun, and is not done");
        match end {
            "gone" => store.engine.handle_disconnected(copier),
            "taken" => {
                assert_eq!(meanwhile(&mut store, writer, "SET copy 1\r\n", 1), "+OK\r\n");
                assert_eq!(store.raw(copier, b""), b":0\r\n");
                store.ask(writer, "DEL copy");
            }
            _ => {
                assert_eq!(meanwhile(&mut store, writer, "FLUSHALL\r\n", 1), "+OK\r\n");
                assert_eq!(store.raw(copier, b""), b":1\r\n");
                assert!(store.command(writer, &[b"LRANGE", b"copy", b"0", b"-1"]) == list);
                assert_eq!(store.ask(writer, "DEL copy"), ":1\r\n");
                assert_eq!(store.farmem(writer, "far_used_bytes"), 0);
                continue;
            }
        }
        assert_eq!(store.farmem(writer, "far_used_bytes"), used, "{end}");
    }
}

#[test]
fn many_writers_in_the_middle_of_a_value_are_refused_nothing() {
    let mut store = Store::new(2 << 20, Prefetch::Ahead);
    let asking = store.connect();
    let value = |index: u32| pattern(index, 150_000);
    let sets: Vec<Vec<u8>> =
        (0..60).map(|index| request(&[b"SET", format!("k{index}").as_bytes(), &value(index)])).collect();
    let writers: Vec<_> = sets.iter().map(|_| store.connect()).collect();
    let mut replies = vec![Vec::new(); writers.len()];
    for part in 0..3 {
        for (index, &writer) in writers.iter().enumerate() {
            let end = if part == 2 { sets[index].len() } else { (part + 1) * 50_000 };
            replies[index].extend(store.raw(writer, &sets[index][part * 50_000..end]));
        }
        store.advance_ms(100);
    }
    assert!(replies.iter().all(|reply| reply == b"+OK\r\n"), "{:?}", String::from_utf8_lossy(&replies[0]));
    for index in 0..60 {
        let got = store.command(asking, &[b"GET", format!("k{index}").as_bytes()]);
        assert!(got == bulk(&value(index)), "k{index}");
    }
}

/// What an LPOS, LREM or LINSERT of a cold long list answers while others run `changes`; all pages planned.
fn searched_meanwhile(store: &mut Store, words: &[&[u8]], changes: &str, turns: u32) -> Vec<u8> {
    let (searcher, writer) = (store.connect(), store.connect());
    store.evict_all(writer);
    let faults = store.farmem(writer, "unplanned_faults");
    store.engine.handle_input(searcher, &request(words), store.now);
    let replies = meanwhile(store, writer, changes, turns);
    assert!(replies.lines().count() >= changes.lines().count(), "others are served: {replies}");
    assert_eq!(store.drain(searcher), b"", "it takes longer than that");
    let reply = store.raw(searcher, b"");
    assert_eq!(store.farmem(writer, "unplanned_faults"), faults);
    reply
}

#[test]
fn a_list_larger_than_local_memory_is_searched_in_steps_as_it_stood() {
    let mut store = Store::new(2 << 20, Prefetch::Ahead);
    let client = store.connect();
    long_list(&mut store, client, "list");
    for (index, len) in [(3595, 1_000), (3594, 20_000), (5, 1_001)] {
        let needle = pattern(index, len);
        let wanted = if len == 1_001 { b"$-1\r\n".to_vec() } else { format!(":{index}\r\n").into_bytes() };
        let words: [&[u8]; 3] = [b"LPOS", b"list", &needle];
        if len == 1_001 {
            // No chunk has an element of that length: nothing is read, near memory knows.
            assert_eq!(store.command(client, &words), wanted);
            continue;
        }
        let changes = "LPUSH list new\r\nLPOP list\r\nRPUSH list newer\r\nRPOP list\r\n";
        assert_eq!(searched_meanwhile(&mut store, &words, changes, 4), wanted);
    }
    let needle = pattern(1, 1_000);
    let words: [&[u8]; 7] = [b"LPOS", b"list", &needle, b"RANK", b"-1", b"COUNT", b"0"];
    assert_eq!(searched_meanwhile(&mut store, &words, "PING\r\n", 4), b"*1\r\n:1\r\n");
    // What is not to be compared is not fetched either.
    store.evict_all(client);
    let fetched = store.farmem(client, "pages_fetched");
    let words: [&[u8]; 5] = [b"LPOS", b"list", &pattern(3595, 1_000), b"MAXLEN", b"100"];
    assert_eq!(store.command(client, &words), b"$-1\r\n");
    assert!(store.farmem(client, "pages_fetched") - fetched < 60);
    assert_eq!(store.ask(client, "DEL list"), ":1\r\n");
    assert_eq!(store.farmem(client, "far_used_bytes"), 0);
}

#[test]
fn a_long_list_that_changes_while_it_is_searched_is_changed_where_it_should_be() {
    let mut store = Store::new(2 << 20, Prefetch::Ahead);
    let client = store.connect();
    long_list(&mut store, client, "list");
    let pivot = pattern(3001, 1_000);
    let words: [&[u8]; 5] = [b"LINSERT", b"list", b"BEFORE", &pivot, b"inserted"];
    // The search begins anew: by now the first pivot is another one.
    let changes = "LPUSH list new\r\nLSET list -1 other\r\n";
    assert_eq!(searched_meanwhile(&mut store, &words, changes, 4), b":3602\r\n");
    assert_eq!(store.ask(client, "LINDEX list 3002"), "$8\r\ninserted\r\n");
    assert!(store.command(client, &[b"LINDEX", b"list", b"3003"]) == bulk(&pivot));
    let words: [&[u8]; 5] = [b"LINSERT", b"list", b"AFTER", &[b'-'; 1_000], b"inserted"];
    assert_eq!(searched_meanwhile(&mut store, &words, changes, 4), b":-1\r\n");
    for place in ["RPUSH", "LPUSH"] {
        assert!(store.command(client, &[place.as_bytes(), b"list", &pivot]).starts_with(b":"));
    }
    let words: [&[u8]; 4] = [b"LREM", b"list", b"-2", &pivot];
    assert_eq!(searched_meanwhile(&mut store, &words, "LPUSH list newest\r\n", 4), b":2\r\n");
    assert!(store.command(client, &[b"LINDEX", b"list", b"1"]) == bulk(&pivot));
    assert_eq!(store.ask(client, "LINDEX list 3005"), "$8\r\ninserted\r\n");
    assert!(store.command(client, &[b"LINDEX", b"list", b"3006"]) == bulk(&pattern(3002, 1_000)));
    // A list that is gone, or is none, when the search is over.
    for (change, reply) in [("RENAME list away", ":0\r\n"), ("SET list 1", "-WRONGTYPE")] {
        let words: [&[u8]; 4] = [b"LREM", b"list", b"0", &pivot];
        let answer = searched_meanwhile(&mut store, &words, &format!("{change}\r\n"), 4);
        assert!(answer.starts_with(reply.as_bytes()), "{change}");
        store.ask(client, "DEL list");
        store.ask(client, "RENAME away list");
    }
    assert_eq!(store.farmem(client, "far_used_bytes"), 0);
}

#[test]
fn a_long_list_that_never_rests_is_searched_at_last_while_everybody_waits() {
    let mut store = Store::new(2 << 20, Prefetch::Ahead);
    let (searcher, writer) = (store.connect(), store.connect());
    long_list(&mut store, writer, "list");
    let gone = pattern(3001, 1_000);
    store.engine.handle_input(searcher, &request(&[b"LREM", b"list", b"0", &gone]), store.now);
    let mut pushes = 0;
    while store.drain(searcher).is_empty() {
        assert!(pushes < 20_000, "it ends");
        assert!(meanwhile(&mut store, writer, "LPUSH list x\r\n", 1).starts_with(':'));
        pushes += 1;
    }
    assert_eq!(store.ask(writer, "LLEN list"), format!(":{}\r\n", 3_599 + pushes));
    let index = (3_001 + pushes).to_string();
    assert!(store.command(writer, &[b"LINDEX", b"list", index.as_bytes()]) == bulk(&pattern(3002, 1_000)));
}

#[test]
fn a_long_search_that_is_given_up_leaves_nothing_behind() {
    let mut store = Store::new(2 << 20, Prefetch::Ahead);
    let writer = store.connect();
    long_list(&mut store, writer, "list");
    let gone = pattern(1, 1_000);
    for end in ["gone", "flushed"] {
        let searcher = store.connect();
        store.evict_all(writer);
        let used = store.farmem(writer, "far_used_bytes");
        store.engine.handle_input(searcher, &request(&[b"LREM", b"list", b"0", &gone]), store.now);
        assert_eq!(meanwhile(&mut store, writer, "PING\r\n", 20), "+PONG\r\n");
        assert!(store.farmem(writer, "far_used_bytes") >= used, "a chunk has been written anew");
        if end == "gone" {
            store.engine.handle_disconnected(searcher);
            let left = store.farmem(writer, "far_used_bytes");
            assert!(left <= used, "{used} bytes, then {left}");
        } else {
            assert_eq!(meanwhile(&mut store, writer, "FLUSHALL\r\n", 1), "+OK\r\n");
            assert_eq!(store.raw(searcher, b""), b":0\r\n");
            assert_eq!(store.farmem(writer, "far_used_bytes"), 0);
        }
    }
}

#[test]
fn a_long_value_that_has_to_move_to_be_written_to_moves_in_steps() {
    let mut store = Store::new(2 << 20, Prefetch::Ahead);
    let (writer, other) = (store.connect(), store.connect());
    let mut value = pattern(7, 3 << 20);
    assert_eq!(store.command(writer, &[b"SET", b"k", &value]), b"+OK\r\n");
    for write in ["APPEND k end", "SETRANGE k 1000000 middle", "SETBIT k 16777216 1"] {
        let reader = store.connect();
        store.evict_all(other);
        let faults = store.farmem(other, "unplanned_faults");
        // Somebody reads it, slowly: what is read stays as it was, so the value is to be copied.
        store.engine.handle_input(reader, &request(&[b"GET", b"k"]), store.now);
        meanwhile(&mut store, other, "PING\r\n", 2);
        let words: Vec<&[u8]> = write.split(' ').map(str::as_bytes).collect();
        store.engine.handle_input(writer, &request(&words), store.now);
        assert_eq!(meanwhile(&mut store, other, "PING\r\nEXISTS k\r\n", 4), "+PONG\r\n:1\r\n", "{write}");
        assert_eq!(store.drain(writer), b"", "it takes longer than that: {write}");
        let old = bulk(&value);
        let reply = match words[0] {
            b"APPEND" => {
                value.extend(b"end");
                value.len()
            }
            b"SETRANGE" => {
                value[1_000_000..1_000_006].copy_from_slice(b"middle");
                value.len()
            }
            _ => {
                let before = value[2 << 20] >> 7;
                value[2 << 20] |= 0x80;
                usize::from(before)
            }
        };
        assert_eq!(store.raw(writer, b""), format!(":{reply}\r\n").as_bytes(), "{write}");
        assert_eq!(store.farmem(other, "unplanned_faults"), faults, "{write}");
        assert!(store.raw(reader, b"") == old, "{write}: what is read is what was there");
        assert!(store.command(other, &[b"GET", b"k"]) == bulk(&value), "{write}");
        store.engine.handle_disconnected(reader);
    }
    assert_eq!(store.ask(other, "DEL k"), ":1\r\n");
    assert_eq!(store.farmem(other, "far_used_bytes"), 0);
}

#[test]
fn two_who_write_to_a_long_value_that_has_to_move_both_do() {
    let mut store = Store::new(2 << 20, Prefetch::Ahead);
    let (first, second, reader) = (store.connect(), store.connect(), store.connect());
    let mut value = pattern(7, 3 << 20);
    assert_eq!(store.command(first, &[b"SET", b"k", &value]), b"+OK\r\n");
    store.evict_all(second);
    store.engine.handle_input(reader, &request(&[b"GET", b"k"]), store.now);
    store.engine.handle_input(first, &request(&[b"SETRANGE", b"k", b"100", b"first"]), store.now);
    meanwhile(&mut store, second, "", 20);
    store.engine.handle_input(second, &request(&[b"SETRANGE", b"k", b"2000000", b"second"]), store.now);
    let length = format!(":{}\r\n", value.len());
    assert_eq!(store.raw(first, b""), length.as_bytes());
    assert_eq!(store.raw(second, b""), length.as_bytes());
    value[100..105].copy_from_slice(b"first");
    value[2_000_000..2_000_006].copy_from_slice(b"second");
    assert!(store.command(first, &[b"GET", b"k"]) == bulk(&value));
    // Given up in the middle, or the value is gone: nothing is left of it.
    for end in ["gone", "deleted"] {
        let (writer, reader) = (store.connect(), store.connect());
        store.evict_all(first);
        store.engine.handle_input(reader, &request(&[b"GET", b"k"]), store.now);
        meanwhile(&mut store, first, "", 2);
        let used = store.farmem(first, "far_used_bytes");
        store.engine.handle_input(writer, &request(&[b"SETRANGE", b"k", b"5000000", b"x"]), store.now);
        meanwhile(&mut store, first, "PING\r\n", 4);
        if end == "gone" {
            store.engine.handle_disconnected(writer);
            assert_eq!(store.farmem(first, "far_used_bytes"), used);
        } else {
            assert_eq!(meanwhile(&mut store, first, "DEL k\r\n", 1), ":1\r\n");
            assert_eq!(store.raw(writer, b""), b":5000001\r\n");
            assert_eq!(store.ask(first, "GETRANGE k 4999999 -1"), "$2\r\n\0x\r\n");
        }
        store.engine.handle_disconnected(reader);
    }
    store.engine.handle_disconnected(reader);
    assert_eq!(store.ask(first, "DEL k"), ":1\r\n");
    assert_eq!(store.farmem(first, "far_used_bytes"), 0);
}

/// It was appended twice, and answered twice: the move went on after the command had made a new value.
#[test]
fn what_is_appended_to_a_value_that_is_deleted_while_it_moves_is_appended_once() {
    let mut store = Store::new(2 << 20, Prefetch::Ahead);
    let (writer, other, reader) = (store.connect(), store.connect(), store.connect());
    assert_eq!(store.command(writer, &[b"SET", b"k", &pattern(7, 3 << 20)]), b"+OK\r\n");
    store.evict_all(other);
    store.engine.handle_input(reader, &request(&[b"GET", b"k"]), store.now);
    meanwhile(&mut store, other, "", 2);
    store.engine.handle_input(writer, &request(&[b"APPEND", b"k", b"end"]), store.now);
    assert_eq!(meanwhile(&mut store, other, "DEL k\r\n", 4), ":1\r\n");
    assert_eq!(store.raw(writer, b""), b":3\r\n");
    assert_eq!(store.ask(other, "GET k"), "$3\r\nend\r\n");
    store.engine.handle_disconnected(reader);
    assert_eq!(store.ask(other, "DEL k"), ":1\r\n");
    assert_eq!(store.farmem(other, "far_used_bytes"), 0);
}

#[test]
fn a_long_value_is_compared_in_steps_as_it_stood() {
    let mut store = Store::new(2 << 20, Prefetch::Ahead);
    let (asking, writer) = (store.connect(), store.connect());
    let value = pattern(7, 3 << 20);
    assert_eq!(store.command(writer, &[b"SET", b"long", &value]), b"+OK\r\n");
    let short = [&value[5..13], &value[(3 << 20) - 6..]].concat();
    assert_eq!(store.command(writer, &[b"SET", b"short", &short]), b"+OK\r\n");
    for (words, reply) in [("LCS long short", bulk(&short)), ("LCS short long LEN", b":14\r\n".to_vec())] {
        store.evict_all(writer);
        let faults = store.farmem(writer, "unplanned_faults");
        let words: Vec<&[u8]> = words.split(' ').map(str::as_bytes).collect();
        store.engine.handle_input(asking, &request(&words), store.now);
        assert_eq!(meanwhile(&mut store, writer, "SET long x\r\nSET short x\r\n", 4), "+OK\r\n+OK\r\n");
        assert_eq!(store.drain(asking), b"", "it takes longer than that");
        assert!(store.raw(asking, b"") == reply);
        assert_eq!(store.farmem(writer, "unplanned_faults"), faults);
        assert_eq!(store.command(writer, &[b"MSET", b"long", &value, b"short", &short]), b"+OK\r\n");
    }
    store.evict_all(writer);
    store.engine.handle_input(asking, &request(&[b"LCS", b"long", b"short"]), store.now);
    meanwhile(&mut store, writer, "PING\r\n", 4);
    store.engine.handle_disconnected(asking);
    assert_eq!(store.ask(writer, "DEL long short"), ":2\r\n");
    assert_eq!(store.farmem(writer, "far_used_bytes"), 0);
}
