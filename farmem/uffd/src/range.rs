//! The far range and the arena: the two places where a page's memory may be, and its way from one to the other.
//!
//! ```text
//!            enter: MOVE a run (or COPY, and give the original back)
//!   arena  ────────────────────────────────────────────────────────►  far range
//!   frame f ◄──────────────────────────────────────────────────────── page p
//!            leave: MOVE a run (or copy it by hand)
//! ```
//!
//! With MOVE not a byte is copied and no memory is taken or given: the kernel changes page table entries.
//! Both ends are registered, because the kernel moves to registered ranges only: the range for missing pages,
//! the arena for write protection that is never asked for, so that links may touch empty frames there. Whose
//! page goes where is the table's business.

use crate::kernel::{OpenError, Uffd, Way};
use farmem::{Frame, FrameNo, PAGE_SIZE, PageNo};
use linux_raw_sys::general::{UFFDIO_REGISTER_MODE_MISSING, UFFDIO_REGISTER_MODE_WP};
use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap_anonymous, munmap};
use std::io;
use std::ptr::NonNull;

/// Tries of one page that the kernel says it cannot move right now; then it is copied.
const MOVE_TRIES_MAX: u32 = 4;

/// Consecutive pages in consecutive frames.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Run {
    pub(crate) page: PageNo,
    pub(crate) frame: FrameNo,
    pub(crate) count: u32,
}

impl Run {
    /// Adds a page in a frame if it follows.
    pub(crate) fn take(&mut self, page: PageNo, frame: FrameNo) -> bool {
        let follows = page.0 == self.page.0 + self.count && frame.0 == self.frame.0 + self.count;
        self.count += u32::from(follows);
        follows
    }
}

/// The mapped range of one far heap, and the arena of its frames.
pub(crate) struct FarRange {
    uffd: Uffd,
    base: NonNull<u8>,
    far_pages: u32,
    arena: NonNull<u8>,
    frames: usize,
    /// Whether pages are moved home, too.
    moves_home: bool,
}

impl FarRange {
    /// Maps and registers a range that is empty.
    pub(crate) fn map(frames: &mut [Frame], far_pages: u32, way: Way) -> Result<FarRange, OpenError> {
        let uffd = Uffd::open(way)?;
        let len = far_pages as usize * PAGE_SIZE;
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a fresh anonymous mapping at an address of the kernel's choice aliases nothing.
        let base = unsafe {
            mmap_anonymous(std::ptr::null_mut(), len, protection, MapFlags::PRIVATE | MapFlags::NORESERVE)
        };
        let base = base.map_err(|error| OpenError::NoRange(error.into()))?;
        let base = NonNull::new(base.cast()).expect("mmap never maps address zero unless told to");
        let arena = NonNull::from(&mut *frames).cast();
        let mut range = FarRange { uffd, base, far_pages, arena, frames: frames.len(), moves_home: false };
        // SAFETY: the advice is for the mapping just made and changes no content. A refusal changes nothing.
        let _ = unsafe { madvise(base.as_ptr().cast(), len, Advice::LinuxNoHugepage) };
        range
            .uffd
            .register(base.as_ptr().addr(), len, UFFDIO_REGISTER_MODE_MISSING)
            .map_err(OpenError::NoRange)?;
        if range.uffd.moves {
            let arena_len = frames.len() * PAGE_SIZE;
            let registered = range.uffd.register(arena.as_ptr().addr(), arena_len, UFFDIO_REGISTER_MODE_WP);
            // Some processors cannot write-protect: then pages are copied home.
            range.moves_home = registered.is_ok();
        }
        Ok(range)
    }

    pub(crate) fn far_pages(&self) -> u32 {
        self.far_pages
    }

    /// Where the page is touched.
    #[inline]
    pub(crate) fn page(&self, page: PageNo) -> *mut u8 {
        assert!(page.0 < self.far_pages, "{page:?} is beyond far memory");
        self.base.as_ptr().wrapping_add(page.0 as usize * PAGE_SIZE)
    }

    /// Where the frame's home is.
    #[inline]
    pub(crate) fn home(&self, frame: FrameNo) -> *mut u8 {
        assert!((frame.0 as usize) < self.frames, "{frame:?} is outside the arena");
        self.arena.as_ptr().wrapping_add(frame.0 as usize * PAGE_SIZE)
    }

