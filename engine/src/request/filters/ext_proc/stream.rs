//! The stream to a processor.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use super::ExtProcStats;
use crate::request::callout::grpc_stream::GrpcStream;
use crate::shard::Shard;
use crate::shard::clock::millis;
use crate::stats::Scope;

/// A stream. It is closed when this is dropped, and counted then.
#[derive(Debug)]
pub(super) struct Stream {
    /// None: the processor has ended it.
    stream: Option<GrpcStream>,
    stats: Arc<Scope<ExtProcStats>>,
    shard: &'static Shard,
    /// How long what was sent may take to arrive; none: nothing is owed to the processor.
    lingers: Option<Duration>,
}

impl Stream {
    pub(super) fn new(
        stream: GrpcStream,
        stats: &Arc<Scope<ExtProcStats>>,
        shard: &'static Shard,
        lingers: Option<Duration>,
    ) -> Self {
        stats.shard(shard.id).streams_started.inc();
        Self { stream: Some(stream), stats: Arc::clone(stats), shard, lingers }
    }

    pub(super) const fn get(&self) -> Option<&GrpcStream> {
        self.stream.as_ref()
    }

    pub(super) const fn get_mut(&mut self) -> Option<&mut GrpcStream> {
        self.stream.as_mut()
    }

    /// The processor has ended it: it is not closed from here.
    pub(super) fn ended(mut self) {
        self.stream = None;
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let Some(stream) = self.stream.take() else { return };
        self.stats.shard(self.shard.id).streams_closed.inc();
        stream.end();
        let Some(lingers) = self.lingers else { return };
        let shard = self.shard;
        shard.spawn(async move {
            let call = stream.into_call();
            let (alarm, now) = (shard.timers.alarm(), shard.clock.now());
            alarm.set(Some(now.saturating_add(millis(lingers))), now);
            poll_fn(|cx| match call.poll_done(cx) {
                Poll::Pending => alarm.poll_expired(cx),
                Poll::Ready(()) => Poll::Ready(()),
            })
            .await;
        });
    }
}
