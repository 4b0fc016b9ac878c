//! Golden counts: which pages a string command fetches, and in how many rounds.

mod support;

use engine::ClientId;
use farmem::{PAGE_SIZE, Prefetch};
use support::{Store, bulk, request};

/// Pages of the large value.
const PAGES: usize = 8;

struct Cold {
    store: Store,
    client: ClientId,
    value: Vec<u8>,
}

impl Cold {
    /// A store in which `big`, a value of eight pages less a few bytes, and `small` are cold.
    fn new() -> Cold {
        let mut store = Store::new(4 << 20, Prefetch::Ahead);
        let client = store.connect();
        let value: Vec<u8> = (0..PAGES * PAGE_SIZE - 100).map(|at| (at * 7 / 5) as u8).collect();
        store.command(client, &[b"SET", b"big", &value]);
        store.command(client, &[b"SET", b"small", b"10"]);
        let mut cold = Cold { store, client, value };
        cold.evict();
        cold
    }

    fn evict(&mut self) {
        self.store.evict_all(self.client);
    }

    fn stat(&mut self, field: &str) -> u64 {
        let stats = self.store.ask(self.client, "FARMEM STATS");
        let mut lines = stats.lines().skip_while(|line| *line != field);
        lines.nth(1).and_then(|line| line.strip_prefix(':')?.parse().ok()).expect("a field of FARMEM STATS")
    }

    /// Runs a command on a cold store: its reply, the pages it fetched, the rounds it took.
    fn cost(&mut self, words: &[&[u8]]) -> (Vec<u8>, u64, u64) {
        self.evict();
        let before = self.stat("pages_fetched");
        self.store.engine.handle_input(self.client, &request(words), self.store.now);
        let mut reply = self.store.drain(self.client);
        let mut rounds = 0;
        while reply.is_empty() {
            assert!(self.store.turn(), "nothing moves and there is no reply");
            rounds += 1;
            reply = self.store.drain(self.client);
        }
        while self.store.turn() {
            reply.extend(self.store.drain(self.client));
        }
        assert_eq!(self.stat("unplanned_faults"), 0, "every page was planned");
        (reply, self.stat("pages_fetched") - before, rounds)
    }
}

#[test]
fn a_get_fetches_the_value_and_its_keys_page_in_one_round() {
    let mut cold = Cold::new();
    let want = bulk(&cold.value);
    assert!(cold.cost(&[b"GET", b"big"]) == (want, PAGES as u64 + 1, 1));
    assert_eq!(cold.cost(&[b"GET", b"small"]), (bulk(b"10"), 1, 1));
}

#[test]
fn a_key_that_is_not_there_fetches_nothing() {
    let mut cold = Cold::new();
    for words in [["GET", "nobody"], ["STRLEN", "nobody"], ["GETDEL", "nobody"]] {
        assert_eq!(cold.cost(&words.map(str::as_bytes)).1, 0, "{words:?}");
    }
    assert_eq!(cold.cost(&[b"APPEND", b"new", b"x"]).1, 0);
    assert_eq!(cold.cost(&[b"SETRANGE", b"new2", b"100000", b"x"]).1, 0);
}

#[test]
fn to_overwrite_a_cold_value_fetches_at_most_its_keys_page() {
    let mut cold = Cold::new();
    let other = vec![b'x'; PAGES * PAGE_SIZE];
    assert_eq!(cold.cost(&[b"STRLEN", b"big"]).1, 1);
    assert_eq!(cold.cost(&[b"SET", b"big", &other]), (b"+OK\r\n".to_vec(), 1, 1));
    assert_eq!(cold.cost(&[b"SET", b"big", &other[..PAGE_SIZE]]), (b"+OK\r\n".to_vec(), 1, 1));
    assert_eq!(cold.cost(&[b"SET", b"big", b"now small"]), (b"+OK\r\n".to_vec(), 1, 1));
    assert_eq!(cold.cost(&[b"MSET", b"big", &other, b"small", &other]).1, 1, "both keys lie in one page");
    assert_eq!(cold.cost(&[b"SETNX", b"big", b"x"]), (b":0\r\n".to_vec(), 1, 1));
}

