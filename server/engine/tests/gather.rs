//! Gathering: what is left of many small strings is read from fewer and fewer pages.

mod support;

use farmem::Prefetch;
use support::{Store, bulk};

const KEYS: usize = 4000;

fn value(key: usize) -> Vec<u8> {
    (0..128).map(|at| (key * 31 + at * 7) as u8).collect()
}

fn is_kept(key: usize) -> bool {
    key.is_multiple_of(4)
}

/// A store where three quarters of the keys were deleted, in every page alike.
fn scattered(activedefrag: bool) -> (Store, engine::ClientId) {
    let config = engine::Config { activedefrag, ..engine::Config::default() };
    let mut store = Store::with(8 << 20, 1 << 18, Prefetch::Ahead, config);
    let client = store.connect();
    for key in 0..KEYS {
        store.command(client, &[b"SET", format!("key:{key}").as_bytes(), &value(key)]);
    }
    for key in (0..KEYS).filter(|&key| !is_kept(key)) {
        store.command(client, &[b"DEL", format!("key:{key}").as_bytes()]);
    }
    store.evict_all(client);
    (store, client)
}

/// Reads every key from a cold store; the pages that took.
fn read_all(store: &mut Store, client: engine::ClientId) -> u64 {
    store.evict_all(client);
    let before = store.farmem(client, "pages_fetched");
    for key in 0..KEYS {
        let got = store.command(client, &[b"GET", format!("key:{key}").as_bytes()]);
        let want = if is_kept(key) { bulk(&value(key)) } else { b"$-1\r\n".to_vec() };
        assert!(got == want, "key {key}");
    }
    store.farmem(client, "pages_fetched") - before
}

#[test]
fn a_second_reading_fetches_less_than_half_of_the_pages() {
    let (mut store, client) = scattered(true);
    let (first, second) = (read_all(&mut store, client), read_all(&mut store, client));
    // 41 pages would hold what is left; gathering stops when a third of the pages in use could be saved.
    assert!(second * 2 <= first, "{first} pages, then {second}");
    assert_eq!(store.farmem(client, "unplanned_faults"), 0);
    let stats = store.ask(client, "INFO stats");
    let hits = stats.lines().find_map(|line| line.strip_prefix("active_defrag_hits:"));
    assert!(
        hits.and_then(|hits| hits.trim().parse().ok()).is_some_and(|hits: usize| hits > KEYS / 8),
        "{stats}"
    );
}

#[test]
fn activedefrag_no_leaves_everything_where_it_is() {
    let (mut store, client) = scattered(false);
    let (first, second) = (read_all(&mut store, client), read_all(&mut store, client));
    assert_eq!(first, second);
}

#[test]
fn what_is_gathered_keeps_its_expiry_time_and_its_encoding() {
    let (mut store, client) = scattered(true);
    for key in (0..KEYS).filter(|&key| is_kept(key)) {
        let name = format!("key:{key}");
        store.command(client, &[b"PEXPIREAT", name.as_bytes(), b"1700000100000"]);
        store.command(client, &[b"APPEND", name.as_bytes(), b"x"]);
        store.command(client, &[b"GET", name.as_bytes()]);
        assert_eq!(store.ask(client, &format!("PEXPIRETIME {name}")), ":1700000100000\r\n");
        assert_eq!(store.ask(client, &format!("OBJECT ENCODING {name}")), "$3\r\nraw\r\n");
    }
    store.advance_ms(101_000);
    for _ in 0..200 {
        store.advance_ms(100);
    }
    assert_eq!(store.ask(client, "DBSIZE"), ":0\r\n");
    assert_eq!(store.farmem(client, "far_used_bytes"), 0);
}
