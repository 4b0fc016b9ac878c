//! The disk: requests become transfers of far memory, and transfers that land become replies.
//!
//! ```text
//!   request ─┬─ whole pages on whole pages ─► transfers that name the guest's own frames ─► landed ─► done
//!            ├─ anything else ─► pages of our own ─► what is cut is fetched ─► copied ─► written ─► done
//!            └─ a page of it is on its way already, or somebody waits ─► waits, in the order of arrival
//! ```
//!
//! Refuses to have two transfers of a page in flight, as links demand; and to keep anything when it ends: this is memory.

use crate::request::{ID_BYTES, Kind, Request, SECTOR_BYTES, Status};
use crate::written::Written;
use farmem::{FrameNo, Instant, Landed, Link, PAGE_SIZE, PageNo, Transfer, TransferKind};
use farmem_link::{LinkSet, Window};
use std::collections::{HashMap, VecDeque};
use std::io;
use std::os::fd::BorrowedFd;
use vhost::vhost_user::message::VhostUserMemoryRegion;
use vm_memory::GuestMemoryMmap;

/// Pages of our own, for requests that are not whole pages: 16 MiB, an order above the largest that Linux makes.
pub const OWN_FRAMES: usize = 4096;
/// Addresses that a guest's memory may have. Reserving them costs nothing.
const GUEST_BYTES_MAX: usize = 1 << 40;
/// The disk's name.
const ID: &[u8] = b"remora";
/// Bytes of a range in a discard. Source: virtio 1.2, 5.2.6.
const RANGE_BYTES: usize = 16;

/// A request that is over.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Done {
    /// The request.
    pub request: Request,
    /// How it went.
    pub status: Status,
    /// Bytes that were written to the guest's memory, the status apart.
    pub written: u32,
}

/// A request under way.
struct Job {
    request: Request,
    first: u32,
    count: u32,
    /// Transfers that have not landed.
    left: u32,
    has_failed: bool,
    /// Our frames, if it does not go straight to the guest's: one a page.
    own: Vec<FrameNo>,
    /// Whether it fetches what it cuts before it writes.
    is_fetching: bool,
}

/// Far memory as a disk.
pub struct Disk {
    links: LinkSet,
    window: Window,
    written: Written,
    pages: u32,
    jobs: Vec<Option<Job>>,
    free_jobs: Vec<usize>,
    /// The job of each page in flight.
    busy: HashMap<PageNo, usize>,
    waiting: VecDeque<Request>,
    own_free: Vec<FrameNo>,
    batch: Vec<Transfer>,
    landed: Vec<Landed>,
    done: Vec<Done>,
}

impl Disk {
    /// A disk on these links, empty.
    ///
    /// # Errors
    /// What mmap answers.
    pub fn new(mut links: LinkSet) -> io::Result<Disk> {
        let pages = links.capacity_pages();
        let window = Window::reserve(OWN_FRAMES, GUEST_BYTES_MAX)?;
        links.set_stretches(window.stretches());
        Ok(Disk {
            links,
            window,
            written: Written::none_of(pages),
            pages,
            jobs: Vec::new(),
            free_jobs: Vec::new(),
            busy: HashMap::new(),
            waiting: VecDeque::new(),
            own_free: (0..OWN_FRAMES as u32).rev().map(FrameNo).collect(),
            batch: Vec::new(),
            landed: Vec::new(),
            done: Vec::new(),
        })
    }

    /// Its size. Units: sectors.
    pub fn sectors(&self) -> u64 {
        u64::from(self.pages) * (PAGE_SIZE as u64 / SECTOR_BYTES)
    }

    /// Takes the guest's memory for its own frames. Nothing may be in flight.
    ///
    /// # Errors
    /// What mmap answers; memory that is not made of whole pages, or beyond what was reserved.
    pub fn set_memory(&mut self, regions: &[(VhostUserMemoryRegion, &std::fs::File)]) -> io::Result<()> {
        assert!(self.busy.is_empty(), "a frame that is in flight stays where it is");
        self.window.clear()?;
        // Also if what follows fails: then no device knows more than our own frames.
        self.links.set_stretches(self.window.stretches());
        for (region, file) in regions {
            let page = PAGE_SIZE as u64;
            let parts = [region.guest_phys_addr, region.memory_size, region.mmap_offset];
            if parts.iter().any(|part| !part.is_multiple_of(page)) {
                return Err(io::Error::new(io::ErrorKind::InvalidInput, "memory is not made of whole pages"));
            }
            let (first, count) = (region.guest_phys_addr / page, region.memory_size / page);
            self.window.map(first as usize, count as usize, file, region.mmap_offset)?;
        }
        self.links.set_stretches(self.window.stretches());
        Ok(())
    }

