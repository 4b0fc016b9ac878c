//! Golden counts: exactly the pages that a command needs, and what whole workloads move. No clock is in it,
//! so a change of these numbers is a change of behaviour: look at it, and write the new ones down.
//!
//! String commands have their counts in `server/engine/tests/string_pages.rs`.

#[path = "../../server/engine/tests/support/mod.rs"]
mod support;

use engine::{ClientId, Config, Engine, Now};
use farmem::{Instant, PAGE_SIZE, Prefetch, SoftPager};
use support::{MapLink, Store, leak_frames, request};
use tests::simulation::rng::Rng;

/// Far memory of a golden store: 256 MiB.
const FAR_PAGES: u32 = 64 << 10;

/// A store whose frames are so many whatever near memory takes, so that the counts do not depend on that.
struct Golden {
    store: Store,
    client: ClientId,
}

impl Golden {
    fn new(frames: u32, prefetch: Prefetch) -> Golden {
        // Room beside the frames for everything near; the arena is what limits them.
        let local_memory = u64::from(frames) * PAGE_SIZE as u64 + (8 << 20);
        let config = Config { local_memory, prefetch, ..Config::default() };
        let link = MapLink::default();
        let door = Some(Box::new(link.clone()) as Box<_>);
        let pager = SoftPager::new(leak_frames(frames as usize), frames, FAR_PAGES, prefetch, door);
        let now = Now { monotonic: Instant(1), unix_ms: 1_700_000_000_000, unix_us_rest: 0 };
        let engine = Engine::new(config, Box::new(pager), FAR_PAGES, 0x5eed, now);
        let mut store = Store { engine, link, now };
        let client = store.connect();
        Golden { store, client }
    }

    fn run(&mut self, words: &[&[u8]]) -> Vec<u8> {
        let reply = self.store.command(self.client, words);
        assert_ne!(reply[0], b'-', "{}", String::from_utf8_lossy(&reply));
        reply
    }

    fn line(&mut self, line: &str) -> Vec<u8> {
        let words: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
        self.run(&words)
    }

    fn stat(&mut self, name: &str) -> u64 {
        let stats = self.store.ask(self.client, "FARMEM STATS");
        let mut lines = stats.lines().skip_while(|line| *line != name);
        lines.nth(1).and_then(|line| line.strip_prefix(':')?.parse().ok()).expect("a field of FARMEM STATS")
    }

    /// Pages that a command fetches when everything is cold, and the rounds that it takes.
    fn cost(&mut self, line: &str) -> (u64, u64) {
        self.store.evict_all(self.client);
        let words: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
        let before = self.stat("pages_fetched");
        self.store.engine.handle_input(self.client, &request(&words), self.store.now);
        let (mut reply, mut rounds) = (self.store.drain(self.client), 0);
        while reply.is_empty() {
            assert!(self.store.turn(), "nothing moves and {line} is not answered");
            rounds += 1;
            reply = self.store.drain(self.client);
        }
        while self.store.turn() {
            self.store.drain(self.client);
        }
        assert_ne!(reply[0], b'-', "{line}: {}", String::from_utf8_lossy(&reply));
        assert_eq!(self.stat("unplanned_faults"), 0, "{line}");
        (self.stat("pages_fetched") - before, rounds)
    }
}

/// A list of `count` elements of `len` bytes.
fn fill_list(golden: &mut Golden, key: &str, count: usize, len: usize) {
    let mut rng = Rng::new(count as u64);
    for _ in 0..count {
        golden.run(&[b"RPUSH", key.as_bytes(), &rng.bytes(len)]);
    }
}

#[test]
fn a_range_of_a_cold_list_fetches_the_chunks_that_cover_it_and_no_other() {
    let mut golden = Golden::new(2048, Prefetch::Ahead);
    fill_list(&mut golden, "list", 600, 1024);
    // Elements of 1033 bytes on the wire, 15 to a chunk of four pages; the key's page comes on top.
    let ranges = [
        ("LRANGE list 0 0", 1),
        ("LRANGE list 0 2", 1),
        ("LRANGE list 0 99", 6 * 4 + 3),
        ("LRANGE list 300 349", 3 * 4 + 2),
        ("LRANGE list -100 -1", 3 + 6 * 4),
        ("LRANGE list 599 599", 1),
        ("LRANGE list 0 599", 40 * 4),
        ("LRANGE list 700 800", 0),
        ("LINDEX list 0", 1),
        ("LINDEX list 301", 1),
        ("LINDEX list -1", 1),
    ];
    for (line, pages) in ranges {
        assert_eq!(golden.cost(line), (pages + 1, 1), "{line}");
    }
}

