//! Transfers leave and land here.
//!
//! ```text
//! needed ─┬─► frame? ──yes──► FetchNeeded
//!         └──────────no───► (a write back makes one free)
//! guesses ──► frame to spare? ──► FetchGuess, else forgotten
//! landed, and not what was written ──► fetched once more ──► right: written back, which repairs it │ wrong: an error
//! cleaner ──► WriteBack, checksum taken as it leaves
//! trims ────► Trim, but for what was written anew
//! ```
//!
//! A frame in a link's hands is given to nobody, not even when its page is dropped: it is an orphan until
//! it lands.

use super::Residency;
use super::frames::{AWAITED, FAR_COPY, FrameState, GUESSED, ORPHAN, REDIRTY, SECOND_TRY};

use crate::link::{Landed, Transfer, TransferKind};
use crate::mapping::{Checksum, Entry, Mapping};
use crate::page::{FrameNo, Instant, PageNo, PageRange};
use crate::pager::PagerError;

/// Fetches in flight: 1 MiB, what 100 Gb/s carries in about 80 us; beyond that more only queues elsewhere.
pub(super) const FETCHES_IN_FLIGHT_MAX: u32 = 256;
/// Write backs in flight: a quarter of the fetches, so that cleaning never fills the wire.
pub(super) const WRITE_BACKS_IN_FLIGHT_MAX: u32 = 64;
/// Pause after a failed write back: a thousand tries a second at most.
const WRITE_BACK_RETRY_NS: u64 = 1_000_000;
/// Runs of dead pages that wait to be trimmed; the oldest is forgotten.
pub(super) const TRIMS_MAX: usize = 1024;
/// Pages in one trim: 16 MiB, so that checking them stays in the microseconds.
const TRIM_PAGES_MAX: u32 = 4096;

impl<M: Mapping> Residency<M> {
    /// The next page to move.
    pub(super) fn next_transfer(&mut self) -> Option<Transfer> {
        if let Some(fetch) = self.second_tries.pop() {
            return Some(fetch);
        }
        self.admit_waits(self.now);
        if let Some(fetch) = self.next_needed_fetch(Residency::take_spare_frame) {
            return Some(fetch);
        }
        if let Some(fetch) = self.next_guess_fetch() {
            return Some(fetch);
        }
        if let Some(write_back) = self.next_write_back() {
            return Some(write_back);
        }
        if self.fetches_in_flight + self.write_backs_in_flight == 0
            && !self.waits.has_woken()
            && let Some(fetch) = self.next_needed_fetch(Residency::take_frame)
        {
            // Nothing is going to make a frame spare: somebody has to lose one.
            return Some(fetch);
        }
        self.next_trim()
    }

    /// The needed page that has waited longest, into a frame that `take` finds.
    fn next_needed_fetch(&mut self, take: fn(&mut Residency<M>) -> Option<FrameNo>) -> Option<Transfer> {
        let (slot, page) = self.waits.next_needed()?;
        if self.fetches_in_flight >= FETCHES_IN_FLIGHT_MAX {
            return None;
        }
        let Entry::Remote(checksum) = self.mapping.get(page) else {
            unreachable!("{page:?} is queued for a fetch and not remote");
        };
        if let Some(reservation) = &self.reservation {
            let is_reserved = self.waits.pending(slot).tickets().any(|ticket| ticket == reservation.ticket);
            if !is_reserved && self.pool.free_count() + self.pool.evictable() <= reservation.fresh {
                return None;
            }
        }
        let frame = take(self)?;
        self.waits.start(slot);
        Some(self.start_fetch(page, checksum, frame, TransferKind::FetchNeeded))
    }

    fn next_guess_fetch(&mut self) -> Option<Transfer> {
        let (slot, page) = self.waits.next_guess()?;
        if self.fetches_in_flight >= FETCHES_IN_FLIGHT_MAX {
            return None;
        }
        let spare = self.pool.free_count() > self.reserve_goal() / 2;
        if !spare && self.pool.spare() <= self.pool.budget() / 4 || self.reservation.is_some() {
            self.waits.drop_guesses();
            return None;
        }
        let Entry::Remote(checksum) = self.mapping.get(page) else {
            unreachable!("{page:?} is queued for a guess and not remote");
        };
        let frame = self.take_spare_frame()?;
        self.waits.start(slot);
        Some(self.start_fetch(page, checksum, frame, TransferKind::FetchGuess))
    }

