//! A memory node as a [`Link`] over one-sided READ and WRITE: queues, chains, deadlines, and what happens
//! when the node is gone.
//!
//! ```text
//!   submit ─┬─ needed ─► queue ─► chains ─► lane 0 ─┐      a chain is one ring of the doorbell, and one completion
//!           └─ rest ───► queue ─► chains ─► lane 1 ─┴─► ends ─► landed
//!
//!   waiting:  look again and again (SPIN_NS) ─► arm the completion queue, sleep ─► its descriptor wakes us
//!   up ── any error, hung up, too late ──► down ── redial ──► up     (as the NBD link does: deadline, losses)
//! ```
//!
//! A trim moves nothing: the node's memory is registered, and registered memory is never given back to its
//! system. What was trimmed keeps its old bytes until it is written anew. Refuses to trust a node that is
//! late: the queue pairs are destroyed, and then nothing comes late.

use super::dial::{VerbsDial, dial, dial_twin};
use super::fabric::{
    CHAIN_PAGES_MAX, Dial, End, Fabric, LANE_PAGES_MAX, Move, NEEDED, Outcome, REST, Reached,
};
use super::proto::LANES;
use super::uri::RdmaUri;
use crate::absence::{Absence, Asked};
use crate::ended::Ended;
use crate::monotonic_now;
use crate::nbd::proto::Generation;
use crate::redial::Redial;
use crate::set::{Door, OpenTwin};
use crate::window::Stretch;
use farmem::{Frame, Instant, Landed, Link, LinkError, PAGE_SIZE, PageNo, Transfer, TransferKind};
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::time::Timespec;
use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

/// How long completions are looked for before the queue is armed: a chain of 64 pages takes 24 us at 100
/// Gb/s, and to sleep and wake costs some 10. Units: nanoseconds.
const SPIN_NS: u64 = 50_000;
/// Between two looks, for who asks when to look again. Units: nanoseconds.
const LOOK_NS: u64 = 500;
/// The control connection is looked at this often, to learn that the node is gone. Units: nanoseconds.
const CONTROL_NS: u64 = 10_000_000;
/// How long `wait_landed` sleeps without looking at the deadlines. Units: nanoseconds.
const WAIT_NS: i64 = 20_000_000;

/// What a link has asked of its device.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct RdmaCounts {
    /// Chains posted, each with one ring of the doorbell.
    pub doorbells: u64,
    /// Completions taken.
    pub completions: u64,
    /// Work requests posted: pages, those that were posted again after an error too.
    pub requests: u64,
    /// Bytes that READs have brought and WRITEs have taken away, headers apart.
    pub bytes: u64,
    /// How often the completion queue was armed, to sleep until it has something.
    pub arms: u64,
}

/// As INFO prints it, behind other fields.
impl fmt::Display for RdmaCounts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let RdmaCounts { doorbells, completions, requests, bytes, arms } = self;
        write!(f, ",doorbells={doorbells},completions={completions},requests={requests}")?;
        write!(f, ",rdma_bytes={bytes},arms={arms}")
    }
}

/// What waits for a lane and what is on it, in the order of the work requests.
#[derive(Default)]
struct LaneQueue {
    waiting: VecDeque<Asked>,
    flight: VecDeque<Asked>,
    /// The id of the first in flight.
    first_id: u64,
}

/// Far memory on a memory node, over RDMA.
pub struct RdmaLink {
    /// For twins; none over a fabric that is no device.
    uri: Option<RdmaUri>,
    /// Readable when something completes after the queue was armed, when the node hangs up, or when it is back.
    epoll: OwnedFd,
    pages: u32,
    generation: Generation,
    /// Where the frames lie, if that was said, and how often.
    stretches: Vec<Stretch>,
    stretches_number: u64,
    /// `None` while the node is gone.
    fabric: Option<Box<dyn Fabric>>,
    dial: Option<Box<dyn Dial>>,
    lanes: [LaneQueue; LANES],
    absence: Absence,
    ended: Ended,
    /// Submitted and not landed.
    in_flight: usize,
    /// Looks go on until then.
    spin_until: Instant,
    polled_at: Instant,
    control_at: Instant,
    is_armed: bool,
    counts: RdmaCounts,
    /// Scratch.
    chain: Vec<Move>,
    ends: Vec<End>,
}

