//! Which frames a device knows: a few at a time, as transfers first name them, and never two stretches in one region.
//!
//! ```text
//!   stretch                                  (a hole)   stretch
//!   ├─ 512 frames ─┼─ 512 frames ─┼─ 80 ─┤              ├─ 512 frames ─┼─ 7 ─┤      a region each, once it is needed
//!
//!   stretches are given anew ─► every region is forgotten, before anything is registered again
//! ```
//!
//! A region names pages, not addresses: if other memory comes to lie at a frame's address the device goes on
//! with the old one. Refuses a frame that lies in no stretch.

use crate::window::Stretch;
use farmem::{Frame, FrameNo, PAGE_SIZE};
use std::io;

/// Frames that are registered together: 2 MiB, what a huge page has. Memory is registered as it is used,
/// because an arena has room for much more than that, and a guest too.
pub const REGION_FRAMES: usize = 512;

/// The regions `R` that a device has of the frames.
pub struct Registered<R> {
    /// Where the frames begin, and how many there are.
    seen: (usize, usize),
    /// What was given, and the number that it was given with; without it all frames are one stretch.
    given: Option<u64>,
    stretches: Vec<Known<R>>,
}

/// A stretch, and its regions by [`REGION_FRAMES`].
struct Known<R> {
    first: usize,
    count: usize,
    regions: Vec<Option<R>>,
}

impl<R> Known<R> {
    fn new(first: usize, count: usize) -> Known<R> {
        Known { first, count, regions: (0..count.div_ceil(REGION_FRAMES)).map(|_| None).collect() }
    }
}

impl<R> Default for Registered<R> {
    fn default() -> Registered<R> {
        Registered { seen: (0, 0), given: None, stretches: Vec::new() }
    }
}

impl<R> Registered<R> {
    /// From now on frames lie in these stretches. What was registered of others is forgotten; a number that was given
    /// before says that nothing has changed.
    pub fn set(&mut self, number: u64, stretches: &[Stretch]) {
        if self.given == Some(number) {
            return;
        }
        self.given = Some(number);
        self.stretches.clear();
        let known = |stretch: &Stretch| Known::new(stretch.first.0 as usize, stretch.count as usize);
        self.stretches.extend(stretches.iter().map(known));
        self.stretches.sort_by_key(|stretch| stretch.first);
    }

