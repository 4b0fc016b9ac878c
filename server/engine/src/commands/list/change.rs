//! Changing lists in the middle: LSET, LINSERT, LREM, LTRIM.

use super::{directory_of, element_number, element_range, find, plan_rewrite};
use crate::args::Args;
use crate::commands::{Context, Plan};
use crate::error::{CommandError, Outcome};
use crate::number;
use crate::value::list::{Side, matches_in, wire};
use crate::value::string::Source;
use alloc::vec::Vec;

/// Part of the frames that a search may plan; a longer list is read chunk by chunk.
const SEARCH_PART: u32 = 4;

/// Plans to look at every element of a list that may be `len` bytes long.
pub(super) fn plan_search(plan: &mut Plan, key: &[u8], len: usize) {
    let entry = plan.key(key);
    if let Some(id) = directory_of(entry) {
        let pages_max = plan.keys.far.budget_frames() / SEARCH_PART;
        plan.keys.lists.plan_search(id, wire::wire_len(len), pages_max, plan.pages);
    }
}

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

/// `LINSERT key BEFORE | AFTER pivot element`: at the first pivot from the head.
pub fn plan_linsert(plan: &mut Plan, args: &Args) {
    plan_search(plan, args.get(1), args.len_of(3));
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
    let Some(target) = find(context, args.get(1))? else {
        context.reply.integer(0);
        return Ok(());
    };
    let pivot = Source::argument(args, 3);
    let (mut wire, mut matches) = (Vec::new(), Vec::new());
    let mut cursor = context.keys.list_cursor(target.shape, Side::Head);
    while let Some((chunk, place)) = cursor.next(&context.keys.lists) {
        matches_in(&mut context.keys.far, chunk, pivot, &mut wire, &mut matches)?;
        if let Some(&first) = matches.first() {
            let len = context.keys.shape_len(target.shape) + 1;
            let element = Source::argument(args, 4);
            context.keys.insert_element(&target, (chunk, place, first), behind, element)?;
            context.changed(1);
            context.reply.integer(len as i64);
            return Ok(());
        }
    }
    context.reply.integer(-1);
    Ok(())
}

/// `LREM key count element`: from the tail if `count` is negative, all of them if it is zero.
pub fn plan_lrem(plan: &mut Plan, args: &Args) {
    plan_search(plan, args.get(1), args.get(3).len());
    plan_rewrite(plan, 0);
}

/// See [`plan_lrem`].
pub fn lrem(context: &mut Context, args: &Args) -> Outcome {
    let count = context.integer(args, 2)?;
    let Some(target) = find(context, args.get(1))? else {
        context.reply.integer(0);
        return Ok(());
    };
    let side = if count < 0 { Side::Tail } else { Side::Head };
    let limit = if count == 0 { u64::MAX } else { count.unsigned_abs() };
    let removed = context.keys.remove_matches(&target, side, limit, Source::Near(args.get(3)))?;
    context.changed(removed);
    context.reply.integer(removed as i64);
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
