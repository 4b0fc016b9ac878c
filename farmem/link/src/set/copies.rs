//! The way of a transfer through a set: to which copies it goes, and what its landing says of them.
//!
//! ```text
//!   write back ─► every copy that is up ─► landed on all of them ─► landed, if it is on one
//!   fetch ─► a copy that holds the page ─┬─ landed
//!                                        │   landed, and fetched again ─► the other copy, in turns
//!                                        └─ failed ─► the other copy that holds it ─► landed, or failed
//!   fetch of a page that no copy holds ─► Lost, at once
//! ```
//!
//! Refuses to wait for a copy that is gone, and to call a page written that is on no copy.

use super::slabs::{COPIES_MAX, Home, MemberNo, SLAB_PAGES};
use super::{LinkSet, Member};
use farmem::{Frame, Instant, Landed, LinkError, PageNo, Transfer, TransferKind};
use std::collections::HashMap;

/// Transfers that stand for more than one of a member's.
#[derive(Default)]
pub(super) struct UnderWay {
    /// Write backs that went to several copies.
    writes: HashMap<PageNo, Write>,
    /// Fetches that have failed somewhere, with a bit for each member that has failed.
    retries: HashMap<PageNo, u64>,
}

struct Write {
    left: usize,
    is_held: bool,
}

impl UnderWay {
    /// Transfers of members that stand for no further transfer of the set.
    pub fn surplus(&self) -> usize {
        self.writes.values().map(|write| write.left - 1).sum()
    }
}

/// Which slab a far page is in, and which of its pages it is.
fn split(page: PageNo) -> (usize, u32) {
    ((page.0 / SLAB_PAGES) as usize, page.0 % SLAB_PAGES)
}

/// A member's own page.
fn local(home: Home, page: u32) -> PageNo {
    PageNo(home.slab * SLAB_PAGES + page)
}

impl LinkSet {
    /// Sorts a transfer into the batches of the members that it concerns.
    pub(super) fn route(&mut self, transfer: Transfer, now: Instant) {
        match transfer.kind {
            TransferKind::Trim => self.route_trim(transfer),
            _ if transfer.page.0 >= self.pages => {
                self.refused.push(transfer, Err(LinkError::OutOfRange), now);
            }
            TransferKind::WriteBack => self.route_write(transfer),
            TransferKind::FetchNeeded | TransferKind::FetchGuess => match self.holder(transfer.page, 0) {
                Some(home) => self.put(home, transfer),
                None => self.refused.push(transfer, Err(LinkError::Lost), now),
            },
        }
    }

    /// Gives a transfer to a member.
    fn put(&mut self, home: Home, transfer: Transfer) {
        let page = local(home, transfer.page.0 % SLAB_PAGES);
        self.members[usize::from(home.member.0)].batch.push(Transfer { page, ..transfer });
    }

    pub(super) fn is_up(&self, member: MemberNo) -> bool {
        self.up >> member.0 & 1 == 1
    }

    /// The copy to fetch a page from, but for the members in `tried`: one that is up, if there is one. Of two that are,
    /// that which did not serve the last fetch of the page: who fetches again because of a wrong checksum gets the other.
    fn holder(&self, page: PageNo, tried: u64) -> Option<Home> {
        let (number, page) = split(page);
        let slab = &self.slabs[number];
        let is_written = slab.is_written(page);
        let may_serve = |&(copy, home): &(usize, Home)| {
            (slab.holds(copy, page) || !is_written) && tried >> home.member.0 & 1 == 0
        };
        let badness =
            |&(copy, home): &(usize, Home)| (!self.is_up(home.member), !slab.is_preferred(copy, page));
        slab.copies().filter(may_serve).min_by_key(badness).map(|(_, home)| home)
    }

    fn route_write(&mut self, transfer: Transfer) {
        let (number, page) = split(transfer.page);
        let is_copied_to = self.repair.overwrite(number, page);
        let up = self.up;
        let slab = &mut self.slabs[number];
        slab.forget(page);
        let mut targets: [Option<Home>; COPIES_MAX] = [None; COPIES_MAX];
        let mut count = 0;
        for (copy, home) in slab.copies() {
            if up >> home.member.0 & 1 == 1 && is_copied_to != Some(copy) {
                targets[count] = Some(home);
                count += 1;
            } else {
                self.repair.is_due = true;
            }
        }
        if count == 0 {
            // Nobody is there: the first copy's link knows how long to wait for it.
            (targets[0], count) = (slab.homes[0], 1);
        }
        slab.writing += count as u32;
        if count > 1 {
            self.under_way.writes.insert(transfer.page, Write { left: count, is_held: false });
        }
        targets.into_iter().flatten().for_each(|home| self.put(home, transfer));
    }