#[test]
fn a_range_fetches_its_pages_alone() {
    let mut cold = Cold::new();
    let value = cold.value.clone();
    let len = value.len();
    let page = PAGE_SIZE as i64;
    // Start, end, pages of the value, rounds: what counts from the end waits for the length.
    let ranges = [
        (0, 0, 1, 1),
        (0, page - 1, 1, 1),
        (page - 1, page, 2, 1),
        (page * 3, page * 6, 4, 1),
        (page * 7, -1, 1, 1),
        (-1, -1, 1, 2),
        (-page, -1, 2, 2),
        (10, -(len as i64) + 20, 1, 2),
        (len as i64, -1, 1, 1),
        (page * 8, page * 9, 0, 1),
    ];
    for (start, end, pages, rounds) in ranges {
        let (reply, fetched, took) =
            cold.cost(&[b"GETRANGE", b"big", start.to_string().as_bytes(), end.to_string().as_bytes()]);
        let from = |index: i64| if index < 0 { (index + len as i64) as usize } else { index as usize };
        let want = value.get(from(start)..(from(end) + 1).min(len)).unwrap_or_default();
        assert!(reply == bulk(want), "{start} {end}");
        assert_eq!((fetched, took), (pages + 1, rounds), "{start} {end}");
    }
}

#[test]
fn a_setrange_fetches_the_pages_that_keep_old_bytes() {
    let mut cold = Cold::new();
    let page = PAGE_SIZE;
    // Offset, length, pages of the value that are fetched.
    let writes = [
        (10, 5, 1),
        (0, page, 0),
        (page, 2 * page, 0),
        (page + 1, page, 2),
        (page + 1, 3 * page, 2),
        (page, page + 1, 1),
        (7 * page, page - 100, 0),
        (7 * page, page - 101, 1),
    ];
    for (offset, len, pages) in writes {
        let data = vec![b'w'; len];
        let (reply, fetched, _) = cold.cost(&[b"SETRANGE", b"big", offset.to_string().as_bytes(), &data]);
        assert_eq!(reply, format!(":{}\r\n", cold.value.len()).into_bytes());
        assert_eq!(fetched, pages + 1, "SETRANGE {offset} of {len} bytes");
        cold.value[offset..offset + len].copy_from_slice(&data);
    }
    let (client, want) = (cold.client, bulk(&cold.value));
    assert!(cold.store.command(client, &[b"GET", b"big"]) == want);
}

#[test]
fn an_append_fetches_the_last_page_alone() {
    let mut cold = Cold::new();
    assert_eq!(cold.cost(&[b"APPEND", b"big", b"tail"]).1, 2);
    let (_, fetched, rounds) = cold.cost(&[b"APPEND", b"big", &[b'x'; 3 * PAGE_SIZE]]);
    assert_eq!((fetched, rounds), (2, 1), "it grows where it lies");
    assert_eq!(cold.cost(&[b"APPEND", b"big", b"again"]), (b":44965\r\n".to_vec(), 2, 1));
    let want = [&cold.value[..], b"tail", &[b'x'; 3 * PAGE_SIZE], b"again"].concat();
    let client = cold.client;
    assert!(cold.store.command(client, &[b"GET", b"big"]) == bulk(&want));
}

#[test]
fn an_mget_of_more_than_local_memory_waits_for_its_keys_and_streams_the_rest() {
    let mut store = Store::new(1 << 20, Prefetch::Ahead);
    let client = store.connect();
    let names: Vec<String> = (0..300).map(|key| format!("k{key}")).collect();
    let sizes = [10, 4090, 9000];
    let value = |key: usize| vec![key as u8; sizes[key % 3]];
    for (key, name) in names.iter().enumerate() {
        store.command(client, &[b"SET", name.as_bytes(), &value(key)]);
    }
    store.evict_all(client);
    let words: Vec<&[u8]> =
        [&b"MGET"[..]].into_iter().chain(names.iter().map(|name| name.as_bytes())).collect();
    let got = store.command(client, &words);
    let want: Vec<u8> = (0..300).flat_map(|key| bulk(&value(key))).collect();
    assert!(got == [b"*300\r\n", &want[..]].concat());
    let stats = store.ask(client, "FARMEM STATS");
    assert!(stats.contains("unplanned_faults\r\n:0\r\n"), "{stats}");
}

