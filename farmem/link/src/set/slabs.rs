//! Where each far page is, and which of its copies can be trusted.
//!
//! ```text
//!   far page ─/ 4096─► slab ─┬─ copies 0, 1    (member, slab of that member)   the one or two that are wanted
//!                            ├─ copy 2         incoming: what will take the place of one of them
//!                            └─ marks          a page has five bits: written, held by copy 0, 1, 2, and where it came from last
//!
//!   write back submitted: written and held cleared    landed on copy c: written, held by c
//!   written, not held by c: stale on c             written, held by none: lost
//! ```
//!
//! Marks cost 2.5 KiB for each slab of 16 MiB in which anything was written. Refuses to move anything.

/// Pages that stay together on one link: 16 MiB, so that a value of the usual size is one link's.
pub(super) const SLAB_PAGES: u32 = 4096;
/// Copies of a slab that there can be: two, and one that is being made.
pub(super) const COPIES_MAX: usize = 3;
/// The copy that is being made.
pub(super) const INCOMING: usize = 2;

const WORDS: usize = SLAB_PAGES as usize / 64;

/// A member of a set.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) struct MemberNo(pub u8);

/// A slab of one member.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Home {
    pub member: MemberNo,
    pub slab: u32,
}

/// A slab of far memory.
#[derive(Default)]
pub(super) struct Slab {
    pub homes: [Option<Home>; COPIES_MAX],
    /// Which copy the incoming one will replace.
    pub replaces: usize,
    /// Write backs that have not landed, each copy counted.
    pub writing: u32,
    marks: Option<Box<Marks>>,
}

struct Marks {
    written: [u64; WORDS],
    held: [[u64; WORDS]; COPIES_MAX],
    /// Set where the next fetch prefers copy 1, because the last came from another.
    odd_next: [u64; WORDS],
}

impl Marks {
    /// Nothing is written. First fetches are shared out between the copies by runs of 64 pages.
    fn new() -> Marks {
        let odd_next = std::array::from_fn(|word| if word % 2 == 1 { !0 } else { 0 });
        Marks { written: [0; WORDS], held: [[0; WORDS]; COPIES_MAX], odd_next }
    }
}

/// Pages of a slab in some state.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(super) struct Census {
    /// Written, and held by no copy.
    pub lost: u32,
    /// Written and not lost, but not held by this copy.
    pub stale: [u32; COPIES_MAX],
}

