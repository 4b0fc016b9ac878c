//! A command over more pages than it can have at once goes step by step.
//!
//! ```text
//!   plan ─► acquire ─► execute ──► walk unfinished: plan the next step (it may park there)
//!     ▲                   │                              │
//!     └───────────────────┼──────────────────────────────┘
//!                         └──► walk finished: the reply is there
//! ```
//!
//! While the pages of the next step are here nobody comes in between: with everything local the command is
//! as atomic as in Redis. Refuses to hold more near memory than [`GATHERED_MAX`] for a reply that it gathers:
//! the rest waits in far memory.

use super::Context;
use super::list::SearchWalk;
use super::string::LcsWalk;
use crate::error::Outcome;
use crate::far::Far;
use crate::reply::Output;
use crate::spool;
use crate::stream::Stream;
use crate::value::list::copying::ListCopy;
use crate::value::string::copying::StringCopy;
use alloc::boxed::Box;
use farmem::PAGE_SIZE;

/// Near bytes of a gathered reply; above that it goes to far memory. Units: bytes.
pub const GATHERED_MAX: usize = 256 * 1024;

/// Frames that [`Gathered::spill`] takes at most: what one step gathers may come on top of `GATHERED_MAX`.
pub const SPILL_FRESH: u32 = (2 * GATHERED_MAX / PAGE_SIZE) as u32 + 2;

/// Walks of one command that may have been in vain, because somebody else has changed what they went over.
/// After so many everybody waits for the next one.
pub const TRIES_MAX: u32 = 3;

/// What a client's unfinished command has done so far.
pub enum Walk {
    /// KEYS: the keys that matched, up to `cursor` in hash order.
    Keys { cursor: u64, gathered: Gathered },
    /// COPY of a large string.
    Copy(Box<CopyWalk>),
    /// COPY of a long list.
    CopyList(Box<CopyListWalk>),
    /// APPEND, SETRANGE or SETBIT of a long string that has to move first.
    Move(MoveWalk),
    /// LCS with a long string.
    Lcs(Box<LcsWalk>),
    /// LPOS, LINSERT or LREM in a long list.
    Search(Box<SearchWalk>),
}

/// A string's copy on its way.
pub struct CopyWalk {
    pub copy: StringCopy,
    pub aux: u16,
    /// When the copy expires. Units: milliseconds since 1970.
    pub at_ms: Option<u64>,
}

/// A string on its way to where it has room for what a command will write.
pub struct MoveWalk {
    /// `None` once it is there: then the command runs.
    pub copy: Option<StringCopy>,
    /// Moves before this one.
    pub tries: u32,
}

/// A list's copy on its way.
pub struct CopyListWalk {
    /// The elements so far, and those to come.
    pub list: ListCopy,
    pub aux: u16,
    /// When the copy expires. Units: milliseconds since 1970.
    pub at_ms: Option<u64>,
}

/// An array in the making whose length is not known yet.
#[derive(Default)]
pub struct Gathered {
    pub count: usize,
    /// What went to far memory, and stands in front of `tail`.
    spilled: Stream,
    tail: Output,
}

impl Gathered {
    /// Runs `add` with a context whose reply is what is gathered; it answers how many elements it added.
    pub fn add(
        &mut self,
        context: &mut Context,
        add: impl FnOnce(&mut Context) -> Outcome<usize>,
    ) -> Outcome {
        core::mem::swap(context.reply.output, &mut self.tail);
        let added = add(context);
        core::mem::swap(context.reply.output, &mut self.tail);
        self.count += added?;
        Ok(())
    }

    /// Keeps near memory low: to be called between steps.
    /// # Errors
    /// Far memory is full.
    pub fn spill(&mut self, far: &mut Far) -> Outcome {
        if self.tail.ready_bytes() > GATHERED_MAX && !self.tail.has_stream() {
            let ready = self.tail.take_ready(&mut *far.pager);
            self.spilled.push(spool::spill(far, &ready)?);
        }
        Ok(())
    }

    /// Appends the array to the client's output.
    pub fn reply(self, context: &mut Context) {
        context.reply.array(self.count);
        if !self.spilled.is_empty() {
            context.reply.output.push_stream(self.spilled);
        }
        context.reply.output.append(self.tail);
    }

    fn end(mut self, far: &mut Far) {
        self.spilled.end(far);
        let mut streams = alloc::vec::Vec::new();
        self.tail.abandon(&mut *far.pager, |stream| streams.push(stream));
        streams.into_iter().for_each(|stream| stream.end(far));
    }

    /// Gives up what `result` has left behind if it is an error.
    pub fn or_end(self, far: &mut Far, result: Outcome) -> Outcome<Gathered> {
        match result {
            Ok(()) => Ok(self),
            Err(failure) => {
                self.end(far);
                Err(failure)
            }
        }
    }
}

impl Walk {
    /// Near memory that this takes. Units: bytes.
    pub fn near_bytes(&self) -> usize {
        match self {
            Walk::Keys { gathered, .. } => gathered.spilled.near_bytes() + gathered.tail.near_bytes(),
            Walk::Copy(_) => size_of::<CopyWalk>(),
            Walk::Move(_) => 0,
            Walk::Lcs(walk) => size_of::<LcsWalk>() + walk.near_bytes(),
            Walk::CopyList(copy) => size_of::<CopyListWalk>() + copy.list.near_bytes(),
            Walk::Search(search) => size_of::<SearchWalk>() + search.near_bytes(),
        }
    }

    /// Gives up a walk whose client is gone or whose command has failed.
    pub fn end(self, far: &mut Far) {
        match self {
            Walk::Keys { gathered, .. } => gathered.end(far),
            Walk::Copy(walk) => walk.copy.end(far),
            Walk::Move(walk) => walk.copy.into_iter().for_each(|copy| copy.end(far)),
            Walk::CopyList(copy) => copy.list.end(far),
            Walk::Lcs(walk) => walk.end(far),
            Walk::Search(search) => search.end(far),
        }
    }
}
