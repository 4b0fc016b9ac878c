//! Which pages list commands fetch: golden counts, and what a streamed range shows while the list changes.

mod support;

use engine::ClientId;
use farmem::Prefetch;
use support::{Store, bulk};

/// Elements of 1 KiB take 1033 bytes on the wire: 15 a chunk of 16 KiB.
const ELEMENTS: usize = 200;
const CHUNK_ELEMENTS: usize = 15;

struct Fixture {
    store: Store,
    client: ClientId,
}

impl Fixture {
    fn new(local_memory: u64) -> Fixture {
        let mut store = Store::new(local_memory, Prefetch::Ahead);
        let client = store.connect();
        Fixture { store, client }
    }

    /// A cold list of `ELEMENTS` elements of 1 KiB, pushed one by one.
    fn cold_list() -> Fixture {
        let mut fixture = Fixture::new(8 << 20);
        for number in 0..ELEMENTS {
            fixture.store.command(fixture.client, &[b"RPUSH", b"list", &element(number, 1024)]);
        }
        fixture.store.evict_all(fixture.client);
        fixture
    }

    fn stat(&mut self, field: &str) -> u64 {
        let stats = self.store.ask(self.client, "FARMEM STATS");
        let mut lines = stats.lines();
        lines.find(|line| *line == field).expect("the field is there");
        lines.next().and_then(|line| line.strip_prefix(':')?.parse().ok()).expect("an integer follows")
    }

    /// The reply to a command, and how many pages were fetched for it, all of them planned.
    fn fetched(&mut self, words: &[&[u8]]) -> (Vec<u8>, u64) {
        let (pages, faults) = (self.stat("pages_fetched"), self.stat("unplanned_faults"));
        let reply = self.store.command(self.client, words);
        assert_eq!(
            self.stat("unplanned_faults"),
            faults,
            "{:?} was planned",
            String::from_utf8_lossy(words[0])
        );
        (reply, self.stat("pages_fetched") - pages)
    }
}

fn element(number: usize, len: usize) -> Vec<u8> {
    let mut element = vec![b'a' + (number % 26) as u8; len];
    let digits = number.to_string();
    element[..digits.len()].copy_from_slice(digits.as_bytes());
    element
}

fn elements(range: std::ops::Range<usize>, len: usize) -> Vec<u8> {
    let mut out = format!("*{}\r\n", range.len()).into_bytes();
    range.for_each(|number| out.extend_from_slice(&bulk(&element(number, len))));
    out
}

#[test]
fn a_range_fetches_the_pages_under_it_and_the_keys_page() {
    let mut fixture = Fixture::cold_list();
    let (reply, pages) = fixture.fetched(&[b"LRANGE", b"list", b"0", b"99"]);
    assert!(reply == elements(0..100, 1024));
    // Six whole chunks of 4 pages, 10 elements of the seventh (10330 bytes, 3 pages), and the key.
    assert_eq!(100 / CHUNK_ELEMENTS, 6);
    assert_eq!(pages, 6 * 4 + 3 + 1);
}

#[test]
fn a_range_in_the_middle_needs_no_walk() {
    let mut fixture = Fixture::cold_list();
    let (reply, pages) = fixture.fetched(&[b"LRANGE", b"list", b"153", b"156"]);
    assert!(reply == elements(153..157, 1024));
    // Elements 3 to 6 of the chunk that begins at 150: bytes 3099 to 7231, 2 pages; and the key.
    assert_eq!(pages, 2 + 1);
}

#[test]
fn an_element_in_the_middle_costs_its_own_pages() {
    let mut fixture = Fixture::cold_list();
    let (reply, pages) = fixture.fetched(&[b"LINDEX", b"list", b"-49"]);
    assert!(reply == bulk(&element(151, 1024)));
    assert_eq!(pages, 1 + 1);
    fixture.store.evict_all(fixture.client);
    let (reply, pages) = fixture.fetched(&[b"LSET", b"list", b"151", &element(7, 1024)]);
    assert_eq!((reply.as_slice(), pages), (&b"+OK\r\n"[..], 1 + 1));
}

#[test]
fn a_push_to_a_cold_list_fetches_the_keys_page_alone() {
    for command in [&b"RPUSH"[..], b"LPUSH"] {
        let mut fixture = Fixture::cold_list();
        let (reply, pages) = fixture.fetched(&[command, b"list", b"x", b"y"]);
        assert_eq!((reply.as_slice(), pages), (&b":202\r\n"[..], 1));
        let (_, pages) = fixture.fetched(&[command, b"list", b"z"]);
        assert_eq!(pages, 0, "the new chunk is here");
    }
}