    /// The region of a frame, made by `register` if there is none, and where in it the frame is. Units: bytes.
    ///
    /// # Errors
    /// `InvalidInput` for a frame in no stretch; what `register` answers.
    pub fn of(
        &mut self,
        frames: &[Frame],
        frame: FrameNo,
        register: impl FnOnce(&[Frame]) -> io::Result<R>,
    ) -> io::Result<(&R, usize)> {
        let seen = (frames.as_ptr().addr(), frames.len());
        if self.seen != seen {
            self.seen = seen;
            match self.given {
                None => self.stretches = vec![Known::new(0, frames.len())],
                Some(_) => self.stretches.iter_mut().for_each(|known| known.regions.fill_with(|| None)),
            }
        }
        let number = frame.0 as usize;
        let place = self.stretches.partition_point(|known| known.first <= number);
        let known = place.checked_sub(1).map(|place| &mut self.stretches[place]);
        let known = known.filter(|known| number - known.first < known.count).ok_or_else(|| {
            io::Error::new(io::ErrorKind::InvalidInput, format!("frame {number} is not for a device"))
        })?;
        let at = number - known.first;
        let (index, offset) = (at / REGION_FRAMES, at % REGION_FRAMES);
        let region = match &mut known.regions[index] {
            Some(region) => region,
            empty => {
                let start = known.first + index * REGION_FRAMES;
                let end = (start + REGION_FRAMES).min(known.first + known.count);
                empty.insert(register(&frames[start..end])?)
            }
        };
        Ok((region, offset * PAGE_SIZE))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frames(count: usize) -> Vec<Frame> {
        (0..count).map(|_| Frame([0; PAGE_SIZE])).collect()
    }

    fn stretch(first: u32, count: u32) -> Stretch {
        Stretch { first: FrameNo(first), count }
    }

    /// What a region is of: its first frame and how many.
    type Fake = (usize, usize);

    fn fake<'f>(all: &'f [Frame]) -> impl FnOnce(&[Frame]) -> io::Result<Fake> + 'f {
        |some| Ok(((some.as_ptr().addr() - all.as_ptr().addr()) / PAGE_SIZE, some.len()))
    }

    #[test]
    fn without_stretches_all_frames_are_registered_as_they_are_used() {
        let frames = frames(1300);
        let mut registered = Registered::default();
        for (frame, wanted, at) in [(0, (0, 512), 0), (511, (0, 512), 511), (1299, (1024, 276), 275)] {
            let (region, offset) = registered.of(&frames, FrameNo(frame), fake(&frames)).expect("it is one");
            assert_eq!((*region, offset), (wanted, at * PAGE_SIZE), "{frame}");
        }
        let again = registered.of(&frames, FrameNo(1030), |_| panic!("it is known")).expect("it is one");
        assert_eq!(again.0, &(1024, 276));
        assert!(registered.of(&frames, FrameNo(1300), fake(&frames)).is_err());
        let fewer = &frames[..1100];
        let region = registered.of(fewer, FrameNo(1099), fake(fewer)).expect("it is one").0;
        assert_eq!(*region, (1024, 76), "more or fewer frames are other frames");
    }

    #[test]
    fn a_region_is_of_one_stretch_and_no_hole_is_registered() {
        let frames = frames(2000);
        let mut registered = Registered::default();
        registered.set(1, &[stretch(700, 600), stretch(0, 160), stretch(1300, 3)]);
        for (frame, wanted) in [
            (0, (0, 160)),
            (159, (0, 160)),
            (700, (700, 512)),
            (1211, (700, 512)),
            (1212, (1212, 88)),
            (1299, (1212, 88)),
            (1300, (1300, 3)),
        ] {
            let (region, offset) = registered.of(&frames, FrameNo(frame), fake(&frames)).expect("it is one");
            assert_eq!((*region, offset), (wanted, (frame as usize - wanted.0) * PAGE_SIZE), "{frame}");
        }
        for frame in [160, 699, 1303, 1999, u32::MAX] {
            assert!(registered.of(&frames, FrameNo(frame), |_| panic!("a hole")).is_err(), "{frame}");
        }
    }

    #[test]
    fn what_is_given_anew_is_forgotten_before_it_is_registered_again() {
        let frames = frames(600);
        let alive = std::rc::Rc::new(());
        let mut registered = Registered::default();
        let known = |registered: &mut Registered<std::rc::Rc<()>>, frame| {
            let made = registered.of(&frames, FrameNo(frame), |_| Ok(alive.clone()));
            made.expect("it is one");
            std::rc::Rc::strong_count(&alive) - 1
        };
        registered.set(1, &[stretch(0, 600)]);
        assert_eq!(known(&mut registered, 0), 1);
        assert_eq!(known(&mut registered, 599), 2);
        registered.set(1, &[stretch(0, 600)]);
        assert_eq!(known(&mut registered, 599), 2, "nothing has changed");
        registered.set(2, &[stretch(0, 600)]);
        assert_eq!(std::rc::Rc::strong_count(&alive), 1, "it may be other memory");
        assert_eq!(known(&mut registered, 599), 1);
    }

    #[test]
    fn a_registration_that_fails_is_tried_again() {
        let frames = frames(1);
        let mut registered = Registered::default();
        let refused = registered.of(&frames, FrameNo(0), |_| Err(io::ErrorKind::OutOfMemory.into()));
        assert!(refused.is_err());
        assert_eq!(registered.of(&frames, FrameNo(0), fake(&frames)).expect("it is one").0, &(0, 1));
    }
}
