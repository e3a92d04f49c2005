//! Which kernel interface the shards use: the best one that works here.
//!
//! `SINGLE_ISSUER + DEFER_TASKRUN` (Linux 6.1) keeps completion work out of unrelated system calls,
//! `COOP_TASKRUN` (5.19) at least out of interrupts; a ring without either still works. Where
//! io_uring is forbidden (seccomp, `kernel.io_uring_disabled`), the same code runs on epoll.

use std::fmt;
use std::future::Future;
use std::io;

use monoio::{IoUringDriver, LegacyDriver, RuntimeBuilder};

/// Submission queue entries of a ring. When tasks queue more between two polls, they are submitted
/// earlier.
const SUBMISSIONS: u32 = 2048;
/// Completion queue entries: several times the submissions, so that a burst does not overflow.
const COMPLETIONS: u32 = 8192;
/// The minimum that the executor allows.
const IDLE_SUBMISSIONS: u32 = 256;

/// A kernel interface for a shard.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Ring {
    /// io_uring with `SINGLE_ISSUER` and `DEFER_TASKRUN`.
    DeferTaskrun,
    /// io_uring with `COOP_TASKRUN`.
    CoopTaskrun,
    /// io_uring without task-run flags.
    Plain,
    /// No io_uring: epoll.
    Epoll,
}

impl Ring {
    /// The name used in the log and by the admin endpoint.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::DeferTaskrun => "io_uring (SINGLE_ISSUER, DEFER_TASKRUN)",
            Self::CoopTaskrun => "io_uring (COOP_TASKRUN)",
            Self::Plain => "io_uring (no task-run flags)",
            Self::Epoll => "epoll",
        }
    }
}

impl fmt::Display for Ring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The best interface that this kernel offers, and why the better ones were refused.
#[derive(Debug)]
pub struct Choice {
    /// The interface that the shards use.
    pub ring: Ring,
    /// The better interfaces that were refused, with the error of each.
    pub refusals: Vec<(Ring, io::Error)>,
}

/// The environment variable that skips the better interfaces: `coop`, `plain` or `epoll`. For
/// comparing them, and for tools such as valgrind that do not support io_uring.
pub const FORCE: &str = "CORVOY_RING";

/// Tries the interfaces from best to worst, on the calling thread.
///
/// # Errors
/// When the value of [`FORCE`] is unknown.
pub fn choose() -> io::Result<Choice> {
    let mut refusals = Vec::new();
    for &ring in candidates()? {
        match build(ring).map(drop) {
            Ok(()) => return Ok(Choice { ring, refusals }),
            Err(error) => refusals.push((ring, error)),
        }
    }
    Ok(Choice { ring: Ring::Epoll, refusals })
}

fn candidates() -> io::Result<&'static [Ring]> {
    const ALL: &[Ring] = &[Ring::DeferTaskrun, Ring::CoopTaskrun, Ring::Plain];
    let Some(forced) = std::env::var_os(FORCE) else { return Ok(ALL) };
    match forced.to_str() {
        Some("coop") => Ok(&[Ring::CoopTaskrun, Ring::Plain]),
        Some("plain") => Ok(&[Ring::Plain]),
        Some("epoll") => Ok(&[]),
        _ => Err(io::Error::other(format!("{FORCE} must be coop, plain or epoll"))),
    }
}

/// Runs `main` to completion on this thread, with the tasks that it spawns.
///
/// # Errors
/// When the kernel refuses the interface to this thread.
pub fn block_on<F: Future>(ring: Ring, main: F) -> io::Result<F::Output> {
    match ring {
        Ring::Epoll => Ok(RuntimeBuilder::<LegacyDriver>::new().build()?.block_on(main)),
        Ring::DeferTaskrun | Ring::CoopTaskrun | Ring::Plain => {
            // The executor's own ring. It stays empty.
            let mut runtime = RuntimeBuilder::<IoUringDriver>::new()
                .with_entries(IDLE_SUBMISSIONS)
                .uring_builder(builder(ring))
                .build()?;
            Ok(runtime.block_on(main))
        }
    }
}

/// Creates a ring for this thread.
///
/// # Errors
/// When the kernel has no io_uring, does not support this kind of ring, or forbids it.
pub fn build(ring: Ring) -> io::Result<io_uring::IoUring> {
    let ring = builder(ring).setup_cqsize(COMPLETIONS).build(SUBMISSIONS)?;
    // Linux 5.17 or later: older kernels lack multishot poll.
    if !ring.params().is_feature_skip_cqe_on_success() {
        return Err(io::Error::from(io::ErrorKind::Unsupported));
    }
    Ok(ring)
}

fn builder(ring: Ring) -> io_uring::Builder {
    let mut builder = io_uring::IoUring::builder();
    builder.setup_submit_all().setup_clamp();
    match ring {
        Ring::DeferTaskrun => {
            builder.setup_single_issuer().setup_defer_taskrun();
        }
        Ring::CoopTaskrun => {
            builder.setup_coop_taskrun();
        }
        Ring::Plain | Ring::Epoll => {}
    }
    builder
}
