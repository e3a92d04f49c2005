//! Stats sinks: after each flush the stats go to statsd or DogStatsD.
//!
//! A sink gets the stats that were used, counters as what was added since the last flush. A flush is done in
//! steps between which the control plane does its other work. What a sink cannot take at once is lost, as
//! in Envoy.

mod statsd;

use std::sync::Arc;

use tokio::sync::Notify;

use self::statsd::Statsd;
use super::server::Running;
use crate::stats::Registry;
use crate::stats_sink::Sink;

/// Sends the stats to the sinks each time that they were flushed, forever.
pub(super) async fn run(
    sinks: Vec<Sink>,
    registry: Arc<Registry>,
    running: Arc<Running>,
    flushed: Arc<Notify>,
) {
    if sinks.is_empty() {
        return;
    }
    let mut sinks: Vec<Statsd> = sinks.into_iter().map(Statsd::new).collect();
    loop {
        flushed.notified().await;
        let mut flush = registry.flushed();
        while flush.step(&mut |sample| sinks.iter_mut().for_each(|sink| sink.add(sample))) {
            for sink in &mut sinks {
                sink.send_if_large(&running).await;
            }
            tokio::task::yield_now().await;
        }
        for sink in &mut sinks {
            sink.send(&running).await;
        }
    }
}
