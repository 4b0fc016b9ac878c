//! How a link comes to a node over verbs: an adapter for the life of the link, and a fabric for each connection.
//!
//! ```text
//!   connect ─► port (the GID of that connection's address) ─► two queue pairs ─► handshake ─► connected
//!                │                                            closed: the other side ends its pairs
//!                └─ adapter: domain, frames registered as transfers first name them (registered)
//! ```
//!
//! Everything here blocks, for no longer than the URI's timeout altogether. Refuses a node that lends less
//! than is asked for.

use super::answer::missing;
use super::fabric::{COMPLETIONS_MAX, Dial, End, Fabric, LANE_PAGES_MAX, Move, Outcome, Reached};
use super::handshake::ask;
use super::port::{Port, open_port};
use super::proto::{Answer, LANES, Lane, Secret, Side, draw_nonce, draw_psns};
use super::registered::Registered;
use super::uri::RdmaUri;
use super::verbs::{
    Completion, Completions, Domain, QueuePair, Region, Step, Way, device_names, status_name,
};
use crate::nbd::dial::{explain, reach_tcp};
use crate::nbd::proto::Generation;
use crate::redial::Redial;
use crate::window::Stretch;
use farmem::{Frame, PAGE_SIZE};
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The lane in a completion's id.
const LANE_SHIFT: u32 = 56;

/// What a link keeps from one connection to the next.
pub(super) struct Adapter {
    port: Port,
    domain: Arc<Domain>,
    frames: Mutex<Registered<Region>>,
}

impl Adapter {
    /// What our end of a connection can do, and reaches the other by.
    pub(super) fn open(uri: &RdmaUri, control: &TcpStream) -> io::Result<Arc<Adapter>> {
        let port = open_port(&uri.choice, control.local_addr().ok().map(|address| address.ip()))?;
        let wanted = LANE_PAGES_MAX.into_iter().max().unwrap_or(0) as u32;
        if port.limits.requests < wanted || port.limits.completions < COMPLETIONS_MAX as u32 {
            return Err(missing("the device's queues are too short"));
        }
        let domain = Domain::new(&port.device)?;
        Ok(Arc::new(Adapter { port, domain, frames: Mutex::default() }))
    }
}

/// Our side, as the other has to know it.
pub fn side_of(port: &Port, pairs: &[QueuePair; LANES], psns: [u32; LANES]) -> Side {
    let lane = |index: usize| Lane { number: pairs[index].number().into(), psn: psns[index].into() };
    Side {
        gid: port.gid,
        lid: port.state.lid.into(),
        mtu: port.state.mtu,
        reads: port.limits.reads,
        lanes: [lane(0), lane(1)],
    }
}

/// Connects our queue pairs to those of the other side.
///
/// # Errors
/// What the library answers.
pub fn join(port: &Port, pairs: &[QueuePair; LANES], psns: [u32; LANES], theirs: &Side) -> io::Result<()> {
    let way = Way {
        port: port.number,
        gid_index: port.gid_index,
        gid: theirs.gid,
        lid: theirs.lid.get(),
        is_global: port.state.is_ethernet,
        mtu: port.state.mtu.min(theirs.mtu),
        reads: port.limits.reads.min(theirs.reads),
    };
    for ((pair, psn), lane) in pairs.iter().zip(psns).zip(&theirs.lanes) {
        pair.connect(&way, lane.number.get(), lane.psn.get(), psn)?;
    }
    Ok(())
}

/// A connection that must be done by a deadline, however slowly the other side speaks.
struct Timed<'s> {
    stream: &'s TcpStream,
    deadline: Instant,
}

impl Timed<'_> {
    fn left(&self) -> io::Result<Duration> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        if left.is_zero() { Err(io::ErrorKind::TimedOut.into()) } else { Ok(left) }
    }
}

impl Read for Timed<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.stream.set_read_timeout(Some(self.left()?))?;
        self.stream.read(into)
    }
}

