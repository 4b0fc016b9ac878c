//! Parts of strings: APPEND, SETRANGE, GETRANGE, and single bits.
//!
//! The plans name the pages of the part and no other: a value of 512 MB that is cold stays so.

use super::super::{Context, Plan};
use crate::args::Args;
use crate::commands::walk::{MoveWalk, TRIES_MAX, Walk};
use crate::error::{CommandError, Outcome};
use crate::keyspace::Found;
use crate::keyspace::index::Kind;
use crate::number;
use crate::value::string::{Place, Source, StringRef};
use alloc::boxed::Box;

/// Source: Redis' `getBitOffsetFromArgument`.
const BIT_OFFSET: CommandError = CommandError::Text("ERR bit offset is not an integer or out of range");
/// Source: Redis' `setbitCommand`.
const BIT_VALUE: CommandError = CommandError::Text("ERR bit is not an integer or out of range");

/// Plans to write argument `index` into the string at `place`.
fn plan_write_at(plan: &mut Plan, args: &Args, place: Place, index: usize) {
    let len = args.len_of(index);
    if let Some(spooled) = args.spooled(index) {
        let pages = plan.keys.far.pages_of(spooled.addr);
        if pages.count <= plan.hold_pages_max() {
            plan.pages.push(pages);
        }
    }
    plan_splice(plan, args.get(1), place, len);
}

fn plan_splice(plan: &mut Plan, key: &[u8], place: Place, len: usize) {
    let entry = plan.key(key);
    if let Some(Walk::Move(MoveWalk { copy: Some(copy), .. })) = plan.walk {
        let bytes = copy.plan(&plan.keys.far, plan.pages);
        return plan.fresh_bytes(bytes);
    }
    if let Some(entry) = entry
        && entry.kind() == Kind::LargeString
    {
        plan.fresh += plan.keys.plan_splice(entry, place, len, plan.pages);
    }
    // A page more than fresh_bytes counts: a short value that becomes a long one.
    plan.fresh_bytes(len + key.len());
    plan.fresh += 1;
}

/// `APPEND key value`: the new length. A cold value's last page is read, and no other.
pub fn plan_append(plan: &mut Plan, args: &Args) {
    plan_write_at(plan, args, Place::End, 2);
}

/// See [`plan_append`].
pub fn append(context: &mut Context, args: &Args) -> Outcome {
    let key = args.get(1);
    let db = context.client.db;
    let source = Source::argument(args, 2);
    let old = find_string(context, key)?;
    let end = old.map_or(0, |(_, value)| value.len);
    if old.is_some() {
        check_len(context, end, source.len())?;
    }
    // Of a key that is gone too: it may have gone while its string was being moved.
    if !make_room(context, old, end, source.len())? {
        return Ok(());
    }
    let len = match old {
        Some((found, _)) => context.keys.splice_string(db, key, Some(found), end, source)?,
        None => {
            context.keys.set_string(db, key, None, source)?;
            source.len()
        }
    };
    context.changed(1);
    context.reply.integer(len as i64);
    Ok(())
}

/// Sees to it that a string need not be copied as a whole in order to be written to: if it is long, it is moved first,
/// step by step, to where it has room. False: the command goes on afterwards.
fn make_room(
    context: &mut Context,
    old: Option<(Found, StringRef)>,
    offset: usize,
    len: usize,
) -> Outcome<bool> {
    let mut tries = 0;
    if let Some(walk) = context.client.walk.take() {
        let Walk::Move(MoveWalk { copy, tries: before }) = *walk else {
            unreachable!("a client's walk is its current command's")
        };
        tries = before + 1;
        if let Some(mut copy) = copy {
            if let Err(failure) = copy.step(&mut context.keys.far) {
                copy.end(&mut context.keys.far);
                return Err(failure);
            }
            let left = match old {
                _ if !copy.is_done() => Some(copy),
                Some((found, value)) if copy.is_of(value) => {
                    context.keys.finish_move(context.client.db, found, copy)?;
                    None
                }
                _ => {
                    copy.end(&mut context.keys.far);
                    return begin_move(context, old, offset, len, tries);
                }
            };
            context.client.walk = Some(Box::new(Walk::Move(MoveWalk { copy: left, tries: before })));
            return Ok(false);
        }
    }
    begin_move(context, old, offset, len, tries)
}

