//! The one place where far memory is touched, and the signal that a touch may raise.
//!
//! ```text
//!   read, write ─► touch ─► mapped ──────────────────────────────────► the bytes are there
//!                     │ ▲
//!                     ▼ │ the handler returns: touched again
//!                  SIGBUS ─► on_sigbus ─► Residency::resolve ─► mapped
//!                                │              └─► an error ─► a page of zeros lets the touch pass; see `outcome`
//!                                └─ no touch of ours: whoever had the signal before
//! ```
//!
//! A handler thread would need the pager, which the faulting thread holds, and two switches of context a fault.
//! In SIGBUS mode the thread that touched is the one that resolves, at an instruction of ours: it holds no lock
//! and is in the middle of nothing, so the handler may do whatever the pager does.

use crate::table::UffdPager;
use farmem::{FarAddr, Frame, PAGE_SIZE, PageNo, Pager, PagerError, Touch};
use std::cell::Cell;
use std::ffi::c_void;
use std::ptr::{null, null_mut};
use std::sync::OnceLock;
use std::sync::atomic::{Ordering, compiler_fence};

/// What an untouched page reads as.
static ZEROS: Frame = Frame([0; PAGE_SIZE]);

/// Who had the signal before.
static BEFORE: OnceLock<libc::sigaction> = OnceLock::new();

/// The touch that is being made.
#[derive(Clone, Copy)]
struct Touching {
    at: *const u8,
    page: PageNo,
    touch: Touch,
    pager: *mut UffdPager,
}

const NOTHING: Touching = Touching { at: null(), page: PageNo(0), touch: Touch::Read, pager: null_mut() };

thread_local! {
    static TOUCHING: Cell<Touching> = const { Cell::new(NOTHING) };
}

/// Where the bytes of a page are to be had.
pub(crate) enum Place {
    /// Nowhere: the page is untouched.
    Nowhere,
    /// In the range, or that is where touching will bring them.
    Range,
    /// In the frame's home, because a link reads it there.
    Home(farmem::FrameNo),
}

/// The bytes, after as many faults as it takes.
pub(crate) fn read(pager: &mut UffdPager, addr: FarAddr, len: usize) -> Result<&[u8], PagerError> {
    assert!(addr.offset() + len <= PAGE_SIZE, "bytes are asked for within a page");
    match pager.mapping().place(addr.page()) {
        Place::Nowhere => Ok(&ZEROS.0[..len]),
        Place::Home(frame) => Ok(&pager.frames()[frame.0 as usize].0[addr.offset()..addr.offset() + len]),
        Place::Range => {
            let at = touch(pager, addr, Touch::Read)?;
            // SAFETY: the page is mapped, the bytes lie in it, and nothing unmaps it while the pager is borrowed.
            Ok(unsafe { std::slice::from_raw_parts(at, len) })
        }
    }
}

/// The bytes to be changed, after as many faults as it takes.
pub(crate) fn write(pager: &mut UffdPager, addr: FarAddr, len: usize) -> Result<&mut [u8], PagerError> {
    assert!(addr.offset() + len <= PAGE_SIZE, "bytes are asked for within a page");
    pager.unshare(addr.page())?;
    match pager.mapping().place(addr.page()) {
        Place::Home(frame) => {
            pager.mapping().note(addr.page(), Touch::Write);
            Ok(&mut pager.frames()[frame.0 as usize].0[addr.offset()..addr.offset() + len])
        }
        Place::Nowhere | Place::Range => {
            let at = touch(pager, addr, Touch::Write)?;
            // SAFETY: as in `read`, and no reply holds the frame.
            Ok(unsafe { std::slice::from_raw_parts_mut(at, len) })
        }
    }
}

