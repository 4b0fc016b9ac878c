//! The memory that is lent: one shared mapping, read and written by many connections at once.
//!
//! ```text
//!   socket ──recv──► mapping ──sendmsg──► socket      the kernel copies; no reference into the mapping exists
//!   buffer ──copy──► mapping ──pread───► buffer       what came with other requests; what TLS must encrypt
//! ```
//!
//! Refuses to order anything: overlapping requests that are in flight together may tear, as on any disk. Where a
//! file lies behind the mapping, a failing disk must not kill the process (SIGBUS), so this process never touches
//! the mapping itself then: the kernel does, and answers an error.

use crate::touched::{PAGE_BYTES, Touched};
use farmem_link::rdma::verbs::{Domain, Region};
use rustix::fs::{FallocateFlags, MemfdFlags, fallocate, fdatasync, fstat, ftruncate, memfd_create};
use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap, munmap};
use std::fs::File;
use std::io;
use std::marker::PhantomData;
use std::ops::Range;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Slices that the kernel takes in one call (IOV_MAX).
const SLICES_MAX: usize = 1024;

/// What an untouched page reads as. Sixteen pages, so that long ranges need few slices.
static ZEROES: [u8; 16 * PAGE_BYTES as usize] = [0; 16 * PAGE_BYTES as usize];

/// What lies behind the mapping.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Backing {
    Ram,
    HugePages,
    File,
}

/// A range of bytes that many connections read and write.
pub struct Memory {
    base: NonNull<u8>,
    len: u64,
    file: File,
    backing: Backing,
    touched: Option<Touched>,
    /// Whether a device knows its pages: then none is ever given back, because the device would go on with the old one.
    pinned: AtomicBool,
}

// SAFETY: the mapping lives as long as the value, no reference into it is ever made, and bytes are moved by raw
// copies and by the kernel alone. What racing copies leave behind is some mixture of their bytes, and only
// clients ever look at it.
unsafe impl Send for Memory {}
// SAFETY: as above; everything else in it is `Sync` by itself.
unsafe impl Sync for Memory {}

/// Bytes to send: part of a mapping or of a buffer.
#[repr(transparent)]
pub(crate) struct Slice<'a>(libc::iovec, PhantomData<&'a [u8]>);

impl<'a> Slice<'a> {
    /// Bytes of a buffer.
    #[inline]
    pub fn of(bytes: &'a [u8]) -> Slice<'a> {
        Slice(libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() }, PhantomData)
    }
}

impl Memory {
    /// Memory of this machine that goes with the process; shows as `memfd:remora-memnode` in its maps.
    ///
    /// # Errors
    /// What the kernel answers.
    pub fn ram(len: u64) -> io::Result<Memory> {
        let file = memfd_create("remora-memnode", MemfdFlags::CLOEXEC)?;
        ftruncate(&file, len)?;
        Memory::map(file, len, Backing::Ram)
    }

    /// The same in 2 MiB pages, all taken at once from the pool that the administrator has set aside. They
    /// belong to the pool, so a trim gives nothing back.
    ///
    /// # Errors
    /// `OutOfMemory` if the pool has not enough.
    pub fn huge_pages(len: u64) -> io::Result<Memory> {
        let len = len.next_multiple_of(2 << 20);
        let file = memfd_create("remora-memnode", MemfdFlags::CLOEXEC | MemfdFlags::HUGETLB)?;
        ftruncate(&file, len)?;
        fallocate(&file, FallocateFlags::empty(), 0, len)?;
        Memory::map(file, len, Backing::HugePages)
    }

    /// The first `len` bytes of a file or device.
    ///
    /// # Errors
    /// What the kernel answers.
    pub fn file(file: OwnedFd, len: u64) -> io::Result<Memory> {
        Memory::map(file, len, Backing::File)
    }

