//! RDMA: a link and a memory node that reach each other's memory with one-sided READ and WRITE.
//!
//! ```text
//!   uri ─► dial (port, handshake) ─► fabric        the node, connected: over verbs, or a fake one
//!   link       queues, chains, deadlines, what to do when the node is gone
//!   port       which device, port and GID
//!   proto      what both sides tell each other first, over TCP, proving that they know a secret (handshake: in which order)
//!   registered which frames a device knows
//!   verbs      the library: regions, queue pairs, completions (raw: its structs; answer: its errors)
//!   check      tries it on this machine, and says in plain words what is missing
//! ```
//!
//! Refuses to give registered memory back to the system: a device would go on with the old pages.

mod answer;
pub mod check;
mod dial;
pub mod fabric;
pub mod handshake;
mod link;
pub mod port;
pub mod proto;
mod raw;
pub mod registered;
mod uri;
#[allow(unsafe_code)]
pub mod verbs;

pub use dial::{join, side_of};
pub use link::{RdmaCounts, RdmaLink};
pub use uri::RdmaUri;
