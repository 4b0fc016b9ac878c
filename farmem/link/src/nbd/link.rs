//! A memory node as a [`Link`]: queues, deadlines, and what happens when the node is gone.
//!
//! ```text
//!   submit ─┬─ needed ─► needed queue ─► connections 1..n-1 ─┐
//!           └─ rest ───► rest queue, trims ─► connection n ──┴─► answers ─► landed
//!
//!   up ── broken, hung up, too late ──► down ── redial ──► up (same content: what was under way is sent again)
//!                                         │                └── (other content: `losses` goes up, fetches fail)
//!                                         └── deadline: what waits lands as Down
//! ```
//!
//! A needed page shares its connection with needed pages only, where the node allows several. Neighbours in a queue
//! are one request. Refuses to trust a node that is late: its connections are closed, so that no late answer finds a
//! frame that has another owner by then.

use super::connection::{Answer, Connection};
use super::dial::{Dialed, Identity, dial};
use super::proto::{Errno, ExportFlags};
use super::request::Requests;
use super::trims::Trims;
use super::uri::NbdUri;
use crate::absence::{Absence, Asked};
use crate::ended::Ended;
use crate::monotonic_now;
use crate::redial::Redial;
use crate::set::{Door, OpenTwin};
use farmem::{Frame, FrameNo, Instant, Landed, Link, LinkError, PageNo, Transfer, TransferKind};
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::time::Timespec;
use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

/// Pages under way on a connection for needed pages: 4 MiB, more than the pager ever asks for at once.
const NEEDED_PAGES_MAX: u32 = 1024;
/// Pages under way on the connection for the rest.
const REST_PAGES_MAX: u32 = 128;
/// The same where needed pages share it: what may be ahead of them, 30 us at 40 Gb/s.
const REST_PAGES_SHARED_MAX: u32 = 32;
/// Pages of one request: 256 KiB; more saves nothing and delays what comes behind it.
const REQUEST_PAGES_MAX: u32 = 64;
/// An idle connection is looked at this often, to learn that the node has hung up. Units: nanoseconds.
const IDLE_LOOK_NS: u64 = 100_000_000;
/// How long `wait_landed` sleeps without looking at the deadlines. Units: nanoseconds.
const WAIT_NS: i64 = 50_000_000;
/// A trim may take so many times longer than a page.
const TRIM_PATIENCE: u64 = 10;

/// Far memory on a memory node.
pub struct NbdLink {
    uri: NbdUri,
    /// Readable when a socket is, or the bell of `redial`.
    epoll: OwnedFd,
    pages: u32,
    flags: ExportFlags,
    request_pages_max: u32,
    identity: Identity,
    /// Empty while the node is gone.
    connections: Vec<Connection>,
    redial: Redial<Dialed>,
    absence: Absence,
    comes_back: bool,
    requests: Requests,
    needed: VecDeque<Asked>,
    rest: VecDeque<Asked>,
    trims: Trims,
    ended: Ended,
    /// Submitted and not landed, trims apart.
    in_flight: usize,
    looked_at: Instant,
    /// Scratch.
    answers: Vec<Answer>,
}

impl NbdLink {
    /// Comes to a node.
    ///
    /// # Errors
    /// Why not, in words that fit behind the URI.
    pub fn open(uri: &NbdUri) -> io::Result<NbdLink> {
        NbdLink::over(uri.clone(), dial(uri, None)?)
    }

    /// Comes to a node, if that takes no longer than this, whatever the URI's timeout: for who holds others up meanwhile.
    ///
    /// # Errors
    /// As [`NbdLink::open`]; `TimedOut`.
    pub fn open_within(uri: &NbdUri, patience: Duration) -> io::Result<NbdLink> {
        let (sender, receiver) = channel();
        let asked = uri.clone();
        // A thread that comes too late finds nobody to tell, and closes what it has opened.
        thread::Builder::new().name("dial".into()).spawn(move || sender.send(dial(&asked, None)))?;
        let late = |_| io::Error::new(io::ErrorKind::TimedOut, format!("no answer within {patience:?}"));
        NbdLink::over(uri.clone(), receiver.recv_timeout(patience).map_err(late)??)
    }