    fn map(file: OwnedFd, len: u64, backing: Backing) -> io::Result<Memory> {
        let (protection, bytes) = (ProtFlags::READ | ProtFlags::WRITE, len as usize);
        // SAFETY: a fresh mapping at an address of the kernel's choice; no reference into it is ever made.
        let base = unsafe { mmap(std::ptr::null_mut(), bytes, protection, MapFlags::SHARED, &file, 0)? };
        let base = NonNull::new(base.cast()).expect("mmap never maps address zero unless told to");
        let touched = (backing == Backing::Ram).then(|| Touched::new(len));
        Ok(Memory { base, len, file: file.into(), backing, touched, pinned: AtomicBool::new(false) })
    }

    /// Units: bytes.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether there is no memory at all.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// What of it really takes up the host's memory (or disk). Units: bytes.
    pub fn stored_bytes(&self) -> u64 {
        fstat(&self.file).map_or(0, |stat| stat.st_blocks as u64 * 512)
    }

    /// The address of these bytes.
    ///
    /// # Panics
    /// If they are not all inside.
    fn at(&self, offset: u64, len: usize) -> *mut u8 {
        let inside = offset.checked_add(len as u64).is_some_and(|end| end <= self.len);
        assert!(inside, "{len} bytes at {offset} are not inside {}", self.len);
        // SAFETY: the mapping has `self.len` bytes, and the offset is not beyond it.
        unsafe { self.base.as_ptr().add(offset as usize) }
    }

    fn touch(&self, offset: u64, len: usize) {
        if let Some(touched) = &self.touched {
            touched.set(offset..offset + len as u64);
        }
    }

    /// Copies bytes in.
    ///
    /// # Errors
    /// Of the file behind it.
    pub fn write(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let to = self.at(offset, bytes.len());
        if self.backing == Backing::File {
            return self.file.write_all_at(bytes, offset);
        }
        // SAFETY: the target lies in the mapping by `at`, and a `&[u8]` never overlaps it, since no reference into
        // the mapping exists. Racing copies are what a client asks for that overlaps its own requests.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), to, bytes.len()) };
        self.touch(offset, bytes.len());
        Ok(())
    }

    /// Copies bytes out.
    ///
    /// # Errors
    /// Of the file behind it.
    pub fn read(&self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        self.at(offset, into.len());
        self.file.read_exact_at(into, offset)
    }

    /// Receives bytes from a socket straight into place: at most `len`, at least one unless the peer is gone.
    ///
    /// # Errors
    /// Of the socket; `EFAULT` where the file behind the mapping has no room, and then nothing was received.
    pub(crate) fn receive(&self, socket: BorrowedFd<'_>, offset: u64, len: usize) -> io::Result<usize> {
        let to = self.at(offset, len);
        // SAFETY: `len` bytes at `to` lie in the mapping by `at`; no reference to them exists.
        let received = unsafe { libc::recv(socket.as_raw_fd(), to.cast(), len, 0) };
        let received = usize::try_from(received).map_err(|_| io::Error::last_os_error())?;
        self.touch(offset, received);
        Ok(received)
    }