impl RdmaLink {
    /// Comes to a node.
    ///
    /// # Errors
    /// Why not, in words that fit behind the URI.
    pub fn open(uri: &RdmaUri) -> io::Result<RdmaLink> {
        let (reached, adapter) = dial(uri, None)?;
        let redial = Box::new(VerbsDial { uri: uri.clone(), adapter, redial: Redial::new()? });
        let link = RdmaLink::over(uri.to_string(), uri.timeout_ns, reached, Some(redial))?;
        Ok(RdmaLink { uri: Some(uri.clone()), ..link })
    }

    /// Comes to a node, if that takes no longer than this: for who holds others up meanwhile.
    ///
    /// # Errors
    /// As [`RdmaLink::open`]; `TimedOut`.
    pub fn open_within(uri: &RdmaUri, patience: Duration) -> io::Result<RdmaLink> {
        let (sender, receiver) = channel();
        let asked = uri.clone();
        // A thread that comes too late finds nobody to tell, and closes what it has opened.
        let dial = move || {
            let _ = sender.send(RdmaLink::open(&asked));
        };
        thread::Builder::new().name("dial".into()).spawn(dial)?;
        let late = |_| io::Error::new(io::ErrorKind::TimedOut, format!("no answer within {patience:?}"));
        receiver.recv_timeout(patience).map_err(late)?
    }

