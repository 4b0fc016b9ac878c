//! Strings as numbers: INCR, DECR and INCRBYFLOAT.

use super::super::{Context, Plan};
use crate::args::Args;
use crate::error::{CommandError, Outcome};
use crate::keyspace::Found;
use crate::keyspace::index::Kind;
use crate::number::{self, I64_LEN_MAX, LongDouble};
use crate::value::string::{Encoding, Source, StringRef};
use alloc::vec::Vec;
use farmem::{PAGE_SIZE, PageRange};

/// Longer strings are no number: Redis' limit of a long double's text. Units: bytes.
const FLOAT_LEN_MAX: usize = 5 * 1024;

/// Plans a command that reads a number and writes one: `INCR key` and its kin. Of a long value as much as a
/// number may have.
pub fn plan_counter(plan: &mut Plan, args: &Args) {
    let key = args.get(1);
    if let Some(entry) = plan.key(key)
        && entry.kind() == Kind::LargeString
    {
        let PageRange { first, count } = plan.keys.far.pages_of(entry.addr());
        let count = count.min(FLOAT_LEN_MAX.div_ceil(PAGE_SIZE) as u32);
        plan.pages.push(PageRange { first, count });
    }
    plan.fresh_bytes(key.len());
}

/// `INCR key`: one more; a missing key counts as 0.
pub fn incr(context: &mut Context, args: &Args) -> Outcome {
    add(context, args.get(1), 1)
}

/// `DECR key`: one less.
pub fn decr(context: &mut Context, args: &Args) -> Outcome {
    add(context, args.get(1), -1)
}

/// `INCRBY key increment`: so many more.
pub fn incrby(context: &mut Context, args: &Args) -> Outcome {
    let increment = context.integer(args, 2)?;
    add(context, args.get(1), increment)
}

/// `DECRBY key decrement`: so many less.
pub fn decrby(context: &mut Context, args: &Args) -> Outcome {
    let decrement = context.integer(args, 2)?;
    let increment = decrement.checked_neg().ok_or(CommandError::Text("ERR decrement would overflow"))?;
    add(context, args.get(1), increment)
}

fn find_number(context: &mut Context, key: &[u8]) -> Outcome<Option<(Found, StringRef)>> {
    let Some(found) = context.find(key)? else { return Ok(None) };
    if !found.entry.kind().is_string() {
        return Err(CommandError::WRONG_TYPE.into());
    }
    Ok(Some((found, context.keys.string_ref(found)?)))
}

fn add(context: &mut Context, key: &[u8], increment: i64) -> Outcome {
    let old = find_number(context, key)?;
    let before = match old {
        Some((_, value)) if value.len > I64_LEN_MAX => None,
        Some((_, value)) => {
            // So few bytes lie in one page: beside their key, or at the start of a page of their own.
            number::parse_i64(context.keys.far.bytes(value.addr, value.len)?)
        }
        None => Some(0),
    };
    let before = before.ok_or(CommandError::NOT_AN_INTEGER)?;
    let after = before
        .checked_add(increment)
        .ok_or(CommandError::Text("ERR increment or decrement would overflow"))?;
    let mut digits = itoa::Buffer::new();
    let source = Source::Near(digits.format(after).as_bytes());
    context.keys.set_string(context.client.db, key, old.map(|(found, _)| found), source)?;
    context.changed(1);
    context.reply.integer(after);
    Ok(())
}

/// `INCRBYFLOAT key increment`: the sum, with at most 17 digits behind the point. Computed with 80 bits, as
/// Redis does.
pub fn incrbyfloat(context: &mut Context, args: &Args) -> Outcome {
    let key = args.get(1);
    let old = find_number(context, key)?;
    let before = match old {
        Some((_, value)) if value.len > FLOAT_LEN_MAX => None,
        Some((_, value)) => {
            let mut text = Vec::new();
            context.keys.far.copy_out(value.addr, value.len, &mut text)?;
            LongDouble::parse(&text)
        }
        None => Some(LongDouble::ZERO),
    };
    let before = before.ok_or(CommandError::NOT_A_FLOAT)?;
    let increment = LongDouble::parse(args.get(2)).ok_or(CommandError::NOT_A_FLOAT)?;
    let after = before
        .checked_add(increment)
        .ok_or(CommandError::Text("ERR increment would produce NaN or Infinity"))?;
    let mut text = Vec::new();
    after.write_human(&mut text);
    let db = context.client.db;
    let stored = context.keys.set_string(db, key, old.map(|(found, _)| found), Source::Near(&text))?;
    context.keys.set_encoding(db, stored, Encoding::Text);
    context.changed(1);
    context.reply.bulk(&text);
    Ok(())
}
