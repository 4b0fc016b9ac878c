//! Lists: pushing, and what all list commands share.
//!
//! Refuses to know how a list lies in far memory: `value::list` does.

mod change;
mod pop;
mod range;
mod search;
mod transfer;

pub use change::{linsert, lrem, lset, ltrim, plan_linsert, plan_lrem, plan_lset, plan_ltrim};
pub use pop::{lmpop, lpop, plan_lmpop, plan_lpop, plan_rpop, rpop};
pub use range::{lindex, lrange, plan_lindex, plan_lrange};
pub use search::{SearchWalk, lpos, plan_lpos};
pub use transfer::{lmove, plan_lmove, plan_rpoplpush, rpoplpush};

use super::{Context, Plan};
use crate::args::Args;
use crate::error::{CommandError, Outcome};
use crate::keyspace::Found;
use crate::keyspace::index::{Entry, Kind};
use crate::value::list::{CHUNK_BYTES_MAX, ListId, Side, Target, wire};
use crate::value::string::Source;

/// The list of an entry, if it is one that has a directory: a small one lies beside its key and needs no
/// further plan.
#[inline]
fn directory_of(entry: Option<Entry>) -> Option<ListId> {
    entry.filter(|entry| entry.kind() == Kind::LargeList).map(ListId::of)
}

/// A list that was found.
/// # Errors
/// `WRONGTYPE` if the key holds something else.
#[inline]
fn target<'a>(context: &mut Context, key: &'a [u8], found: Option<Found>) -> Outcome<Option<Target<'a>>> {
    let Some(found) = found else { return Ok(None) };
    if found.entry.kind().is_string() {
        return Err(CommandError::WRONG_TYPE.into());
    }
    let shape = context.keys.list_shape(found)?;
    Ok(Some(Target { db: context.client.db, key, found, shape }))
}

/// Finds a list to change it.
#[inline]
fn find<'a>(context: &mut Context, key: &'a [u8]) -> Outcome<Option<Target<'a>>> {
    let found = context.find(key)?;
    target(context, key, found)
}

/// Finds a list to read it; counts the hit or miss.
#[inline]
fn find_read<'a>(context: &mut Context, key: &'a [u8]) -> Outcome<Option<Target<'a>>> {
    let found = context.find_read(key)?;
    target(context, key, found)
}

/// The number of the element that `index` means, from the end if it is negative.
#[inline]
fn element_number(index: i64, len: u64) -> Option<u64> {
    let number = if index < 0 { index.checked_add_unsigned(len)? } else { index };
    u64::try_from(number).ok().filter(|&number| number < len)
}

/// The elements that `start stop` means: where they begin, and how many there are. Source: Redis' LRANGE.
#[inline]
fn element_range(start: i64, stop: i64, len: u64) -> (u64, u64) {
    let from_end = |index: i64| if index < 0 { index.saturating_add_unsigned(len) } else { index };
    let start = from_end(start).max(0) as u64;
    let Ok(stop) = u64::try_from(from_end(stop)) else { return (0, 0) };
    if start > stop || start >= len {
        return (0, 0);
    }
    (start, stop.min(len - 1) - start + 1)
}

/// `LEFT` or `RIGHT`.
fn side_argument(args: &Args, index: usize) -> Outcome<Side> {
    if args.is(index, "RIGHT") {
        Ok(Side::Tail)
    } else if args.is(index, "LEFT") {
        Ok(Side::Head)
    } else {
        Err(CommandError::SYNTAX.into())
    }
}

/// A number that is at least `min`; `text` is the error for everything else.
fn bounded(args: &Args, index: usize, min: i64, text: &'static str) -> Outcome<u64> {
    let number = crate::number::parse_i64(args.get(index)).filter(|&number| number >= min);
    number.map(|number| number as u64).ok_or(CommandError::Text(text).into())
}

/// Plans frames for writing an element anew, and a chunk around it.
fn plan_rewrite(plan: &mut Plan, wire_len: usize) {
    plan.fresh_bytes(wire_len + 2 * CHUNK_BYTES_MAX);
}

fn plan_push(plan: &mut Plan, args: &Args, side: Side) {
    let entry = plan.key(args.get(1));
    if let Some(id) = directory_of(entry) {
        plan.keys.lists.plan_push(&plan.keys.far, id, side, plan.pages);
    }
    // Spooled elements are copied page by page: their frames come and go.
    let near = (2..args.len()).filter(|&index| args.spooled(index).is_none());
    let bytes: usize = near.map(|index| wire::wire_len(args.get(index).len())).sum();
    plan.fresh_bytes(args.get(1).len() + bytes + CHUNK_BYTES_MAX);
}

fn push(context: &mut Context, args: &Args, side: Side, only_existing: bool) -> Outcome {
    let key = args.get(1);
    let found = context.find(key)?;
    match found {
        Some(found) if found.entry.kind().is_string() => return Err(CommandError::WRONG_TYPE.into()),
        None if only_existing => {
            context.reply.integer(0);
            return Ok(());
        }
        _ => {}
    }
    let elements = (2..args.len()).map(|index| Source::argument(args, index));
    let (_, len) = context.keys.push_list(context.client.db, key, found, side, elements)?;
    context.changed(args.len() as u64 - 2);
    context.reply.integer(len as i64);
    Ok(())
}

/// `LPUSH key element [element ...]`: the last one named is the new head.
pub fn plan_lpush(plan: &mut Plan, args: &Args) {
    plan_push(plan, args, Side::Head);
}

/// See [`plan_lpush`].
pub fn lpush(context: &mut Context, args: &Args) -> Outcome {
    push(context, args, Side::Head, false)
}

/// `RPUSH key element [element ...]`: fetches at most the key's page, however cold the list is.
pub fn plan_rpush(plan: &mut Plan, args: &Args) {
    plan_push(plan, args, Side::Tail);
}

/// See [`plan_rpush`].
pub fn rpush(context: &mut Context, args: &Args) -> Outcome {
    push(context, args, Side::Tail, false)
}

/// `LPUSHX key element [element ...]`: pushes only if the list exists.
pub fn lpushx(context: &mut Context, args: &Args) -> Outcome {
    push(context, args, Side::Head, true)
}

/// `RPUSHX key element [element ...]`: pushes only if the list exists.
pub fn rpushx(context: &mut Context, args: &Args) -> Outcome {
    push(context, args, Side::Tail, true)
}

/// `LLEN key`: the length, from the key's page and near memory.
pub fn llen(context: &mut Context, args: &Args) -> Outcome {
    let len = match find_read(context, args.get(1))? {
        Some(target) => context.keys.shape_len(target.shape),
        None => 0,
    };
    context.reply.integer(len as i64);
    Ok(())
}
