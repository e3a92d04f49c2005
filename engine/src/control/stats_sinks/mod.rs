//! Stats sinks: after each flush the stats go to statsd, DogStatsD, Envoy's metrics service or an OpenTelemetry
//! collector.
//!
//! A sink gets the stats that were used. A flush is done in steps between which the control plane does its other work.
//! What a sink cannot take at once is lost, as in Envoy.

mod metrics_service;
mod open_telemetry;
mod remote;
mod statsd;

use std::sync::Arc;

use tokio::sync::Notify;

use self::metrics_service::MetricsService;
use self::open_telemetry::OpenTelemetry;
use self::statsd::Statsd;
use super::server::Running;
use crate::stats::{Registry, Sample};
use crate::stats_sink::Sink;

/// What services are told about this proxy.
#[derive(Clone, Debug)]
pub(super) struct Proxy {
    /// The encoded node.
    pub(super) node: Vec<u8>,
    /// The version of this program.
    pub(super) version: String,
}

/// A sink at work.
enum Output {
    Statsd(Statsd),
    Metrics(MetricsService),
    OpenTelemetry(OpenTelemetry),
}

/// Sends the stats to the sinks each time that they were flushed, forever.
pub(super) async fn run(
    sinks: Vec<Sink>,
    proxy: Proxy,
    registry: Arc<Registry>,
    running: Arc<Running>,
    flushed: Arc<Notify>,
) {
    if sinks.is_empty() {
        return;
    }
    let output = |sink| match sink {
        Sink::Statsd(sink) => Output::Statsd(Statsd::new(sink)),
        Sink::Metrics(sink) => Output::Metrics(MetricsService::new(sink, &proxy, &running)),
        Sink::OpenTelemetry(sink) => {
            Output::OpenTelemetry(OpenTelemetry::new(sink, &proxy, &running))
        }
    };
    let mut sinks: Vec<Output> = sinks.into_iter().map(output).collect();
    loop {
        flushed.notified().await;
        let mut flush = registry.flushed();
        while flush.step(&mut |sample| sinks.iter_mut().for_each(|sink| sink.add(sample))) {
            for sink in &mut sinks {
                if let Output::Statsd(sink) = sink {
                    sink.send_if_large(&running).await;
                }
            }
            tokio::task::yield_now().await;
        }
        for sink in &mut sinks {
            match sink {
                Output::Statsd(sink) => sink.send(&running).await,
                Output::Metrics(sink) => sink.send(),
                Output::OpenTelemetry(sink) => sink.send(),
            }
        }
    }
}

impl Output {
    fn add(&mut self, sample: &Sample<'_>) {
        match self {
            Self::Statsd(sink) => sink.add(sample),
            Self::Metrics(sink) => sink.add(sample),
            Self::OpenTelemetry(sink) => sink.add(sample),
        }
    }
}
