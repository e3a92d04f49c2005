//! The monoio runtime that the origin and the load generator share.

use std::future::Future;

use anyhow::Context;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

const ENTRIES: u32 = 4096;
const COMPLETIONS: u32 = 16_384;

/// Runs `main` on a ring of this thread that completes only when asked (DEFER_TASKRUN).
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

/// Lets this process hold as many sockets as the kernel allows it to.
pub(crate) fn raise_descriptor_limit() {
    let wanted = Some(65_536);
    let limit = getrlimit(Resource::Nofile);
    let privileged = setrlimit(Resource::Nofile, Rlimit { current: wanted, maximum: wanted });
    if privileged.is_err() {
        // Without privilege the hard limit is what we can have; a shortage shows as a connect error.
        setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum }).ok();
    }
}

/// How many descriptors a process may have.
pub(crate) fn descriptor_limit() -> u64 {
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}