    /// A link over a node that has been reached; without `dial` it never comes back once it has broken.
    ///
    /// # Errors
    /// What epoll answers.
    pub fn over(
        name: String,
        timeout_ns: u64,
        reached: Reached,
        dial: Option<Box<dyn Dial>>,
    ) -> io::Result<RdmaLink> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        if let Some(bell) = dial.as_ref().and_then(|dial| dial.bell()) {
            watch(&epoll, bell)?;
        }
        let mut link = RdmaLink {
            uri: None,
            epoll,
            pages: reached.pages,
            generation: reached.generation,
            stretches: Vec::new(),
            stretches_number: 0,
            fabric: None,
            dial,
            lanes: Default::default(),
            absence: Absence::new(name, timeout_ns),
            ended: Ended::default(),
            in_flight: 0,
            spin_until: Instant(0),
            polled_at: Instant(0),
            control_at: Instant(0),
            is_armed: false,
            counts: RdmaCounts::default(),
            chain: Vec::with_capacity(CHAIN_PAGES_MAX),
            ends: Vec::new(),
        };
        link.install(reached)?;
        Ok(link)
    }

    /// What it has asked of its device.
    pub fn counts(&self) -> RdmaCounts {
        self.counts
    }

    /// How to open the same export once more. Such a twin does not come back once it has broken.
    ///
    /// # Errors
    /// `Unsupported` over a fabric that is no device.
    pub fn twin(&self) -> io::Result<impl FnOnce() -> io::Result<RdmaLink> + Send + use<>> {
        let uri = self.uri.clone().ok_or(io::ErrorKind::Unsupported)?;
        let known = self.generation;
        Ok(move || {
            let (reached, _) = dial_twin(&uri, known)?;
            let mut twin = RdmaLink::over(uri.to_string(), uri.timeout_ns, reached, None)?;
            twin.absence.set_patient(false);
            Ok(twin)
        })
    }

    fn install(&mut self, mut reached: Reached) -> io::Result<()> {
        if self.stretches_number > 0 {
            reached.fabric.set_stretches(self.stretches_number, &self.stretches);
        }
        for event in reached.fabric.event_fds() {
            watch(&self.epoll, event)?;
        }
        self.generation = reached.generation;
        self.fabric = Some(reached.fabric);
        self.is_armed = false;
        Ok(())
    }

    /// Fills the lanes with what waits: needed pages first.
    fn pump(&mut self, frames: &mut [Frame], now: Instant) {
        for lane in [NEEDED, REST] {
            while !self.lanes[lane].waiting.is_empty()
                && self.lanes[lane].flight.len() < LANE_PAGES_MAX[lane]
                && self.fabric.is_some()
            {
                if let Err(error) = self.post_chain(lane, frames) {
                    return self.break_down(&error, now);
                }
                self.spin_until = Instant(now.0 + SPIN_NS);
            }
        }
    }

    /// Posts one chain of what waits for a lane, as long as the lane has room for.
    fn post_chain(&mut self, lane: usize, frames: &mut [Frame]) -> io::Result<()> {
        let (Some(fabric), queue) = (&mut self.fabric, &mut self.lanes[lane]) else { return Ok(()) };
        let room = (LANE_PAGES_MAX[lane] - queue.flight.len()).min(CHAIN_PAGES_MAX);
        let count = queue.waiting.len().min(room);
        let next_id = queue.first_id + queue.flight.len() as u64;
        self.chain.clear();
        for (index, asked) in queue.waiting.drain(..count).enumerate() {
            let Transfer { kind, page, frame, .. } = asked.transfer;
            self.chain.push(Move {
                page,
                frame,
                is_read: kind != TransferKind::WriteBack,
                id: next_id + index as u64,
                is_signalled: index + 1 == count,
            });
            queue.flight.push_back(asked);
        }
        self.counts.doorbells += 1;
        self.counts.requests += count as u64;
        fabric.post(lane, &self.chain, frames)
    }

    /// Takes what has completed.
    fn receive(&mut self, frames: &mut [Frame], now: Instant, landed: &mut Vec<Landed>) {
        let Some(fabric) = &mut self.fabric else { return };
        let mut ends = std::mem::take(&mut self.ends);
        let mut broken = fabric.poll(frames, &mut ends).err();
        if !ends.is_empty() && std::mem::take(&mut self.is_armed) {
            fabric.disarm();
        }
        self.counts.completions += ends.len() as u64;
        let came = !ends.is_empty();
        for end in ends.drain(..) {
            match end.outcome {
                Outcome::Done => self.finish(end.lane, end.id, landed),
                Outcome::Refused => self.refuse(&end, landed),
                Outcome::Broken => {}
            }
            if end.outcome != Outcome::Done && broken.is_none() {
                broken = Some(io::Error::other(end.words));
            }
        }
        self.ends = ends;
        if let Some(error) = broken.or_else(|| self.look_at_control(came, now)).or_else(|| self.overdue(now))
        {
            self.break_down(&error, now);
        }
    }

    /// A work request is done, and with it all before it on its lane: a reliable connection completes in order.
    fn finish(&mut self, lane: usize, id: u64, landed: &mut Vec<Landed>) {
        let queue = &mut self.lanes[lane];
        let Some(count) = (id + 1).checked_sub(queue.first_id) else { return };
        let count = (count as usize).min(queue.flight.len());
        queue.first_id += count as u64;
        let done = queue.flight.drain(..count);
        landed.extend(done.map(|asked| Landed { transfer: asked.transfer, result: Ok(()) }));
        self.in_flight -= count;
        self.counts.bytes += (count * PAGE_SIZE) as u64;
    }

    /// A work request that would fail again fails for good; it leaves a gap in its lane, whose pair is broken anyway.
    fn refuse(&mut self, end: &End, landed: &mut Vec<Landed>) {
        log::warn!("far memory '{}': a page was refused: {}", self.absence.name(), end.words);
        let queue = &mut self.lanes[end.lane];
        let place = end.id.checked_sub(queue.first_id).map(|place| place as usize);
        if let Some(asked) = place.and_then(|place| queue.flight.remove(place)) {
            landed.push(Landed { transfer: asked.transfer, result: Err(LinkError::Io) });
            self.in_flight -= 1;
        }
    }

    /// Why the node counts as gone, if it has hung up. Looked at now and then, and before going to sleep.
    fn look_at_control(&mut self, came: bool, now: Instant) -> Option<io::Error> {
        let is_due = now.0.saturating_sub(self.control_at.0) >= CONTROL_NS;
        if !is_due && (came || !self.is_armed) {
            return None;
        }
        self.control_at = now;
        self.fabric.as_mut().and_then(|fabric| fabric.check_control().err())
    }

    /// Why the node counts as gone, if it has kept somebody waiting too long.
    fn overdue(&self, now: Instant) -> Option<io::Error> {
        let mut oldest = self.lanes.iter().filter_map(|lane| lane.flight.front());
        let is_late = oldest.any(|asked| now.0.saturating_sub(asked.at.0) > self.absence.timeout_ns());
        is_late.then(|| io::Error::new(io::ErrorKind::TimedOut, "no completion in time"))
    }

    /// The node is gone: what was under way waits for it, or fails.
    fn break_down(&mut self, why: &io::Error, now: Instant) {
        self.absence.begin(why, now);
        // From here on no device touches a frame for this link.
        self.fabric = None;
        self.is_armed = false;
        for lane in &mut self.lanes {
            for asked in lane.flight.drain(..).rev() {
                lane.waiting.push_front(asked);
            }
            lane.first_id = 0;
        }
        self.give_up(now);
        self.dial_again();
    }

    fn dial_again(&mut self) {
        if let Some(dial) = &mut self.dial {
            dial.start();
        }
    }

    /// Fails what waits for a node that is gone, as far as it is not to wait longer.
    fn give_up(&mut self, now: Instant) {
        for lane in &mut self.lanes {
            self.absence.give_up(&mut lane.waiting, &mut self.ended, now);
        }
    }

    /// Looks whether the node is back.
    fn look_for_node(&mut self, now: Instant) {
        match self.dial.as_mut().map(|dial| dial.poll()) {
            None | Some(Ok(None)) => {}
            Some(Ok(Some(reached))) => self.welcome(reached, now),
            Some(Err(())) => self.dial_again(),
        }
    }

    /// The node is back, with or without what was written to it.
    fn welcome(&mut self, reached: Reached, now: Instant) {
        let is_same = reached.generation == self.generation;
        if reached.pages < self.pages {
            log::warn!("far memory '{}' is back, smaller than before: not used", self.absence.name());
            return self.dial_again();
        }
        if let Err(error) = self.install(reached) {
            log::warn!("far memory '{}': cannot watch its completions: {error}", self.absence.name());
            return self.dial_again();
        }
        let queues = self.lanes.iter_mut().map(|lane| &mut lane.waiting);
        self.absence.end(is_same, queues, &mut self.ended, now);
    }

    /// Whether anything may complete.
    fn is_moving(&self) -> bool {
        self.lanes.iter().any(|lane| !lane.flight.is_empty())
    }

    /// Nothing has come for a while: lets the event descriptor say when something does, and looks once more, because what
    /// has completed before that is not announced.
    fn go_to_sleep(&mut self, frames: &mut [Frame], now: Instant, landed: &mut Vec<Landed>) {
        let Some(fabric) = &mut self.fabric else { return };
        match fabric.arm() {
            Ok(()) => {
                self.is_armed = true;
                self.counts.arms += 1;
                self.receive(frames, now, landed);
            }
            Err(error) => self.break_down(&error, now),
        }
    }
}

