//! What commands do: for each its plan (which pages) and its execution.
//!
//! The command table (`crate::command`) says what a command looks like; [`handler`] says what runs.

mod client;
mod connection;
pub mod context;
pub mod copy;
pub mod database;
pub mod debug;
pub mod expire;
pub mod farmem;
pub mod generic;
mod info;
mod list;
pub mod object;
pub mod scan;
mod server;
pub mod string;
pub mod walk;

use crate::args::Args;
use crate::command::CommandId;
use crate::error::Outcome;
pub use context::{Context, Plan};

/// Names the pages that execution will touch, from near memory and from pages that happen to be here.
type PlanFn = fn(&mut Plan, &Args);

/// Runs to completion. Whatever is not resident by now costs a synchronous fetch, counted as unplanned.
type ExecuteFn = fn(&mut Context, &Args) -> Outcome;

/// The two halves of a command.
#[derive(Clone, Copy)]
pub struct Handler {
    /// Which pages.
    pub plan: PlanFn,
    /// What is done.
    pub execute: ExecuteFn,
}

/// The plan of commands that touch no key.
pub fn plan_nothing(_: &mut Plan, _: &Args) {}

/// The plan of commands that look up the key in argument 1 and read no value.
pub fn plan_key(plan: &mut Plan, args: &Args) {
    plan.key(args.get(1));
}

/// What runs for a container alone.
fn container(_: &mut Context, _: &Args) -> Outcome {
    unreachable!("a container without a subcommand has the wrong number of arguments")
}

