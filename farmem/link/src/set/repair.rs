//! Copies are made whole again here, and slabs moved from members that leave or stay away.
//!
//! ```text
//!   stale pages ─► job (64 of one slab) ─► copier ─► held, but for those that were written meanwhile
//!   member leaves, or is gone for 5 s ─► incoming copy on a member with room ─► whole ─► takes its place
//! ```
//!
//! A page that is written while it is copied is not written to where it is copied to: so a copy never lands on something
//! newer. Refuses to copy more than one job at a time.

use super::copier::{Copier, JOB_PAGES_MAX, Job, JobEnd, ThreadCopier};
use super::slabs::{Home, INCOMING, MemberNo, SLAB_PAGES, Slab};
use super::{LinkSet, Member};
use farmem::{Instant, PageNo};
use std::os::fd::BorrowedFd;

/// Time between two looks for something to do, if the last one found nothing. Units: nanoseconds.
const LOOK_NS: u64 = 100_000_000;
/// Time after a copy that failed. Units: nanoseconds.
const RETRY_NS: u64 = 1_000_000_000;
/// A member that is gone for so long has its slabs copied elsewhere, if there is room. Units: nanoseconds.
const AWAY_NS: u64 = 5_000_000_000;
/// Slabs with an incoming copy at a time: their pages are written once more.
const INCOMING_MAX: usize = 4;

/// What is copied, and what for.
pub(super) struct Repair {
    copier: Option<Box<dyn Copier>>,
    under_way: Option<UnderWay>,
    /// Whether some page may not be on all of its copies.
    pub is_due: bool,
    not_before: Instant,
    cursor: usize,
    /// Since when copies are being made, and how many pages it were.
    begun: Option<Instant>,
    copied: u64,
}

struct UnderWay {
    slab: usize,
    copy: usize,
    from: MemberNo,
    to: Home,
    /// Pages of the slab, and whether the copy still counts.
    pages: Vec<(u32, bool)>,
}

impl Repair {
    /// Nothing to do. Without a copier, one is started when it is needed.
    pub fn new(copier: Option<Box<dyn Copier>>) -> Repair {
        Repair {
            copier,
            under_way: None,
            is_due: false,
            not_before: Instant(0),
            cursor: 0,
            begun: None,
            copied: 0,
        }
    }

    /// A page is written or dies. The copy to which it is being copied, if it is: that copy will be of no use.
    #[inline]
    pub fn overwrite(&mut self, slab: usize, page: u32) -> Option<usize> {
        let job = self.under_way.as_mut().filter(|job| job.slab == slab)?;
        let (_, counts) = job.pages.iter_mut().find(|(copied, _)| *copied == page)?;
        *counts = false;
        Some(job.copy)
    }

    /// A member has lost what it had.
    pub fn note_loss(&mut self, member: MemberNo) {
        self.is_due = true;
        if let Some(job) = self.under_way.as_mut().filter(|job| job.from == member || job.to.member == member)
        {
            job.pages.iter_mut().for_each(|(_, counts)| *counts = false);
        }
    }

    /// Whether something is to be done, or being done.
    pub fn is_busy(&self) -> bool {
        self.is_due || self.under_way.is_some()
    }

    /// What becomes readable when a copy is made.
    pub fn event_fd(&self) -> Option<BorrowedFd<'_>> {
        self.copier.as_ref().and_then(|copier| copier.event_fd())
    }

    /// Starts the copier's thread, if there is none.
    ///
    /// # Errors
    /// What the system answers.
    pub fn start_copier(&mut self) -> std::io::Result<()> {
        if self.copier.is_none() {
            self.copier = Some(Box::new(ThreadCopier::new()?));
        }
        Ok(())
    }
}

impl LinkSet {
    /// Does the next thing, if there is one.
    pub(super) fn repair(&mut self, now: Instant) {
        if self.repair.under_way.is_some() {
            let end = self.repair.copier.as_mut().and_then(|copier| copier.poll());
            let Some(end) = end else { return };
            self.end_job(end, now);
        }
        if !self.repair.is_due || now < self.repair.not_before {
            return;
        }
        self.bring_in(now);
        for _ in 0..self.slabs.len() {
            let number = self.repair.cursor % self.slabs.len();
            if self.start_job(number, now) {
                return;
            }
            self.complete(number);
            self.repair.cursor = number + 1;
        }
        self.rest(now);
    }

    /// Nothing can be copied at the moment.
    fn rest(&mut self, now: Instant) {
        self.repair.not_before = Instant(now.0 + LOOK_NS);
        self.close_drained();
        let is_whole = |slab: &Slab| slab.homes[INCOMING].is_none() && slab.census().stale == [0; 3];
        let is_leaving = self.members.iter().any(|member| member.is_leaving && member.door.is_some());
        if !is_leaving && self.slabs.iter().all(is_whole) {
            self.repair.is_due = false;
            if let Some(begun) = self.repair.begun.take() {
                let (pages, ms) = (self.repair.copied, now.0.saturating_sub(begun.0) / 1_000_000);
                let rate = pages * 4 / ms.max(1);
                log::info!("far memory is whole again: {pages} pages copied in {ms} ms, {rate} MB/s");
                self.repair.copied = 0;
            }
        }
    }

