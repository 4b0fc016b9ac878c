//! What is tried in the guest of `tests/rdma`, over real verbs: `rdma_guest ADDRESS SECRET-FILE`.
//!
//! ```text
//!   contract ─► counts, system calls too ─► peers that are wrong ─► NBD beside RDMA ─► a disk of remora-vhost
//!            ─► load in four policies ─► kill -9, two copies ─► restart
//! ```
//!
//! Each thing ends in a line PASS or FAIL. Takes the programs from REMORA_SERVER, REMORA_MEMNODE and REMORA_VHOST. With
//! `--fetch` it is the process whose system calls are counted. Refuses to say anything about times.

use farmem::{Frame, FrameNo, Link, PAGE_SIZE, PageNo, Transfer, TransferKind};
use farmem_link::nbd::{NbdLink, NbdUri};
use farmem_link::rdma::{RdmaLink, RdmaUri};
use farmem_link::{Arena, Door, FarUri, LinkSet, monotonic_now};
use std::io::Write;
use std::net::TcpListener;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::{Duration, Instant};
use tests::link_contract::{CLAUSES, Rig};
use tests::nodes::{Listen, Node};
use tests::redis::{Redis, Reply, Server};
use tests::vhost_guest::{DATA_PAGES, REQUEST_PAGES_MAX, VhostGuest};

/// Values of the load, and their length: 12 MB.
const VALUES: u32 = 400;
const VALUE_BYTES: usize = 30_000;
/// Lists, their elements, and the length of one: 4 MB. With the values 16 MB, of which an eighth is local.
const LISTS: u32 = 8;
const ELEMENTS: u32 = 500;
const ELEMENT_BYTES: usize = 1000;
const LOCAL: &str = "2mb";
/// Pages of the chain that is counted.
const CHAIN: u32 = 32;
/// Batches whose system calls are counted.
const FETCHES: u64 = 50;
/// Files that are not there: to look for them marks a place among the system calls.
const MARKS: [&str; 3] = ["/mark/held", "/mark/running", "/mark/end"];
/// Where strace writes.
const TRACE: &str = "/tmp/trace";
/// Pages of the disk that are moved.
const DISK_PAGES: u32 = 600;
/// How long anything may take to come right.
const PATIENCE: Duration = Duration::from_secs(60);

struct Guest {
    address: String,
    secret: String,
}

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let (is_traced, address, secret) = match words.as_slice() {
        [address, secret] => (false, address, secret),
        [option, address, secret] if option == "--fetch" => (true, address, secret),
        _ => {
            eprintln!("usage: rdma_guest [--fetch] ADDRESS SECRET-FILE");
            std::process::exit(2);
        }
    };
    let guest = Guest { address: address.clone(), secret: secret.clone() };
    if is_traced {
        return guest.fetch_between_marks();
    }
    for (name, clause) in CLAUSES {
        attempt(&format!("contract: {name}"), || {
            let _node = guest.node("c", 10810, "20mb");
            let uris = [parse(&guest.uri(10810, "60s"))];
            clause(&mut Rig::new(&mut LinkSet::open(&uris, 1).expect("far memory can be had")));
        });
    }
    attempt("a batch is one doorbell and one completion", || guest.counts());
    attempt("while pages are in flight there is no system call but the doorbell's", || guest.system_calls());
    attempt("peers that are wrong are told so in time", || guest.wrong_peers());
    attempt("what is written over RDMA is read over NBD, and a trim there gives nothing back", || {
        guest.beside_nbd();
    });
    attempt(
        "a disk's pages go straight between the node and the memory of one guest after the other",
        || {
            guest.disk();
        },
    );
    for policy in ["ahead", "guided", "sequential", "none"] {
        attempt(&format!("an eighth local, {policy}: every value is right"), || guest.load(policy));
    }
    attempt("two copies: kill -9 of a node loses nothing, and it is whole again", || guest.kill_one_of_two());
    attempt("one copy: a node that is started again is used again", || guest.restart_the_only_one());
}

