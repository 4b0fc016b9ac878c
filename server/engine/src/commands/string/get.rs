//! Reading whole strings: GET, MGET, STRLEN, and those that read and then let go: GETEX, GETDEL.

use super::super::{Context, Plan};
use super::expiry::Expiry;
use crate::args::Args;
use crate::error::{CommandError, Outcome};
use crate::keyspace::index::Kind;

/// Plans a command that reads a whole string: `GET key`.
pub fn plan_get(plan: &mut Plan, args: &Args) {
    plan.key_and_value(args.get(1));
}

/// `GET key`: the value, or null.
pub fn get(context: &mut Context, args: &Args) -> Outcome {
    // GET 6/8: the key is compared with the one in the far heap: a fingerprint alone proves nothing.
    match context.find_string(args.get(1))? {
        // GET 7/8: a short value is copied into the reply, a long one leaves from its frames.
        Some((found, value)) => {
            context.reply_far_bulk(value.addr, value.len, value.object)?;
            context.keys.gather(context.client.db, found);
        }
        None => context.reply.null(),
    }
    Ok(())
}

/// `GETEX key [EX seconds | PX milliseconds | EXAT unix-time-seconds | PXAT unix-time-milliseconds |
/// PERSIST]`: the value; a time in the past deletes the key.
pub fn getex(context: &mut Context, args: &Args) -> Outcome {
    let mut expiry = Expiry::Unsaid;
    let mut index = 2;
    while index < args.len() {
        if let Some(taken) = expiry.take(args, index) {
            index = taken;
        } else if !(args.is(index, "PERSIST") && expiry.take_word(Expiry::Persist)) {
            return Err(CommandError::SYNTAX.into());
        }
        index += 1;
    }
    let Some((found, value)) = context.find_string(args.get(1))? else {
        context.reply.null();
        return Ok(());
    };
    let at_ms = expiry.at_ms(context, args, "getex")?;
    context.reply_far_bulk(value.addr, value.len, value.object)?;
    let db = context.client.db;
    match (expiry, at_ms) {
        (Expiry::Number { unit, .. }, Some(at_ms)) if unit.is_absolute() && at_ms <= context.now.unix_ms => {
            context.keys.delete(db, found);
        }
        (_, Some(at_ms)) => context.keys.set_expire(db, found, Some(at_ms)),
        (Expiry::Persist, _) if found.entry.has_ttl() => context.keys.set_expire(db, found, None),
        _ => return Ok(()),
    }
    context.changed(1);
    Ok(())
}

/// `GETDEL key`: the value, which is then gone.
pub fn getdel(context: &mut Context, args: &Args) -> Outcome {
    let Some((found, value)) = context.find_string(args.get(1))? else {
        context.reply.null();
        return Ok(());
    };
    context.reply_far_bulk(value.addr, value.len, value.object)?;
    context.keys.delete(context.client.db, found);
    context.changed(1);
    Ok(())
}

/// `STRLEN key`: bytes of the value, 0 if there is none. Reads the key's page alone.
pub fn strlen(context: &mut Context, args: &Args) -> Outcome {
    let len = context.find_string(args.get(1))?.map_or(0, |(_, value)| value.len);
    context.reply.integer(len as i64);
    Ok(())
}

/// `MGET key [key ...]`: plans all keys, and as many values as replies may hold; the others are streamed.
pub fn plan_mget(plan: &mut Plan, args: &Args) {
    let mut held = 0;
    for key in args.iter_from(1) {
        let Some(entry) = plan.key(key) else { continue };
        if entry.kind() != Kind::LargeString {
            continue;
        }
        let pages = plan.keys.far.pages_of(entry.addr());
        if pages.count <= plan.hold_pages_max() && plan.keys.far.hold_allowed(held + pages.count) {
            held += pages.count;
            plan.pages.push(pages);
        }
    }
}

/// See [`plan_mget`]. A key that holds no string reads as null.
pub fn mget(context: &mut Context, args: &Args) -> Outcome {
    context.reply.array(args.len() - 1);
    for key in args.iter_from(1) {
        match context.find_read(key)? {
            Some(found) if found.entry.kind().is_string() => {
                let value = context.keys.string_ref(found)?;
                context.reply_far_bulk(value.addr, value.len, value.object)?;
            }
            _ => context.reply.null(),
        }
    }
    Ok(())
}
