//! Returns free memory to the kernel.
#![expect(unsafe_code, reason = "glibc's allocator is controlled by C functions")]

#[cfg(target_env = "gnu")]
use corvoy_engine::limits;

/// Makes `free` return every large block to the kernel. glibc maps such blocks separately, but after
/// the first one is freed it raises its threshold and keeps blocks of that size, so bodies buffered
/// for a retry would stay resident. Call it before any thread starts.
pub(crate) fn return_large_blocks() {
    #[cfg(target_env = "gnu")]
    {
        let bytes = libc::c_int::try_from(limits::LARGE_BLOCK_BYTES).unwrap_or(libc::c_int::MAX);
        // SAFETY: `mallopt` takes no pointer, and no other thread allocates yet.
        let set = unsafe { libc::mallopt(libc::M_MMAP_THRESHOLD, bytes) };
        debug_assert_eq!(set, 1, "the size of a large block is a valid threshold");
    }
}

/// Returns the memory that reading the configuration used. Otherwise glibc keeps it: the descriptors
/// of Envoy's API take megabytes for some milliseconds, far more than proxying needs later.
pub(crate) fn trim() {
    #[cfg(target_env = "gnu")]
    // SAFETY: `malloc_trim` may be called at any time, by any thread, and takes no pointer.
    unsafe {
        libc::malloc_trim(0);
    }
}
