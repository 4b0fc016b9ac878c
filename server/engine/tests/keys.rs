//! Commands on keys of any type: what they answer, and which pages they read for it.

mod support;

use engine::ClientId;
use farmem::Prefetch;
use std::collections::BTreeSet;
use support::{Store, bulk};

fn store(local_memory: u64) -> (Store, ClientId) {
    let mut store = Store::new(local_memory, Prefetch::Ahead);
    let client = store.connect();
    (store, client)
}

/// A field of `FARMEM STATS`.
fn stat(store: &mut Store, client: ClientId, field: &str) -> i64 {
    let reply = store.ask(client, "FARMEM STATS");
    let mut lines = reply.lines().skip_while(|line| *line != field);
    let value = lines.nth(1).and_then(|line| line.strip_prefix(':'));
    value.and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("no {field} in {reply}"))
}

/// The bulk strings of a flat array.
fn strings(reply: &str) -> Vec<String> {
    let mut lines = reply.lines();
    let head = lines.next().expect("a reply has a line");
    let count: usize = head.strip_prefix('*').and_then(|count| count.parse().ok()).expect("an array");
    let found: Vec<String> = lines.skip(1).step_by(2).map(str::to_owned).collect();
    assert_eq!(found.len(), count);
    found
}

/// What `ask` fetched from far memory.
fn fetched(store: &mut Store, client: ClientId, line: &str) -> (String, i64) {
    let before = stat(store, client, "pages_fetched");
    let faults = stat(store, client, "unplanned_faults");
    let reply = store.ask(client, line);
    assert_eq!(stat(store, client, "unplanned_faults"), faults, "{line} was not planned for");
    (reply, stat(store, client, "pages_fetched") - before)
}

/// A value that is no number and of which every page differs.
fn value(len: usize) -> Vec<u8> {
    (0..len).map(|at| b'a' + ((at / 7 + at / 4096) % 26) as u8).collect()
}

#[test]
fn what_near_memory_knows_fetches_nothing_and_the_rest_one_page() {
    let (mut store, client) = store(4 << 20);
    let large = value(40_000);
    for key in ["large", "large2", "large3"] {
        store.command(client, &[b"SET", key.as_bytes(), &large]);
    }
    for line in
        ["DBSIZE", "EXISTS missing", "TTL missing", "DEL missing", "RENAME missing other", "SCAN 0 TYPE list"]
    {
        store.evict_all(client);
        assert_eq!(fetched(&mut store, client, line).1, 0, "{line}");
    }
    for (line, reply) in [
        ("EXISTS large", ":1\r\n"),
        ("TYPE large", "+string\r\n"),
        ("TTL large", ":-1\r\n"),
        ("EXPIRE large 100", ":1\r\n"),
        ("PERSIST large", ":1\r\n"),
        ("OBJECT ENCODING large", "$3\r\nraw\r\n"),
        ("TOUCH large", ":1\r\n"),
        ("MOVE large 3", ":1\r\n"),
        ("DEL large2", ":1\r\n"),
        ("RENAME large3 renamed", "+OK\r\n"),
        ("SET renamed other", "+OK\r\n"),
    ] {
        store.evict_all(client);
        let (got, pages) = fetched(&mut store, client, line);
        assert_eq!(got, reply, "{line}");
        assert!(pages <= 1, "{line} fetched {pages} pages");
    }
}

#[test]
fn rename_carries_value_and_time_and_replaces_what_was_there() {
    for len in [3, 3000, 4050, 50_000] {
        for (from, to) in [("a", "b"), ("short", &*"long".repeat(300)), (&*"long".repeat(300), "short")] {
            let (mut store, client) = store(4 << 20);
            let data = value(len);
            store.command(client, &[b"SET", from.as_bytes(), &data, b"PX", b"5000"]);
            store.command(client, &[b"SET", to.as_bytes(), &value(9000)]);
            assert_eq!(store.command(client, &[b"RENAMENX", from.as_bytes(), to.as_bytes()]), b":0\r\n");
            assert_eq!(store.command(client, &[b"RENAME", from.as_bytes(), to.as_bytes()]), b"+OK\r\n");
            assert_eq!(store.command(client, &[b"EXISTS", from.as_bytes()]), b":0\r\n");
            assert_eq!(store.command(client, &[b"GET", to.as_bytes()]), bulk(&data));
            assert_eq!(store.command(client, &[b"PTTL", to.as_bytes()]), b":5000\r\n");
            assert_eq!(store.ask(client, "DBSIZE"), ":1\r\n");
            store.command(client, &[b"DEL", to.as_bytes()]);
            assert_eq!(stat(&mut store, client, "far_used_bytes"), 0);
        }
    }
}

