//! Far memory that is memory of this process, in a mapping named `remora-far`, behind a modelled wire
//! if one is asked for.
//!
//! ```text
//!            needed ─────────────┐
//!   submit ─┤                    ├─► reads wire: one page at a time ──latency──► landed (copied here)
//!            guesses ─► queued ──┘   (a guess starts only while no needed page does)
//!            write backs (copied here) ─► writes wire ──────────────latency──► landed
//! ```
//!
//! Each direction carries one page after the other: a page leaves when it is submitted or the wire is
//! free, takes 4096 bytes / bandwidth, and lands a latency later. A needed page waits for no guess but
//! the one that is on the wire already. Without a model a page is copied as it is submitted, and has
//! landed by the next poll.
//!
//! Refuses to read a clock, except in `wait_landed`, which really waits (on
//! [`monotonic_now`](crate::monotonic_now)).

use crate::ended::Ended;
use crate::map::SharedMap;
use crate::monotonic_now;
use crate::uri::Wire;
use farmem::{Frame, Instant, Landed, Link, LinkError, PAGE_SIZE, Transfer, TransferKind};
use rustix::fs::{FallocateFlags, MemfdFlags, fallocate, ftruncate, memfd_create};
use std::collections::VecDeque;
use std::io;
use std::time::Duration;

/// What /proc/PID/smaps shows of far memory (`/memfd:remora-far`), so that it can be told from local memory.
const MAPPING_NAME: &str = "remora-far";
/// `wait_landed` sleeps until this long before a page is due, and spins from then on: a sleeping thread
/// is woken some 50 us late.
const SPIN_NS: u64 = 100_000;

/// Far memory of this process.
pub struct MemLink {
    far: SharedMap,
    pages: u32,
    /// `None` without a model.
    wire: Option<Wire>,
    page_ns: u64,
    reads: Direction,
    writes: Direction,
    /// Guesses that have not started on the reads wire, with the time of their submission.
    guesses: VecDeque<(Instant, Transfer)>,
    /// Over, and only to be told: whatever is not modelled, and what was refused.
    ended: Ended,
}

/// One direction of the wire.
#[derive(Default)]
struct Direction {
    /// When the page that is last in line has left.
    free: Instant,
    /// On the wire, by the time of their landing, which is the order in which they started.
    flying: VecDeque<(Instant, Transfer)>,
}

impl Direction {
    /// Puts a page on the wire, behind those that are there.
    #[inline]
    fn start(&mut self, transfer: Transfer, asked: Instant, page_ns: u64, latency_ns: u64) {
        self.free = Instant(self.free.max(asked).0 + page_ns);
        self.flying.push_back((Instant(self.free.0 + latency_ns), transfer));
    }

    /// The next page that has landed by `now`.
    #[inline]
    fn pop_landed(&mut self, now: Instant) -> Option<Transfer> {
        let &(due, transfer) = self.flying.front()?;
        (due <= now).then(|| {
            self.flying.pop_front();
            transfer
        })
    }

    fn due(&self) -> Option<Instant> {
        self.flying.front().map(|&(due, _)| due)
    }
}

impl MemLink {
    /// Makes far memory of `size_bytes`, rounded down to whole pages. Nothing is used until it is written.
    ///
    /// # Errors
    /// What memfd_create and mmap answer.
    pub fn open(size_bytes: u64, wire: Wire) -> io::Result<MemLink> {
        let pages = crate::whole_pages(size_bytes)?;
        let file = memfd_create(MAPPING_NAME, MemfdFlags::CLOEXEC)?;
        ftruncate(&file, u64::from(pages) * PAGE_SIZE as u64)?;
        Ok(MemLink {
            far: SharedMap::new(file, pages)?,
            pages,
            wire: (wire != Wire::default()).then_some(wire),
            page_ns: wire.page_ns(),
            reads: Direction::default(),
            writes: Direction::default(),
            guesses: VecDeque::new(),
            ended: Ended::default(),
        })
    }

    /// Lets queued guesses start for which the wire has become free by `now`.
    #[inline]
    fn start_guesses(&mut self, now: Instant, latency_ns: u64) {
        while self.reads.free <= now
            && let Some((asked, guess)) = self.guesses.pop_front()
        {
            self.reads.start(guess, asked, self.page_ns, latency_ns);
        }
    }

    /// No wire: the page moves here and now.
    #[inline]
    fn copy_now(&mut self, transfer: Transfer, frames: &mut [Frame], now: Instant) {
        let (page, frame) = (transfer.page.0 as usize, &mut frames[transfer.frame.0 as usize]);
        match transfer.kind {
            TransferKind::WriteBack => self.far.write(page, frame),
            _ => self.far.read(page, frame),
        }
        self.ended.push(transfer, Ok(()), now);
    }

