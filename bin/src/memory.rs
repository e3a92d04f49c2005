//! Memory that is free goes back to the kernel.
#![expect(unsafe_code, reason = "glibc's allocator is told so by C functions")]

#[cfg(target_env = "gnu")]
use corvoy_engine::limits;

/// Lets every large block go back as soon as it is freed. glibc gives such blocks mappings of their
/// own, but with the first that is freed it begins to keep those of that size: bodies that were held
/// for a retry would stay resident. To be called before there are threads.
pub(crate) fn return_large_blocks() {
    #[cfg(target_env = "gnu")]
    {
        let bytes = libc::c_int::try_from(limits::LARGE_BLOCK_BYTES).unwrap_or(libc::c_int::MAX);
        // SAFETY: `mallopt` takes no pointer, and no other thread allocates yet.
        let set = unsafe { libc::mallopt(libc::M_MMAP_THRESHOLD, bytes) };
        debug_assert_eq!(set, 1, "the size of a large block is a valid threshold");
    }
}

/// Hands back what reading the configuration has left. glibc keeps it otherwise: the descriptors of
/// Envoy's API take megabytes for some milliseconds, and whoever proxies never needs that much again.
pub(crate) fn hand_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: `malloc_trim` may be called at any time, by any thread, and takes no pointer.
    unsafe {
        libc::malloc_trim(0);
    }
}
