//! Popping: LPOP, RPOP, LMPOP.

use super::range::{reply_slices, with_slices};
use super::{bounded, directory_of, find, side_argument};
use crate::args::Args;
use crate::commands::{Context, Plan};
use crate::error::{CommandError, Outcome};
use crate::keyspace::index::Entry;
use crate::number;
use crate::value::list::{Side, Target};
use alloc::format;

/// Plans to read `count` elements at an end.
pub(super) fn plan_end(plan: &mut Plan, entry: Option<Entry>, side: Side, count: u64) {
    let Some(id) = directory_of(entry) else { return };
    let count = count.min(plan.keys.lists.get(id).chunks.len());
    if count == 0 {
        return;
    }
    let pages_max = plan.hold_pages_max();
    match side {
        Side::Head => plan.keys.lists.plan_range(id, 0, count, pages_max, plan.pages),
        Side::Tail => {
            let read_max = plan.keys.far.read_pages_max();
            plan.keys.lists.plan_reversed(id, count, pages_max, read_max, plan.pages);
        }
    }
}

fn plan_pop(plan: &mut Plan, args: &Args, side: Side) {
    let entry = plan.key(args.get(1));
    let count = if args.len() == 2 { Some(1) } else { number::parse_i64(args.get(2)) };
    plan_end(plan, entry, side, count.and_then(|count| u64::try_from(count).ok()).unwrap_or(0));
}

/// `LPOP key [count]`: with a count an array, even of one element.
pub fn plan_lpop(plan: &mut Plan, args: &Args) {
    plan_pop(plan, args, Side::Head);
}

/// See [`plan_lpop`].
pub fn lpop(context: &mut Context, args: &Args) -> Outcome {
    pop(context, args, Side::Head, "lpop")
}

/// `RPOP key [count]`: the last element first.
pub fn plan_rpop(plan: &mut Plan, args: &Args) {
    plan_pop(plan, args, Side::Tail);
}

/// See [`plan_rpop`].
pub fn rpop(context: &mut Context, args: &Args) -> Outcome {
    pop(context, args, Side::Tail, "rpop")
}

fn pop(context: &mut Context, args: &Args, side: Side, name: &str) -> Outcome {
    if args.len() > 3 {
        let text = format!("ERR wrong number of arguments for '{name}' command");
        return Err(CommandError::Owned(text).into());
    }
    let count = match args.len() {
        2 => None,
        _ => Some(bounded(args, 2, 0, "ERR value is out of range, must be positive")?),
    };
    let target = find(context, args.get(1))?;
    match (target, count) {
        (None, None) => context.reply.null(),
        (None, Some(_)) => context.reply.null_array(),
        (Some(_), Some(0)) => context.reply.array(0),
        (Some(target), Some(count)) => pop_many(context, &target, side, count)?,
        (Some(target), None) => {
            let len = context.keys.shape_len(target.shape);
            let index = if side == Side::Head { 0 } else { len - 1 };
            let slice = context.keys.list_element(target.shape, index)?;
            reply_slices(context, &[slice])?;
            context.keys.pop_element(&target, side, slice.len)?;
            context.changed(1);
        }
    }
    Ok(())
}

/// Answers an array of up to `count` elements from an end, and takes them off.
fn pop_many(context: &mut Context, target: &Target, side: Side, count: u64) -> Outcome {
    let len = context.keys.shape_len(target.shape);
    let count = count.min(len);
    context.reply.array(count as usize);
    with_slices(context, |context, slices| {
        match side {
            Side::Head => context.keys.list_slices(target.shape, 0, count, slices)?,
            Side::Tail => context.keys.list_slices_reversed(target.shape, count, slices)?,
        }
        reply_slices(context, slices)
    })?;
    let (front, back) = if side == Side::Head { (count, 0) } else { (0, count) };
    context.keys.trim_list(target, front, back)?;
    context.changed(count);
    Ok(())
}

/// What LMPOP is asked for.
struct Request {
    keys: usize,
    side: Side,
    count: u64,
}

/// Source: `lmpopGenericCommand` of Redis 7.0.
fn request(args: &Args) -> Outcome<Request> {
    let keys = bounded(args, 1, 1, "ERR numkeys should be greater than 0")?;
    let where_index = usize::try_from(keys).ok().and_then(|keys| keys.checked_add(2));
    let where_index = where_index.filter(|&index| index < args.len()).ok_or(CommandError::SYNTAX)?;
    let side = side_argument(args, where_index)?;
    let mut count = None;
    let mut index = where_index + 1;
    while index < args.len() {
        if count.is_some() || !args.is(index, "COUNT") || index + 1 == args.len() {
            return Err(CommandError::SYNTAX.into());
        }
        count = Some(bounded(args, index + 1, 1, "ERR count should be greater than 0")?);
        index += 2;
    }
    Ok(Request { keys: keys as usize, side, count: count.unwrap_or(1) })
}

/// `LMPOP numkeys key [key ...] LEFT | RIGHT [COUNT count]`: pops from the first list that exists.
pub fn plan_lmpop(plan: &mut Plan, args: &Args) {
    let Ok(request) = request(args) else { return };
    for index in 2..2 + request.keys {
        let entry = plan.key(args.get(index));
        if entry.is_some() {
            plan_end(plan, entry, request.side, request.count);
            return;
        }
    }
}

/// See [`plan_lmpop`].
pub fn lmpop(context: &mut Context, args: &Args) -> Outcome {
    let request = request(args)?;
    for index in 2..2 + request.keys {
        let key = args.get(index);
        if let Some(target) = find(context, key)? {
            context.reply.array(2);
            context.reply.bulk(key);
            return pop_many(context, &target, request.side, request.count);
        }
    }
    context.reply.null_array();
    Ok(())
}
