//! A window: frames that are another process' memory, where a device of that process moves pages straight into them.
//!
//! ```text
//!   frame      0 .. own           own + 0     own + 160 ...       own + guest pages
//!              ├─ ours, private ──┤├─ region 0 ─┤ (nothing) ├─ region 1 ─┤
//!              frames()[FrameNo]   a shared mapping of what the guest calls page 0
//! ```
//!
//! So a guest page has a frame number, and every link moves it as it moves a frame of an [`Arena`](crate::Arena). What no
//! region covers is private memory of ours that reads as zeros: a frame is never a hole. Refuses to unmap: the address
//! range is reserved for the life of the process, and regions only ever replace each other in it.

use crate::arena::note_arena;
use farmem::{Frame, FrameNo, PAGE_SIZE};
use rustix::mm::{MapFlags, ProtFlags, mmap, mmap_anonymous};
use std::io;
use std::os::fd::AsFd;
use std::ptr::NonNull;

/// Neighbouring frames that are backed by memory of one kind, until that changes as a whole.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stretch {
    /// The first of them.
    pub first: FrameNo,
    /// How many there are.
    pub count: u32,
}

/// Frames that lie in memory shared with another process.
pub struct Window {
    base: NonNull<Frame>,
    /// Reserved.
    frames_max: usize,
    /// In use: those of our own, and up to the end of the last region.
    frames: usize,
    own: usize,
    /// First frame and count of each region.
    regions: Vec<(usize, usize)>,
}

// SAFETY: the address range belongs to this value alone, as a `Box<[Frame]>` would.
unsafe impl Send for Window {}

impl Window {
    /// Reserves room for `own_frames` frames of our own, and then for another process' memory of `shared_bytes_max`.
    ///
    /// # Errors
    /// What mmap answers, e.g. when the address space is limited.
    pub fn reserve(own_frames: usize, shared_bytes_max: usize) -> io::Result<Window> {
        let frames_max = own_frames + shared_bytes_max / PAGE_SIZE;
        let flags = MapFlags::PRIVATE | MapFlags::NORESERVE;
        let (access, len) = (ProtFlags::READ | ProtFlags::WRITE, frames_max * PAGE_SIZE);
        // SAFETY: a fresh anonymous mapping at an address of the kernel's choice aliases nothing.
        let raw = unsafe { mmap_anonymous(std::ptr::null_mut(), len, access, flags)? };
        note_arena(raw.addr(), len);
        let base = NonNull::new(raw.cast()).expect("mmap never maps address zero unless told to");
        Ok(Window { base, frames_max, frames: own_frames, own: own_frames, regions: Vec::new() })
    }

