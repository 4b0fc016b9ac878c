//! Far memory in a file or block device (NVMe), through O_DIRECT and io_uring: pages go straight into and
//! out of frames, many at once, and completions are found without a system call.
//!
//! ```text
//!   submit ─┬─ needed ─────────► needed queue ─┐           one io_uring_enter a batch
//!           └─ guess, write back, trim ─► rest ─┴─► slots (DEPTH) ──► device ──► CQ ──► landed
//!                                          ▲          │ page is in a slot already
//!                                          └── held ◄─┘ (goes on when that one has ended)
//! ```
//!
//! Two transfers of one page never race: the later one is held until the earlier one has ended. A needed
//! fetch overtakes all that has no slot yet, and the rest may not fill the last slots.
//!
//! Refuses frames that are not in an [`Arena`](crate::Arena): the device writes to them while nobody
//! looks, so they must stay mapped for ever. Refuses to retry: what fails lands as [`LinkError::Io`].

use crate::arena::is_in_arena;
use crate::ended::Ended;
use farmem::{Frame, Instant, Landed, Link, LinkError, PAGE_SIZE, PageNo, Transfer, TransferKind};
use io_uring::{IoUring, cqueue, opcode, squeue, types};
use rustix::event::{EventfdFlags, eventfd};
use rustix::fs::{FallocateFlags, OFlags};
use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::{self, Seek, SeekFrom};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::Path;

/// Transfers that the device has at once. An NVMe drive is saturated by 32 to 128 reads of 4 KiB; twice
/// that hides the time between two polls.
const DEPTH_MAX: usize = 256;
/// Slots that guesses, write backs and trims may fill: a quarter stays for what a command waits for.
const REST_MAX: usize = DEPTH_MAX - DEPTH_MAX / 4;

/// Far memory in a file or block device.
pub struct FileLink {
    ring: IoUring,
    file: File,
    event: OwnedFd,
    pages: u32,
    slots: Slots,
    needed: VecDeque<Transfer>,
    rest: VecDeque<Transfer>,
    held: VecDeque<Transfer>,
    ended: Ended,
    /// Submitted and not landed, trims apart.
    in_flight: usize,
    /// The frames that were found to lie in an arena: address and number.
    checked: (usize, usize),
}

/// What the device has.
struct Slots {
    transfers: Vec<Option<Transfer>>,
    /// First page and count of each slot's transfer, count 0 when free: what the scan for a clash reads.
    runs: Vec<(u32, u32)>,
    free: Vec<u16>,
    /// Busy slots whose transfer is no needed fetch.
    rest: usize,
}

impl Slots {
    fn new() -> Slots {
        Slots {
            transfers: vec![None; DEPTH_MAX],
            runs: vec![(0, 0); DEPTH_MAX],
            free: (0..DEPTH_MAX as u16).rev().collect(),
            rest: 0,
        }
    }

    /// Whether a page of this transfer is on its way already.
    #[inline]
    fn clashes(&self, transfer: &Transfer) -> bool {
        let (first, count) = (transfer.page.0, transfer.count);
        self.free.len() < DEPTH_MAX
            && self.runs.iter().fold(false, |any, &run| any | overlap(run, (first, count)))
    }

    /// Takes a free slot, of which there must be one.
    fn take(&mut self, transfer: Transfer) -> u16 {
        let slot = self.free.pop().expect("the caller has seen a free slot");
        self.transfers[usize::from(slot)] = Some(transfer);
        self.runs[usize::from(slot)] = (transfer.page.0, transfer.count);
        self.rest += usize::from(transfer.kind != TransferKind::FetchNeeded);
        slot
    }

    /// Frees a slot.
    fn give_back(&mut self, slot: usize) -> Transfer {
        let transfer = self.transfers[slot].take().expect("only what has been started completes");
        self.runs[slot] = (0, 0);
        self.rest -= usize::from(transfer.kind != TransferKind::FetchNeeded);
        self.free.push(slot as u16);
        transfer
    }

