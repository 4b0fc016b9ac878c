//! The RDMA link over verbs that are none: completions late and in any order between the lanes, errors at any
//! work request, nodes that hang up, come back, and come back empty.
//!
//! ```text
//!   RdmaLink ─► FakeFabric ─► pages of a node      asserts what a device would not forgive: overrun queues, too long chains
//! ```
//!
//! Everything follows from the seed, on a virtual clock: `SEED=7 cargo test -p tests --test rdma_link` plays one again.

use farmem::{Frame, FrameNo, Instant, Landed, Link, LinkError, PAGE_SIZE, PageNo, Transfer, TransferKind};
use farmem_link::nbd::proto::Generation;
use farmem_link::rdma::RdmaLink;
use farmem_link::rdma::fabric::{
    CHAIN_PAGES_MAX, COMPLETIONS_MAX, Dial, End, Fabric, LANE_PAGES_MAX, Move, Outcome, Reached,
};
use farmem_link::rdma::registered::Registered;
use farmem_link::{Door, Stretch, Window};
use std::collections::{HashMap, VecDeque};
use std::fs::File;
use std::io;
use std::os::fd::BorrowedFd;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tests::fuzz::mutate::Random;
use tests::link_contract::{CLAUSES, PAGES_MIN, Rig};

const SEEDS: u64 = 100;
const STEPS: usize = 2_000;
/// Pages in play. Each has the frame of its own number.
const PAGES: u32 = 300;
const TIMEOUT_NS: u64 = 1_000_000_000;
/// Between two steps of a play. Units: nanoseconds.
const STEP_NS: u64 = 5_000_000;

/// What a node holds, and what the nemesis does to it.
struct Node {
    pages: HashMap<PageNo, Box<Frame>>,
    generation: u128,
    is_up: bool,
    /// How often it has gone down: a connection does not outlive that.
    downs: u64,
    /// In 65536ths of a work request: how many fail.
    errors: usize,
    random: Random,
    /// Chains, completions, work requests of all connections.
    chains: u64,
    completions: u64,
    requests: u64,
    refusals: u64,
    /// How often memory was changed under the frames: a region of an earlier time is of pages that nobody sees any more.
    memory: u64,
    /// Regions made so far: first frame, and how many.
    regions: Vec<(usize, usize)>,
}

type Shared = Arc<Mutex<Node>>;

fn lock(node: &Shared) -> MutexGuard<'_, Node> {
    node.lock().unwrap_or_else(PoisonError::into_inner)
}

fn new_node(seed: u64) -> Shared {
    Arc::new(Mutex::new(Node {
        pages: HashMap::new(),
        generation: 1,
        is_up: true,
        downs: 0,
        errors: 0,
        random: Random::new(seed),
        chains: 0,
        completions: 0,
        requests: 0,
        refusals: 0,
        memory: 0,
        regions: Vec::new(),
    }))
}

/// A connection: what was posted and not told yet, by lane.
struct FakeFabric {
    node: Shared,
    lanes: [VecDeque<Move>; 2],
    /// Completions that wait to be taken. Bounds: as a completion queue has.
    queue: VecDeque<End>,
    is_broken: [bool; 2],
    downs: u64,
    /// Each region knows the memory that it was made of.
    registered: Registered<u64>,
}

impl Node {
    fn answers(&self, downs: u64) -> bool {
        self.is_up && self.downs == downs
    }
}

impl FakeFabric {
    fn reach(node: &Shared) -> Reached {
        let generation = Generation(lock(node).generation);
        let fabric = FakeFabric {
            node: Arc::clone(node),
            lanes: Default::default(),
            queue: VecDeque::new(),
            is_broken: [false; 2],
            downs: lock(node).downs,
            registered: Registered::default(),
        };
        Reached { fabric: Box::new(fabric), pages: PAGES_MIN, generation }
    }

