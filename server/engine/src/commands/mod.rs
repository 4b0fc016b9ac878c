//! What commands do: for each its plan (which pages) and its execution.
//!
//! The command table (`crate::command`) says what a command looks like; [`handler`] says what runs.

mod connection;
pub mod context;
pub mod database;
pub mod farmem;
pub mod string;

use crate::args::Args;
use crate::command::CommandId;
use crate::error::Outcome;
pub use context::{Context, Plan};

/// The two halves of a command.
#[derive(Clone, Copy)]
pub struct Handler {
    /// Names the pages that `execute` will touch, from near memory and from pages that happen to be here.
    pub plan: fn(&mut Plan, &Args),
    /// Runs to completion. Whatever is not resident by now costs a synchronous fetch, counted as unplanned.
    pub execute: fn(&mut Context, &Args) -> Outcome,
}

/// The plan of commands that touch no key.
pub fn plan_nothing(_: &mut Plan, _: &Args) {}

/// The plan of commands that look up the key in argument 1 and read no value.
pub fn plan_key(plan: &mut Plan, args: &Args) {
    plan.key(args.get(1));
}

/// What runs for a command.
#[inline]
pub fn handler(id: CommandId) -> Handler {
    let (plan, execute): (fn(&mut Plan, &Args), fn(&mut Context, &Args) -> Outcome) = match id {
        CommandId::Get => (string::plan_get, string::get),
        CommandId::Set => (string::plan_set, string::set),
        CommandId::Ping => (plan_nothing, connection::ping),
        CommandId::Select => (plan_nothing, database::select),
        CommandId::Dbsize => (plan_nothing, database::dbsize),
        CommandId::Flushdb => (plan_nothing, database::flushdb),
        CommandId::Flushall => (plan_nothing, database::flushall),
        CommandId::Swapdb => (plan_nothing, database::swapdb),
        CommandId::FarmemEvict => (plan_nothing, farmem::evict),
        CommandId::FarmemResidency => (plan_nothing, farmem::residency),
        CommandId::FarmemHelp => (plan_nothing, farmem::farmem_help),
        CommandId::FarmemStats => (plan_nothing, farmem::stats),
        _ => (plan_nothing, connection::ping),
    };
    Handler { plan, execute }
}

/// Commands that take large arguments as they lie in far pages. The others get them copied.
pub fn takes_spooled(id: CommandId) -> bool {
    matches!(id, CommandId::Set)
}