/// Lets the epoll descriptor become readable whenever `what` has something new.
fn watch(epoll: &OwnedFd, what: BorrowedFd<'_>) -> io::Result<()> {
    let interest = EventFlags::IN | EventFlags::RDHUP | EventFlags::ET;
    Ok(epoll::add(epoll, what, EventData::new_u64(0), interest)?)
}

impl Link for RdmaLink {
    fn submit(&mut self, batch: &[Transfer], frames: &mut [Frame], now: Instant) {
        let is_gone = !self.is_up() && self.absence.is_given_up(now);
        for &transfer in batch {
            let Transfer { kind, page: PageNo(page), .. } = transfer;
            if kind == TransferKind::Trim {
                continue;
            }
            self.in_flight += 1;
            if page >= self.pages {
                self.ended.push(transfer, Err(LinkError::OutOfRange), now);
            } else if is_gone {
                self.ended.push(transfer, Err(LinkError::Down), now);
            } else {
                let lane = if kind == TransferKind::FetchNeeded { NEEDED } else { REST };
                self.lanes[lane].waiting.push_back(Asked { transfer, at: now });
            }
        }
        self.pump(frames, now);
    }

    fn poll_landed(&mut self, frames: &mut [Frame], now: Instant, landed: &mut Vec<Landed>) {
        self.polled_at = now;
        if self.is_up() {
            self.receive(frames, now, landed);
        } else {
            self.give_up(now);
            self.look_for_node(now);
        }
        self.pump(frames, now);
        if !self.is_armed && self.is_moving() && now >= self.spin_until {
            self.go_to_sleep(frames, now, landed);
        }
        self.in_flight -= self.ended.len();
        self.ended.drain_into(landed);
    }

