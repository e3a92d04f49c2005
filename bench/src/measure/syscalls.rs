//! System calls of a process: counted by perf while something else runs, or by strace if perf has
//! no access to tracepoints. Containers often forbid attaching to a process, too; there strace can
//! count a process that it started itself ([`prefix`], [`of_strace`]).

use std::io::Read;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, bail};
use rustix::process::{Pid, Signal, kill_process};

/// The tool that counts.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Method {
    /// `perf stat -e raw_syscalls:sys_enter`
    Perf,
    /// `strace -c -f`: slows the process down, so it batches more than it would alone.
    Strace,
}

/// A running count.
#[derive(Debug)]
pub(crate) struct Counting {
    method: Method,
    tool: Child,
}

impl Method {
    /// The best method that works here.
    pub(crate) fn find() -> Option<Self> {
        let works = |program: &str, arguments: &[&str]| {
            let mut command = Command::new(program);
            command.args(arguments).stdout(Stdio::null()).stderr(Stdio::null());
            command.status().is_ok_and(|status| status.success())
        };
        if works("perf", &["stat", "-e", EVENT, "true"]) {
            return Some(Self::Perf);
        }
        works("strace", &["-c", "-o", "/dev/null", "true"]).then_some(Self::Strace)
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Perf => "perf stat -e raw_syscalls:sys_enter",
            Self::Strace => "strace -c -f",
        }
    }

    /// Starts to count the calls of these processes, including all their threads.
    pub(crate) fn begin(self, pids: &[u32]) -> anyhow::Result<Counting> {
        let mut command = match self {
            Self::Perf => {
                let list: Vec<String> = pids.iter().map(u32::to_string).collect();
                let mut command = Command::new("perf");
                command.args(["stat", "-x", ",", "-e", EVENT, "-p", &list.join(",")]);
                command
            }
            Self::Strace => {
                let mut command = Command::new("strace");
                command.args(["-c", "-f", "-U", "calls,name"]);
                command.args(pids.iter().flat_map(|pid| ["-p".to_owned(), pid.to_string()]));
                command
            }
        };
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let tool = command.spawn().with_context(|| self.name())?;
        // Neither tool reports when it is attached; an idle proxy makes hardly any calls meanwhile.
        std::thread::sleep(ATTACHING);
        Ok(Counting { method: self, tool })
    }
}

/// The command prefix that counts system calls into `file` when the process is stopped.
pub(crate) fn prefix(file: &Path) -> Vec<String> {
    // -I2: a signal reaches strace, which stops its child and writes the table.
    let fixed = ["strace", "-I2", "-c", "-f", "-U", "calls,name", "-o"];
    fixed.into_iter().map(str::to_owned).chain([file.display().to_string()]).collect()
}

/// True if strace can count processes that it starts.
pub(crate) fn can_strace() -> bool {
    let mut command = Command::new("strace");
    command.args(["-c", "-f", "-o", "/dev/null", "true"]);
    let status = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
    status.is_ok_and(|status| status.success())
}

/// The calls in a table that [`prefix`] asked for.
pub(crate) fn of_strace(file: &Path) -> anyhow::Result<u64> {
    let report = std::fs::read_to_string(file).with_context(|| file.display().to_string())?;
    parse_strace(&report).with_context(|| format!("strace wrote: {report}"))
}

impl Counting {
    /// Ends the count.
    pub(crate) fn end(mut self) -> anyhow::Result<u64> {
        interrupt(&self.tool)?;
        let mut report = String::new();
        if let Some(mut stderr) = self.tool.stderr.take() {
            stderr.read_to_string(&mut report)?;
        }
        self.tool.wait()?;
        let calls = match self.method {
            Method::Perf => parse_perf(&report),
            Method::Strace => parse_strace(&report),
        };
        calls.with_context(|| format!("{} said: {report}", self.method.name()))
    }
}

fn interrupt(child: &Child) -> anyhow::Result<()> {
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw).context("pid")?;
    kill_process(pid, Signal::INT).context("interrupt")
}

fn parse_perf(report: &str) -> Option<u64> {
    report.lines().find(|line| line.contains(EVENT))?.split(',').next()?.parse().ok()
}

/// The last row of the table: the sum.
fn parse_strace(report: &str) -> Option<u64> {
    let total = report.lines().rev().find(|line| line.trim_end().ends_with("total"))?;
    total.split_whitespace().next()?.parse().ok()
}

/// The error, with the setting that would have to change.
pub(crate) fn none_here<T>() -> anyhow::Result<T> {
    let setting = Path::new("/proc/sys/kernel/perf_event_paranoid");
    let level = std::fs::read_to_string(setting).unwrap_or_default();
    bail!("neither perf (perf_event_paranoid is {}) nor strace can count here", level.trim())
}

const EVENT: &str = "raw_syscalls:sys_enter";
const ATTACHING: Duration = Duration::from_millis(400);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn perf_prints_the_count_first() {
        let report = "# started on\n\n88340,,raw_syscalls:sys_enter,2000123456,100.00,,\n";
        assert_eq!(parse_perf(report), Some(88_340));
        assert_eq!(parse_perf("<not counted>,,raw_syscalls:sys_enter,0,0.00,,\n"), None);
    }

    #[test]
    fn strace_prints_the_sum_last() {
        let report = "    calls syscall\n--------- ----------------\n     1200 io_uring_enter\n\
            \x20      5 accept4\n--------- ----------------\n     1205 total\n";
        assert_eq!(parse_strace(report), Some(1205));
    }
}
