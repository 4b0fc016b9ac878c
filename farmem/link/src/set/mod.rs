//! The links of a server as one: far pages are striped over them in slabs, each on one or two of them.
//!
//! ```text
//!   far page ──/ 4096──► slab table: slab ─► (link, slab of that link), once or twice
//!   slabs      0 1 2 3 4 5 ...
//!   on link    0 1 0 0 1 0 ...     each link in proportion to its size
//!
//!   mod      what a body and a pager see       member    one link
//!   slabs    where each page is, which copies hold it
//!   copies   the way of a transfer             repair, copier    copies are made whole again
//!   admin    links that come and go            shared    one set, two owners
//! ```
//!
//! With one link of this machine there is no table, and a batch goes through as it is. Refuses to hide that a page is
//! gone, and to wait for a copy while there is another.

mod admin;
mod copier;
mod copies;
mod member;
mod repair;
mod shared;
mod slabs;

pub use copier::{Copier, InlineCopier, Job, JobEnd};
pub use member::{Door, OpenTwin};
pub use shared::{PagerDoor, SharedLink};

use crate::ended::Ended;
use crate::monotonic_now;
use crate::rdma::RdmaCounts;
use crate::uri::FarUri;
use crate::window::Stretch;
use copies::UnderWay;
use farmem::{Frame, Instant, Landed, Link, Transfer};
use member::{Member, numbers};
use repair::Repair;
use slabs::{Home, MemberNo, SLAB_PAGES, Slab};
use std::fmt;
use std::os::fd::BorrowedFd;

/// Links of one server; a word has a bit for each.
const LINKS_MAX: usize = 64;

/// All far memory of a server.
pub struct LinkSet {
    members: Vec<Member>,
    /// Where each slab is; empty with one link of this machine.
    slabs: Vec<Slab>,
    /// How many copies of a slab are wanted.
    copies: usize,
    pages: u32,
    /// A bit for each member that could be reached when it was last looked at.
    up: u64,
    /// Over before they began: beyond the last slab, or lost.
    refused: Ended,
    under_way: UnderWay,
    repair: Repair,
    /// For members that come later.
    stretches: Option<Vec<Stretch>>,
    /// Scratch.
    ends: Vec<Landed>,
}

/// One link, for INFO.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LinkState {
    /// Its URI in canonical form.
    pub uri: String,
    /// `up`; `down`: it cannot be reached; `lost`: it has come back without pages that nobody else has; `copying`: it is
    /// there, and gets pages that it has missed; `draining`: it is about to be removed.
    pub state: &'static str,
    /// Transfers that have been submitted and have not landed.
    pub in_flight: usize,
    /// Pages fetched.
    pub pages_read: u64,
    /// Pages written back.
    pub pages_written: u64,
    /// Transfers that failed.
    pub errors: u64,
    /// Pages that it ought to hold, does not, and another link does.
    pub stale_pages: u64,
    /// Pages that it ought to hold, and nobody does.
    pub lost_pages: u64,
    /// What it has asked of an RDMA device, if it uses one.
    pub rdma: Option<RdmaCounts>,
}

/// The world is wrong: far memory cannot be had. One line, naming the URI.
#[derive(Debug)]
pub struct OpenError(String);

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for OpenError {}

impl LinkSet {
    /// Opens all of them, each slab on `copies` (1 or 2) of them.
    ///
    /// # Errors
    /// One line that names the URI and what the system answered.
    pub fn open(uris: &[FarUri], copies: usize) -> Result<LinkSet, OpenError> {
        let open = |uri: &FarUri| {
            let door =
                member::open(uri).map_err(|error| OpenError(format!("far memory '{uri}': {error}")))?;
            Ok((uri.to_string(), door))
        };
        let doors = uris.iter().map(open).collect::<Result<Vec<_>, OpenError>>()?;
        LinkSet::of(doors, copies, None)
    }

