//! What the configuration says about flushing stats: when, and where they are sent.

pub mod compile;

use std::time::Duration;

use crate::address::Address;
use crate::remote_service::{GrpcService, RemoteService};

/// When stats are flushed: histograms begin a new interval, and sinks get what there is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum StatsFlush {
    /// `stats_flush_interval`
    Every(Duration),
    /// `stats_flush_on_admin`: with each request for stats.
    OnAdmin,
}

/// A sink of the configuration.
#[derive(Clone, Debug)]
pub enum Sink {
    /// statsd or DogStatsD.
    Statsd(StatsdSink),
    /// Envoy's metrics service.
    Metrics(MetricsSink),
    /// An OpenTelemetry collector.
    OpenTelemetry(OpenTelemetrySink),
}

/// A sink that speaks statsd.
#[derive(Clone, Debug)]
pub struct StatsdSink {
    /// Whether tags are sent apart from names.
    pub style: Style,
    /// What precedes each name.
    pub prefix: String,
    /// Where it is.
    pub destination: Destination,
    /// The most bytes of one datagram with several stats; 0: each stat has its own.
    pub datagram_bytes_max: usize,
}

/// A dialect of statsd.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Style {
    /// Names with their tags in them.
    Statsd,
    /// Names without tags, and tags.
    DogStatsd,
}

/// Where a sink is.
#[derive(Clone, Debug)]
pub enum Destination {
    /// Datagrams to this address.
    Datagrams(Address),
    /// A TCP connection to a host of the cluster with this number.
    Cluster(usize),
}

/// Envoy's metrics service.
#[derive(Clone, Debug)]
pub struct MetricsSink {
    /// Where it is.
    pub service: GrpcService,
    /// What a counter is sent as.
    pub counters: Counters,
    /// Whether tags are sent apart from names.
    pub tags_apart: bool,
    /// Whether histograms are sent as summaries.
    pub summaries: bool,
    /// Whether they are sent with their buckets.
    pub histograms: bool,
    /// How many stats a message has at most; none: any number.
    pub batch: Option<usize>,
}

/// An OpenTelemetry collector.
#[derive(Clone, Debug)]
pub struct OpenTelemetrySink {
    /// Where it is.
    pub service: RemoteService,
    /// What a counter is sent as.
    pub counters: Counters,
    /// What a histogram is sent as.
    pub histograms: Counters,
    /// Whether tags are sent as attributes.
    pub attributes: bool,
    /// Whether names are without tags.
    pub short_names: bool,
    /// What precedes each name, with its dot.
    pub prefix: String,
    /// How many stats a message has at most; none: any number.
    pub batch: Option<usize>,
}

/// What is sent of a stat that only grows.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Counters {
    /// All since the start.
    Cumulative,
    /// What came since the last flush.
    Deltas,
}
