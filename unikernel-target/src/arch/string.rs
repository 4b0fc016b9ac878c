//! What compiled code takes for granted: `memcpy` and its kin.
//!
//! Copies go by eight bytes: under TCG a string instruction costs one step an element. Refuses to use xmm
//! registers, so that the page fault handler may call these too.

use core::arch::asm;

/// The C library's.
///
/// # Safety
/// `len` bytes at both, which do not overlap.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memcpy(to: *mut u8, from: *const u8, len: usize) -> *mut u8 {
    // SAFETY: the caller owns `len` bytes at both; the direction flag is clear as the ABI wants it.
    unsafe {
        asm!(
            "mov rcx, rdx", "shr rcx, 3", "rep movsq",
            "mov ecx, edx", "and ecx, 7", "rep movsb",
            out("rcx") _, in("rdx") len, inout("rdi") to => _, inout("rsi") from => _, options(nostack)
        );
    }
    to
}

/// The C library's.
///
/// # Safety
/// `len` bytes at both.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memmove(to: *mut u8, from: *const u8, len: usize) -> *mut u8 {
    if (to as usize).wrapping_sub(from as usize) >= len {
        // SAFETY: the caller's promise; going upwards never reads a byte that it has overwritten, because
        // `to` lies below `from` or behind its end.
        return unsafe { memcpy(to, from, len) };
    }
    // SAFETY: the caller's promise; `to` overlaps the end of `from`, so this goes downwards: the bytes of
    // the odd end, then eight at a time, with the direction flag set back.
    unsafe {
        asm!(
            "std",
            "mov ecx, edx", "and ecx, 7", "rep movsb",
            "sub rsi, 7", "sub rdi, 7",
            "mov rcx, rdx", "shr rcx, 3", "rep movsq",
            "cld",
            out("rcx") _, in("rdx") len,
            inout("rdi") to.wrapping_add(len).wrapping_sub(1) => _,
            inout("rsi") from.wrapping_add(len).wrapping_sub(1) => _,
            options(nostack)
        );
    }
    to
}

/// The C library's.
///
/// # Safety
/// `len` bytes at `to`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memset(to: *mut u8, byte: i32, len: usize) -> *mut u8 {
    let eight = u64::from(byte as u8) * 0x0101_0101_0101_0101;
    // SAFETY: the caller owns `len` bytes at `to`.
    unsafe {
        asm!(
            "mov rcx, rdx", "shr rcx, 3", "rep stosq",
            "mov ecx, edx", "and ecx, 7", "rep stosb",
            out("rcx") _, in("rdx") len, inout("rdi") to => _, in("rax") eight, options(nostack)
        );
    }
    to
}

/// The C library's.
///
/// # Safety
/// `len` bytes at both.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memcmp(a: *const u8, b: *const u8, len: usize) -> i32 {
    let mut at = 0;
    while at + 8 <= len {
        // SAFETY: the caller owns `len` bytes at both, and eight more are within.
        let (x, y) =
            unsafe { (a.add(at).cast::<u64>().read_unaligned(), b.add(at).cast::<u64>().read_unaligned()) };
        if x != y {
            return if x.swap_bytes() < y.swap_bytes() { -1 } else { 1 };
        }
        at += 8;
    }
    while at < len {
        // SAFETY: as above.
        let (x, y) = unsafe { (*a.add(at), *b.add(at)) };
        if x != y {
            return i32::from(x) - i32::from(y);
        }
        at += 1;
    }
    0
}

/// The C library's.
///
/// # Safety
/// `len` bytes at both.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bcmp(a: *const u8, b: *const u8, len: usize) -> i32 {
    // SAFETY: the same promise.
    unsafe { memcmp(a, b, len) }
}

/// The C library's.
///
/// # Safety
/// A NUL ends the text.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn strlen(text: *const u8) -> usize {
    let mut len = 0;
    // SAFETY: the caller promises a NUL at the end.
    while unsafe { *text.add(len) } != 0 {
        len += 1;
    }
    len
}

/// Named by the prebuilt core; nothing unwinds.
#[unsafe(no_mangle)]
extern "C" fn rust_eh_personality() {}

/// Named by the prebuilt core; nothing unwinds.
#[unsafe(no_mangle)]
extern "C" fn _Unwind_Resume() -> ! {
    super::power::fail(super::power::Failure::Bug)
}
