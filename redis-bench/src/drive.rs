//! The event loop: many connections, one thread, as few system calls a request as a socket allows.
//!
//! ```text
//!   closed loop   fill ─► write ─► readable ─► read ─► judge ─► all answered? ─► fill
//!   open loop     due ─► free connection? ─► write        readable ─► read ─► judge ─► next that is due
//! ```
//!
//! Each socket is registered once, edge-triggered, for both directions; a read that comes back short has
//! emptied the socket, so a request costs one read, one write and its share of one wait. All connections
//! read into one buffer. Refuses to hide trouble: an error reply and a wrong reply are counted, a lost or
//! silent connection ends the drive.

use std::collections::VecDeque;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};

use crate::arrivals::Arrivals;
use crate::latency::Latencies;
use crate::target::Target;
use crate::workload::Dataset;
use crate::workload::source::Source;

mod connection;
use connection::Connection;

/// Bytes of the shared read buffer: two of the largest usual replies (128 KiB) fit.
const READ_BYTES: usize = 256 << 10;
/// No reply for this long, though some are due: the server is stuck. A swapping one takes seconds.
const SILENCE_MAX: Duration = Duration::from_secs(60);
/// How long replies are waited for after the end.
const DRAIN_MAX: Duration = Duration::from_secs(10);
/// The longest sleep: how soon an interrupt and the end are seen.
const WAIT_MAX: Duration = Duration::from_millis(100);
/// Events taken a wait.
const EVENTS_MAX: usize = 1024;
/// Keeps the choice of replies to verify apart from the choice of keys.
const VERIFY_SALT: u64 = 0x7665_7269;
/// Seconds of the time line: a day.
const SECONDS_MAX: usize = 86_400;

/// When requests are sent.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Pace {
    /// Each connection sends `pipeline` requests, waits for all the replies, and sends the next.
    Closed,
    /// As `Closed`, but sends again as soon as half are answered: for loading.
    Window,
    /// Poisson arrivals at this rate a second; `pipeline` is the most in flight on a connection.
    Open(f64),
}

/// How to drive.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Connections.
    pub clients: usize,
    /// Requests in flight on each.
    pub pipeline: usize,
    /// When requests are sent.
    pub pace: Pace,
    /// None: until the source ends.
    pub duration: Option<Duration>,
    /// Share of the replies whose bytes are checked.
    pub verify: f64,
    /// False for a fixed-reply server, whose replies are right by definition.
    pub judge: bool,
    /// Of arrivals and of the choice of replies to verify.
    pub seed: u64,
}

/// What others see of a drive, and how they end it.
#[derive(Debug, Default)]
pub struct Watch {
    /// Requests answered so far.
    pub answered: AtomicU64,
    /// Set to end the drive early.
    pub stop: AtomicBool,
}

/// What came of it.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// Replies within the duration.
    pub requests: u64,
    /// Replies that came after the end.
    pub late: u64,
    /// Open loop: requests that were due but got no reply before the end.
    pub unanswered: u64,
    /// Bytes of values in all replies.
    pub payload_bytes: u64,
    /// Error replies.
    pub errors: u64,
    /// The first of them.
    pub first_error: Option<String>,
    /// Replies that are not what they must be.
    pub wrong: u64,
    /// The first of them.
    pub first_wrong: Option<String>,
    /// Replies whose bytes were checked.
    pub verified: u64,
    /// Latency of each request within the duration.
    pub latencies: Latencies,
    /// Replies in each second.
    pub per_second: Vec<u64>,
    /// How long it took.
    pub elapsed: Duration,
}

impl Tally {
    /// Adds what another thread did in the same time.
    pub fn merge(&mut self, other: Tally) {
        self.requests += other.requests;
        self.late += other.late;
        self.unanswered += other.unanswered;
        self.payload_bytes += other.payload_bytes;
        self.errors += other.errors;
        self.first_error = self.first_error.take().or(other.first_error);
        self.wrong += other.wrong;
        self.first_wrong = self.first_wrong.take().or(other.first_wrong);
        self.verified += other.verified;
        self.latencies.merge(&other.latencies);
        self.per_second.resize(self.per_second.len().max(other.per_second.len()), 0);
        self.per_second.iter_mut().zip(&other.per_second).for_each(|(sum, &n)| *sum += n);
        self.elapsed = self.elapsed.max(other.elapsed);
    }
}

