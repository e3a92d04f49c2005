//! What is read from a scope: names, values, and whether they were ever written.

use std::any::{Any, TypeId};
use std::fmt;
use std::sync::Arc;

use crate::stats::Kind;
use crate::stats::summary::{Merge, Summary};

/// A scope with any set of stats. For the control plane.
pub(super) trait Listed: fmt::Debug + Send + Sync {
    /// The prefix of every name.
    fn prefix(&self) -> &str;

    /// Which set of stats it has.
    fn set(&self) -> TypeId;

    /// Name and kind of one of its declared stats; none after the last.
    fn declared(&self, index: usize) -> Option<(&'static str, Kind)>;

    /// The present names and values of one declared stat: none, one, or several (codes, workers).
    fn read(&self, index: usize, visit: &mut dyn FnMut(&Reading<'_>));

    /// Resets all counters to zero. Nothing is written to the blocks: they belong to the shards.
    fn reset_counters(&self);

    /// What was added to a counter since the last call for it; `value` is its current value.
    fn latch(&self, index: usize, name: Name<'static>, value: u64) -> u64;

    /// Ends the interval of every histogram.
    fn flush(&self, merge: &mut Merge);

    /// For the registry, which downcasts it.
    fn into_any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync>;
}

/// One name and its value.
#[derive(Debug)]
pub(super) struct Reading<'a> {
    pub(super) name: Name<'static>,
    pub(super) value: Value<'a>,
    /// Written since the process started.
    pub(super) used: bool,
}

/// A name after the prefix of its scope.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(super) enum Name<'a> {
    /// `external.upstream_rq_2xx`
    Class(&'a str, u16),
    /// `external.upstream_rq_200`
    Code(&'a str, u16),
    /// `external.upstream_rq_completed`
    Completed(&'a str),
    /// `ciphers.TLS_AES_128_GCM_SHA256`
    Named(&'a str, &'static str),
    /// `upstream_rq_total`
    Plain(&'a str),
    /// `external.upstream_rq_unknown`
    Unknown(&'a str),
    /// `worker_0.downstream_cx_total`
    Worker(usize, &'a str),
}

impl fmt::Display for Name<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Class(group, class) => write!(f, "{group}upstream_rq_{class}xx"),
            Self::Code(group, code) => write!(f, "{group}upstream_rq_{code}"),
            Self::Completed(group) => write!(f, "{group}upstream_rq_completed"),
            Self::Named(group, name) => write!(f, "{group}{name}"),
            Self::Plain(name) => f.write_str(name),
            Self::Unknown(group) => write!(f, "{group}upstream_rq_unknown"),
            Self::Worker(worker, name) => write!(f, "worker_{worker}.{name}"),
        }
    }
}

/// A value as it is shown.
#[derive(Debug)]
pub(super) enum Value<'a> {
    Counter(u64),
    Gauge(u64),
    Histogram(&'a Summary),
    Text(&'a str),
}
