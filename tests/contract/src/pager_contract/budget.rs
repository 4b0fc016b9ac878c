//! The contract where the budget changes: which frames come out, and that no page suffers.

use super::{Factory, Rig, TURNS_MAX, set};
use alloc::vec::Vec;
use farmem::{PAGE_SIZE, PageNo, Prefetch};

/// Each frame beyond the budget comes out once, and comes back when the budget grows.
pub fn a_smaller_budget_gives_frames_back(factory: &Factory) {
    let mut rig = Rig::new(factory, 64, Prefetch::Ahead);
    for page in 1..=60 {
        rig.fill(page, page as u8);
    }
    rig.pager.set_budget(8);
    let mut given = Vec::new();
    for _ in 0..TURNS_MAX {
        rig.turn();
        given.extend(core::iter::from_fn(|| rig.pager.poll_discard()));
    }
    assert_eq!(rig.pager.stats().frames_total, 8);
    let used = given.len();
    given.sort();
    given.dedup();
    assert_eq!(given.len(), used, "a frame was given back twice");
    // Those that were never used need not be given back.
    assert!((52..=56).contains(&used), "{used} frames given back");
    for page in 1..=60 {
        rig.check(page, page as u8);
    }
    rig.pager.set_budget(64);
    let want = set(&(1..=50).collect::<Vec<_>>());
    rig.acquire(&want, 0).expect("the frames are back");
    for page in 1..=50 {
        assert_eq!(rig.byte_of(page), page as u8);
    }
    rig.pager.release(&want);
    assert_eq!(rig.pager.poll_discard(), None);
}

/// The frames in use stay side by side, so that huge pages can back them.
pub fn a_slightly_smaller_budget_gives_back_the_last_frames(factory: &Factory) {
    let mut rig = Rig::new(factory, 512, Prefetch::Ahead);
    for page in 1..=500 {
        rig.fill(page, page as u8);
    }
    rig.pager.set_budget(494);
    let mut given = Vec::new();
    for _ in 0..TURNS_MAX {
        rig.turn();
        given.extend(core::iter::from_fn(|| rig.pager.poll_discard()));
    }
    assert!(given.len() >= 6, "only {given:?} were given back");
    assert!(given.iter().all(|frame| frame.0 >= 494), "{given:?} leave holes");
    for page in 1..=500 {
        rig.check(page, page as u8);
    }
}

/// A page that was written where nobody looked is not given up as it was before. Where there is an MMU only that knows.
pub fn a_smaller_budget_loses_no_write(factory: &Factory) {
    let mut rig = Rig::new(factory, 512, Prefetch::Ahead);
    for page in 1..=490 {
        rig.fill(page, 0);
    }
    rig.pager.evict_all();
    for _ in 0..TURNS_MAX {
        rig.turn();
    }
    for page in 1..=490 {
        let addr = PageNo(page).addr();
        rig.pager.bytes_mut(addr, PAGE_SIZE).expect("it is here, or comes").fill(page as u8);
    }
    rig.pager.set_budget(484);
    for _ in 0..TURNS_MAX {
        rig.turn();
    }
    for page in 1..=490 {
        rig.check(page, page as u8);
    }
}
