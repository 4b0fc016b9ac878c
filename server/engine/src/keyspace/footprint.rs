//! What a key takes: its pages, and its bytes near and far. Known from near memory alone.

use super::KeySpace;
use super::index::{Entry, Kind};
use crate::value::list::ListId;
use farmem::PageSet;

/// Near bytes of an entry: 16, at a load of about 0.77. Units: bytes.
const ENTRY_BYTES: usize = 21;
/// Near bytes of an expiry time, likewise. Units: bytes.
const EXPIRY_BYTES: usize = 31;

/// What one key takes.
#[derive(Default)]
pub struct Footprint {
    /// The pages that its objects lie in; small objects share theirs with others.
    pub pages: PageSet,
    /// Slots and extents. Units: bytes.
    pub far_bytes: usize,
    /// Index entry, expiry time, list directory. Units: bytes.
    pub near_bytes: usize,
}

impl KeySpace {
    /// What the key of `entry` takes.
    pub fn footprint(&self, entry: Entry) -> Footprint {
        let mut footprint = Footprint { near_bytes: ENTRY_BYTES, ..Footprint::default() };
        if entry.has_ttl() {
            footprint.near_bytes += EXPIRY_BYTES;
        }
        let mut add = |object| {
            footprint.pages.push(self.far.pages_of(object));
            footprint.far_bytes += self.far.capacity_of(object);
        };
        add(self.key_object(entry));
        match entry.kind() {
            Kind::SmallString | Kind::SmallList => {}
            Kind::LargeString => add(entry.addr()),
            Kind::LargeList => {
                self.lists.all_pages(&self.far, ListId::of(entry), &mut footprint.pages);
                footprint.far_bytes = self.list_bytes(entry);
            }
        }
        footprint.pages.normalise();
        footprint
    }
}