    fn busy(&self) -> usize {
        DEPTH_MAX - self.free.len()
    }
}

/// Whether two runs of pages share a page.
#[inline]
fn overlap(a: (u32, u32), b: (u32, u32)) -> bool {
    (b.0.wrapping_sub(a.0) < a.1) | (a.0.wrapping_sub(b.0) < b.1)
}

impl FileLink {
    /// Opens `path`. A file that is missing or too small is made `size_bytes` long, sparsely.
    ///
    /// # Errors
    /// What the system answers, e.g. `ENOSYS` or `EPERM` where io_uring is switched off.
    pub fn open(path: &Path, size_bytes: Option<u64>) -> io::Result<FileLink> {
        let mut file = open_direct(path, size_bytes.is_some())?;
        let is_device = file.metadata()?.file_type().is_block_device();
        let len = file.seek(SeekFrom::End(0))?;
        let wanted = size_bytes.unwrap_or(len);
        let pages = crate::whole_pages(wanted)?;
        if wanted > len && is_device {
            let why = format!("the device has only {len} bytes");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
        }
        if wanted > len {
            file.set_len(wanted)?;
        }
        crate::lock_alone(&file)?;
        let ring = IoUring::new(DEPTH_MAX as u32)?;
        let event = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        ring.submitter().register_eventfd(event.as_raw_fd())?;
        ring.submitter().register_files(&[file.as_raw_fd()])?;
        Ok(FileLink {
            ring,
            file,
            event,
            pages,
            slots: Slots::new(),
            needed: VecDeque::new(),
            rest: VecDeque::new(),
            held: VecDeque::new(),
            ended: Ended::default(),
            in_flight: 0,
            checked: (0, 0),
        })
    }

