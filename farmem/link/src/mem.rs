//! Far memory that is memory of this process, in a mapping named `remora-far`, behind a modelled wire
//! if one is asked for.
//!
//! The wire is [`farmem::WireModel`]: a page that is fetched is copied when it lands, a page that is written
//! back when it leaves. Without a model a page is copied as it is submitted, and has landed by the next
//! poll.
//!
//! Refuses to read a clock, except in `wait_landed`, which really waits (on
//! [`monotonic_now`](crate::monotonic_now)).

use crate::ended::Ended;
use crate::map::SharedMap;
use crate::monotonic_now;
use farmem::{Frame, Instant, Landed, Link, LinkError, PAGE_SIZE, Transfer, TransferKind, Wire, WireModel};
use rustix::fs::{FallocateFlags, MemfdFlags, fallocate, ftruncate, memfd_create};
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
    wire: Option<WireModel>,
    /// Over, and only to be told: whatever is not modelled, and what was refused.
    ended: Ended,
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
            wire: (wire != Wire::default()).then(|| WireModel::new(wire, 0)),
            ended: Ended::default(),
        })
    }

    /// Another link to the same memory, without a wire.
    ///
    /// # Errors
    /// What mmap answers.
    pub(crate) fn twin(&self) -> io::Result<MemLink> {
        let far = SharedMap::new(self.far.file().try_clone()?, self.pages)?;
        Ok(MemLink { far, pages: self.pages, wire: None, ended: Ended::default() })
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
        if let Some(wire) = &mut self.wire {
            wire.begin(now);
        }
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
            } else if let Some(wire) = &mut self.wire {
                if transfer.kind == TransferKind::WriteBack {
                    self.far.write(transfer.page.0 as usize, &frames[transfer.frame.0 as usize]);
                }
                wire.send(transfer, now);
            } else {
                self.copy_now(transfer, frames, now);
            }
        }
        self.punch(hole.0, hole.1);
        if let Some(wire) = &mut self.wire {
            wire.begin(now);
        }
    }

    fn poll_landed(&mut self, frames: &mut [Frame], now: Instant, landed: &mut Vec<Landed>) {
        self.ended.drain_into(landed);
        let Some(wire) = &mut self.wire else { return };
        wire.begin(now);
        while let Some(transfer) = wire.pop_landed(now) {
            if transfer.kind != TransferKind::WriteBack {
                if let Some(next) = wire.next_fetch() {
                    self.far.expect(next.page.0 as usize);
                }
                self.far.read(transfer.page.0 as usize, &mut frames[transfer.frame.0 as usize]);
            }
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

    fn next_due(&self) -> Option<Instant> {
        let wire = self.wire.as_ref().and_then(WireModel::next_due);
        [self.ended.due(), wire].into_iter().flatten().min()
    }

    fn in_flight(&self) -> usize {
        self.wire.as_ref().map_or(0, WireModel::in_flight) + self.ended.len()
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
