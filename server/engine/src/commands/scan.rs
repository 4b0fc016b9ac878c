//! Commands that go over the keys: SCAN, KEYS, RANDOMKEY.
//!
//! Keys are visited in hash order, which no growth of the index changes, and read from their far pages: a
//! step visits as many as fit in local memory. What near memory knows (type, expiry) is asked first, so that
//! a key that is not wanted is not fetched.

use super::walk::{Gathered, SPILL_FRESH, Walk};
use super::{Context, Plan};
use crate::args::Args;
use crate::error::{CommandError, Outcome};
use crate::glob::{self, Case};
use crate::keyspace::index::{Entry, Kind};
use crate::keyspace::{KeySpace, object};
use crate::number;
use crate::resp::encode;
use alloc::vec::Vec;
use farmem::PAGE_SIZE;

/// Pages of one step: 256 pages are 1 MiB, a tenth of a millisecond of a 100 Gbit/s link.
const STEP_PAGES_MAX: u32 = 256;
/// Entries of one step, so that many keys in few pages do not gather much: 4096 keys of 64 bytes are 256 KiB.
const STEP_ENTRIES_MAX: usize = 4096;
/// Entries that the index shows at a time.
const BATCH: usize = 16;
/// Draws of RANDOMKEY among keys whose time may be over, before it goes through them in order.
const DRAWS_MAX: u32 = 100;

/// Which keys are wanted, as near memory can tell.
#[derive(Clone, Copy)]
struct Wanted {
    /// Entries to visit.
    count: usize,
    kind: WantedKind,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum WantedKind {
    Any,
    String,
    List,
    /// A type that no key here has.
    Nothing,
}

impl WantedKind {
    fn takes(self, kind: Kind) -> bool {
        match self {
            WantedKind::Any => true,
            WantedKind::String => kind.is_string(),
            WantedKind::List => !kind.is_string(),
            WantedKind::Nothing => false,
        }
    }
}

/// What a step visits.
struct Step {
    /// Those wanted.
    entries: Vec<Entry>,
    /// Where the next step begins; 0 is the end.
    next: u64,
}

/// The step from `cursor`. Near memory alone decides, so plan and execution see the same one.
fn step(keys: &KeySpace, db: usize, cursor: u64, wanted: Wanted, now_ms: u64) -> Step {
    let pages_max = STEP_PAGES_MAX.min(keys.far.budget_frames() / 8);
    let mut entries = Vec::new();
    let (mut at, mut seen, mut pages) = (cursor, 0, 0);
    loop {
        let batch = BATCH.min(wanted.count - seen);
        let before = seen;
        at = keys.dbs[db].index.scan(at, batch, |&entry| {
            seen += 1;
            let over = keys.expire_at(db, entry).is_some_and(|at_ms| at_ms <= now_ms);
            if wanted.kind.takes(entry.kind()) && !over {
                pages += keys.far.pages_of(keys.key_object(entry)).count;
                entries.push(entry);
            }
        });
        if at == 0 || seen >= wanted.count || pages >= pages_max || seen == before {
            return Step { entries, next: at };
        }
    }
}

/// Plans the keys' pages of a step. A key that is larger than what a reply may hold is read piece by piece.
fn plan_step(plan: &mut Plan, step: &Step) {
    for &entry in &step.entries {
        let mut pages = plan.keys.far.pages_of(plan.keys.key_object(entry));
        if pages.count > plan.hold_pages_max() {
            pages.count = 1;
        }
        plan.pages.push(pages);
    }
}

/// Answers the keys of a step that match; says how many.
fn reply_matching(context: &mut Context, entries: &[Entry], pattern: Option<&[u8]>) -> Outcome<usize> {
    let mut count = 0;
    for &entry in entries {
        let at = context.keys.key_object(entry);
        let framed = object::framed_at(&mut context.keys.far, at)?;
        let data = at.plus(framed.data);
        if data.offset() + framed.len <= PAGE_SIZE {
            let key = context.keys.far.bytes(data, framed.len)?;
            if pattern.is_none_or(|pattern| glob::matches(pattern, key, Case::Sensitive)) {
                encode::bulk(context.reply.output.near(), key);
                count += 1;
            }
            continue;
        }
        if let Some(pattern) = pattern {
            let mut key = Vec::new();
            context.keys.far.copy_out(data, framed.len, &mut key)?;
            if !glob::matches(pattern, &key, Case::Sensitive) {
                continue;
            }
        }
        context.reply_far_bulk(data, framed.len, at)?;
        count += 1;
    }
    Ok(count)
}

/// The pattern, unless it takes every key there can be.
fn unless_all(pattern: &[u8]) -> Option<&[u8]> {
    (pattern != b"*").then_some(pattern)
}

/// Options of SCAN.
struct ScanOptions<'a> {
    cursor: u64,
    pattern: Option<&'a [u8]>,
    wanted: Wanted,
}

/// Source: `scanGenericCommand` of Redis 7.0.
fn scan_options<'a>(args: &Args<'a>) -> Outcome<ScanOptions<'a>> {
    let cursor = scan_cursor(args.get(1)).ok_or(CommandError::Text("ERR invalid cursor"))?;
    let mut options =
        ScanOptions { cursor, pattern: None, wanted: Wanted { count: 10, kind: WantedKind::Any } };
    let mut index = 2;
    while index < args.len() {
        if index + 1 == args.len() {
            return Err(CommandError::SYNTAX.into());
        }
        let value = args.get(index + 1);
        if args.is(index, "COUNT") {
            let count = number::parse_i64(value).ok_or(CommandError::NOT_AN_INTEGER)?;
            options.wanted.count =
                usize::try_from(count).ok().filter(|&count| count > 0).ok_or(CommandError::SYNTAX)?;
        } else if args.is(index, "MATCH") {
            options.pattern = unless_all(value);
        } else if args.is(index, "TYPE") {
            options.wanted.kind = match value {
                _ if value.eq_ignore_ascii_case(b"string") => WantedKind::String,
                _ if value.eq_ignore_ascii_case(b"list") => WantedKind::List,
                _ => WantedKind::Nothing,
            };
        } else {
            return Err(CommandError::SYNTAX.into());
        }
        index += 2;
    }
    Ok(options)
}