#[test]
fn what_needs_no_value_fetches_at_most_the_keys_page() {
    let mut golden = Golden::new(2048, Prefetch::Ahead);
    let value = Rng::new(1).bytes(50_000);
    fill_list(&mut golden, "list", 600, 1024);
    golden.run(&[b"SET", b"text", &value]);
    for command in ["EXISTS", "TTL", "PTTL", "TYPE", "TOUCH", "PERSIST"] {
        for key in ["text", "list"] {
            assert_eq!(golden.cost(&format!("{command} {key}")), (1, 1), "{command} {key}");
        }
    }
    for line in ["STRLEN text", "LLEN list", "EXPIRE text 1000", "PEXPIRE list 1000000"] {
        assert_eq!(golden.cost(line), (1, 1), "{line}");
    }
    for line in
        ["LPUSH list a", "RPUSH list a b", "SET text short", "DEL list", "SET text other", "UNLINK text"]
    {
        assert!(golden.cost(line).0 <= 1, "{line}");
    }
    let nothing = ["DBSIZE", "PING", "GET nobody", "LRANGE nobody 0 -1", "DEL nobody", "EXISTS nobody"];
    for line in nothing {
        assert_eq!(golden.cost(line), (0, 0), "{line}");
    }
}

#[test]
fn deleting_and_overwriting_a_cold_value_moves_no_page_of_it() {
    let mut golden = Golden::new(2048, Prefetch::Ahead);
    let value = Rng::new(2).bytes(100_000);
    golden.run(&[b"SET", b"text", &value]);
    fill_list(&mut golden, "list", 600, 1024);
    golden.store.evict_all(golden.client);
    let written_back = golden.stat("pages_written_back");
    golden.line("DEL list");
    golden.line("SET text now-short");
    golden.line("FLUSHALL");
    while golden.store.turn() {}
    assert_eq!(golden.stat("pages_fetched"), 1, "the page of both keys");
    assert_eq!(golden.stat("pages_written_back"), written_back);
    assert_eq!(golden.stat("far_used_bytes"), 0);
}

/// Pages in all of the data of a workload: 16 MiB.
const DATA_PAGES: usize = 4096;
/// One eighth of the data is in frames.
const FRAMES: u32 = DATA_PAGES as u32 / 8;
/// Commands that are counted.
const COUNTED: usize = 1000;

const POLICIES: [(&str, Prefetch); 4] = [
    ("ahead", Prefetch::Ahead),
    ("guided", Prefetch::Guided),
    ("sequential", Prefetch::Sequential),
    ("none", Prefetch::None),
];

/// Small versions of the workloads that the benchmark runs.
const WORKLOADS: [&str; 9] = [
    "get_4k",
    "get_64k",
    "get_mixed",
    "lrange_100",
    "lrange_all",
    "lrange_mid",
    "sg",
    "zipf_small",
    "push_pop",
];

/// Pages fetched, evicted and written back by a thousand commands after the loading, with one eighth of the
/// data in frames. In `sg` objects are gathered: a thousand reads pay for it, and the 16,000 after them gain.
const SNAPSHOT: &str = "
get_4k     ahead          955    955      0
get_4k     guided         955    955      0
get_4k     sequential     956    956      0
get_4k     none           955    955      0
get_64k    ahead        14152  14152      0
get_64k    guided       14152  14152      0
get_64k    sequential   14179  14179      0
get_64k    none         14152  14152      0
get_mixed  ahead         9728   9728      0
get_mixed  guided        9728   9728      0
get_mixed  sequential   12050  12050      0
get_mixed  none          9728   9728      0
lrange_100 ahead        20892  20892      0
lrange_100 guided       21281  21281      0
lrange_100 sequential   37835  37835      0
lrange_100 none         21281  21281      0
lrange_all ahead        44807  44807      0
lrange_all guided       45433  45433      0
lrange_all sequential   84438  84438      0
lrange_all none         45433  45433      0
lrange_mid ahead        12711  12711      0
lrange_mid guided       13094  13094      0
lrange_mid sequential   24859  24859      0
lrange_mid none         13094  13094      0
sg         ahead          242    247     12
sg         guided         237    246     11
sg         sequential     243    252     11
sg         none           237    246     11
zipf_small ahead          503    503     25
zipf_small guided         503    503     25
zipf_small sequential     504    504     25
zipf_small none           503    503     25
push_pop   ahead            0    104    136
push_pop   guided           0    104    136
push_pop   sequential       0    104    136
push_pop   none             0    104    136
";