#[test]
fn what_near_memory_knows_costs_the_keys_page_alone() {
    for words in [
        &[&b"LLEN"[..], b"list"][..],
        &[b"TYPE", b"list"],
        &[b"EXPIRE", b"list", b"100"],
        &[b"LTRIM", b"list", b"20", b"170"],
        &[b"DEL", b"list"],
    ] {
        let mut fixture = Fixture::cold_list();
        let (_, pages) = fixture.fetched(words);
        assert_eq!(pages, 1, "{:?}", String::from_utf8_lossy(words[0]));
    }
}

#[test]
fn a_search_skips_chunks_whose_elements_have_another_length() {
    let mut fixture = Fixture::cold_list();
    let (reply, pages) = fixture.fetched(&[b"LPOS", b"list", b"no such length"]);
    assert_eq!((reply.as_slice(), pages), (&b"$-1\r\n"[..], 1));
}

#[test]
fn a_pop_fetches_the_popped_elements_pages() {
    let mut fixture = Fixture::cold_list();
    let (reply, pages) = fixture.fetched(&[b"LPOP", b"list"]);
    assert!(reply == bulk(&element(0, 1024)));
    assert_eq!(pages, 1 + 1);
    let (reply, pages) = fixture.fetched(&[b"RPOP", b"list"]);
    assert!(reply == bulk(&element(199, 1024)));
    // Element 4 of the chunk that begins at 195: bytes 4132 to 5165.
    assert_eq!(pages, 1);
}

#[test]
fn a_range_larger_than_local_memory_is_the_list_as_it_was() {
    let (count, len) = (6000, 1024);
    let mut fixture = Fixture::new(2 << 20);
    for number in 0..count {
        fixture.store.command(fixture.client, &[b"RPUSH", b"list", &element(number, len)]);
    }
    let expected = elements(0..count, len);
    let reader = fixture.store.connect();
    let now = fixture.store.now;
    fixture.store.engine.handle_input(reader, b"LRANGE list 0 -1\r\n", now);
    let mut reply = Vec::new();
    while reply.len() < 200_000 {
        reply.extend(fixture.store.drain(reader));
        fixture.store.turn();
    }
    assert!(reply.len() < expected.len(), "the list changes in the middle of the reply");
    let client = fixture.client;
    for number in (0..count).step_by(97) {
        let index = number.to_string();
        fixture.store.command(client, &[b"LSET", b"list", index.as_bytes(), &element(1, len)]);
    }
    fixture.store.ask(client, "LPOP list 10");
    fixture.store.ask(client, "LPUSH list new newer newest");
    fixture.store.ask(client, "RPOP list 10");
    fixture.store.ask(client, "RPUSH list new newer newest");
    fixture.store.ask(client, "LTRIM list 1000 2000");
    fixture.store.ask(client, "DEL list");
    reply.extend(fixture.store.raw(reader, b""));
    assert!(reply == expected, "{} bytes of {}", reply.len(), expected.len());
    assert_eq!(fixture.stat("far_used_bytes"), 0);
}

#[test]
fn short_lists_have_no_directory() {
    let mut fixture = Fixture::new(64 << 20);
    let before = fixture.stat("index_bytes");
    let count = 50_000;
    for number in 0..count {
        fixture.store.ask(fixture.client, &format!("RPUSH list:{number:09} one two three"));
    }
    let near = fixture.stat("index_bytes") - before;
    assert!(near <= 24 * count, "{near} bytes for {count} lists");
}

#[test]
fn a_list_on_a_full_far_memory_stays_as_it_was() {
    let mut store = Store::with(4 << 20, 256, Prefetch::Ahead, engine::Config::default());
    let client = store.connect();
    store.command(client, &[b"RPUSH", b"list", b"first", &element(1, 5000)]);
    let words: Vec<Vec<u8>> = (0..900).map(|number| element(number, 3000)).collect();
    let mut push: Vec<&[u8]> = vec![b"RPUSH", b"list"];
    push.extend(words.iter().map(Vec::as_slice));
    assert!(store.command(client, &push).starts_with(b"-OOM"));
    assert_eq!(store.ask(client, "LLEN list"), ":2\r\n");
    assert_eq!(store.ask(client, "LINDEX list 0"), "$5\r\nfirst\r\n");
    assert!(store.command(client, &[b"LINDEX", b"list", b"1"]) == bulk(&element(1, 5000)));
    assert!(store.command(client, &[b"RPUSH", b"new", &element(0, 3000)]) == b":1\r\n");
}