    /// Sends the page on its way over the modelled wire.
    #[inline]
    fn send(&mut self, transfer: Transfer, frames: &[Frame], now: Instant, latency_ns: u64) {
        match transfer.kind {
            TransferKind::FetchNeeded => self.reads.start(transfer, now, self.page_ns, latency_ns),
            TransferKind::FetchGuess => self.guesses.push_back((now, transfer)),
            _ => {
                self.far.write(transfer.page.0 as usize, &frames[transfer.frame.0 as usize]);
                self.writes.start(transfer, now, self.page_ns, latency_ns);
            }
        }
    }

    /// Gives the memory of a run of pages back to the system.
    fn punch(&self, first: u32, count: u32) {
        let count = count.min(self.pages.saturating_sub(first));
        if count == 0 {
            return;
        }
        let page_size = PAGE_SIZE as u64;
        let hole = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        let run = (u64::from(first) * page_size, u64::from(count) * page_size);
        if let Err(error) = fallocate(self.far.file(), hole, run.0, run.1) {
            log::debug!("cannot trim {count} far pages: {error}");
        }
    }
}

impl Link for MemLink {
    fn submit(&mut self, batch: &[Transfer], frames: &mut [Frame], now: Instant) {
        let latency_ns = self.wire.map_or(0, |wire| wire.latency_ns);
        self.start_guesses(now, latency_ns);
        // Neighbouring trims are one hole; a hole is punched before anything else touches far memory.
        let mut hole = (0, 0);
        for (index, &transfer) in batch.iter().enumerate() {
            if let Some(next) = batch.get(index + 1)
                && (self.wire.is_none() || next.kind == TransferKind::WriteBack)
            {
                self.far.expect(next.page.0 as usize);
            }
            if transfer.kind == TransferKind::Trim {
                let first = transfer.page.0;
                if hole.0 + hole.1 == first {
                    hole.1 += transfer.count;
                } else {
                    self.punch(hole.0, hole.1);
                    hole = (first, transfer.count);
                }
                continue;
            }
            if hole.1 > 0 {
                self.punch(hole.0, hole.1);
                hole = (0, 0);
            }
            if transfer.page.0 >= self.pages {
                self.ended.push(transfer, Err(LinkError::OutOfRange), now);
            } else if self.wire.is_some() {
                self.send(transfer, frames, now, latency_ns);
            } else {
                self.copy_now(transfer, frames, now);
            }
        }
        self.punch(hole.0, hole.1);
        self.start_guesses(now, latency_ns);
    }

    fn poll_landed(&mut self, frames: &mut [Frame], now: Instant, landed: &mut Vec<Landed>) {
        self.ended.drain_into(landed);
        let Some(wire) = self.wire else { return };
        self.start_guesses(now, wire.latency_ns);
        while let Some(transfer) = self.reads.pop_landed(now) {
            if let Some((_, next)) = self.reads.flying.front() {
                self.far.expect(next.page.0 as usize);
            }
            self.far.read(transfer.page.0 as usize, &mut frames[transfer.frame.0 as usize]);
            landed.push(Landed { transfer, result: Ok(()) });
        }
        while let Some(transfer) = self.writes.pop_landed(now) {
            landed.push(Landed { transfer, result: Ok(()) });
        }
    }

    fn wait_landed(&mut self, frames: &mut [Frame], landed: &mut Vec<Landed>) {
        let before = landed.len();
        while self.in_flight() > 0 {
            let now = monotonic_now();
            self.poll_landed(frames, now, landed);
            if landed.len() > before {
                return;
            }
            match self.next_due().map_or(0, |due| due.0.saturating_sub(now.0)) {
                wait_ns if wait_ns > SPIN_NS => std::thread::sleep(Duration::from_nanos(wait_ns - SPIN_NS)),
                _ => std::hint::spin_loop(),
            }
        }
    }

    /// Every queued guess follows a page that is on the wire, so the fronts of both directions suffice.
    fn next_due(&self) -> Option<Instant> {
        [self.ended.due(), self.reads.due(), self.writes.due()].into_iter().flatten().min()
    }

    fn in_flight(&self) -> usize {
        self.reads.flying.len() + self.writes.flying.len() + self.guesses.len() + self.ended.len()
    }

