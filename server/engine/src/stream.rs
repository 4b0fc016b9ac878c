//! A reply too large for local memory, fetched window by window as the socket drains.
//!
//! Refuses to decide what is streamed: commands do. The objects that a stream reads are borrowed, so that
//! its client gets the value that stood when the command ran, whatever is written meanwhile.

use crate::far::Far;
use alloc::collections::VecDeque;
use alloc::vec::Vec;
use farmem::{Acquired, FarAddr, FrameNo, Instant, PAGE_SIZE, PageSet, PagerError, Ticket};

/// Pages of one window: held while they leave. 32 pages are 128 KiB, about what a socket buffer takes.
pub const STREAM_WINDOW_PAGES: usize = 32;

/// Halvings of a window: 2^5 = 32 pages come down to one.
const WAITS_MAX: u32 = 5;

/// Bytes in far memory that leave one after the other.
#[derive(Clone, Copy, Debug)]
pub struct FarSlice {
    pub addr: FarAddr,
    pub len: usize,
    /// The borrowed object, returned when the slice has left; `NULL` where a later slice returns it.
    pub object: FarAddr,
}

/// What is left of a streamed reply.
#[derive(Default)]
pub struct Stream {
    slices: VecDeque<FarSlice>,
    /// The wait for the next window.
    pub waiting: Option<Ticket>,
    /// Waits in a row after which some of the window was gone again: each halves it, so that streams which
    /// take each other's frames come down to what fits beside the others. A page alone always gets through.
    waits: u32,
}

/// How far a stream got.
pub enum Pumped {
    /// The next frames, held, in order; and whether the stream is at its end.
    Frames(Vec<(FrameNo, usize, usize)>, bool),
    /// Pages are on their way.
    Waiting(Ticket),
}

impl Stream {
    /// Appends a slice; its object must have been borrowed for it.
    pub fn push(&mut self, slice: FarSlice) {
        self.slices.push_back(slice);
    }

    /// Whether nothing is left.
    pub fn is_empty(&self) -> bool {
        self.slices.is_empty()
    }

    /// Near memory that the stream takes. Units: bytes.
    pub fn near_bytes(&self) -> usize {
        size_of::<Stream>() + self.slices.capacity() * size_of::<FarSlice>()
    }

    /// The pages of the next window, from `skip` bytes into the stream, at most `pages_max`.
    fn window(&self, pages_max: usize, want: &mut PageSet) {
        want.clear();
        let mut pages = 0;
        for slice in &self.slices {
            let here = slice.len.min((pages_max - pages) * PAGE_SIZE - slice.addr.offset());
            want.push_bytes(slice.addr, here);
            pages += (slice.addr.offset() + here).div_ceil(PAGE_SIZE);
            if pages >= pages_max {
                break;
            }
        }
        want.normalise();
    }

    /// Takes the next window: holds its frames, or says what it waits for. The window after it is asked
    /// for ahead.
    /// # Errors
    /// What went wrong with a page of the window; the stream cannot go on then.
    pub fn pump(&mut self, far: &mut Far, now: Instant) -> Result<Pumped, PagerError> {
        let mut want = PageSet::new();
        let mut pages_max = (STREAM_WINDOW_PAGES >> self.waits.min(WAITS_MAX)).max(1);
        self.window(pages_max, &mut want);
        let acquired = loop {
            match far.pager.acquire(&want, 0, false, now) {
                // What frames there are may do for a part of it.
                Err(PagerError::Refused) if pages_max > 1 => pages_max /= 2,
                acquired => break acquired?,
            }
            self.window(pages_max, &mut want);
        };
        match acquired {
            Acquired::Waiting(ticket) => {
                self.waiting = Some(ticket);
                self.waits += 1;
                return Ok(Pumped::Waiting(ticket));
            }
            Acquired::Ready => (self.waiting, self.waits) = (None, 0),
        }
        let mut frames = Vec::with_capacity(STREAM_WINDOW_PAGES + 1);
        let mut pages = 0;
        while pages < pages_max {
            let Some(slice) = self.slices.front_mut() else { break };
            let here = slice.len.min(PAGE_SIZE - slice.addr.offset());
            let frame =
                far.pager.hold(slice.addr.page()).expect("acquired above, and a value has no untouched page");
            frames.push((frame, slice.addr.offset(), here));
            slice.addr = slice.addr.plus(here);
            slice.len -= here;
            pages += 1;
            if slice.len == 0 {
                let object = slice.object;
                self.slices.pop_front();
                if object != FarAddr::NULL {
                    far.return_object(object);
                }
            }
        }
        far.pager.release(&want);
        self.window(STREAM_WINDOW_PAGES, &mut want);
        far.pager.prefetch(&want, now);
        Ok(Pumped::Frames(frames, self.slices.is_empty()))
    }

    /// Gives back what the stream borrowed; its client is gone.
    pub fn end(self, far: &mut Far) {
        if let Some(ticket) = self.waiting {
            far.pager.cancel(ticket);
        }
        for slice in self.slices {
            if slice.object != FarAddr::NULL {
                far.return_object(slice.object);
            }
        }
    }
}
