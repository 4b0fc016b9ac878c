//! What a node lends: memories by name, each with the generation of its content and its counters.
//!
//! Refuses to grow or shrink while the node runs.

use crate::memory::Memory;
use farmem_link::nbd::proto::{Command, Errno, ExportFlags, Generation};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Exports of one node.
pub const EXPORTS_MAX: usize = 256;

/// A memory that clients ask for by name.
pub struct Export {
    /// Empty for the default one.
    pub name: String,
    /// Its bytes.
    pub memory: Memory,
    /// What is in it; see [`Generation`].
    pub generation: Generation,
    pub(crate) counters: Counters,
}

/// Only ever grows.
#[derive(Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    #[inline]
    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// What has been asked of an export since the node started.
#[derive(Default)]
pub(crate) struct Counters {
    pub reads: Counter,
    pub writes: Counter,
    pub trims: Counter,
    pub zeroes: Counter,
    pub flushes: Counter,
    pub caches: Counter,
    /// Answered with an error, of whatever kind they were.
    pub refused: Counter,
    pub read_bytes: Counter,
    pub written_bytes: Counter,
    pub trimmed_bytes: Counter,
}

impl Export {
    /// What every export can do; DF beside it where a READ is answered in chunks, since it is one chunk always.
    pub(crate) const FLAGS: ExportFlags = ExportFlags::HAS_FLAGS
        .union(ExportFlags::SEND_FLUSH)
        .union(ExportFlags::SEND_FUA)
        .union(ExportFlags::SEND_TRIM)
        .union(ExportFlags::SEND_WRITE_ZEROES)
        .union(ExportFlags::SEND_CACHE)
        .union(ExportFlags::CAN_MULTI_CONN);

    /// Lends a memory under a name.
    pub fn new(name: impl Into<String>, memory: Memory, generation: Generation) -> Export {
        Export { name: name.into(), memory, generation, counters: Counters::default() }
    }

    /// Counts a request.
    #[inline]
    pub(crate) fn count(&self, command: Command, len: u32) {
        let counters = &self.counters;
        let len = u64::from(len);
        match command {
            Command::READ => {
                counters.reads.add(1);
                counters.read_bytes.add(len);
            }
            Command::WRITE => {
                counters.writes.add(1);
                counters.written_bytes.add(len);
            }
            Command::TRIM => {
                counters.trims.add(1);
                counters.trimmed_bytes.add(len);
            }
            Command::WRITE_ZEROES => counters.zeroes.add(1),
            Command::FLUSH => counters.flushes.add(1),
            Command::CACHE => counters.caches.add(1),
            _ => {}
        }
    }
}

/// Everything that a node lends.
#[derive(Clone)]
pub struct Exports(Arc<[Export]>);

impl Exports {
    /// # Panics
    /// If two have the same name, or there are more than [`EXPORTS_MAX`].
    pub fn new(exports: Vec<Export>) -> Exports {
        assert!(exports.len() <= EXPORTS_MAX, "{} exports are too many", exports.len());
        for (at, export) in exports.iter().enumerate() {
            assert!(exports[..at].iter().all(|other| other.name != export.name), "two exports of one name");
        }
        Exports(exports.into())
    }

    /// The export of this name.
    pub fn get(&self, name: &str) -> Option<&Export> {
        self.iter().find(|export| export.name == name)
    }

    /// All of them, in the order in which they were named.
    pub fn iter(&self) -> impl Iterator<Item = &Export> {
        self.0.iter()
    }
}

/// Draws the generation of a memory that starts out empty.
///
/// # Errors
/// If the kernel has no random numbers.
pub fn draw_generation() -> io::Result<Generation> {
    let mut bytes = [0; 16];
    let filled = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())?;
    assert_eq!(filled, bytes.len(), "the kernel gives up to 256 random bytes at once");
    Ok(Generation(u128::from_be_bytes(bytes)))
}

/// What a client is told about an error of the memory.
pub(crate) fn errno(error: &io::Error) -> Errno {
    match error.raw_os_error() {
        // A mapped file that cannot have a page has no room left.
        Some(libc::ENOSPC | libc::EDQUOT | libc::EFBIG | libc::EFAULT) => Errno::ENOSPC,
        Some(libc::ENOMEM) => Errno::ENOMEM,
        Some(libc::EOPNOTSUPP) => Errno::ENOTSUP,
        _ => Errno::EIO,
    }
}
