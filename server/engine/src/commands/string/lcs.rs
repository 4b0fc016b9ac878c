//! LCS: the longest common subsequence of two strings.
//!
//! ```text
//!   lengths: two rows, as long as the shorter string        steps: one bit a cell of the whole table,
//!   ┌───┬───┬───┬───┐  the row before                       kept only if the way back is asked for:
//!   │ 0 │ 1 │ 1 │ 2 │                                       up (1) or left (0); where the bytes are
//!   ├───┼───┼───┼───┤  this row                             equal the way is diagonal, and no bit
//!   │ 0 │ 1 │ 2 │ ? │                                       is needed to say so
//!   └───┴───┴───┴───┘
//! ```
//!
//! Redis keeps a table of 32-bit lengths; a bit a cell leads the same way back in a 32nd of the memory.
//! Refuses to hold the longer string in near memory: it is read page by page, forth and back.

use super::super::{Context, Plan};
use crate::args::Args;
use crate::error::{CommandError, Outcome};
use crate::far::Far;
use crate::value::string::StringRef;
use alloc::vec;
use alloc::vec::Vec;
use farmem::{FarAddr, PAGE_SIZE, PagerError};

/// Bytes of a cell in Redis' table, which its limit is about.
const CELL_BYTES: u64 = 4;

/// Options of LCS.
#[derive(Clone, Copy, Debug, Default)]
struct Options {
    len: bool,
    idx: bool,
    with_match_len: bool,
    match_len_min: i64,
}

/// Equal bytes of both strings: first and last offset in `key1`, then in `key2`.
struct Match {
    first: (u32, u32),
    last: (u32, u32),
}

impl Match {
    fn len(&self) -> i64 {
        i64::from(self.last.0 - self.first.0) + 1
    }
}

/// `LCS key1 key2 [LEN] [IDX] [MINMATCHLEN len] [WITHMATCHLEN]`: the longest common subsequence; a missing
/// key is an empty string.
pub fn plan_lcs(plan: &mut Plan, args: &Args) {
    plan.key_and_value(args.get(1));
    plan.key_and_value(args.get(2));
}

/// See [`plan_lcs`].
pub fn lcs(context: &mut Context, args: &Args) -> Outcome {
    let a = operand(context, args.get(1))?;
    let b = operand(context, args.get(2))?;
    let (Some(a), Some(b)) = (a, b) else {
        return Err(CommandError::Text("ERR The specified keys must contain string values").into());
    };
    let options = options(context, args)?;
    if options.len && options.idx {
        let text = "ERR If you want both the length and indexes, please just use IDX.";
        return Err(CommandError::Text(text).into());
    }
    let cells = (a.len as u64 + 1) * (b.len as u64 + 1);
    if cells * CELL_BYTES > context.server.config.proto_max_bulk_len {
        let text = "ERR Insufficient memory, transient memory for LCS exceeds proto-max-bulk-len";
        return Err(CommandError::Text(text).into());
    }
    let mut table = Table::fill(&mut context.keys.far, a, b, !options.len || options.idx)?;
    if options.len && !options.idx {
        context.reply.integer(i64::from(table.len));
        return Ok(());
    }
    let (common, matches) = table.way_back(&mut context.keys.far)?;
    if options.idx {
        reply_matches(context, &matches, table.len, options);
    } else {
        context.reply.bulk(&common);
    }
    Ok(())
}

/// A key's string; a missing key's is empty. `None` if the key holds something else.
fn operand(context: &mut Context, key: &[u8]) -> Outcome<Option<StringRef>> {
    match context.find_read(key)? {
        None => Ok(Some(StringRef { addr: FarAddr::NULL, len: 0, object: FarAddr::NULL })),
        Some(found) if found.entry.kind().is_string() => Ok(Some(context.keys.string_ref(found)?)),
        Some(_) => Ok(None),
    }
}

fn options(context: &Context, args: &Args) -> Outcome<Options> {
    let mut options = Options::default();
    let mut index = 3;
    while index < args.len() {
        if args.is(index, "IDX") {
            options.idx = true;
        } else if args.is(index, "LEN") {
            options.len = true;
        } else if args.is(index, "WITHMATCHLEN") {
            options.with_match_len = true;
        } else if args.is(index, "MINMATCHLEN") && index + 1 < args.len() {
            options.match_len_min = context.integer(args, index + 1)?.max(0);
            index += 1;
        } else {
            return Err(CommandError::SYNTAX.into());
        }
        index += 1;
    }
    Ok(options)
}