    /// Appends slices that send these bytes. Nothing is read yet.
    #[inline]
    pub(crate) fn slices<'a>(&'a self, bytes: Range<u64>, to: &mut Vec<Slice<'a>>) {
        let mut at = bytes.start;
        while at < bytes.end {
            let (mut end, touched) = match &self.touched {
                Some(map) => map.run(at..bytes.end),
                None => (bytes.end, true),
            };
            if touched {
                let len = (end - at) as usize;
                to.push(Slice(libc::iovec { iov_base: self.at(at, len).cast(), iov_len: len }, PhantomData));
            } else {
                end = end.min(at + ZEROES.len() as u64);
                to.push(Slice::of(&ZEROES[..(end - at) as usize]));
            }
            at = end;
        }
    }

    /// The bytes are not wanted any more: whole pages go back to the host and read as zeros.
    ///
    /// # Errors
    /// Of the file behind it.
    pub fn discard(&self, bytes: Range<u64>) -> io::Result<()> {
        let start = bytes.start.next_multiple_of(PAGE_BYTES);
        let end = bytes.end / PAGE_BYTES * PAGE_BYTES;
        if self.backing == Backing::HugePages || self.is_pinned() || start >= end {
            return Ok(());
        }
        if let Some(touched) = &self.touched {
            touched.clear(start..end);
        }
        fallocate(&self.file, FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE, start, end - start)?;
        Ok(())
    }

    /// Makes the bytes zero; whole pages go back to the host unless `keep` is set.
    ///
    /// # Errors
    /// Of the file behind it.
    pub fn zero(&self, bytes: Range<u64>, keep: bool) -> io::Result<()> {
        let start = bytes.start.next_multiple_of(PAGE_BYTES).min(bytes.end);
        let end = (bytes.end / PAGE_BYTES * PAGE_BYTES).max(start);
        if keep || self.backing == Backing::HugePages || self.is_pinned() {
            return self.write_zeroes(bytes);
        }
        self.write_zeroes(bytes.start..start)?;
        self.discard(start..end)?;
        self.write_zeroes(end..bytes.end)
    }

    fn write_zeroes(&self, bytes: Range<u64>) -> io::Result<()> {
        let mut at = bytes.start;
        while at < bytes.end {
            let len = (bytes.end - at).min(ZEROES.len() as u64);
            self.write(at, &ZEROES[..len as usize])?;
            at += len;
        }
        Ok(())
    }

    /// The bytes will be read soon: what was swapped out, or lies in a file, is brought in.
    pub fn expect(&self, bytes: Range<u64>) {
        let start = bytes.start / PAGE_BYTES * PAGE_BYTES;
        let len = (bytes.end - start) as usize;
        let at = self.at(start, len);
        // SAFETY: the range lies in the mapping by `at`, and the advice changes no content.
        if let Err(error) = unsafe { madvise(at.cast(), len, Advice::WillNeed) } {
            log::debug!("cannot read ahead: {error}");
        }
    }

    /// Lends all of it over RDMA: peers that know the key read and write it past this process. The whole memory becomes
    /// resident and stays so: a discard gives nothing back any more, and a page counts as touched whoever writes it.
    ///
    /// # Errors
    /// What the library answers, e.g. that no more memory may be locked; `Unsupported` for a file, whose writes must go
    /// through its file system.
    pub fn lend(&self, domain: &Arc<Domain>) -> io::Result<Region> {
        if self.backing == Backing::File {
            return Err(io::Error::new(io::ErrorKind::Unsupported, "a file cannot be lent over RDMA"));
        }
        // Before the device learns of any page, so that no discard comes in between.
        self.pinned.store(true, Ordering::SeqCst);
        // SAFETY: from now on no page of the mapping is given back or replaced. Unmapping leaves the device
        // its pages, which it has pinned, until the region is gone. No reference into the mapping is ever
        // made, so nobody minds changes.
        let region = unsafe { domain.register(self.base, self.len as usize, true) };
        match &region {
            Ok(_) => self.touch(0, self.len as usize),
            Err(_) => self.pinned.store(false, Ordering::SeqCst),
        }
        region
    }

    fn is_pinned(&self) -> bool {
        self.pinned.load(Ordering::SeqCst)
    }

    /// Whether anything outlives the process, so that [`Memory::sync`] has work to do.
    pub fn is_kept(&self) -> bool {
        self.backing == Backing::File
    }

    /// Returns when everything written before is on stable storage.
    ///
    /// # Errors
    /// Of the file behind it.
    pub fn sync(&self) -> io::Result<()> {
        if self.is_kept() {
            fdatasync(&self.file)?;
        }
        Ok(())
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: the mapping was made by `map` with this length, and no reference into it exists.
        if let Err(error) = unsafe { munmap(self.base.as_ptr().cast(), self.len as usize) } {
            log::warn!("cannot unmap the memory: {error}");
        }
    }
}

