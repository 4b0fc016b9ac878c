//! A long string on its way to another extent, some pages at a time.
//!
//! ```text
//!   source   [ copied │ next step │ ...            ] borrowed: as it was when the copy began
//!   target   [ copied │ untouched                  ] which reads as zeros
//! ```
//!
//! Refuses to wait: whoever runs the steps fetches what [`StringCopy::plan`] names in between.

use super::{Encoding, StringRef, allocate_roomy};
use crate::error::Outcome;
use crate::far::Far;
use crate::keyspace::{Found, KeySpace};
use farmem::{FarAddr, PAGE_SIZE, PageSet, PageState};

/// Pages that one step of a long copy reads, and as many that it writes: two stream windows.
const STEP_PAGES_MAX: u32 = 64;

/// Units: bytes, whole pages.
pub fn step_bytes(far: &Far) -> usize {
    STEP_PAGES_MAX.min(far.hold_pages_max()).max(1) as usize * PAGE_SIZE
}

/// A copy of a long string, unfinished.
pub struct StringCopy {
    /// Borrowed.
    source: StringRef,
    /// The extent that becomes the copy.
    target: FarAddr,
    /// Units: bytes.
    done: usize,
}

impl StringCopy {
    /// Begins to copy a large string into a fresh extent: nothing is read yet.
    pub fn begin(far: &mut Far, source: StringRef, target: FarAddr) -> StringCopy {
        far.borrow_object(source.object);
        StringCopy { source, target, done: 0 }
    }

    /// Length of the string. Units: bytes.
    pub fn total(&self) -> usize {
        self.source.len
    }

    /// Whether all of it is copied.
    pub fn is_done(&self) -> bool {
        self.done == self.source.len
    }

    /// Whether this is what is copied, as it was when the copy began: nobody changes it in place while it is borrowed.
    pub fn is_of(&self, value: StringRef) -> bool {
        self.source == value
    }

    fn next_step(&self, far: &Far) -> usize {
        (self.source.len - self.done).min(step_bytes(far))
    }

    /// Names the pages of the next step; returns how many bytes it writes to fresh pages.
    pub fn plan(&self, far: &Far, pages: &mut PageSet) -> usize {
        let here = self.next_step(far);
        pages.push_bytes(self.source.addr.plus(self.done), here);
        here
    }

    /// Copies what [`StringCopy::plan`] has named, but for what was never written to.
    /// # Errors
    /// Far memory is full or lost; the copy is then to be ended.
    pub fn step(&mut self, far: &mut Far) -> Outcome {
        let end = self.done + self.next_step(far);
        while self.done < end {
            let (from, to) = (self.source.addr.plus(self.done), self.target.plus(self.done));
            let here = (end - self.done).min(PAGE_SIZE);
            if far.pager.state(from.page()) != PageState::Untouched {
                far.copy_within(from, to, here)?;
            }
            self.done += here;
        }
        Ok(())
    }

    /// Gives the string back. Answers the copy, which is the caller's now.
    pub fn finish(self, far: &mut Far) -> FarAddr {
        far.return_object(self.source.object);
        self.target
    }

    /// Gives up.
    pub fn end(self, far: &mut Far) {
        far.return_object(self.source.object);
        far.free(self.target);
    }
}

impl KeySpace {
    /// Whether a write of `len` bytes at `offset` would have to copy all of a string that is too long to be copied at
    /// once.
    pub fn is_long_move(&self, found: Found, value: StringRef, offset: usize, len: usize) -> bool {
        let extent = self.far.pages_of(found.entry.addr());
        extent.count > self.far.hold_pages_max() && self.has_to_move(found.entry, value.len.max(offset + len))
    }

    /// Begins to move a long string to an extent with room for `len` bytes, and some to spare.
    /// # Errors
    /// Far memory is full.
    pub fn begin_move(&mut self, found: Found, value: StringRef, len: usize) -> Outcome<StringCopy> {
        let owner = self.far.owner(found.entry.addr());
        let target = allocate_roomy(&mut self.far, owner, len.max(value.len))?;
        Ok(StringCopy::begin(&mut self.far, value, target))
    }

    /// Puts a finished copy in the place of the string that it [`is_of`](StringCopy::is_of).
    /// # Errors
    /// The key's page is lost; the copy is then freed.
    pub fn finish_move(&mut self, db: usize, found: Found, copy: StringCopy) -> Outcome {
        let len = copy.total();
        let target = copy.finish(&mut self.far);
        // The string may have got another key meanwhile, and this one again.
        let owner = self.far.owner(found.entry.addr());
        self.far.heap.set_owner(target.page(), owner.0 / 8);
        self.swap_extent(db, found, target, len, Encoding::of(found.entry))?;
        Ok(())
    }
}