fn attempt(name: &str, run: impl FnOnce()) {
    let since = Instant::now();
    let ended = catch_unwind(AssertUnwindSafe(run));
    let word = if ended.is_ok() { "PASS" } else { "FAIL" };
    println!("{word}: {name} ({} ms)", since.elapsed().as_millis());
}

fn parse(uri: &str) -> FarUri {
    uri.parse().expect("it is a URI")
}

/// A counter of the software device: packets.
fn packets(name: &str) -> u64 {
    let file = format!("/sys/class/infiniband/rxe0/ports/1/hw_counters/{name}");
    let text = std::fs::read_to_string(file).expect("the device counts packets");
    text.trim().parse().expect("it is a number")
}

fn value(number: u32, version: u32, len: usize) -> Vec<u8> {
    let mut state = u64::from(number) << 32 | u64::from(version) | 1 << 60;
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}

impl Guest {
    fn node(&self, name: &str, port: u16, size: &str) -> Node {
        let at = format!("{}:{port}", self.address);
        let options = ["--rdma", &at, "--secret-file", &self.secret];
        Node::memnode_with(size, Listen::Unix(Path::new("/tmp").join(name)), &options)
    }

    fn uri(&self, port: u16, timeout: &str) -> String {
        format!("rdma://{}:{port}/?secret-file={}&timeout={timeout}", self.address, self.secret)
    }

    fn rdma_uri(&self, more: &str) -> RdmaUri {
        match parse(&format!("{}{more}", self.uri(10810, "5s"))) {
            FarUri::Rdma(uri) => uri,
            other => panic!("{other} is no RDMA"),
        }
    }

    /// Doorbells, completions and packets of one batch each way.
    fn counts(&self) {
        let _node = self.node("c", 10810, "20mb");
        let mut link = RdmaLink::open(&self.rdma_uri("")).expect("the node is there");
        let frames = Arena::reserve(2 * CHAIN as usize * PAGE_SIZE).expect("memory is there").frames();
        let of = |kind, n| Transfer { kind, page: PageNo(n), count: 1, frame: FrameNo(n) };
        for kind in [TransferKind::WriteBack, TransferKind::FetchNeeded] {
            let batch: Vec<Transfer> = (0..CHAIN).map(|n| of(kind, n)).collect();
            let (before, sent) = (link.counts(), packets("sent_pkts"));
            move_all(&mut link, &batch, frames);
            let after = link.counts();
            assert_eq!(after.doorbells - before.doorbells, 1, "doorbells");
            assert_eq!(after.completions - before.completions, 1, "completions");
            assert_eq!(after.requests - before.requests, u64::from(CHAIN), "requests");
            assert_eq!(after.bytes - before.bytes, u64::from(CHAIN) * PAGE_SIZE as u64, "bytes");
            println!(
                "{kind:?} of {CHAIN} pages: 1 doorbell, 1 completion, {} packets, {} bytes wanted",
                packets("sent_pkts") - sent,
                after.bytes - before.bytes
            );
        }
    }

    /// What is traced: batches of one chain while the clock stands still; then batches that may be slept for.
    fn fetch_between_marks(&self) {
        let mut link = RdmaLink::open(&self.rdma_uri("")).expect("the node is there");
        let frames = Arena::reserve(2 * CHAIN as usize * PAGE_SIZE).expect("memory is there").frames();
        let of = |kind, n| Transfer { kind, page: PageNo(n), count: 1, frame: FrameNo(n) };
        let all = |kind| (0..CHAIN).map(|n| of(kind, n)).collect::<Vec<Transfer>>();
        move_all(&mut link, &all(TransferKind::WriteBack), frames);
        let batch = all(TransferKind::FetchNeeded);
        let mut landed = Vec::with_capacity(batch.len());
        let now = monotonic_now();
        // It is no later than it was, so nobody goes to sleep, however slow a device of software is.
        let mut fetch = |link: &mut RdmaLink, frames: &mut [Frame]| {
            link.submit(&batch, frames, now);
            while link.in_flight() > 0 {
                link.poll_landed(frames, now, &mut landed);
            }
            landed.clear();
        };
        // The first one looks whether the node has hung up.
        fetch(&mut link, frames);
        let before = link.counts();
        mark(0);
        for _ in 0..FETCHES {
            fetch(&mut link, frames);
        }
        mark(1);
        let between = link.counts();
        for _ in 0..FETCHES {
            move_all(&mut link, &batch, frames);
        }
        mark(2);
        let after = link.counts();
        println!("doorbells {} arms {}", between.doorbells - before.doorbells, between.arms - before.arms);
        println!("doorbells {} arms {}", after.doorbells - between.doorbells, after.arms - between.arms);
    }

