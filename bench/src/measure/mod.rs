//! The cost of a process: time and memory from /proc, system calls from perf or strace, user-space
//! instructions from callgrind.

pub(crate) mod callgrind;
pub(crate) mod proc;
pub(crate) mod syscalls;
