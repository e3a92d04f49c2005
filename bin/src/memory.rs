//! Memory that only reading the configuration needed goes back to the kernel.
#![expect(unsafe_code, reason = "glibc's allocator is told so by a C function")]

/// Hands back what is free. glibc keeps it otherwise: the descriptors of Envoy's API take megabytes
/// for some milliseconds, and whoever proxies never needs that much again.
pub(crate) fn hand_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: `malloc_trim` may be called at any time, by any thread, and takes no pointer.
    unsafe {
        libc::malloc_trim(0);
    }
}