    /// Runs that under strace, and counts.
    fn system_calls(&self) {
        let _node = self.node("c", 10810, "20mb");
        let own = std::env::current_exe().expect("it has a path");
        let output = std::process::Command::new("strace")
            .args(["-f", "-o", TRACE])
            .arg(own)
            .args(["--fetch", &self.address, &self.secret])
            .output()
            .expect("strace is there");
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
        let trace = std::fs::read_to_string(TRACE).expect("strace has written");
        let mut counts = [std::collections::BTreeMap::new(), std::collections::BTreeMap::new()];
        let mut part = None;
        for line in trace.lines() {
            if let Some(mark) = MARKS.iter().position(|mark| line.contains(mark)) {
                part = Some(mark);
            } else if let Some(counts) = part.and_then(|part| counts.get_mut(part)) {
                let (_, call) = line.split_once(' ').expect("a line begins with the thread");
                let name = call.trim_start().split('(').next().unwrap_or_default();
                *counts.entry(name.to_owned()).or_insert(0_u64) += 1;
            }
        }
        assert_eq!(part, Some(2), "not all marks are in the trace");
        println!(
            "FetchNeeded: {FETCHES} batches of {CHAIN} pages, looked for: {:?}; {}",
            counts[0],
            said.trim()
        );
        let said: Vec<&str> = said.lines().collect();
        println!("FetchNeeded: {FETCHES} batches of {CHAIN} pages, clock held: {:?}, {}", counts[0], said[0]);
        println!(
            "FetchNeeded: {FETCHES} batches of {CHAIN} pages, clock running: {:?}, {}",
            counts[1], said[1]
        );
        // The software device's doorbell is a call into the kernel; a card's is a store.
        let all: u64 = counts[0].values().sum();
        assert_eq!(
            (all, counts[0].len()),
            (FETCHES, 1),
            "more than the doorbell's call a batch: {:?}",
            counts[0]
        );
        assert_eq!(said[0], format!("doorbells {FETCHES} arms 0"));
    }

    /// What one guest has written another one reads, each in memory of its own, and over NBD it is there too.
    fn disk(&self) {
        let _node = self.node("c", 10810, "20mb");
        let socket = Path::new("/tmp/disk");
        let _backend = Node::vhost(&self.uri(10810, "60s"), socket, &[]);
        let content = |page: u32, version| value(page, version, PAGE_SIZE);
        let spread = |page: u32| page * 7 % DATA_PAGES;
        let each = |guest: &mut VhostGuest, is_write: bool, shift: u32| {
            for first in (0..DISK_PAGES).step_by(REQUEST_PAGES_MAX) {
                let pages = first..(first + REQUEST_PAGES_MAX as u32).min(DISK_PAGES);
                let pages: Vec<u32> = pages.map(|page| spread(page + shift)).collect();
                let status = if is_write { guest.write(first, &pages) } else { guest.read(first, &pages) };
                assert_eq!(status, 0, "a request from page {first} on has failed");
            }
        };
        let is_there = |guest: &VhostGuest, shift: u32, version: u32| {
            for page in 0..DISK_PAGES {
                assert!(guest.page(spread(page + shift)) == content(page, version), "page {page} is wrong");
            }
        };
        let mut guest = VhostGuest::connect(socket);
        for version in [1, 2] {
            (0..DISK_PAGES).for_each(|page| guest.fill(spread(page), &content(page, version)));
            each(&mut guest, true, 0);
            each(&mut guest, false, 100);
            is_there(&guest, 100, version);
            guest.change_memory();
            each(&mut guest, false, 0);
            is_there(&guest, 0, version);
            drop(guest);
            guest = VhostGuest::connect(socket);
            each(&mut guest, false, 33);
            is_there(&guest, 33, version);
        }
        let frames = Arena::reserve(PAGE_SIZE).expect("memory is there").frames();
        let mut over_nbd = NbdLink::open(&NbdUri::unix("/tmp/c", "")).expect("the node is there");
        let of =
            |n| Transfer { kind: TransferKind::FetchNeeded, page: PageNo(n), count: 1, frame: FrameNo(0) };
        for page in [0, 1, DISK_PAGES - 1] {
            move_all(&mut over_nbd, &[of(page)], frames);
            assert!(frames[0].0[..] == content(page, 2)[..], "page {page} is not on the node");
        }
    }

