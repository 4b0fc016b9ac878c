//! The links of a server as one: far pages are striped over them in slabs.
//!
//! ```text
//!   far page ──/ 4096──► slab table: slab ─► (link, slab of that link)
//!   slabs      0 1 2 3 4 5 ...
//!   on link    0 1 0 0 1 0 ...     each link in proportion to its size
//! ```
//!
//! With one link there is no table, and a batch goes through as it is. Refuses to move pages between
//! links, and to hide a link's error.

use crate::dax::DaxLink;
use crate::ended::Ended;
use crate::file::FileLink;
use crate::mem::MemLink;
use crate::monotonic_now;
use crate::uri::FarUri;
use farmem::{Frame, Instant, Landed, Link, LinkError, PageNo, Transfer, TransferKind};
use std::cell::{Ref, RefCell};
use std::os::fd::BorrowedFd;
use std::rc::Rc;
use std::{fmt, io};

/// Pages that stay together on one link: 16 MiB, so that a value of the usual size is one link's.
const SLAB_PAGES: u32 = 4096;
/// Links of one server; a slab's home names its link in a byte.
const LINKS_MAX: usize = 64;

/// All far memory of a server.
pub struct LinkSet {
    members: Vec<Member>,
    /// Where each slab is; empty with one link.
    homes: Vec<Home>,
    pages: u32,
    /// Transfers beyond the last slab.
    refused: Ended,
}

struct Member {
    uri: FarUri,
    door: Door,
    /// The far slab that each slab of this link is; empty with one link.
    slabs: Vec<u32>,
    /// Scratch: this link's part of a batch.
    batch: Vec<Transfer>,
    pages_read: u64,
    pages_written: u64,
    errors: u64,
}

#[derive(Clone, Copy)]
struct Home {
    member: u8,
    slab: u32,
}

enum Door {
    Mem(MemLink),
    Dax(DaxLink),
    File(Box<FileLink>),
}

/// One link, for INFO.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LinkState {
    /// Its URI in canonical form.
    pub uri: String,
    /// `up`: links to local memory and devices are never anything else.
    pub state: &'static str,
    /// Transfers that have been submitted and have not landed.
    pub in_flight: usize,
    /// Pages fetched.
    pub pages_read: u64,
    /// Pages written back.
    pub pages_written: u64,
    /// Transfers that failed.
    pub errors: u64,
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

impl Door {
    fn open(uri: &FarUri) -> io::Result<Door> {
        Ok(match uri {
            FarUri::Mem { size_bytes, wire } => Door::Mem(MemLink::open(*size_bytes, *wire)?),
            FarUri::Dax { path, size_bytes } => Door::Dax(DaxLink::open(path, *size_bytes)?),
            FarUri::File { path, size_bytes } => Door::File(Box::new(FileLink::open(path, *size_bytes)?)),
        })
    }

    fn link(&self) -> &dyn Link {
        match self {
            Door::Mem(link) => link,
            Door::Dax(link) => link,
            Door::File(link) => link.as_ref(),
        }
    }

    fn link_mut(&mut self) -> &mut dyn Link {
        match self {
            Door::Mem(link) => link,
            Door::Dax(link) => link,
            Door::File(link) => link.as_mut(),
        }
    }

    fn event_fd(&self) -> Option<BorrowedFd<'_>> {
        match self {
            Door::File(link) => Some(link.event_fd()),
            Door::Mem(_) | Door::Dax(_) => None,
        }
    }
}

impl Member {
    /// Counts what has ended, and gives the pages their far numbers back.
    #[inline]
    fn account(&mut self, landed: &mut [Landed]) {
        for end in landed {
            match (end.result, end.transfer.kind) {
                (Err(_), _) => self.errors += 1,
                (Ok(()), TransferKind::WriteBack) => self.pages_written += 1,
                (Ok(()), _) => self.pages_read += 1,
            }
            if !self.slabs.is_empty() {
                let PageNo(page) = end.transfer.page;
                end.transfer.page =
                    PageNo(self.slabs[(page / SLAB_PAGES) as usize] * SLAB_PAGES + page % SLAB_PAGES);
            }
        }
    }

    fn poll(&mut self, frames: &mut [Frame], now: Instant, landed: &mut Vec<Landed>) {
        let before = landed.len();
        self.door.link_mut().poll_landed(frames, now, landed);
        self.account(&mut landed[before..]);
    }
}