/// What runs for a command.
#[inline]
pub fn handler(id: CommandId) -> Handler {
    let (plan, execute): (PlanFn, ExecuteFn) = match id {
        CommandId::Get => (string::plan_get, string::get),
        CommandId::Set => (string::plan_set, string::set),
        CommandId::Getex => (string::plan_get, string::getex),
        CommandId::Getdel => (string::plan_get, string::getdel),
        CommandId::Getset => (string::plan_getset, string::getset),
        CommandId::Setnx => (string::plan_setnx, string::setnx),
        CommandId::Setex => (string::plan_setex, string::setex),
        CommandId::Psetex => (string::plan_setex, string::psetex),
        CommandId::Mget => (string::plan_mget, string::mget),
        CommandId::Mset => (string::plan_mset, string::mset),
        CommandId::Msetnx => (string::plan_mset, string::msetnx),
        CommandId::Append => (string::plan_append, string::append),
        CommandId::Strlen => (plan_key, string::strlen),
        CommandId::Setrange => (string::plan_setrange, string::setrange),
        CommandId::Getrange | CommandId::Substr => (string::plan_getrange, string::getrange),
        CommandId::Incr => (string::plan_counter, string::incr),
        CommandId::Decr => (string::plan_counter, string::decr),
        CommandId::Incrby => (string::plan_counter, string::incrby),
        CommandId::Decrby => (string::plan_counter, string::decrby),
        CommandId::Incrbyfloat => (string::plan_counter, string::incrbyfloat),
        CommandId::Lcs => (string::plan_lcs, string::lcs),
        CommandId::Getbit => (string::plan_getbit, string::getbit),
        CommandId::Setbit => (string::plan_setbit, string::setbit),
        CommandId::Lpush => (list::plan_lpush, list::lpush),
        CommandId::Rpush => (list::plan_rpush, list::rpush),
        CommandId::Lpushx => (list::plan_lpush, list::lpushx),
        CommandId::Rpushx => (list::plan_rpush, list::rpushx),
        CommandId::Lpop => (list::plan_lpop, list::lpop),
        CommandId::Rpop => (list::plan_rpop, list::rpop),
        CommandId::Lmpop => (list::plan_lmpop, list::lmpop),
        CommandId::Lrange => (list::plan_lrange, list::lrange),
        CommandId::Lindex => (list::plan_lindex, list::lindex),
        CommandId::Llen => (plan_key, list::llen),
        CommandId::Lset => (list::plan_lset, list::lset),
        CommandId::Linsert => (list::plan_linsert, list::linsert),
        CommandId::Lrem => (list::plan_lrem, list::lrem),
        CommandId::Ltrim => (list::plan_ltrim, list::ltrim),
        CommandId::Lpos => (list::plan_lpos, list::lpos),
        CommandId::Lmove => (list::plan_lmove, list::lmove),
        CommandId::Rpoplpush => (list::plan_rpoplpush, list::rpoplpush),
        CommandId::Ping => (plan_nothing, connection::ping),
        CommandId::Copy => (copy::plan_copy, copy::copy),
        CommandId::Del | CommandId::Unlink => (generic::plan_keys, generic::del),
        CommandId::Exists => (generic::plan_keys, generic::exists),
        CommandId::Touch => (generic::plan_keys, generic::touch),
        CommandId::Type => (plan_key, generic::type_of),
        CommandId::Rename => (generic::plan_rename, generic::rename),
        CommandId::Renamenx => (generic::plan_rename, generic::renamenx),
        CommandId::Move => (generic::plan_move, generic::move_key),
        CommandId::Expire => (plan_key, expire::expire),
        CommandId::Expireat => (plan_key, expire::expireat),
        CommandId::Expiretime => (plan_key, expire::expiretime),
        CommandId::Persist => (plan_key, expire::persist),
        CommandId::Pexpire => (plan_key, expire::pexpire),
        CommandId::Pexpireat => (plan_key, expire::pexpireat),
        CommandId::Pexpiretime => (plan_key, expire::pexpiretime),
        CommandId::Pttl => (plan_key, expire::pttl),
        CommandId::Ttl => (plan_key, expire::ttl),
        CommandId::Keys => (scan::plan_keys, scan::keys),
        CommandId::Scan => (scan::plan_scan, scan::scan),
        CommandId::Randomkey => (scan::plan_randomkey, scan::randomkey),
        CommandId::ObjectEncoding => (object::plan_encoding, object::encoding),
        CommandId::ObjectFreq => (object::plan_second, object::freq),
        CommandId::ObjectHelp => (plan_nothing, object::object_help),
        CommandId::ObjectIdletime => (object::plan_second, object::idletime),
        CommandId::ObjectRefcount => (object::plan_encoding, object::refcount),
        CommandId::MemoryUsage => (object::plan_second, object::memory_usage),
        CommandId::MemoryHelp => (plan_nothing, object::memory_help),
        CommandId::Debug => (plan_nothing, debug::debug),
        CommandId::Select => (plan_nothing, database::select),
        CommandId::Dbsize => (plan_nothing, database::dbsize),
        CommandId::Flushdb => (plan_nothing, database::flushdb),
        CommandId::Flushall => (plan_nothing, database::flushall),
        CommandId::Swapdb => (plan_nothing, database::swapdb),
        CommandId::FarmemAdd => (plan_nothing, farmem::add),
        CommandId::FarmemLost => (plan_nothing, farmem::lost),
        CommandId::FarmemRemove => (plan_nothing, farmem::remove),
        CommandId::FarmemEvict => (plan_nothing, farmem::evict),
        CommandId::FarmemResidency => (plan_nothing, farmem::residency),
        CommandId::FarmemHelp => (plan_nothing, farmem::farmem_help),
        CommandId::FarmemStats => (plan_nothing, farmem::stats),
        CommandId::Echo => (plan_nothing, connection::echo),
        CommandId::Auth => (plan_nothing, connection::auth),
        CommandId::Hello => (plan_nothing, connection::hello),
        CommandId::Quit => (plan_nothing, connection::quit),
        CommandId::Reset => (plan_nothing, connection::reset),
        CommandId::ClientId => (plan_nothing, client::id),
        CommandId::ClientList => (plan_nothing, client::list),
        CommandId::ClientSetname => (plan_nothing, client::setname),
        CommandId::ClientGetname => (plan_nothing, client::getname),
        CommandId::ClientInfo => (plan_nothing, client::info),
        CommandId::ClientKill => (plan_nothing, client::kill),
        CommandId::ClientReply => (plan_nothing, client::reply),
        CommandId::ClientNoEvict => (plan_nothing, client::no_evict),
        CommandId::ClientHelp => (plan_nothing, client::client_help),
        CommandId::ConfigGet => (plan_nothing, server::config_get),
        CommandId::ConfigSet => (plan_nothing, server::config_set),
        CommandId::ConfigResetstat => (plan_nothing, server::config_resetstat),
        CommandId::ConfigRewrite => (plan_nothing, server::config_rewrite),
        CommandId::ConfigHelp => (plan_nothing, server::config_help),
        CommandId::Command
        | CommandId::CommandCount
        | CommandId::CommandDocs
        | CommandId::CommandGetkeys
        | CommandId::CommandGetkeysandflags
        | CommandId::CommandHelp
        | CommandId::CommandInfo
        | CommandId::CommandList => (plan_nothing, server::command),
        CommandId::Info => (plan_nothing, info::info),
        CommandId::Time => (plan_nothing, server::time),
        CommandId::Shutdown => (plan_nothing, server::shutdown),
        CommandId::Client | CommandId::Config | CommandId::Farmem | CommandId::Memory | CommandId::Object => {
            (plan_nothing, container)
        }
    };
    Handler { plan, execute }
}

/// Whether a command takes argument `index`, if that is large, as it lies in far pages. It gets the others
/// copied, the keys among them.
pub fn takes_spooled(id: CommandId, index: usize) -> bool {
    match id {
        CommandId::Set | CommandId::Setnx | CommandId::Getset | CommandId::Append => index == 2,
        CommandId::Setex | CommandId::Psetex | CommandId::Setrange => index == 3,
        CommandId::Mset | CommandId::Msetnx => index > 0 && index.is_multiple_of(2),
        CommandId::Lpush | CommandId::Rpush | CommandId::Lpushx | CommandId::Rpushx => index >= 2,
        CommandId::Lset => index == 3,
        CommandId::Linsert => index == 4,
        _ => false,
    }
}
