//! Copies of far memory under a nemesis: links that die, come back, come back empty, are slow, and land out of order.
//!
//! ```text
//!   LinkSet (copies 1 or 2) ─► FrailLink, FrailLink, FrailLink    each in front of a node of its own
//!   checker: what was acknowledged is read back as it was, or reported lost; where one copy was whole, never lost
//! ```
//!
//! Everything follows from the seed: `SEED=7 cargo test -p tests --test far_copies` plays one again.

use farmem::{Frame, FrameNo, Instant, Landed, Link, LinkError, PAGE_SIZE, PageNo, Transfer, TransferKind};
use farmem_link::{Door, InlineCopier, LinkSet, OpenTwin};
use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::rc::Rc;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

const SEEDS: u64 = 200;
const STEPS: usize = 3_000;
/// Pages in play, in two slabs. Each has the frame of its own number.
const PAGES: u32 = 48;
const SLAB_PAGES: u32 = 4096;
/// So that a repair, which looks ten times a second, gets its turn between two blows. Units: nanoseconds.
const STEP_NS: u64 = 20_000_000;

#[test]
fn with_two_copies_and_one_blow_at_a_time_nothing_is_ever_lost() {
    for seed in seeds() {
        Play::new(seed, 2).run(&[Blow::Die, Blow::Return, Blow::ReturnEmpty], true);
    }
}

#[test]
fn with_two_copies_and_any_blows_what_is_read_is_right_or_reported_lost() {
    for seed in seeds() {
        Play::new(seed, 2).run(&[Blow::Die, Blow::Return, Blow::ReturnEmpty], false);
    }
}

#[test]
fn with_one_copy_a_node_that_returns_with_its_content_goes_on_as_before() {
    for seed in seeds() {
        let play = Play::new(seed, 1).run(&[Blow::Die, Blow::Return], false);
        assert_eq!(play.set.lost_pages(), 0, "seed {seed}");
    }
}

#[test]
fn with_one_copy_what_an_empty_node_had_is_reported_lost_and_never_zeros() {
    let mut lost = 0;
    for seed in seeds() {
        lost += Play::new(seed, 1).run(&[Blow::Die, Blow::ReturnEmpty], false).losses_seen;
    }
    assert!(lost > 0, "the nemesis has done no harm: the test shows nothing");
}

#[test]
fn with_two_copies_what_is_corrupt_on_one_is_read_from_the_other_and_written_anew() {
    let mut repaired = 0;
    for seed in seeds() {
        repaired += Play::new(seed, 2).run(&[Blow::Corrupt], true).repaired;
    }
    assert!(repaired > 0, "the nemesis has done no harm: the test shows nothing");
}

