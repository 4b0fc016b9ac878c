//! Replacing strings whole: SET and its forebears, MSET, MSETNX.

use super::super::{Context, Plan};
use super::expiry::Expiry;
use crate::args::Args;
use crate::error::{CommandError, Outcome};
use crate::keyspace::Found;
use crate::value::string::Source;
use alloc::format;
use alloc::vec::Vec;

/// Options of SET.
#[derive(Clone, Copy, Debug)]
struct SetOptions {
    only_new: bool,
    only_existing: bool,
    get: bool,
    expiry: Expiry,
}

impl SetOptions {
    const NONE: SetOptions =
        SetOptions { only_new: false, only_existing: false, get: false, expiry: Expiry::Unsaid };
}

/// Plans to write argument `index` as a string, without reading the old one.
fn plan_write(plan: &mut Plan, args: &Args, key: usize, index: usize) {
    plan.key(args.get(key));
    // A spooled value takes no frame: its pages become the value.
    let fresh = if args.spooled(index).is_none() { args.get(index).len() } else { 0 };
    plan.fresh_bytes(fresh + args.get(key).len());
}

/// `SET key value [NX | XX] [GET] [EX seconds | PX milliseconds | EXAT unix-time-seconds |
/// PXAT unix-time-milliseconds | KEEPTTL]`: replaces a value of any type.
pub fn plan_set(plan: &mut Plan, args: &Args) {
    plan_write(plan, args, 1, 2);
    if (3..args.len()).any(|index| args.is(index, "GET")) {
        plan.key_and_value(args.get(1));
    }
}

/// See [`plan_set`].
pub fn set(context: &mut Context, args: &Args) -> Outcome {
    if args.len() == 3 {
        let key = args.get(1);
        let found = context.find_to_replace(key)?;
        store(context, key, found, Source::argument(args, 2), None)?;
        context.reply.ok();
        return Ok(());
    }
    let options = set_options(args)?;
    set_with(context, args, options)
}

/// Parses the options of SET. Source: `parseExtendedStringArgumentsOrReply` of Redis 7.0.
fn set_options(args: &Args) -> Outcome<SetOptions> {
    let mut options = SetOptions::NONE;
    let mut index = 3;
    while index < args.len() {
        if args.is(index, "NX") && !options.only_existing {
            options.only_new = true;
        } else if args.is(index, "XX") && !options.only_new {
            options.only_existing = true;
        } else if args.is(index, "GET") {
            options.get = true;
        } else if let Some(taken) = options.expiry.take(args, index) {
            index = taken;
        } else if !(args.is(index, "KEEPTTL") && options.expiry.take_word(Expiry::Keep)) {
            return Err(CommandError::SYNTAX.into());
        }
        index += 1;
    }
    Ok(options)
}

fn set_with(context: &mut Context, args: &Args, options: SetOptions) -> Outcome {
    let key = args.get(1);
    let at_ms = options.expiry.at_ms(context, args, "set")?;
    let found = if options.get { reply_old(context, key)? } else { context.find_to_replace(key)? };
    if (options.only_new && found.is_some()) || (options.only_existing && found.is_none()) {
        if !options.get {
            context.reply.null();
        }
        return Ok(());
    }
    let source = Source::argument(args, 2);
    if options.expiry == Expiry::Keep {
        context.keys.set_string(context.client.db, key, found, source)?;
        context.changed(1);
    } else {
        store(context, key, found, source, at_ms)?;
    }
    if !options.get {
        context.reply.ok();
    }
    Ok(())
}

/// Answers the old value, or null.
fn reply_old(context: &mut Context, key: &[u8]) -> Outcome<Option<Found>> {
    match context.find_string(key)? {
        Some((found, value)) => {
            context.reply_far_bulk(value.addr, value.len, value.object)?;
            Ok(Some(found))
        }
        None => {
            context.reply.null();
            Ok(None)
        }
    }
}

/// Sets the value and the expiry time, or takes that away.
#[inline]
fn store(
    context: &mut Context,
    key: &[u8],
    found: Option<Found>,
    source: Source,
    at_ms: Option<u64>,
) -> Outcome {
    let db = context.client.db;
    let stored = context.keys.set_string(db, key, found, source)?;
    if at_ms.is_some() || stored.entry.has_ttl() {
        context.keys.set_expire(db, stored, at_ms);
    }
    context.changed(1);
    Ok(())
}

/// `SETNX key value`: 1 if it was set, 0 if the key exists.
pub fn plan_setnx(plan: &mut Plan, args: &Args) {
    plan_write(plan, args, 1, 2);
}

