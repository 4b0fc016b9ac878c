//! COPY: at once if the value's pages can be had at once, else in steps.
//!
//! Refuses to let others wait for a long copy: they run between its steps, and what they write is not copied.

use super::database::database_argument;
use super::generic::SAME_OBJECT;
use super::walk::{CopyListWalk, CopyWalk, Walk};
use super::{Context, Plan};
use crate::args::Args;
use crate::error::{CommandError, Outcome};
use crate::keyspace::index::{Entry, Kind};
use crate::keyspace::{Found, KeySpace, rekey};
use crate::value::list::ListId;
use crate::value::list::copying::ListCopy;
use crate::value::string::copying::{StringCopy, step_bytes};
use alloc::boxed::Box;
use farmem::{FarAddr, PAGE_SIZE, PageSet};

/// Options of COPY.
struct CopyOptions {
    db: usize,
    replace: bool,
}

/// Source: `copyCommand` of Redis 7.0.
fn copy_options(args: &Args, db: usize) -> Outcome<CopyOptions> {
    let mut options = CopyOptions { db, replace: false };
    let mut index = 3;
    while index < args.len() {
        if args.is(index, "REPLACE") {
            options.replace = true;
        } else if args.is(index, "DB") && index + 1 < args.len() {
            options.db = database_argument(args, index + 1)?;
            index += 1;
        } else {
            return Err(CommandError::SYNTAX.into());
        }
        index += 1;
    }
    if options.db == db && args.get(1) == args.get(2) {
        return Err(SAME_OBJECT.into());
    }
    Ok(options)
}

/// How a value is copied.
enum Way {
    /// All at once: it reads these pages and takes so many frames.
    AtOnce(PageSet, u32),
    /// Too large for that.
    ByStep,
}

fn way_to_copy(keys: &KeySpace, entry: Entry) -> Way {
    let mut pages = PageSet::new();
    match entry.kind() {
        Kind::SmallString | Kind::SmallList => return Way::AtOnce(pages, 1),
        Kind::LargeString => {
            let value = keys.far.pages_of(entry.addr());
            if value.count > keys.far.hold_pages_max() {
                return Way::ByStep;
            }
            pages.push(value);
        }
        Kind::LargeList => {
            keys.lists.all_pages(&keys.far, ListId::of(entry), &mut pages);
            pages.normalise();
            if pages.len() > keys.far.hold_pages_max() as usize {
                return Way::ByStep;
            }
        }
    }
    let fresh = (keys.footprint(entry).far_bytes / PAGE_SIZE) as u32 + 2;
    Way::AtOnce(pages, fresh)
}

/// `COPY source destination [DB destination-db] [REPLACE]`: a large value is copied in steps, and the copy is
/// of the value that stood when the command began.
pub fn plan_copy(plan: &mut Plan, args: &Args) {
    let Ok(options) = copy_options(args, plan.db) else { return };
    plan.keys.plan_key(options.db, args.get(2), plan.pages);
    plan.fresh_bytes(rekey::naming_bytes(args.get(2)));
    match plan.walk {
        Some(Walk::Copy(copy)) => {
            let bytes = copy.copy.plan(&plan.keys.far, plan.pages);
            return plan.fresh_bytes(bytes);
        }
        Some(Walk::CopyList(copy)) => {
            let bytes = copy.list.plan(list_step(plan.keys), PAGE_SIZE, plan.pages);
            return plan.fresh_bytes(bytes);
        }
        _ => {}
    }
    let Some(entry) = plan.key(args.get(1)) else { return };
    if let Way::AtOnce(pages, fresh) = way_to_copy(plan.keys, entry) {
        pages.ranges().iter().for_each(|&range| plan.pages.push(range));
        plan.fresh += fresh;
    }
}

/// Half as much as a string's: its chunks lie on pages that they need not fill. Units: bytes, whole pages.
fn list_step(keys: &KeySpace) -> usize {
    (step_bytes(&keys.far) / 2).next_multiple_of(PAGE_SIZE)
}