/// Why a drive ended early.
#[derive(Debug)]
pub enum DriveError {
    /// The network or the server failed.
    Lost(io::Error),
    /// The server sent what is not RESP2.
    Malformed,
    /// Replies are due and none came for [`SILENCE_MAX`].
    Silent,
    /// The user wants to stop.
    Interrupted,
}

impl std::fmt::Display for DriveError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            DriveError::Lost(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                f.write_str("the server closed the connection")
            }
            DriveError::Lost(error) => write!(f, "the connection is lost: {error}"),
            DriveError::Malformed => f.write_str("the server sent bytes that are not RESP2"),
            DriveError::Silent => write!(f, "the server sent no reply for {} s", SILENCE_MAX.as_secs()),
            DriveError::Interrupted => f.write_str("interrupted"),
        }
    }
}

impl std::error::Error for DriveError {}

impl From<io::Error> for DriveError {
    fn from(error: io::Error) -> Self {
        DriveError::Lost(error)
    }
}

/// Sends what `source` says to `target` as `plan` says, and judges the replies by `data`.
///
/// # Errors
/// [`DriveError`]; what was counted until then is lost with it, because it is no measurement.
pub fn drive<S: Source>(
    target: &Target,
    plan: &Plan,
    data: &Dataset,
    source: S,
    watch: &Watch,
) -> Result<Tally, DriveError> {
    // Timers of an open loop are due within microseconds, not within the kernel's usual 50 us of slack.
    let _ = rustix::thread::set_current_timer_slack(std::num::NonZeroU64::new(1));
    let mut client = Client::connect(target, plan, data, source, watch)?;
    client.run()?;
    Ok(client.tally)
}

/// The state of one thread's drive.
struct Client<'a, S> {
    plan: &'a Plan,
    data: &'a Dataset,
    source: S,
    watch: &'a Watch,
    poll: rustix::fd::OwnedFd,
    connections: Vec<Connection>,
    buffer: Vec<u8>,
    rng: SmallRng,
    /// A reply is verified if a random word is below this.
    verify_below: u64,
    start: Instant,
    end_ns: u64,
    in_flight: usize,
    ended: bool,
    /// After the end, replies are waited for until here.
    drained_ns: u64,
    open: Option<OpenLoop>,
    tally: Tally,
}

/// What an open loop has besides.
struct OpenLoop {
    arrivals: Arrivals,
    /// One entry for each request that could be put in flight now.
    free: VecDeque<usize>,
    /// Due times of requests that wait for a free connection.
    backlog: VecDeque<u64>,
}

impl<'a, S: Source> Client<'a, S> {
    fn connect(
        target: &Target,
        plan: &'a Plan,
        data: &'a Dataset,
        source: S,
        watch: &'a Watch,
    ) -> Result<Self, DriveError> {
        let poll = epoll::create(epoll::CreateFlags::CLOEXEC).map_err(io::Error::from)?;
        let mut connections = Vec::with_capacity(plan.clients);
        for id in 0..plan.clients as u64 {
            let stream = target.connect()?;
            stream.set_nonblocking(true)?;
            let interest = epoll::EventFlags::IN
                | epoll::EventFlags::OUT
                | epoll::EventFlags::RDHUP
                | epoll::EventFlags::ET;
            epoll::add(&poll, &stream, epoll::EventData::new_u64(id), interest).map_err(io::Error::from)?;
            connections.push(Connection::new(stream));
        }
        let open = match plan.pace {
            Pace::Open(rate) => Some(OpenLoop {
                arrivals: Arrivals::new(rate, plan.seed),
                free: (0..plan.pipeline).flat_map(|_| 0..plan.clients).collect(),
                backlog: VecDeque::new(),
            }),
            Pace::Closed | Pace::Window => None,
        };
        Ok(Client {
            plan,
            data,
            source,
            watch,
            poll,
            connections,
            buffer: vec![0; READ_BYTES],
            rng: SmallRng::seed_from_u64(plan.seed ^ VERIFY_SALT),
            verify_below: if plan.judge { (plan.verify.clamp(0.0, 1.0) * u64::MAX as f64) as u64 } else { 0 },
            start: Instant::now(),
            end_ns: plan.duration.map_or(u64::MAX, |duration| duration.as_nanos() as u64),
            in_flight: 0,
            ended: false,
            drained_ns: u64::MAX,
            open,
            tally: Tally::default(),
        })
    }