#[test]
fn lists_are_renamed_copied_and_moved_as_strings_are() {
    for count in [3, 3000] {
        let (mut store, client) = store(4 << 20);
        for element in 0..count {
            store.ask(client, &format!("RPUSH list element:{element}"));
        }
        let whole = store.ask(client, "LRANGE list 0 -1");
        store.ask(client, "EXPIRE list 77");
        assert_eq!(store.ask(client, "COPY list copy"), ":1\r\n");
        assert_eq!(store.ask(client, "RENAME list renamed"), "+OK\r\n");
        store.ask(client, "RPUSH renamed more");
        assert_eq!(store.ask(client, "LRANGE copy 0 -1"), whole);
        assert_eq!(store.ask(client, "TTL copy"), ":77\r\n");
        assert_eq!(store.ask(client, "MOVE copy 2"), ":1\r\n");
        assert_eq!(store.ask(client, "LLEN renamed"), format!(":{}\r\n", count + 1));
        store.ask(client, "SELECT 2");
        assert_eq!(store.ask(client, "LRANGE copy 0 -1"), whole);
        store.ask(client, "DEL copy");
        store.ask(client, "SELECT 0");
        store.ask(client, "DEL renamed");
        assert_eq!(stat(&mut store, client, "far_used_bytes"), 0);
    }
}

#[test]
fn a_copy_larger_than_local_memory_is_of_the_value_that_stood_when_it_began() {
    let (mut store, client) = store(2 << 20);
    let data = value(6 << 20);
    for part in support::request(&[b"SET", b"k", &data]).chunks(50_000) {
        store.raw(client, part);
    }
    store.evict_all(client);
    let faults = stat(&mut store, client, "unplanned_faults");
    let other = store.connect();
    store.engine.handle_input(client, &support::request(&[b"COPY", b"k", b"copy"]), store.now);
    assert!(store.drain(client).is_empty(), "it waits for its first pages");
    for _ in 0..5 {
        store.turn();
    }
    for (line, reply) in
        [(&[&b"SET"[..], b"k", b"other"][..], &b"+OK\r\n"[..]), (&[b"EXISTS", b"copy"], b":0\r\n")]
    {
        store.engine.handle_input(other, &support::request(line), store.now);
        assert_eq!(store.drain(other), reply, "the copy is still on its way");
    }
    while store.turn() {}
    assert_eq!(store.drain(client), b":1\r\n");
    assert_eq!(stat(&mut store, client, "unplanned_faults"), faults);
    assert!(store.command(other, &[b"GET", b"copy"]) == bulk(&data));
    store.ask(other, "FLUSHALL");
    assert_eq!(stat(&mut store, client, "far_used_bytes"), 0);
}

#[test]
fn a_client_that_leaves_in_the_middle_of_a_copy_leaves_nothing_behind() {
    let (mut store, client) = store(2 << 20);
    let data = value(4 << 20);
    for part in support::request(&[b"SET", b"k", &data]).chunks(50_000) {
        store.raw(client, part);
    }
    store.evict_all(client);
    let leaver = store.connect();
    store.engine.handle_input(leaver, &support::request(&[b"COPY", b"k", b"copy"]), store.now);
    store.turn();
    store.engine.handle_disconnected(leaver);
    while store.turn() {}
    store.ask(client, "DEL k");
    assert_eq!(stat(&mut store, client, "far_used_bytes"), 0);
}

#[test]
fn keys_answers_more_than_local_memory_holds() {
    let (mut store, client) = store(3 << 20);
    let mut expected = BTreeSet::new();
    for number in 0..20_000 {
        let key = format!("key:{number}:{}", "x".repeat(200 + number % 50));
        store.command(client, &[b"SET", key.as_bytes(), b"1"]);
        expected.insert(key);
    }
    store.evict_all(client);
    let faults = stat(&mut store, client, "unplanned_faults");
    let reply = store.ask(client, "KEYS key:*");
    let found = strings(&reply);
    assert_eq!(found.len(), expected.len(), "each key once");
    assert_eq!(found.into_iter().collect::<BTreeSet<_>>(), expected);
    assert_eq!(stat(&mut store, client, "unplanned_faults"), faults);
    assert_eq!(strings(&store.ask(client, "KEYS key:7:*")).len(), 1);
    assert_eq!(store.ask(client, "KEYS nothing"), "*0\r\n");
}

