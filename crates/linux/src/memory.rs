//! The unused memory of this process.

#![expect(unsafe_code, reason = "the allocator is asked by a call of the C library")]

/// Returns the allocator's free memory to the system.
///
/// glibc does so only at the end of a heap, below the last allocation in use. This call walks all
/// heaps, for some milliseconds during which allocations wait. With other C libraries it does
/// nothing.
pub fn give_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: the call takes the allocator's own locks, and touches no memory in use.
    unsafe {
        libc::malloc_trim(0);
    }
}