#[test]
fn workloads_move_as_many_pages_as_they_did() {
    let mut table = String::from("\n");
    for workload in WORKLOADS {
        for (name, policy) in POLICIES {
            let mut golden = Golden::new(FRAMES, policy);
            let mut rng = Rng::new(0x90_1d);
            let keys = load(&mut golden, workload, &mut rng);
            let before = moved(&mut golden);
            for _ in 0..COUNTED {
                measure(&mut golden, workload, keys, &mut rng);
            }
            let after = moved(&mut golden);
            let counts: Vec<String> =
                after.iter().zip(before).map(|(after, before)| format!("{:>7}", after - before)).collect();
            table.push_str(&format!("{workload:<10} {name:<10} {}\n", counts.concat()));
            assert!(policy != Prefetch::Ahead || golden.stat("unplanned_faults") == 0, "{workload}");
        }
    }
    assert!(table == SNAPSHOT, "the table is now:{table}");
}

/// Pages fetched, evicted, written back.
fn moved(golden: &mut Golden) -> [u64; 3] {
    ["pages_fetched", "pages_evicted", "pages_written_back"].map(|name| golden.stat(name))
}

/// Fills the store; answers how many keys there are.
fn load(golden: &mut Golden, workload: &str, rng: &mut Rng) -> usize {
    let bytes = DATA_PAGES * PAGE_SIZE;
    let set = |golden: &mut Golden, number: usize, value: &[u8]| {
        golden.run(&[b"SET", key(number).as_bytes(), value]);
    };
    match workload {
        "get_4k" => fill(bytes / 4096, |number| set(golden, number, &rng.bytes(4096))),
        "get_64k" => fill(bytes / 65_536, |number| set(golden, number, &rng.bytes(65_536))),
        "get_mixed" => {
            // Six sizes in equal numbers, 42 KiB on the average.
            fill(bytes / 43_008, |number| set(golden, number, &rng.bytes(4096 << (number % 6))))
        }
        "zipf_small" => fill(bytes / 512, |number| {
            let len = rng.between(100, 500) as usize;
            set(golden, number, &rng.bytes(len));
        }),
        "sg" => {
            let keys = fill(bytes / 256, |number| set(golden, number, &rng.bytes(128)));
            for number in 0..keys {
                if rng.per_mille(730) {
                    golden.run(&[b"DEL", key(number).as_bytes()]);
                }
            }
            keys
        }
        _ => {
            // Elements of 1 KiB on random lists, 200 a list.
            let keys = bytes / (200 * 1365);
            for _ in 0..keys * 200 {
                golden.run(&[b"RPUSH", key(rng.below(keys)).as_bytes(), &rng.bytes(1024)]);
            }
            keys
        }
    }
}

fn fill(keys: usize, each: impl FnMut(usize)) -> usize {
    (0..keys).for_each(each);
    keys
}

/// One command.
fn measure(golden: &mut Golden, workload: &str, keys: usize, rng: &mut Rng) {
    let name = key(rng.below(keys));
    match workload {
        "lrange_100" => golden.line(&format!("LRANGE {name} 0 99")),
        "lrange_all" => golden.line(&format!("LRANGE {name} 0 599")),
        "lrange_mid" => {
            let start = rng.below(150);
            golden.line(&format!("LRANGE {name} {start} {}", start + 49))
        }
        "push_pop" if rng.one_in(2) => golden.line(&format!("RPOP {name}")),
        "push_pop" => golden.run(&[b"LPUSH", name.as_bytes(), &rng.bytes(1024)]),
        "zipf_small" => {
            let name = key(zipf(keys, rng));
            if rng.one_in(20) {
                let len = rng.between(100, 500) as usize;
                golden.run(&[b"SET", name.as_bytes(), &rng.bytes(len)])
            } else {
                golden.line(&format!("GET {name}"))
            }
        }
        _ => golden.line(&format!("GET {name}")),
    };
}

fn key(number: usize) -> String {
    format!("key:{number:012}")
}

/// A rank below `count` that is the rarer the higher it is, spread over the keys.
///
/// Source: Gray et al., "Quickly generating billion-record synthetic databases", with an exponent of 1 in
/// place of 0.99, for which the inverse is an exponential.
fn zipf(count: usize, rng: &mut Rng) -> usize {
    let share = rng.below(1 << 24) as f64 / f64::from(1 << 24);
    let rank = (count as f64).powf(share) as usize;
    rank.wrapping_mul(2_654_435_761) % count
}
