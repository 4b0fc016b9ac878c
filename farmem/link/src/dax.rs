//! Far memory in a byte-addressable file or device: devdax (CXL), hugetlbfs, tmpfs, a DAX file system.
//!
//! The processor copies each page as it is submitted; it has landed by the next poll. There are two ways
//! to the bytes:
//!
//! | what the path is | way | why |
//! |---|---|---|
//! | character device, file on hugetlbfs | mapped once | nothing else is offered, and neither counts as resident |
//! | any other file | read and written by the page | a mapped page cache page would be resident memory of ours, beyond the cap, and a full or truncated file would be a SIGBUS instead of an error |
//!
//! Refuses to wait and to queue: nothing is ever in flight for longer than until the next poll.

use crate::ended::Ended;
use crate::map::SharedMap;
use farmem::{Frame, Instant, Landed, Link, LinkError, PAGE_SIZE, Transfer, TransferKind};
use rustix::fs::{FallocateFlags, fallocate, fstatfs};
use std::fs::{File, OpenOptions};
use std::io::{self, Seek, SeekFrom};
use std::os::unix::fs::{FileExt, FileTypeExt};
use std::path::Path;

/// `f_type` of a file on hugetlbfs. Source: statfs(2).
const HUGETLBFS_MAGIC: u64 = 0x9584_58f6;

/// Far memory in a byte-addressable file or device.
pub struct DaxLink {
    far: Far,
    pages: u32,
    ended: Ended,
}

enum Far {
    Mapped(SharedMap),
    File(File),
}

impl DaxLink {
    /// Opens `path`. A regular file that is missing or too small is made `size_bytes` long, sparsely.
    ///
    /// # Errors
    /// What the system answers; `InvalidInput` if the size is not given and cannot be found out.
    pub fn open(path: &Path, size_bytes: Option<u64>) -> io::Result<DaxLink> {
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(size_bytes.is_some())
            .truncate(false)
            .open(path)?;
        let metadata = file.metadata()?;
        let is_mapped_device = metadata.file_type().is_char_device();
        let is_device = is_mapped_device || metadata.file_type().is_block_device();
        let len = if is_mapped_device { device_len(&metadata) } else { Some(file.seek(SeekFrom::End(0))?) };
        let size_bytes = match (size_bytes, len) {
            (Some(wanted), Some(len)) if is_device && wanted > len => {
                let why = format!("the device has only {len} bytes");
                return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
            }
            (Some(wanted), _) => wanted,
            (None, Some(len)) => len,
            (None, None) => {
                return Err(io::Error::new(io::ErrorKind::InvalidInput, "its size must be given as ?size="));
            }
        };
        let pages = crate::whole_pages(size_bytes)?;
        if !is_device && metadata.len() < size_bytes {
            file.set_len(size_bytes)?;
        }
        crate::lock_alone(&file)?;
        let must_map = is_mapped_device || fstatfs(&file)?.f_type as u64 == HUGETLBFS_MAGIC;
        let far = if must_map { Far::Mapped(SharedMap::new(file.into(), pages)?) } else { Far::File(file) };
        Ok(DaxLink { far, pages, ended: Ended::default() })
    }

    fn trim(&self, first: u32, count: u32) {
        let count = count.min(self.pages.saturating_sub(first));
        if count == 0 {
            return;
        }
        let hole = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        let page_size = PAGE_SIZE as u64;
        let (start, len) = (u64::from(first) * page_size, u64::from(count) * page_size);
        let result = match &self.far {
            Far::Mapped(map) => fallocate(map.file(), hole, start, len),
            Far::File(file) => fallocate(file, hole, start, len),
        };
        if let Err(error) = result {
            log::debug!("cannot trim {count} far pages: {error}");
        }
    }
}

/// The length of a devdax device, which its inode does not tell. Source: Linux, drivers/dax/bus.c, `size`.
fn device_len(metadata: &std::fs::Metadata) -> Option<u64> {
    use std::os::unix::fs::MetadataExt;
    let (major, minor) = (rustix::fs::major(metadata.rdev()), rustix::fs::minor(metadata.rdev()));
    std::fs::read_to_string(format!("/sys/dev/char/{major}:{minor}/size")).ok()?.trim().parse().ok()
}

impl Far {
    #[inline]
    fn fetch(&self, page: usize, frame: &mut Frame) -> io::Result<()> {
        match self {
            Far::Mapped(map) => map.read(page, frame),
            Far::File(file) => {
                let got = file.read_at(&mut frame.0, (page * PAGE_SIZE) as u64)?;
                frame.0[got..].fill(0); // Somebody cut the file: what is beyond its end reads as zeros.
            }
        }
        Ok(())
    }

    #[inline]
    fn write_back(&mut self, page: usize, frame: &Frame) -> io::Result<()> {
        match self {
            Far::Mapped(map) => map.write(page, frame),
            Far::File(file) => file.write_all_at(&frame.0, (page * PAGE_SIZE) as u64)?,
        }
        Ok(())
    }
}