    /// Maps a run's frames at their pages, which are missing.
    ///
    /// # Errors
    /// The system's, if it has no memory for it.
    /// # Safety
    /// Nobody has a reference into these frames.
    pub(crate) unsafe fn enter(&mut self, run: Run) -> io::Result<()> {
        let (dst, src) = (self.page(run.page), self.home(run.frame));
        let mut done = 0;
        let len = run.count as usize * PAGE_SIZE;
        let mut tries = 0;
        while done < len {
            let (to, from) = (dst.wrapping_add(done), src.wrapping_add(done));
            if !self.uffd.moves || tries >= MOVE_TRIES_MAX {
                // SAFETY: as the caller says; the original is given back once its copy is mapped.
                unsafe { self.enter_by_copy(to, from)? };
                (done, tries) = (done + PAGE_SIZE, 0);
                continue;
            }
            // SAFETY: as the caller says.
            let (moved, result) = unsafe { self.uffd.move_pages(to.addr(), from.addr(), len - done) };
            done += moved;
            tries = if moved > 0 { 0 } else { tries + 1 };
            if let Err(error) = result
                && moved == 0
                && error.raw_os_error() == Some(libc::ENOENT)
            {
                // Nothing was ever written to the frame: it has no memory yet.
                // SAFETY: the frame is the caller's and reads as zeros; now it has memory that says so.
                unsafe { from.write_volatile(0) };
            }
        }
        Ok(())
    }

    /// # Safety
    /// As [`FarRange::enter`].
    unsafe fn enter_by_copy(&mut self, page: *mut u8, frame: *mut u8) -> io::Result<()> {
        // SAFETY: the page is missing, so nobody has a reference into it.
        unsafe { self.uffd.copy_pages(page.addr(), frame.addr(), PAGE_SIZE).1? };
        // SAFETY: the frame is the caller's, and what it held is in the range now.
        unsafe { empty(frame, PAGE_SIZE) };
        Ok(())
    }

    /// Brings a run's pages home into their frames, which are empty there; the pages are missing afterwards.
    ///
    /// # Safety
    /// Nobody has a reference into these pages.
    pub(crate) unsafe fn leave(&mut self, run: Run) {
        let (src, dst) = (self.page(run.page), self.home(run.frame));
        let len = run.count as usize * PAGE_SIZE;
        let mut done = 0;
        let mut tries = 0;
        while done < len {
            let (from, to) = (src.wrapping_add(done), dst.wrapping_add(done));
            if self.moves_home && tries < MOVE_TRIES_MAX {
                // SAFETY: as the caller says; nobody refers to what is not in the arena.
                let (moved, _) = unsafe { self.uffd.move_pages(to.addr(), from.addr(), len - done) };
                done += moved;
                tries = if moved > 0 { 0 } else { tries + 1 };
            } else {
                // SAFETY: both are whole pages of mappings that do not overlap; the page is mapped, and nobody
                // else refers to it or to the frame, whose content is in the page.
                unsafe {
                    std::ptr::copy_nonoverlapping(from, to, PAGE_SIZE);
                    empty(from, PAGE_SIZE);
                }
                (done, tries) = (done + PAGE_SIZE, 0);
            }
        }
    }

    /// Makes pages missing whose content is dead. Their frames are empty at home, too: they take memory again when
    /// they are filled.
    ///
    /// # Safety
    /// Nobody has a reference into these pages.
    pub(crate) unsafe fn drop_dead(&mut self, run: Run) {
        if self.moves_home {
            // A page that is moved is neither given back nor asked for and cleared again.
            // SAFETY: as the caller says.
            unsafe { self.leave(run) };
        } else {
            // SAFETY: as the caller says.
            unsafe { empty(self.page(run.page), run.count as usize * PAGE_SIZE) };
        }
    }

    /// Lets the missing page read as zeros, so that the touch that waits for it ends.
    pub(crate) fn let_pass(&self, page: PageNo) -> io::Result<()> {
        self.uffd.zero_page(self.page(page).addr(), PAGE_SIZE)
    }