    fn wait_landed(&mut self, frames: &mut [Frame], landed: &mut Vec<Landed>) {
        let before = landed.len();
        loop {
            self.poll_landed(frames, monotonic_now(), landed);
            if landed.len() > before || self.in_flight == 0 {
                return;
            }
            if self.is_moving() && !self.is_armed {
                std::hint::spin_loop();
                continue;
            }
            let mut events = [Event { flags: EventFlags::empty(), data: EventData::new_u64(0) }; 4];
            let timeout = Timespec { tv_sec: 0, tv_nsec: WAIT_NS };
            if let Err(error) = epoll::wait(&self.epoll, &mut events[..], Some(&timeout)) {
                log::debug!("cannot wait for a memory node at the moment: {error}");
            }
        }
    }

    /// While completions are looked for: soon. Once the queue is armed they announce themselves.
    fn next_due(&self) -> Option<Instant> {
        let looks = self.is_moving() && !self.is_armed;
        let look = looks.then(|| Instant(self.polled_at.0 + LOOK_NS));
        self.ended.due().into_iter().chain(look).min()
    }

    fn in_flight(&self) -> usize {
        self.in_flight
    }

    fn capacity_pages(&self) -> u32 {
        self.pages
    }
}

impl Door for RdmaLink {
    fn is_up(&self) -> bool {
        self.fabric.is_some()
    }

    fn losses(&self) -> u32 {
        self.absence.losses()
    }

    fn set_patient(&mut self, is_patient: bool) {
        self.absence.set_patient(is_patient);
    }

    /// Need not be read.
    fn event_fd(&self) -> Option<BorrowedFd<'_>> {
        Some(self.epoll.as_fd())
    }

    fn is_remote(&self) -> bool {
        true
    }

    fn set_stretches(&mut self, stretches: &[Stretch]) {
        assert!(!self.is_moving(), "a frame that is in flight stays where it is");
        self.stretches_number += 1;
        self.stretches = stretches.to_vec();
        if let Some(fabric) = &mut self.fabric {
            fabric.set_stretches(self.stretches_number, &self.stretches);
        }
    }

    fn rdma_counts(&self) -> Option<RdmaCounts> {
        Some(self.counts())
    }

    fn twin(&self) -> io::Result<OpenTwin> {
        let open = RdmaLink::twin(self)?;
        Ok(Box::new(move || Ok(Box::new(open()?))))
    }
}