/// See [`plan_setnx`].
pub fn setnx(context: &mut Context, args: &Args) -> Outcome {
    let key = args.get(1);
    let found = context.find(key)?;
    if found.is_none() {
        store(context, key, None, Source::argument(args, 2), None)?;
    }
    context.reply.yes_no(found.is_none());
    Ok(())
}

/// `SETEX key seconds value` and `PSETEX key milliseconds value`: the value behind the time.
pub fn plan_setex(plan: &mut Plan, args: &Args) {
    plan_write(plan, args, 1, 3);
}

/// See [`plan_setex`].
pub fn setex(context: &mut Context, args: &Args) -> Outcome {
    set_expiring(context, args, true, "setex")
}

/// See [`plan_setex`].
pub fn psetex(context: &mut Context, args: &Args) -> Outcome {
    set_expiring(context, args, false, "psetex")
}

fn set_expiring(context: &mut Context, args: &Args, in_seconds: bool, command: &str) -> Outcome {
    let number = context.integer(args, 2)?;
    let at_ms = super::expiry_ms(number, in_seconds, true, context.now.unix_ms)
        .ok_or_else(|| CommandError::Owned(format!("ERR invalid expire time in '{command}' command")))?;
    let key = args.get(1);
    let found = context.find_to_replace(key)?;
    store(context, key, found, Source::argument(args, 3), Some(at_ms))?;
    context.reply.ok();
    Ok(())
}

/// `GETSET key value`: the old value, which is replaced; it must have been a string.
pub fn plan_getset(plan: &mut Plan, args: &Args) {
    plan_write(plan, args, 1, 2);
    plan.key_and_value(args.get(1));
}

/// See [`plan_getset`].
pub fn getset(context: &mut Context, args: &Args) -> Outcome {
    let key = args.get(1);
    let found = reply_old(context, key)?;
    store(context, key, found, Source::argument(args, 2), None)
}

/// `MSET key value [key value ...]`, `MSETNX ...`: all of them or none.
pub fn plan_mset(plan: &mut Plan, args: &Args) {
    for index in (1..args.len() - 1).step_by(2) {
        plan_write(plan, args, index, index + 1);
    }
}

/// See [`plan_mset`].
pub fn mset(context: &mut Context, args: &Args) -> Outcome {
    check_pairs(args, "mset")?;
    set_all(context, args)?;
    context.reply.ok();
    Ok(())
}

/// See [`plan_mset`]. 1 if all were set, 0 if one of the keys exists.
pub fn msetnx(context: &mut Context, args: &Args) -> Outcome {
    check_pairs(args, "msetnx")?;
    for index in (1..args.len()).step_by(2) {
        if context.find(args.get(index))?.is_some() {
            context.reply.integer(0);
            return Ok(());
        }
    }
    set_all(context, args)?;
    context.reply.integer(1);
    Ok(())
}

fn check_pairs(args: &Args, command: &str) -> Outcome {
    if args.len().is_multiple_of(2) {
        let text = format!("ERR wrong number of arguments for '{command}' command");
        return Err(CommandError::Owned(text).into());
    }
    Ok(())
}

/// Sets every pair. What needs far memory gets it before anything changes, so that a full far memory
/// changes nothing; what goes over an old value in place needs none.
fn set_all(context: &mut Context, args: &Args) -> Outcome {
    let db = context.client.db;
    let mut prepared = Vec::with_capacity(args.len() / 2);
    for index in (1..args.len()).step_by(2) {
        let key = args.get(index);
        let source = Source::argument(args, index + 1);
        let next = match context.find_to_replace(key) {
            Ok(Some(found)) if context.keys.goes_in_place(found, source) => Ok(None),
            Ok(_) => context.keys.prepare_string(key, source).map(Some),
            Err(failure) => Err(failure),
        };
        match next {
            Ok(next) => prepared.push(next),
            Err(failure) => {
                for prepared in prepared.into_iter().flatten() {
                    context.keys.discard(prepared);
                }
                return Err(failure);
            }
        }
    }
    for (index, prepared) in (1..args.len()).step_by(2).zip(prepared) {
        let key = args.get(index);
        // Looked up again: the same key may stand twice among the arguments.
        let found = context.keys.peek(db, key, context.now.unix_ms)?;
        let stored = match prepared {
            Some(prepared) => context.keys.put_prepared(db, found, prepared),
            None => context.keys.set_string(db, key, found, Source::argument(args, index + 1))?,
        };
        context.keys.set_expire(db, stored, None);
        context.changed(1);
    }
    Ok(())
}
