//! A memory node: lends this machine's memory to others over the NBD protocol, and over RDMA.
//!
//! ```text
//!   accept ──► handshake ──► session (one thread a connection)
//!              options,        │  requests out of one large receive, replies in one large send,
//!              STARTTLS        │  straight out of
//!                              ▼
//!                           Memory ◄── Export: name, generation, counters ──► metrics, statistics
//! ```
//!
//! Over RDMA (`rdma`) a client gets queue pairs and a key in the handshake, and reads and writes past this process.
//!
//! Knows bytes and offsets; knows neither pages, nor who far memory is for. Refuses to trust a client: whatever it
//! sends costs at most its own connection. Plain `nbd://` trusts its network; TLS is there for the others.
#![deny(unsafe_code)]

mod backlog;
mod export;
mod handshake;
mod input;
mod kept;
mod listen;
#[allow(unsafe_code)]
mod memory;
mod metrics;
mod outgoing;
mod rdma;
mod session;
mod tls;
mod touched;
mod wire;

pub use export::{EXPORTS_MAX, Export, Exports, draw_generation};
pub use farmem_link::nbd::proto::{DEFAULT_PORT, Generation};
pub use handshake::{Agreed, TlsOffer, greet, negotiate};
pub use kept::KeptFile;
pub use listen::{Endpoint, Node};
pub use memory::Memory;
pub use metrics::{Metrics, serve_metrics, statistics};
pub use rdma::RdmaDoor;
pub use tls::TlsFiles;

/// Longest name of an export. Units: bytes.
pub const NAME_BYTES_MAX: usize = farmem_link::nbd::proto::STRING_BYTES_MAX;
