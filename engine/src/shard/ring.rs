//! Which kernel interface a shard runs on, tried from the best to the plainest.
//!
//! `SINGLE_ISSUER + DEFER_TASKRUN` (Linux 6.1) keeps completion work out of unrelated system calls,
//! `COOP_TASKRUN` (5.19) at least out of interrupts; a ring without either still works, and where
//! io_uring is forbidden (seccomp, `kernel.io_uring_disabled`) epoll carries the same code.

use std::fmt;
use std::future::Future;
use std::io;

use monoio::{IoUringDriver, LegacyDriver, RuntimeBuilder};

/// Submission entries of a ring: what its tasks ask for between two turns, or it is handed over
/// earlier.
const SUBMISSIONS: u32 = 2048;
/// Completion entries: several times the submissions, so that a burst never overflows.
const COMPLETIONS: u32 = 8192;
/// The fewest that the executor allows.
const IDLE_SUBMISSIONS: u32 = 256;

/// The interface that a shard ended up with.
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

/// The best interface that this kernel gives, and why each better one was refused.
#[derive(Debug)]
pub struct Choice {
    /// What the shards run on.
    pub ring: Ring,
    /// The steps of the ladder that were refused, and how.
    pub refusals: Vec<(Ring, io::Error)>,
}

/// The environment variable that makes the ladder begin further down: `coop`, `plain` or `epoll`.
/// For comparing them, and for tools such as valgrind that cannot follow a ring.
pub const FORCE: &str = "CORVOY_RING";

/// Walks the ladder once, on the thread that asks.
///
/// # Errors
/// When [`FORCE`] names no step.
pub fn choose() -> io::Result<Choice> {
    let mut refusals = Vec::new();
    for &ring in ladder()? {
        match build(ring).map(drop) {
            Ok(()) => return Ok(Choice { ring, refusals }),
            Err(error) => refusals.push((ring, error)),
        }
    }
    Ok(Choice { ring: Ring::Epoll, refusals })
}

fn ladder() -> io::Result<&'static [Ring]> {
    const LADDER: &[Ring] = &[Ring::DeferTaskrun, Ring::CoopTaskrun, Ring::Plain];
    let Some(forced) = std::env::var_os(FORCE) else { return Ok(LADDER) };
    match forced.to_str() {
        Some("coop") => Ok(&[Ring::CoopTaskrun, Ring::Plain]),
        Some("plain") => Ok(&[Ring::Plain]),
        Some("epoll") => Ok(&[]),
        _ => Err(io::Error::other(format!("{FORCE} is none of coop, plain, epoll"))),
    }
}

/// Runs `main` to its end on this thread, with the tasks that it spawns.
///
/// # Errors
/// When the kernel refuses the interface on this thread.
pub fn block_on<F: Future>(ring: Ring, main: F) -> io::Result<F::Output> {
    match ring {
        Ring::Epoll => Ok(RuntimeBuilder::<LegacyDriver>::new().build()?.block_on(main)),
        Ring::DeferTaskrun | Ring::CoopTaskrun | Ring::Plain => {
            // The executor's own ring: nothing ever goes through it.
            let mut runtime = RuntimeBuilder::<IoUringDriver>::new()
                .with_entries(IDLE_SUBMISSIONS)
                .uring_builder(builder(ring))
                .build()?;
            Ok(runtime.block_on(main))
        }
    }
}

/// A ring for this thread.
///
/// # Errors
/// When the kernel has no io_uring, or not one of this kind, or forbids it.
pub fn build(ring: Ring) -> io::Result<io_uring::IoUring> {
    let ring = builder(ring).setup_cqsize(COMPLETIONS).build(SUBMISSIONS)?;
    // Linux 5.17, for what is older has no poll that stays.
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