    /// Carries out the first work request of a lane, well or badly.
    fn step(&mut self, lane: usize, frames: &mut [Frame]) {
        let Some(step) = self.lanes[lane].pop_front() else { return };
        let mut node = lock(&self.node);
        let outcome = match () {
            () if self.is_broken[lane] => Outcome::Broken,
            () if !node.answers(self.downs) => Outcome::Broken,
            () if node.random.below(65_536) < node.errors => {
                // What fails may be carried out all the same, when only the answer is lost.
                [Outcome::Refused, Outcome::Broken][node.random.below(2)]
            }
            () => Outcome::Done,
        };
        let is_carried_out = outcome == Outcome::Done
            || (node.answers(self.downs)
                && outcome == Outcome::Broken
                && !self.is_broken[lane]
                && node.random.below(2) == 0);
        if is_carried_out {
            let frame = &mut frames[step.frame.0 as usize];
            if step.is_read {
                let stored = node.pages.get(&step.page).map_or([0; PAGE_SIZE], |page| page.0);
                frame.0 = stored;
            } else {
                node.pages.insert(step.page, Box::new(Frame(frame.0)));
            }
        }
        node.refusals += u64::from(outcome == Outcome::Refused);
        self.is_broken[lane] |= outcome != Outcome::Done;
        if outcome != Outcome::Done || step.is_signalled {
            node.completions += 1;
            self.queue.push_back(End { lane, id: step.id, outcome, words: "the nemesis".into() });
            assert!(self.queue.len() <= COMPLETIONS_MAX, "the completion queue overruns");
        }
    }
}

impl Fabric for FakeFabric {
    fn post(&mut self, lane: usize, chain: &[Move], frames: &mut [Frame]) -> io::Result<()> {
        assert!((1..=CHAIN_PAGES_MAX).contains(&chain.len()), "a chain of {}", chain.len());
        let signalled: Vec<bool> = chain.iter().map(|step| step.is_signalled).collect();
        let (last, others) = signalled.split_last().expect("it is not empty");
        assert!(*last && others.iter().all(|signalled| !signalled), "not signalled on the last alone");
        self.lanes[lane].extend(chain);
        assert!(self.lanes[lane].len() <= LANE_PAGES_MAX[lane], "the send queue overruns");
        let mut node = lock(&self.node);
        for step in chain {
            let (memory, regions) = (node.memory, &mut node.regions);
            let register = |some: &[Frame]| {
                let first = (some.as_ptr().addr() - frames.as_ptr().addr()) / PAGE_SIZE;
                regions.push((first, some.len()));
                Ok(memory)
            };
            let (of, _) = self.registered.of(frames, step.frame, register)?;
            assert_eq!(*of, memory, "{step:?} goes to pages that nobody sees any more");
        }
        node.chains += 1;
        node.requests += chain.len() as u64;
        Ok(())
    }

    fn poll(&mut self, frames: &mut [Frame], ends: &mut Vec<End>) -> io::Result<()> {
        let steps = lock(&self.node).random.below(200);
        for _ in 0..steps {
            let lane = lock(&self.node).random.below(2);
            self.step(lane, frames);
        }
        // In order on a lane, in any order between them: what one lane has may be told before the other's.
        let first = lock(&self.node).random.below(2);
        let (one, other): (Vec<End>, Vec<End>) = self.queue.drain(..).partition(|end| end.lane == first);
        ends.extend(one.into_iter().chain(other));
        Ok(())
    }

    fn set_stretches(&mut self, number: u64, stretches: &[Stretch]) {
        self.registered.set(number, stretches);
    }

    fn arm(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn disarm(&mut self) {}

    fn check_control(&mut self) -> io::Result<()> {
        if lock(&self.node).answers(self.downs) { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
    }

    fn event_fds(&self) -> Vec<BorrowedFd<'_>> {
        Vec::new()
    }
}

/// Comes back as soon as the node is there.
struct FakeDial(Shared);

impl Dial for FakeDial {
    fn start(&mut self) {}

    fn poll(&mut self) -> Result<Option<Reached>, ()> {
        let is_up = lock(&self.0).is_up;
        Ok(is_up.then(|| FakeFabric::reach(&self.0)))
    }

    fn bell(&self) -> Option<BorrowedFd<'_>> {
        None
    }
}

