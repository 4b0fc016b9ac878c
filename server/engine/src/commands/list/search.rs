//! LPOS: where an element is.

use super::change::plan_search;
use super::{bounded, find_read};
use crate::args::Args;
use crate::commands::{Context, Plan};
use crate::error::{CommandError, Outcome};
use crate::value::list::{Side, Target, matches_in};
use crate::value::string::Source;
use alloc::vec::Vec;

/// Options of LPOS.
struct Options {
    side: Side,
    /// Matches to pass over.
    skip: u64,
    /// How many matches to answer; `None` answers one, and not as an array. Zero: all.
    count: Option<u64>,
    /// How many elements to look at.
    compare_max: u64,
}

/// Source: `lposCommand` of Redis 7.0.
fn options(context: &Context, args: &Args) -> Outcome<Options> {
    let (mut rank, mut count, mut compare_max) = (1, None, 0);
    let mut index = 3;
    while index < args.len() {
        if index + 1 == args.len() {
            return Err(CommandError::SYNTAX.into());
        }
        if args.is(index, "RANK") {
            rank = context.integer(args, index + 1)?;
            if rank == 0 {
                return Err(CommandError::Text(RANK_ZERO).into());
            }
        } else if args.is(index, "COUNT") {
            count = Some(bounded(args, index + 1, 0, "ERR COUNT can't be negative")?);
        } else if args.is(index, "MAXLEN") {
            compare_max = bounded(args, index + 1, 0, "ERR MAXLEN can't be negative")?;
        } else {
            return Err(CommandError::SYNTAX.into());
        }
        index += 2;
    }
    let side = if rank < 0 { Side::Tail } else { Side::Head };
    let compare_max = if compare_max == 0 { u64::MAX } else { compare_max };
    // Redis negates a negative rank; the least integer stays what it is, and so passes over nothing.
    let skip = rank.checked_abs().map_or(0, |rank| rank.unsigned_abs() - 1);
    Ok(Options { side, skip, count, compare_max })
}

const RANK_ZERO: &str = "ERR RANK can't be zero: use 1 to start from the first match, 2 from the second ... or use \
negative to start from the end of the list";

/// `LPOS key element [RANK rank] [COUNT num-matches] [MAXLEN len]`: indexes count from the head, whichever
/// end the search begins at.
pub fn plan_lpos(plan: &mut Plan, args: &Args) {
    plan_search(plan, args.get(1), args.get(2).len());
}

/// See [`plan_lpos`].
pub fn lpos(context: &mut Context, args: &Args) -> Outcome {
    let options = options(context, args)?;
    let found = match find_read(context, args.get(1))? {
        Some(target) => positions(context, &target, &options, args.get(2))?,
        None => Vec::new(),
    };
    if options.count.is_none() {
        match found.first() {
            Some(&index) => context.reply.integer(index as i64),
            None => context.reply.null(),
        }
        return Ok(());
    }
    context.reply.array(found.len());
    for index in found {
        context.reply.integer(index as i64);
    }
    Ok(())
}

/// The indexes to answer, in the order in which the search meets them.
fn positions(context: &mut Context, target: &Target, options: &Options, needle: &[u8]) -> Outcome<Vec<u64>> {
    let wanted = match options.count {
        None => 1,
        Some(0) => usize::MAX,
        Some(count) => usize::try_from(count).unwrap_or(usize::MAX),
    };
    let len = context.keys.shape_len(target.shape);
    let (mut wire, mut matches, mut found) = (Vec::new(), Vec::new(), Vec::new());
    let (mut seen, mut skip) = (0, options.skip);
    let mut cursor = context.keys.list_cursor(target.shape, options.side);
    while seen < options.compare_max
        && let Some((chunk, _)) = cursor.next(&context.keys.lists)
    {
        matches_in(&mut context.keys.far, chunk, Source::Near(needle), &mut wire, &mut matches)?;
        if options.side == Side::Tail {
            matches.reverse();
        }
        for hit in &matches {
            let within = match options.side {
                Side::Head => hit.index,
                Side::Tail => chunk.count - 1 - hit.index,
            };
            let from_end = seen + u64::from(within);
            if from_end >= options.compare_max {
                break;
            }
            if skip > 0 {
                skip -= 1;
                continue;
            }
            found.push(if options.side == Side::Head { from_end } else { len - 1 - from_end });
            if found.len() == wanted {
                return Ok(found);
            }
        }
        seen += u64::from(chunk.count);
    }
    Ok(found)
}