#[test]
fn a_gap_costs_neither_frames_nor_far_pages_that_move() {
    let mut cold = Cold::new();
    let client = cold.client;
    assert_eq!(cold.store.ask(client, "SETRANGE gap 500000000 x"), ":500000001\r\n");
    assert!(cold.stat("frames_dirty") < 8);
    assert_eq!(cold.store.ask(client, "GETRANGE gap 499999990 -1"), "$11\r\n\0\0\0\0\0\0\0\0\0\0x\r\n");
    assert_eq!(cold.store.ask(client, "STRLEN gap"), ":500000001\r\n");
}

#[test]
fn many_appends_cost_time_in_proportion_to_their_bytes() {
    let mut store = Store::new(8 << 20, Prefetch::Ahead);
    let client = store.connect();
    let piece = vec![b'p'; 1000];
    for round in 1..=4000u64 {
        // A neighbour that stands in the way of growing in place, now and then.
        if round % 100 == 0 {
            store.command(client, &[b"SET", format!("other{round}").as_bytes(), &[b'o'; 5000]]);
        }
        let want = format!(":{}\r\n", round * 1000).into_bytes();
        assert_eq!(store.command(client, &[b"APPEND", b"k", &piece]), want);
    }
    assert_eq!(store.ask(client, "GETRANGE k 3999998 -1"), "$2\r\npp\r\n");
}

#[test]
fn a_full_far_memory_changes_nothing() {
    let mut store = Store::with(1 << 20, 64, Prefetch::Ahead, engine::Config::default());
    let client = store.connect();
    let large = vec![b'x'; 30 * PAGE_SIZE];
    store.command(client, &[b"SET", b"a", b"old"]);
    store.command(client, &[b"SET", b"b", &large]);
    let oom = b"-OOM command not allowed when used memory > 'maxmemory'.\r\n".to_vec();
    assert_eq!(
        store.command(client, &[b"MSET", b"a", b"new", b"c", &large[..100], b"d", &large, b"e", &large]),
        oom
    );
    assert_eq!(store.command(client, &[b"SET", b"b", &[b'y'; 40 * PAGE_SIZE]]), oom);
    assert_eq!(store.ask(client, "SETRANGE a 300000 x").into_bytes(), oom);
    assert_eq!(store.ask(client, "MGET a c d e"), "*4\r\n$3\r\nold\r\n$-1\r\n$-1\r\n$-1\r\n");
    assert!(store.command(client, &[b"GET", b"b"]) == bulk(&large));
    assert_eq!(store.command(client, &[b"MSET", b"a", b"new", b"c", &large]), b"+OK\r\n");
}

#[test]
fn a_large_argument_without_room_is_read_to_its_end_and_its_command_answered() {
    let mut store = Store::with(1 << 20, 128, Prefetch::Ahead, engine::Config::default());
    let client = store.connect();
    let (fits, too_large) = (vec![b'f'; 300_000], vec![b't'; 600_000]);
    let oom = b"-OOM command not allowed when used memory > 'maxmemory'.\r\n".to_vec();
    for _ in 0..3 {
        assert_eq!(store.command(client, &[b"SET", b"a", &too_large]), oom);
        // Of several arguments one has room: it is given back.
        assert_eq!(store.command(client, &[b"MSET", b"a", &fits, b"b", &too_large, b"c", &fits]), oom);
        assert_eq!(store.command(client, &[b"RPUSH", b"l", b"small", &too_large, b"small"]), oom);
        assert_eq!(store.ask(client, "EXISTS a b c l"), ":0\r\n");
    }
    assert_eq!(store.command(client, &[b"SET", b"a", &fits]), b"+OK\r\n");
    assert!(store.command(client, &[b"GET", b"a"]) == bulk(&fits));
    let gone = store.connect();
    let half = &request(&[b"SET", b"b", &too_large])[..400_000];
    store.engine.handle_input(gone, half, store.now);
    store.engine.handle_disconnected(gone);
    assert_eq!(store.ask(client, "FLUSHALL"), "+OK\r\n");
    assert_eq!(store.farmem(client, "far_used_bytes"), 0);
}
