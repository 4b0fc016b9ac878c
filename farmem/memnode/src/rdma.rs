//! The door for RDMA: the same memories as over NBD, lent to links that read and write them past this process.
//!
//! ```text
//!   link ──TCP──► hear (secret) ─► two queue pairs ─► join ─► accept: address, key, generation
//!                                        │
//!   hangs up ────────────────────────────┴─► destroyed: from then on it reaches nothing
//! ```
//!
//! One region an export, registered before anybody can ask, and never given back. Refuses whoever does not
//! prove the secret: a key opens the whole export. Who has it may read and write all of it, until its queue
//! pairs are gone.

use crate::export::Exports;
use farmem_link::rdma::fabric::COMPLETIONS_MAX;
use farmem_link::rdma::handshake::hear;
use farmem_link::rdma::port::{Port, PortChoice, open_port};
use farmem_link::rdma::proto::{LANES, Refusal, Secret, draw_nonce, draw_psns};
use farmem_link::rdma::verbs::{Completions, Domain, QueuePair, Region};
use farmem_link::rdma::{join, side_of};
use std::io::{self, Read, Write};
use std::net::IpAddr;
use std::sync::Arc;

/// Work requests that this side posts on a pair: none, since it only answers; libraries want one at least.
const REQUESTS_MAX: u32 = 1;
/// A link's completion queue has room for all of its own; ours for one of each pair.
const OWN_COMPLETIONS_MAX: u32 = LANES as u32 * REQUESTS_MAX;
const _: () = assert!(COMPLETIONS_MAX >= OWN_COMPLETIONS_MAX as usize);

/// A device, and the exports that are registered with it.
pub struct RdmaDoor {
    /// By the order of the exports.
    regions: Vec<Region>,
    domain: Arc<Domain>,
    port: Port,
    secret: Secret,
    /// Kept alive: the regions are theirs.
    _exports: Exports,
}

impl RdmaDoor {
    /// Registers all exports.
    ///
    /// # Errors
    /// One line that says what is missing.
    pub fn open(
        exports: &Exports,
        secret: Secret,
        choice: &PortChoice,
        near: Option<IpAddr>,
    ) -> io::Result<RdmaDoor> {
        let port = open_port(choice, near)?;
        let domain = Domain::new(&port.device)?;
        let regions = exports.iter().map(|export| export.memory.lend(&domain)).collect::<io::Result<_>>()?;
        Ok(RdmaDoor { regions, domain, port, secret, _exports: exports.clone() })
    }

    /// The device, port and GID in words.
    pub fn describe(&self) -> String {
        let Port { device, number, gid_index, .. } = &self.port;
        format!("{} port {number} gid {gid_index}", device.name())
    }

    /// Speaks with a link until it has what it needs. It reaches the memory for as long as the pairs live.
    pub(crate) fn connect(
        &self,
        mut stream: impl Read + Write,
        exports: &Exports,
        from: &str,
    ) -> io::Result<[QueuePair; LANES]> {
        let asked = hear(&mut stream, &self.secret, draw_nonce()?)?;
        let place = exports.iter().position(|export| export.name == asked.export);
        let Some((export, region)) = place.and_then(|at| exports.iter().nth(at).zip(self.regions.get(at)))
        else {
            return Err(asked.refuse(stream, Refusal::Export));
        };
        let made = self.make_pairs().and_then(|pairs| {
            let psns = draw_psns()?;
            join(&self.port, &pairs, psns, &asked.side)?;
            Ok((pairs, psns))
        });
        let (pairs, psns) = match made {
            Ok(made) => made,
            Err(error) => {
                log::warn!("{from}: no queue pairs: {error}");
                return Err(asked.refuse(stream, Refusal::Room));
            }
        };
        let side = side_of(&self.port, &pairs, psns);
        asked.accept(stream, &self.secret, side, region.remote(), export.generation)?;
        log::info!("{from}: reaches export '{}' over RDMA", export.name);
        Ok(pairs)
    }

    fn make_pairs(&self) -> io::Result<[QueuePair; LANES]> {
        let completions = Completions::new(&self.port.device, OWN_COMPLETIONS_MAX)?;
        let pair = || QueuePair::new(&self.domain, &completions, REQUESTS_MAX);
        Ok([pair()?, pair()?])
    }
}