    /// Becomes readable when a transfer completes. To be watched for edges (`EPOLLET`, as tokio's `AsyncFd`
    /// does); it need not be read, since each completion is an edge of its own.
    pub fn event_fd(&self) -> BorrowedFd<'_> {
        self.event.as_fd()
    }

    /// Gives the device what there is room for, needed fetches first.
    fn pump(&mut self, frames: &mut [Frame]) {
        while !self.slots.free.is_empty() {
            let next = self
                .needed
                .pop_front()
                .or_else(|| if self.slots.rest < REST_MAX { self.rest.pop_front() } else { None });
            let Some(transfer) = next else { break };
            let run = (transfer.page.0, transfer.count);
            let must_wait = self.held.iter().any(|held| overlap((held.page.0, held.count), run));
            if must_wait || self.slots.clashes(&transfer) {
                self.held.push_back(transfer);
            } else {
                self.start(transfer, frames);
            }
        }
        self.enter();
    }

    /// Hands queued entries to the kernel. If it is short of something they stay queued until the next call.
    fn enter(&mut self) {
        if !self.ring.submission().is_empty()
            && let Err(error) = self.ring.submit()
        {
            log::debug!("io_uring takes nothing at the moment: {error}");
        }
    }

    fn start(&mut self, transfer: Transfer, frames: &mut [Frame]) {
        let (file, offset) = (types::Fixed(0), u64::from(transfer.page.0) * PAGE_SIZE as u64);
        let entry = match transfer.kind {
            TransferKind::Trim => {
                let hole = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
                let len = u64::from(transfer.count) * PAGE_SIZE as u64;
                opcode::Fallocate::new(file, len).offset(offset).mode(hole.bits() as i32).build()
            }
            TransferKind::WriteBack => {
                let bytes = self.frame_bytes(transfer, frames);
                opcode::Write::new(file, bytes, PAGE_SIZE as u32).offset(offset).build()
            }
            TransferKind::FetchNeeded | TransferKind::FetchGuess => {
                let bytes = self.frame_bytes(transfer, frames);
                opcode::Read::new(file, bytes, PAGE_SIZE as u32).offset(offset).build()
            }
        };
        let slot = self.slots.take(transfer);
        self.push(entry.user_data(u64::from(slot)));
    }

    fn push(&mut self, entry: squeue::Entry) {
        // SAFETY: the entry's buffer, if any, is a frame of an arena (`frame_bytes` has checked), which is
        // never unmapped, and by the contract of `Link` the frame belongs to this transfer until it has
        // landed. The file is registered with the ring, and the ring is drained before it is dropped.
        unsafe { self.ring.submission().push(&entry) }.expect("the queue is as long as there are slots");
    }

    /// The memory of a transfer's frame.
    ///
    /// # Panics
    /// If it lies in no arena.
    fn frame_bytes(&mut self, transfer: Transfer, frames: &mut [Frame]) -> *mut u8 {
        let here = (frames.as_ptr().addr(), frames.len());
        if self.checked != here {
            assert!(is_in_arena(frames), "the frames of a file link must lie in an arena");
            self.checked = here;
        }
        frames[transfer.frame.0 as usize].0.as_mut_ptr()
    }

    /// Takes completions from the ring; nothing is asked of the kernel.
    fn reap(&mut self, frames: &mut [Frame], landed: &mut Vec<Landed>) {
        let before = self.slots.busy();
        loop {
            let Some(completion) = self.ring.completion().next() else { break };
            let transfer = self.slots.give_back(completion.user_data() as usize);
            let result = self.result_of(transfer, &completion, frames);
            if transfer.kind != TransferKind::Trim {
                landed.push(Landed { transfer, result });
                self.in_flight -= 1;
            }
        }
        if self.slots.busy() < before {
            while let Some(transfer) = self.held.pop_back() {
                self.queue_of(transfer.kind).push_front(transfer);
            }
        }
    }

    fn queue_of(&mut self, kind: TransferKind) -> &mut VecDeque<Transfer> {
        if kind == TransferKind::FetchNeeded { &mut self.needed } else { &mut self.rest }
    }

    fn result_of(
        &self,
        transfer: Transfer,
        end: &cqueue::Entry,
        frames: &mut [Frame],
    ) -> Result<(), LinkError> {
        let got = end.result();
        if got == PAGE_SIZE as i32 || (got == 0 && transfer.kind == TransferKind::Trim) {
            return Ok(());
        }
        let is_fetch = matches!(transfer.kind, TransferKind::FetchNeeded | TransferKind::FetchGuess);
        let page_end = (u64::from(transfer.page.0) + 1) * PAGE_SIZE as u64;
        if got >= 0 && is_fetch && self.file.metadata().is_ok_and(|metadata| metadata.len() < page_end) {
            // Somebody cut the file: what is beyond its end reads as zeros.
            frames[transfer.frame.0 as usize].0[got as usize..].fill(0);
            return Ok(());
        }
        let error = io::Error::from_raw_os_error(-got.min(0));
        log::debug!("{:?} of page {} moved {got} bytes: {error}", transfer.kind, transfer.page.0);
        Err(LinkError::Io)
    }

    /// Queues a trim, as one with the trim before it if they are neighbours.
    fn queue_trim(&mut self, trim: Transfer) {
        let count = trim.count.min(self.pages.saturating_sub(trim.page.0));
        if let Some(last) = self.rest.back_mut()
            && last.kind == TransferKind::Trim
            && last.page.0 + last.count == trim.page.0
        {
            last.count += count;
        } else if count > 0 {
            self.rest.push_back(Transfer { count, ..trim });
        }
    }
}

/// Opens a file past the page cache, or through it where there is no other way (some tmpfs).
fn open_direct(path: &Path, create: bool) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(create).truncate(false);
    match options.clone().custom_flags(OFlags::DIRECT.bits() as i32).open(path) {
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
            log::warn!("{}: O_DIRECT is refused here, so pages go through the page cache", path.display());
            options.open(path)
        }
        opened => opened,
    }
}

impl Link for FileLink {
    fn submit(&mut self, batch: &[Transfer], frames: &mut [Frame], now: Instant) {
        for &transfer in batch {
            if transfer.kind == TransferKind::Trim {
                self.queue_trim(transfer);
                continue;
            }
            self.in_flight += 1;
            if transfer.page >= PageNo(self.pages) {
                self.ended.push(transfer, Err(LinkError::OutOfRange), now);
            } else {
                self.queue_of(transfer.kind).push_back(transfer);
            }
        }
        self.pump(frames);
    }