    fn capacity_pages(&self) -> u32 {
        self.pages
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use farmem::{FrameNo, PageNo};

    const LATENCY_NS: u64 = 2_600;
    const PAGE_NS: u64 = 328;

    fn modelled() -> MemLink {
        let wire = Wire { latency_ns: LATENCY_NS, bandwidth_bits: 100_000_000_000 };
        MemLink::open(1 << 20, wire).expect("a megabyte is there")
    }

    fn transfer(kind: TransferKind, page: u32) -> Transfer {
        Transfer { kind, page: PageNo(page), count: 1, frame: FrameNo(page) }
    }

    fn frames() -> Vec<Frame> {
        (0..64).map(|_| Frame([0; PAGE_SIZE])).collect()
    }

    /// Which pages landed when, polling whenever the link says that something is due.
    fn landings(link: &mut MemLink, frames: &mut [Frame]) -> Vec<(u64, u32)> {
        let mut times = Vec::new();
        let mut landed = Vec::new();
        while let Some(due) = link.next_due() {
            link.poll_landed(frames, due, &mut landed);
            times.extend(landed.drain(..).map(|end| (due.0, end.transfer.page.0)));
        }
        assert_eq!(link.in_flight(), 0);
        times
    }

    #[test]
    fn n_pages_asked_for_together_take_one_latency_and_n_times_the_wire() {
        let (mut link, mut frames) = (modelled(), frames());
        let batch: Vec<_> = (0..50).map(|page| transfer(TransferKind::FetchNeeded, page)).collect();
        link.submit(&batch, &mut frames, Instant(1_000));
        let wanted: Vec<_> =
            (0..50).map(|page| (1_000 + LATENCY_NS + PAGE_NS * (u64::from(page) + 1), page)).collect();
        assert_eq!(landings(&mut link, &mut frames), wanted);
    }

    #[test]
    fn a_needed_page_waits_for_no_guess_but_the_one_on_the_wire() {
        let (mut link, mut frames) = (modelled(), frames());
        let guesses: Vec<_> = (0..10).map(|page| transfer(TransferKind::FetchGuess, page)).collect();
        link.submit(&guesses, &mut frames, Instant(0));
        // The second guess is on the wire from 328 to 656; eight more are queued.
        link.submit(&[transfer(TransferKind::FetchNeeded, 20)], &mut frames, Instant(400));
        let times = landings(&mut link, &mut frames);
        assert_eq!(times[..3], [(328 + LATENCY_NS, 0), (656 + LATENCY_NS, 1), (984 + LATENCY_NS, 20)]);
        assert_eq!(times[3..].len(), 8);
        assert_eq!(times[10], (11 * PAGE_NS + LATENCY_NS, 9));
    }

    #[test]
    fn write_backs_and_reads_use_their_own_directions() {
        let (mut link, mut frames) = (modelled(), frames());
        let batch = [transfer(TransferKind::FetchNeeded, 1), transfer(TransferKind::WriteBack, 2)];
        link.submit(&batch, &mut frames, Instant(0));
        let due = PAGE_NS + LATENCY_NS;
        assert_eq!(landings(&mut link, &mut frames), [(due, 1), (due, 2)]);
    }

    #[test]
    fn a_late_poll_loses_no_time_on_the_wire() {
        let (mut link, mut frames) = (modelled(), frames());
        let guesses: Vec<_> = (0..10).map(|page| transfer(TransferKind::FetchGuess, page)).collect();
        link.submit(&guesses, &mut frames, Instant(0));
        let mut landed = Vec::new();
        link.poll_landed(&mut frames, Instant(10 * PAGE_NS + LATENCY_NS), &mut landed);
        assert_eq!(landed.len(), 10);
    }

    #[test]
    fn far_memory_is_a_mapping_of_its_own_name_and_a_trim_gives_it_back() {
        let mut link = MemLink::open(64 << 20, Wire::default()).expect("memory is there");
        let mut frames = frames();
        frames[0].0.fill(9);
        let used = |link: &MemLink| rustix::fs::fstat(link.far.file()).expect("it is open").st_blocks * 512;
        let mut landed = Vec::new();
        for page in 0..1024 {
            let write = Transfer { frame: FrameNo(0), ..transfer(TransferKind::WriteBack, page) };
            link.submit(&[write], &mut frames, Instant(0));
            link.poll_landed(&mut frames, Instant(0), &mut landed);
        }
        assert_eq!(used(&link), 4 << 20);
        let maps = std::fs::read_to_string("/proc/self/smaps").expect("Linux has smaps");
        assert!(maps.contains("remora-far"));
        let trims: Vec<_> = (0..1023).map(|page| transfer(TransferKind::Trim, page)).collect();
        link.submit(&trims, &mut frames, Instant(0));
        assert_eq!(link.in_flight(), 0);
        assert_eq!(used(&link), PAGE_SIZE as i64);
    }

    #[test]
    fn waiting_really_waits_on_the_monotonic_clock() {
        let wire = Wire { latency_ns: 3_000_000, bandwidth_bits: 0 };
        let (mut link, mut frames) = (MemLink::open(1 << 20, wire).expect("memory is there"), frames());
        let start = monotonic_now();
        link.submit(&[transfer(TransferKind::FetchNeeded, 1)], &mut frames, start);
        let mut landed = Vec::new();
        link.wait_landed(&mut frames, &mut landed);
        assert_eq!(landed.len(), 1);
        assert!(monotonic_now().0 - start.0 >= 3_000_000);
    }
}