impl LinkSet {
    /// Opens all of them.
    ///
    /// # Errors
    /// One line that names the URI and what the system answered.
    pub fn open(uris: &[FarUri]) -> Result<LinkSet, OpenError> {
        if uris.is_empty() || uris.len() > LINKS_MAX {
            return Err(OpenError(format!(
                "far memory: 1 to {LINKS_MAX} URIs are wanted, not {}",
                uris.len()
            )));
        }
        let open = |uri: &FarUri| {
            let door = Door::open(uri).map_err(|error| OpenError(format!("far memory '{uri}': {error}")))?;
            let uri = uri.clone();
            Ok(Member {
                uri,
                door,
                slabs: Vec::new(),
                batch: Vec::new(),
                pages_read: 0,
                pages_written: 0,
                errors: 0,
            })
        };
        let mut members = uris.iter().map(open).collect::<Result<Vec<Member>, OpenError>>()?;
        let homes = if members.len() > 1 { spread(&mut members)? } else { Vec::new() };
        let pages = match members.as_slice() {
            [only] => only.door.link().capacity_pages(),
            _ => homes.len() as u32 * SLAB_PAGES,
        };
        Ok(LinkSet { members, homes, pages, refused: Ended::default() })
    }

    /// Every link and how it is.
    pub fn describe(&self) -> Vec<LinkState> {
        let state = |member: &Member| LinkState {
            uri: member.uri.to_string(),
            state: "up",
            in_flight: member.door.link().in_flight(),
            pages_read: member.pages_read,
            pages_written: member.pages_written,
            errors: member.errors,
        };
        self.members.iter().map(state).collect()
    }

    /// What becomes readable when something has landed, of the links that announce it; the others answer
    /// through [`Link::next_due`]. To be watched for edges, see [`FileLink::event_fd`].
    pub fn event_fds(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.members.iter().filter_map(|member| member.door.event_fd())
    }

    /// Sorts a transfer into the batches of the links that have its pages.
    fn route(&mut self, transfer: Transfer, now: Instant) {
        let (mut page, end) = (transfer.page.0, transfer.page.0.saturating_add(transfer.count));
        if transfer.kind != TransferKind::Trim && page >= self.pages {
            self.refused.push(transfer, Err(LinkError::OutOfRange), now);
            return;
        }
        // A trim may cross slabs; everything else is one page and one turn.
        while page < end.min(self.pages) {
            let home = self.homes[(page / SLAB_PAGES) as usize];
            let count = (end - page).min(SLAB_PAGES - page % SLAB_PAGES);
            let local = PageNo(home.slab * SLAB_PAGES + page % SLAB_PAGES);
            self.members[usize::from(home.member)].batch.push(Transfer { page: local, count, ..transfer });
            page += count;
        }
    }

    /// Waits for whichever link is first: by its own means if only one has something in flight, else by
    /// asking all in turn.
    fn wait_any(&mut self, frames: &mut [Frame], landed: &mut Vec<Landed>) {
        let before = landed.len();
        self.poll_landed(frames, monotonic_now(), landed);
        while landed.len() == before {
            let mut busy = self.members.iter_mut().filter(|member| member.door.link().in_flight() > 0);
            match (busy.next(), busy.next()) {
                (None, _) => return,
                (Some(only), None) => {
                    only.door.link_mut().wait_landed(frames, landed);
                    only.account(&mut landed[before..]);
                }
                (Some(_), Some(_)) => {
                    std::thread::yield_now();
                    self.poll_landed(frames, monotonic_now(), landed);
                }
            }
        }
    }
}

/// Deals the slabs of the members out, each time to the one that is emptiest for its size.
fn spread(members: &mut [Member]) -> Result<Vec<Home>, OpenError> {
    let slabs_of = |member: &Member| u64::from(member.door.link().capacity_pages() / SLAB_PAGES);
    if let Some(small) = members.iter().find(|member| slabs_of(member) == 0) {
        return Err(OpenError(format!("far memory '{}': one of several must have 16mb at least", small.uri)));
    }
    let slabs: u64 = members.iter().map(slabs_of).sum();
    if slabs > u64::from(u32::MAX / SLAB_PAGES) {
        return Err(OpenError("far memory: together the URIs have more than 16tb".into()));
    }
    let mut homes = Vec::with_capacity(slabs as usize);
    for far_slab in 0..slabs as u32 {
        let fullness = |&index: &usize| {
            let (dealt, all) = (members[index].slabs.len() as u64, slabs_of(&members[index]));
            // dealt + 1 over all, in 2^-32: at most 2^20 slabs, so nothing overflows.
            ((dealt + 1) << 32) / all
        };
        let member = (0..members.len()).min_by_key(fullness).expect("there are members");
        homes.push(Home { member: member as u8, slab: members[member].slabs.len() as u32 });
        members[member].slabs.push(far_slab);
    }
    Ok(homes)
}

