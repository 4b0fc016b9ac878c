//! Everything that looks at the whole of Remora.

pub mod link_contract;
