//! From list to list: LMOVE and RPOPLPUSH.

use super::pop::plan_end;
use super::range::reply_slices;
use super::{directory_of, find, plan_rewrite, side_argument, target};
use crate::args::Args;
use crate::commands::{Context, Plan};
use crate::error::Outcome;
use crate::value::list::{ListId, Side, Target, wire};
use crate::value::string::Source;
use alloc::vec::Vec;

fn plan_transfer(plan: &mut Plan, args: &Args, from: Side, to: Side) {
    let source = plan.key(args.get(1));
    if source.is_none() {
        return;
    }
    plan_end(plan, source, from, 1);
    let destination = plan.key(args.get(2));
    if let Some(id) = directory_of(destination) {
        plan.keys.lists.plan_push(&plan.keys.far, id, to, plan.pages);
    }
    plan_rewrite(plan, args.get(2).len());
}

/// `LMOVE source destination LEFT | RIGHT LEFT | RIGHT`: source and destination may be the same list.
pub fn plan_lmove(plan: &mut Plan, args: &Args) {
    if let (Ok(from), Ok(to)) = (side_argument(args, 3), side_argument(args, 4)) {
        plan_transfer(plan, args, from, to);
    }
}

/// See [`plan_lmove`].
pub fn lmove(context: &mut Context, args: &Args) -> Outcome {
    let (from, to) = (side_argument(args, 3)?, side_argument(args, 4)?);
    transfer(context, args, from, to)
}

/// `RPOPLPUSH source destination`: `LMOVE source destination RIGHT LEFT`.
pub fn plan_rpoplpush(plan: &mut Plan, args: &Args) {
    plan_transfer(plan, args, Side::Tail, Side::Head);
}

/// See [`plan_rpoplpush`].
pub fn rpoplpush(context: &mut Context, args: &Args) -> Outcome {
    transfer(context, args, Side::Tail, Side::Head)
}

fn transfer(context: &mut Context, args: &Args, from: Side, to: Side) -> Outcome {
    let (key, destination) = (args.get(1), args.get(2));
    if find(context, key)?.is_none() {
        context.reply.null();
        return Ok(());
    }
    find(context, destination)?;
    // Looking up the destination may have deleted it, so the source is looked up again.
    let source = again(context, key)?;
    let len = context.keys.shape_len(source.shape);
    let index = if from == Side::Head { 0 } else { len - 1 };
    let slice = context.keys.list_element(source.shape, index)?;
    if key == destination && (len == 1 || from == to) {
        reply_slices(context, &[slice])?;
    } else if context.keys.has_own_chunk(source.shape, from) {
        reply_slices(context, &[slice])?;
        move_chunk(context, key, destination, (from, to))?;
    } else {
        move_element(context, &source, destination, (from, to), slice.addr, slice.len)?;
    }
    context.changed(1);
    Ok(())
}

/// A list that is known to be there, after the index may have changed.
fn again<'a>(context: &mut Context, key: &'a [u8]) -> Outcome<Target<'a>> {
    let found = context.keys.peek(context.client.db, key, 0)?;
    let target = target(context, key, found)?;
    Ok(target.expect("the list was found in this command and is not expired at time zero"))
}

/// Pushes a copy of the element, then pops it. The push may fail, the pop cannot.
fn move_element(
    context: &mut Context,
    source: &Target,
    destination: &[u8],
    (from, to): (Side, Side),
    addr: farmem::FarAddr,
    len: usize,
) -> Outcome {
    let mut element = Vec::with_capacity(len);
    context.keys.far.copy_out(addr, len, &mut element)?;
    context.server.stats.bytes_wanted += len as u64;
    let head = wire::Head::parse(&element).expect("an element begins with its head");
    let data = &element[head.size..head.size + head.len];
    if directory_of(Some(source.found.entry)).is_none() {
        // A small list is changed in its page: make sure now that it can be.
        context.keys.far.pager.bytes_mut(source.found.entry.addr(), 1)?;
    }
    let db = context.client.db;
    let found = context.keys.peek(db, destination, 0)?;
    context.keys.push_list(db, destination, found, to, core::iter::once(Source::Near(data)))?;
    let source = again(context, source.key)?;
    context.keys.pop_element(&source, from, len)?;
    context.reply.output.near().extend_from_slice(&element);
    Ok(())
}

/// Hands a chunk with one long element over, without reading it.
fn move_chunk(context: &mut Context, key: &[u8], destination: &[u8], (from, to): (Side, Side)) -> Outcome {
    let db = context.client.db;
    let found = context.keys.peek(db, destination, 0)?;
    let wide = context.keys.widen_list(db, destination, found)?;
    let source = again(context, key)?;
    let is_empty = context.keys.move_chunk((ListId::of(source.found.entry), from), (wide, to));
    if is_empty {
        context.keys.delete(db, source.found);
    }
    Ok(())
}