    /// Takes a request. What becomes of it comes out of [`Disk::poll`].
    pub fn handle_request(&mut self, request: Request, memory: &GuestMemoryMmap) {
        if self.waiting.is_empty() {
            if let Some(request) = self.try_start(request, memory) {
                self.waiting.push_back(request);
            }
        } else {
            self.waiting.push_back(request);
        }
    }

    /// Gives the links what was gathered and takes what has landed; appends what is over. Whether anything moved.
    pub fn poll(&mut self, memory: &GuestMemoryMmap, now: Instant, done: &mut Vec<Done>) -> bool {
        let submitted = self.submit(now);
        let mut landed = std::mem::take(&mut self.landed);
        self.links.poll_landed(self.window.frames(), now, &mut landed);
        self.take_landed(landed, memory);
        // What has landed may have let others start: they go out in the next round.
        let moved = submitted || !self.done.is_empty() || !self.batch.is_empty();
        done.append(&mut self.done);
        moved
    }

    /// Waits until nothing is in flight, and appends what is over. Shape: with `all`, what waits is done too,
    /// else forgotten.
    pub fn drain(&mut self, memory: &GuestMemoryMmap, all: bool, done: &mut Vec<Done>) {
        if !all {
            self.waiting.clear();
        }
        loop {
            self.submit(farmem_link::monotonic_now());
            if self.busy.is_empty() {
                break;
            }
            let mut landed = std::mem::take(&mut self.landed);
            self.links.wait_landed(self.window.frames(), &mut landed);
            self.take_landed(landed, memory);
        }
        done.append(&mut self.done);
    }

    /// When to look again, if the links know.
    pub fn next_due(&self) -> Option<Instant> {
        self.links.next_due()
    }

    /// Whether it is to be looked at now and then although nothing is asked of it.
    pub fn is_restless(&self) -> bool {
        self.links.is_restless()
    }

    /// What tells that something has landed; to be watched for edges.
    pub fn event_fds(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.links.event_fds()
    }

    fn submit(&mut self, now: Instant) -> bool {
        let any = !self.batch.is_empty();
        if any {
            self.links.submit(&self.batch, self.window.frames(), now);
            self.batch.clear();
        }
        any
    }

    /// Starts a request, or gives it back if it must wait.
    fn try_start(&mut self, request: Request, memory: &GuestMemoryMmap) -> Option<Request> {
        match request.kind {
            // Whoever was told that his write is done finds it done: far memory keeps no second cache.
            Kind::Flush => self.end(request, Status::Ok, 0),
            Kind::Id => {
                let mut name = [0; ID_BYTES];
                name[..ID.len()].copy_from_slice(ID);
                let len = request.len().min(ID_BYTES);
                let status =
                    if request.copy_in(memory, 0, &name[..len]) { Status::Ok } else { Status::Failed };
                self.end(request, status, len as u32);
            }
            Kind::Unknown(kind) => {
                log::debug!("a request of the unknown type {kind}");
                self.end(request, Status::Unsupported, 0);
            }
            Kind::Read | Kind::Write => return self.start_move(request, memory),
            Kind::Discard | Kind::WriteZeroes => return self.start_give_up(request, memory),
        }
        None
    }

    /// The pages under some sectors.
    ///
    /// # Errors
    /// The status for whoever asks beyond the end, or for parts of sectors.
    fn pages_of(&self, sector: u64, bytes: u64) -> Result<(u32, u32), Status> {
        let sectors = bytes / SECTOR_BYTES;
        let end = sector.checked_add(sectors).filter(|&end| end <= self.sectors()).ok_or(Status::Failed)?;
        if !bytes.is_multiple_of(SECTOR_BYTES) {
            return Err(Status::Failed);
        }
        let a_page = PAGE_SIZE as u64 / SECTOR_BYTES;
        let first = sector / a_page;
        // Both fit: the end is within the disk, whose pages are numbered in 32 bits.
        Ok((first as u32, (end.div_ceil(a_page) - first) as u32))
    }

    fn is_busy(&self, first: u32, count: u32) -> bool {
        !self.busy.is_empty() && (first..first + count).any(|page| self.busy.contains_key(&PageNo(page)))
    }

