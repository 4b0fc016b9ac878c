//! Far memory that comes and goes: whom to ask about it, and what becomes of keys whose pages are gone.
//!
//! ```text
//!   GET of a lost page ─► -FARMEMORYLOST
//!   DEL, SET of it ────► the entry goes, as if it had been deleted: nobody can ever read it again
//! ```
//!
//! Refuses to forget a key by itself: what is lost stays reported until somebody deletes or overwrites it.

use crate::keyspace::index::Entry;
use crate::keyspace::{Found, KeySpace};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use farmem::PageNo;

/// Who adds and removes far memory, and knows what is lost. The body's.
pub trait FarAdmin {
    /// Opens one more far memory, for copies.
    ///
    /// # Errors
    /// One line that says why not.
    fn add(&mut self, uri: &str) -> Result<(), String>;
    /// Begins to drain one.
    ///
    /// # Errors
    /// One line that says why not.
    fn remove(&mut self, uri: &str) -> Result<(), String>;
    /// Whether a page was written and is nowhere any more.
    fn is_lost(&self, page: PageNo) -> bool;
    /// How many pages are lost.
    fn lost_pages(&self) -> u64;
}

/// Names that `FARMEM LOST` lists.
const NAMES_MAX: usize = 100;

/// What is lost.
#[derive(Default)]
pub struct Lost {
    /// Keys with a lost page.
    pub keys: u64,
    /// The first of them, as far as their names can be read: else `db0 #fingerprint`.
    pub names: Vec<Vec<u8>>,
}

impl KeySpace {
    /// Whether the page with a key's name is lost.
    #[cold]
    fn is_key_lost(&self, entry: Entry) -> bool {
        self.far.is_any_lost(self.far.pages_of(self.key_object(entry)))
    }

    /// Deletes what stands under a key's fingerprint and can never be read again. Whether there was any.
    pub fn drop_lost(&mut self, db: usize, key: &[u8]) -> bool {
        if !self.far.may_have_lost {
            return false;
        }
        let hash = self.fingerprint(key);
        let mut was_lost = false;
        loop {
            let index = &self.dbs[db].index;
            let mut found = index.find(hash).map(|position| (position, *index.get(position)));
            let Some((position, entry)) = found.find(|&(_, entry)| self.is_key_lost(entry)) else {
                return was_lost;
            };
            self.delete(db, Found { position, entry, rest: 0 });
            was_lost = true;
        }
    }

    /// What is lost, found without fetching anything.
    pub fn lost(&mut self) -> Lost {
        let mut lost = Lost::default();
        if !self.far.may_have_lost {
            return lost;
        }
        for db in 0..self.dbs.len() {
            let entries: Vec<Entry> = self.dbs[db].index.iter().copied().collect();
            for entry in entries {
                let pages = self.footprint(entry).pages;
                if !pages.ranges().iter().any(|&range| self.far.is_any_lost(range)) {
                    continue;
                }
                lost.keys += 1;
                if lost.names.len() < NAMES_MAX {
                    let name = self.name_if_here(entry);
                    let unread = || format!("db{db} #{:010x}", entry.hash40()).into_bytes();
                    lost.names.push(name.unwrap_or_else(unread));
                }
            }
        }
        lost
    }

    /// A key's name, if its page is here.
    fn name_if_here(&mut self, entry: Entry) -> Option<Vec<u8>> {
        let object = self.key_object(entry);
        if !self.far.all_resident(self.far.pages_of(object)) {
            return None;
        }
        let mut name = Vec::new();
        crate::keyspace::object::read_key(&mut self.far, object, &mut name).ok()?;
        Some(name)
    }
}
