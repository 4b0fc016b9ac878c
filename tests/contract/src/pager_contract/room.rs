//! The contract where far memory takes no pages: who is told, who goes on, and how it ends.

use super::{Factory, Rig};
use core::time::Duration;
use farmem::{Acquired, PageSet, PagerError, Prefetch};

/// Most of the frames dirty, and a far memory that takes no page.
fn full_rig(factory: &Factory, policy: Prefetch) -> Rig {
    let mut rig = Rig::new(factory, 16, policy);
    rig.link.script().failing_write_backs = u32::MAX;
    for page in 1..=12 {
        rig.fill(page, page as u8);
    }
    rig
}

/// A command that is refused changes nothing, what is here stays here, and nobody has to start anew.
pub fn who_needs_a_frame_of_a_full_far_memory_is_told_so_until_it_takes_pages_again(factory: &Factory) {
    let mut rig = full_rig(factory, Prefetch::Ahead);
    let ticket = rig.wait_of(&PageSet::new(), 8);
    let refused = until(&mut rig, Duration::from_secs(1), |rig| rig.woken.contains(&ticket));
    assert!(refused > Duration::from_millis(250), "after {refused:?} it may be an accident");
    assert_eq!(rig.pager.acquire(&PageSet::new(), 8, false, rig.now), Err(PagerError::Refused));
    assert_eq!(rig.pager.acquire(&PageSet::new(), 8, true, rig.now), Err(PagerError::Refused));
    // Whoever needs no frame, or one that is there, goes on.
    for page in 1..=12 {
        rig.check(page, page as u8);
    }
    rig.fill(2, 102);
    rig.link.script().failing_write_backs = 0;
    until(&mut rig, Duration::from_secs(1), |rig| {
        rig.pager.acquire(&PageSet::new(), 8, false, rig.now) == Ok(Acquired::Ready)
    });
    rig.fill(20, 20);
    for page in (1..=12).filter(|&page| page != 2) {
        rig.check(page, page as u8);
    }
    rig.check(2, 102);
    assert_eq!(rig.pager.stats().frames_pinned, 0);
}

/// Others' write backs succeed all the while.
pub fn no_wait_is_for_ever_beside_a_full_node(factory: &Factory) {
    let mut rig = Rig::new(factory, 16, Prefetch::Ahead);
    rig.link.script().refused_pages = 100..200;
    for page in 100..110 {
        rig.fill(page, page as u8);
    }
    let ticket = rig.wait_of(&PageSet::new(), 8);
    let mut page = 0;
    let waited = until(&mut rig, Duration::from_secs(5), |rig| {
        page += 1;
        rig.fill(1 + page % 50, page as u8);
        rig.woken.contains(&ticket)
    });
    assert!(waited > Duration::from_secs(1), "given up after {waited:?}");
    assert_eq!(rig.pager.acquire(&PageSet::new(), 8, false, rig.now), Err(PagerError::Refused));
    for page in 100..110 {
        rig.check(page, page as u8);
    }
}

/// The same error as elsewhere, and the same end of it.
pub fn a_policy_that_waits_is_told_of_a_full_far_memory_too(factory: &Factory) {
    for policy in [Prefetch::None, Prefetch::Sequential, Prefetch::Guided] {
        let mut rig = full_rig(factory, policy);
        for _ in 0..3 {
            assert_eq!(rig.pager.acquire(&PageSet::new(), 8, false, rig.now), Err(PagerError::Refused));
            rig.now.0 += 300_000_000;
        }
        for page in 1..=12 {
            rig.check(page, page as u8);
        }
        rig.link.script().failing_write_backs = 0;
        until(&mut rig, Duration::from_secs(1), |rig| {
            rig.pager.acquire(&PageSet::new(), 8, false, rig.now) == Ok(Acquired::Ready)
        });
        for page in 1..=12 {
            rig.check(page, page as u8);
        }
    }
}

/// Turns the loop, a millisecond a turn, until something is so; how long that takes.
fn until(rig: &mut Rig, longest: Duration, mut is_so: impl FnMut(&mut Rig) -> bool) -> Duration {
    let begin = rig.now;
    loop {
        let passed = Duration::from_nanos(rig.now.0 - begin.0);
        if is_so(rig) {
            return passed;
        }
        assert!(passed < longest, "not after {passed:?}");
        rig.turn();
        rig.now.0 += 990_000;
    }
}
