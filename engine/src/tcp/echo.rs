//! `echo`: sends everything back.

use std::future::poll_fn;
use std::task::Poll;
use std::time::Duration;

use super::connection::Connection;
use super::filters::Filters;
use crate::http::{BodyLength, Intake};
use crate::pipe::inlet::Inlet;
use crate::pipe::lane::{Lane, Step};
use crate::pipe::outlet::Framing;

/// Serves a connection until the client has closed its side.
pub(super) async fn serve(client: &mut Connection, filters: &Filters) {
    match echo(client, filters).await {
        Ok(()) => client.flush().await,
        Err(Ended::Denied(delay)) => client.wait_before_close(delay).await,
        Err(Ended::Broken) => {}
    }
}

/// Why a connection ended early.
enum Ended {
    Broken,
    /// A filter has refused what was received.
    Denied(Option<Duration>),
}

async fn echo(client: &mut Connection, filters: &Filters) -> Result<(), Ended> {
    let Connection { transport, early, subject, .. } = &mut *client;
    let (shard, transport) = (subject.shard, &*transport);
    let mut data = filters.data();
    let mut check = || filters.check(&mut data, subject).into_result().map_err(Ended::Denied);
    let mut lane = Lane::new(Framing::Identity, Vec::new(), shard.buffers);
    if !early.is_empty() {
        check()?;
        lane.outlet.data(&std::mem::take(early));
    }
    let mut inlet = Inlet::new(BodyLength::UntilClose);
    let mut pull = |lane: &mut Lane| {
        let out = &mut lane.outlet;
        let pulled = inlet.pull(transport, shard.buffers, out).map_err(|_| Ended::Broken)?;
        if pulled.bytes > 0 || out.has_ended() {
            check()?;
        }
        Ok(pulled.more)
    };
    let mut may_receive = true;
    loop {
        let push = |lane: &mut Lane| lane.send(transport).map_err(|_| Ended::Broken);
        if lane.step(may_receive, shard.budget(), push, &mut pull)? == Step::Ends {
            transport.shutdown_write();
            return Ok(());
        }
        may_receive = lane.wants_source();
        poll_fn(|cx| {
            let readable = may_receive && transport.poll_readable(cx).is_ready();
            let writable = lane.wants_sink() && transport.poll_writable(cx).is_ready();
            if readable || writable { shard.poll_proceed(cx) } else { Poll::Pending }
        })
        .await;
    }
}