    /// Puts `count` pages of `file`, from byte `offset` on, where shared page `first` is.
    ///
    /// Bounds: whoever cuts the file short kills this process when it touches what is gone (SIGBUS), so the
    /// other process is one that may do that.
    ///
    /// # Errors
    /// `InvalidInput` beyond the reserved room or over another region; what mmap answers.
    pub fn map(&mut self, first: usize, count: usize, file: impl AsFd, offset: u64) -> io::Result<()> {
        let start = self.own.checked_add(first);
        let end = start.and_then(|start| start.checked_add(count)).filter(|&end| end <= self.frames_max);
        let (Some(start), Some(end)) = (start, end) else {
            let why = format!("memory beyond {} GiB", ((self.frames_max - self.own) * PAGE_SIZE) >> 30);
            return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
        };
        if self.regions.iter().any(|&(other, len)| other < end && start < other + len) {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "two regions of memory overlap"));
        }
        let at = self.base.as_ptr().wrapping_add(start).cast();
        let (access, flags) = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED | MapFlags::FIXED);
        // SAFETY: [start, end) lies in the reserved range, which is ours; `&mut self` says that nobody holds
        // a frame of it.
        unsafe { mmap(at, count * PAGE_SIZE, access, flags, file.as_fd(), offset)? };
        self.regions.push((start, count));
        self.frames = self.frames.max(end);
        Ok(())
    }

    /// Lets go of all that was mapped. No transfer may be in flight.
    ///
    /// # Errors
    /// What mmap answers; then some regions are still there.
    pub fn clear(&mut self) -> io::Result<()> {
        let flags = MapFlags::PRIVATE | MapFlags::NORESERVE | MapFlags::FIXED;
        while let Some(&(start, count)) = self.regions.last() {
            let at = self.base.as_ptr().wrapping_add(start).cast();
            // SAFETY: the region lies in the reserved range, which is ours; `&mut self` says that nobody
            // holds a frame of it.
            unsafe { mmap_anonymous(at, count * PAGE_SIZE, ProtFlags::READ | ProtFlags::WRITE, flags)? };
            self.regions.pop();
        }
        self.frames = self.own;
        Ok(())
    }

    /// Where there is memory, for links that teach a device where frames are: our own frames, then each region.
    pub fn stretches(&self) -> Vec<Stretch> {
        let own = std::iter::once((0, self.own)).filter(|&(_, count)| count > 0);
        let all = own.chain(self.regions.iter().copied());
        // A terabyte of pages is far below 2^32.
        all.map(|(first, count)| Stretch { first: FrameNo(first as u32), count: count as u32 }).collect()
    }

    /// All frames: our own, then the other process' pages by their number.
    pub fn frames(&mut self) -> &mut [Frame] {
        // SAFETY: the range is mapped, readable and writable as a whole and for ever, and any bytes are a
        // `Frame`. Within this process `&mut self` makes the slice the only way to it. The other process may
        // write meanwhile: by the protocol it leaves a frame alone while its request is under way, and if it
        // does not, it spoils its own page, because links copy frames and never decide by what is in them.
        unsafe { std::slice::from_raw_parts_mut(self.base.as_ptr(), self.frames) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arena::is_in_arena;
    use rustix::fs::{MemfdFlags, ftruncate, memfd_create};
    use std::fs::File;
    use std::os::unix::fs::FileExt;

    fn guest(pages: usize) -> File {
        let file = memfd_create("guest", MemfdFlags::CLOEXEC).expect("memory is there");
        ftruncate(&file, (pages * PAGE_SIZE) as u64).expect("it may grow");
        file.into()
    }

    #[test]
    fn a_frame_is_the_other_process_page_and_what_nobody_shares_reads_as_zeros() {
        let (mut window, file) = (Window::reserve(2, 1 << 40).expect("room"), guest(8));
        file.write_all_at(&[5; PAGE_SIZE], 3 * PAGE_SIZE as u64).expect("it is ours");
        window.map(0, 2, &file, 0).expect("there is room");
        window.map(4, 4, &file, 2 * PAGE_SIZE as u64).expect("there is room");
        let frames = window.frames();
        assert!(is_in_arena(frames));
        let firsts: Vec<u8> = frames.iter().map(|frame| frame.0[0]).collect();
        assert_eq!(firsts, [0, 0, 0, 0, 0, 0, 0, 5, 0, 0]);
        let stretch = |first, count| Stretch { first: FrameNo(first), count };
        assert_eq!(window.stretches(), [stretch(0, 2), stretch(2, 2), stretch(6, 4)]);
        window.frames()[2 + 1].0.fill(9);
        let mut page = [0; PAGE_SIZE];
        file.read_exact_at(&mut page, PAGE_SIZE as u64).expect("it is there");
        assert_eq!(page, [9; PAGE_SIZE]);
        window.clear().expect("nothing keeps it");
        assert_eq!(window.frames().len(), 2);
        assert_eq!(window.stretches(), [stretch(0, 2)]);
        window.map(1, 1, &file, 3 * PAGE_SIZE as u64).expect("there is room");
        let firsts: Vec<u8> = window.frames().iter().map(|frame| frame.0[0]).collect();
        assert_eq!(firsts, [0, 0, 0, 5], "nothing is left of what was mapped before");
    }

    #[test]
    fn regions_that_overlap_or_lie_outside_are_refused() {
        let (mut window, file) = (Window::reserve(1, 8 * PAGE_SIZE).expect("room"), guest(8));
        window.map(2, 4, &file, 0).expect("there is room");
        assert!(window.map(5, 1, &file, 0).is_err());
        assert!(window.map(1, 2, &file, 0).is_err());
        assert!(window.map(6, 3, &file, 0).is_err());
        assert!(window.map(usize::MAX, 2, &file, 0).is_err());
        window.map(6, 2, &file, 0).expect("there is room");
    }
}
