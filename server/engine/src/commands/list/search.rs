//! LPOS: where an element is; and what goes on from step to step when a long list is searched.
//!
//! ```text
//!   plan ─► candidates few ──► all of them planned ──────────────► execute: at once
//!      └──► many ────────────► execute: begin ─► plan ─► step ─► ... ─► over: the answer
//! ```
//!
//! A long search sees the list as it was when it began. Who searches in order to change begins anew if the
//! list has changed meanwhile, and after [`TRIES_MAX`] searches keeps everybody waiting.

use super::{bounded, directory_of, find, find_read};
use crate::args::Args;
use crate::commands::walk::{TRIES_MAX, Walk};
use crate::commands::{Context, Plan};
use crate::error::{CommandError, Outcome};
use crate::far::Far;
use crate::number;
use crate::value::list::chunk::Chunk;
use crate::value::list::directory::Place;
use crate::value::list::search::{Finding, ListSearch, Match, Wanted};
use crate::value::list::{Removal, Shape, Side, Target, wire};
use crate::value::string::Source;
use alloc::boxed::Box;
use alloc::vec::Vec;

/// A command's search through a long list.
pub struct SearchWalk {
    search: ListSearch,
    /// Searches before this one.
    tries: u32,
    aim: Aim,
}

/// What a search is for.
pub enum Aim {
    Positions(Positions),
    /// The first match, in order to insert there.
    Insert(Option<Hit>),
    Remove(Removal),
}

/// An element that was found, its chunk, and the place of that unless the list is small.
pub type Hit = (Chunk, Option<Place>, Match);

impl Aim {
    /// Takes what counts of a finding. Says whether that is enough.
    pub fn see(&mut self, far: &mut Far, finding: Finding) -> Outcome<bool> {
        match self {
            Aim::Positions(positions) => Ok(positions.see(finding)),
            Aim::Insert(hit) => {
                *hit = finding.matches.first().map(|&first| (finding.at.chunk, finding.at.place, first));
                Ok(hit.is_some())
            }
            Aim::Remove(removal) => removal.see(far, finding),
        }
    }

    /// Whether there is something to change.
    fn changes(&self) -> bool {
        match self {
            Aim::Positions(_) | Aim::Insert(None) => false,
            Aim::Insert(Some(_)) => true,
            Aim::Remove(removal) => removal.removed() > 0,
        }
    }

    fn end(self, far: &mut Far) {
        if let Aim::Remove(removal) = self {
            removal.end(far);
        }
    }
}

impl SearchWalk {
    /// Gives up.
    pub fn end(self, far: &mut Far) {
        self.search.end(far);
        self.aim.end(far);
    }

    /// Gives the list back. Answers what was found, and the version of the list that was searched.
    fn finish(self, far: &mut Far) -> (Aim, u64) {
        let version = self.search.version();
        self.search.end(far);
        (self.aim, version)
    }

    /// Near memory that this takes. Units: bytes.
    pub fn near_bytes(&self) -> usize {
        let aim = match &self.aim {
            Aim::Positions(positions) => positions.found.capacity() * size_of::<u64>(),
            Aim::Insert(_) => 0,
            Aim::Remove(removal) => removal.near_bytes(),
        };
        self.search.near_bytes() + aim
    }
}

/// Plans a search, or its next step.
pub(super) fn plan_search(plan: &mut Plan, key: &[u8], needle: Source, wanted: Wanted) {
    let entry = plan.key(key);
    let pages_max = plan.hold_pages_max();
    if let Some(Walk::Search(walk)) = plan.walk {
        walk.search.plan(needle, pages_max, plan.pages);
    } else if let Some(id) = directory_of(entry)
        && plan.keys.lists.is_short_search(id, wanted, pages_max)
    {
        plan.keys.lists.plan_short_search(id, wanted, plan.pages);
        if let Source::Spooled(spooled) = needle {
            plan.pages.push_bytes(spooled.addr, spooled.len);
        }
    }
}

/// Searches a list at once, or begins to: then the command goes on in steps and `None` is answered.
fn search(
    context: &mut Context,
    shape: Shape,
    wanted: Wanted,
    needle: Source,
    mut aim: Aim,
    tries: u32,
) -> Outcome<Option<Aim>> {
    let pages_max = context.keys.far.hold_pages_max();
    if let Shape::Large(id) = shape
        && tries < TRIES_MAX
        && (tries > 0 || !context.keys.lists.is_short_search(id, wanted, pages_max))
    {
        let search = ListSearch::begin(context.keys, id, wanted);
        context.client.walk = Some(Box::new(Walk::Search(Box::new(SearchWalk { search, tries, aim }))));
        return Ok(None);
    }
    let searched = context.keys.search_list(shape, wanted, needle, |far, finding| aim.see(far, finding));
    if let Err(failure) = searched {
        aim.end(&mut context.keys.far);
        return Err(failure);
    }
    Ok(Some(aim))
}