fn open(node: &Shared) -> RdmaLink {
    open_patient(node, TIMEOUT_NS)
}

fn open_patient(node: &Shared, timeout_ns: u64) -> RdmaLink {
    let dial = Box::new(FakeDial(Arc::clone(node)));
    RdmaLink::over("fake".into(), timeout_ns, FakeFabric::reach(node), Some(dial)).expect("epoll is there")
}

#[test]
fn the_link_holds_to_the_contract_over_verbs_that_are_none() {
    for (name, clause) in CLAUSES {
        eprintln!("{name}");
        clause(&mut Rig::new(&mut open_patient(&new_node(1), 60 * TIMEOUT_NS)));
    }
}

#[test]
fn what_is_flushed_is_sent_again_and_nothing_fails() {
    let node = new_node(2);
    let mut link = open(&node);
    let frames = frames();
    for round in 0..200 {
        let batch: Vec<Transfer> = (0..PAGES).map(|n| of(TransferKind::WriteBack, n)).collect();
        (0..PAGES).for_each(|n| stamp(&mut frames[n as usize], n, round));
        link.submit(&batch, frames, Instant(u64::from(round) * STEP_NS * 100));
        let mut landed = Vec::new();
        for step in 0..90 {
            let now = Instant((u64::from(round) * 100 + step) * STEP_NS);
            let mut held = lock(&node);
            held.is_up = step % 10 != 1;
            held.downs += u64::from(!held.is_up);
            drop(held);
            link.poll_landed(frames, now, &mut landed);
        }
        assert_eq!((landed.len(), link.in_flight()), (PAGES as usize, 0), "round {round}");
        assert!(landed.iter().all(|end| end.result.is_ok()), "round {round}");
        let held = lock(&node);
        for n in 0..PAGES {
            assert!(held.pages[&PageNo(n)].0 == frames[n as usize].0, "round {round}: page {n}");
        }
    }
}

#[test]
fn a_batch_is_a_doorbell_and_a_completion_a_chain() {
    let node = new_node(3);
    let mut link = open(&node);
    let frames = frames();
    for pages in [1, 2, 63, 64, 65, 256] {
        let before = {
            let held = lock(&node);
            (held.chains, held.completions, held.requests)
        };
        let batch: Vec<Transfer> = (0..pages).map(|n| of(TransferKind::FetchNeeded, n)).collect();
        link.submit(&batch, frames, Instant(0));
        let mut landed = Vec::new();
        while link.in_flight() > 0 {
            link.poll_landed(frames, Instant(1), &mut landed);
        }
        let held = lock(&node);
        let chains = u64::from(pages).div_ceil(CHAIN_PAGES_MAX as u64);
        let after = (held.chains - before.0, held.completions - before.1, held.requests - before.2);
        assert_eq!(after, (chains, chains, u64::from(pages)), "{pages} pages");
        assert_eq!(link.counts().arms, 0, "nobody goes to sleep that soon");
        assert_eq!(landed.len(), pages as usize);
    }
}

/// A guest's memory: eight pages that it calls 0, and four that it calls 100.
fn map_guest(window: &mut Window, guest: &File) {
    window.map(0, 8, guest, 0).expect("there is room");
    window.map(100, 4, guest, 8 * PAGE_SIZE as u64).expect("there is room");
}

