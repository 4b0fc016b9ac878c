//! String commands, by what they do to a value: replace it, read it, write into it, count with it, compare it.
//!
//! Refuses to know how a string lies in far memory: `value::string` does.

mod counter;
mod expiry;
mod get;
mod lcs;
mod range;
mod set;

pub use counter::{decr, decrby, incr, incrby, incrbyfloat, plan_counter};
pub use expiry::expiry_ms;
pub use get::{get, getdel, getex, mget, plan_get, plan_mget, strlen};
pub use lcs::{LcsWalk, lcs, plan_lcs};
pub use range::{
    append, getbit, getrange, plan_append, plan_getbit, plan_getrange, plan_setbit, plan_setrange, setbit,
    setrange,
};
pub use set::{
    getset, mset, msetnx, plan_getset, plan_mset, plan_set, plan_setex, plan_setnx, psetex, set, setex, setnx,
};
