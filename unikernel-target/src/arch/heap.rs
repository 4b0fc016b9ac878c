//! Near memory that is no frame: the global allocator, over the RAM that `arch::memory` gives it.
//!
//! Refuses to be entered twice: there is one thread, and no handler allocates.

use core::alloc::{GlobalAlloc, Layout};
use talc::{TalcCell, source::Manual};

/// What the heap has before the configuration is known. Units: bytes.
pub const EARLY_SIZE: u64 = 4 << 20;

struct Heap(TalcCell<Manual>);

// SAFETY: the machine has one thread, and no exception or interrupt handler allocates.
unsafe impl Sync for Heap {}

#[global_allocator]
static HEAP: Heap = Heap(TalcCell::new(Manual));

// SAFETY: talc keeps the contract; this only passes on.
unsafe impl GlobalAlloc for Heap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise.
        unsafe { self.0.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise.
        unsafe { self.0.dealloc(block, layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        // SAFETY: the caller's promise.
        unsafe { self.0.realloc(block, layout, new_size) }
    }
}

/// Gives a piece of RAM to the heap.
///
/// # Safety
/// Nobody else uses it, now or later.
pub unsafe fn claim(start: *mut u8, len: usize) {
    // SAFETY: the caller's promise. A piece too small to be of use is left alone.
    let _ = unsafe { HEAP.0.claim(start, len) };
}

/// Bytes that are allocated.
pub fn used_bytes() -> u64 {
    HEAP.0.counters().allocated_bytes as u64
}
