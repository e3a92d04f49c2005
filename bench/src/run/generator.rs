//! The load generator as a child process that waits for commands, so that the runner can read
//! clocks at the right moments: connections open and warm, then the run, then connections still
//! open.

use std::io::{BufRead, BufReader, Lines, Write};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};

use anyhow::{Context, bail};

use crate::load::record::Summary;
use crate::peers::pinned;

/// A generator whose clients are connected and idle.
#[derive(Debug)]
pub(crate) struct Generator {
    child: Child,
    orders: Option<ChildStdin>,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Generator {
    /// Starts it and returns once every client has had its first answers.
    pub(crate) fn start(cores: &str, line: &[String]) -> anyhow::Result<Self> {
        let mut command = pinned(cores, line);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().context("setpriv and taskset (util-linux)")?;
        let orders = child.stdin.take();
        let stdout = child.stdout.take().context("pipe of the generator")?;
        let mut generator = Self { child, orders, lines: BufReader::new(stdout).lines() };
        match generator.next_line()?.as_str() {
            "ready" => Ok(generator),
            other => bail!("the generator wrote {other:?} instead of ready"),
        }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Runs its load to the end.
    pub(crate) fn run(&mut self) -> anyhow::Result<Summary> {
        let orders = self.orders.as_mut().context("the generator was dismissed")?;
        writeln!(orders, "go")?;
        let line = self.next_line()?;
        serde_json::from_str(&line).with_context(|| format!("the generator wrote {line:?}"))
    }

    /// Lets it close its connections and exit.
    pub(crate) fn dismiss(mut self) -> anyhow::Result<()> {
        self.orders = None; // closes its input
        let status = self.child.wait()?;
        if !status.success() {
            bail!("the generator exited with {status}");
        }
        Ok(())
    }

    fn next_line(&mut self) -> anyhow::Result<String> {
        match self.lines.next() {
            Some(line) => Ok(line?),
            None => bail!("the generator failed: {}", self.child.wait()?),
        }
    }
}

impl Drop for Generator {
    fn drop(&mut self) {
        self.orders = None;
        self.child.kill().ok(); // it has exited already unless there was an error
        self.child.wait().ok();
    }
}