    /// A set of links that are open. Without a copier it starts one when it has something to copy.
    ///
    /// # Errors
    /// One line, if they do not suffice.
    pub fn of(
        doors: Vec<(String, Box<dyn Door>)>,
        copies: usize,
        copier: Option<Box<dyn Copier>>,
    ) -> Result<LinkSet, OpenError> {
        if doors.is_empty() || doors.len() > LINKS_MAX {
            let count = doors.len();
            return Err(OpenError(format!("far memory: 1 to {LINKS_MAX} URIs are wanted, not {count}")));
        }
        if doors.len() < copies {
            return Err(OpenError(format!("far memory: {copies} copies want as many URIs at least")));
        }
        let only = match doors.as_slice() {
            [(_, door)] => Some((door.capacity_pages(), door.is_remote())),
            _ => None,
        };
        // Of several members only whole slabs are used, of one alone the last may be cut short.
        let slabs_of = |door: &dyn Door| match only {
            Some((pages, _)) => pages.div_ceil(SLAB_PAGES),
            None => door.capacity_pages() / SLAB_PAGES,
        };
        let mut members = Vec::with_capacity(doors.len());
        for (uri, mut door) in doors {
            let slabs = slabs_of(door.as_ref());
            if slabs == 0 {
                return Err(OpenError(format!("far memory '{uri}': one of several must have 16mb at least")));
            }
            door.set_patient(copies == 1);
            members.push(Member::new(uri, door, slabs));
        }
        let slabs = match only {
            Some((_, false)) => Vec::new(),
            _ => spread(&mut members, copies)?,
        };
        let pages = only.map_or(slabs.len() as u32 * SLAB_PAGES, |(pages, _)| pages);
        let mut repair = Repair::new(copier);
        if !slabs.is_empty() {
            repair.start_copier().map_err(|error| OpenError(format!("far memory: no copier: {error}")))?;
        }
        Ok(LinkSet {
            up: (1 << (members.len() - 1) << 1) - 1,
            members,
            slabs,
            copies,
            pages,
            refused: Ended::default(),
            under_way: UnderWay::default(),
            repair,
            stretches: None,
            ends: Vec::new(),
        })
    }

    /// Says where the frames lie from now on, and that the memory there may be other than it was: an RDMA device forgets
    /// what it knew of them, and learns each stretch for itself. Without this call all frames are one stretch, for good.
    ///
    /// # Panics
    /// If anything is in flight.
    pub fn set_stretches(&mut self, stretches: Vec<Stretch>) {
        assert_eq!(self.in_flight(), 0, "a frame that is in flight stays where it is");
        for door in self.members.iter_mut().filter_map(|member| member.door.as_mut()) {
            door.set_stretches(&stretches);
        }
        self.stretches = Some(stretches);
    }

    /// Every link and how it is.
    pub fn describe(&self) -> Vec<LinkState> {
        let mut bad = vec![(0, 0); self.members.len()];
        for slab in &self.slabs {
            let census = slab.census();
            for (copy, home) in slab.copies() {
                let (stale, lost) = &mut bad[usize::from(home.member.0)];
                *stale += u64::from(census.stale[copy]);
                *lost += u64::from(census.lost);
            }
        }
        let members = self.members.iter().zip(bad).filter(|(member, _)| member.door.is_some());
        members.map(|(member, (stale, lost))| state(member, stale, lost)).collect()
    }

    /// What becomes readable when something has landed, of the links that announce it; the others answer
    /// through [`Link::next_due`]. To be watched for edges, see [`FileLink::event_fd`](crate::FileLink::event_fd).
    pub fn event_fds(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        let doors = self.members.iter().filter_map(|member| member.door.as_ref());
        doors.filter_map(|door| door.event_fd()).chain(self.repair.event_fd())
    }

    /// Whether it is to be polled although nothing is in flight: links that may come and go have work of their own.
    pub fn is_restless(&self) -> bool {
        !self.slabs.is_empty()
    }

    /// Takes what has landed at one member.
    fn poll_member(
        &mut self,
        number: MemberNo,
        frames: &mut [Frame],
        now: Instant,
        landed: &mut Vec<Landed>,
    ) {
        let mut ends = std::mem::take(&mut self.ends);
        self.members[usize::from(number.0)].poll(frames, now, &mut ends);
        self.sort_out(number, &mut ends, frames, now, landed);
        self.ends = ends;
    }

