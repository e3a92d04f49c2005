//! What the configuration says about flushing stats: when, and where they are sent.

pub mod compile;

use std::time::Duration;

use crate::address::Address;

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
pub struct Sink {
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
