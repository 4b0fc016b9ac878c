//! Which pages of a memory hold anything, so that reading the others costs the host nothing.
//!
//! Reading a page that nobody has written would make the kernel allocate it. Refuses to be exact while a page is
//! written and trimmed at once: then a page may count as untouched, read as zeros and still be held until its next trim.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

/// The unit of the map, and of what is given back to the host. Units: bytes.
pub(crate) const PAGE_BYTES: u64 = 4096;

/// One bit a page: 32 KiB a GiB.
pub(crate) struct Touched {
    words: Vec<AtomicU64>,
}

impl Touched {
    /// Nothing of `len` bytes is touched.
    pub fn new(len: u64) -> Touched {
        let words = len.div_ceil(PAGE_BYTES).div_ceil(64);
        Touched { words: (0..words).map(|_| AtomicU64::new(0)).collect() }
    }

    /// Every page under these bytes holds something. Call it when the bytes are there: so a discard that
    /// comes in between finds the page set again, never the other way round.
    #[inline]
    pub fn set(&self, bytes: Range<u64>) {
        for page in bytes.start / PAGE_BYTES..bytes.end.div_ceil(PAGE_BYTES) {
            let (word, bit) = self.at(page);
            if word.load(Ordering::Relaxed) & bit == 0 {
                word.fetch_or(bit, Ordering::Release);
            }
        }
    }

    /// No page of these whole pages holds anything. Call it before they are given back.
    pub fn clear(&self, bytes: Range<u64>) {
        for page in bytes.start / PAGE_BYTES..bytes.end / PAGE_BYTES {
            let (word, bit) = self.at(page);
            word.fetch_and(!bit, Ordering::Release);
        }
    }

    /// The bytes from `bytes.start` on that are alike: how far they go, and whether they are touched.
    #[inline]
    pub fn run(&self, bytes: Range<u64>) -> (u64, bool) {
        let mut page = bytes.start / PAGE_BYTES;
        let touched = self.get(page);
        let end = bytes.end.div_ceil(PAGE_BYTES);
        while page < end && self.get(page) == touched {
            page += 1;
        }
        ((page * PAGE_BYTES).min(bytes.end), touched)
    }

    #[inline]
    fn get(&self, page: u64) -> bool {
        let (word, bit) = self.at(page);
        word.load(Ordering::Acquire) & bit != 0
    }

    #[inline]
    fn at(&self, page: u64) -> (&AtomicU64, u64) {
        (&self.words[(page / 64) as usize], 1 << (page % 64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_end_where_touched_pages_begin_and_end() {
        let touched = Touched::new(100 * PAGE_BYTES + 1);
        touched.set(70 * PAGE_BYTES + 5..72 * PAGE_BYTES);
        let all = 100 * PAGE_BYTES + 1;
        assert_eq!(touched.run(10..all), (70 * PAGE_BYTES, false));
        assert_eq!(touched.run(70 * PAGE_BYTES..all), (72 * PAGE_BYTES, true));
        assert_eq!(touched.run(70 * PAGE_BYTES..71 * PAGE_BYTES + 9), (71 * PAGE_BYTES + 9, true));
        assert_eq!(touched.run(72 * PAGE_BYTES..all), (all, false));
        touched.clear(71 * PAGE_BYTES..72 * PAGE_BYTES);
        assert_eq!(touched.run(70 * PAGE_BYTES..all), (71 * PAGE_BYTES, true));
    }
}