/// Touches the byte and answers where it is.
fn touch(pager: &mut UffdPager, addr: FarAddr, touch: Touch) -> Result<*mut u8, PagerError> {
    let page = addr.page();
    let at = pager.mapping().range().page(page).wrapping_add(addr.offset());
    // SAFETY: `at` lies in the mapped range; if its page is missing, the signal gets this very borrow.
    unsafe { touch_byte(Touching { at, page, touch, pager }) };
    if let Err(error) = pager.mapping().take_outcome() {
        pager.mapping().range().let_pass_no_more(page);
        return Err(error);
    }
    pager.mapping().note(page, touch);
    Ok(at)
}

/// Reads the byte, with the touch published for [`on_sigbus`]. Not inlined, and fenced: what the handler changes
/// through the pointer that it finds is not what the caller has in registers.
///
/// # Safety
/// `touching.at` is mapped, and the pager is borrowed for this call alone.
#[inline(never)]
unsafe fn touch_byte(touching: Touching) {
    TOUCHING.set(touching);
    compiler_fence(Ordering::SeqCst);
    // SAFETY: as the caller says. Any byte is a `u8`.
    let byte = unsafe { touching.at.read_volatile() };
    std::hint::black_box(byte);
    compiler_fence(Ordering::SeqCst);
    TOUCHING.set(NOTHING);
}

/// Makes SIGBUS ours, once for the process. It stays: others' faults are passed on.
pub(crate) fn take_signal() {
    BEFORE.get_or_init(|| {
        // SAFETY: zeros are a valid `sigaction`: the default action with an empty mask.
        let (mut ours, mut before): (libc::sigaction, libc::sigaction) =
            unsafe { (std::mem::zeroed(), std::mem::zeroed()) };
        let handler: extern "C" fn(libc::c_int, *mut libc::siginfo_t, *mut c_void) = on_sigbus;
        ours.sa_sigaction = handler as usize;
        // No stack of its own: the pager may need more than a signal stack has, and no touch is a stack overflow.
        ours.sa_flags = libc::SA_SIGINFO;
        // SAFETY: the handler has the type that SA_SIGINFO asks for, and lives as long as the process.
        let installed = unsafe { libc::sigaction(libc::SIGBUS, &ours, &mut before) };
        assert_eq!(installed, 0, "SIGBUS is a signal that can be handled");
        before
    });
}

/// Resolves the fault of a touch; while it runs the signal is blocked, so that a fault in here ends the process.
extern "C" fn on_sigbus(signal: libc::c_int, info: *mut libc::siginfo_t, context: *mut c_void) {
    let touching = TOUCHING.get();
    // SAFETY: the kernel passes a valid siginfo, and SIGBUS has an address.
    let at = unsafe { (*info).si_addr() };
    if touching.pager.is_null() || at.cast_const().cast() != touching.at {
        return pass_on(signal, info, context);
    }
    // SAFETY: `touch` has published the pager that it has borrowed, and waits in `touch_byte` until this returns.
    let pager = unsafe { &mut *touching.pager };
    let resolved = pager.resolve(touching.page, touching.touch);
    pager.mapping().end_fault(touching.page, resolved);
}

/// A fault that is none of ours.
fn pass_on(signal: libc::c_int, info: *mut libc::siginfo_t, context: *mut c_void) {
    let action = BEFORE.get().map_or(libc::SIG_DFL, |before| before.sa_sigaction);
    if action == libc::SIG_DFL || action == libc::SIG_IGN {
        // The instruction is made again, and ends the process as if this had never been here.
        // SAFETY: the default action is always valid.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
        return;
    }
    if BEFORE.get().is_some_and(|before| before.sa_flags & libc::SA_SIGINFO != 0) {
        // SAFETY: with SA_SIGINFO that is what the address in `sa_sigaction` is.
        let handler: extern "C" fn(libc::c_int, *mut libc::siginfo_t, *mut c_void) =
            unsafe { std::mem::transmute(action) };
        handler(signal, info, context);
    } else {
        // SAFETY: without it, it is this.
        let handler: extern "C" fn(libc::c_int) = unsafe { std::mem::transmute(action) };
        handler(signal);
    }
}
