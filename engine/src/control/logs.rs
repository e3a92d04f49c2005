//! The logs of the process, as signals and the admin endpoint control them: the operational log and the
//! access logs.

use std::cell::OnceCell;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use super::access_log_writer::{self, FINISH_WAIT};
use super::remote_logs::RemoteLogs;
use super::server::Logging;
use super::shards::Shards;
use crate::access_log::files::Files;
use crate::access_log::sink::{Buffers, Flush, Order};

/// How much longer than the writer's own limit the end of the process waits for it.
const WRITER_MARGIN: Duration = Duration::from_secs(1);

/// All logs.
#[derive(Clone)]
pub(super) struct Logs {
    operational: Arc<dyn Logging>,
    flush: Flush,
    shards: Arc<Shards>,
    /// Empty as long as there are no access logs.
    access: Rc<OnceCell<Access>>,
    /// Empty as long as nothing can be sent.
    remote: Rc<OnceCell<RemoteLogs>>,
}

#[derive(Clone, Debug)]
struct Access {
    writer: Sender<Order>,
    shards: Arc<Shards>,
}

impl Logs {
    /// Without access logs.
    pub(super) fn new(operational: Arc<dyn Logging>, flush: Flush, shards: &Arc<Shards>) -> Self {
        let min_bytes = flush.min_bytes;
        shards.send_to_all(move |shard| Buffers::of(shard).set_flush_bytes(min_bytes));
        let shards = Arc::clone(shards);
        Self { operational, flush, shards, access: Rc::default(), remote: Rc::default() }
    }

    /// Sends what goes to services from now on, beginning with what was compiled already.
    pub(super) fn send_remotely(&self, remote: RemoteLogs, files: &Files) {
        remote.take_up(files.take_works());
        // It is called once.
        let _first = self.remote.set(remote);
    }

    /// Writes to the files that were opened for a configuration. To be called before the shards get it.
    pub(super) fn take_up(&self, files: &Files) -> io::Result<()> {
        if let Some(remote) = self.remote.get() {
            remote.take_up(files.take_works());
        }
        let Some(work) = files.begin() else {
            if self.access.get().is_some() {
                files.hand_over();
            }
            return Ok(());
        };
        let shards = Arc::clone(&self.shards);
        let access = Access { writer: access_log_writer::start(work)?, shards };
        drop(tokio::task::spawn_local(access.clone().flush_every(self.flush.interval)));
        // There is none yet: files begin once.
        let _first = self.access.set(access);
        Ok(())
    }

    /// Lets go of every file and opens it by its name again.
    pub(super) fn reopen(&self) {
        self.operational.reopen();
        if let Some(access) = self.access.get() {
            let _sent = access.writer.send(Order::Reopen);
        }
    }

    /// Writes everything that was logged so far: the process ends.
    pub(super) async fn finish(&self) {
        if let Some(remote) = self.remote.get() {
            remote.finish().await;
        }
        let Some(access) = self.access.get() else { return };
        access.flush();
        access.shards.caught_up().await;
        let (done, written) = channel();
        if access.writer.send(Order::Finish(done)).is_ok() {
            await_writer(&written, FINISH_WAIT + WRITER_MARGIN);
        }
    }
}

impl Access {
    /// Makes the shards hand over what they have.
    fn flush(&self) {
        self.shards.send_to_all(|shard| Buffers::of(shard).flush());
    }

    async fn flush_every(self, interval: Duration) {
        loop {
            tokio::time::sleep(interval).await;
            self.flush();
            let _sent = self.writer.send(Order::Tick);
        }
    }
}

/// Waits until the writer has written everything. It limits itself, but a write to a disk that does not
/// respond may block it forever, and the process ends all the same.
fn await_writer(written: &Receiver<()>, limit: Duration) {
    if written.recv_timeout(limit).is_err() {
        tracing::error!(target: "main", "access logs: the last lines may be lost: they could not be written in time");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_writer_that_is_blocked_does_not_stop_the_end_of_the_process() {
        // It still has its sender, and never answers.
        let (_blocked, written) = channel();
        await_writer(&written, Duration::from_millis(10));
    }
}
