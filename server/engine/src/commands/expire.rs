//! When keys expire: EXPIRE, TTL, PERSIST and their kin.
//!
//! The key's page is all that is read: the times are near.

use super::Context;
use crate::args::Args;
use crate::error::{CommandError, Outcome};
use crate::keyspace::Found;
use alloc::format;

/// How a command of the EXPIRE family gives its time.
#[derive(Clone, Copy)]
struct TimeForm {
    command: &'static str,
    in_seconds: bool,
    relative: bool,
}

/// `EXPIRE key seconds [NX | XX | GT | LT]`: a time that is over deletes the key.
pub fn expire(context: &mut Context, args: &Args) -> Outcome {
    expire_generic(context, args, TimeForm { command: "expire", in_seconds: true, relative: true })
}

/// `PEXPIRE key milliseconds [NX | XX | GT | LT]`.
pub fn pexpire(context: &mut Context, args: &Args) -> Outcome {
    expire_generic(context, args, TimeForm { command: "pexpire", in_seconds: false, relative: true })
}

/// `EXPIREAT key unix-time-seconds [NX | XX | GT | LT]`.
pub fn expireat(context: &mut Context, args: &Args) -> Outcome {
    expire_generic(context, args, TimeForm { command: "expireat", in_seconds: true, relative: false })
}

/// `PEXPIREAT key unix-time-milliseconds [NX | XX | GT | LT]`.
pub fn pexpireat(context: &mut Context, args: &Args) -> Outcome {
    expire_generic(context, args, TimeForm { command: "pexpireat", in_seconds: false, relative: false })
}

/// Under which conditions the time is set.
#[derive(Clone, Copy, Default)]
struct Conditions {
    without_time: bool,
    with_time: bool,
    later: bool,
    sooner: bool,
}

/// Source: `parseExtendedExpireArgumentsOrReply` of Redis 7.0.
fn conditions(args: &Args) -> Outcome<Conditions> {
    let mut conditions = Conditions::default();
    for index in 3..args.len() {
        match () {
            () if args.is(index, "NX") => conditions.without_time = true,
            () if args.is(index, "XX") => conditions.with_time = true,
            () if args.is(index, "GT") => conditions.later = true,
            () if args.is(index, "LT") => conditions.sooner = true,
            () => {
                let text = [b"ERR Unsupported option ", args.get(index)].concat();
                return Err(CommandError::Quoting(text).into());
            }
        }
    }
    if conditions.without_time && (conditions.with_time || conditions.later || conditions.sooner) {
        let text = "ERR NX and XX, GT or LT options at the same time are not compatible";
        return Err(CommandError::Text(text).into());
    }
    if conditions.later && conditions.sooner {
        let text = "ERR GT and LT options at the same time are not compatible";
        return Err(CommandError::Text(text).into());
    }
    Ok(conditions)
}

impl Conditions {
    /// Source: `expireGenericCommand` of Redis 7.0: no time is later than any.
    fn allow(self, at_ms: i64, current_ms: Option<u64>) -> bool {
        let current_ms = current_ms.map(|ms| i64::try_from(ms).unwrap_or(i64::MAX));
        match current_ms {
            Some(current_ms) => {
                let too_soon = self.later && at_ms <= current_ms;
                let too_late = self.sooner && at_ms >= current_ms;
                !self.without_time && !too_soon && !too_late
            }
            None => !self.with_time && !self.later,
        }
    }
}

/// Redis' checks of an expiry time. Negative times are allowed: they are over.
fn time_argument(context: &Context, args: &Args, form: TimeForm) -> Outcome<i64> {
    let number = context.integer(args, 2)?;
    let ms = if form.in_seconds { number.checked_mul(1000) } else { Some(number) };
    let now_ms = context.now.unix_ms as i64;
    let at_ms = ms.and_then(|ms| if form.relative { ms.checked_add(now_ms) } else { Some(ms) });
    at_ms.ok_or_else(|| {
        CommandError::Owned(format!("ERR invalid expire time in '{}' command", form.command)).into()
    })
}

fn expire_generic(context: &mut Context, args: &Args, form: TimeForm) -> Outcome {
    let conditions = conditions(args)?;
    let at_ms = time_argument(context, args, form)?;
    let db = context.client.db;
    let found = context.find(args.get(1))?;
    let allowed = found.filter(|found| conditions.allow(at_ms, context.keys.expire_at(db, found.entry)));
    let Some(found) = allowed else {
        context.reply.yes_no(false);
        return Ok(());
    };
    match u64::try_from(at_ms) {
        Ok(at_ms) if at_ms > context.now.unix_ms => context.keys.set_expire(db, found, Some(at_ms)),
        _ => context.keys.delete(db, found),
    }
    context.changed(1);
    context.reply.yes_no(true);
    Ok(())
}

/// `PERSIST key`: takes the expiry time away.
pub fn persist(context: &mut Context, args: &Args) -> Outcome {
    let db = context.client.db;
    let timed = context.find(args.get(1))?.filter(|found| found.entry.has_ttl());
    if let Some(found) = timed {
        context.keys.set_expire(db, found, None);
        context.changed(1);
    }
    context.reply.yes_no(timed.is_some());
    Ok(())
}

/// `TTL key`: seconds that are left, rounded; -1 without an expiry time, -2 without the key.
pub fn ttl(context: &mut Context, args: &Args) -> Outcome {
    reply_time(context, args, |at_ms, now_ms| (at_ms.saturating_sub(now_ms) + 500) / 1000)
}

/// `PTTL key`: as TTL, in milliseconds.
pub fn pttl(context: &mut Context, args: &Args) -> Outcome {
    reply_time(context, args, |at_ms, now_ms| at_ms.saturating_sub(now_ms))
}

/// `EXPIRETIME key`: as a point in time.
pub fn expiretime(context: &mut Context, args: &Args) -> Outcome {
    reply_time(context, args, |at_ms, _| (at_ms + 500) / 1000)
}

/// `PEXPIRETIME key`: as a point in time, in milliseconds.
pub fn pexpiretime(context: &mut Context, args: &Args) -> Outcome {
    reply_time(context, args, |at_ms, _| at_ms)
}

fn reply_time(context: &mut Context, args: &Args, spell: fn(u64, u64) -> u64) -> Outcome {
    let found: Option<Found> = context.look(args.get(1))?;
    let reply = match found {
        None => -2,
        Some(found) => match context.keys.expire_at(context.client.db, found.entry) {
            None => -1,
            Some(at_ms) => spell(at_ms, context.now.unix_ms) as i64,
        },
    };
    context.reply.integer(reply);
    Ok(())
}