    fn over(uri: NbdUri, dialed: Dialed) -> io::Result<NbdLink> {
        let redial = Redial::new()?;
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        watch(&epoll, redial.bell())?;
        let mut link = NbdLink {
            absence: Absence::new(uri.to_string(), uri.timeout_ns),
            uri,
            epoll,
            pages: dialed.pages,
            flags: dialed.flags,
            request_pages_max: dialed.request_pages_max.min(REQUEST_PAGES_MAX),
            identity: dialed.identity,
            connections: Vec::new(),
            redial,
            comes_back: true,
            requests: Requests::default(),
            needed: VecDeque::new(),
            rest: VecDeque::new(),
            trims: Trims::default(),
            ended: Ended::default(),
            in_flight: 0,
            looked_at: Instant(0),
            answers: Vec::new(),
        };
        link.install(dialed)?;
        Ok(link)
    }

    /// How to open the same export once more, over a connection of its own. Such a twin does not come back once it
    /// has broken, so whoever copies with it never reads what is not what it was.
    pub fn twin(&self) -> impl FnOnce() -> io::Result<NbdLink> + Send + use<> {
        let (uri, known) = (NbdUri { connections: 1, ..self.uri.clone() }, self.identity);
        move || {
            let dialed = dial(&uri, Some(known))?;
            if dialed.identity != known {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "it has lost its content"));
            }
            let mut twin = NbdLink::over(uri, dialed)?;
            twin.absence.set_patient(false);
            Ok(NbdLink { comes_back: false, ..twin })
        }
    }

    fn install(&mut self, dialed: Dialed) -> io::Result<()> {
        for stream in dialed.streams {
            let connection = Connection::new(stream);
            watch(&self.epoll, connection.socket())?;
            self.connections.push(connection);
        }
        (self.flags, self.identity) = (dialed.flags, dialed.identity);
        Ok(())
    }

    /// Fills the connections with what waits, and sends it.
    fn pump(&mut self, frames: &[Frame], now: Instant) {
        let Some(rest) = self.connections.len().checked_sub(1) else { return };
        let needed_lanes = rest.max(1);
        while !self.needed.is_empty() {
            let lane = (0..needed_lanes).min_by_key(|&lane| self.connections[lane].pages());
            let lane = lane.expect("there is a connection");
            if self.connections[lane].pages() >= NEEDED_PAGES_MAX {
                break;
            }
            self.start_next(true, lane);
        }
        let rest_pages_max = if rest == 0 { REST_PAGES_SHARED_MAX } else { REST_PAGES_MAX };
        while !self.rest.is_empty() && self.connections[rest].pages() < rest_pages_max {
            self.start_next(false, rest);
        }
        self.start_trim(rest, now);
        for lane in 0..=rest {
            if let Err(error) = self.connections[lane].send(&self.requests, frames) {
                return self.break_down(&error, now);
            }
        }
    }

    /// Puts the first of a queue on a connection, with those behind it that are its neighbours.
    fn start_next(&mut self, is_needed: bool, lane: usize) {
        let queue = if is_needed { &mut self.needed } else { &mut self.rest };
        let Some(first) = queue.pop_front() else { return };
        let mut count = 1;
        let follows = |asked: &Asked, count: u32| {
            asked.transfer.kind == first.transfer.kind
                && asked.transfer.page.0 == first.transfer.page.0 + count
        };
        while count < self.request_pages_max
            && queue.get(count as usize - 1).is_some_and(|asked| follows(asked, count))
        {
            count += 1;
        }
        let slot = self.requests.begin(first, count);
        let transfers = &mut self.requests.get_mut(slot).transfers;
        transfers.push(first.transfer);
        transfers.extend(queue.drain(..count as usize - 1).map(|asked| asked.transfer));
        self.connections[lane].enqueue(slot, &self.requests);
    }

    fn start_trim(&mut self, lane: usize, now: Instant) {
        if !self.flags.contains(ExportFlags::SEND_TRIM) {
            return self.trims.forget();
        }
        let Some((first, count)) = self.trims.next() else { return };
        let transfer = Transfer { kind: TransferKind::Trim, page: PageNo(first), count, frame: FrameNo(0) };
        let slot = self.requests.begin(Asked { transfer, at: now }, count);
        self.trims.start(slot, (first, count));
        self.connections[lane].enqueue(slot, &self.requests);
    }

    /// Takes what has arrived on all connections that wait for something, and now and then on the others.
    fn receive(&mut self, frames: &mut [Frame], now: Instant, landed: &mut Vec<Landed>) {
        let look_at_all = now.0.saturating_sub(self.looked_at.0) >= IDLE_LOOK_NS;
        if look_at_all {
            self.looked_at = now;
        }
        let mut answers = std::mem::take(&mut self.answers);
        let mut broken = None;
        for connection in &mut self.connections {
            if (look_at_all || connection.flight().next().is_some())
                && let Err(error) = connection.receive(&self.requests, frames, &mut answers)
            {
                broken = Some(error);
            }
        }
        for (slot, errno) in answers.drain(..) {
            self.finish((slot, errno), landed);
        }
        self.answers = answers;
        if let Some(error) = broken.or_else(|| self.overdue(now)) {
            self.break_down(&error, now);
        }
    }

    /// A request has been answered.
    fn finish(&mut self, (slot, errno): Answer, landed: &mut Vec<Landed>) {
        let request = self.requests.get(slot);
        let result = if errno == Errno::NONE { Ok(()) } else { Err(LinkError::Io) };
        if errno != Errno::NONE {
            log::debug!("far memory '{}': {:?}: {errno:?}", self.uri, request.kind);
        }
        if request.kind == TransferKind::Trim {
            let held = self.trims.end();
            self.rest.extend(held);
        }
        self.in_flight -= request.transfers.len();
        landed.extend(request.transfers.iter().map(|&transfer| Landed { transfer, result }));
        self.requests.end(slot);
    }

    /// Why the node counts as gone, if it has kept somebody waiting too long.
    fn overdue(&self, now: Instant) -> Option<io::Error> {
        let is_late = |connection: &Connection| {
            connection.flight().next().is_some_and(|slot| {
                let request = self.requests.get(slot);
                let patience = if request.kind == TransferKind::Trim { TRIM_PATIENCE } else { 1 };
                now.0.saturating_sub(request.at.0) > self.uri.timeout_ns * patience
            })
        };
        let is_late = self.connections.iter().any(is_late);
        is_late.then(|| io::Error::new(io::ErrorKind::TimedOut, "no answer in time"))
    }

    /// The node is gone: what was under way waits for it, or fails.
    fn break_down(&mut self, why: &io::Error, now: Instant) {
        self.absence.begin(why, now);
        for connection in std::mem::take(&mut self.connections).iter().rev() {
            let slots: Vec<_> = connection.flight().collect();
            for &slot in slots.iter().rev() {
                let request = self.requests.get(slot);
                let is_needed = request.kind == TransferKind::FetchNeeded;
                let queue = if is_needed { &mut self.needed } else { &mut self.rest };
                for &transfer in request.transfers.iter().rev() {
                    queue.push_front(Asked { transfer, at: request.at });
                }
                self.requests.end(slot);
            }
        }
        let held = self.trims.end();
        self.rest.extend(held);
        self.trims.forget();
        self.give_up(now);
        self.dial_again();
    }

    fn dial_again(&mut self) {
        if self.comes_back {
            let (uri, known) = (self.uri.clone(), self.identity);
            self.redial.start(&self.uri, move || dial(&uri, Some(known)));
        }
    }

    /// Fails what waits for a node that is gone, as far as it is not to wait longer.
    fn give_up(&mut self, now: Instant) {
        for queue in [&mut self.needed, &mut self.rest] {
            self.absence.give_up(queue, &mut self.ended, now);
        }
    }

    /// Looks whether the node is back.
    fn look_for_node(&mut self, now: Instant) {
        match self.redial.poll() {
            Ok(None) => {}
            Ok(Some(dialed)) => self.welcome(dialed, now),
            Err(()) => self.dial_again(),
        }
    }

    /// The node is back, with or without what was written to it.
    fn welcome(&mut self, dialed: Dialed, now: Instant) {
        let is_same = dialed.identity == self.identity;
        if dialed.pages < self.pages {
            log::warn!("far memory '{}' is back, smaller than before: not used", self.uri);
            return self.dial_again();
        }
        if let Err(error) = self.install(dialed) {
            log::warn!("far memory '{}': cannot watch its connections: {error}", self.uri);
            self.connections.clear();
            return self.dial_again();
        }
        self.absence.end(is_same, [&mut self.needed, &mut self.rest], &mut self.ended, now);
    }

    /// Puts a transfer where it has to wait its turn.
    fn queue(&mut self, transfer: Transfer, now: Instant) {
        let asked = Asked { transfer, at: now };
        match transfer.kind {
            TransferKind::FetchNeeded => self.needed.push_back(asked),
            TransferKind::WriteBack if self.trims.cut(transfer.page.0) => self.trims.held.push(asked),
            _ => self.rest.push_back(asked),
        }
    }
}