impl Link for DaxLink {
    fn submit(&mut self, batch: &[Transfer], frames: &mut [Frame], now: Instant) {
        for &transfer in batch {
            let page = transfer.page.0 as usize;
            if transfer.kind == TransferKind::Trim {
                self.trim(transfer.page.0, transfer.count);
                continue;
            }
            if transfer.page.0 >= self.pages {
                self.ended.push(transfer, Err(LinkError::OutOfRange), now);
                continue;
            }
            let frame = &mut frames[transfer.frame.0 as usize];
            let result = match transfer.kind {
                TransferKind::WriteBack => self.far.write_back(page, frame),
                _ => self.far.fetch(page, frame),
            };
            let result = result.map_err(|error| {
                log::debug!("page {page}: {error}");
                LinkError::Io
            });
            self.ended.push(transfer, result, now);
        }
    }

    fn poll_landed(&mut self, _frames: &mut [Frame], _now: Instant, landed: &mut Vec<Landed>) {
        self.ended.drain_into(landed);
    }

    fn wait_landed(&mut self, _frames: &mut [Frame], landed: &mut Vec<Landed>) {
        self.ended.drain_into(landed);
    }

    fn next_due(&self) -> Option<Instant> {
        self.ended.due()
    }

    fn in_flight(&self) -> usize {
        self.ended.len()
    }

    fn capacity_pages(&self) -> u32 {
        self.pages
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use farmem::{FrameNo, PageNo};
    use std::os::unix::fs::MetadataExt;

    /// Writes and reads every page through `link`; what comes back must be what was written.
    fn write_and_read_all(link: &mut DaxLink) {
        let mut frames = vec![Frame([0; PAGE_SIZE]), Frame([0; PAGE_SIZE])];
        let mut landed = Vec::new();
        for page in 0..link.capacity_pages() {
            frames[0].0.fill(page as u8);
            let write =
                Transfer { kind: TransferKind::WriteBack, page: PageNo(page), count: 1, frame: FrameNo(0) };
            let read = Transfer { kind: TransferKind::FetchNeeded, frame: FrameNo(1), ..write };
            link.submit(&[write, read], &mut frames, Instant(0));
            link.poll_landed(&mut frames, Instant(0), &mut landed);
            assert!(frames[0].0 == frames[1].0, "page {page}");
        }
        assert!(landed.iter().all(|end| end.result.is_ok()));
    }

    /// Resident memory of this process that a tmpfs has, which is what a mapping of one would add to.
    fn resident_shared_kib() -> usize {
        let status = std::fs::read_to_string("/proc/self/status").expect("Linux has it");
        let line = status.lines().find(|line| line.starts_with("RssShmem:")).expect("Linux counts it");
        line.split_whitespace().nth(1).and_then(|kib| kib.parse().ok()).expect("it is a number")
    }

    #[test]
    fn the_pages_of_a_file_do_not_become_resident_memory_of_ours() {
        let dir = tempfile::tempdir_in("/dev/shm").expect("tmpfs is there");
        let mut link = DaxLink::open(&dir.path().join("far"), Some(64 << 20)).expect("tmpfs has room");
        let before = resident_shared_kib();
        write_and_read_all(&mut link);
        // The tests beside this one use less than 16 MiB.
        assert!(resident_shared_kib() < before + (16 << 10), "64 MiB were touched");
        let maps = std::fs::read_to_string("/proc/self/maps").expect("Linux has maps");
        assert!(!maps.contains(&dir.path().display().to_string()));
    }

    #[test]
    fn a_mapped_device_is_read_and_written_through_its_mapping() {
        let dir = tempfile::tempdir_in("/dev/shm").expect("tmpfs is there");
        let mut link = DaxLink::open(&dir.path().join("far"), Some(1 << 20)).expect("tmpfs has room");
        let Far::File(file) = &link.far else { panic!("a tmpfs file is not mapped") };
        let file = file.try_clone().expect("a descriptor is free");
        link.far = Far::Mapped(SharedMap::new(file.into(), link.pages).expect("it can be mapped"));
        write_and_read_all(&mut link);
    }

    #[test]
    fn a_file_of_its_own_length_needs_no_size_and_a_trim_gives_space_back() {
        let dir = tempfile::tempdir_in("/dev/shm").expect("tmpfs is there");
        let path = dir.path().join("far");
        assert!(DaxLink::open(&path, None).is_err());
        std::fs::write(&path, vec![1; 10 * PAGE_SIZE + 1]).expect("tmpfs has room");
        let mut link = DaxLink::open(&path, None).expect("it is there now");
        assert_eq!(link.capacity_pages(), 10);
        let trim = Transfer { kind: TransferKind::Trim, page: PageNo(2), count: 100, frame: FrameNo(0) };
        link.submit(&[trim], &mut [], Instant(0));
        assert_eq!(link.in_flight(), 0);
        let blocks = std::fs::metadata(&path).expect("it is there").blocks();
        assert_eq!(blocks * 512, 3 * PAGE_SIZE as u64);
    }
}