    /// Gives `frame` to the link for `page`.
    pub(super) fn start_fetch(
        &mut self,
        page: PageNo,
        checksum: Checksum,
        frame: FrameNo,
        kind: TransferKind,
    ) -> Transfer {
        self.pool.lend(frame, page, checksum);
        self.mapping.set(page, Entry::Fetching(frame));
        self.fetches_in_flight += 1;
        Transfer { kind, page, count: 1, frame }
    }

    fn next_write_back(&mut self) -> Option<Transfer> {
        if self.write_backs_in_flight >= WRITE_BACKS_IN_FLIGHT_MAX || self.now < self.write_backs_not_before {
            return None;
        }
        while let Some(frame) = self.clean_first.pop_front() {
            let meta = self.pool.meta(frame);
            if meta.state == FrameState::Dirty
                && !meta.has(ORPHAN)
                && !self.orphan_write_backs.contains(&meta.page)
            {
                return Some(self.start_write_back(frame));
            }
        }
        // Needed pages that find no frame make cleaning due at once, whatever the cleaner thought.
        let frames_wanted = self.frames_wanted();
        let in_sight = self.pool.free_count() + self.pool.spare() + self.write_backs_in_flight;
        if self.cleaning_goal == 0 && frames_wanted <= in_sight {
            return None;
        }
        let frame = self.next_to_clean()?;
        self.cleaning_goal = self.cleaning_goal.saturating_sub(1);
        Some(self.start_write_back(frame))
    }

    /// The dirty frame to write back next.
    pub(super) fn next_to_clean(&mut self) -> Option<FrameNo> {
        let Residency { pool, orphan_write_backs, .. } = self;
        pool.next_dirty(|page| orphan_write_backs.contains(&page))
    }

    /// Lends `frame` to the link to read from.
    pub(super) fn start_write_back(&mut self, frame: FrameNo) -> Transfer {
        let checksum = self.mapping.checksum(self.frame(frame));
        let page = self.pool.update(frame, |meta| {
            meta.checksum = checksum;
            meta.state = FrameState::Cleaning;
            meta.flags = meta.flags & !REDIRTY | FAR_COPY;
            meta.page
        });
        self.mapping.watch_writes(page);
        self.mapping.lend(frame);
        self.write_backs_in_flight += 1;
        Transfer { kind: TransferKind::WriteBack, page, count: 1, frame }
    }

    fn next_trim(&mut self) -> Option<Transfer> {
        while let Some(run) = self.trims.pop_front() {
            // What was written anew since it died must not be trimmed, and what is still being written back
            // asks again when it lands.
            let is_dead = |&page: &PageNo| {
                self.mapping.get(page) == Entry::Untouched && !self.orphan_write_backs.contains(&page)
            };
            let skipped = run.pages().take_while(|page| !is_dead(page)).count() as u32;
            let dead =
                run.pages().skip(skipped as usize).take(TRIM_PAGES_MAX as usize).take_while(is_dead).count()
                    as u32;
            for page in run.pages().take(skipped as usize) {
                self.note_far_copy(page);
            }
            let rest = run.count - skipped - dead;
            if rest > 0 {
                let first = PageNo(run.first.0 + skipped + dead);
                self.trims.push_front(PageRange { first, count: rest });
            }
            if dead > 0 {
                let page = PageNo(run.first.0 + skipped);
                return Some(Transfer { kind: TransferKind::Trim, page, count: dead, frame: FrameNo(0) });
            }
        }
        None
    }

    /// Remembers in the page's frame, if it has one again, that far memory holds something to trim later.
    fn note_far_copy(&mut self, page: PageNo) {
        if let Some(frame) = self.mapping.resident(page) {
            self.pool.update(frame, |meta| meta.flags |= FAR_COPY);
        }
    }

    /// Notes that far memory holds content of `page` that nobody will ask for.
    pub(super) fn queue_trim(&mut self, page: PageNo) {
        if let Some(last) = self.trims.back_mut()
            && last.first.0 + last.count == page.0
        {
            last.count += 1;
            return;
        }
        if self.trims.len() == TRIMS_MAX {
            self.trims.pop_front();
        }
        self.trims.push_back(PageRange { first: page, count: 1 });
    }

