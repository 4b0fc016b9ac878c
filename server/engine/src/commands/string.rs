//! Strings: SET and GET, and what goes with them.

use super::{Context, Plan};
use crate::args::Args;
use crate::error::{CommandError, Outcome};
use crate::keyspace::Found;
use crate::number;
use crate::value::string::Source;

/// When a key is to expire, as options of SET and GETEX say it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Expiry {
    /// No option: SET takes the time away, GETEX leaves it.
    Unsaid,
    Keep,
    Persist,
    /// Units: milliseconds since 1970.
    At(u64),
}

/// Options of SET.
#[derive(Clone, Copy, Debug)]
struct SetOptions {
    only_new: bool,
    only_existing: bool,
    get: bool,
    expiry: Expiry,
}

/// Plans a command that reads whole strings: `GET key`.
pub fn plan_get(plan: &mut Plan, args: &Args) {
    plan.key_and_value(args.get(1));
}

/// Plans a command that writes argument `index` as a string, without reading the old one.
pub fn plan_write(plan: &mut Plan, args: &Args, index: usize) {
    plan.key(args.get(1));
    if args.spooled(index).is_none() {
        plan.fresh_bytes(args.get(index).len());
    } else {
        plan.fresh += 2;
    }
}

/// `GET key`: the value, or null.
pub fn get(context: &mut Context, args: &Args) -> Outcome {
    // GET 6/8: the key is compared with the one in the far heap: a fingerprint alone proves nothing.
    match context.find_string(args.get(1))? {
        // GET 7/8: a short value is copied into the reply, a long one leaves from its frames.
        Some((_, value)) => context.reply_far_bulk(value.addr, value.len, value.object),
        None => {
            context.reply.null();
            Ok(())
        }
    }
}

/// `SET key value [NX | XX] [GET] [EX seconds | PX milliseconds | EXAT unix-time-seconds |
/// PXAT unix-time-milliseconds | KEEPTTL]`: replaces a value of any type.
pub fn plan_set(plan: &mut Plan, args: &Args) {
    plan_write(plan, args, 2);
    if (3..args.len()).any(|index| args.is(index, "GET")) {
        plan.key_and_value(args.get(1));
    }
}

/// See [`plan_set`].
pub fn set(context: &mut Context, args: &Args) -> Outcome {
    let options = if args.len() == 3 { SetOptions::NONE } else { set_options(context, args)? };
    set_with(context, args, options, 2)
}

impl SetOptions {
    const NONE: SetOptions =
        SetOptions { only_new: false, only_existing: false, get: false, expiry: Expiry::Unsaid };
}

/// Parses the options of SET. Source: `parseExtendedStringArgumentsOrReply` of Redis 7.0.
fn set_options(context: &Context, args: &Args) -> Outcome<SetOptions> {
    let mut options = SetOptions::NONE;
    let mut index = 3;
    while index < args.len() {
        let said = options.expiry != Expiry::Unsaid;
        if args.is(index, "NX") && !options.only_existing {
            options.only_new = true;
        } else if args.is(index, "XX") && !options.only_new {
            options.only_existing = true;
        } else if args.is(index, "GET") {
            options.get = true;
        } else if args.is(index, "KEEPTTL") && !said {
            options.expiry = Expiry::Keep;
        } else if !said && index + 1 < args.len() && is_expiry_unit(args, index) {
            options.expiry = Expiry::At(expiry_argument(context, args, index, "set")?);
            index += 1;
        } else {
            return Err(CommandError::SYNTAX.into());
        }
        index += 1;
    }
    Ok(options)
}

fn is_expiry_unit(args: &Args, index: usize) -> bool {
    ["EX", "PX", "EXAT", "PXAT"].iter().any(|unit| args.is(index, unit))
}

/// The time that `EX 10` and the like mean. Units: milliseconds since 1970.
pub fn expiry_argument(context: &Context, args: &Args, index: usize, command: &'static str) -> Outcome<u64> {
    let number = context.integer(args, index + 1)?;
    let in_seconds = args.is(index, "EX") || args.is(index, "EXAT");
    let relative = args.is(index, "EX") || args.is(index, "PX");
    expiry_ms(number, in_seconds, relative, context.now.unix_ms)
        .ok_or_else(|| CommandError::Owned(alloc::format!("ERR invalid expire time in '{command}' command")).into())
}

/// Redis' checks of an expiry time: positive, and no overflow in milliseconds.
pub fn expiry_ms(number: i64, in_seconds: bool, relative: bool, now_ms: u64) -> Option<u64> {
    let ms = if in_seconds { number.checked_mul(1000)? } else { number };
    if number <= 0 {
        return None;
    }
    let at = if relative { ms.checked_add(now_ms as i64)? } else { ms };
    u64::try_from(at).ok()
}

/// The part that all commands of the SET family share.
fn set_with(context: &mut Context, args: &Args, options: SetOptions, index: usize) -> Outcome {
    let key = args.get(1);
    let found = context.find(key)?;
    let refused = (options.only_new && found.is_some()) || (options.only_existing && found.is_none());
    if options.get {
        reply_old(context, found)?;
    }
    if refused {
        if !options.get {
            context.reply.null();
        }
        return Ok(());
    }
    let source = Source::argument(args, index);
    let stored = context.keys.set_string(context.client.db, key, found, source)?;
    match options.expiry {
        Expiry::Keep => {}
        Expiry::Unsaid | Expiry::Persist => context.keys.set_expire(context.client.db, stored, None),
        Expiry::At(at_ms) => context.keys.set_expire(context.client.db, stored, Some(at_ms)),
    }
    context.changed(1);
    if !options.get {
        context.reply.ok();
    }
    Ok(())
}

/// The old value, for `SET ... GET` and GETSET.
fn reply_old(context: &mut Context, found: Option<Found>) -> Outcome {
    let Some(found) = found else {
        context.reply.null();
        return Ok(());
    };
    if !found.entry.kind().is_string() {
        return Err(CommandError::WRONG_TYPE.into());
    }
    let value = context.keys.string_ref(found)?;
    context.reply_far_bulk(value.addr, value.len, value.object)
}

/// The integer that a string holds, for INCR and its kin. Source: Redis' `getLongLongFromObject`.
pub fn integer_of(bytes: &[u8]) -> Outcome<i64> {
    number::parse_i64(bytes).ok_or(CommandError::NOT_AN_INTEGER.into())
}
