//! RESP, the protocol of Redis: requests in, replies out.
//!
//! Refuses to know commands: what a request's words mean is the command table's business.

pub mod decode;
pub mod encode;
pub mod inline;
