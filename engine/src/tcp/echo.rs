//! `echo`: sends everything back.

use std::future::poll_fn;
use std::task::Poll;

use super::connection::Connection;
use super::filters::Filters;
use super::lane::{Fault, Lane};

/// Serves a connection until the client has closed its side.
pub(super) async fn serve(client: &mut Connection, filters: &Filters) {
    let Connection { transport, early, subject, .. } = &mut *client;
    let (shard, transport) = (subject.shard, &*transport);
    let mut data = filters.data();
    let mut lane = Lane::holding(std::mem::take(early));
    let mut accept = |_| filters.check(&mut data, subject).into_result();
    let mut refused = if lane.wants_sink() { accept(0).err() } else { None };
    let mut may_receive = true;
    while refused.is_none() && !lane.has_ended() {
        match lane.step(transport, transport, may_receive, shard.buffers, &mut accept) {
            Ok(_) => {}
            Err(Fault::Refused(delay)) => {
                refused = Some(delay);
                break;
            }
            Err(Fault::Source | Fault::Sink) => break,
        }
        may_receive = lane.wants_source();
        poll_fn(|cx| {
            let readable = may_receive && transport.poll_readable(cx).is_ready();
            let writable = lane.wants_sink() && transport.poll_writable(cx).is_ready();
            let ready = readable || writable || lane.has_ended();
            if ready { shard.poll_proceed(cx) } else { Poll::Pending }
        })
        .await;
    }
    lane.recycle(shard.buffers);
    match refused {
        Some(delay) => client.wait_before_close(delay).await,
        None => client.flush().await,
    }
}
