//! Far memory behind the NBD protocol.
//!
//! Refuses to know pages and frames.

pub mod proto;
