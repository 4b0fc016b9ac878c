//! A file that keeps an export's content from one run to the next, and the note beside it that says which.
//!
//! ```text
//!   start ──► note is right? ─┬─ yes: the generation in it ──┐
//!                             └─ no: a new generation ───────┴─► note "running, in this boot" ──► serve
//!   clean exit ──► file on stable storage ──► note "clean"
//! ```
//!
//! The note (`FILE.generation`) is right if it is clean, or if it was written since the machine booted: a
//! process that is killed leaves all its bytes with the kernel, a machine that goes down does not. Refuses to
//! empty a file: under a new generation nobody takes its bytes for theirs.

use crate::export::draw_generation;
use crate::memory::Memory;
use farmem_link::nbd::proto::Generation;
use rustix::fs::{FlockOperation, flock};
use std::fs::{File, OpenOptions};
use std::io::{self, Seek, SeekFrom, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// A file that an export lies in.
pub struct KeptFile {
    note: PathBuf,
    /// The file that the note is about.
    inode: u64,
    size: u64,
    generation: Generation,
}

/// The state of a file whose node has ended as it should.
const CLEAN: &str = "clean";

impl KeptFile {
    /// Opens a file or device, or makes a file, of at least `size` bytes; nobody else may have it.
    ///
    /// # Errors
    /// What the kernel answers; `WouldBlock` if another node has it; `InvalidInput` if a device is too small.
    pub fn open(path: &Path, size: u64) -> io::Result<(KeptFile, Memory)> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let mut file = options.open(path)?;
        flock(&file, FlockOperation::NonBlockingLockExclusive).map_err(|error| match error {
            rustix::io::Errno::WOULDBLOCK => io::Error::new(io::ErrorKind::WouldBlock, "another node has it"),
            other => other.into(),
        })?;
        if file.metadata()?.is_file() && file.metadata()?.len() < size {
            file.set_len(size)?;
        }
        if file.seek(SeekFrom::End(0))? < size {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is smaller than --size"));
        }
        let inode = file.metadata()?.ino();
        let mut note = path.as_os_str().to_owned();
        note.push(".generation");
        let mut kept = KeptFile { note: note.into(), inode, size, generation: draw_generation()? };
        let boot = boot_id()?;
        let known = std::fs::read_to_string(&kept.note).unwrap_or_default();
        match kept.generation_in(&known, &boot) {
            Some(generation) => kept.generation = generation,
            None => {
                log::warn!("{}: nothing says that its content is whole, so it counts as new", path.display())
            }
        }
        kept.write_note(&boot)?;
        let memory = Memory::file(file.into(), size)?;
        Ok((kept, memory))
    }

    /// What names the content.
    pub fn generation(&self) -> Generation {
        self.generation
    }

    /// Notes that everything is on stable storage, after it is. Nobody may write any more.
    ///
    /// # Errors
    /// Of the file or the note: then the content counts as lost once the machine has gone down.
    pub fn close(self, memory: &Memory) -> io::Result<()> {
        memory.sync()?;
        self.write_note(CLEAN)
    }

    fn generation_in(&self, note: &str, boot: &str) -> Option<Generation> {
        let mut words = note.split_whitespace();
        let generation = u128::from_str_radix(words.next()?, 16).ok().map(Generation)?;
        let state = [CLEAN, boot].into_iter().find(|state| note == self.note_of(generation, state));
        state.map(|_| generation)
    }

    fn note_of(&self, generation: Generation, state: &str) -> String {
        format!("{generation} inode={} size={} {state}\n", self.inode, self.size)
    }

    /// Writes the note so that it is either the old or the new one, whenever the power fails.
    fn write_note(&self, state: &str) -> io::Result<()> {
        let fresh = self.note.with_extension("generation.new");
        let mut file = File::create(&fresh)?;
        file.write_all(self.note_of(self.generation, state).as_bytes())?;
        file.sync_all()?;
        std::fs::rename(&fresh, &self.note)?;
        let parent = self.note.parent().filter(|parent| !parent.as_os_str().is_empty());
        File::open(parent.unwrap_or(Path::new(".")))?.sync_all()
    }
}

/// What names this run of the machine.
fn boot_id() -> io::Result<String> {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id").map(|id| id.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: u64 = 1 << 20;

    #[test]
    fn a_generation_outlives_a_restart_and_a_kill_but_no_crash_of_the_machine() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("far");
        let (kept, memory) = KeptFile::open(&path, SIZE).unwrap();
        let first = kept.generation();
        memory.write(4096, b"content").unwrap();
        kept.close(&memory).unwrap();
        drop(memory);

        let (kept, memory) = KeptFile::open(&path, SIZE).unwrap();
        assert_eq!(kept.generation(), first, "after a clean exit");
        let mut bytes = [0; 7];
        memory.read(4096, &mut bytes).unwrap();
        assert_eq!(&bytes, b"content");
        drop((kept, memory));

        let (kept, memory) = KeptFile::open(&path, SIZE).unwrap();
        assert_eq!(kept.generation(), first, "after a kill");
        kept.write_note("another-boot").unwrap();
        drop(memory);

        let (kept, _memory) = KeptFile::open(&path, SIZE).unwrap();
        assert_ne!(kept.generation(), first, "after a crash of the machine");
    }

    #[test]
    fn a_file_belongs_to_one_node_and_another_size_is_another_content() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("far");
        let (kept, memory) = KeptFile::open(&path, SIZE).unwrap();
        let busy = KeptFile::open(&path, SIZE).err().expect("two nodes would share a file");
        assert_eq!(busy.kind(), io::ErrorKind::WouldBlock);
        let first = kept.generation();
        kept.close(&memory).unwrap();
        drop(memory);
        let (kept, _memory) = KeptFile::open(&path, 2 * SIZE).unwrap();
        assert_ne!(kept.generation(), first);
    }
}