#[test]
fn pages_go_straight_to_a_guests_memory_and_after_it_to_the_next_ones() {
    const OWN: u32 = 3;
    let node = new_node(4);
    let mut link = open(&node);
    let mut window = Window::reserve(OWN as usize, 1 << 30).expect("there is room");
    let guests = [tempfile::tempfile(), tempfile::tempfile()].map(|file| file.expect("a file can be made"));
    let mut now = Instant(0);
    let mut move_one = |link: &mut RdmaLink, window: &mut Window, kind, page, frame| {
        let transfer = Transfer { kind, page: PageNo(page), count: 1, frame: FrameNo(frame) };
        let mut landed = Vec::new();
        link.submit(&[transfer], window.frames(), now);
        while link.in_flight() > 0 {
            now.0 += STEP_NS;
            link.poll_landed(window.frames(), now, &mut landed);
        }
        landed[0].result
    };
    for (round, guest) in guests.iter().enumerate() {
        guest.set_len(12 * PAGE_SIZE as u64).expect("it may grow");
        window.clear().expect("nothing is mapped over it");
        map_guest(&mut window, guest);
        lock(&node).memory += 1;
        link.set_stretches(&window.stretches());
        let byte = round as u8 + 1;
        guest.write_all_at(&[byte; PAGE_SIZE], 9 * PAGE_SIZE as u64).expect("it is there");
        let (written, fetched) = (OWN + 101, OWN + 7);
        assert_eq!(move_one(&mut link, &mut window, TransferKind::WriteBack, 5, written), Ok(()));
        // A node that is gone for a moment is come back to with the frames that are there now.
        lock(&node).downs += 1;
        assert_eq!(move_one(&mut link, &mut window, TransferKind::FetchNeeded, 5, fetched), Ok(()));
        assert_eq!(move_one(&mut link, &mut window, TransferKind::FetchNeeded, 5, 0), Ok(()));
        let mut page = [0; PAGE_SIZE];
        guest.read_exact_at(&mut page, 7 * PAGE_SIZE as u64).expect("it is there");
        assert!(page == [byte; PAGE_SIZE], "it did not go to guest {round}");
        assert!(window.frames()[0].0 == [byte; PAGE_SIZE], "it did not go to our own frame");
    }
    let own = (0, OWN as usize);
    let (low, high) = ((OWN as usize, 8), (OWN as usize + 100, 4));
    let regions = lock(&node).regions.clone();
    assert!(regions.iter().all(|region| [own, low, high].contains(region)), "{regions:?}");
    // A hole is for no device: the link comes down, and the transfer fails in its time.
    let hole = move_one(&mut link, &mut window, TransferKind::FetchNeeded, 5, OWN + 50);
    assert_eq!(hole, Err(LinkError::Down));
    assert_eq!(lock(&node).regions.len(), regions.len(), "a hole was registered");
}

#[test]
fn whatever_fails_everything_lands_once_and_what_is_read_is_right() {
    let (mut refusals, mut losses, mut downs) = (0, 0, 0);
    for seed in seeds() {
        let mut play = Play::new(seed);
        play.run();
        refusals += lock(&play.node).refusals;
        losses += play.link.losses();
        downs += play.downs;
    }
    assert!(refusals > 0 && losses > 0 && downs > 0, "{refusals}, {losses}, {downs}: the test shows nothing");
}

fn seeds() -> std::ops::Range<u64> {
    match std::env::var("SEED").map(|seed| seed.parse()) {
        Ok(Ok(seed)) => seed..seed + 1,
        _ => 0..SEEDS,
    }
}

fn frames() -> &'static mut [Frame] {
    farmem_link::Arena::reserve(PAGES as usize * PAGE_SIZE).expect("memory is there").frames()
}

fn of(kind: TransferKind, number: u32) -> Transfer {
    Transfer { kind, page: PageNo(number), count: 1, frame: FrameNo(number) }
}

/// Bytes that tell page and version apart, at both ends of the page.
fn stamp(frame: &mut Frame, page: u32, version: u32) {
    let mark = (u64::from(page) << 32 | u64::from(version) | 1 << 63).to_le_bytes();
    frame.0[..8].copy_from_slice(&mark);
    frame.0[PAGE_SIZE - 8..].copy_from_slice(&mark);
}

fn version_of(frame: &Frame, page: u32) -> u32 {
    let mark = |bytes: &[u8]| u64::from_le_bytes(bytes.try_into().expect("there are eight"));
    let (first, last) = (mark(&frame.0[..8]), mark(&frame.0[PAGE_SIZE - 8..]));
    assert_eq!(first, last, "page {page} is torn");
    if first != 0 {
        assert_eq!(first >> 32 & 0x7FFF_FFFF, u64::from(page), "another page came");
    }
    first as u32
}

