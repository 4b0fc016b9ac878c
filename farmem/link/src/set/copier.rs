//! Who copies pages from one member to another: a thread with links of its own.
//!
//! ```text
//!   start(job) ─► thread: open what is not open, fetch, write back, pause (the rate) ─► ring ─► poll
//! ```
//!
//! So copies never stand in the way of a needed page, on our side of the wire. Refuses to know slabs and marks.

use super::member::OpenTwin;
use crate::arena::Arena;
use crate::monotonic_now;
use farmem::{Frame, FrameNo, Link, PAGE_SIZE, PageNo, Transfer, TransferKind};
use rustix::event::{EventfdFlags, eventfd};
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

/// Pages of one job: 256 KiB, a few hundred microseconds each way.
pub const JOB_PAGES_MAX: usize = 64;
/// The rate of copying: a fiftieth of what 100 Gb/s carries, a quarter of one core here. Units: bytes a second.
const COPY_RATE: u64 = 256 << 20;

/// One end of a job.
pub struct JobEnd {
    /// Which link: the same number, the same link.
    pub key: u64,
    /// Opens it, if it is not open.
    pub open: OpenTwin,
}

/// Pages to copy.
pub struct Job {
    /// Where they are.
    pub from: JobEnd,
    /// Where they are wanted.
    pub to: JobEnd,
    /// The page there, and the page here. Bounds: [`JOB_PAGES_MAX`].
    pub pages: Vec<(PageNo, PageNo)>,
}

/// Copies pages, one job at a time.
pub trait Copier {
    /// Starts a job; the last one has ended.
    fn start(&mut self, job: Job);
    /// The end of the job, once.
    fn poll(&mut self) -> Option<io::Result<()>>;
    /// What becomes readable when a job has ended, if that is not at once.
    fn event_fd(&self) -> Option<BorrowedFd<'_>> {
        None
    }
}

/// The copier of a server.
pub(super) struct ThreadCopier {
    jobs: Sender<Job>,
    ends: Receiver<io::Result<()>>,
    bell: Arc<OwnedFd>,
}

impl ThreadCopier {
    /// A thread that waits for work.
    ///
    /// # Errors
    /// What the system answers.
    pub fn new() -> io::Result<ThreadCopier> {
        let bell = Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?);
        let frames = Arena::reserve(JOB_PAGES_MAX * PAGE_SIZE)?.frames();
        let (jobs, next_job) = channel::<Job>();
        let (end, ends) = channel();
        let rung = Arc::clone(&bell);
        thread::Builder::new().name("copier".into()).spawn(move || {
            let mut bench = Bench { frames, links: HashMap::new() };
            for job in next_job {
                if end.send(bench.run_at_rate(job)).is_err() {
                    return;
                }
                // A full counter is a bell that rings already.
                let _ = rustix::io::write(&rung, &1_u64.to_ne_bytes());
            }
        })?;
        Ok(ThreadCopier { jobs, ends, bell })
    }
}

impl Copier for ThreadCopier {
    fn start(&mut self, job: Job) {
        self.jobs.send(job).expect("the thread ends only with its copier");
    }

    fn poll(&mut self) -> Option<io::Result<()>> {
        self.ends.try_recv().ok()
    }

    fn event_fd(&self) -> Option<BorrowedFd<'_>> {
        Some(self.bell.as_fd())
    }
}

/// A copier without a thread: a job runs while it is started. For simulations.
pub struct InlineCopier {
    bench: Bench,
    end: Option<io::Result<()>>,
}

impl InlineCopier {
    /// A copier with frames of its own.
    ///
    /// # Errors
    /// What the system answers.
    pub fn new() -> io::Result<InlineCopier> {
        let frames = Arena::reserve(JOB_PAGES_MAX * PAGE_SIZE)?.frames();
        Ok(InlineCopier { bench: Bench { frames, links: HashMap::new() }, end: None })
    }
}

impl Copier for InlineCopier {
    fn start(&mut self, job: Job) {
        self.end = Some(self.bench.run(job));
    }

    fn poll(&mut self) -> Option<io::Result<()>> {
        self.end.take()
    }
}

/// Frames and open links.
struct Bench {
    frames: &'static mut [Frame],
    links: HashMap<u64, Box<dyn Link>>,
}

impl Bench {
    fn run_at_rate(&mut self, job: Job) -> io::Result<()> {
        let (since, bytes) = (Instant::now(), job.pages.len() * PAGE_SIZE);
        let result = self.run(job);
        let least = Duration::from_nanos(bytes as u64 * 1_000_000_000 / COPY_RATE);
        thread::sleep(least.saturating_sub(since.elapsed()));
        result
    }

    fn run(&mut self, job: Job) -> io::Result<()> {
        let (from, to) = (job.from.key, job.to.key);
        let result = self.try_run(job);
        if result.is_err() {
            self.links.remove(&from);
            self.links.remove(&to);
        }
        result
    }

    fn try_run(&mut self, job: Job) -> io::Result<()> {
        let Job { from, to, pages } = job;
        let fetches: Vec<PageNo> = pages.iter().map(|&(there, _)| there).collect();
        let writes: Vec<PageNo> = pages.iter().map(|&(_, here)| here).collect();
        for (end, kind, pages) in
            [(from, TransferKind::FetchNeeded, fetches), (to, TransferKind::WriteBack, writes)]
        {
            let link = match self.links.entry(end.key) {
                Entry::Occupied(open) => open.into_mut(),
                Entry::Vacant(place) => place.insert((end.open)()?),
            };
            move_all(link.as_mut(), kind, &pages, self.frames)?;
        }
        Ok(())
    }
}

/// Moves the pages from or to the first frames, and waits.
fn move_all(
    link: &mut dyn Link,
    kind: TransferKind,
    pages: &[PageNo],
    frames: &mut [Frame],
) -> io::Result<()> {
    let of = |(&page, frame)| Transfer { kind, page, count: 1, frame: FrameNo(frame) };
    let batch: Vec<Transfer> = pages.iter().zip(0..).map(of).collect();
    let mut landed = Vec::new();
    link.submit(&batch, frames, monotonic_now());
    while link.in_flight() > 0 {
        link.wait_landed(frames, &mut landed);
    }
    match landed.iter().find_map(|end| end.result.err()) {
        Some(error) => Err(io::Error::other(format!("{kind:?}: {error:?}"))),
        None => Ok(()),
    }
}