    #[inline]
    fn now_ns(&self) -> u64 {
        self.start.elapsed().as_nanos() as u64
    }

    fn run(&mut self) -> Result<(), DriveError> {
        self.start = Instant::now();
        if self.open.is_none() {
            for id in 0..self.connections.len() {
                let now_ns = self.now_ns();
                self.fill(id, now_ns)?;
            }
        }
        let mut events = Vec::with_capacity(EVENTS_MAX);
        let mut heard_ns = 0;
        loop {
            let mut now_ns = self.now_ns();
            if !self.ended && now_ns >= self.end_ns {
                self.end(now_ns);
            }
            if !self.ended {
                now_ns = self.issue_due(now_ns)?;
            }
            if self.ended && (self.in_flight == 0 || now_ns > self.drained_ns) {
                return Ok(());
            }
            if self.watch.stop.load(Ordering::Relaxed) {
                return Err(DriveError::Interrupted);
            }
            if self.in_flight == 0 {
                heard_ns = now_ns;
            } else if now_ns.saturating_sub(heard_ns) > SILENCE_MAX.as_nanos() as u64 {
                return Err(DriveError::Silent);
            }
            let timeout = self.sleep(now_ns);
            events.clear();
            match epoll::wait(&self.poll, spare_capacity(&mut events), Some(&timeout)) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(DriveError::Lost(error.into())),
            }
            let before = self.tally.requests + self.tally.late;
            for event in &events {
                self.ready(event.data.u64() as usize)?;
            }
            let answered = self.tally.requests + self.tally.late - before;
            if answered > 0 {
                heard_ns = now_ns;
                self.watch.answered.fetch_add(answered, Ordering::Relaxed);
            }
        }
    }

    /// How long to sleep if nothing comes: until the end, or until the next request is due.
    fn sleep(&self, now_ns: u64) -> Timespec {
        let mut sleep_ns = WAIT_MAX.as_nanos() as u64;
        if !self.ended {
            sleep_ns = sleep_ns.min(self.end_ns.saturating_sub(now_ns));
            if let Some(open) = &self.open {
                sleep_ns = sleep_ns.min(open.arrivals.due_ns().saturating_sub(now_ns));
            }
        }
        Timespec { tv_sec: 0, tv_nsec: sleep_ns as i64 }
    }

    /// The time is up: nothing more is sent; what is due and unanswered is charged until now.
    fn end(&mut self, now_ns: u64) {
        self.ended = true;
        self.drained_ns = now_ns + DRAIN_MAX.as_nanos() as u64;
        self.tally.elapsed = Duration::from_nanos(now_ns);
        let Some(open) = &mut self.open else { return };
        while open.arrivals.due_ns() < now_ns {
            open.backlog.push_back(open.arrivals.due_ns());
            open.arrivals.advance();
        }
        let waiting =
            self.connections.iter().flat_map(Connection::in_flight_since).chain(open.backlog.drain(..));
        for since_ns in waiting {
            self.tally.unanswered += 1;
            self.tally.latencies.record(now_ns - since_ns);
        }
    }

    /// Open loop: sends every request that is due, or notes it down if no connection is free.
    fn issue_due(&mut self, mut now_ns: u64) -> Result<u64, DriveError> {
        while let Some(open) = &mut self.open {
            let due_ns = open.arrivals.due_ns();
            if due_ns > now_ns {
                let later_ns = self.now_ns();
                // Sending took time: look again, so that a short gap does not cost a wait.
                if due_ns > later_ns {
                    return Ok(later_ns);
                }
                now_ns = later_ns;
                continue;
            }
            open.arrivals.advance();
            match open.free.pop_front() {
                Some(id) => self.send(id, due_ns)?,
                None => open.backlog.push_back(due_ns),
            }
        }
        Ok(now_ns)
    }

    /// Puts one request on a connection.
    fn send(&mut self, id: usize, since_ns: u64) -> Result<(), DriveError> {
        self.put(id, since_ns);
        self.connections[id].flush().map_err(DriveError::Lost)
    }

    /// Closed loop: puts requests on a connection until `pipeline` are in flight.
    fn fill(&mut self, id: usize, now_ns: u64) -> Result<(), DriveError> {
        while self.connections[id].in_flight() < self.plan.pipeline && self.put(id, now_ns) {}
        self.connections[id].flush().map_err(DriveError::Lost)
    }

    /// Appends the next request; false if the source is at its end.
    #[inline]
    fn put(&mut self, id: usize, since_ns: u64) -> bool {
        let connection = &mut self.connections[id];
        let Some(expect) = self.source.next(connection.outgoing()) else {
            if !self.ended {
                self.ended = true;
                // Replies to a source that ends are all counted: `late` is for what comes after the time.
                self.end_ns = u64::MAX;
            }
            return false;
        };
        let verify = self.verify_below > 0 && expect.has_bytes() && self.rng.next_u64() <= self.verify_below;
        connection.push(connection::Pending { since_ns, expect, verify });
        self.in_flight += 1;
        true
    }

    /// A connection can be read or written.
    #[inline]
    fn ready(&mut self, id: usize) -> Result<(), DriveError> {
        self.connections[id].flush().map_err(DriveError::Lost)?;
        loop {
            let read = match self.connections[id].read(&mut self.buffer) {
                Ok(0) => return Err(DriveError::Lost(io::ErrorKind::UnexpectedEof.into())),
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(DriveError::Lost(error)),
            };
            let now_ns = self.now_ns();
            self.take(id, read, now_ns)?;
            if self.open.is_none() && !self.ended {
                let in_flight = self.connections[id].in_flight();
                let low = if self.plan.pace == Pace::Window { self.plan.pipeline / 2 } else { 0 };
                if in_flight <= low && now_ns < self.end_ns {
                    self.fill(id, now_ns)?;
                }
            }
            if read < self.buffer.len() {
                break;
            }
        }
        Ok(())
    }

    /// Counts the replies in the first `read` bytes of the buffer.
    fn take(&mut self, id: usize, read: usize, now_ns: u64) -> Result<(), DriveError> {
        let buffer = std::mem::take(&mut self.buffer);
        let mut input = &buffer[..read];
        while !input.is_empty() {
            let connection = &mut self.connections[id];
            let (used, answer) = connection.advance(input).map_err(|_| DriveError::Malformed)?;
            input = &input[used..];
            let Some((pending, reply)) = answer else { break };
            self.in_flight -= 1;
            self.tally.payload_bytes += reply.payload_bytes;
            if now_ns < self.end_ns {
                self.tally.requests += 1;
                self.tally.latencies.record(now_ns.saturating_sub(pending.since_ns));
                count_second(&mut self.tally.per_second, now_ns);
            } else {
                self.tally.late += 1;
            }
            if self.plan.judge {
                connection.judge(self.data, &pending, &reply, &mut self.tally);
            }
            if let Some(open) = &mut self.open {
                match open.backlog.pop_front() {
                    Some(due_ns) => self.send(id, due_ns)?,
                    None => open.free.push_back(id),
                }
            }
        }
        self.buffer = buffer;
        if self.ended && self.in_flight == 0 && self.tally.elapsed.is_zero() {
            self.tally.elapsed = Duration::from_nanos(now_ns);
        }
        Ok(())
    }
}

#[inline]
fn count_second(per_second: &mut Vec<u64>, now_ns: u64) {
    let second = ((now_ns / 1_000_000_000) as usize).min(SECONDS_MAX);
    if per_second.len() <= second {
        per_second.resize(second + 1, 0);
    }
    per_second[second] += 1;
}