#[test]
fn keys_longer_than_a_page_are_scanned_drawn_and_renamed() {
    let (mut store, client) = store(2 << 20);
    let key = "k".repeat(700_000);
    assert_eq!(store.command(client, &[b"SET", key.as_bytes(), b"v"]), b"+OK\r\n");
    store.evict_all(client);
    let whole = bulk(key.as_bytes());
    assert!(store.ask(client, "RANDOMKEY").as_bytes() == whole);
    assert!(store.ask(client, "KEYS k*").as_bytes() == [b"*1\r\n", &whole[..]].concat());
    assert!(store.ask(client, "KEYS *").as_bytes() == [b"*1\r\n", &whole[..]].concat());
    let scanned = store.ask(client, "SCAN 0");
    assert!(scanned.as_bytes() == [b"*2\r\n$1\r\n0\r\n*1\r\n", &whole[..]].concat());
    assert_eq!(store.command(client, &[b"RENAME", key.as_bytes(), b"short"]), b"+OK\r\n");
    assert_eq!(store.ask(client, "GET short"), "$1\r\nv\r\n");
    store.ask(client, "DEL short");
    assert_eq!(stat(&mut store, client, "far_used_bytes"), 0);
}

#[test]
fn an_empty_value_under_a_long_key_is_copied_and_renamed() {
    let (mut store, client) = store(2 << 20);
    let (key, other) = ("k".repeat(5000), "o".repeat(6000));
    store.command(client, &[b"SET", key.as_bytes(), b""]);
    assert_eq!(store.command(client, &[b"COPY", key.as_bytes(), other.as_bytes()]), b":1\r\n");
    assert_eq!(store.command(client, &[b"GET", other.as_bytes()]), b"$0\r\n\r\n");
    assert_eq!(store.command(client, &[b"RENAME", key.as_bytes(), b"short"]), b"+OK\r\n");
    assert_eq!(store.ask(client, "GET short"), "$0\r\n\r\n");
    assert_eq!(store.ask(client, "COPY short copy"), ":1\r\n");
    store.command(client, &[b"DEL", b"short", b"copy", other.as_bytes()]);
    assert_eq!(stat(&mut store, client, "far_used_bytes"), 0);
}

#[test]
fn a_scan_sees_each_key_that_stays_exactly_once_whatever_comes_and_goes() {
    let (mut store, client) = store(2 << 20);
    for number in 0..2000 {
        store.ask(client, &format!("SET stays:{number} {}", "v".repeat(300)));
    }
    store.evict_all(client);
    let (mut cursor, mut seen, mut round) = ("0".to_owned(), Vec::new(), 0);
    loop {
        let reply = store.ask(client, &format!("SCAN {cursor} MATCH stays:* COUNT 37"));
        let mut parts = reply.splitn(4, "\r\n");
        cursor = parts.nth(2).expect("an array of two").to_owned();
        seen.extend(strings(parts.next().expect("the keys")));
        if cursor == "0" {
            break;
        }
        for number in 0..40 {
            store.ask(client, &format!("SET comes:{round}:{number} 1"));
            store.ask(client, &format!("DEL comes:{}:{number}", round / 2));
        }
        round += 1;
    }
    let distinct: BTreeSet<&String> = seen.iter().collect();
    assert_eq!((seen.len(), distinct.len()), (2000, 2000));
}

#[test]
fn scan_filters_by_type_before_it_reads_and_refuses_what_redis_refuses() {
    let (mut store, client) = store(2 << 20);
    for number in 0..20 {
        store.ask(client, &format!("SET string:{number} 1"));
    }
    store.ask(client, "RPUSH list 1");
    assert_eq!(store.ask(client, "SCAN 0 COUNT 100 TYPE LIST"), "*2\r\n$1\r\n0\r\n*1\r\n$4\r\nlist\r\n");
    assert_eq!(store.ask(client, "SCAN 0 COUNT 100 TYPE zset"), "*2\r\n$1\r\n0\r\n*0\r\n");
    for (line, error) in [
        ("SCAN x", "-ERR invalid cursor\r\n"),
        ("SCAN 99999999999999999999", "-ERR invalid cursor\r\n"),
        ("SCAN 0 COUNT 0", "-ERR syntax error\r\n"),
        ("SCAN 0 COUNT x", "-ERR value is not an integer or out of range\r\n"),
        ("SCAN 0 MATCH", "-ERR syntax error\r\n"),
    ] {
        assert_eq!(store.ask(client, line), error);
    }
    assert_eq!(store.ask(client, "SCAN 18446744073709551615"), "*2\r\n$1\r\n0\r\n*0\r\n");
}

