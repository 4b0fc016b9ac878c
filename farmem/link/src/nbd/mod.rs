//! Far memory behind the NBD protocol: a memory node, or any other NBD server.
//!
//! ```text
//!   NbdUri ─► dial (blocks; a thread of its own but for the first time) ─► streams
//!   NbdLink ─► request (cookies) ─► connection (batches, readv into frames) ─► node
//!      └── queues, deadlines, order of trims, what to do when the node is gone
//! ```
//!
//! `proto` is what lies on the wire, shared with the node; it knows neither pages nor frames.

#[allow(unsafe_code)]
mod connection;
pub(crate) mod dial;
mod link;
pub mod proto;
mod request;
mod tls;
mod trims;
pub(crate) mod uri;

pub use link::NbdLink;
pub use uri::{NbdUri, Place};