fn seeds() -> std::ops::Range<u64> {
    match std::env::var("SEED").map(|seed| seed.parse()) {
        Ok(Ok(seed)) => seed..seed + 1,
        _ => 0..SEEDS,
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Blow {
    Die,
    Return,
    ReturnEmpty,
    /// Of the first node: what it has of one page changes.
    Corrupt,
}

/// A memory node: the first eight bytes of each page, which is all that this test writes.
#[derive(Default)]
struct Node {
    pages: HashMap<PageNo, u64>,
    is_up: bool,
    losses: u32,
}

type SharedNode = Arc<Mutex<Node>>;

fn lock(node: &SharedNode) -> MutexGuard<'_, Node> {
    node.lock().unwrap_or_else(PoisonError::into_inner)
}

fn stamp(frame: &Frame) -> u64 {
    u64::from_le_bytes(*frame.0.first_chunk().expect("a frame has 4096 bytes"))
}

impl Node {
    fn carry_out(&mut self, transfer: Transfer, written: u64, frames: &mut [Frame]) {
        match transfer.kind {
            TransferKind::WriteBack => {
                self.pages.insert(transfer.page, written);
            }
            TransferKind::Trim => {
                for page in transfer.page.0..transfer.page.0 + transfer.count {
                    self.pages.remove(&PageNo(page));
                }
            }
            TransferKind::FetchNeeded | TransferKind::FetchGuess => {
                let stored = self.pages.get(&transfer.page).copied().unwrap_or(0);
                frames[transfer.frame.0 as usize].0[..8].copy_from_slice(&stored.to_le_bytes());
            }
        }
    }
}

/// The link to a node: what is submitted lands in any order, and fails while the node is gone.
struct FrailLink {
    node: SharedNode,
    queue: Vec<(Transfer, u64)>,
    losses: u32,
    is_up: bool,
    dice: Rc<RefCell<Dice>>,
}

impl FrailLink {
    fn land(&mut self, index: usize, frames: &mut [Frame], landed: &mut Vec<Landed>, is_up: bool) {
        let (transfer, written) = self.queue.remove(index);
        // What fails may have reached the node all the same.
        let is_done =
            is_up || (transfer.kind == TransferKind::WriteBack && self.dice.borrow_mut().below(2) == 0);
        if is_done {
            lock(&self.node).carry_out(transfer, written, frames);
        }
        if transfer.kind != TransferKind::Trim {
            landed.push(Landed { transfer, result: if is_up { Ok(()) } else { Err(LinkError::Down) } });
        }
    }
}

impl Link for FrailLink {
    fn submit(&mut self, batch: &[Transfer], frames: &mut [Frame], _now: Instant) {
        let entry = |&transfer: &Transfer| match transfer.kind {
            TransferKind::WriteBack => (transfer, stamp(&frames[transfer.frame.0 as usize])),
            _ => (transfer, 0),
        };
        self.queue.extend(batch.iter().map(entry));
    }

    fn poll_landed(&mut self, frames: &mut [Frame], _now: Instant, landed: &mut Vec<Landed>) {
        let (is_up, losses) = {
            let node = lock(&self.node);
            (node.is_up, node.losses)
        };
        if !is_up || losses != self.losses || !self.is_up {
            // A new connection: nothing of the old one is carried out later.
            while !self.queue.is_empty() {
                self.land(0, frames, landed, false);
            }
            if losses != self.losses {
                lock(&self.node).pages.clear();
            }
            (self.is_up, self.losses) = (is_up, losses);
            return;
        }
        let most = self.dice.borrow_mut().below(4);
        for _ in 0..most {
            if self.queue.is_empty() {
                return;
            }
            let index = self.dice.borrow_mut().below(self.queue.len() as u64) as usize;
            // A trim and what was asked for after it keep their order.
            let index = self.queue[..index]
                .iter()
                .position(|(first, _)| first.kind == TransferKind::Trim)
                .unwrap_or(index);
            let index = if self.queue[index].0.kind == TransferKind::Trim { 0 } else { index };
            self.land(index, frames, landed, true);
        }
    }

    fn wait_landed(&mut self, frames: &mut [Frame], landed: &mut Vec<Landed>) {
        let before = landed.len();
        while landed.len() == before && self.in_flight() > 0 {
            self.poll_landed(frames, Instant(0), landed);
        }
    }

    fn next_due(&self) -> Option<Instant> {
        None
    }

    fn in_flight(&self) -> usize {
        self.queue.iter().filter(|(transfer, _)| transfer.kind != TransferKind::Trim).count()
    }

    fn capacity_pages(&self) -> u32 {
        2 * SLAB_PAGES
    }
}

impl Door for FrailLink {
    fn is_up(&self) -> bool {
        self.is_up
    }

    fn losses(&self) -> u32 {
        self.losses
    }

    fn is_remote(&self) -> bool {
        true
    }

    fn is_trimming(&self) -> bool {
        self.queue.iter().any(|(transfer, _)| transfer.kind == TransferKind::Trim)
    }

    fn twin(&self) -> io::Result<OpenTwin> {
        let node = Arc::clone(&self.node);
        Ok(Box::new(move || Ok(Box::new(Twin { node, landed: Vec::new() }))))
    }
}

/// Another way to the same node, for copies: at once, or not at all.
struct Twin {
    node: SharedNode,
    landed: Vec<Landed>,
}

impl Link for Twin {
    fn submit(&mut self, batch: &[Transfer], frames: &mut [Frame], _now: Instant) {
        let mut node = lock(&self.node);
        for &transfer in batch {
            let written = stamp(&frames[transfer.frame.0 as usize]);
            let result = if node.is_up { Ok(()) } else { Err(LinkError::Down) };
            if result.is_ok() {
                node.carry_out(transfer, written, frames);
            }
            self.landed.push(Landed { transfer, result });
        }
    }

    fn poll_landed(&mut self, _frames: &mut [Frame], _now: Instant, landed: &mut Vec<Landed>) {
        landed.append(&mut self.landed);
    }

    fn wait_landed(&mut self, frames: &mut [Frame], landed: &mut Vec<Landed>) {
        self.poll_landed(frames, Instant(0), landed);
    }

    fn next_due(&self) -> Option<Instant> {
        None
    }

    fn in_flight(&self) -> usize {
        self.landed.len()
    }

    fn capacity_pages(&self) -> u32 {
        2 * SLAB_PAGES
    }
}

/// What the test knows of a page.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Known {
    /// Never written, or trimmed: nobody asks for it.
    Dead,
    /// Written and acknowledged with this stamp.
    Written(u64),
    /// Being written, or to be written again because that failed.
    Writing(u64),
    Fetching(u64),
    /// Fetched once more, because what came was not what had been written.
    FetchingAgain(u64),
}