    /// Looks which members can be reached.
    fn look_who_is_up(&mut self, now: Instant) {
        let mut up = 0;
        for (index, member) in self.members.iter_mut().enumerate() {
            if member.is_up() {
                up |= 1 << index;
                member.down_since = None;
            } else {
                member.down_since.get_or_insert(now);
            }
            member.recycle();
        }
        self.repair.is_due |= up & !self.up != 0;
        self.up = up;
    }

    /// Waits for whichever link is first: by its own means if only one has something in flight, else by
    /// asking all in turn.
    fn wait_any(&mut self, frames: &mut [Frame], landed: &mut Vec<Landed>) {
        let before = landed.len();
        self.poll_landed(frames, monotonic_now(), landed);
        while landed.len() == before && self.in_flight() > 0 {
            let mut busy =
                numbers(&self.members).filter(|number| self.members[usize::from(number.0)].in_flight() > 0);
            if let (Some(only), None) = (busy.next(), busy.next()) {
                let mut ends = std::mem::take(&mut self.ends);
                self.members[usize::from(only.0)].wait(frames, &mut ends);
                self.sort_out(only, &mut ends, frames, monotonic_now(), landed);
                self.ends = ends;
            } else {
                std::thread::yield_now();
            }
            self.poll_landed(frames, monotonic_now(), landed);
        }
    }
}

fn state(member: &Member, stale_pages: u64, lost_pages: u64) -> LinkState {
    let state = match () {
        () if !member.is_up() => "down",
        () if lost_pages > 0 => "lost",
        () if member.is_leaving => "draining",
        () if stale_pages > 0 => "copying",
        () => "up",
    };
    LinkState {
        uri: member.uri.clone(),
        state,
        in_flight: member.in_flight(),
        pages_read: member.pages_read,
        pages_written: member.pages_written,
        errors: member.errors,
        stale_pages,
        lost_pages,
        rdma: member.door.as_ref().and_then(|door| door.rdma_counts()),
    }
}

/// Deals the slabs of the members out, each time to those that are emptiest for their size.
fn spread(members: &mut [Member], copies: usize) -> Result<Vec<Slab>, OpenError> {
    let all: usize = members.iter().map(|member| member.far_slabs.len()).sum();
    if all / copies > (u32::MAX / SLAB_PAGES) as usize + 1 {
        return Err(OpenError("far memory: together the URIs have more than 16tb".into()));
    }
    let mut slabs = Vec::with_capacity(all / copies);
    loop {
        let mut slab = Slab::default();
        for copy in 0..copies {
            let fullness = |&index: &usize| {
                let (free, all) = (members[index].free.len() as u64, members[index].far_slabs.len() as u64);
                // dealt + 1 over all, in 2^-32: at most 2^20 slabs, so nothing overflows.
                ((all - free + 1) << 32) / all
            };
            let has_room =
                |&index: &usize| !members[index].free.is_empty() && !slab.is_on(MemberNo(index as u8));
            let Some(index) = (0..members.len()).filter(has_room).min_by_key(fullness) else {
                let given_back = slab.copies().map(|(_, home)| home).collect::<Vec<Home>>();
                for home in given_back {
                    members[usize::from(home.member.0)].free.push(home.slab);
                }
                return Ok(slabs);
            };
            let taken = members[index].take_slab(slabs.len() as u32).expect("it has room");
            slab.homes[copy] = Some(Home { member: MemberNo(index as u8), slab: taken });
        }
        slabs.push(slab);
    }
}

impl Link for LinkSet {
    fn submit(&mut self, batch: &[Transfer], frames: &mut [Frame], now: Instant) {
        if self.slabs.is_empty() {
            return self.members[0].pass(batch, frames, now);
        }
        for &transfer in batch {
            self.route(transfer, now);
        }
        self.members.iter_mut().for_each(|member| member.submit(frames, now));
    }

    fn poll_landed(&mut self, frames: &mut [Frame], now: Instant, landed: &mut Vec<Landed>) {
        if self.slabs.is_empty() {
            return self.members[0].poll(frames, now, landed);
        }
        self.refused.drain_into(landed);
        for number in numbers(&self.members) {
            self.poll_member(number, frames, now, landed);
        }
        self.note_losses();
        self.look_who_is_up(now);
        if self.repair.is_busy() {
            self.repair(now);
        }
    }

