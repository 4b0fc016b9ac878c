//! A node that is gone: who waits for it and how long, and what becomes of them when it is back.
//!
//! ```text
//!   up ── begin ─► gone ── end ─► up (same content: what waits is sent)
//!                   │       └──────── (other content: `losses` goes up, fetches land as Lost)
//!                   └── who has waited until the deadline lands as Down; without patience, everybody at once
//! ```
//!
//! Refuses to know how a node is reached.

use crate::ended::Ended;
use farmem::{Instant, LinkError, Transfer, TransferKind};
use std::collections::VecDeque;
use std::io;

/// A transfer and when it was submitted, from which its deadline counts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked {
    pub(crate) transfer: Transfer,
    pub(crate) at: Instant,
}

/// What a link knows of its node's absences, the present one included.
pub(crate) struct Absence {
    /// For the log.
    name: String,
    timeout_ns: u64,
    since: Instant,
    is_patient: bool,
    losses: u32,
}

impl Absence {
    /// Of a node that is there. Who waits for it waits `timeout_ns` at most.
    pub(crate) fn new(name: String, timeout_ns: u64) -> Absence {
        Absence { name, timeout_ns, since: Instant(0), is_patient: true, losses: 0 }
    }

    /// The node's name.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// How long a transfer may take.
    pub(crate) fn timeout_ns(&self) -> u64 {
        self.timeout_ns
    }

    /// See [`Door::losses`](crate::Door::losses).
    pub(crate) fn losses(&self) -> u32 {
        self.losses
    }

    /// See [`Door::set_patient`](crate::Door::set_patient).
    pub(crate) fn set_patient(&mut self, is_patient: bool) {
        self.is_patient = is_patient;
    }

    /// The node is gone.
    pub(crate) fn begin(&mut self, why: &io::Error, now: Instant) {
        log::warn!("far memory '{}' is down: {why}", self.name);
        self.since = now;
    }

    /// Whether what is submitted while it is gone is not even to wait.
    pub(crate) fn is_given_up(&self, now: Instant) -> bool {
        !self.is_patient || now.0.saturating_sub(self.since.0) > self.timeout_ns
    }

    /// Fails what waits in a queue: everything, or (with patience) what has waited too long.
    pub(crate) fn give_up(&self, queue: &mut VecDeque<Asked>, ended: &mut Ended, now: Instant) {
        let earliest = Instant(now.0.saturating_sub(self.timeout_ns));
        queue.retain(|asked| {
            let may_wait = self.is_patient && asked.at >= earliest;
            if !may_wait {
                ended.push(asked.transfer, Err(LinkError::Down), now);
            }
            may_wait
        });
    }

    /// The node is back, with or without what was written to it. Without, nobody is to wait for a page any more.
    pub(crate) fn end<'q>(
        &mut self,
        is_same: bool,
        queues: impl IntoIterator<Item = &'q mut VecDeque<Asked>>,
        ended: &mut Ended,
        now: Instant,
    ) {
        let gone_ms = now.0.saturating_sub(self.since.0) / 1_000_000;
        if is_same {
            log::info!("far memory '{}' is back after {gone_ms} ms", self.name);
            return;
        }
        log::warn!("far memory '{}' is back after {gone_ms} ms, without its content", self.name);
        self.losses += 1;
        for queue in queues {
            queue.retain(|asked| {
                let is_write = asked.transfer.kind == TransferKind::WriteBack;
                if !is_write {
                    ended.push(asked.transfer, Err(LinkError::Lost), now);
                }
                is_write
            });
        }
    }
}