    /// Sends for pages that a copy of this slab has not. Whether there were any, or it must wait.
    fn start_job(&mut self, number: usize, now: Instant) -> bool {
        let Some((from, copy, to)) = self.next_gap(number) else { return false };
        if self.members[usize::from(to.member.0)].door.as_ref().is_some_and(|door| door.is_trimming()) {
            return true;
        }
        let slab = &self.slabs[number];
        let source = slab.copy_on(from).expect("it was found in this slab");
        let pages = slab.missing(source, copy, JOB_PAGES_MAX);
        let at = |home: Home, page| PageNo(home.slab * SLAB_PAGES + page);
        let moves = pages.iter().map(|&page| (at(from, page), at(to, page))).collect();
        let ends = self.job_end(from.member).and_then(|from| Ok((from, self.job_end(to.member)?)));
        match ends.and_then(|ends| self.repair.start_copier().map(|()| ends)) {
            Ok((from, to)) => {
                let copier = self.repair.copier.as_mut().expect("it was started above");
                copier.start(Job { from, to, pages: moves });
            }
            Err(error) => {
                self.put_off(&error, now);
                return true;
            }
        }
        let pages = pages.into_iter().map(|page| (page, true)).collect();
        self.repair.under_way = Some(UnderWay { slab: number, copy, from: from.member, to, pages });
        self.repair.begun.get_or_insert(now);
        true
    }

    /// Where from and where to in this slab something can be copied.
    fn next_gap(&self, number: usize) -> Option<(Home, usize, Home)> {
        let slab = &self.slabs[number];
        let up = |&(_, home): &(usize, Home)| self.is_up(home.member);
        slab.copies().filter(up).find_map(|(copy, to)| {
            let mut sources = slab.copies().filter(up).filter(|&(source, _)| source != copy);
            sources
                .find(|&(source, _)| !slab.missing(source, copy, 1).is_empty())
                .map(|(_, from)| (from, copy, to))
        })
    }

    fn job_end(&self, member: MemberNo) -> std::io::Result<JobEnd> {
        let Member { door, losses, .. } = &self.members[usize::from(member.0)];
        let door = door.as_ref().expect("a member that holds a copy has not been removed");
        Ok(JobEnd { key: u64::from(*losses) << 8 | u64::from(member.0), open: door.twin()? })
    }

    fn put_off(&mut self, why: &std::io::Error, now: Instant) {
        log::warn!("far memory cannot be copied at the moment: {why}");
        self.repair.not_before = Instant(now.0 + RETRY_NS);
    }

    fn end_job(&mut self, end: std::io::Result<()>, now: Instant) {
        let job = self.repair.under_way.take().expect("the caller has seen it");
        if let Err(error) = end {
            self.put_off(&error, now);
            return;
        }
        let slab = &mut self.slabs[job.slab];
        if slab.copy_on(job.to) == Some(job.copy) {
            for (page, _) in job.pages.into_iter().filter(|&(_, counts)| counts) {
                slab.note_held(job.copy, page);
                self.repair.copied += 1;
            }
        }
    }

    /// Gives slabs of members that leave, or stay away, an incoming copy elsewhere.
    fn bring_in(&mut self, now: Instant) {
        let is_away = |member: &Member| {
            let gone_ns = member.down_since.map_or(0, |since| now.0.saturating_sub(since.0));
            member.is_leaving || (self.copies > 1 && gone_ns >= AWAY_NS)
        };
        let away: Vec<bool> = self.members.iter().map(is_away).collect();
        let room = |member: &Member| member.is_up() && !member.is_leaving && !member.free.is_empty();
        if !away.contains(&true) || !self.members.iter().any(room) {
            return;
        }
        let mut incoming = self.slabs.iter().filter(|slab| slab.homes[INCOMING].is_some()).count();
        for (number, slab) in self.slabs.iter_mut().enumerate() {
            if incoming >= INCOMING_MAX {
                return;
            }
            let is_bad = |&(copy, home): &(usize, Home)| copy != INCOMING && away[usize::from(home.member.0)];
            let Some((copy, _)) = slab.copies().find(is_bad).filter(|_| slab.homes[INCOMING].is_none())
            else {
                continue;
            };
            let candidates = (0..self.members.len())
                .filter(|&index| room(&self.members[index]) && !slab.is_on(MemberNo(index as u8)));
            let Some(index) = candidates.max_by_key(|&index| self.members[index].free.len()) else {
                continue;
            };
            let taken = self.members[index].take_slab(number as u32).expect("it has room");
            slab.homes[INCOMING] = Some(Home { member: MemberNo(index as u8), slab: taken });
            slab.replaces = copy;
            incoming += 1;
        }
    }

    /// An incoming copy that has everything takes its place.
    fn complete(&mut self, number: usize) {
        let slab = &mut self.slabs[number];
        let Some(incoming) = slab.homes[INCOMING] else { return };
        // A write that is under way may have been sent before the copy was incoming.
        if slab.writing > 0 || slab.census().stale[INCOMING] > 0 {
            return;
        }
        let is_there = |member: &Member| member.is_up();
        if !is_there(&self.members[usize::from(incoming.member.0)]) {
            return;
        }
        if let Some(old) = slab.complete() {
            self.members[usize::from(old.member.0)].retired.push(old.slab);
        }
    }

    /// Members that were to leave and have nothing any more are gone.
    fn close_drained(&mut self) {
        for index in 0..self.members.len() {
            let has_copies = self.slabs.iter().any(|slab| slab.is_on(MemberNo(index as u8)));
            let member = &mut self.members[index];
            if member.is_leaving && !has_copies && member.in_flight() == 0 && member.door.take().is_some() {
                log::info!("far memory '{}' is drained and removed", member.uri);
            }
        }
    }
}