    fn wrong_peers(&self) {
        let refused = |uri: &RdmaUri, words: &str| {
            let since = Instant::now();
            let error = RdmaLink::open(uri).err().expect("it is refused").to_string();
            assert!(error.contains(words) && !error.contains('\n'), "{error}");
            assert!(since.elapsed() < Duration::from_secs(10), "it took {:?}", since.elapsed());
        };
        let _node = self.node("c", 10810, "20mb");
        std::fs::write("/tmp/wrong", "another secret altogether").expect("/tmp can be written");
        let wrong = RdmaUri { secret_file: "/tmp/wrong".into(), ..self.rdma_uri("") };
        refused(&wrong, "the secrets are not the same");
        refused(&RdmaUri { export: "nowhere".into(), ..self.rdma_uri("") }, "no such export");
        refused(&self.rdma_uri("&size=1gb"), "the export has only");
        refused(&self.rdma_uri("&gid=10.99.0.1"), "no RDMA GID fits");
        refused(&RdmaUri { port: 9, ..self.rdma_uri("") }, "cannot connect");
        let mute = TcpListener::bind((self.address.as_str(), 0)).expect("a port is free");
        let port = mute.local_addr().expect("it is bound").port();
        let quick = RdmaUri { timeout_ns: 300_000_000, port, ..self.rdma_uri("") };
        refused(&quick, "no answer in time");
        let speak = |words: &'static [u8]| {
            let mute = mute.try_clone().expect("a socket can be cloned");
            std::thread::spawn(move || {
                // Connections that were given up come first.
                for stream in mute.incoming().flatten().take(2) {
                    let mut stream = stream;
                    // Whoever has gone hears nothing.
                    let _ = stream.write_all(words);
                }
            })
        };
        let mut other = Box::new([0_u8; 44]);
        other[..12].copy_from_slice(b"REMORDMA\0\0\0\x07");
        let thread = speak(Box::leak(other));
        refused(&RdmaUri { timeout_ns: 2_000_000_000, ..quick }, "speaks version 7");
        thread.join().expect("it has spoken");
    }

    fn beside_nbd(&self) {
        let _node = self.node("c", 10810, "20mb");
        let frames = Arena::reserve(4 * PAGE_SIZE).expect("memory is there").frames();
        let mut over_rdma = RdmaLink::open(&self.rdma_uri("")).expect("the node is there");
        let mut over_nbd = NbdLink::open(&NbdUri::unix("/tmp/c", "")).expect("the node is there");
        let of = |kind, frame| Transfer { kind, page: PageNo(5), count: 1, frame: FrameNo(frame) };
        frames[0].0.fill(7);
        move_all(&mut over_rdma, &[of(TransferKind::WriteBack, 0)], frames);
        move_all(&mut over_nbd, &[of(TransferKind::FetchNeeded, 1)], frames);
        assert!(frames[1].0 == [7; PAGE_SIZE], "what RDMA has written is not there for NBD");
        frames[2].0.fill(9);
        move_all(&mut over_nbd, &[of(TransferKind::WriteBack, 2)], frames);
        move_all(&mut over_rdma, &[of(TransferKind::FetchNeeded, 1)], frames);
        assert!(frames[1].0 == [9; PAGE_SIZE], "what NBD has written is not there for RDMA");
        over_nbd.submit(&[of(TransferKind::Trim, 0)], frames, monotonic_now());
        while over_nbd.is_trimming() {
            over_nbd.poll_landed(frames, monotonic_now(), &mut Vec::new());
        }
        // Had the trim given the page back, this would go to a page that NBD does not see any more.
        frames[0].0.fill(3);
        move_all(&mut over_rdma, &[of(TransferKind::WriteBack, 0)], frames);
        move_all(&mut over_nbd, &[of(TransferKind::FetchNeeded, 3)], frames);
        assert!(frames[3].0 == [3; PAGE_SIZE], "the page was given back under the device");
    }

    /// Fills a server far beyond what is local, reads everything back, overwrites some, and reads again.
    fn load(&self, policy: &str) {
        let _node = self.node("c", 10810, "80mb");
        let far = self.uri(10810, "5s");
        let directives = ["--local-memory", LOCAL, "--far-memory", &far, "--prefetch", policy];
        let server = Server::start(&directives, Path::new("/tmp/server.log"));
        let mut redis = Redis::connect(server.port).expect("the server listens");
        fill(&mut redis, 1);
        check(&mut redis, |_| 1);
        for number in (0..VALUES).step_by(3) {
            set(&mut redis, number, 2);
        }
        check(&mut redis, |number| if number % 3 == 0 { 2 } else { 1 });
        std::thread::sleep(Duration::from_millis(1200));
        let info = redis.info("farmem");
        let link = &info["link0"];
        let fetched: u64 = info["pages_fetched"].parse().expect("it is a number");
        assert!(fetched > 4000, "only {fetched} pages were fetched: the test shows nothing");
        assert_eq!(info["checksum_failures"], "0");
        assert!(policy != "ahead" || info["unplanned_faults"] == "0", "{info:?}");
        println!(
            "{policy}: {fetched} pages fetched, {} bytes wanted: {}",
            info["bytes_wanted"],
            link.rsplit_once("lost_pages=").map_or("", |(_, more)| more)
        );
        assert!(link.contains("state=up") && link.contains("errors=0"), "{link}");
    }

    fn kill_one_of_two(&self) {
        let mut nodes = [self.node("a", 10810, "64mb"), self.node("b", 10811, "64mb")];
        let (a, b) = (self.uri(10810, "5s"), self.uri(10811, "5s"));
        let directives =
            ["--local-memory", LOCAL, "--far-copies", "2", "--far-memory", &a, "--far-memory", &b];
        let server = Server::start(&directives, Path::new("/tmp/server.log"));
        let mut redis = Redis::connect(server.port).expect("the server listens");
        fill(&mut redis, 1);
        nodes[0].kill();
        for number in (0..VALUES).step_by(3) {
            set(&mut redis, number, 2);
        }
        check(&mut redis, |number| if number % 3 == 0 { 2 } else { 1 });
        nodes[0].restart();
        // What INFO says is counted by the second.
        std::thread::sleep(Duration::from_millis(2100));
        wait_until_up(&mut redis, 2);
        nodes[1].kill();
        check(&mut redis, |number| if number % 3 == 0 { 2 } else { 1 });
    }

    fn restart_the_only_one(&self) {
        let mut node = self.node("a", 10810, "64mb");
        let far = self.uri(10810, "5s");
        let server =
            Server::start(&["--local-memory", LOCAL, "--far-memory", &far], Path::new("/tmp/server.log"));
        let mut redis = Redis::connect(server.port).expect("the server listens");
        fill(&mut redis, 1);
        node.kill();
        std::thread::sleep(Duration::from_millis(500));
        node.restart();
        let since = Instant::now();
        // What was lost is told, never wrong; and it can be written again.
        let mut lost = 0;
        for number in 0..VALUES {
            match redis.ask(&[b"GET", format!("v{number}").as_bytes()]) {
                Reply::Bulk(Some(bytes)) => {
                    assert!(bytes == value(number, 1, VALUE_BYTES), "v{number} is wrong")
                }
                Reply::Error(_) => lost += 1,
                other => panic!("v{number}: {other:?}"),
            }
            assert!(since.elapsed() < PATIENCE, "it takes too long");
        }
        assert!(lost > 0, "an empty node has lost nothing: the test shows nothing");
        assert_eq!(redis.say("FLUSHALL"), Reply::Simple("OK".into()));
        fill(&mut redis, 3);
        check(&mut redis, |_| 3);
        wait_until_up(&mut redis, 1);
    }
}