    /// Records that a transfer has ended. Returns since when somebody had waited for it.
    pub(super) fn land(&mut self, landed: Landed) -> Option<Instant> {
        match landed.transfer.kind {
            TransferKind::FetchNeeded | TransferKind::FetchGuess => self.land_fetch(landed),
            TransferKind::WriteBack => {
                self.land_write_back(landed);
                None
            }
            TransferKind::Trim => None,
        }
    }

    fn land_fetch(&mut self, landed: Landed) -> Option<Instant> {
        let Transfer { page, frame, kind, .. } = landed.transfer;
        let meta = *self.pool.meta(frame);
        assert!(
            meta.state == FrameState::Fetching && meta.page == page,
            "{:?} landed unasked",
            landed.transfer
        );
        let is_second_try = meta.has(SECOND_TRY);
        let outcome = match landed.result {
            Ok(()) if meta.has(ORPHAN) || self.mapping.checksum(self.frame(frame)) == meta.checksum => Ok(()),
            Ok(()) => {
                self.counters.checksum_failures += 1;
                if !is_second_try {
                    // The link may have another copy, and then takes that one.
                    self.pool.update(frame, |meta| meta.flags |= SECOND_TRY);
                    self.second_tries.push(landed.transfer);
                    return None;
                }
                Err(PagerError::ChecksumMismatch(page))
            }
            Err(error) => {
                self.counters.fetch_errors += 1;
                Err(PagerError::Link(error))
            }
        };
        self.fetches_in_flight -= 1;
        if landed.result.is_ok() {
            self.counters.pages_fetched += 1;
            self.counters.pages_guessed += u64::from(kind == TransferKind::FetchGuess);
        }
        if meta.has(ORPHAN) {
            self.pool.free(frame);
            return None;
        }
        let pending = self.waits.settle(page, outcome);
        if outcome.is_err() {
            self.mapping.set(page, Entry::Remote(meta.checksum));
            self.pool.free(frame);
            return None;
        }
        let pending = pending.expect("a page that is being fetched is pending");
        let since = pending.needed.then_some(pending.since);
        self.pool.settle(frame, FAR_COPY | if since.is_some() { AWAITED } else { GUESSED });
        self.mapping.set(page, Entry::Resident(frame));
        if is_second_try {
            // Written back, it takes the place of what was wrong.
            self.counters.pages_repaired += 1;
            self.pool.set_dirty(frame);
        }
        if let Some(reservation) = &mut self.reservation
            && pending.tickets().any(|ticket| ticket == reservation.ticket)
        {
            self.pool.pin(frame);
            reservation.pages.push(page);
        }
        // Most waits that also want fresh frames find them free: they need not wait for the next turn.
        self.wake_fresh_waits();
        since
    }

    fn land_write_back(&mut self, landed: Landed) {
        let Transfer { page, frame, .. } = landed.transfer;
        let meta = *self.pool.meta(frame);
        assert!(
            meta.state == FrameState::Cleaning && meta.page == page,
            "{:?} landed unasked",
            landed.transfer
        );
        self.mapping.take_back(frame);
        if !self.pool.meta(frame).has(ORPHAN) {
            self.note_used(page, frame);
        }
        let meta = *self.pool.meta(frame);
        self.write_backs_in_flight -= 1;
        match landed.result {
            Ok(()) => self.counters.pages_written_back += 1,
            Err(_) => {
                self.counters.write_back_errors += 1;
                self.write_backs_not_before = Instant(self.now.0 + WRITE_BACK_RETRY_NS);
            }
        }
        if meta.has(ORPHAN) {
            self.orphan_write_backs.retain(|&orphan| orphan != page);
            self.pool.update(frame, |meta| meta.state = FrameState::Clean);
            if meta.holds == 0 {
                self.pool.free(frame);
            }
            if self.mapping.get(page) == Entry::Untouched {
                self.queue_trim(page);
            } else {
                self.note_far_copy(page);
            }
        } else if landed.result.is_err() || meta.has(REDIRTY) {
            self.pool.set_dirty(frame);
        } else {
            self.pool.update(frame, |meta| meta.state = FrameState::Clean);
        }
        self.wake_fresh_waits();
        self.note_write_back(landed.result);
    }
}
