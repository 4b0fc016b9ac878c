//! RDMA: what a link and a memory node need to reach each other's memory with one-sided READ and WRITE.
//!
//! ```text
//!   port    which device, port and GID
//!   proto   what both sides tell each other first, over TCP, proving that they know a secret
//!   verbs   the library: regions, queue pairs, completions (raw: its structs; answer: its errors)
//!   check   tries it on this machine, and says in plain words what is missing
//! ```
//!
//! `check` is what uses the rest so far: there is no `rdma://` link yet, and no memory node answers a `proto::Hello`.
//! Refuses to move pages by itself: that is a [`Link`](farmem::Link)'s business.

mod answer;
pub mod check;
pub mod port;
pub mod proto;
mod raw;
#[allow(unsafe_code)]
pub mod verbs;