struct Play {
    seed: u64,
    set: LinkSet,
    nodes: Vec<SharedNode>,
    dice: Rc<RefCell<Dice>>,
    frames: Vec<Frame>,
    known: Vec<Known>,
    failed: Vec<u32>,
    stamps: u64,
    now: Instant,
    losses_seen: u64,
    repaired: u64,
    corrupts: bool,
}

impl Play {
    fn new(seed: u64, copies: usize) -> Play {
        let dice = Rc::new(RefCell::new(Dice(seed)));
        let nodes: Vec<SharedNode> =
            (0..3).map(|_| Arc::new(Mutex::new(Node { is_up: true, ..Node::default() }))).collect();
        let door = |(number, node): (usize, &SharedNode)| {
            let (node, dice) = (Arc::clone(node), Rc::clone(&dice));
            let link = FrailLink { node, queue: Vec::new(), losses: 0, is_up: true, dice };
            (format!("frail:{number}"), Box::new(link) as Box<dyn Door>)
        };
        let doors = nodes.iter().enumerate().map(door).collect();
        let copier = InlineCopier::new().expect("there is memory for a few frames");
        let set = LinkSet::of(doors, copies, Some(Box::new(copier))).expect("three links suffice");
        Play {
            seed,
            set,
            nodes,
            dice,
            frames: (0..PAGES).map(|_| Frame([0; PAGE_SIZE])).collect(),
            known: vec![Known::Dead; PAGES as usize],
            failed: Vec::new(),
            stamps: 0,
            now: Instant(1),
            losses_seen: 0,
            repaired: 0,
            corrupts: false,
        }
    }

    fn below(&self, limit: u64) -> u64 {
        self.dice.borrow_mut().below(limit)
    }

    /// The far page of a number: half of them in either slab.
    fn page(number: u32) -> PageNo {
        PageNo(number / 2 + number % 2 * SLAB_PAGES)
    }

    fn number(page: PageNo) -> u32 {
        page.0 % SLAB_PAGES * 2 + page.0 / SLAB_PAGES
    }

    fn run(mut self, blows: &[Blow], one_at_a_time: bool) -> Play {
        self.corrupts = blows.contains(&Blow::Corrupt);
        for _ in 0..STEPS {
            if self.below(40) == 0 {
                let blow = blows[self.below(blows.len() as u64) as usize];
                self.strike(blow, one_at_a_time);
            }
            self.ask();
            self.turn(one_at_a_time);
        }
        self.nodes.iter().for_each(|node| lock(node).is_up = true);
        for _ in 0..STEPS {
            self.turn(one_at_a_time);
        }
        assert_eq!(self.set.in_flight(), 0, "seed {}: something never landed", self.seed);
        let is_whole = |link: &farmem_link::LinkState| link.stale_pages == 0 && link.state != "down";
        assert!(self.set.describe().iter().all(is_whole), "seed {}: {:?}", self.seed, self.set.describe());
        self
    }

