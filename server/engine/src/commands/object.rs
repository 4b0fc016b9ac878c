//! OBJECT and MEMORY USAGE: what is known about a key.

use super::{Context, Plan};
use crate::args::Args;
use crate::command::help;
use crate::config::MaxmemoryPolicy;
use crate::error::{CommandError, Outcome};
use crate::keyspace::Found;
use crate::keyspace::index::Kind;
use crate::number;

/// Plans to look up the key in argument 2.
pub fn plan_second(plan: &mut Plan, args: &Args) {
    plan.key(args.get(2));
}

/// Plans to look up the key in argument 2, and to see whether its value is an integer: that lies beside the key, but
/// for one whose key is, or was, so long that it has a page of its own.
pub fn plan_encoding(plan: &mut Plan, args: &Args) {
    if let Some(entry) = plan.key(args.get(2))
        && entry.kind() == Kind::LargeString
        && plan.keys.large_len_if_resident(entry).is_some_and(|len| len <= number::I64_LEN_MAX)
    {
        plan.pages.push_page(entry.addr().page());
    }
}

/// `OBJECT HELP`.
pub fn object_help(context: &mut Context, _: &Args) -> Outcome {
    help::write(context.reply.output.near(), b"OBJECT", help::OBJECT);
    Ok(())
}

/// `MEMORY HELP`.
pub fn memory_help(context: &mut Context, _: &Args) -> Outcome {
    help::write(context.reply.output.near(), b"MEMORY", help::MEMORY);
    Ok(())
}

/// Answers `tell` of the key in argument 2, or null.
fn with_key(context: &mut Context, args: &Args, tell: fn(&mut Context, Found) -> Outcome) -> Outcome {
    match context.look(args.get(2))? {
        Some(found) => tell(context, found),
        None => {
            context.reply.null();
            Ok(())
        }
    }
}

/// `OBJECT ENCODING key`: what Redis would call the way in which the value is kept.
pub fn encoding(context: &mut Context, args: &Args) -> Outcome {
    with_key(context, args, |context, found| {
        let name = encoding_of(context, found)?;
        context.reply.bulk(name.as_bytes());
        Ok(())
    })
}

fn encoding_of(context: &mut Context, found: Found) -> Outcome<&'static str> {
    if !found.entry.kind().is_string() {
        return Ok("quicklist");
    }
    context.keys.string_encoding(found)
}

/// The greatest integer of which Redis keeps one object for all keys, plus one.
const SHARED_INTEGERS: i64 = 10_000;

/// `OBJECT REFCOUNT key`: 1, or what Redis answers for an integer that all keys share.
pub fn refcount(context: &mut Context, args: &Args) -> Outcome {
    with_key(context, args, |context, found| {
        let policy = context.server.config.maxmemory_policy;
        let tracked =
            policy.is_lfu() || matches!(policy, MaxmemoryPolicy::AllkeysLru | MaxmemoryPolicy::VolatileLru);
        let shares = context.server.config.maxmemory == 0 || !tracked;
        let shared = shares && encoding_of(context, found)? == "int" && {
            let value = context.keys.string_ref(found)?;
            let integer = number::parse_i64(context.keys.far.bytes(value.addr, value.len)?);
            integer.is_some_and(|integer| (0..SHARED_INTEGERS).contains(&integer))
        };
        context.reply.integer(if shared { i64::from(i32::MAX) } else { 1 });
        Ok(())
    })
}

/// `OBJECT IDLETIME key`: seconds since the key was last used.
pub fn idletime(context: &mut Context, args: &Args) -> Outcome {
    with_key(context, args, |context, found| {
        if context.server.config.maxmemory_policy.is_lfu() {
            return Err(CommandError::Text(
                "ERR An LFU maxmemory policy is selected, idle time not tracked. Please note that when switching \
                 between policies at runtime LRU and LFU data will take some time to adjust.",
            )
            .into());
        }
        let idle = context.keys.clock.idle_seconds(found.entry.access());
        context.reply.integer(i64::from(idle));
        Ok(())
    })
}

/// `OBJECT FREQ key`: the logarithmic counter of its uses.
pub fn freq(context: &mut Context, args: &Args) -> Outcome {
    with_key(context, args, |context, found| {
        if !context.server.config.maxmemory_policy.is_lfu() {
            return Err(CommandError::Text(
                "ERR An LFU maxmemory policy is not selected, access frequency not tracked. Please note that when \
                 switching between policies at runtime LRU and LFU data will take some time to adjust.",
            )
            .into());
        }
        let count = context.keys.clock.lfu_count(found.entry.access());
        context.reply.integer(i64::from(count));
        Ok(())
    })
}

/// `MEMORY USAGE key [SAMPLES count]`: bytes of the key and its value, near and far. Nothing is sampled:
/// near memory knows.
pub fn memory_usage(context: &mut Context, args: &Args) -> Outcome {
    let mut index = 3;
    while index < args.len() {
        if !args.is(index, "SAMPLES") || index + 1 == args.len() {
            return Err(CommandError::SYNTAX.into());
        }
        if context.integer(args, index + 1)? < 0 {
            return Err(CommandError::SYNTAX.into());
        }
        index += 2;
    }
    with_key(context, args, |context, found| {
        let footprint = context.keys.footprint(found.entry);
        context.reply.integer((footprint.far_bytes + footprint.near_bytes) as i64);
        Ok(())
    })
}
