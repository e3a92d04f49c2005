//! Starts and stops the measured processes: on their own cores, by process id, stopped with the
//! bench.

use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use rustix::process::{Pid, Signal, kill_process};

use super::HOST;
use crate::http::Answer;
use crate::load::held;
use crate::measure::proc;
use crate::tls;

/// The cores of each process, in taskset's format (`0`, `2-3`).
#[derive(Clone, Debug)]
pub(crate) struct Cores {
    pub(crate) proxy: String,
    pub(crate) origin: String,
    pub(crate) client: String,
}

/// A child process that is stopped when this value is dropped.
#[derive(Debug)]
pub(crate) struct Running {
    child: Child,
    command: String,
    began: Instant,
    /// Its address.
    address: Option<SocketAddr>,
}

impl Cores {
    /// The proxy first, then client and origin on the rest; with two cores those share one.
    pub(crate) fn divide(available: usize, shards: usize) -> Self {
        let range = |first: usize, count: usize| match count {
            1 => first.to_string(),
            _ => format!("{first}-{}", first + count - 1),
        };
        let proxy = range(0, shards.min(available));
        match available.saturating_sub(shards) {
            0 => Self { proxy, origin: range(0, available), client: range(0, available) },
            1 => Self { proxy, origin: range(shards, 1), client: range(shards, 1) },
            _ => Self { proxy, origin: range(shards, 1), client: range(shards + 1, 1) },
        }
    }
}

/// A command on given cores that gets SIGTERM when the bench dies.
pub(crate) fn pinned(cores: &str, line: &[String]) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "TERM", "taskset", "-c", cores]).args(line);
    command.env("RUST_BACKTRACE", "0"); // errors need no backtrace
    command
}

impl Running {
    /// Starts `line`; its output goes to `log`.
    pub(crate) fn start(cores: &str, line: &[String], log: &Path) -> anyhow::Result<Self> {
        let out = File::options().create(true).append(true).open(log)?;
        let mut command = pinned(cores, line);
        command.stdin(Stdio::null()).stdout(out.try_clone()?).stderr(out);
        let began = Instant::now();
        let child = command.spawn().context("setpriv and taskset (util-linux)")?;
        Ok(Self {
            child,
            command: format!("taskset -c {cores} {}", line.join(" ")),
            began,
            address: None,
        })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Requests `path` until the answer is 200; returns the time since the start.
    pub(crate) fn first_answer(
        &mut self,
        address: SocketAddr,
        tls: Option<&tls::Client>,
        path: &str,
        patience: Duration,
    ) -> anyhow::Result<Duration> {
        let request = format!("GET {path} HTTP/1.1\r\nhost: {HOST}\r\n\r\n");
        loop {
            if ask(address, tls, request.as_bytes()).is_some_and(|status| status == 200) {
                self.address = Some(address);
                return Ok(self.began.elapsed());
            }
            if let Some(status) = self.child.try_wait()? {
                bail!("it exited with {status} instead of answering: {}", self.command);
            }
            if self.began.elapsed() > patience {
                bail!("no answer within {patience:?}: {}", self.command);
            }
            std::thread::sleep(ASKING_EVERY);
        }
    }

    /// The same over HTTP/2 without TLS.
    pub(crate) fn first_answer_by_h2c(
        &mut self,
        address: SocketAddr,
        patience: Duration,
    ) -> anyhow::Result<Duration> {
        self.address = Some(address);
        self.first(patience, || Ok(held::get(address, 1, 1).is_ok()))
    }

    /// The same by h2load, for HTTP/2 over TLS.
    pub(crate) fn first_answer_by_http2(
        &mut self,
        url: &str,
        patience: Duration,
    ) -> anyhow::Result<Duration> {
        self.first(patience, || {
            let output = Command::new("h2load").args(["-n1", url]).output();
            let output = output.context("h2load (nghttp2-client)")?;
            Ok(String::from_utf8_lossy(&output.stdout).contains("status codes: 1 2xx"))
        })
    }

    /// Asks until there is an answer.
    fn first(
        &mut self,
        patience: Duration,
        answers: impl Fn() -> anyhow::Result<bool>,
    ) -> anyhow::Result<Duration> {
        loop {
            if answers()? {
                return Ok(self.began.elapsed());
            }
            if let Some(status) = self.child.try_wait()? {
                bail!("it exited with {status} instead of answering: {}", self.command);
            }
            if self.began.elapsed() > patience {
                bail!("no answer within {patience:?}: {}", self.command);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Stops the process and its children and waits for them: with SIGTERM, then SIGKILL.
    pub(crate) fn stop(mut self) -> anyhow::Result<()> {
        self.end()
    }

    fn end(&mut self) -> anyhow::Result<()> {
        if self.child.try_wait()?.is_some() {
            return Ok(());
        }
        let family = proc::tree(self.child.id())?;
        signal(self.child.id(), Signal::TERM);
        if let Some(address) = self.address {
            // A process that waits in a ring under valgrind sees a signal only when something else
            // wakes it.
            TcpStream::connect_timeout(&address, ASK_MAX).ok();
        }
        let asked = Instant::now();
        while asked.elapsed() < STOPPING_MAX {
            if self.child.try_wait()?.is_some() {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        family.into_iter().for_each(|pid| signal(pid, Signal::KILL));
        self.child.wait()?;
        Ok(())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.end().ok();
    }
}

fn signal(pid: u32, signal: Signal) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        kill_process(pid, signal).ok(); // it may have exited already
    }
}

fn ask(address: SocketAddr, tls: Option<&tls::Client>, request: &[u8]) -> Option<u16> {
    let stream = TcpStream::connect_timeout(&address, ASK_MAX).ok()?;
    stream.set_read_timeout(Some(ASK_MAX)).ok()?;
    match tls {
        None => status(stream, request),
        Some(client) => status(client.wrap(stream)?, request),
    }
}

/// The status of the answer to `request`.
fn status(mut stream: impl Read + Write, request: &[u8]) -> Option<u16> {
    stream.write_all(request).ok()?;
    let (mut answer, mut buffer) = (Answer::default(), vec![0; 64 << 10]);
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => return None,
            Ok(count) => {
                if answer.feed(buffer.get(..count)?).ok()? {
                    return Some(answer.status());
                }
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(_) => return None,
        }
    }
}

const ASKING_EVERY: Duration = Duration::from_micros(500);
const ASK_MAX: Duration = Duration::from_secs(2);
/// Callgrind writes its report in this time.
const STOPPING_MAX: Duration = Duration::from_secs(20);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_proxy_has_its_own_cores_if_there_are_enough() {
        let two = Cores::divide(2, 1);
        assert_eq!((&*two.proxy, &*two.origin, &*two.client), ("0", "1", "1"));
        let eight = Cores::divide(8, 2);
        assert_eq!((&*eight.proxy, &*eight.origin, &*eight.client), ("0-1", "2", "3"));
        let crowded = Cores::divide(2, 2);
        assert_eq!((&*crowded.proxy, &*crowded.origin, &*crowded.client), ("0-1", "0-1", "0-1"));
    }
}
