//! Signals from an operator or a service manager.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// The signals that the process handles.
#[derive(Debug)]
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    quit: Signal,
    reopen: Signal,
    reload: Signal,
    upgrade: Signal,
}

/// The action that a signal requests.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Action {
    /// TERM, INT or QUIT: drain and exit; while draining: exit at once.
    Stop,
    /// USR1: reopen the log file.
    ReopenLog,
    /// HUP: reload the configuration, which is not supported.
    Reload,
    /// USR2: replace the running binary, which is not supported.
    Upgrade,
}

impl Signals {
    /// Installs the signal handlers.
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

    /// The action of the next signal. Signals that arrived earlier are not lost.
    pub(super) async fn next(&mut self) -> Action {
        tokio::select! {
            _ = self.terminate.recv() => Action::Stop,
            _ = self.interrupt.recv() => Action::Stop,
            _ = self.quit.recv() => Action::Stop,
            _ = self.reopen.recv() => Action::ReopenLog,
            _ = self.reload.recv() => Action::Reload,
            _ = self.upgrade.recv() => Action::Upgrade,
        }
    }
}
