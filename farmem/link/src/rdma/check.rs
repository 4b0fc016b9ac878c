//! Tries RDMA on this machine, and says in plain words what is missing.
//!
//! ```text
//!   frames ──WRITE, a chain──► lent memory ──READ, a chain──► other frames       near pair ◄──► far pair, of one port
//! ```
//!
//! Opens the port, registers memory on both sides, and moves pages through the device, also out of bounds. Refuses to say
//! anything about a network: both ends are on one port.

use super::port::{self, Port, PortChoice};
use super::verbs::{Completion, Completions, Domain, QueuePair, Region, Step, Way, status_name};
use crate::Arena;
use farmem::{Frame, PAGE_SIZE};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Pages of a chain.
const PAGES: usize = 8;
/// Each of both queue pairs may complete a whole chain, and has one place to spare.
const COMPLETIONS_MAX: u32 = 2 * (PAGES as u32 + 1);
/// How long a chain may take; a peer that is not there is given up after half of it.
const PATIENCE: Duration = Duration::from_secs(2);
/// The largest packet, as InfiniBand numbers it: 4096 bytes.
const MTU_MAX: u8 = 5;
/// Where the packets of the two pairs start: anything.
const NEAR_PSN: u32 = 1000;
const FAR_PSN: u32 = 2000;

/// Tries everything in turn, and says what works as it goes.
///
/// # Errors
/// One line that says what is missing.
pub fn check(choice: &PortChoice, mut say: impl FnMut(String)) -> io::Result<()> {
    port::gids()?.iter().for_each(|gid| say(format!("found {}", port::describe(gid))));
    let port = port::open_port(choice, None)?;
    let packet_bytes = 128_u32 << port.state.mtu.min(MTU_MAX);
    say(format!(
        "uses {} port {} gid {}, packets of {packet_bytes} bytes",
        port.device.name(),
        port.number,
        port.gid_index
    ));
    if port.state.mtu < MTU_MAX {
        say("a page needs several packets: a network MTU of 4200 or more lets it go in one".to_owned());
    }
    if let Some(limit) = locked_limit() {
        say(format!("may lock memory: {limit} (bytes); all of local memory is locked"));
    }
    let mut bench = Bench::new(port)?;
    say(format!("registered {} pages on both sides", 2 * PAGES));
    let completions = bench.round_trip()?;
    say(format!(
        "{PAGES} pages written and {PAGES} read back, all right: 2 calls, {completions} completions"
    ));
    let status = bench.out_of_bounds()?;
    say(format!("a READ out of bounds ends in '{}'", status_name(status)));
    bench.round_trip()?;
    say("works again after the error".to_owned());
    Ok(())
}

/// How much memory this process may lock, in the kernel's words.
fn locked_limit() -> Option<String> {
    let limits = std::fs::read_to_string("/proc/self/limits").ok()?;
    let line = limits.lines().find_map(|line| line.strip_prefix("Max locked memory"))?;
    line.split_whitespace().next().map(str::to_owned)
}

/// Two queue pairs of one port that are connected to each other.
struct Bench {
    port: Port,
    domain: Arc<Domain>,
    completions: Arc<Completions>,
    near: QueuePair,
    /// Only answers.
    far: QueuePair,
    region: Region,
    lent: Region,
    /// What is written, then what is read.
    frames: &'static mut [Frame],
}

impl Bench {
    fn new(port: Port) -> io::Result<Bench> {
        let domain = Domain::new(&port.device)?;
        let frames = Arena::reserve(2 * PAGES * PAGE_SIZE)?.frames();
        let region = domain.register_frames(frames)?;
        let lent = domain.lend(Arena::reserve(2 * PAGES * PAGE_SIZE)?)?;
        let completions = Completions::new(&port.device, COMPLETIONS_MAX)?;
        let (near, far) = connect(&port, &domain, &completions)?;
        Ok(Bench { port, domain, completions, near, far, region, lent, frames })
    }

    /// Writes a chain and reads it back; answers how many completions came.
    fn round_trip(&mut self) -> io::Result<usize> {
        for (index, frame) in self.frames.iter_mut().enumerate() {
            frame.0.fill(if index < PAGES { index as u8 + 1 } else { 0 });
        }
        let mut ends = self.chain(false, 0)?;
        ends.extend(self.chain(true, 0)?);
        if let Some(bad) = ends.iter().find(|end| end.status != 0) {
            return Err(io::Error::other(format!("pages do not move: {}", status_name(bad.status))));
        }
        // The device has written to them, which the compiler cannot know.
        let frames = std::hint::black_box(&mut *self.frames);
        let (written, read) = frames.split_at(PAGES);
        if written.iter().zip(read).any(|(written, read)| written.0 != read.0) {
            return Err(io::Error::other("pages come back with another content"));
        }
        Ok(ends.len())
    }

    /// Reads what lies behind the lent memory, and starts again with fresh pairs, as after any error.
    fn out_of_bounds(&mut self) -> io::Result<u32> {
        let ends = self.chain(true, 2 * PAGES)?;
        let Some(bad) = ends.iter().find(|end| end.status != 0) else {
            return Err(io::Error::other("the device lets a peer read out of bounds"));
        };
        let status = bad.status;
        (self.near, self.far) = connect(&self.port, &self.domain, &self.completions)?;
        self.completions.poll(&mut Vec::new())?;
        Ok(status)
    }

    /// Posts one chain to or from the lent page `first` on, and waits for its last.
    fn chain(&mut self, is_read: bool, first: usize) -> io::Result<Vec<Completion>> {
        let (start, _, key) = self.lent.remote();
        let own = if is_read { PAGES } else { 0 };
        let steps: Vec<Step> = (0..PAGES)
            .map(|index| Step {
                local: self.region.local((own + index) * PAGE_SIZE, PAGE_SIZE as u32),
                remote_address: start + ((first + index) * PAGE_SIZE) as u64,
                remote_key: key,
                is_read,
                id: index as u64,
                is_signalled: index + 1 == PAGES,
            })
            .collect();
        self.near.post(&steps)?;
        let mut ends = Vec::new();
        wait(&self.completions, PAGES as u64 - 1, &mut ends)?;
        Ok(ends)
    }
}

fn connect(
    port: &Port,
    domain: &Arc<Domain>,
    completions: &Arc<Completions>,
) -> io::Result<(QueuePair, QueuePair)> {
    let near = QueuePair::new(domain, completions, PAGES as u32)?;
    let far = QueuePair::new(domain, completions, PAGES as u32)?;
    let way = Way {
        port: port.number,
        gid_index: port.gid_index,
        gid: port.gid,
        lid: port.state.lid,
        is_global: port.state.is_ethernet,
        mtu: port.state.mtu,
        reads: port.limits.reads,
    };
    near.connect(&way, far.number(), FAR_PSN, NEAR_PSN)?;
    far.connect(&way, near.number(), NEAR_PSN, FAR_PSN)?;
    Ok((near, far))
}

/// Waits until `last` has ended, without burning the processor.
fn wait(completions: &Completions, last: u64, ends: &mut Vec<Completion>) -> io::Result<()> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        // Armed before looking: what comes between the two is announced.
        completions.arm()?;
        completions.poll(ends)?;
        if ends.iter().any(|end| end.id == last) {
            return Ok(());
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::Error::new(
                io::ErrorKind::TimedOut,
                "no completion: does the GID reach the port?",
            ));
        }
        let left = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: i64::from(left.subsec_nanos()) };
        poll(&mut [PollFd::from_borrowed_fd(completions.event_fd(), PollFlags::IN)], Some(&left))?;
        completions.clear_events();
    }
}
