//! Changing lists in the middle: LSET, LINSERT, LREM, LTRIM.

use super::search::{Aim, Sought, plan_search, search_to_change};
use super::{directory_of, element_number, element_range, find, plan_rewrite};
use crate::args::Args;
use crate::commands::{Context, Plan};
use crate::error::{CommandError, Outcome};
use crate::number;
use crate::value::list::search::Wanted;
use crate::value::list::{Removal, Side, wire};
use crate::value::string::Source;
use farmem::PAGE_SIZE;

/// `LSET key index element`: an element of the same length is changed in place.
pub fn plan_lset(plan: &mut Plan, args: &Args) {
    let entry = plan.key(args.get(1));
    let wire_len = wire::wire_len(args.len_of(3));
    if let Some(id) = directory_of(entry)
        && let Some(index) = number::parse_i64(args.get(2))
        && let Some(number) = element_number(index, plan.keys.lists.get(id).chunks.len())
    {
        plan.keys.lists.plan_set(id, number, wire_len, plan.pages);
    }
    plan_rewrite(plan, if args.spooled(3).is_some() { 0 } else { wire_len });
}

/// See [`plan_lset`].
pub fn lset(context: &mut Context, args: &Args) -> Outcome {
    let Some(target) = find(context, args.get(1))? else { return Err(CommandError::NO_SUCH_KEY.into()) };
    let index = context.integer(args, 2)?;
    let number = element_number(index, context.keys.shape_len(target.shape));
    let number = number.ok_or(CommandError::INDEX_OUT_OF_RANGE)?;
    context.keys.set_element(&target, number, Source::argument(args, 3))?;
    context.changed(1);
    context.reply.ok();
    Ok(())
}

/// The first pivot from the head.
fn wanted_pivot(args: &Args) -> Wanted {
    Wanted { side: Side::Head, wire_len: wire::wire_len(args.len_of(3)), elements_max: u64::MAX }
}

/// `LINSERT key BEFORE | AFTER pivot element`: at the first pivot from the head.
pub fn plan_linsert(plan: &mut Plan, args: &Args) {
    plan_search(plan, args.get(1), Source::argument(args, 3), wanted_pivot(args));
    plan_rewrite(plan, if args.spooled(4).is_some() { 0 } else { args.len_of(4) });
}

/// See [`plan_linsert`].
pub fn linsert(context: &mut Context, args: &Args) -> Outcome {
    let behind = if args.is(2, "AFTER") {
        true
    } else if args.is(2, "BEFORE") {
        false
    } else {
        return Err(CommandError::SYNTAX.into());
    };
    let pivot = Source::argument(args, 3);
    match search_to_change(context, args.get(1), wanted_pivot(args), pivot, Aim::Insert(None))? {
        Sought::Unfinished => {}
        Sought::NoList => context.reply.integer(0),
        Sought::Over(target, Aim::Insert(Some(hit))) => {
            let len = context.keys.shape_len(target.shape) + 1;
            context.keys.insert_element(&target, hit, behind, Source::argument(args, 4))?;
            context.changed(1);
            context.reply.integer(len as i64);
        }
        Sought::Over(..) => context.reply.integer(-1),
    }
    Ok(())
}

/// The end at which LREM begins, and how many elements it removes at most.
fn removal_bounds(count: i64) -> (Side, u64) {
    let side = if count < 0 { Side::Tail } else { Side::Head };
    (side, if count == 0 { u64::MAX } else { count.unsigned_abs() })
}

fn wanted_gone(args: &Args, side: Side) -> Wanted {
    Wanted { side, wire_len: wire::wire_len(args.get(3).len()), elements_max: u64::MAX }
}

/// `LREM key count element`: from the tail if `count` is negative, all of them if it is zero.
pub fn plan_lrem(plan: &mut Plan, args: &Args) {
    let Some(count) = number::parse_i64(args.get(2)) else { return };
    let (side, _) = removal_bounds(count);
    plan_search(plan, args.get(1), Source::Near(args.get(3)), wanted_gone(args, side));
    // Whatever is read may have to be written anew.
    plan_rewrite(plan, plan.pages.len() * PAGE_SIZE);
}

/// See [`plan_lrem`].
pub fn lrem(context: &mut Context, args: &Args) -> Outcome {
    let (side, limit) = removal_bounds(context.integer(args, 2)?);
    let (needle, aim) = (Source::Near(args.get(3)), Aim::Remove(Removal::new(side, limit)));
    match search_to_change(context, args.get(1), wanted_gone(args, side), needle, aim)? {
        Sought::NoList => context.reply.integer(0),
        Sought::Over(target, Aim::Remove(removal)) => {
            let removed = context.keys.remove(&target, removal)?;
            context.changed(removed);
            context.reply.integer(removed as i64);
        }
        Sought::Unfinished | Sought::Over(..) => {}
    }
    Ok(())
}

/// `LTRIM key start stop`: chunks outside the range are freed without being read.
pub fn plan_ltrim(plan: &mut Plan, args: &Args) {
    let entry = plan.key(args.get(1));
    let Some(id) = directory_of(entry) else { return };
    let (Some(start), Some(stop)) = (number::parse_i64(args.get(2)), number::parse_i64(args.get(3))) else {
        return;
    };
    let (start, count) = element_range(start, stop, plan.keys.lists.get(id).chunks.len());
    if count > 0 {
        plan.keys.lists.plan_bounds(id, start, start + count, plan.pages);
    }
}

/// See [`plan_ltrim`].
pub fn ltrim(context: &mut Context, args: &Args) -> Outcome {
    let (start, stop) = (context.integer(args, 2)?, context.integer(args, 3)?);
    if let Some(target) = find(context, args.get(1))? {
        let len = context.keys.shape_len(target.shape);
        let (start, count) = element_range(start, stop, len);
        let (front, back) = if count == 0 { (len, 0) } else { (start, len - start - count) };
        if front + back > 0 {
            context.keys.trim_list(&target, front, back)?;
            context.changed(front + back);
        }
    }
    context.reply.ok();
    Ok(())
}
