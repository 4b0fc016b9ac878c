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
//! Refuses to hold the longer string in near memory: it is read part by part, forth and back, and if it is too long to be
//! had at once others are served in between.

use super::super::{Context, Plan};
use crate::args::Args;
use crate::commands::walk::Walk;
use crate::error::{CommandError, Outcome};
use crate::far::Far;
use crate::keyspace::index::Kind;
use crate::value::string::StringRef;
use crate::value::string::copying::step_bytes;
use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;
use farmem::{FarAddr, PageSet};

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
    if let Some(Walk::Lcs(walk)) = plan.walk {
        return walk.plan(&plan.keys.far, plan.pages);
    }
    for index in [1, 2] {
        if let Some(entry) = plan.key(args.get(index))
            && entry.kind() == Kind::LargeString
        {
            let pages = plan.keys.far.pages_of(entry.addr());
            if pages.count <= plan.hold_pages_max() {
                plan.pages.push(pages);
            }
        }
    }
}

/// See [`plan_lcs`].
pub fn lcs(context: &mut Context, args: &Args) -> Outcome {
    let (options, mut walk) = match context.client.walk.take().map(|walk| *walk) {
        Some(Walk::Lcs(walk)) => (options(context, args)?, walk),
        Some(_) => unreachable!("a client's walk is its current command's"),
        None => {
            let (options, walk) = begin(context, args)?;
            if walk.is_borrowed {
                context.client.walk = Some(Box::new(Walk::Lcs(walk)));
                return Ok(());
            }
            (options, walk)
        }
    };
    let far = &mut context.keys.far;
    loop {
        match walk.step(far) {
            Ok(true) => break,
            Ok(false) if walk.is_borrowed => {
                context.client.walk = Some(Box::new(Walk::Lcs(walk)));
                return Ok(());
            }
            Ok(false) => {}
            Err(failure) => {
                walk.end(far);
                return Err(failure);
            }
        }
    }
    let found = walk.finish(far);
    if options.idx {
        reply_matches(context, &found.matches, found.len, options);
    } else if options.len {
        context.reply.integer(i64::from(found.len));
    } else {
        context.reply.bulk(&found.common);
    }
    Ok(())
}