/// Begins to move a string, if it is long and has to. Says whether it need not.
fn begin_move(
    context: &mut Context,
    old: Option<(Found, StringRef)>,
    offset: usize,
    len: usize,
    tries: u32,
) -> Outcome<bool> {
    match old {
        Some((found, value)) if tries < TRIES_MAX && context.keys.is_long_move(found, value, offset, len) => {
            let copy = Some(context.keys.begin_move(found, value, offset + len)?);
            context.client.walk = Some(Box::new(Walk::Move(MoveWalk { copy, tries })));
            Ok(false)
        }
        _ => Ok(true),
    }
}

/// Finds a string to change it.
fn find_string(context: &mut Context, key: &[u8]) -> Outcome<Option<(Found, StringRef)>> {
    let Some(found) = context.find(key)? else { return Ok(None) };
    if !found.entry.kind().is_string() {
        return Err(CommandError::WRONG_TYPE.into());
    }
    Ok(Some((found, context.keys.string_ref(found)?)))
}

/// Source: Redis' `checkStringLength`.
fn check_len(context: &Context, offset: usize, len: usize) -> Outcome {
    match (offset as u64).checked_add(len as u64) {
        Some(total) if total <= context.server.config.proto_max_bulk_len => Ok(()),
        _ => Err(CommandError::STRING_TOO_LONG.into()),
    }
}

/// `SETRANGE key offset value`: the new length; zeros between the old end and the offset.
pub fn plan_setrange(plan: &mut Plan, args: &Args) {
    let Some(offset) = number::parse_i64(args.get(2)).and_then(|offset| usize::try_from(offset).ok()) else {
        return;
    };
    plan_write_at(plan, args, Place::At(offset), 3);
}

/// See [`plan_setrange`].
pub fn setrange(context: &mut Context, args: &Args) -> Outcome {
    let offset = context.integer(args, 2)?;
    let offset = usize::try_from(offset).map_err(|_| CommandError::Text("ERR offset is out of range"))?;
    let key = args.get(1);
    let source = Source::argument(args, 3);
    let old = find_string(context, key)?;
    if source.len() == 0 {
        context.reply.integer(old.map_or(0, |(_, value)| value.len as i64));
        return Ok(());
    }
    check_len(context, offset, source.len())?;
    if !make_room(context, old, offset, source.len())? {
        return Ok(());
    }
    let found = old.map(|(found, _)| found);
    let len = context.keys.splice_string(context.client.db, key, found, offset, source)?;
    context.changed(1);
    context.reply.integer(len as i64);
    Ok(())
}

/// The bytes that `start end` mean of a string of `len` bytes: offset and length.
/// Source: `getrangeCommand` of Redis 7.0.
fn clamp(start: i64, end: i64, len: usize) -> Option<(usize, usize)> {
    if len == 0 || (start < 0 && end < 0 && start > end) {
        return None;
    }
    let len = len as i64;
    let from_front = |index: i64| if index < 0 { index.saturating_add(len).max(0) } else { index };
    let (start, end) = (from_front(start), from_front(end).min(len - 1));
    (start <= end).then_some((start as usize, (end - start + 1) as usize))
}

/// `GETRANGE key start end`, `SUBSTR key start end`: bytes `start..=end`; negative ones count from the end.
pub fn plan_getrange(plan: &mut Plan, args: &Args) {
    let (Some(start), Some(end)) = (number::parse_i64(args.get(2)), number::parse_i64(args.get(3))) else {
        return;
    };
    plan_read(plan, args.get(1), start, end);
}

