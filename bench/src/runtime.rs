//! The monoio runtime of the origin and the load generator.

use std::future::Future;

use anyhow::Context;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

const ENTRIES: u32 = 4096;
const COMPLETIONS: u32 = 16_384;

/// Runs `main` on a ring of this thread that completes only on request (DEFER_TASKRUN).
pub(crate) fn block_on<F: Future>(main: F) -> anyhow::Result<F::Output> {
    let mut builder = io_uring::IoUring::builder();
    builder
        .setup_single_issuer()
        .setup_defer_taskrun()
        .setup_submit_all()
        .setup_clamp()
        .setup_cqsize(COMPLETIONS);
    let mut runtime = monoio::RuntimeBuilder::<monoio::IoUringDriver>::new()
        .with_entries(ENTRIES)
        .uring_builder(builder)
        .enable_timer()
        .build()
        .context("io_uring with SINGLE_ISSUER and DEFER_TASKRUN (Linux 6.1 or newer)")?;
    Ok(runtime.block_on(main))
}

/// Raises the limit of open sockets as far as the kernel allows.
pub(crate) fn raise_descriptor_limit() {
    let wanted = Some(65_536);
    let limit = getrlimit(Resource::Nofile);
    let privileged = setrlimit(Resource::Nofile, Rlimit { current: wanted, maximum: wanted });
    if privileged.is_err() {
        // Without privileges the hard limit is the maximum; a shortage shows as a connect error.
        setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum }).ok();
    }
}

/// The number of descriptors that a process may have.
pub(crate) fn descriptor_limit() -> u64 {
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}
