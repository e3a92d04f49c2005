//! `/memory`: the memory of the process, as the kernel counts it.
//!
//! The names are those of Envoy's allocator. What exists only there (page heap, thread caches) is zero.

use std::fs;

use serde::Serialize;

use crate::control::admin::json::{self, as_string};
use crate::control::admin::{Effect, Endpoint};

pub(super) const ENDPOINT: Endpoint = Endpoint {
    path: "/memory",
    effect: Effect::Shows,
    help: "print current allocation/heap usage",
    parameters: &[],
    answer: |_, _| json::reply(&Memory::now()),
};

/// `envoy.admin.v3.Memory`, in bytes.
#[derive(Debug, Default, Serialize)]
pub(super) struct Memory {
    /// Anonymous memory that is resident.
    #[serde(serialize_with = "as_string")]
    pub(super) allocated: u64,
    /// Anonymous memory that is mapped.
    #[serde(serialize_with = "as_string")]
    pub(super) heap_size: u64,
    #[serde(serialize_with = "as_string")]
    pageheap_unmapped: u64,
    #[serde(serialize_with = "as_string")]
    pageheap_free: u64,
    #[serde(serialize_with = "as_string")]
    total_thread_cache: u64,
    /// All memory that is resident.
    #[serde(serialize_with = "as_string")]
    pub(super) total_physical_bytes: u64,
}

impl Memory {
    /// Zeros where there is no `/proc`.
    pub(super) fn now() -> Self {
        Self::of(&fs::read_to_string("/proc/self/status").unwrap_or_default())
    }

    fn of(status: &str) -> Self {
        let bytes = |name| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            let kilobytes = line.and_then(|line| line.trim().strip_suffix(" kB"));
            kilobytes.and_then(|number| number.parse::<u64>().ok()).unwrap_or(0) * 1024
        };
        Self {
            allocated: bytes("RssAnon"),
            heap_size: bytes("VmData"),
            total_physical_bytes: bytes("VmRSS"),
            ..Self::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_kilobytes_become_bytes() {
        let memory = Memory::of("Name:\tcorvoy\nVmRSS:\t    2048 kB\nRssAnon:\t     512 kB\n");
        assert_eq!((memory.total_physical_bytes, memory.allocated), (2_097_152, 524_288));
    }

    #[test]
    fn a_running_process_has_some() {
        assert!(Memory::now().total_physical_bytes > 0);
    }
}