/// See [`plan_copy`].
pub fn copy(context: &mut Context, args: &Args) -> Outcome {
    if let Some(walk) = context.client.walk.take() {
        context.client.walk = match *walk {
            Walk::Copy(copy) => copy_string_on(context, args, copy)?,
            Walk::CopyList(copy) => copy_list_on(context, args, copy)?,
            _ => unreachable!("a client's walk is its current command's"),
        };
        return Ok(());
    }
    let db = context.client.db;
    let options = copy_options(args, db)?;
    let Some(found) = context.find_read(args.get(1))? else {
        context.reply.yes_no(false);
        return Ok(());
    };
    let at_ms = context.keys.expire_at(db, found.entry);
    let there = context.keys.peek(options.db, args.get(2), context.now.unix_ms)?;
    if there.is_some() && !options.replace {
        context.reply.yes_no(false);
        return Ok(());
    }
    if matches!(way_to_copy(context.keys, found.entry), Way::ByStep) {
        context.client.walk = Some(Box::new(begin_walk(context.keys, found, at_ms)?));
        return Ok(());
    }
    let copy = context.keys.copy_value(found, args.get(2))?;
    put_copy(context, &options, there.map(|there| there.entry), copy, at_ms);
    Ok(())
}

/// Begins a long copy: the value is borrowed, and stays as it is for it.
fn begin_walk(keys: &mut KeySpace, found: Found, at_ms: Option<u64>) -> Outcome<Walk> {
    let aux = found.entry.aux();
    if found.entry.kind() == Kind::LargeList {
        let list = ListCopy::begin(keys, ListId::of(found.entry));
        return Ok(Walk::CopyList(Box::new(CopyListWalk { list, aux, at_ms })));
    }
    let source = keys.string_ref(found)?;
    let target = keys.far.allocate_extent(source.len, FarAddr::NULL)?.addr();
    let copy = StringCopy::begin(&mut keys.far, source, target);
    Ok(Walk::Copy(Box::new(CopyWalk { copy, aux, at_ms })))
}

/// One step of a long list's copy. Answers what is left of it.
fn copy_list_on(
    context: &mut Context,
    args: &Args,
    mut copy: Box<CopyListWalk>,
) -> Outcome<Option<Box<Walk>>> {
    let step_bytes = list_step(context.keys);
    if let Err(failure) = copy.list.step(&mut context.keys.far, step_bytes) {
        copy.list.end(&mut context.keys.far);
        return Err(failure);
    }
    if !copy.list.is_done() {
        return Ok(Some(Box::new(Walk::CopyList(copy))));
    }
    let CopyListWalk { list, aux, at_ms } = *copy;
    let options = copy_options(args, context.client.db)?;
    let there = match context.keys.peek(options.db, args.get(2), context.now.unix_ms) {
        Ok(there) => there,
        Err(failure) => {
            list.end(&mut context.keys.far);
            return Err(failure);
        }
    };
    if there.is_some() && !options.replace {
        list.end(&mut context.keys.far);
        context.reply.yes_no(false);
        return Ok(None);
    }
    let entry = context.keys.name_list(list, args.get(2))?.with_aux(aux);
    put_copy(context, &options, there.map(|there| there.entry), entry, at_ms);
    Ok(None)
}

/// One step of a long string's copy. Answers what is left of it.
fn copy_string_on(context: &mut Context, args: &Args, mut walk: Box<CopyWalk>) -> Outcome<Option<Box<Walk>>> {
    let copied = walk.copy.step(&mut context.keys.far);
    if copied.is_ok() && !walk.copy.is_done() {
        return Ok(Some(Box::new(Walk::Copy(walk))));
    }
    let CopyWalk { copy, aux, at_ms } = *walk;
    let len = copy.total();
    let target = copy.finish(&mut context.keys.far);
    let finished = copied.and_then(|()| finish_copy(context, args, target, len, aux, at_ms));
    if !matches!(finished, Ok(true)) {
        context.keys.far.free(target);
    }
    finished.map(|_| None)
}

/// Puts a long copy in its place, if that is still to be had. Says whether it is used.
fn finish_copy(
    context: &mut Context,
    args: &Args,
    copy: FarAddr,
    len: usize,
    aux: u16,
    at_ms: Option<u64>,
) -> Outcome<bool> {
    let options = copy_options(args, context.client.db)?;
    let there = context.keys.peek(options.db, args.get(2), context.now.unix_ms)?;
    if there.is_some() && !options.replace {
        context.reply.yes_no(false);
        return Ok(false);
    }
    let entry = context.keys.name_extent(copy, len, args.get(2))?.with_aux(aux);
    put_copy(context, &options, there.map(|there| there.entry), entry, at_ms);
    Ok(true)
}

fn put_copy(
    context: &mut Context,
    options: &CopyOptions,
    there: Option<Entry>,
    copy: Entry,
    at_ms: Option<u64>,
) {
    if let Some(there) = there {
        context.keys.delete_entry(options.db, there);
    }
    context.keys.put_entry(options.db, copy, at_ms);
    context.changed(1);
    context.reply.yes_no(true);
}