    fn start_move(&mut self, request: Request, memory: &GuestMemoryMmap) -> Option<Request> {
        let (first, count) = match self.pages_of(request.sector, request.len() as u64) {
            Ok((_, 0)) => {
                self.end(request, Status::Ok, 0);
                return None;
            }
            Ok(pages) => pages,
            Err(status) => {
                self.end(request, status, 0);
                return None;
            }
        };
        if self.is_busy(first, count) {
            return Some(request);
        }
        let frames = straight(&request);
        let own = match &frames {
            Some(_) => Vec::new(),
            None if count as usize > OWN_FRAMES => {
                self.end(request, Status::Failed, 0);
                return None;
            }
            None if count as usize > self.own_free.len() => return Some(request),
            None => self.own_free.split_off(self.own_free.len() - count as usize),
        };
        let is_write = request.kind == Kind::Write;
        let job = Job { request, first, count, left: 0, has_failed: false, own, is_fetching: false };
        let number = self.free_jobs.pop().unwrap_or_else(|| {
            self.jobs.push(None);
            self.jobs.len() - 1
        });
        match frames {
            Some(frames) if is_write => self.write(number, job, &frames, memory),
            Some(frames) => self.fetch(number, job, &frames, |_| true, memory),
            None => {
                let (own, cut) = (job.own.clone(), job.cut());
                let job = Job { is_fetching: is_write, ..job };
                self.fetch(number, job, &own, |page| !is_write || cut.contains(&Some(page)), memory);
            }
        }
        None
    }

    /// Starts to fetch those pages of a job that are `wanted`.
    fn fetch(
        &mut self,
        number: usize,
        mut job: Job,
        frames: &[FrameNo],
        wanted: impl Fn(PageNo) -> bool,
        memory: &GuestMemoryMmap,
    ) {
        for (page, &frame) in (job.first..).map(PageNo).zip(frames) {
            if job.is_fetching {
                // Nobody comes between what it fetches and what it writes.
                self.busy.insert(page, number);
            }
            if !wanted(page) {
                continue;
            }
            if self.written.has(page) {
                job.left += 1;
                self.busy.insert(page, number);
                self.batch.push(Transfer { kind: TransferKind::FetchNeeded, page, count: 1, frame });
            } else {
                self.window.frames()[frame.0 as usize].0.fill(0);
            }
        }
        self.keep(number, job, memory);
    }

    /// Starts to write all pages of a job.
    fn write(&mut self, number: usize, mut job: Job, frames: &[FrameNo], memory: &GuestMemoryMmap) {
        job.left = job.count;
        for (page, &frame) in (job.first..).map(PageNo).zip(frames) {
            // Even if it fails: then what is there is what the link says, an error or the old.
            self.written.set(page);
            self.busy.insert(page, number);
            self.batch.push(Transfer { kind: TransferKind::WriteBack, page, count: 1, frame });
        }
        self.keep(number, job, memory);
    }

    /// Keeps a job until its transfers have landed, or goes on with it if it has none.
    fn keep(&mut self, number: usize, job: Job, memory: &GuestMemoryMmap) {
        if job.left == 0 {
            self.go_on(number, job, memory);
        } else {
            self.jobs[number] = Some(job);
        }
    }

    /// All transfers of a job have landed.
    fn go_on(&mut self, number: usize, mut job: Job, memory: &GuestMemoryMmap) {
        let skip = (job.request.sector * SECTOR_BYTES % PAGE_SIZE as u64) as usize;
        if job.is_fetching && !job.has_failed {
            job.is_fetching = false;
            let whole = each_page(skip, job.request.len());
            let is_copied = whole.zip(&job.own).all(|((at, part), frame)| {
                job.request.copy_out(memory, at, &mut self.window.frames()[frame.0 as usize].0[part])
            });
            if is_copied {
                let own = job.own.clone();
                return self.write(number, job, &own, memory);
            }
            job.has_failed = true;
        }
        if job.request.kind == Kind::Write && job.has_failed {
            for page in job.first..job.first + job.count {
                self.busy.remove(&PageNo(page));
            }
        }
        let is_read = job.request.kind == Kind::Read;
        if is_read && !job.has_failed {
            let whole = each_page(skip, job.request.len());
            job.has_failed = !whole.zip(&job.own).all(|((at, part), frame)| {
                job.request.copy_in(memory, at, &self.window.frames()[frame.0 as usize].0[part])
            });
        }
        self.own_free.append(&mut job.own);
        self.free_jobs.push(number);
        let status = if job.has_failed { Status::Failed } else { Status::Ok };
        let written = if is_read { job.request.len() as u32 } else { 0 };
        self.end(job.request, status, written);
    }