fn reply_matches(context: &mut Context, matches: &[Match], len: u32, options: Options) {
    let shown = || matches.iter().filter(|found| found.len() >= options.match_len_min);
    let reply = &mut context.reply;
    reply.map(2);
    reply.bulk(b"matches");
    reply.array(shown().count());
    for found in shown() {
        reply.array(2 + usize::from(options.with_match_len));
        for (first, last) in [(found.first.0, found.last.0), (found.first.1, found.last.1)] {
            reply.array(2);
            reply.integer(i64::from(first));
            reply.integer(i64::from(last));
        }
        if options.with_match_len {
            reply.integer(found.len());
        }
    }
    reply.bulk(b"len");
    reply.integer(i64::from(len));
}

/// A string in far memory, read a page at a time.
struct Paged {
    addr: FarAddr,
    len: usize,
    /// The part that is here: its first offset, and its bytes.
    start: usize,
    here: Vec<u8>,
}

impl Paged {
    fn new(value: StringRef) -> Paged {
        Paged { addr: value.addr, len: value.len, start: 0, here: Vec::new() }
    }

    fn byte(&mut self, far: &mut Far, index: usize) -> Result<u8, PagerError> {
        if let Some(&byte) = index.checked_sub(self.start).and_then(|at| self.here.get(at)) {
            return Ok(byte);
        }
        let offset = self.addr.plus(index).offset();
        self.start = index.saturating_sub(offset);
        let first = self.addr.plus(self.start);
        let len = (PAGE_SIZE - first.offset()).min(self.len - self.start);
        self.here.clear();
        self.here.extend_from_slice(far.bytes(first, len)?);
        Ok(self.here[index - self.start])
    }
}

/// What is known once all cells were computed.
struct Table {
    long: Paged,
    short: Vec<u8>,
    /// Whether the longer string is that of `key1`.
    long_is_first: bool,
    /// A bit a cell: whether the way back goes to the byte before in the longer string. Empty if no way
    /// back was asked for.
    steps: Vec<u64>,
    /// Bytes of the longest common subsequence.
    len: u32,
}

impl Table {
    /// Computes all cells. Bounds: Redis' limit of 2^27 cells, so that the shorter string has at most 11,585
    /// bytes, two rows 92 KiB, and the bits 16 MiB.
    fn fill(far: &mut Far, a: StringRef, b: StringRef, keep_steps: bool) -> Outcome<Table> {
        let long_is_first = a.len >= b.len;
        let (long, short_ref) = if long_is_first { (a, b) } else { (b, a) };
        let mut short = Vec::new();
        far.copy_out(short_ref.addr, short_ref.len, &mut short)?;
        let cells = if keep_steps { long.len * short.len() } else { 0 };
        let mut table = Table {
            long: Paged::new(long),
            short,
            long_is_first,
            steps: vec![0; cells.div_ceil(64)],
            len: 0,
        };
        let mut row = vec![0u32; table.short.len() + 1];
        for i in 0..long.len {
            let byte = table.long.byte(far, i)?;
            let mut diagonal = 0;
            for (j, &other) in table.short.iter().enumerate() {
                let (left, up) = (row[j], row[j + 1]);
                // Where both ways are as long, Redis goes on in `key2`.
                let goes_up = if long_is_first { up > left } else { up >= left };
                row[j + 1] = if byte == other { diagonal + 1 } else { left.max(up) };
                if keep_steps && goes_up {
                    let cell = i * table.short.len() + j;
                    table.steps[cell / 64] |= 1 << (cell % 64);
                }
                diagonal = up;
            }
        }
        table.len = row.last().copied().unwrap_or(0);
        Ok(table)
    }

    fn goes_up(&self, i: usize, j: usize) -> bool {
        let cell = i * self.short.len() + j;
        self.steps[cell / 64] >> (cell % 64) & 1 == 1
    }

    /// Goes from the last cell to the first: the subsequence, and the runs of equal bytes, last one first.
    fn way_back(&mut self, far: &mut Far) -> Outcome<(Vec<u8>, Vec<Match>)> {
        let mut common = Vec::with_capacity(self.len as usize);
        let mut matches = Vec::new();
        let mut run: Option<Match> = None;
        let (mut i, mut j) = (self.long.len, self.short.len());
        while i > 0 && j > 0 {
            let byte = self.long.byte(far, i - 1)?;
            if byte != self.short[j - 1] {
                if self.goes_up(i - 1, j - 1) {
                    i -= 1
                } else {
                    j -= 1
                }
                matches.extend(run.take());
                continue;
            }
            common.push(byte);
            (i, j) = (i - 1, j - 1);
            let here = if self.long_is_first { (i as u32, j as u32) } else { (j as u32, i as u32) };
            match &mut run {
                Some(run) => run.first = here,
                None => run = Some(Match { first: here, last: here }),
            }
        }
        matches.extend(run);
        common.reverse();
        Ok((common, matches))
    }
}
