//! The brain of Remora: RESP, commands, keyspace and values over a far heap.
//!
//! Sans-IO and `no_std`: no socket, clock, thread, file or randomness of its own. A body pushes bytes and
//! landed pages in (`handle_*`), pulls replies and transfers out (`poll_*`), and says what time it is.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod args;
mod client;
pub mod command;
mod commands;
mod config;
mod crowd;
mod engine;
mod error;
mod exchange;
mod far;
mod glob;
pub mod keyspace;
mod lost;
mod maxmemory;
mod number;
mod reply;
pub mod resp;
mod run;
mod server;
mod spool;
mod stream;
mod value;

pub use client::{ClientId, Peer};
pub use config::directive;
pub use config::{Config, ConfigError};
pub use engine::{Engine, LinkReport, Now};
pub use exchange::Exchange;
pub use lost::FarAdmin;
pub use server::ProcessFacts;
