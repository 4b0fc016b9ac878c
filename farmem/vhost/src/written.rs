//! Which pages of the disk were ever written: what was not reads as zeros, and far memory is not asked for it.
//!
//! Refuses to survive: a disk is empty when its backend starts, whatever far memory holds.

use farmem::PageNo;

/// A bit a page.
pub struct Written(Vec<u64>);

impl Written {
    /// A disk of so many pages, none of them written.
    pub fn none_of(pages: u32) -> Written {
        Written(vec![0; (pages as usize).div_ceil(64)])
    }

    /// Whether the page was written, and not given up since.
    pub fn has(&self, page: PageNo) -> bool {
        self.0[page.0 as usize / 64] >> (page.0 % 64) & 1 == 1
    }

    /// Notes that it is written.
    pub fn set(&mut self, page: PageNo) {
        self.0[page.0 as usize / 64] |= 1 << (page.0 % 64);
    }

    /// Gives up a run of pages; calls `each` with every run of them that was written.
    pub fn give_up(&mut self, first: u32, count: u32, mut each: impl FnMut(PageNo, u32)) {
        let (mut at, end) = (first, first.saturating_add(count));
        let mut run = 0;
        while at < end {
            let word = at as usize / 64;
            if at % 64 == 0 && end - at >= 64 && self.0[word] == 0 && run == 0 {
                at += 64;
                continue;
            }
            if self.has(PageNo(at)) {
                self.0[word] &= !(1 << (at % 64));
                run += 1;
            } else if run > 0 {
                each(PageNo(at - run), run);
                run = 0;
            }
            at += 1;
        }
        if run > 0 {
            each(PageNo(end - run), run);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_given_up_comes_as_runs_and_is_gone() {
        let mut written = Written::none_of(1000);
        let pages = [0, 1, 63, 64, 65, 300, 998, 999];
        pages.iter().for_each(|&page| written.set(PageNo(page)));
        let mut runs = Vec::new();
        written.give_up(1, 998, |first, count| runs.push((first.0, count)));
        assert_eq!(runs, [(1, 1), (63, 3), (300, 1), (998, 1)]);
        let left: Vec<u32> = (0..1000).filter(|&page| written.has(PageNo(page))).collect();
        assert_eq!(left, [0, 999]);
        written.give_up(999, 1, |first, count| assert_eq!((first.0, count), (999, 1)));
        assert!(!written.has(PageNo(999)));
    }
}
