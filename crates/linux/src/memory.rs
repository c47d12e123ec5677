//! Memory of this process that nothing uses any more.

#![expect(unsafe_code, reason = "the allocator is asked by a call of the C library")]

/// Gives the system back what the allocator keeps for later. glibc does that by itself only at the end of a heap, where one
/// allocation that is still in use keeps everything below it; this looks through all heaps, for some milliseconds in which whoever
/// allocates waits. Other C libraries are left alone.
pub fn give_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: it takes the allocator's own locks, and touches nothing that is in use.
    unsafe {
        libc::malloc_trim(0);
    }
}
