//! Commands on keys of any type: DEL, EXISTS, TYPE, RENAME, MOVE, COPY and their kin.
//!
//! Refuses to read values: but for COPY, and for RENAME of what lies beside its key, the key's page is all.

use super::database::database_argument;
use super::walk::{CopyWalk, Walk};
use super::{Context, Plan};
use crate::args::Args;
use crate::error::{CommandError, Outcome};
use crate::keyspace::index::{Entry, Kind};
use crate::keyspace::{Found, KeySpace, rekey};
use crate::value::list::ListId;
use alloc::boxed::Box;
use farmem::{FarAddr, PAGE_SIZE, PageSet};

const SAME_OBJECT: CommandError = CommandError::Text("ERR source and destination objects are the same");

/// Pages that one step of a long COPY reads, and as many that it writes: two stream windows.
const COPY_STEP_PAGES: u32 = 64;

impl Context<'_> {
    /// Finds a key to tell something about it: a hit or a miss, but no use of the key.
    pub fn look(&mut self, key: &[u8]) -> Outcome<Option<Found>> {
        let found = self.keys.peek(self.client.db, key, self.now.unix_ms)?;
        match found {
            Some(_) => self.keys.stats.hits += 1,
            None => self.keys.stats.misses += 1,
        }
        Ok(found)
    }
}

/// Plans to look up every argument.
pub fn plan_keys(plan: &mut Plan, args: &Args) {
    args.iter_from(1).for_each(|key| {
        plan.key(key);
    });
}

/// `DEL key [key ...]` and `UNLINK`, which is the same: freeing far memory reads none of it.
pub fn del(context: &mut Context, args: &Args) -> Outcome {
    let mut deleted = 0;
    for key in args.iter_from(1) {
        if let Some(found) = context.keys.peek(context.client.db, key, context.now.unix_ms)? {
            context.keys.delete(context.client.db, found);
            deleted += 1;
        }
    }
    context.changed(deleted);
    context.reply.integer(deleted as i64);
    Ok(())
}

/// `EXISTS key [key ...]`: how many exist; a key given twice counts twice.
pub fn exists(context: &mut Context, args: &Args) -> Outcome {
    let mut count = 0;
    for key in args.iter_from(1) {
        count += i64::from(context.look(key)?.is_some());
    }
    context.reply.integer(count);
    Ok(())
}

/// `TOUCH key [key ...]`: as EXISTS, and counts as a use.
pub fn touch(context: &mut Context, args: &Args) -> Outcome {
    let mut count = 0;
    for key in args.iter_from(1) {
        count += i64::from(context.find_read(key)?.is_some());
    }
    context.reply.integer(count);
    Ok(())
}

/// `TYPE key`.
pub fn type_of(context: &mut Context, args: &Args) -> Outcome {
    let name = match context.look(args.get(1))? {
        Some(found) if found.entry.kind().is_string() => "string",
        Some(_) => "list",
        None => "none",
    };
    context.reply.simple(name);
    Ok(())
}

/// `RENAME key newkey` and `RENAMENX`: the expiry time goes along; what `newkey` held is gone. The pages of a
/// large value are not touched.
pub fn plan_rename(plan: &mut Plan, args: &Args) {
    plan.key(args.get(1));
    plan.key(args.get(2));
    plan.fresh_bytes(rekey::naming_bytes(args.get(2)));
}

/// See [`plan_rename`].
pub fn rename(context: &mut Context, args: &Args) -> Outcome {
    rename_unless(context, args, false)?;
    context.reply.ok();
    Ok(())
}

/// `RENAMENX key newkey`: only if `newkey` does not exist.
pub fn renamenx(context: &mut Context, args: &Args) -> Outcome {
    let renamed = rename_unless(context, args, true)?;
    context.reply.yes_no(renamed);
    Ok(())
}

fn rename_unless(context: &mut Context, args: &Args, only_new: bool) -> Outcome<bool> {
    let (db, now_ms) = (context.client.db, context.now.unix_ms);
    let (from, to) = (args.get(1), args.get(2));
    let found = context.find(from)?.ok_or(CommandError::NO_SUCH_KEY)?;
    if from == to {
        return Ok(!only_new);
    }
    let there = context.keys.peek(db, to, now_ms)?.map(|there| there.entry);
    if only_new && there.is_some() {
        return Ok(false);
    }
    // Looking `to` up may have deleted it, and then `found` stands elsewhere in the index.
    let position = context.keys.position_of(db, found.entry).expect("found above, and another key than `to`");
    let found = Found { position, ..found };
    let keys = &mut *context.keys;
    let renamed = keys.rename_value(found, to)?;
    let at_ms = keys.take_entry(db, found.entry);
    if let Some(there) = there {
        keys.delete_entry(db, there);
    }
    keys.put_entry(db, renamed, at_ms);
    context.changed(1);
    Ok(true)
}