/// Lets the epoll descriptor become readable whenever `what` has something new.
fn watch(epoll: &OwnedFd, what: BorrowedFd<'_>) -> io::Result<()> {
    let interest = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET;
    Ok(epoll::add(epoll, what, EventData::new_u64(0), interest)?)
}

impl Link for NbdLink {
    fn submit(&mut self, batch: &[Transfer], frames: &mut [Frame], now: Instant) {
        let is_gone = !self.is_up() && self.absence.is_given_up(now);
        for &transfer in batch {
            let Transfer { kind, page: PageNo(page), count, .. } = transfer;
            if kind == TransferKind::Trim {
                self.trims.push(page, count.min(self.pages.saturating_sub(page)));
                continue;
            }
            self.in_flight += 1;
            if page >= self.pages {
                self.ended.push(transfer, Err(LinkError::OutOfRange), now);
            } else if is_gone {
                self.ended.push(transfer, Err(LinkError::Down), now);
            } else {
                self.queue(transfer, now);
            }
        }
        self.pump(frames, now);
    }

    fn poll_landed(&mut self, frames: &mut [Frame], now: Instant, landed: &mut Vec<Landed>) {
        if self.is_up() {
            self.receive(frames, now, landed);
        } else {
            self.give_up(now);
            self.look_for_node(now);
        }
        self.in_flight -= self.ended.len();
        self.ended.drain_into(landed);
        self.pump(frames, now);
    }

    fn wait_landed(&mut self, frames: &mut [Frame], landed: &mut Vec<Landed>) {
        let before = landed.len();
        self.poll_landed(frames, monotonic_now(), landed);
        while landed.len() == before && self.in_flight > 0 {
            let mut events = [Event { flags: EventFlags::empty(), data: EventData::new_u64(0) }; 8];
            let timeout = Timespec { tv_sec: 0, tv_nsec: WAIT_NS };
            if let Err(error) = epoll::wait(&self.epoll, &mut events[..], Some(&timeout)) {
                log::debug!("cannot wait for a memory node at the moment: {error}");
            }
            self.poll_landed(frames, monotonic_now(), landed);
        }
    }

    /// Refused transfers have landed already; answers announce themselves, and deadlines are looked at by every poll.
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

impl Door for NbdLink {
    fn is_up(&self) -> bool {
        !self.connections.is_empty()
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

    fn is_trimming(&self) -> bool {
        !self.trims.is_idle()
    }

    fn twin(&self) -> io::Result<OpenTwin> {
        let open = NbdLink::twin(self);
        Ok(Box::new(move || Ok(Box::new(open()?))))
    }
}