/// Plans to read a range. Where it depends on the length and the key's page is not here, the value's pages
/// are planned in a second round.
fn plan_read(plan: &mut Plan, key: &[u8], start: i64, end: i64) {
    let Some(entry) = plan.key(key) else { return };
    if entry.kind() != Kind::LargeString {
        return;
    }
    let fixed = start >= 0 && end >= -1;
    let len = match plan.keys.large_len_if_resident(entry) {
        Some(len) => len,
        None if fixed => plan.keys.far.capacity_of(entry.addr()),
        None => return,
    };
    let Some((from, count)) = clamp(start, end, len) else { return };
    let pages = farmem::PageRange::covering(entry.addr().plus(from), count);
    if pages.count <= plan.hold_pages_max() {
        plan.pages.push(pages);
    }
}

/// See [`plan_getrange`].
pub fn getrange(context: &mut Context, args: &Args) -> Outcome {
    let (start, end) = (context.integer(args, 2)?, context.integer(args, 3)?);
    let range = match context.find_string(args.get(1))? {
        Some((_, value)) => clamp(start, end, value.len).map(|(from, len)| (value, from, len)),
        None => None,
    };
    match range {
        Some((value, from, len)) => context.reply_far_bulk(value.addr.plus(from), len, value.object),
        None => {
            context.reply.bulk(b"");
            Ok(())
        }
    }
}

/// A bit's place: the byte, and the bit in it counted from the lowest.
fn bit_place(text: &[u8], len_max: u64) -> Option<(usize, u32)> {
    let offset = u64::try_from(number::parse_i64(text)?).ok()?;
    (offset >> 3 < len_max).then_some(((offset >> 3) as usize, 7 - (offset & 7) as u32))
}

/// `SETBIT key offset value`: the old bit; zeros between the old end and the byte.
pub fn plan_setbit(plan: &mut Plan, args: &Args) {
    if let Some((byte, _)) = bit_place(args.get(2), u64::MAX) {
        plan_read(plan, args.get(1), byte as i64, byte as i64);
        plan_splice(plan, args.get(1), Place::At(byte), 1);
    }
}

/// See [`plan_setbit`].
pub fn setbit(context: &mut Context, args: &Args) -> Outcome {
    let len_max = context.server.config.proto_max_bulk_len;
    let (byte, bit) = bit_place(args.get(2), len_max).ok_or(BIT_OFFSET)?;
    let on = match number::parse_i64(args.get(3)) {
        Some(on @ (0 | 1)) => on as u8,
        _ => return Err(BIT_VALUE.into()),
    };
    let key = args.get(1);
    let old = find_string(context, key)?;
    if !make_room(context, old, byte, 1)? {
        return Ok(());
    }
    let old_byte = byte_at(context, old.map(|(_, value)| value), byte)?;
    let new_byte = old_byte.unwrap_or(0) & !(1 << bit) | on << bit;
    // As in Redis, a string that was written to bit by bit is raw even if the bit was so already.
    let found = old.map(|(found, _)| found);
    context.keys.splice_string(context.client.db, key, found, byte, Source::Near(&[new_byte]))?;
    if old_byte != Some(new_byte) {
        context.changed(1);
    }
    context.reply.integer(i64::from(old_byte.unwrap_or(0) >> bit & 1));
    Ok(())
}

/// `GETBIT key offset`: the bit; 0 beyond the end.
pub fn plan_getbit(plan: &mut Plan, args: &Args) {
    if let Some((byte, _)) = bit_place(args.get(2), u64::MAX) {
        plan_read(plan, args.get(1), byte as i64, byte as i64);
    }
}

/// See [`plan_getbit`].
pub fn getbit(context: &mut Context, args: &Args) -> Outcome {
    let len_max = context.server.config.proto_max_bulk_len;
    let (byte, bit) = bit_place(args.get(2), len_max).ok_or(BIT_OFFSET)?;
    let value = context.find_string(args.get(1))?.map(|(_, value)| value);
    let byte = byte_at(context, value, byte)?.unwrap_or(0);
    context.reply.integer(i64::from(byte >> bit & 1));
    Ok(())
}

fn byte_at(context: &mut Context, value: Option<StringRef>, index: usize) -> Outcome<Option<u8>> {
    match value {
        Some(value) if index < value.len => Ok(Some(context.keys.far.bytes(value.addr.plus(index), 1)?[0])),
        _ => Ok(None),
    }
}