#[test]
fn randomkey_answers_every_key_in_time_and_none_that_is_over() {
    let (mut store, client) = store(2 << 20);
    assert_eq!(store.ask(client, "RANDOMKEY"), "$-1\r\n");
    for number in 0..30 {
        store.ask(client, &format!("SET stays{number} 1"));
        store.ask(client, &format!("SET goes{number} 1 PX 50"));
    }
    store.now.unix_ms += 60;
    store.evict_all(client);
    let mut seen = BTreeSet::new();
    for _ in 0..2000 {
        let (reply, pages) = fetched(&mut store, client, "RANDOMKEY");
        assert!(reply.contains("stays"), "{reply}");
        assert!(pages <= 1);
        seen.insert(reply);
    }
    assert_eq!(seen.len(), 30);
}

#[test]
fn flushing_gives_all_memory_back() {
    let (mut store, client) = store(8 << 20);
    let near = stat(&mut store, client, "index_bytes");
    for db in [0, 5] {
        store.ask(client, &format!("SELECT {db}"));
        for number in 0..5000 {
            store.ask(client, &format!("SET key:{number} {number} EX 1000"));
        }
    }
    store.ask(client, "FLUSHDB");
    assert_eq!(store.ask(client, "DBSIZE"), ":0\r\n");
    store.ask(client, "SELECT 0");
    assert_eq!(store.ask(client, "DBSIZE"), ":5000\r\n");
    assert_eq!(store.ask(client, "FLUSHALL ASYNC"), "+OK\r\n");
    assert_eq!(stat(&mut store, client, "far_used_bytes"), 0);
    assert_eq!(stat(&mut store, client, "index_bytes"), near);
    store.ask(client, "SET k v");
    assert_eq!(store.ask(client, "GET k"), "$1\r\nv\r\n");
}

#[test]
fn residency_is_told_without_being_changed() {
    let (mut store, client) = store(4 << 20);
    store.command(client, &[b"SET", b"k", &value(40_960)]);
    let residency = |store: &mut Store| {
        let reply = store.ask(client, "FARMEM RESIDENCY k");
        let numbers: Vec<i64> = reply
            .lines()
            .filter_map(|line| line.strip_prefix(':'))
            .filter_map(|text| text.parse().ok())
            .collect();
        (numbers[0], numbers[1])
    };
    assert_eq!(residency(&mut store), (11, 11), "ten pages and the key's");
    let mut evicted = 0;
    loop {
        let reply = store.ask(client, "FARMEM EVICT k");
        match reply.trim().trim_start_matches(':').parse().expect("an integer") {
            0 if residency(&mut store).1 == 0 => break,
            count => evicted += count,
        }
    }
    assert_eq!((evicted, residency(&mut store)), (11, (11, 0)));
    let (_, pages) = fetched(&mut store, client, "FARMEM RESIDENCY k");
    assert_eq!(pages, 0);
    assert_eq!(store.ask(client, "FARMEM RESIDENCY missing"), "$-1\r\n");
    assert_eq!(store.ask(client, "FARMEM EVICT missing"), ":0\r\n");
}

#[test]
fn databases_are_swapped_and_selected() {
    let (mut store, client) = store(2 << 20);
    store.ask(client, "SET k zero EX 100");
    assert_eq!(store.ask(client, "SWAPDB 0 7"), "+OK\r\n");
    assert_eq!(store.ask(client, "EXISTS k"), ":0\r\n");
    store.ask(client, "SELECT 7");
    assert_eq!(store.ask(client, "TTL k"), ":100\r\n");
    for (line, error) in [
        ("SELECT 16", "-ERR DB index is out of range\r\n"),
        ("SELECT abc", "-ERR value is not an integer or out of range\r\n"),
        ("SWAPDB a 1", "-ERR invalid first DB index\r\n"),
        ("SWAPDB 1 b", "-ERR invalid second DB index\r\n"),
        ("SWAPDB 1 16", "-ERR DB index is out of range\r\n"),
        ("MOVE k 7", "-ERR source and destination objects are the same\r\n"),
        ("COPY k k", "-ERR source and destination objects are the same\r\n"),
        ("COPY k l DB 16", "-ERR DB index is out of range\r\n"),
    ] {
        assert_eq!(store.ask(client, line), error, "{line}");
    }
    assert_eq!(store.ask(client, "COPY k k DB 1"), ":1\r\n");
    assert_eq!(store.ask(client, "COPY k k DB 1"), ":0\r\n");
    assert_eq!(store.ask(client, "COPY k k DB 1 REPLACE"), ":1\r\n");
}
