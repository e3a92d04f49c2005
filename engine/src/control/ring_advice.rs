//! A log message: why the kernel refuses io_uring, what to do about it, and what it costs.

use std::fs;
use std::io;

use rustix::process::{Resource, getrlimit};

use crate::shard::ring::{Choice, Ring};

/// The settings of the kernel that affect io_uring.
#[derive(Clone, Copy, Debug)]
pub(super) struct Kernel {
    /// `kernel.io_uring_disabled`: 0: allowed, 1: only for a group and privileged processes, 2: refused.
    /// `None`: Linux before 6.6 has no such setting.
    io_uring_disabled: Option<u32>,
    /// `RLIMIT_MEMLOCK`, in bytes; `None`: no limit.
    memlock: Option<u64>,
}

impl Kernel {
    pub(super) fn read() -> Self {
        let setting = fs::read_to_string("/proc/sys/kernel/io_uring_disabled").ok();
        Self {
            io_uring_disabled: setting.and_then(|text| text.trim().parse().ok()),
            memlock: getrlimit(Resource::Memlock).current,
        }
    }
}

/// A warning, if a better interface than the chosen one was refused.
pub(super) fn of(choice: &Choice) -> Option<String> {
    advice(choice, &Kernel::read())
}

fn advice(choice: &Choice, kernel: &Kernel) -> Option<String> {
    // The last refusal matters: an old kernel also refuses the better modes, but for its age.
    let (_, error) = choice.refusals.last()?;
    Some(match choice.ring {
        Ring::Epoll => {
            let hint = hint(error, kernel);
            format!(
                "is refused ({error}){hint}; using epoll, which costs about a quarter more CPU per request"
            )
        }
        ring => format!("without its best mode, which needs Linux 6.1: {ring} ({error})"),
    })
}

/// What to do about a refused ring, to be appended to the error.
pub(super) fn hint(error: &io::Error, kernel: &Kernel) -> String {
    match error.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => match kernel.io_uring_disabled {
            Some(level @ 1..) => format!(
                ": kernel.io_uring_disabled is {level}; `sysctl -w kernel.io_uring_disabled=0` allows it"
            ),
            _ => ": a seccomp profile forbids it, as in most container runtimes; allow \
                  io_uring_setup, io_uring_enter and io_uring_register"
                .to_owned(),
        },
        Some(libc::ENOMEM) => {
            let limit = kernel.memlock.map_or_else(String::new, |bytes| {
                format!(", and the limit is {} KiB", bytes / 1024)
            });
            format!(
                ": a shard locks {RING_KIB} KiB of memory{limit}; raise LimitMEMLOCK of the systemd unit \
                 or `ulimit -l`"
            )
        }
        Some(libc::ENOSYS) => {
            ": the kernel has no io_uring, or a seccomp profile hides it; Linux 5.17 or \
             later is needed"
                .to_owned()
        }
        // `ring::build` returns this too if the ring lacks a feature.
        _ if error.kind() == io::ErrorKind::Unsupported => {
            ": Linux 5.17 or later is needed".to_owned()
        }
        _ => String::new(),
    }
}

/// The memory that the rings of a shard lock, in KiB.
const RING_KIB: u64 = 300;

#[cfg(test)]
mod tests {
    use super::*;

    const OPEN: Kernel = Kernel { io_uring_disabled: Some(0), memlock: Some(65536) };

    fn refused(errno: i32, kernel: Kernel) -> String {
        let of = |ring| (ring, io::Error::from_raw_os_error(errno));
        let refusals = vec![of(Ring::DeferTaskrun), of(Ring::CoopTaskrun), of(Ring::Plain)];
        advice(&Choice { ring: Ring::Epoll, refusals }, &kernel).unwrap()
    }

    #[test]
    fn each_reason_has_its_remedy() {
        let disabled = Kernel { io_uring_disabled: Some(2), ..OPEN };
        assert!(refused(libc::EPERM, disabled).contains("`sysctl -w kernel.io_uring_disabled=0`"));
        assert!(refused(libc::EPERM, OPEN).contains("seccomp"));
        let locked = refused(libc::ENOMEM, OPEN);
        assert!(
            locked.contains("the limit is 64 KiB") && locked.contains("LimitMEMLOCK"),
            "{locked}"
        );
        assert!(refused(libc::ENOSYS, OPEN).contains("Linux 5.17"));
    }

    #[test]
    fn a_kernel_without_the_best_mode_does_not_count_as_a_refusal() {
        let refusals = vec![(Ring::DeferTaskrun, io::Error::from_raw_os_error(libc::EINVAL))];
        let choice = Choice { ring: Ring::CoopTaskrun, refusals };
        let advice = advice(&choice, &OPEN).unwrap();
        assert!(advice.contains("Linux 6.1") && !advice.contains("refused"), "{advice}");
    }

    #[test]
    fn the_best_mode_needs_no_advice() {
        let choice = Choice { ring: Ring::DeferTaskrun, refusals: Vec::new() };
        assert_eq!(advice(&choice, &OPEN), None);
    }
}
