//! Translations that the processor may still remember and must not use again.
//!
//! Gathers them, so that they are forgotten together: one by one while they are few, all at once beyond
//! that. Refuses to know why a page was unmapped.

use super::tables::virtual_address;
use farmem::PageNo;
use x86_64::instructions::tlb;

/// Pages forgotten one by one; more, and it is cheaper to forget everything.
/// Source: Linux' `tlb_single_page_flush_ceiling`, 33.
const PAGES_MAX: usize = 32;

/// What is to be forgotten before the next touch.
pub struct Stale {
    pages: [PageNo; PAGES_MAX],
    count: usize,
}

impl Stale {
    pub const NONE: Stale = Stale { pages: [PageNo(0); PAGES_MAX], count: 0 };

    /// Whether there is nothing to forget.
    #[inline]
    pub fn is_none(&self) -> bool {
        self.count == 0
    }

    /// Adds a page.
    #[inline]
    pub fn push(&mut self, page: PageNo) {
        if let Some(slot) = self.pages.get_mut(self.count) {
            *slot = page;
            self.count += 1;
        } else {
            self.push_all();
        }
    }

    /// Adds everything.
    pub fn push_all(&mut self) {
        self.count = PAGES_MAX + 1;
    }

    /// Forgets.
    #[inline]
    pub fn flush(&mut self) {
        if !self.is_none() {
            self.forget();
        }
    }

    fn forget(&mut self) {
        match self.pages.get(..self.count) {
            Some(pages) => pages.iter().for_each(|&page| tlb::flush(virtual_address(page))),
            None => tlb::flush_all(),
        }
        self.count = 0;
    }
}