/// One step of the client's search. Answers the search when it is over; until then it stays the client's.
fn search_on(context: &mut Context, needle: Source) -> Outcome<Option<Box<SearchWalk>>> {
    let Some(Walk::Search(mut walk)) = context.client.walk.take().map(|walk| *walk) else {
        unreachable!("a client's walk is its current command's")
    };
    let SearchWalk { search, aim, .. } = &mut *walk;
    let far = &mut context.keys.far;
    let pages_max = far.hold_pages_max();
    match search.step(far, needle, pages_max, |far, finding| aim.see(far, finding)) {
        Ok(true) => Ok(Some(walk)),
        Ok(false) => {
            context.client.walk = Some(Box::new(Walk::Search(walk)));
            Ok(None)
        }
        Err(failure) => {
            walk.end(far);
            Err(failure)
        }
    }
}

/// How far a search is whose command changes the list.
pub(super) enum Sought<'a> {
    NoList,
    /// The command goes on in steps.
    Unfinished,
    /// The list as it was searched.
    Over(Target<'a>, Aim),
}

/// Searches a list in order to change it, at once or step by step.
pub(super) fn search_to_change<'a>(
    context: &mut Context,
    key: &'a [u8],
    wanted: Wanted,
    needle: Source,
    aim: Aim,
) -> Outcome<Sought<'a>> {
    let mut searched = None;
    if context.client.walk.is_some() {
        searched = search_on(context, needle)?;
        if searched.is_none() {
            return Ok(Sought::Unfinished);
        }
    }
    let found = find(context, key);
    let mut tries = 0;
    if let Some(walk) = searched {
        tries = walk.tries + 1;
        let (aim, version) = walk.finish(&mut context.keys.far);
        let is_same = |shape| matches!(shape, Shape::Large(id) if context.keys.lists.version(id) == version);
        match found {
            Ok(Some(target)) if is_same(target.shape) || !aim.changes() => {
                return Ok(Sought::Over(target, aim));
            }
            _ => aim.end(&mut context.keys.far),
        }
    }
    let Some(target) = found? else { return Ok(Sought::NoList) };
    let aim = search(context, target.shape, wanted, needle, aim, tries)?;
    Ok(aim.map_or(Sought::Unfinished, |aim| Sought::Over(target, aim)))
}

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
fn options(args: &Args) -> Outcome<Options> {
    let (mut rank, mut count, mut compare_max) = (1, None, 0);
    let mut index = 3;
    while index < args.len() {
        if index + 1 == args.len() {
            return Err(CommandError::SYNTAX.into());
        }
        if args.is(index, "RANK") {
            rank = number::parse_i64(args.get(index + 1)).ok_or(CommandError::NOT_AN_INTEGER)?;
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

/// The indexes that LPOS answers, in the order in which the search meets them.
pub struct Positions {
    side: Side,
    /// Matches still to be passed over.
    skip: u64,
    /// How many to answer.
    wanted: usize,
    compare_max: u64,
    /// The list's length.
    len: u64,
    found: Vec<u64>,
}

impl Positions {
    fn new(options: &Options, len: u64) -> Positions {
        let wanted = match options.count {
            None => 1,
            Some(0) => usize::MAX,
            Some(count) => usize::try_from(count).unwrap_or(usize::MAX),
        };
        let &Options { side, skip, compare_max, .. } = options;
        Positions { side, skip, wanted, compare_max, len, found: Vec::new() }
    }

    /// Takes the matches that count. Says whether those are enough.
    fn see(&mut self, finding: Finding) -> bool {
        let Finding { at, matches, .. } = finding;
        if self.side == Side::Tail {
            matches.reverse();
        }
        for hit in matches {
            let within = match self.side {
                Side::Head => hit.index,
                Side::Tail => at.chunk.count - 1 - hit.index,
            };
            let from_end = at.before + u64::from(within);
            if from_end >= self.compare_max {
                return true;
            }
            if self.skip > 0 {
                self.skip -= 1;
                continue;
            }
            self.found.push(if self.side == Side::Head { from_end } else { self.len - 1 - from_end });
            if self.found.len() == self.wanted {
                return true;
            }
        }
        false
    }
}

fn wanted(args: &Args, options: &Options) -> Wanted {
    let wire_len = wire::wire_len(args.get(2).len());
    Wanted { side: options.side, wire_len, elements_max: options.compare_max }
}

/// `LPOS key element [RANK rank] [COUNT num-matches] [MAXLEN len]`: indexes count from the head, whichever
/// end the search begins at.
pub fn plan_lpos(plan: &mut Plan, args: &Args) {
    if let Ok(options) = options(args) {
        plan_search(plan, args.get(1), Source::Near(args.get(2)), wanted(args, &options));
    }
}

/// See [`plan_lpos`].
pub fn lpos(context: &mut Context, args: &Args) -> Outcome {
    let options = options(args)?;
    let needle = Source::Near(args.get(2));
    let aim = if context.client.walk.is_some() {
        let Some(walk) = search_on(context, needle)? else { return Ok(()) };
        walk.finish(&mut context.keys.far).0
    } else if let Some(target) = find_read(context, args.get(1))? {
        let aim = Aim::Positions(Positions::new(&options, context.keys.shape_len(target.shape)));
        let Some(aim) = search(context, target.shape, wanted(args, &options), needle, aim, 0)? else {
            return Ok(());
        };
        aim
    } else {
        Aim::Positions(Positions::new(&options, 0))
    };
    let Aim::Positions(Positions { found, .. }) = aim else { unreachable!("LPOS asks for positions") };
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