    fn strike(&mut self, blow: Blow, one_at_a_time: bool) {
        if blow == Blow::Corrupt {
            let page = PageNo(self.below(u64::from(PAGES)) as u32);
            lock(&self.nodes[0]).pages.entry(page).and_modify(|stamp| *stamp ^= 1 << 60);
            return;
        }
        let index = self.below(self.nodes.len() as u64) as usize;
        let is_whole = self.set.describe().iter().all(|link| link.state == "up");
        let mut node = lock(&self.nodes[index]);
        match blow {
            Blow::Die if !one_at_a_time || is_whole => node.is_up = false,
            Blow::Return => node.is_up = true,
            Blow::ReturnEmpty if !node.is_up => {
                (node.is_up, node.losses) = (true, node.losses + 1);
                node.pages.clear();
            }
            Blow::Die | Blow::ReturnEmpty | Blow::Corrupt => {}
        }
    }

    /// Asks for something of a page that nothing is being done to.
    fn ask(&mut self) {
        let number = self.below(u64::from(PAGES)) as u32;
        let (known, kind) = match (self.known[number as usize], self.below(8)) {
            (Known::Dead | Known::Written(_), 0..3) => {
                self.stamps += 1;
                self.frames[number as usize].0[..8].copy_from_slice(&self.stamps.to_le_bytes());
                (Known::Writing(self.stamps), TransferKind::WriteBack)
            }
            (Known::Written(_), 3) => (Known::Dead, TransferKind::Trim),
            (Known::Written(stamp), _) => (Known::Fetching(stamp), TransferKind::FetchNeeded),
            _ => return,
        };
        self.known[number as usize] = known;
        self.submit(number, kind);
    }

    fn submit(&mut self, number: u32, kind: TransferKind) {
        let transfer = Transfer { kind, page: Play::page(number), count: 1, frame: FrameNo(number) };
        self.set.submit(&[transfer], &mut self.frames, self.now);
    }

    /// What has landed is looked at, and what was not written is written again.
    fn turn(&mut self, one_at_a_time: bool) {
        self.now = Instant(self.now.0 + STEP_NS);
        let mut landed = Vec::new();
        self.set.poll_landed(&mut self.frames, self.now, &mut landed);
        let again = std::mem::take(&mut self.failed);
        again.into_iter().for_each(|number| self.submit(number, TransferKind::WriteBack));
        let mut doubted = Vec::new();
        for Landed { transfer, result } in landed {
            let number = Play::number(transfer.page);
            let found = stamp(&self.frames[number as usize]);
            let known = &mut self.known[number as usize];
            *known = match (*known, result) {
                (Known::Writing(written), Ok(())) => Known::Written(written),
                (Known::Writing(written), Err(_)) => {
                    self.failed.push(number);
                    Known::Writing(written)
                }
                (Known::Fetching(written), Ok(())) if self.corrupts && found != written => {
                    doubted.push(number);
                    Known::FetchingAgain(written)
                }
                (Known::FetchingAgain(written), Ok(())) if found == written => {
                    // As the pager does: what is right takes the place of what is wrong.
                    self.repaired += 1;
                    self.failed.push(number);
                    Known::Writing(written)
                }
                (Known::Fetching(written) | Known::FetchingAgain(written), Ok(())) => {
                    assert_eq!(
                        found, written,
                        "seed {}: page {number} is not what was acknowledged",
                        self.seed
                    );
                    Known::Written(written)
                }
                (Known::Fetching(written), Err(LinkError::Down)) => Known::Written(written),
                (Known::Fetching(_), Err(LinkError::Lost)) => {
                    assert!(
                        !one_at_a_time,
                        "seed {}: page {number} is lost, and a copy was whole",
                        self.seed
                    );
                    assert!(
                        self.set.is_lost(transfer.page),
                        "seed {}: page {number} is said to be lost",
                        self.seed
                    );
                    self.losses_seen += 1;
                    Known::Dead
                }
                (_, result) => panic!("seed {}: {transfer:?} landed unasked: {result:?}", self.seed),
            };
        }
        doubted.into_iter().for_each(|number| self.submit(number, TransferKind::FetchNeeded));
    }
}

/// Random numbers from a seed (splitmix64).
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut bits = self.0;
        bits = (bits ^ bits >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        bits = (bits ^ bits >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        (bits ^ bits >> 31) % limit
    }
}