    /// A trim may cross slabs; everything else is one page. While copies are made, which go past a member's queue, the
    /// space is not given back: it is when the page is used and dies again.
    fn route_trim(&mut self, transfer: Transfer) {
        let end = transfer.page.0.saturating_add(transfer.count).min(self.pages);
        let mut first = transfer.page.0;
        while first < end {
            let (number, page) = split(PageNo(first));
            let count = (end - first).min(SLAB_PAGES - page);
            for dead in page..page + count {
                self.slabs[number].forget(dead);
                self.repair.overwrite(number, dead);
            }
            let homes = self.slabs[number].homes;
            for home in homes.into_iter().flatten() {
                if self.is_up(home.member) && !self.repair.is_busy() {
                    self.put(home, Transfer { page: PageNo(first), count, ..transfer });
                }
            }
            first += count;
        }
    }

    /// Takes what has landed at a member: notes what it says of the copies, and tries another copy where one failed.
    pub(super) fn sort_out(
        &mut self,
        number: MemberNo,
        ends: &mut Vec<Landed>,
        frames: &mut [Frame],
        now: Instant,
        landed: &mut Vec<Landed>,
    ) {
        let mut has_retries = false;
        for end in ends.drain(..) {
            let slab = end.transfer.page.0 / SLAB_PAGES;
            let home = Home { member: number, slab };
            let page = self.members[usize::from(number.0)].far_page(end.transfer.page);
            let end = Landed { transfer: Transfer { page, ..end.transfer }, ..end };
            if end.transfer.kind == TransferKind::WriteBack {
                landed.extend(self.land_write(home, end));
            } else if end.result.is_err() {
                match self.retry(home, end) {
                    Some(failed) => landed.push(failed),
                    None => has_retries = true,
                }
            } else {
                if self.copies > 1 {
                    let (number, page) = split(page);
                    let slab = &mut self.slabs[number];
                    if let Some(copy) = slab.copy_on(home) {
                        slab.note_fetched(copy, page);
                    }
                }
                if !self.under_way.retries.is_empty() {
                    self.under_way.retries.remove(&page);
                }
                landed.push(end);
            }
        }
        if has_retries {
            self.members.iter_mut().for_each(|member| member.submit(frames, now));
        }
    }

    /// A write back has landed on one copy. The set's own landing, if it was the last.
    fn land_write(&mut self, home: Home, end: Landed) -> Option<Landed> {
        let (number, page) = split(end.transfer.page);
        let slab = &mut self.slabs[number];
        slab.writing -= 1;
        let mut is_held = false;
        match (end.result, slab.copy_on(home)) {
            (Ok(()), Some(copy)) => {
                slab.note_held(copy, page);
                is_held = true;
            }
            _ => self.repair.is_due = true,
        }
        let Some(write) = self.under_way.writes.get_mut(&end.transfer.page) else {
            self.note_gaps(number, page);
            return Some(end);
        };
        write.left -= 1;
        write.is_held |= is_held;
        if write.left > 0 {
            return None;
        }
        let write = self.under_way.writes.remove(&end.transfer.page).expect("looked at above");
        self.note_gaps(number, page);
        let result = if write.is_held { Ok(()) } else { end.result.and(Err(LinkError::Down)) };
        Some(Landed { result, ..end })
    }

    /// A page that was written has landed everywhere: a copy that it was not sent to has missed it. A look for something
    /// to repair may have found nothing while the page was on its way.
    fn note_gaps(&mut self, number: usize, page: u32) {
        let slab = &self.slabs[number];
        self.repair.is_due |= slab.is_written(page) && slab.copies().any(|(copy, _)| !slab.holds(copy, page));
    }

    /// A fetch has failed: sends for another copy, or says why there is none.
    fn retry(&mut self, home: Home, end: Landed) -> Option<Landed> {
        let page = end.transfer.page;
        let tried = self.under_way.retries.get(&page).copied().unwrap_or(0) | 1 << home.member.0;
        if let Some(other) = self.holder(page, tried).filter(|other| self.is_up(other.member)) {
            self.under_way.retries.insert(page, tried);
            self.put(other, end.transfer);
            return None;
        }
        self.under_way.retries.remove(&page);
        Some(end)
    }

    /// Takes note of members that have come back without what they had.
    pub(super) fn note_losses(&mut self) {
        for index in 0..self.members.len() {
            let Member { uri, losses, door, .. } = &mut self.members[index];
            let Some(now_losses) = door.as_ref().map(|door| door.losses()) else { continue };
            if now_losses == std::mem::replace(losses, now_losses) {
                continue;
            }
            let member = MemberNo(index as u8);
            let mut lost = 0;
            for slab in &mut self.slabs {
                let copies: Vec<usize> =
                    slab.copies().filter(|(_, home)| home.member == member).map(|(copy, _)| copy).collect();
                let before = slab.census().lost;
                copies.into_iter().for_each(|copy| slab.note_lost(copy));
                lost += slab.census().lost - before;
            }
            if lost > 0 {
                log::warn!("far memory '{uri}': {lost} pages are lost");
            }
            self.repair.note_loss(member);
        }
    }
}
