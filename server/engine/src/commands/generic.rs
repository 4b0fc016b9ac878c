//! Commands on keys of any type: DEL, EXISTS, TYPE, RENAME, MOVE and their kin.
//!
//! Refuses to read values: but for RENAME of what lies beside its key, the key's page is all. COPY has a file of
//! its own.

use super::database::database_argument;
use super::{Context, Plan};
use crate::args::Args;
use crate::error::{CommandError, Outcome};
use crate::keyspace::{Found, rekey};

/// Redis' words for a move or a copy onto itself.
pub const SAME_OBJECT: CommandError = CommandError::Text("ERR source and destination objects are the same");

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
        if context.keys.drop_lost(context.client.db, key) {
            deleted += 1;
        } else if let Some(found) = context.keys.peek(context.client.db, key, context.now.unix_ms)? {
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
