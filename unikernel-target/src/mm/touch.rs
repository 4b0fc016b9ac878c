//! The one place where far memory is touched, and the page fault that a touch may take.
//!
//! ```text
//!   read, write ─► far_touch_* ─► mapped ─────────────────────────────► 0: the bytes are there
//!                     │ ▲
//!                     ▼ │ iretq: touch again
//!                   #PF ─► far_fault ─► Residency::resolve ─► mapped
//!                              │              └─► zeros, or an error ─► 1: see `outcome`
//!                              └─ any other instruction: a bug, `exception_14` ends the machine
//! ```
//!
//! A touch is a call of a function, so whoever touches expects its caller-saved registers, xmm0-15 among
//! them, to be lost: the trap saves none. It also passes the pager that it belongs to, so the trap needs no
//! static. Every touch stays within one page, and nothing evicts while its slice is borrowed: the borrow is
//! the pager's own. The trap runs on a stack of its own with interrupts off; it allocates nothing, takes no
//! lock, prints nothing and touches no far memory, or it would end in `exception_14` itself.

use super::MmuPager;
use super::tables::{page_of, pointer};
use core::arch::global_asm;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};
use farmem::{FarAddr, PAGE_SIZE, PageNo, PagerError, Resolved, Touch};

/// What an untouched page reads as.
static ZEROS: [u8; PAGE_SIZE] = [0; PAGE_SIZE];

/// Traps taken since boot.
static FAULTS: AtomicU64 = AtomicU64::new(0);

/// Page faults of the far heap since boot.
pub fn faults() -> u64 {
    FAULTS.load(Relaxed)
}

global_asm!(
    r#"
    .text
    .balign 16
    .globl far_touch_read, far_touch_write, far_fault
far_touch_read:                         // rdi: where, rsi: the pager
    mov al, byte ptr [rdi]
    xor eax, eax
    ret
    .balign 16
far_touch_write:
    or byte ptr [rdi], 0
    xor eax, eax
    ret
far_touch_failed:
    mov eax, 1
    ret

    .balign 16
far_fault:                              // error code, rip, cs, rflags, rsp, ss
    push rax
    xor edx, edx
    lea rax, [rip + far_touch_read]
    cmp rax, [rsp + 16]
    je 1f
    inc edx
    lea rax, [rip + far_touch_write]
    cmp rax, [rsp + 16]
    je 1f
    pop rax
    jmp exception_14
1:  mov [rsp], rdi
    push rsi
    call {resolve}
    pop rsi
    pop rdi
    add rsp, 8
    test eax, eax
    jne 2f
    iretq
2:  lea rax, [rip + far_touch_failed]
    mov [rsp], rax
    iretq
"#,
    resolve = sym resolve,
);

unsafe extern "C" {
    fn far_touch_read(at: *mut u8, pager: *mut ()) -> u32;
    fn far_touch_write(at: *mut u8, pager: *mut ()) -> u32;
    /// The gate of vector 14.
    pub fn far_fault();
}

/// The bytes, after as many page faults as it takes.
#[inline]
pub fn read(pager: &mut MmuPager, addr: FarAddr, len: usize) -> Result<&[u8], PagerError> {
    pager.mapping().do_chores();
    let at = pointer(addr);
    // SAFETY: the touch reads a byte of the far range, or takes the trap, which gets this very borrow.
    if unsafe { far_touch_read(at, (&raw mut *pager).cast()) } != 0 {
        let outcome = core::mem::replace(&mut pager.mapping().outcome, Ok(()));
        return outcome.map(|()| &ZEROS[..len]);
    }
    // SAFETY: the page is mapped, the bytes lie in it, and nothing unmaps it while the pager is borrowed.
    Ok(unsafe { core::slice::from_raw_parts(at, len) })
}

/// The bytes to be changed, after as many page faults as it takes.
#[inline]
pub fn write(pager: &mut MmuPager, addr: FarAddr, len: usize) -> Result<&mut [u8], PagerError> {
    pager.unshare(addr.page())?;
    pager.mapping().do_chores();
    let at = pointer(addr);
    // SAFETY: the touch writes back a byte of the far range that it has read, or takes the trap.
    if unsafe { far_touch_write(at, (&raw mut *pager).cast()) } != 0 {
        let outcome = core::mem::replace(&mut pager.mapping().outcome, Ok(()));
        return Err(outcome.expect_err("a write makes a frame or fails"));
    }
    // SAFETY: as in `read`, and no reply holds the frame.
    Ok(unsafe { core::slice::from_raw_parts_mut(at, len) })
}

/// What the trap does. Answers whether the touch has failed.
extern "C" fn resolve(at: *const u8, pager: *mut MmuPager, is_write: u32) -> u32 {
    FAULTS.store(FAULTS.load(Relaxed) + 1, Relaxed); // One thread: no need to lock the bus.
    // SAFETY: the touch was given this pointer by `read` or `write`, whose borrow waits for the touch to return.
    let pager = unsafe { &mut *pager };
    let page = page_of(at);
    // The short way saves no registers and forgets no translation: an untouched page has none.
    if is_write != 0 && pager.first_write(page) {
        return 0;
    }
    resolve_at_length(pager, page, if is_write == 0 { Touch::Read } else { Touch::Write })
}

#[inline(never)]
fn resolve_at_length(pager: &mut MmuPager, page: PageNo, touch: Touch) -> u32 {
    let outcome = match pager.resolve(page, touch) {
        Ok(Resolved::Mapped) => {
            pager.mapping().settle();
            return 0;
        }
        Ok(Resolved::Zeros) => Ok(()),
        Err(error) => Err(error),
    };
    pager.mapping().outcome = outcome;
    1
}
