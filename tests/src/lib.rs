//! Everything that looks at the whole of Remora.
#![forbid(unsafe_code)]

pub mod authority;
pub mod fake_mmu;
pub mod fuzz;
pub mod link_contract;
pub mod machine;
pub mod nodes;
pub mod proxy;
pub mod redis;
pub mod simulation;
pub mod sources;
pub mod vhost_guest;

pub use contract::{SENTENCES, pager_contract, scripted_link};