    /// Gives up whole pages of a range; they read as zeros from now on, and far memory gets its room back.
    fn start_give_up(&mut self, request: Request, memory: &GuestMemoryMmap) -> Option<Request> {
        let mut range = [0; RANGE_BYTES];
        if request.len() != RANGE_BYTES || !request.copy_out(memory, 0, &mut range) {
            self.end(request, Status::Unsupported, 0);
            return None;
        }
        let (sector, rest) = range.split_at(8);
        let sector = u64::from_le_bytes(sector.try_into().expect("eight bytes"));
        let sectors = u32::from_le_bytes(rest[..4].try_into().expect("four bytes"));
        let bytes = u64::from(sectors) * SECTOR_BYTES;
        let is_whole = |units: u64| units.is_multiple_of(PAGE_SIZE as u64 / SECTOR_BYTES);
        let (first, count) = match self.pages_of(sector, bytes) {
            Ok(pages) if is_whole(sector) && is_whole(u64::from(sectors)) => pages,
            // Zeros must be written where they are asked for; the limits that were announced forbid to ask for parts.
            _ => {
                self.end(request, Status::Failed, 0);
                return None;
            }
        };
        // Most often far more pages are given up than are on their way.
        if self.busy.keys().any(|page| page.0 >= first && page.0 - first < count) {
            return Some(request);
        }
        let batch = &mut self.batch;
        self.written.give_up(first, count, |page, count| {
            batch.push(Transfer { kind: TransferKind::Trim, page, count, frame: FrameNo(0) });
        });
        self.end(request, Status::Ok, 0);
        None
    }

    fn take_landed(&mut self, mut landed: Vec<Landed>, memory: &GuestMemoryMmap) {
        for end in landed.drain(..) {
            let page = end.transfer.page;
            let number = *self.busy.get(&page).expect("only what was submitted lands, and once");
            let job = self.jobs[number].as_mut().expect("its job waits for it");
            job.left -= 1;
            if !job.is_fetching {
                self.busy.remove(&page);
            }
            if let Err(error) = end.result {
                log::debug!("{:?} of page {}: {error:?}", end.transfer.kind, page.0);
                job.has_failed = true;
            }
            if job.left == 0 {
                let job = self.jobs[number].take().expect("it was there");
                self.go_on(number, job, memory);
            }
        }
        self.landed = landed;
        while let Some(request) = self.waiting.pop_front() {
            if let Some(request) = self.try_start(request, memory) {
                self.waiting.push_front(request);
                break;
            }
        }
    }

    fn end(&mut self, request: Request, status: Status, written: u32) {
        self.done.push(Done { request, status, written });
    }
}

impl Job {
    /// The first and the last page, if only a part of them is written.
    fn cut(&self) -> [Option<PageNo>; 2] {
        let (page, start) = (PAGE_SIZE as u64, self.request.sector * SECTOR_BYTES);
        let end = start + self.request.len() as u64;
        let last = PageNo(self.first + self.count - 1);
        [
            (!start.is_multiple_of(page)).then_some(PageNo(self.first)),
            (!end.is_multiple_of(page)).then_some(last),
        ]
    }
}

/// The guest's frames that a request names, if it is whole pages in whole pages.
fn straight(request: &Request) -> Option<Vec<FrameNo>> {
    let is_whole = |units: u64| units.is_multiple_of(PAGE_SIZE as u64);
    let mut frames = Vec::with_capacity(request.len() / PAGE_SIZE);
    if !is_whole(request.sector * SECTOR_BYTES) {
        return None;
    }
    for segment in &request.data {
        if !is_whole(segment.at.0) || !is_whole(segment.len as u64) {
            return None;
        }
        // It lies in the guest's memory, whose pages all have a number in the window.
        let first = OWN_FRAMES as u32 + (segment.at.0 / PAGE_SIZE as u64) as u32;
        frames.extend((first..).take(segment.len / PAGE_SIZE).map(FrameNo));
    }
    Some(frames)
}

/// For each page of `len` bytes that begin `skip` bytes into the first: where its part of the bytes begins, and where in
/// the page that is.
fn each_page(skip: usize, len: usize) -> impl Iterator<Item = (usize, std::ops::Range<usize>)> {
    (0..(skip + len).div_ceil(PAGE_SIZE)).map(move |page| {
        let start = (page * PAGE_SIZE).max(skip);
        let end = ((page + 1) * PAGE_SIZE).min(skip + len);
        (start - skip, start - page * PAGE_SIZE..end - page * PAGE_SIZE)
    })
}