impl Slab {
    /// The copies that there are, by number.
    pub fn copies(&self) -> impl Iterator<Item = (usize, Home)> + '_ {
        self.homes.iter().enumerate().filter_map(|(copy, home)| Some((copy, (*home)?)))
    }

    /// The copy that a member has in its slab.
    pub fn copy_on(&self, home: Home) -> Option<usize> {
        self.homes.iter().position(|&other| other == Some(home))
    }

    /// Whether a member has a copy.
    pub fn is_on(&self, member: MemberNo) -> bool {
        self.copies().any(|(_, home)| home.member == member)
    }

    /// Whether anything was written to the page.
    pub fn is_written(&self, page: u32) -> bool {
        self.marks.as_ref().is_some_and(|marks| bit(&marks.written, page))
    }

    /// Whether the copy has the page as it was written last.
    pub fn holds(&self, copy: usize, page: u32) -> bool {
        self.marks.as_ref().is_some_and(|marks| bit(&marks.held[copy], page))
    }

    /// Nobody may rely on the page any more: it is being written, or dead.
    pub fn forget(&mut self, page: u32) {
        if let Some(marks) = &mut self.marks {
            let (word, mask) = (page as usize / 64, !(1 << (page % 64)));
            marks.written[word] &= mask;
            marks.held.iter_mut().for_each(|held| held[word] &= mask);
        }
    }

    /// The page is on this copy.
    pub fn note_held(&mut self, copy: usize, page: u32) {
        let marks = self.marks.get_or_insert_with(|| Box::new(Marks::new()));
        let (word, bit) = (page as usize / 64, 1 << (page % 64));
        marks.written[word] |= bit;
        marks.held[copy][word] |= bit;
    }

    /// The page was fetched from this copy: the next fetch prefers another.
    pub fn note_fetched(&mut self, copy: usize, page: u32) {
        if let Some(marks) = &mut self.marks {
            let (word, bit) = (page as usize / 64, page % 64);
            marks.odd_next[word] = marks.odd_next[word] & !(1 << bit) | u64::from(copy != 1) << bit;
        }
    }

    /// Whether a fetch of the page prefers this copy.
    pub fn is_preferred(&self, copy: usize, page: u32) -> bool {
        self.marks.as_ref().is_some_and(|marks| bit(&marks.odd_next, page)) == (copy == 1)
    }

    /// The copy has nothing any more.
    pub fn note_lost(&mut self, copy: usize) {
        if let Some(marks) = &mut self.marks {
            marks.held[copy] = [0; WORDS];
        }
    }

    /// The incoming copy takes the place of the one that it replaces, which is returned.
    pub fn complete(&mut self) -> Option<Home> {
        let incoming = self.homes[INCOMING].take();
        let old = std::mem::replace(&mut self.homes[self.replaces], incoming);
        if let Some(marks) = &mut self.marks {
            marks.held[self.replaces] = std::mem::replace(&mut marks.held[INCOMING], [0; WORDS]);
        }
        old
    }

    /// How many pages are in a bad way.
    pub fn census(&self) -> Census {
        let mut census = Census::default();
        let Some(marks) = &self.marks else { return census };
        for word in 0..WORDS {
            let held = marks.held.iter().fold(0, |any, held| any | held[word]);
            census.lost += (marks.written[word] & !held).count_ones();
            for (copy, _) in self.copies() {
                census.stale[copy] += (marks.written[word] & held & !marks.held[copy][word]).count_ones();
            }
        }
        census
    }

    /// Pages that `to` has not and `from` has; at most `max`.
    pub fn missing(&self, from: usize, to: usize, max: usize) -> Vec<u32> {
        let Some(marks) = &self.marks else { return Vec::new() };
        let mut pages = Vec::new();
        for word in 0..WORDS {
            let mut bits = marks.written[word] & marks.held[from][word] & !marks.held[to][word];
            while bits != 0 && pages.len() < max {
                pages.push(word as u32 * 64 + bits.trailing_zeros());
                bits &= bits - 1;
            }
        }
        pages
    }
}

fn bit(words: &[u64; WORDS], page: u32) -> bool {
    words[page as usize / 64] >> (page % 64) & 1 == 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_stale_where_it_was_not_written_and_lost_when_nobody_has_it() {
        let home = |member| Some(Home { member: MemberNo(member), slab: 7 });
        let mut slab = Slab { homes: [home(0), home(1), None], ..Slab::default() };
        [3, 64, 4095].into_iter().for_each(|page| slab.note_held(0, page));
        slab.note_held(1, 64);
        assert_eq!(slab.census(), Census { lost: 0, stale: [0, 2, 0] });
        assert_eq!(slab.missing(0, 1, 99), [3, 4095]);
        slab.note_lost(0);
        assert_eq!(slab.census(), Census { lost: 2, stale: [1, 0, 0] });
        slab.note_fetched(0, 64);
        assert!(slab.is_preferred(1, 64) && !slab.is_preferred(INCOMING, 64));
        slab.note_fetched(1, 64);
        assert!(slab.is_preferred(0, 64) && slab.is_preferred(0, 3));
        slab.forget(3);
        assert_eq!((slab.census().lost, slab.is_written(3), slab.holds(1, 64)), (1, false, true));
        slab.homes[INCOMING] = home(2);
        slab.note_held(INCOMING, 64);
        assert_eq!(slab.complete(), home(0));
        assert_eq!((slab.homes, slab.census().stale), ([home(2), home(1), None], [0; 3]));
    }
}
