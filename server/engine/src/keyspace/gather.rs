//! Gathering: a small string that lies nearly alone on its page moves to a fuller one as it is read.
//!
//! Then its page is here anyway, and one read later the far page that held it may be free. Redis calls it active
//! defragmentation, and so does the directive. Refuses to fetch, to wait, and to make a read fail: what cannot be
//! moved stays.

use super::index::Kind;
use super::{Found, KeySpace};

impl KeySpace {
    /// Moves a small string to the page that is being filled, if it lies on a sparse one. `found` is void then.
    #[inline]
    pub fn gather(&mut self, db: usize, found: Found) {
        let addr = found.entry.addr();
        if found.entry.kind() == Kind::SmallString && self.gathers && self.far.heap.is_scattered(addr) {
            self.move_small_string(db, found);
        }
    }

    #[cold]
    fn move_small_string(&mut self, db: usize, found: Found) {
        let old = *self.dbs[db].index.get(found.position);
        if self.far.is_borrowed(old.addr()) || self.far.pager.stats().frames_free == 0 {
            return;
        }
        let Some(there) = self.far.allocate_gathered(old.addr()) else { return };
        let size = self.far.heap.size_of_slot(there);
        if self.far.copy_within(old.addr(), there, size).is_err() {
            self.far.free(there);
            return;
        }
        self.replace(db, Found { entry: old, ..found }, old.moved_to(old.kind(), there));
        self.far.free(old.addr());
        self.stats.gathered += 1;
    }
}