/// Checks everything and reads the shorter string.
fn begin(context: &mut Context, args: &Args) -> Outcome<(Options, Box<LcsWalk>)> {
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
    let walk = LcsWalk::begin(&mut context.keys.far, a, b, !options.len || options.idx)?;
    Ok((options, Box::new(walk)))
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

/// What LCS answers of.
#[derive(Default)]
struct Common {
    /// Bytes of the longest common subsequence.
    len: u32,
    /// The subsequence itself, from its end on until it is finished.
    common: Vec<u8>,
    /// The runs of equal bytes, last one first.
    matches: Vec<Match>,
}

/// A comparison on its way: forth through the longer string, and back if more than the length is asked for.
pub struct LcsWalk {
    long: StringRef,
    /// Whether `long` is so long that others are served in between; it stays as it is for that.
    is_borrowed: bool,
    short: Vec<u8>,
    /// Whether the longer string is that of `key1`.
    long_is_first: bool,
    /// Lengths of the last row.
    row: Vec<u32>,
    /// A bit a cell: whether the way back goes to the byte before in the longer string. Empty if no way
    /// back was asked for.
    steps: Vec<u64>,
    is_forth: bool,
    /// Bytes of the longer string in front of the row that comes next, or of the cell on the way back.
    i: usize,
    /// Bytes of the shorter string in front of the cell on the way back.
    j: usize,
    /// The run that the way back is in.
    run: Option<Match>,
    found: Common,
}

impl LcsWalk {
    /// Reads the shorter string. Bounds: Redis' limit of 2^27 cells, so that it has at most 11,585 bytes, two rows
    /// 92 KiB, and the bits 16 MiB.
    fn begin(far: &mut Far, a: StringRef, b: StringRef, goes_back: bool) -> Outcome<LcsWalk> {
        let long_is_first = a.len >= b.len;
        let (long, short_ref) = if long_is_first { (a, b) } else { (b, a) };
        let mut short = Vec::new();
        far.copy_out(short_ref.addr, short_ref.len, &mut short)?;
        let cells = if goes_back { long.len * short.len() } else { 0 };
        let is_borrowed = long.len > 0 && far.pages_of(long.object).count > far.hold_pages_max();
        if is_borrowed {
            far.borrow_object(long.object);
        }
        Ok(LcsWalk {
            long,
            is_borrowed,
            row: vec![0; short.len() + 1],
            short,
            long_is_first,
            steps: vec![0; cells.div_ceil(64)],
            is_forth: true,
            i: 0,
            j: 0,
            run: None,
            found: Common::default(),
        })
    }

    /// The bytes of the longer string that the next step reads: from where, and how many.
    fn next_part(&self, far: &Far) -> (usize, usize) {
        let bytes = step_bytes(far);
        if self.is_forth {
            return (self.i, (self.long.len - self.i).min(bytes));
        }
        let first = self.i.saturating_sub(bytes);
        (first, self.i - first)
    }

    fn plan(&self, far: &Far, pages: &mut PageSet) {
        let (first, len) = self.next_part(far);
        pages.push_bytes(self.long.addr.plus(first), len);
    }

    /// Goes on through one part. Says whether that was the last one.
    fn step(&mut self, far: &mut Far) -> Outcome<bool> {
        let (first, len) = self.next_part(far);
        let mut part = Vec::with_capacity(len);
        far.copy_out(self.long.addr.plus(first), len, &mut part)?;
        if !self.is_forth {
            self.go_back(&part, first);
            return Ok(self.i == 0 || self.j == 0);
        }
        part.into_iter().for_each(|byte| self.fill_row(byte));
        if self.i < self.long.len {
            return Ok(false);
        }
        self.found.len = self.row.last().copied().unwrap_or(0);
        (self.is_forth, self.j) = (false, self.short.len());
        // Where nothing is in common there is nothing to look for.
        Ok(self.steps.is_empty() || self.found.len == 0)
    }

    /// Computes the cells of the longer string's next byte.
    fn fill_row(&mut self, byte: u8) {
        let mut diagonal = 0;
        for (j, &other) in self.short.iter().enumerate() {
            let (left, up) = (self.row[j], self.row[j + 1]);
            // Where both ways are as long, Redis goes on in `key2`.
            let goes_up = if self.long_is_first { up > left } else { up >= left };
            self.row[j + 1] = if byte == other { diagonal + 1 } else { left.max(up) };
            if goes_up && !self.steps.is_empty() {
                let cell = self.i * self.short.len() + j;
                self.steps[cell / 64] |= 1 << (cell % 64);
            }
            diagonal = up;
        }
        self.i += 1;
    }

    fn goes_up(&self, i: usize, j: usize) -> bool {
        let cell = i * self.short.len() + j;
        self.steps[cell / 64] >> (cell % 64) & 1 == 1
    }

    /// Goes from the last cell towards the first, through the part of the longer string that begins at `first`.
    fn go_back(&mut self, part: &[u8], first: usize) {
        while self.i > first && self.j > 0 {
            let byte = part[self.i - 1 - first];
            if byte != self.short[self.j - 1] {
                if self.goes_up(self.i - 1, self.j - 1) {
                    self.i -= 1
                } else {
                    self.j -= 1
                }
                self.found.matches.extend(self.run.take());
                continue;
            }
            self.found.common.push(byte);
            (self.i, self.j) = (self.i - 1, self.j - 1);
            let (i, j) = (self.i as u32, self.j as u32);
            let here = if self.long_is_first { (i, j) } else { (j, i) };
            match &mut self.run {
                Some(run) => run.first = here,
                None => self.run = Some(Match { first: here, last: here }),
            }
        }
    }

    fn finish(mut self, far: &mut Far) -> Common {
        let mut found = core::mem::take(&mut self.found);
        found.matches.extend(self.run.take());
        found.common.reverse();
        self.end(far);
        found
    }

    /// Gives the longer string back.
    pub fn end(self, far: &mut Far) {
        if self.is_borrowed {
            far.return_object(self.long.object);
        }
    }

    /// Near memory that this takes. Units: bytes.
    pub fn near_bytes(&self) -> usize {
        let Common { common, matches, .. } = &self.found;
        self.short.capacity()
            + self.row.capacity() * size_of::<u32>()
            + self.steps.capacity() * size_of::<u64>()
            + common.capacity()
            + matches.capacity() * size_of::<Match>()
    }
}
