//! The arena: the local memory of all frames, reserved once and given to the system and taken back by
//! the page.
//!
//! ```text
//!   reserve(max)      frames()            discard(f)
//!   address space ──► touched: resident ──► zeros, not resident ──► touched again ...
//! ```
//!
//! Refuses to free or to move: an arena lives as long as the process, so a frame's address is stable and
//! a device may write to it while the transfer is in flight.

use farmem::{Frame, FrameNo, PAGE_SIZE};
use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap_anonymous};
use std::io;
use std::ptr::NonNull;
use std::sync::Mutex;

/// Alignment of an arena, so that huge pages fit in it exactly.
const HUGE_PAGE_SIZE: usize = 2 << 20;

/// The address ranges of all arenas. An arena is never unmapped, so membership never ends.
static ARENAS: Mutex<Vec<(usize, usize)>> = Mutex::new(Vec::new());

/// The address ranges that a device knows. They stay registered for the rest of the process' life, as far as this goes.
static REGISTERED: Mutex<Vec<(usize, usize)>> = Mutex::new(Vec::new());

/// Reserved, zeroed local memory that costs nothing until it is touched.
pub struct Arena {
    base: NonNull<Frame>,
    frames: usize,
}

/// Gives frames of an arena back to the system. The frame reads as zeros afterwards.
///
/// To be used on frames that hold nothing, as [`farmem::Pager::poll_discard`] names them, and by the
/// thread that owns the frames.
#[derive(Clone, Copy)]
pub struct Discarder {
    base: NonNull<Frame>,
    frames: usize,
}

impl Arena {
    /// Reserves room for `max_bytes`, rounded down to whole frames.
    ///
    /// # Errors
    /// What mmap answers, e.g. when the address space is limited; `InvalidInput` below one frame.
    pub fn reserve(max_bytes: usize) -> io::Result<Arena> {
        let frames = max_bytes / PAGE_SIZE;
        if frames == 0 {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "local memory is smaller than a page"));
        }
        let len = frames * PAGE_SIZE;
        let flags = MapFlags::PRIVATE | MapFlags::NORESERVE;
        // SAFETY: a fresh anonymous mapping at an address of the kernel's choice aliases nothing.
        let raw = unsafe {
            mmap_anonymous(
                std::ptr::null_mut(),
                len + HUGE_PAGE_SIZE,
                ProtFlags::READ | ProtFlags::WRITE,
                flags,
            )?
        };
        let base = raw.wrapping_byte_add(raw.addr().next_multiple_of(HUGE_PAGE_SIZE) - raw.addr());
        // One touched frame would make 2 MiB resident.
        // SAFETY: [base, base + len) lies in the mapping just made. A refusal (a kernel without
        // transparent huge pages) changes nothing.
        let _ = unsafe { madvise(base, len, Advice::LinuxNoHugepage) };
        note_arena(base.addr(), len);
        let base = NonNull::new(base.cast()).expect("mmap never maps address zero unless told to");
        Ok(Arena { base, frames })
    }

    /// A handle that gives frames back to the system.
    pub fn discarder(&self) -> Discarder {
        Discarder { base: self.base, frames: self.frames }
    }

    /// Backs frames by huge pages.
    ///
    /// To be called by who takes frames side by side from the first on, as a pager does, and gives back the last ones
    /// first: then at most 2 MiB more is resident than has been touched, and 2 MiB of frames take one entry of the TLB,
    /// not 512. A huge page that has lost frames to [`Discarder::discard`] never becomes one again: the system would
    /// make all of it resident for any frame that is still in use.
    pub fn use_huge_pages(&self) {
        let len = self.frames * PAGE_SIZE;
        // SAFETY: the range is this arena; the advice changes no content. A refusal changes nothing.
        let _ = unsafe { madvise(self.base.as_ptr().cast(), len, Advice::LinuxHugepage) };
    }

    /// The frames, for the rest of the process' life.
    pub fn frames(self) -> &'static mut [Frame] {
        // SAFETY: the mapping is private to this arena, aligned, zeroed (any bytes are a `Frame`), never
        // unmapped, and `self` is consumed, so this slice is the only one.
        unsafe { std::slice::from_raw_parts_mut(self.base.as_ptr(), self.frames) }
    }
}

impl Discarder {
    /// Makes `count` frames from `first` on non-resident; they read as zeros when touched again.
    ///
    /// Does nothing if a device knows any of them: it would go on writing to the old pages, which nobody sees any more.
    ///
    /// # Panics
    /// If the frames lie outside the arena.
    pub fn discard(&self, first: FrameNo, count: u32) {
        let (first, count) = (first.0 as usize, count as usize);
        assert!(first + count <= self.frames, "frames {first}+{count} are outside the arena");
        let start = self.base.as_ptr().wrapping_add(first).cast::<std::ffi::c_void>();
        if is_registered(start.addr(), count * PAGE_SIZE) {
            return;
        }
        let per_huge = HUGE_PAGE_SIZE / PAGE_SIZE;
        let (huge_first, huge_end) =
            (first / per_huge * per_huge, (first + count).next_multiple_of(per_huge));
        let huge_count = huge_end.min(self.frames) - huge_first;
        let huge = self.base.as_ptr().wrapping_add(huge_first).cast();
        // SAFETY: the range lies in the arena; the advice changes no content. A refusal changes nothing.
        let _ = unsafe { madvise(huge, huge_count * PAGE_SIZE, Advice::LinuxNoHugepage) };
        // SAFETY: the range lies in the arena, whose mapping is private and anonymous: the frames turn to
        // zeros, which are valid. The owner of the frames, who alone is told to call this, reads none now.
        if let Err(error) = unsafe { madvise(start, count * PAGE_SIZE, Advice::LinuxDontNeed) } {
            log::warn!("cannot give {count} frames back to the system: {error}");
        }
    }
}

