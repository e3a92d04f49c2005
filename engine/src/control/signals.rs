//! The signals that an operator or a service manager sends.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// Every signal that the process handles.
#[derive(Debug)]
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    quit: Signal,
    reopen: Signal,
    reload: Signal,
    upgrade: Signal,
}

/// What a signal asks for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Asked {
    /// TERM, INT or QUIT: drain and exit; when that has begun, exit at once.
    Stop,
    /// USR1: open the log file again.
    ReopenLog,
    /// HUP: read the configuration again, which is not there yet.
    Reload,
    /// USR2: replace the running program, which is not there yet.
    Upgrade,
}

impl Signals {
    /// Handles them from now on.
    pub(super) fn handle() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            quit: signal(SignalKind::quit())?,
            reopen: signal(SignalKind::user_defined1())?,
            reload: signal(SignalKind::hangup())?,
            upgrade: signal(SignalKind::user_defined2())?,
        })
    }

    /// The next one. Signals that came before are not lost.
    pub(super) async fn next(&mut self) -> Asked {
        tokio::select! {
            _ = self.terminate.recv() => Asked::Stop,
            _ = self.interrupt.recv() => Asked::Stop,
            _ = self.quit.recv() => Asked::Stop,
            _ = self.reopen.recv() => Asked::ReopenLog,
            _ = self.reload.recv() => Asked::Reload,
            _ = self.upgrade.recv() => Asked::Upgrade,
        }
    }
}
