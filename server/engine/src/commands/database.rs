//! Databases as a whole: SELECT, DBSIZE, FLUSHDB, FLUSHALL, SWAPDB.
//!
//! Near memory answers all of them; no page is read.

use super::Context;
use crate::args::Args;
use crate::error::{CommandError, Failure, Outcome};
use crate::keyspace::DATABASES;
use crate::number;

const NO_SUCH_DATABASE: CommandError = CommandError::Text("ERR DB index is out of range");
const NOT_AN_INT: CommandError =
    CommandError::Text("ERR value is out of range, value must between -2147483648 and 2147483647");

/// An argument that is a C `int` to Redis. Source: `getIntFromObjectOrReply`.
fn int_argument(args: &Args, index: usize) -> Outcome<i32> {
    let number = number::parse_i64(args.get(index)).ok_or(CommandError::NOT_AN_INTEGER)?;
    i32::try_from(number).map_err(|_| NOT_AN_INT.into())
}

/// The database that argument `index` names.
pub fn database_argument(args: &Args, index: usize) -> Outcome<usize> {
    let number = int_argument(args, index)?;
    usize::try_from(number).ok().filter(|&db| db < DATABASES).ok_or(NO_SUCH_DATABASE.into())
}

/// `SELECT index`: the database of this client's further commands.
pub fn select(context: &mut Context, args: &Args) -> Outcome {
    context.client.db = database_argument(args, 1)?;
    context.reply.ok();
    Ok(())
}

/// `DBSIZE`: keys of this database; those whose time is over count until they are gone.
pub fn dbsize(context: &mut Context, _: &Args) -> Outcome {
    let keys = context.keys.dbs[context.client.db].index.len();
    context.reply.integer(keys as i64);
    Ok(())
}

/// `ASYNC` and `SYNC` are the same here: dropping a page moves nothing.
fn check_flush_options(args: &Args) -> Outcome {
    match args.len() {
        1 => Ok(()),
        2 if args.is(1, "ASYNC") || args.is(1, "SYNC") => Ok(()),
        _ => Err(CommandError::SYNTAX.into()),
    }
}

/// `FLUSHDB [ASYNC | SYNC]`: deletes every key of this database.
pub fn flushdb(context: &mut Context, args: &Args) -> Outcome {
    check_flush_options(args)?;
    let db = context.client.db;
    context.changed(context.keys.dbs[db].index.len() as u64);
    context.keys.flush_db(db);
    context.reply.ok();
    Ok(())
}

/// `FLUSHALL [ASYNC | SYNC]`: deletes every key of every database.
pub fn flushall(context: &mut Context, args: &Args) -> Outcome {
    check_flush_options(args)?;
    context.changed(context.keys.count() as u64 + 1);
    context.keys.flush_all();
    context.reply.ok();
    Ok(())
}

/// `SWAPDB index1 index2`: clients of the one see the keys of the other from now on.
pub fn swapdb(context: &mut Context, args: &Args) -> Outcome {
    let side = |index, text| int_argument(args, index).map_err(|_| Failure::Client(CommandError::Text(text)));
    let one = side(1, "ERR invalid first DB index")?;
    let other = side(2, "ERR invalid second DB index")?;
    let in_range = |number: i32| usize::try_from(number).ok().filter(|&db| db < DATABASES);
    let (Some(one), Some(other)) = (in_range(one), in_range(other)) else {
        return Err(NO_SUCH_DATABASE.into());
    };
    context.keys.dbs.swap(one, other);
    context.changed(1);
    context.reply.ok();
    Ok(())
}