    fn wait_landed(&mut self, frames: &mut [Frame], landed: &mut Vec<Landed>) {
        if self.slabs.is_empty() {
            self.members[0].wait(frames, landed);
        } else if self.in_flight() > 0 {
            self.wait_any(frames, landed);
        }
    }

    fn next_due(&self) -> Option<Instant> {
        let doors = self.members.iter().filter_map(|member| member.door.as_ref());
        doors.filter_map(|door| door.next_due()).chain(self.refused.due()).min()
    }

    fn in_flight(&self) -> usize {
        let moving: usize = self.members.iter().map(Member::in_flight).sum();
        moving - self.under_way.surplus() + self.refused.len()
    }

    fn capacity_pages(&self) -> u32 {
        self.pages
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use farmem::{PageNo, TransferKind};

    fn open(uris: &[&str]) -> LinkSet {
        let parse = |uri: &&str| uri.parse().expect("it is a URI");
        LinkSet::open(&uris.iter().map(parse).collect::<Vec<FarUri>>(), 1).expect("it can be had")
    }

    #[test]
    fn slabs_are_dealt_out_by_size_and_each_once() {
        let set = open(&["mem:48mb", "mem:96mb", "mem:20mb"]);
        assert_eq!(set.capacity_pages(), 10 * SLAB_PAGES);
        let mut seen: Vec<u32> = set.members.iter().flat_map(|member| member.far_slabs.clone()).collect();
        seen.sort_unstable();
        assert!(seen.into_iter().eq(0..10));
        assert_eq!(set.members.iter().map(|member| member.far_slabs.len()).collect::<Vec<_>>(), [3, 6, 1]);
        for (number, slab) in set.slabs.iter().enumerate() {
            let home = slab.homes[0].expect("each slab has a home");
            assert_eq!(set.members[usize::from(home.member.0)].far_slabs[home.slab as usize], number as u32);
        }
    }

    #[test]
    fn one_link_keeps_its_pages_to_the_last() {
        assert_eq!(open(&["mem:20kb"]).capacity_pages(), 5);
    }

    #[test]
    fn what_cannot_be_had_is_one_line_that_names_it() {
        let error = |uris: &[&str]| {
            let parsed: Vec<FarUri> = uris.iter().map(|uri| uri.parse().expect("it is a URI")).collect();
            LinkSet::open(&parsed, 1).err().expect("it cannot be had").to_string()
        };
        assert!(
            error(&["file:/nowhere/at/all?size=1gb"])
                .starts_with("far memory 'file:/nowhere/at/all?size=1gb': ")
        );
        assert!(error(&["dax:/proc/version"]).contains("dax:/proc/version"));
        assert!(error(&["mem:1mb", "mem:1gb"]).contains("mem:1mb"));
        assert!(error(&[]).contains("URIs are wanted"));
        assert!(error(&["mem:10tb", "mem:10tb"]).contains("more than 16tb"));
    }

    #[test]
    fn a_link_counts_what_it_has_moved() {
        let mut set = open(&["mem:1mb"]);
        let mut frames = [Frame([1; 4096])];
        let transfer =
            |kind, page| Transfer { kind, page: PageNo(page), count: 1, frame: farmem::FrameNo(0) };
        let batch = [
            transfer(TransferKind::FetchNeeded, 1),
            transfer(TransferKind::WriteBack, 2),
            transfer(TransferKind::WriteBack, 256),
        ];
        set.submit(&batch, &mut frames, Instant(5));
        assert_eq!((set.next_due(), set.describe()[0].in_flight), (Some(Instant(5)), 3));
        set.poll_landed(&mut frames, Instant(5), &mut Vec::new());
        let state = LinkState {
            uri: "mem:1mb".into(),
            state: "up",
            in_flight: 0,
            pages_read: 1,
            pages_written: 1,
            errors: 1,
            stale_pages: 0,
            lost_pages: 0,
            rdma: None,
        };
        assert_eq!(set.describe(), [state]);
    }
}
