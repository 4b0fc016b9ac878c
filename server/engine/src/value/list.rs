//! Lists: chunks of elements in the far heap, a near directory where a list has more than one.

use crate::far::Far;
use crate::keyspace::index::Entry;
use alloc::vec::Vec;
use farmem::FarAddr;

/// The number of a list's near directory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ListId(u32);

impl ListId {
    /// The directory of a [`crate::keyspace::index::Kind::LargeList`].
    #[inline]
    pub fn of(entry: Entry) -> ListId {
        ListId(entry.list())
    }
}

/// A list with a directory.
pub struct List {
    /// The object that holds the key.
    pub key_object: FarAddr,
}

/// The directories of all lists that have one.
#[derive(Default)]
pub struct Lists {
    lists: Vec<Option<List>>,
}

impl Lists {
    /// The directory of a list.
    pub fn get(&self, id: ListId) -> &List {
        self.lists[id.0 as usize].as_ref().expect("an entry names a list that exists")
    }

    /// Frees a list: its chunks, its key's object and its directory.
    pub fn free(&mut self, far: &mut Far, id: ListId) {
        if let Some(list) = self.lists[id.0 as usize].take() {
            far.free(list.key_object);
        }
    }

    /// Units: bytes.
    pub fn near_bytes(&self) -> usize {
        self.lists.capacity() * size_of::<Option<List>>()
    }
}