/// Leaves a mark among the system calls.
fn mark(number: usize) {
    assert!(std::fs::metadata(MARKS[number]).is_err(), "a mark is a file that is not there");
}

fn move_all(link: &mut dyn Link, batch: &[Transfer], frames: &mut [Frame]) {
    let mut landed = Vec::new();
    link.submit(batch, frames, monotonic_now());
    while link.in_flight() > 0 {
        link.wait_landed(frames, &mut landed);
    }
    assert!(landed.len() == batch.len() && landed.iter().all(|end| end.result.is_ok()), "{landed:?}");
}

fn set(redis: &mut Redis, number: u32, version: u32) {
    let reply = redis.ask(&[b"SET", format!("v{number}").as_bytes(), &value(number, version, VALUE_BYTES)]);
    assert_eq!(reply, Reply::Simple("OK".into()), "SET v{number}");
}

fn element(list: u32, number: u32) -> Vec<u8> {
    value(1_000_000 + list * ELEMENTS + number, 0, ELEMENT_BYTES)
}

fn fill(redis: &mut Redis, version: u32) {
    for number in 0..VALUES {
        set(redis, number, version);
    }
    for list in 0..LISTS {
        let key = format!("l{list}");
        let elements: Vec<Vec<u8>> = (0..ELEMENTS).map(|number| element(list, number)).collect();
        for some in elements.chunks(100) {
            let mut words: Vec<&[u8]> = vec![b"RPUSH", key.as_bytes()];
            words.extend(some.iter().map(Vec::as_slice));
            assert!(matches!(redis.ask(&words), Reply::Integer(_)), "RPUSH {key}");
        }
    }
}

