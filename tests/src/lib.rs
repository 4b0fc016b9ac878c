//! Everything that looks at the whole of Remora.
#![forbid(unsafe_code)]

pub mod fake_mmu;
pub mod fuzz;
pub mod link_contract;
pub mod machine;
pub mod nodes;
pub mod pager_contract;
pub mod proxy;
pub mod redis;
pub mod scripted_link;
pub mod simulation;
pub mod sources;
