//! The system's allocator, told that near memory is counted from outside: what is freed goes back.
//!
//! glibc keeps what is freed in its heap, and its heap cannot shrink below anything that is still in use.
//! The arrays of an index grow by an eighth at a time and leave holes that the next ones do not fit: at
//! 10 M keys it held 26.1 bytes a key for 21.4. So arrays get mappings of their own, and pages that are
//! free in the heap are given back when near memory has shrunk.
//!
//! Refuses to be an allocator: jemalloc and mimalloc were measured and kept 10 to 35 MB more. Does nothing
//! where the allocator is not glibc's.

/// Allocations from this size on have a mapping of their own. Units: bytes.
#[cfg(target_env = "gnu")]
const MAPPED_MIN: libc::c_int = 64 * 1024;

/// To be called once, before there is much to allocate.
pub fn give_arrays_their_own_mappings() {
    #[cfg(target_env = "gnu")]
    // SAFETY: mallopt takes the allocator's own lock and touches no memory of ours. A refusal changes nothing.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, MAPPED_MIN);
    }
}

/// Gives the free pages of the heap back to the system. A millisecond for some tens of MiB.
pub fn give_free_pages_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: malloc_trim takes the allocator's own locks and gives back only what nobody has allocated.
    unsafe {
        libc::malloc_trim(0);
    }
}