/// Reads everything; `version` says which of each value is the right one.
fn check(redis: &mut Redis, version: impl Fn(u32) -> u32) {
    for step in 0..VALUES {
        // Not in the order in which they were written.
        let number = step * 7 % VALUES;
        let wanted = value(number, version(number), VALUE_BYTES);
        match redis.ask(&[b"GET", format!("v{number}").as_bytes()]) {
            Reply::Bulk(Some(bytes)) => assert!(bytes == wanted, "v{number} is wrong"),
            other => panic!("GET v{number}: {other:?}"),
        }
    }
    for list in 0..LISTS {
        for first in (0..ELEMENTS).step_by(100) {
            let range = redis.say(&format!("LRANGE l{list} {first} {}", first + 99));
            let wanted = (first..first + 100).map(|n| Reply::Bulk(Some(element(list, n)))).collect();
            assert!(range == Reply::Array(wanted), "l{list} from {first} is wrong");
        }
    }
}

fn wait_until_up(redis: &mut Redis, links: usize) {
    let since = Instant::now();
    loop {
        let info = redis.info("farmem");
        let up = info.iter().filter(|(name, link)| name.starts_with("link") && link.contains("state=up"));
        if up.count() == links {
            return;
        }
        assert!(since.elapsed() < PATIENCE, "never whole: {info:?}");
        std::thread::sleep(Duration::from_millis(100));
    }
}
