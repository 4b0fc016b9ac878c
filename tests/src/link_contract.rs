//! What every far-memory link must do, whatever it is made of.
//!
//! Each function is one clause; [`CLAUSES`](crate::link_contract::CLAUSES) lists them all. A link's test calls
//! them with a fresh link each. Time is virtual, as far as the link lets it be: it passes only when the link
//! says that something is due. Refuses to know which link it talks to, and never has two transfers of one
//! page in flight, as a pager never has.

use farmem::{Frame, FrameNo, Instant, Landed, Link, LinkError, PAGE_SIZE, PageNo, Transfer, TransferKind};
use farmem_link::Arena;
use std::collections::{HashMap, HashSet};

/// A clause of the contract: panics if the link breaks it.
pub type Clause = fn(&mut Rig<'_>);

/// Every clause that holds for every link, by name. Bounds: the link has at least [`PAGES_MIN`] pages.
pub const CLAUSES: [(&str, Clause); 10] = [
    ("what_was_written_is_read_back", what_was_written_is_read_back),
    ("pages_that_were_never_written_read_as_zeros", pages_that_were_never_written_read_as_zeros),
    ("everything_lands_exactly_once", everything_lands_exactly_once),
    ("in_flight_counts_what_has_not_landed", in_flight_counts_what_has_not_landed),
    ("a_page_beyond_the_end_lands_out_of_range", a_page_beyond_the_end_lands_out_of_range),
    ("a_trim_never_lands_and_harms_no_neighbour", a_trim_never_lands_and_harms_no_neighbour),
    ("a_trim_never_destroys_what_is_written_after_it", a_trim_never_destroys_what_is_written_after_it),
    ("waiting_returns_at_once_when_nothing_is_in_flight", waiting_returns_at_once_when_nothing_is_in_flight),
    ("waiting_alone_brings_everything_in", waiting_alone_brings_everything_in),
    ("ten_thousand_random_transfers_agree_with_a_model", ten_thousand_random_transfers_agree_with_a_model),
];

/// The least that a link under test must have. Units: pages.
pub const PAGES_MIN: u32 = 4096;
/// Frames of the rig.
const FRAMES: usize = 512;
/// Polls of one link before it counts as stuck: each poll of a due link lands something.
const POLLS_MAX: usize = 1_000_000;

/// A link, the frames it moves, and a virtual clock.
pub struct Rig<'l> {
    link: &'l mut dyn Link,
    frames: &'static mut [Frame],
    now: Instant,
    landed: Vec<Landed>,
}