impl Link for LinkSet {
    fn submit(&mut self, batch: &[Transfer], frames: &mut [Frame], now: Instant) {
        if let [only] = self.members.as_mut_slice() {
            return only.door.link_mut().submit(batch, frames, now);
        }
        for &transfer in batch {
            self.route(transfer, now);
        }
        for member in &mut self.members {
            if !member.batch.is_empty() {
                member.door.link_mut().submit(&member.batch, frames, now);
                member.batch.clear();
            }
        }
    }

    fn poll_landed(&mut self, frames: &mut [Frame], now: Instant, landed: &mut Vec<Landed>) {
        self.refused.drain_into(landed);
        for member in &mut self.members {
            member.poll(frames, now, landed);
        }
    }

    fn wait_landed(&mut self, frames: &mut [Frame], landed: &mut Vec<Landed>) {
        if self.in_flight() > 0 {
            self.wait_any(frames, landed);
        }
    }

    fn next_due(&self) -> Option<Instant> {
        let dues = self.members.iter().filter_map(|member| member.door.link().next_due());
        dues.chain(self.refused.due()).min()
    }

    fn in_flight(&self) -> usize {
        self.members.iter().map(|member| member.door.link().in_flight()).sum::<usize>() + self.refused.len()
    }

    fn capacity_pages(&self) -> u32 {
        self.pages
    }
}

/// A link set that the pager's synchronous faults and the body's driver share.
#[derive(Clone)]
pub struct SharedLink(Rc<RefCell<LinkSet>>);

impl SharedLink {
    /// Makes it sharable.
    pub fn new(set: LinkSet) -> SharedLink {
        SharedLink(Rc::new(RefCell::new(set)))
    }

    /// The set, to be asked how it is. Not to be kept across a call of the link.
    pub fn set(&self) -> Ref<'_, LinkSet> {
        self.0.borrow()
    }
}

impl Link for SharedLink {
    fn submit(&mut self, batch: &[Transfer], frames: &mut [Frame], now: Instant) {
        self.0.borrow_mut().submit(batch, frames, now);
    }

    fn poll_landed(&mut self, frames: &mut [Frame], now: Instant, landed: &mut Vec<Landed>) {
        self.0.borrow_mut().poll_landed(frames, now, landed);
    }

    fn wait_landed(&mut self, frames: &mut [Frame], landed: &mut Vec<Landed>) {
        self.0.borrow_mut().wait_landed(frames, landed);
    }

    fn next_due(&self) -> Option<Instant> {
        self.0.borrow().next_due()
    }

    fn in_flight(&self) -> usize {
        self.0.borrow().in_flight()
    }

    fn capacity_pages(&self) -> u32 {
        self.0.borrow().capacity_pages()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(uris: &[&str]) -> LinkSet {
        let parse = |uri: &&str| uri.parse().expect("it is a URI");
        LinkSet::open(&uris.iter().map(parse).collect::<Vec<FarUri>>()).expect("it can be had")
    }

    #[test]
    fn slabs_are_dealt_out_by_size_and_each_once() {
        let set = open(&["mem:48mb", "mem:96mb", "mem:20mb"]);
        assert_eq!(set.capacity_pages(), 10 * SLAB_PAGES);
        let mut seen: Vec<u32> = set.members.iter().flat_map(|member| member.slabs.clone()).collect();
        seen.sort_unstable();
        assert!(seen.into_iter().eq(0..10));
        assert_eq!(set.members.iter().map(|member| member.slabs.len()).collect::<Vec<_>>(), [3, 6, 1]);
        for (slab, home) in set.homes.iter().enumerate() {
            assert_eq!(set.members[usize::from(home.member)].slabs[home.slab as usize], slab as u32);
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
            LinkSet::open(&parsed).err().expect("it cannot be had").to_string()
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
        };
        assert_eq!(set.describe(), [state]);
    }
}