/// `MOVE key db`: to another database, if the key does not exist there. Near memory only, once it is found.
pub fn plan_move(plan: &mut Plan, args: &Args) {
    plan.key(args.get(1));
    if let Ok(db) = database_argument(args, 2) {
        plan.keys.plan_key(db, args.get(1), plan.pages);
    }
}

/// See [`plan_move`].
pub fn move_key(context: &mut Context, args: &Args) -> Outcome {
    let (from, now_ms) = (context.client.db, context.now.unix_ms);
    let to = database_argument(args, 2)?;
    if from == to {
        return Err(SAME_OBJECT.into());
    }
    let key = args.get(1);
    let found = context.find(key)?;
    let moves = found.is_some() && context.keys.peek(to, key, now_ms)?.is_none();
    if let (Some(found), true) = (found, moves) {
        let entry = *context.keys.dbs[from].index.get(found.position);
        let at_ms = context.keys.take_entry(from, entry);
        context.keys.put_entry(to, entry, at_ms);
        context.changed(1);
    }
    context.reply.yes_no(moves);
    Ok(())
}

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
    /// A string too large for that.
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
        }
    }
    let fresh = (keys.footprint(entry).far_bytes / PAGE_SIZE) as u32 + 2;
    Way::AtOnce(pages, fresh)
}

/// `COPY source destination [DB destination-db] [REPLACE]`: a large string is copied in steps, and the copy
/// is of the value that stood when the command began.
pub fn plan_copy(plan: &mut Plan, args: &Args) {
    let Ok(options) = copy_options(args, plan.db) else { return };
    plan.keys.plan_key(options.db, args.get(2), plan.pages);
    plan.fresh_bytes(rekey::naming_bytes(args.get(2)));
    if let Some(Walk::Copy(copy)) = plan.walk {
        let here = (copy.source.len - copy.done).min(copy_step(plan.keys));
        plan.pages.push_bytes(copy.source.addr.plus(copy.done), here);
        plan.fresh_bytes(here);
        return;
    }
    let Some(entry) = plan.key(args.get(1)) else { return };
    if let Way::AtOnce(pages, fresh) = way_to_copy(plan.keys, entry) {
        pages.ranges().iter().for_each(|&range| plan.pages.push(range));
        plan.fresh += fresh;
    }
}

/// Units: bytes, whole pages.
fn copy_step(keys: &KeySpace) -> usize {
    COPY_STEP_PAGES.min(keys.far.hold_pages_max()).max(1) as usize * PAGE_SIZE
}

/// See [`plan_copy`].
pub fn copy(context: &mut Context, args: &Args) -> Outcome {
    if let Some(walk) = context.client.walk.take() {
        context.client.walk = copy_on(context, args, *walk)?;
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
        let source = context.keys.string_ref(found)?;
        let target = context.keys.far.allocate_extent(source.len, FarAddr::NULL)?.addr();
        context.keys.far.borrow_object(source.object);
        let aux = found.entry.aux();
        context.client.walk =
            Some(Box::new(Walk::Copy(Box::new(CopyWalk { source, target, done: 0, aux, at_ms }))));
        return Ok(());
    }
    let copy = context.keys.copy_value(found, args.get(2))?;
    put_copy(context, &options, there.map(|there| there.entry), copy, at_ms);
    Ok(())
}

/// One step of a long copy. Answers what is left of it.
fn copy_on(context: &mut Context, args: &Args, walk: Walk) -> Outcome<Option<Box<Walk>>> {
    let Walk::Copy(mut copy) = walk else { unreachable!("a client's walk is its current command's") };
    let here = (copy.source.len - copy.done).min(copy_step(context.keys));
    let (from, to) = (copy.source.addr.plus(copy.done), copy.target.plus(copy.done));
    let copied = context.keys.far.copy_within(from, to, here);
    copy.done += here;
    if copied.is_ok() && copy.done < copy.source.len {
        return Ok(Some(Box::new(Walk::Copy(copy))));
    }
    let finished = copied.and_then(|()| finish_copy(context, args, &copy));
    match finished {
        Ok(true) => context.keys.far.return_object(copy.source.object),
        _ => Walk::Copy(copy).end(&mut context.keys.far),
    }
    finished.map(|_| None)
}

/// Puts a long copy in its place, if that is still to be had. Says whether it is used.
fn finish_copy(context: &mut Context, args: &Args, copy: &CopyWalk) -> Outcome<bool> {
    let options = copy_options(args, context.client.db)?;
    let there = context.keys.peek(options.db, args.get(2), context.now.unix_ms)?;
    if there.is_some() && !options.replace {
        context.reply.yes_no(false);
        return Ok(false);
    }
    let entry = context.keys.name_extent(copy.target, copy.source.len, args.get(2))?.with_aux(copy.aux);
    put_copy(context, &options, there.map(|there| there.entry), entry, copy.at_ms);
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