impl<'l> Rig<'l> {
    /// A rig around a fresh link.
    pub fn new(link: &'l mut dyn Link) -> Rig<'l> {
        assert!(link.capacity_pages() >= PAGES_MIN, "the contract needs {PAGES_MIN} pages");
        let arena = Arena::reserve(FRAMES * PAGE_SIZE).expect("address space is there");
        Rig { link, frames: arena.frames(), now: farmem_link::monotonic_now(), landed: Vec::new() }
    }

    fn submit(&mut self, batch: &[Transfer]) {
        self.link.submit(batch, self.frames, self.now);
    }

    /// Lets something land, if anything is in flight: at the time that the link names, or by waiting.
    fn turn(&mut self) {
        match self.link.next_due() {
            Some(due) => {
                self.now = self.now.max(due);
                self.link.poll_landed(self.frames, self.now, &mut self.landed);
            }
            None => self.link.wait_landed(self.frames, &mut self.landed),
        }
    }

    /// Everything that was in flight, in the order of landing.
    fn land_all(&mut self) -> Vec<Landed> {
        for _ in 0..POLLS_MAX {
            if self.link.in_flight() == 0 {
                return std::mem::take(&mut self.landed);
            }
            self.turn();
        }
        panic!("{} transfers never land", self.link.in_flight());
    }

    /// Moves one batch to its end; every transfer must succeed.
    fn do_all(&mut self, batch: &[Transfer]) {
        self.submit(batch);
        let failed: Vec<Landed> = self.land_all().into_iter().filter(|end| end.result.is_err()).collect();
        assert!(failed.is_empty(), "{failed:?}");
    }

    /// The content of a page, through frame 0.
    fn read(&mut self, page: u32) -> &[u8; PAGE_SIZE] {
        self.frames[0].0.fill(0xEE);
        self.do_all(&[needed(page, 0)]);
        &self.frames[0].0
    }
}

fn transfer(kind: TransferKind, page: u32, frame: u32) -> Transfer {
    Transfer { kind, page: PageNo(page), count: 1, frame: FrameNo(frame) }
}

fn needed(page: u32, frame: u32) -> Transfer {
    transfer(TransferKind::FetchNeeded, page, frame)
}

fn write_back(page: u32, frame: u32) -> Transfer {
    transfer(TransferKind::WriteBack, page, frame)
}

/// Fills a page with bytes that tell page and version apart, each byte dependent on its place.
fn fill(frame: &mut Frame, page: u32, version: u32) {
    for (word, bytes) in frame.0.chunks_exact_mut(8).enumerate() {
        let mark = (u64::from(page) << 40) ^ (u64::from(version) << 16) ^ word as u64;
        bytes.copy_from_slice(&mark.wrapping_mul(0x9E37_79B9_7F4A_7C15).to_le_bytes());
    }
}

fn holds(frame: &Frame, page: u32, version: u32) -> bool {
    let mut wanted = Frame([0; PAGE_SIZE]);
    fill(&mut wanted, page, version);
    frame.0 == wanted.0
}

/// First, last and some pages between, once each.
fn some_pages(link: &dyn Link, count: u32) -> Vec<u32> {
    let last = link.capacity_pages() - 1;
    (0..count).map(|n| (u64::from(n) * u64::from(last) / u64::from(count - 1)) as u32).collect()
}

/// What a write back has taken, a fetch brings, from anywhere and in any batch.
pub fn what_was_written_is_read_back(rig: &mut Rig<'_>) {
    let pages = some_pages(rig.link, 256);
    pages.iter().enumerate().for_each(|(n, &page)| fill(&mut rig.frames[n], page, 1));
    let writes: Vec<_> = pages.iter().enumerate().map(|(n, &page)| write_back(page, n as u32)).collect();
    rig.do_all(&writes);
    let reads: Vec<_> =
        pages.iter().enumerate().rev().map(|(n, &page)| needed(page, 256 + n as u32)).collect();
    rig.do_all(&reads);
    for (n, &page) in pages.iter().enumerate() {
        assert!(holds(&rig.frames[n], page, 1), "writing page {page} changed its frame");
        assert!(holds(&rig.frames[256 + n], page, 1), "page {page} came back changed");
    }
}

/// Far memory starts as zeros.
pub fn pages_that_were_never_written_read_as_zeros(rig: &mut Rig<'_>) {
    for page in some_pages(rig.link, 16) {
        assert!(rig.read(page).iter().all(|&byte| byte == 0), "page {page} is not zero");
    }
}

/// One completion for each transfer, the same as it was submitted, however many there are.
pub fn everything_lands_exactly_once(rig: &mut Rig<'_>) {
    let kinds = [TransferKind::FetchNeeded, TransferKind::FetchGuess, TransferKind::WriteBack];
    let mut submitted = HashSet::new();
    let mut landed = Vec::new();
    for round in 0..8 {
        let of = |n: u32| transfer(kinds[(n % 3) as usize], round * 64 + n, round * 64 + n);
        let mut batch: Vec<_> = (0..64).map(of).collect();
        batch.sort_by_key(|transfer| transfer.kind != TransferKind::FetchNeeded);
        rig.submit(&batch);
        submitted.extend(batch);
        rig.turn();
    }
    landed.extend(rig.land_all());
    assert_eq!(landed.len(), submitted.len());
    assert!(landed.iter().all(|end| end.result.is_ok() && submitted.remove(&end.transfer)));
    assert_eq!((rig.link.in_flight(), rig.link.next_due()), (0, None));
}

/// The count goes up with a batch, down with each completion, and trims are not in it.
pub fn in_flight_counts_what_has_not_landed(rig: &mut Rig<'_>) {
    assert_eq!((rig.link.in_flight(), rig.link.next_due()), (0, None));
    let batch: Vec<_> = (0..100).map(|n| needed(n, n)).collect();
    rig.submit(&batch);
    rig.submit(&[transfer(TransferKind::Trim, 200, 0)]);
    let mut landed = 0;
    while landed < batch.len() {
        assert_eq!(rig.link.in_flight(), batch.len() - landed);
        rig.turn();
        landed += rig.landed.drain(..).count();
    }
    assert_eq!(rig.link.in_flight(), 0);
}

/// A page that does not exist is an error of that transfer alone.
pub fn a_page_beyond_the_end_lands_out_of_range(rig: &mut Rig<'_>) {
    let end = rig.link.capacity_pages();
    rig.frames[1].0.fill(7);
    let trim = Transfer { count: u32::MAX, ..transfer(TransferKind::Trim, end, 0) };
    rig.submit(&[needed(end, 0), needed(end - 1, 2), write_back(end, 1), write_back(u32::MAX, 1), trim]);
    let landed = rig.land_all();
    assert_eq!(landed.len(), 4);
    for Landed { transfer, result } in landed {
        let wanted = if transfer.page.0 < end { Ok(()) } else { Err(LinkError::OutOfRange) };
        assert_eq!(result, wanted, "{transfer:?}");
    }
    assert!(rig.read(0).iter().all(|&byte| byte == 0), "nothing was written elsewhere");
}

/// A trimmed page may be written anew at once, and the pages around the run stay.
pub fn a_trim_never_lands_and_harms_no_neighbour(rig: &mut Rig<'_>) {
    (0..32).for_each(|n| fill(&mut rig.frames[n as usize], n, 1));
    let writes: Vec<_> = (0..32).map(|n| write_back(n, n)).collect();
    rig.do_all(&writes);
    fill(&mut rig.frames[40], 12, 2);
    let run = Transfer { count: 10, ..transfer(TransferKind::Trim, 8, 0) };
    rig.do_all(&[
        transfer(TransferKind::Trim, 6, 0),
        transfer(TransferKind::Trim, 7, 0),
        run,
        write_back(12, 40),
    ]);
    let reads: Vec<_> = (0..32).map(|n| needed(n, 100 + n)).collect();
    rig.do_all(&reads);
    for page in (0..6).chain(18..32) {
        assert!(holds(&rig.frames[100 + page as usize], page, 1), "page {page} was not trimmed");
    }
    assert!(holds(&rig.frames[112], 12, 2), "page 12 was written after the trim");
}

/// A trim never lands, so a write back of its pages may follow at any time, in the same batch or a later one; what was
/// written then stays, however long the trim takes.
pub fn a_trim_never_destroys_what_is_written_after_it(rig: &mut Rig<'_>) {
    for round in 0..20 {
        let version = round + 1;
        (0..64).for_each(|n| fill(&mut rig.frames[n as usize], n, version));
        let trim = Transfer { count: 2048, ..transfer(TransferKind::Trim, 0, 0) };
        let writes: Vec<_> = (0..64).map(|n| write_back(n, n)).collect();
        if round % 2 == 0 {
            rig.submit(&[trim]);
            rig.do_all(&writes);
        } else {
            rig.do_all(&[&[trim], &writes[..]].concat());
        }
        let reads: Vec<_> = (0..64).map(|n| needed(n, 100 + n)).collect();
        rig.do_all(&reads);
        for page in 0..64 {
            assert!(holds(&rig.frames[100 + page as usize], page, version), "page {page}, round {round}");
        }
    }
}

/// A wait with nothing to wait for is no wait.
pub fn waiting_returns_at_once_when_nothing_is_in_flight(rig: &mut Rig<'_>) {
    rig.link.wait_landed(rig.frames, &mut rig.landed);
    assert!(rig.landed.is_empty());
}

/// Whoever only ever waits gets everything, at least one completion a wait.
pub fn waiting_alone_brings_everything_in(rig: &mut Rig<'_>) {
    rig.now = farmem_link::monotonic_now();
    let batch: Vec<_> = (0..64).map(|n| needed(n, n)).collect();
    rig.submit(&batch);
    while rig.link.in_flight() > 0 {
        let before = rig.landed.len();
        rig.link.wait_landed(rig.frames, &mut rig.landed);
        assert!(rig.landed.len() > before, "a wait brought nothing");
    }
    assert_eq!(rig.landed.len(), batch.len());
}

/// Fetches, write backs and trims in random batches, with random polls between, against a map of versions.
pub fn ten_thousand_random_transfers_agree_with_a_model(rig: &mut Rig<'_>) {
    let mut model = Model {
        random: Random(0x5EED),
        pages: some_pages(rig.link, 700),
        versions: HashMap::new(),
        busy_pages: HashSet::new(),
        free_frames: (0..FRAMES as u32).collect(),
    };
    let mut submitted = 0;
    while submitted < 10_000 {
        let batch = model.next_batch(rig.frames, submitted);
        submitted += batch.len() as u32;
        rig.submit(&batch);
        for trim in batch.iter().filter(|transfer| transfer.kind == TransferKind::Trim) {
            model.busy_pages.remove(&trim.page.0);
            model.free_frames.push(trim.frame.0);
        }
        for _ in 0..model.random.below(4) {
            rig.turn();
        }
        let landed =
            if model.random.below(20) == 0 { rig.land_all() } else { std::mem::take(&mut rig.landed) };
        landed.into_iter().for_each(|end| model.check(end, rig.frames));
    }
    rig.land_all().into_iter().for_each(|end| model.check(end, rig.frames));
    assert!(model.busy_pages.is_empty(), "{:?} never landed", model.busy_pages);
}

/// What far memory ought to hold.
struct Model {
    random: Random,
    pages: Vec<u32>,
    /// The version of each page that has been written and not been trimmed since.
    versions: HashMap<u32, u32>,
    busy_pages: HashSet<u32>,
    free_frames: Vec<u32>,
}

impl Model {
    /// Transfers of pages that are not in flight, needed fetches first; `version` marks what is written.
    fn next_batch(&mut self, frames: &mut [Frame], version: u32) -> Vec<Transfer> {
        let mut batch = Vec::new();
        for _ in 0..self.random.below(64) {
            let page = self.pages[self.random.below(self.pages.len() as u32) as usize];
            if self.free_frames.is_empty() || !self.busy_pages.insert(page) {
                continue;
            }
            let frame = self.free_frames.pop().expect("it is not empty");
            let kind = match self.random.below(10) {
                0..4 => TransferKind::WriteBack,
                4..7 => TransferKind::FetchNeeded,
                7..9 => TransferKind::FetchGuess,
                _ => TransferKind::Trim,
            };
            if kind == TransferKind::WriteBack {
                fill(&mut frames[frame as usize], page, version);
                self.versions.insert(page, version);
            } else if kind == TransferKind::Trim {
                self.versions.remove(&page);
            }
            batch.push(transfer(kind, page, frame));
        }
        batch.sort_by_key(|transfer| transfer.kind != TransferKind::FetchNeeded);
        batch
    }

    fn check(&mut self, end: Landed, frames: &[Frame]) {
        let Transfer { kind, page: PageNo(page), frame, .. } = end.transfer;
        assert_eq!(end.result, Ok(()));
        assert!(self.busy_pages.remove(&page), "page {page} landed twice");
        self.free_frames.push(frame.0);
        if let (Some(&version), true) = (self.versions.get(&page), kind != TransferKind::WriteBack) {
            assert!(
                holds(&frames[frame.0 as usize], page, version),
                "page {page} is not of version {version}"
            );
        }
    }
}

/// A small deterministic generator (xorshift64*), so that a failure repeats.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u32) -> u32 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let high = self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 32;
        ((high * u64::from(limit)) >> 32) as u32
    }
}
