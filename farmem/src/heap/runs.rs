//! The longest free run of each region, and the lowest region with a run that is long enough.
//!
//! A tree of maxima over the regions: leaf `i` is an upper bound on the longest run of region `i`, an
//! inner node the greater of its two children, so that a search goes down one path.
//!
//! ```text
//!            [1] 40
//!        ┌─────┴─────┐
//!      [2] 7       [3] 40        first_with(9): 40, 40, 9 -> region 2
//!     ┌──┴──┐     ┌──┴──┐
//!   [4] 7 [5] 0 [6] 9 [7] 40
//! ```

use alloc::vec::Vec;

/// Bounds on the longest free run of each region; zero for regions that were never set.
#[derive(Default)]
pub(super) struct LongestRuns {
    /// Twice as many as there are leaves, a power of two; node 0 is unused.
    nodes: Vec<u16>,
}

impl LongestRuns {
    fn leaves(&self) -> usize {
        self.nodes.len() / 2
    }

    /// The bound for `region`.
    pub(super) fn get(&self, region: usize) -> u32 {
        if region < self.leaves() { u32::from(self.nodes[self.leaves() + region]) } else { 0 }
    }

    /// Sets the bound for `region`. Bounds: `pages` at most 4096.
    pub(super) fn set(&mut self, region: usize, pages: u32) {
        if region >= self.leaves() {
            if pages == 0 {
                return;
            }
            self.grow(region + 1);
        }
        let mut node = self.leaves() + region;
        let mut longest = pages as u16;
        while self.nodes[node] != longest {
            self.nodes[node] = longest;
            if node == 1 {
                break;
            }
            longest = longest.max(self.nodes[node ^ 1]);
            node /= 2;
        }
    }

    /// The lowest region whose bound is at least `pages`. Bounds: `pages` at least 1.
    pub(super) fn first_with(&self, pages: u32) -> Option<usize> {
        let fits = |node: usize| u32::from(self.nodes[node]) >= pages;
        if self.nodes.is_empty() || !fits(1) {
            return None;
        }
        let mut node = 1;
        while node < self.leaves() {
            node *= 2;
            if !fits(node) {
                node += 1;
            }
        }
        Some(node - self.leaves())
    }

    /// Units: bytes of near memory.
    pub(super) fn near_bytes(&self) -> usize {
        self.nodes.capacity() * size_of::<u16>()
    }

    #[cold]
    fn grow(&mut self, regions: usize) {
        let leaves = regions.next_power_of_two();
        let mut nodes = Vec::with_capacity(2 * leaves);
        nodes.resize(leaves, 0);
        nodes.extend_from_slice(&self.nodes[self.leaves()..]);
        nodes.resize(2 * leaves, 0);
        for node in (1..leaves).rev() {
            nodes[node] = nodes[2 * node].max(nodes[2 * node + 1]);
        }
        self.nodes = nodes;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lowest_region_that_may_fit_is_found_while_bounds_change() {
        let mut runs = LongestRuns::default();
        assert_eq!(runs.first_with(1), None);
        let mut model = [0; 70];
        let mut state = 1u32;
        for _ in 0..5000 {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let (region, pages) = ((state >> 8) as usize % model.len(), (state >> 16) % 4097);
            model[region] = pages;
            runs.set(region, pages);
            assert_eq!(runs.get(region), pages);
            for wanted in [1, 100, 4000, 4096] {
                assert_eq!(runs.first_with(wanted), model.iter().position(|&run| run >= wanted));
            }
        }
    }
}