    /// Makes a page that was let pass missing again.
    pub(crate) fn let_pass_no_more(&mut self, page: PageNo) {
        // SAFETY: what reads there are zeros that only the touch has seen.
        unsafe { empty(self.page(page), PAGE_SIZE) };
    }
}

/// Gives memory back to the system.
///
/// # Safety
/// The range is mapped, private and anonymous, and nobody has a reference into it or wants its content.
unsafe fn empty(start: *mut u8, len: usize) {
    // SAFETY: as the caller says.
    let emptied = unsafe { madvise(start.cast(), len, Advice::LinuxDontNeed) };
    emptied.expect("anonymous memory of ours can be given back");
}

impl Drop for FarRange {
    fn drop(&mut self) {
        let len = self.far_pages as usize * PAGE_SIZE;
        // SAFETY: the mapping was made by `map` with this length; the pager, who alone hands out references into it,
        // is gone. A refusal leaves it mapped, which harms nobody.
        let _ = unsafe { munmap(self.base.as_ptr().cast(), len) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An arena of so many frames, each filled with its number.
    fn arena(frames: usize) -> &'static mut [Frame] {
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        let len = frames * PAGE_SIZE;
        // SAFETY: a fresh anonymous mapping, never unmapped.
        let base = unsafe { mmap_anonymous(std::ptr::null_mut(), len, protection, MapFlags::PRIVATE) };
        let base = base.expect("memory is there").cast::<Frame>();
        // SAFETY: it is ours alone, aligned to pages, and zeros are valid frames.
        let arena = unsafe { std::slice::from_raw_parts_mut(base, frames) };
        arena.iter_mut().zip(0..).for_each(|(frame, number)| frame.0.fill(number));
        arena
    }

    #[test]
    fn a_run_is_moved_there_and_back_by_one_call_each() {
        let arena = arena(8);
        let mut range = FarRange::map(arena, 100, Way::Best).expect("userfaultfd is allowed");
        if !range.uffd.moves {
            eprintln!("SKIPPED: this kernel has no UFFDIO_MOVE");
            return;
        }
        let len = 4 * PAGE_SIZE;
        let (page, home) = (range.page(PageNo(50)), range.home(FrameNo(2)));
        // SAFETY: nobody refers to these frames between the calls.
        let (moved, result) = unsafe { range.uffd.move_pages(page.addr(), home.addr(), len) };
        assert_eq!((moved, result.is_ok()), (len, true), "{result:?}");
        // SAFETY: the pages were just mapped.
        unsafe { page.wrapping_add(PAGE_SIZE).write(77) };
        // SAFETY: as above.
        let (moved, result) = unsafe { range.uffd.move_pages(home.addr(), page.addr(), len) };
        assert_eq!((moved, result.is_ok()), (len, true), "{result:?}");
        // SAFETY: they are home again.
        assert_eq!([1, 2, 3, 4].map(|frame| unsafe { *range.home(FrameNo(frame)) }), [1, 2, 77, 4]);
        // SAFETY: as above.
        unsafe { range.enter(Run { page: PageNo(7), frame: FrameNo(0), count: 8 }) }.expect("it was empty");
    }

    #[test]
    fn without_moving_the_content_comes_and_goes_just_so() {
        let arena = arena(4);
        let mut range = FarRange::map(arena, 100, Way::Copy).expect("userfaultfd is allowed");
        let run = Run { page: PageNo(9), frame: FrameNo(1), count: 2 };
        // SAFETY: nobody refers to frames or pages between the calls.
        unsafe {
            range.enter(run).expect("the pages were missing");
            assert_eq!([*range.page(PageNo(9)), *range.page(PageNo(10))], [1, 2]);
            assert_eq!(*range.home(FrameNo(1)), 0, "its memory is in one place");
            range.page(PageNo(10)).write(88);
            range.leave(run);
            assert_eq!([*range.home(FrameNo(1)), *range.home(FrameNo(2))], [1, 88]);
        }
    }

    #[test]
    fn runs_are_pages_and_frames_that_follow() {
        let mut run = Run { page: PageNo(5), frame: FrameNo(9), count: 1 };
        assert!(run.take(PageNo(6), FrameNo(10)) && !run.take(PageNo(7), FrameNo(12)));
        assert!(!run.take(PageNo(8), FrameNo(11)));
        assert_eq!(run.count, 2);
    }
}
