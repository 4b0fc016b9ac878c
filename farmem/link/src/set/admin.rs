//! Links that come and go while the server runs: `FARMEM ADD`, `FARMEM REMOVE`, `FARMEM LOST`.
//!
//! ```text
//!   add ─► a member with all of its slabs free ─► takes the copies of members that are gone or leave
//!   remove ─► leaves: each of its slabs is copied elsewhere, then the link is closed
//! ```
//!
//! Far memory does not grow: what is added is room for copies. Refuses to remove what the others have no room for.

use super::member::{self, Door, Member};
use super::slabs::{MemberNo, SLAB_PAGES};
use super::{LINKS_MAX, LinkSet, OpenError};
use crate::nbd::NbdLink;
use crate::rdma::RdmaLink;
use crate::uri::FarUri;
use farmem::PageNo;
use std::os::fd::BorrowedFd;
use std::time::Duration;

/// How long a node that is added may take to be reached: ten times what a TLS handshake in one datacenter takes.
const ADD_PATIENCE: Duration = Duration::from_millis(250);

impl LinkSet {
    /// Opens one more link, for copies. Nobody is served meanwhile, which takes [`ADD_PATIENCE`] at most.
    ///
    /// # Errors
    /// One line that says why not.
    pub fn add(&mut self, uri: &FarUri) -> Result<(), OpenError> {
        self.may_change()?;
        let name = uri.to_string();
        if self.members.iter().any(|member| member.uri == name && member.door.is_some()) {
            return Err(OpenError(format!("far memory '{name}' is in use already")));
        }
        let opened = match uri {
            FarUri::Nbd(node) => NbdLink::open_within(node, ADD_PATIENCE).map(|link| Box::new(link) as _),
            FarUri::Rdma(node) => RdmaLink::open_within(node, ADD_PATIENCE).map(|link| Box::new(link) as _),
            other => member::open(other),
        };
        let door = opened.map_err(|error| OpenError(format!("far memory '{name}': {error}")))?;
        self.add_door(name, door)
    }

    /// Adds a link that is open.
    ///
    /// # Errors
    /// One line that says why not.
    pub fn add_door(&mut self, name: String, mut door: Box<dyn Door>) -> Result<(), OpenError> {
        let slabs = door.capacity_pages() / SLAB_PAGES;
        if slabs == 0 || self.members.len() == LINKS_MAX {
            return Err(OpenError(format!("far memory '{name}': it has less than 16mb, or is one too many")));
        }
        self.repair.start_copier().map_err(|error| OpenError(format!("no copier: {error}")))?;
        door.set_patient(self.copies == 1);
        if let Some(stretches) = &self.stretches {
            door.set_stretches(stretches);
        }
        log::info!("far memory '{name}' is added: {slabs} slabs");
        self.members.push(Member::new(name, door, slabs));
        self.repair.is_due = true;
        Ok(())
    }

    /// Begins to drain a link; it is closed when nothing is left on it.
    ///
    /// # Errors
    /// One line that says why not.
    pub fn remove(&mut self, uri: &FarUri) -> Result<(), OpenError> {
        self.may_change()?;
        let name = uri.to_string();
        let is_it = |member: &Member| member.uri == name && member.door.is_some();
        let Some(index) = self.members.iter().position(is_it) else {
            return Err(OpenError(format!("far memory '{name}' is not in use")));
        };
        let others = self.members.iter().enumerate().filter(|&(other, _)| other != index);
        let free: usize =
            others.map(|(_, member)| if member.is_leaving { 0 } else { member.free.len() }).sum();
        let member = MemberNo(index as u8);
        let used = self.slabs.iter().filter(|slab| slab.is_on(member)).count();
        if used > free {
            let why = format!("far memory '{name}': the others have room for {free} of its {used} slabs");
            return Err(OpenError(format!("{why}; add another first")));
        }
        self.repair.start_copier().map_err(|error| OpenError(format!("no copier: {error}")))?;
        log::info!("far memory '{name}' is drained: {used} slabs");
        self.members[index].is_leaving = true;
        self.repair.is_due = true;
        Ok(())
    }

    /// Whether a page was written and no link has it any more.
    pub fn is_lost(&self, page: PageNo) -> bool {
        let slab = self.slabs.get((page.0 / SLAB_PAGES) as usize);
        slab.is_some_and(|slab| {
            let page = page.0 % SLAB_PAGES;
            slab.is_written(page) && !slab.copies().any(|(copy, _)| slab.holds(copy, page))
        })
    }

    /// What the link that was added last announces itself by.
    pub fn newest_event_fd(&self) -> Option<BorrowedFd<'_>> {
        self.members.last()?.door.as_ref()?.event_fd()
    }

    /// How many pages are lost.
    pub fn lost_pages(&self) -> u64 {
        if self.members.iter().all(|member| member.losses == 0) {
            return 0;
        }
        self.slabs.iter().map(|slab| u64::from(slab.census().lost)).sum()
    }

    fn may_change(&self) -> Result<(), OpenError> {
        if self.slabs.is_empty() {
            return Err(OpenError("far memory that is one link of this machine cannot be changed".into()));
        }
        Ok(())
    }
}