    fn poll_landed(&mut self, frames: &mut [Frame], _now: Instant, landed: &mut Vec<Landed>) {
        self.in_flight -= self.ended.len();
        self.ended.drain_into(landed);
        self.reap(frames, landed);
        self.pump(frames);
    }

    fn wait_landed(&mut self, frames: &mut [Frame], landed: &mut Vec<Landed>) {
        let before = landed.len();
        self.poll_landed(frames, Instant::default(), landed);
        while landed.len() == before && self.in_flight > 0 {
            if let Err(error) = self.ring.submit_and_wait(1) {
                log::debug!("io_uring cannot wait at the moment: {error}");
            }
            self.poll_landed(frames, Instant::default(), landed);
        }
    }

    /// Refused transfers have landed already; completions announce themselves through the event.
    fn next_due(&self) -> Option<Instant> {
        self.ended.due()
    }

    fn in_flight(&self) -> usize {
        self.in_flight
    }

    fn capacity_pages(&self) -> u32 {
        self.pages
    }
}

impl Drop for FileLink {
    /// Waits until the device has let go of every frame.
    fn drop(&mut self) {
        while self.slots.busy() > 0 {
            if let Err(error) = self.ring.submit_and_wait(1) {
                log::debug!("io_uring cannot wait at the moment: {error}");
            }
            while let Some(completion) = self.ring.completion().next() {
                self.slots.give_back(completion.user_data() as usize);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Arena;
    use farmem::FrameNo;
    use std::os::unix::fs::MetadataExt;

    fn transfer(kind: TransferKind, page: u32, frame: u32) -> Transfer {
        Transfer { kind, page: PageNo(page), count: 1, frame: FrameNo(frame) }
    }

    fn frames(count: usize) -> &'static mut [Frame] {
        Arena::reserve(count * PAGE_SIZE).expect("memory is there").frames()
    }

    fn wait_all(link: &mut FileLink, frames: &mut [Frame]) -> Vec<Landed> {
        let mut landed = Vec::new();
        while link.in_flight() > 0 {
            link.wait_landed(frames, &mut landed);
        }
        landed
    }

    #[test]
    fn ten_times_more_than_there_are_slots_lands_and_needed_fetches_are_among_the_first() {
        let dir = tempfile::tempdir().expect("a directory can be made");
        let mut link = FileLink::open(&dir.path().join("far"), Some(64 << 20)).expect("io_uring is there");
        let frames = frames(2560);
        let mut batch: Vec<_> = (0..2500).map(|n| transfer(TransferKind::FetchGuess, n, n)).collect();
        link.submit(&batch, frames, Instant(0));
        let needed: Vec<_> = (2500..2560).map(|n| transfer(TransferKind::FetchNeeded, n, n)).collect();
        link.submit(&needed, frames, Instant(0));
        batch.extend(&needed);
        assert_eq!(link.in_flight(), batch.len());
        assert!(link.slots.rest <= REST_MAX && link.needed.is_empty(), "needed fetches found slots");
        let mut landed = wait_all(&mut link, frames);
        assert!(landed.iter().all(|end| end.result.is_ok()));
        landed.sort_by_key(|end| end.transfer.page);
        assert!(landed.iter().map(|end| end.transfer).eq(batch));
    }

    #[test]
    fn two_write_backs_of_one_page_keep_their_order() {
        let dir = tempfile::tempdir().expect("a directory can be made");
        let mut link = FileLink::open(&dir.path().join("far"), Some(1 << 20)).expect("io_uring is there");
        let frames = frames(101);
        (0..100).for_each(|n| frames[n].0.fill(n as u8));
        let batch: Vec<_> = (0..100).map(|n| transfer(TransferKind::WriteBack, 7, n)).collect();
        link.submit(&batch, frames, Instant(0));
        let landed = wait_all(&mut link, frames);
        assert!(landed.iter().map(|end| end.transfer).eq(batch));
        link.submit(&[transfer(TransferKind::FetchNeeded, 7, 100)], frames, Instant(0));
        wait_all(&mut link, frames);
        assert!(frames[100].0 == [99; PAGE_SIZE]);
    }

    #[test]
    fn a_trim_gives_space_back_and_pages_written_after_it_stay() {
        let dir = tempfile::tempdir().expect("a directory can be made");
        let path = dir.path().join("far");
        let mut link = FileLink::open(&path, Some(1 << 20)).expect("io_uring is there");
        let frames = frames(256);
        frames.iter_mut().enumerate().for_each(|(n, frame)| frame.0.fill(n as u8));
        let writes: Vec<_> = (0..256).map(|n| transfer(TransferKind::WriteBack, n, n)).collect();
        link.submit(&writes, frames, Instant(0));
        wait_all(&mut link, frames);
        let mut batch: Vec<_> = (0..256).map(|n| transfer(TransferKind::Trim, n, 0)).collect();
        batch.push(transfer(TransferKind::WriteBack, 9, 9));
        link.submit(&batch, frames, Instant(0));
        wait_all(&mut link, frames);
        frames[10].0.fill(1);
        link.submit(&[transfer(TransferKind::FetchNeeded, 9, 10)], frames, Instant(0));
        link.submit(&[transfer(TransferKind::FetchNeeded, 10, 11)], frames, Instant(0));
        wait_all(&mut link, frames);
        assert!(frames[10].0 == [9; PAGE_SIZE]);
        assert!(frames[11].0 == [0; PAGE_SIZE]);
        let blocks = std::fs::metadata(&path).expect("it is there").blocks();
        assert!(blocks * 512 < 16 * PAGE_SIZE as u64, "{blocks} blocks of 256 pages are left");
    }

    #[test]
    fn the_event_tells_of_a_completion() {
        let dir = tempfile::tempdir().expect("a directory can be made");
        let mut link = FileLink::open(&dir.path().join("far"), Some(1 << 20)).expect("io_uring is there");
        let frames = frames(1);
        link.submit(&[transfer(TransferKind::FetchNeeded, 0, 0)], frames, Instant(0));
        let mut fds =
            [rustix::event::PollFd::from_borrowed_fd(link.event_fd(), rustix::event::PollFlags::IN)];
        let limit = rustix::event::Timespec { tv_sec: 10, tv_nsec: 0 };
        assert_eq!(rustix::event::poll(&mut fds, Some(&limit)).expect("the event can be watched"), 1);
        let mut landed = Vec::new();
        link.poll_landed(frames, Instant(0), &mut landed);
        assert_eq!(landed.len(), 1);
    }

    #[test]
    #[should_panic(expected = "must lie in an arena")]
    fn frames_that_could_be_freed_are_refused() {
        let dir = tempfile::tempdir().expect("a directory can be made");
        let mut link = FileLink::open(&dir.path().join("far"), Some(1 << 20)).expect("io_uring is there");
        link.submit(&[transfer(TransferKind::FetchNeeded, 0, 0)], &mut [Frame([0; PAGE_SIZE])], Instant(0));
    }

    #[test]
    fn a_file_is_used_by_one_link_alone() {
        let dir = tempfile::tempdir().expect("a directory can be made");
        let path = dir.path().join("far");
        let _link = FileLink::open(&path, Some(1 << 20)).expect("io_uring is there");
        assert_eq!(
            FileLink::open(&path, None).err().map(|error| error.kind()),
            Some(io::ErrorKind::WouldBlock)
        );
    }

    #[test]
    fn runs_overlap_when_they_share_a_page() {
        assert!(overlap((5, 1), (5, 1)) && overlap((5, 10), (14, 1)) && overlap((14, 1), (5, 10)));
        assert!(!overlap((5, 10), (15, 1)) && !overlap((15, 1), (5, 10)));
    }
}
