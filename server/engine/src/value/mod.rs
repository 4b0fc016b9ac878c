//! What keys hold: strings and lists, laid out in the far heap.

pub mod list;
pub mod string;