/// Source: `parseScanCursorOrReply`: C's `strtoul`, which takes a sign, but no blanks before or after.
fn scan_cursor(text: &[u8]) -> Option<u64> {
    let (negative, digits) = match text {
        [b'-', digits @ ..] => (true, digits),
        [b'+', digits @ ..] => (false, digits),
        digits => (false, digits),
    };
    if digits.is_empty() {
        return text.is_empty().then_some(0);
    }
    let value = digits.iter().try_fold(0u64, |value, &byte| {
        let digit = byte.is_ascii_digit().then(|| u64::from(byte - b'0'))?;
        value.checked_mul(10)?.checked_add(digit)
    })?;
    Some(if negative { value.wrapping_neg() } else { value })
}

/// `SCAN cursor [MATCH pattern] [COUNT count] [TYPE type]`: some keys, and the cursor to go on from. A key
/// that is there from the first call to the last is answered exactly once.
pub fn plan_scan(plan: &mut Plan, args: &Args) {
    if let Ok(options) = scan_options(args) {
        let step = step(plan.keys, plan.db, options.cursor, options.wanted, plan.now.unix_ms);
        plan_step(plan, &step);
    }
}

/// See [`plan_scan`].
pub fn scan(context: &mut Context, args: &Args) -> Outcome {
    let options = scan_options(args)?;
    let step = step(context.keys, context.client.db, options.cursor, options.wanted, context.now.unix_ms);
    let mut gathered = Gathered::default();
    let added = gathered.add(context, |context| reply_matching(context, &step.entries, options.pattern));
    let gathered = gathered.or_end(&mut context.keys.far, added)?;
    context.reply.array(2);
    context.reply.bulk(alloc::format!("{}", step.next).as_bytes());
    gathered.reply(context);
    Ok(())
}

const EVERY_KEY: Wanted = Wanted { count: STEP_ENTRIES_MAX, kind: WantedKind::Any };

/// `KEYS pattern`: every key that matches. Where the keys' pages do not fit in local memory other commands
/// may run in between; then a key that is added or deleted meanwhile may or may not be among the answer.
pub fn plan_keys(plan: &mut Plan, _: &Args) {
    let cursor = match plan.walk {
        Some(Walk::Keys { cursor, .. }) => *cursor,
        _ => 0,
    };
    let step = step(plan.keys, plan.db, cursor, EVERY_KEY, plan.now.unix_ms);
    plan_step(plan, &step);
    if plan.walk.is_some() || step.next != 0 {
        plan.fresh += SPILL_FRESH.min(plan.keys.far.budget_frames() / 4);
    }
}

/// See [`plan_keys`].
pub fn keys(context: &mut Context, args: &Args) -> Outcome {
    let (cursor, mut gathered) = match context.client.walk.take().map(|walk| *walk) {
        Some(Walk::Keys { cursor, gathered }) => (cursor, gathered),
        _ => (0, Gathered::default()),
    };
    let pattern = unless_all(args.get(1));
    let step = step(context.keys, context.client.db, cursor, EVERY_KEY, context.now.unix_ms);
    let added = gathered
        .add(context, |context| reply_matching(context, &step.entries, pattern))
        .and_then(|()| if step.next == 0 { Ok(()) } else { gathered.spill(&mut context.keys.far) });
    let gathered = gathered.or_end(&mut context.keys.far, added)?;
    if step.next == 0 {
        gathered.reply(context);
    } else {
        context.client.walk = Some(alloc::boxed::Box::new(Walk::Keys { cursor: step.next, gathered }));
    }
    Ok(())
}

/// The key that RANDOMKEY answers: the same for plan and execution, as long as the index stays.
fn pick(keys: &KeySpace, db: usize, now_ms: u64) -> Option<Entry> {
    let alive = |entry: &Entry| keys.expire_at(db, *entry).is_none_or(|at_ms| at_ms > now_ms);
    let index = &keys.dbs[db].index;
    let drawn = (0..DRAWS_MAX).find_map(|draw| {
        let random = keys.draw.wrapping_add(u64::from(draw).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        index.random(random).map(|(_, entry)| entry).filter(alive)
    });
    drawn.or_else(|| index.iter().copied().find(alive))
}

/// `RANDOMKEY`: some key.
pub fn plan_randomkey(plan: &mut Plan, _: &Args) {
    if let Some(entry) = pick(plan.keys, plan.db, plan.now.unix_ms) {
        plan_step(plan, &Step { entries: alloc::vec![entry], next: 0 });
    }
}

/// See [`plan_randomkey`].
pub fn randomkey(context: &mut Context, _: &Args) -> Outcome {
    let picked = pick(context.keys, context.client.db, context.now.unix_ms);
    context.keys.draw = context.server.draw();
    match picked {
        Some(entry) => {
            reply_matching(context, &[entry], None)?;
        }
        None => context.reply.null(),
    }
    Ok(())
}