// SAFETY: the handle only names an address range that is mapped for ever; madvise is thread-safe.
unsafe impl Send for Discarder {}
// SAFETY: as for `Send`.
unsafe impl Sync for Discarder {}
// SAFETY: the arena owns its mapping alone, as a `Box<[Frame]>` would.
unsafe impl Send for Arena {}

/// Notes a range of addresses that will never be unmapped.
pub(crate) fn note_arena(start: usize, len: usize) {
    ARENAS.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).push((start, len));
}

/// Whether these frames lie in an arena, and so stay mapped for ever.
pub(crate) fn is_in_arena(frames: &[Frame]) -> bool {
    let start = frames.as_ptr().addr();
    let end = start + size_of_val(frames);
    let arenas = ARENAS.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    arenas.iter().any(|&(base, len)| base <= start && end <= base + len)
}

/// Notes that a device knows these frames: from now on none of them is given back to the system.
pub(crate) fn note_registered(frames: &[Frame]) {
    let mut registered = REGISTERED.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let range = (frames.as_ptr().addr(), size_of_val(frames));
    if !registered.contains(&range) {
        registered.push(range);
    }
}

fn is_registered(start: usize, len: usize) -> bool {
    let registered = REGISTERED.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    registered.iter().any(|&(base, size)| base < start + len && start < base + size)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_start_as_zeros_and_are_zeros_after_a_discard() {
        let arena = Arena::reserve(8 * PAGE_SIZE + 100).expect("memory is there");
        let discarder = arena.discarder();
        let frames = arena.frames();
        assert_eq!(frames.len(), 8);
        assert!(frames.iter().all(|frame| frame.0.iter().all(|&byte| byte == 0)));
        frames.iter_mut().for_each(|frame| frame.0.fill(7));
        discarder.discard(FrameNo(2), 3);
        let zeroed: Vec<bool> = frames.iter().map(|frame| frame.0 == [0; PAGE_SIZE]).collect();
        assert_eq!(zeroed, [false, false, true, true, true, false, false, false]);
    }

    /// Whether the system may back the frame by a huge page.
    fn may_be_huge(frame: &Frame) -> bool {
        let smaps = std::fs::read_to_string("/proc/self/smaps").expect("Linux tells the mappings");
        let mut is_inside = false;
        for line in smaps.lines() {
            let range = line.split_once(' ').and_then(|(range, _)| range.split_once('-'));
            let bounds = range.map(|(from, to)| [from, to].map(|hex| usize::from_str_radix(hex, 16)));
            if let Some([Ok(from), Ok(to)]) = bounds {
                is_inside = (from..to).contains(&std::ptr::from_ref(frame).addr());
            } else if is_inside && let Some(flags) = line.strip_prefix("VmFlags:") {
                return flags.split_whitespace().any(|flag| flag == "hg");
            }
        }
        panic!("the frame is mapped");
    }

    /// A few frames were in use in each of many huge pages after local memory had been cut to a quarter. When the
    /// system looked for huge pages, every ten seconds, it made all of their frames resident: 33 MB under a cap of 16.
    #[test]
    fn a_huge_page_that_has_lost_frames_never_becomes_one_again() {
        let per_huge = HUGE_PAGE_SIZE / PAGE_SIZE;
        let arena = Arena::reserve(4 * HUGE_PAGE_SIZE).expect("memory is there");
        arena.use_huge_pages();
        let discarder = arena.discarder();
        let frames = arena.frames();
        frames.iter_mut().for_each(|frame| frame.0.fill(7));
        assert!(may_be_huge(&frames[per_huge + 5]), "this system has huge pages");
        discarder.discard(FrameNo(per_huge as u32 + 7), per_huge as u32 - 3);
        let huge: Vec<bool> = (0..4).map(|huge| may_be_huge(&frames[huge * per_huge + 1])).collect();
        assert_eq!(huge, [true, false, false, true]);
    }

    #[test]
    fn a_frame_that_a_device_knows_is_never_given_back() {
        let arena = Arena::reserve(8 * PAGE_SIZE).expect("memory is there");
        let discarder = arena.discarder();
        let frames = arena.frames();
        frames.iter_mut().for_each(|frame| frame.0.fill(7));
        note_registered(&frames[2..4]);
        discarder.discard(FrameNo(3), 2);
        discarder.discard(FrameNo(5), 3);
        let kept: Vec<bool> = frames.iter().map(|frame| frame.0 == [7; PAGE_SIZE]).collect();
        assert_eq!(kept, [true, true, true, true, true, false, false, false]);
    }

    #[test]
    fn a_terabyte_can_be_reserved_because_nothing_is_touched() {
        let arena = Arena::reserve(1 << 40).expect("address space is there");
        let frames = arena.frames();
        frames[frames.len() - 1].0[0] = 1;
        assert!(is_in_arena(&frames[3..9]));
        assert!(!is_in_arena(&[Frame([0; PAGE_SIZE])]));
    }

    #[test]
    fn less_than_a_frame_is_refused() {
        assert!(Arena::reserve(PAGE_SIZE - 1).is_err());
    }
}