impl Write for Timed<'_> {
    fn write(&mut self, from: &[u8]) -> io::Result<usize> {
        self.stream.set_write_timeout(Some(self.left()?))?;
        self.stream.write(from)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Comes to a node, with the adapter of an earlier connection if there is one.
///
/// # Errors
/// Why not, in words that fit behind the URI.
pub(super) fn dial(uri: &RdmaUri, known: Option<&Arc<Adapter>>) -> io::Result<(Reached, Arc<Adapter>)> {
    if known.is_none() {
        device_names()?;
    }
    let secret = Secret::load(&uri.secret_file)?;
    let timeout = Duration::from_nanos(uri.timeout_ns);
    let deadline = Instant::now() + timeout;
    let control =
        reach_tcp(&uri.host, uri.port, timeout).map_err(|error| explain("cannot connect", error))?;
    let adapter = known.map_or_else(|| Adapter::open(uri, &control), |known| Ok(Arc::clone(known)))?;
    let completions = Completions::new(&adapter.port.device, COMPLETIONS_MAX as u32)?;
    let pair = |lane: usize| QueuePair::new(&adapter.domain, &completions, LANE_PAGES_MAX[lane] as u32);
    let pairs = [pair(0)?, pair(1)?];
    let psns = draw_psns()?;
    let side = side_of(&adapter.port, &pairs, psns);
    let stream = Timed { stream: &control, deadline };
    let answer = ask(stream, &secret, draw_nonce()?, side, &uri.export)
        .map_err(|error| explain(&format!("cannot use export '{}'", uri.export), error))?;
    join(&adapter.port, &pairs, psns, &answer.side)?;
    control.set_nonblocking(true)?;
    let pages = pages_of(uri, &answer)?;
    let (address, key) = (answer.address.get(), answer.key.get());
    let fabric = Verbs {
        pairs,
        completions,
        control,
        address,
        key,
        bytes: u64::from(pages) * PAGE_SIZE as u64,
        adapter: Arc::clone(&adapter),
        steps: Vec::new(),
        taken: Vec::new(),
    };
    Ok((Reached { fabric: Box::new(fabric), pages, generation: answer.generation() }, adapter))
}

fn pages_of(uri: &RdmaUri, answer: &Answer) -> io::Result<u32> {
    let has = answer.len.get();
    match uri.size_bytes {
        Some(wanted) if wanted > has => {
            Err(io::Error::new(io::ErrorKind::InvalidData, format!("the export has only {has} bytes")))
        }
        wanted => crate::whole_pages(wanted.unwrap_or(has)),
    }
}

/// A connection over verbs. The pairs go first, so that nothing touches a frame when the rest goes.
struct Verbs {
    pairs: [QueuePair; LANES],
    completions: Arc<Completions>,
    control: TcpStream,
    /// Where the node's memory begins, and what opens it.
    address: u64,
    key: u32,
    bytes: u64,
    adapter: Arc<Adapter>,
    /// Scratch.
    steps: Vec<Step>,
    taken: Vec<Completion>,
}

/// Statuses after which the very same request would fail again: `IBV_WC_LOC_LEN_ERR`, `LOC_QP_OP_ERR`, `LOC_PROT_ERR`,
/// `REM_INV_REQ_ERR`, `REM_ACCESS_ERR`, `REM_OP_ERR`.
const REFUSED: [u32; 6] = [1, 2, 4, 9, 10, 11];

fn end_of(completion: &Completion) -> End {
    let outcome = match completion.status {
        0 => Outcome::Done,
        status if REFUSED.contains(&status) => Outcome::Refused,
        _ => Outcome::Broken,
    };
    let words = if outcome == Outcome::Done { String::new() } else { status_name(completion.status) };
    End {
        lane: (completion.id >> LANE_SHIFT) as usize,
        id: completion.id & ((1 << LANE_SHIFT) - 1),
        outcome,
        words,
    }
}

impl Fabric for Verbs {
    fn post(&mut self, lane: usize, chain: &[Move], frames: &mut [Frame]) -> io::Result<()> {
        let mut registered = self.adapter.frames.lock().unwrap_or_else(PoisonError::into_inner);
        self.steps.clear();
        for step in chain {
            let offset = u64::from(step.page.0) * PAGE_SIZE as u64;
            assert!(offset + PAGE_SIZE as u64 <= self.bytes, "page {} is not lent", step.page.0);
            let register = |frames: &[Frame]| self.adapter.domain.register_frames(frames);
            let (region, at) = registered.of(frames, step.frame, register)?;
            self.steps.push(Step {
                local: region.local(at, PAGE_SIZE as u32),
                remote_address: self.address + offset,
                remote_key: self.key,
                is_read: step.is_read,
                id: (lane as u64) << LANE_SHIFT | step.id,
                is_signalled: step.is_signalled,
            });
        }
        self.pairs[lane].post(&self.steps)
    }

    fn poll(&mut self, frames: &mut [Frame], ends: &mut Vec<End>) -> io::Result<()> {
        self.completions.poll(&mut self.taken)?;
        if !self.taken.is_empty() {
            // The device has written to them, which the compiler cannot know.
            std::hint::black_box(frames);
            ends.extend(self.taken.drain(..).map(|completion| end_of(&completion)));
        }
        Ok(())
    }

    fn set_stretches(&mut self, number: u64, stretches: &[Stretch]) {
        let mut registered = self.adapter.frames.lock().unwrap_or_else(PoisonError::into_inner);
        registered.set(number, stretches);
    }

    fn arm(&mut self) -> io::Result<()> {
        self.completions.arm()
    }

    fn disarm(&mut self) {
        self.completions.clear_events();
    }

    fn check_control(&mut self) -> io::Result<()> {
        match self.control.peek(&mut [0]) {
            Ok(0) => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the node has hung up")),
            Ok(_) => Err(io::Error::new(io::ErrorKind::InvalidData, "the node talks out of turn")),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn event_fds(&self) -> Vec<BorrowedFd<'_>> {
        vec![self.completions.event_fd(), self.control.as_fd()]
    }
}

/// Comes back to a node, in a thread.
pub(super) struct VerbsDial {
    pub(super) uri: RdmaUri,
    pub(super) adapter: Arc<Adapter>,
    pub(super) redial: Redial<Reached>,
}

impl Dial for VerbsDial {
    fn start(&mut self) {
        let (uri, adapter) = (self.uri.clone(), Arc::clone(&self.adapter));
        self.redial.start(&self.uri, move || dial(&uri, Some(&adapter)).map(|(reached, _)| reached));
    }

    fn poll(&mut self) -> Result<Option<Reached>, ()> {
        self.redial.poll()
    }

    fn bell(&self) -> Option<BorrowedFd<'_>> {
        Some(self.redial.bell())
    }
}

/// Opens a twin: another connection, with frames of its own, to memory that must still hold the same.
pub(super) fn dial_twin(uri: &RdmaUri, known: Generation) -> io::Result<(Reached, Arc<Adapter>)> {
    let (reached, adapter) = dial(uri, None)?;
    if reached.generation != known {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "it has lost its content"));
    }
    Ok((reached, adapter))
}