struct Play {
    node: Shared,
    link: RdmaLink,
    frames: &'static mut [Frame],
    random: Random,
    /// The versions that a page may have: what was acknowledged last (0 is untouched), and what was tried since.
    versions: HashMap<u32, Vec<u32>>,
    /// In flight: which way, and the version that is written.
    busy: HashMap<u32, (TransferKind, u32)>,
    downs: u64,
    seed: u64,
}

impl Play {
    fn new(seed: u64) -> Play {
        let node = new_node(seed);
        lock(&node).errors = [0, 20, 300][seed as usize % 3];
        let link = open(&node);
        let random = Random::new(seed ^ 0xABCD);
        let (versions, busy) = (HashMap::new(), HashMap::new());
        Play { node, link, frames: frames(), random, versions, busy, downs: 0, seed }
    }

    fn run(&mut self) {
        let (mut landed, mut losses) = (Vec::new(), 0);
        for step in 1..=STEPS {
            let now = Instant(step as u64 * STEP_NS);
            self.blow(step);
            let batch = self.batch(step as u32);
            self.link.submit(&batch, self.frames, now);
            self.link.poll_landed(self.frames, now, &mut landed);
            if self.link.losses() > losses {
                losses = self.link.losses();
                // Everything that was written before is gone; what is in flight is written anew.
                for (page, may) in &mut self.versions {
                    *may = vec![0];
                    may.extend(self.busy.get(page).map(|&(_, version)| version));
                }
            }
            landed.drain(..).for_each(|end| self.check(end));
        }
        let mut now = Instant(STEPS as u64 * STEP_NS);
        lock(&self.node).is_up = true;
        for _ in 0..10_000 {
            now.0 += STEP_NS;
            self.link.poll_landed(self.frames, now, &mut landed);
            landed.drain(..).for_each(|end| self.check(end));
        }
        assert!(self.busy.is_empty(), "seed {}: never landed: {:?}", self.seed, self.busy);
        assert_eq!(self.link.in_flight(), 0);
    }

    fn blow(&mut self, step: usize) {
        let mut node = lock(&self.node);
        match self.random.below(200) {
            0 if node.is_up => {
                node.is_up = false;
                node.downs += 1;
                self.downs += 1;
            }
            1..8 if !node.is_up => node.is_up = true,
            8 if !node.is_up => {
                node.is_up = true;
                node.pages.clear();
                node.generation = step as u128 + 2;
            }
            _ => {}
        }
    }

    fn batch(&mut self, version: u32) -> Vec<Transfer> {
        let mut batch = Vec::new();
        for _ in 0..self.random.below(100) {
            let page = self.random.below(PAGES as usize) as u32;
            if self.busy.contains_key(&page) {
                continue;
            }
            let kinds = [TransferKind::WriteBack, TransferKind::FetchNeeded, TransferKind::FetchGuess];
            let kind = kinds[self.random.below(3)];
            if kind == TransferKind::WriteBack {
                stamp(&mut self.frames[page as usize], page, version);
                self.versions.entry(page).or_insert_with(|| vec![0]).push(version);
            }
            self.busy.insert(page, (kind, version));
            batch.push(of(kind, page));
        }
        batch.sort_by_key(|transfer| transfer.kind != TransferKind::FetchNeeded);
        batch
    }

    fn check(&mut self, end: Landed) {
        let page = end.transfer.page.0;
        let Some((kind, version)) = self.busy.remove(&page) else {
            panic!("seed {}: page {page} landed twice", self.seed)
        };
        assert_eq!(kind, end.transfer.kind);
        match (end.result, kind) {
            (Ok(()), TransferKind::WriteBack) => {
                self.versions.insert(page, vec![version]);
            }
            (Ok(()), _) => {
                let found = version_of(&self.frames[page as usize], page);
                let may = self.versions.get(&page).map_or(&[0][..], Vec::as_slice);
                assert!(may.contains(&found), "seed {}: page {page} is {found}, not of {may:?}", self.seed);
            }
            (Err(error), _) => assert!(
                matches!(error, LinkError::Io | LinkError::Down | LinkError::Lost),
                "seed {}: {error:?}",
                self.seed
            ),
        }
    }
}