/// Sends all slices to a socket, in as few calls as there can be.
///
/// # Errors
/// Of the socket; `EFAULT` where the file behind a mapping cannot be read.
pub(crate) fn send_all(socket: BorrowedFd<'_>, mut slices: &mut [Slice<'_>]) -> io::Result<()> {
    while !slices.is_empty() {
        // SAFETY: all zeros is a message without name, slices and control data.
        let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
        message.msg_iov = slices.as_mut_ptr().cast();
        message.msg_iovlen = slices.len().min(SLICES_MAX) as _;
        // SAFETY: `Slice` is an `iovec` by its representation, and each one's lifetime says that its bytes are there;
        // the kernel only reads them.
        let sent = unsafe { libc::sendmsg(socket.as_raw_fd(), &message, libc::MSG_NOSIGNAL) };
        let mut sent = match usize::try_from(sent) {
            Ok(sent) => sent,
            Err(_) => match io::Error::last_os_error() {
                error if error.kind() == io::ErrorKind::Interrupted => 0,
                error => return Err(error),
            },
        };
        let whole = slices
            .iter()
            .position(|slice| {
                let ends_here = sent < slice.0.iov_len;
                sent -= if ends_here { 0 } else { slice.0.iov_len };
                ends_here
            })
            .unwrap_or(slices.len());
        slices = &mut slices[whole..];
        if let Some(first) = slices.first_mut() {
            // SAFETY: still inside the slice, because less than its length was sent of it.
            first.0.iov_base = unsafe { first.0.iov_base.byte_add(sent) };
            first.0.iov_len -= sent;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixStream;

    const MIB: u64 = 1 << 20;

    /// What a client would read.
    fn sent(memory: &Memory, bytes: Range<u64>) -> Vec<u8> {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let mut got = vec![0; (bytes.end - bytes.start) as usize];
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let mut slices = Vec::new();
                memory.slices(bytes, &mut slices);
                send_all(ours.as_fd(), &mut slices).unwrap();
            });
            theirs.read_exact(&mut got).unwrap();
        });
        got
    }

    #[test]
    fn what_is_written_is_sent_and_read_again() {
        let memory = Memory::ram(4 * MIB).unwrap();
        let bytes: Vec<u8> = (0..300_000u32).map(|n| n as u8).collect();
        memory.write(5000, &bytes).unwrap();
        let mut got = vec![1; 400_000];
        memory.read(1000, &mut got).unwrap();
        assert_eq!(got, sent(&memory, 1000..401_000));
        assert!(got[..4000].iter().all(|&byte| byte == 0));
        assert_eq!(got[4000..304_000], bytes);
        assert!(got[304_000..].iter().all(|&byte| byte == 0));
    }

    #[test]
    fn reading_untouched_memory_takes_none_and_a_discard_gives_it_back() {
        let memory = Memory::ram(8 * MIB).unwrap();
        assert!(sent(&memory, 0..8 * MIB).iter().all(|&byte| byte == 0));
        assert_eq!(memory.stored_bytes(), 0);
        memory.write(0, &vec![7; 4 << 20]).unwrap();
        assert_eq!(memory.stored_bytes(), 4 * MIB);
        memory.discard(1..4 * MIB + 1).unwrap();
        assert_eq!(memory.stored_bytes(), PAGE_BYTES, "the first page is not wholly inside");
        assert_eq!(sent(&memory, 0..2 * PAGE_BYTES)[4095..4097], [7, 0]);
    }

    #[test]
    fn what_a_device_knows_is_never_given_back_and_zeroing_still_zeroes() {
        let memory = Memory::ram(MIB).unwrap();
        memory.write(0, &vec![7; MIB as usize]).unwrap();
        memory.pinned.store(true, Ordering::SeqCst);
        memory.discard(0..MIB).unwrap();
        assert_eq!((memory.stored_bytes(), sent(&memory, 0..1)[0]), (MIB, 7));
        memory.zero(0..MIB, false).unwrap();
        assert_eq!(memory.stored_bytes(), MIB);
        assert!(sent(&memory, 0..MIB).iter().all(|&byte| byte == 0));
    }

    #[test]
    fn zeroing_reaches_every_byte_of_the_range_and_none_beside_it() {
        for keep in [false, true] {
            let memory = Memory::ram(MIB).unwrap();
            memory.write(0, &vec![9; MIB as usize]).unwrap();
            memory.zero(100..20_000, keep).unwrap();
            let got = sent(&memory, 0..MIB);
            assert!((0..got.len()).all(|at| (got[at] == 0) == (100..20_000).contains(&at)));
            memory.zero(30_000..30_001, keep).unwrap();
            assert_eq!(sent(&memory, 29_999..30_002), [9, 0, 9]);
        }
    }
}
