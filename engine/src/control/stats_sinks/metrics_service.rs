//! Envoy's metrics service: a stream of the metric families of Prometheus' client.

use std::pin::pin;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use http::uri::PathAndQuery;
use prost::Message as _;
use tokio::sync::mpsc::{self, Receiver};
use tokio_stream::wrappers::ReceiverStream;

use super::Proxy;
use super::remote::{Condition, Messages, Outbox};
use crate::control::grpc::{Client, metadata, words};
use crate::control::raw_codec::RawCodec;
use crate::control::server::Running;
use crate::remote_service::GrpcService;
use crate::stats::{Amount, Distribution, Sample};
use crate::stats_sink::{Counters, MetricsSink};

const METHOD: &str = "/envoy.service.metrics.v3.MetricsService/StreamMetrics";

/// The sink at work.
pub(super) struct MetricsService {
    sink: MetricsSink,
    outbox: Outbox,
    families: Vec<MetricFamily>,
}

impl MetricsService {
    pub(super) fn new(sink: MetricsSink, proxy: &Proxy, running: &Arc<Running>) -> Self {
        let (outbox, flushes) = Outbox::new();
        let identifier = Some(Identifier { node: proxy.node.clone() });
        let first = StreamMetricsMessage { identifier, envoy_metrics: Vec::new() };
        let sending = send(sink.service.clone(), Arc::clone(running), first, flushes);
        drop(tokio::task::spawn_local(sending));
        Self { sink, outbox, families: Vec::new() }
    }

    /// Adds the families of a stat.
    pub(super) fn add(&mut self, sample: &Sample<'_>) {
        let (name, labels) = if self.sink.tags_apart {
            let (name, tags) = sample.tagged();
            let label = |(name, value)| LabelPair { name, value };
            (name, tags.into_iter().map(label).collect())
        } else {
            (sample.name.clone(), Vec::new())
        };
        let mut add = |kind, metric| {
            let metric = Metric { label: labels.clone(), timestamp_ms: 0, ..metric };
            self.families.push(MetricFamily { name: name.clone(), kind, metric: vec![metric] });
        };
        match (&sample.amount, self.sink.counters) {
            (Amount::Counter { added: value, .. }, Counters::Deltas)
            | (Amount::Counter { value, .. }, Counters::Cumulative) => {
                add(COUNTER, Metric { counter: Some(Number::of(*value)), ..Metric::default() });
            }
            (Amount::Gauge(value), _) => {
                add(GAUGE, Metric { gauge: Some(Number::of(*value)), ..Metric::default() });
            }
            (Amount::Histogram(_), _) => {
                let Some(values) = sample.interval() else { return };
                if self.sink.summaries {
                    add(SUMMARY, Metric { summary: Some(summary(&values)), ..Metric::default() });
                }
                if self.sink.histograms {
                    let histogram = Some(histogram(&values));
                    add(HISTOGRAM, Metric { histogram, ..Metric::default() });
                }
            }
        }
    }

    /// Hands over what was added.
    pub(super) fn send(&mut self) {
        let mut families = std::mem::take(&mut self.families);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let now = i64::try_from(now.as_millis()).unwrap_or(i64::MAX);
        for metric in families.iter_mut().flat_map(|family| &mut family.metric) {
            metric.timestamp_ms = now;
        }
        let most = self.sink.batch.unwrap_or(usize::MAX).min(families.len().max(1));
        let messages = families.chunks(most).map(|families| {
            let envoy_metrics = families.to_vec();
            StreamMetricsMessage { identifier: None, envoy_metrics }.encode_to_vec()
        });
        self.outbox.hand_over(messages.collect(), &self.sink.service.cluster);
    }
}

/// Sends flushes over one stream after the other, forever.
async fn send(
    service: GrpcService,
    running: Arc<Running>,
    identifier: StreamMetricsMessage,
    mut flushes: Receiver<Messages>,
) {
    let mut condition = Condition::Good;
    for turn in 0.. {
        let Some(flush) = flushes.recv().await else { return };
        let ended =
            stream(&service, &running, &identifier, (turn, flush), &mut flushes, &mut condition);
        let Err(why) = ended.await else { return };
        condition.note(&service.cluster, Err(why));
    }
}

/// Sends flushes over one stream until it ends.
async fn stream(
    service: &GrpcService,
    running: &Running,
    identifier: &StreamMetricsMessage,
    (turn, first): (usize, Messages),
    flushes: &mut Receiver<Messages>,
    condition: &mut Condition,
) -> Result<(), String> {
    let client = Client::connect(running, &service.cluster, &service.authority, turn).await?;
    let Client { mut grpc, connection, carrier: _carrier } = client;
    let _counted = connection.request();
    let (to_server, messages) = mpsc::channel(1);
    let metadata = metadata(&service.metadata);
    let messages = ReceiverStream::new(messages);
    let request = tonic::Request::from_parts(metadata, http::Extensions::new(), messages);
    let method = PathAndQuery::from_static(METHOD);
    let mut call = pin!(grpc.client_streaming(request, method, RawCodec));
    let why = |ended: Result<_, tonic::Status>| match ended {
        Ok(_) => "the server has ended the stream".to_owned(),
        Err(status) => words(&status),
    };
    // Fields of a message may follow each other in any order.
    let mut prefix = identifier.encode_to_vec();
    let mut next = Some(first);
    while let Some(flush) = next {
        for message in flush {
            let mut whole = std::mem::take(&mut prefix);
            whole.extend(message);
            tokio::select! {
                sent = to_server.send(whole) => sent.map_err(|_| "the stream has ended".to_owned())?,
                ended = &mut call => return Err(why(ended)),
            }
        }
        next = tokio::select! {
            flush = flushes.recv() => flush,
            ended = &mut call => return Err(why(ended)),
        };
        // A server that refuses the stream has done so by now.
        condition.note(&service.cluster, Ok(()));
    }
    Ok(())
}

fn summary(values: &Distribution) -> Summary {
    let quantiles = values.quantiles.iter();
    Summary {
        sample_count: values.count,
        sample_sum: values.sum,
        quantile: quantiles.map(|&(quantile, value)| Quantile { quantile, value }).collect(),
    }
}

fn histogram(values: &Distribution) -> Histogram {
    let buckets = values.buckets.iter();
    Histogram {
        sample_count: values.count,
        sample_sum: values.sum,
        bucket: buckets
            .map(|&(upper_bound, cumulative_count)| Bucket { cumulative_count, upper_bound })
            .collect(),
    }
}

const COUNTER: i32 = 0;
const GAUGE: i32 = 1;
const SUMMARY: i32 = 2;
const HISTOGRAM: i32 = 4;

#[derive(Clone, PartialEq, prost::Message)]
struct StreamMetricsMessage {
    #[prost(message, optional, tag = "1")]
    identifier: Option<Identifier>,
    #[prost(message, repeated, tag = "2")]
    envoy_metrics: Vec<MetricFamily>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Identifier {
    /// An encoded node.
    #[prost(bytes = "vec", tag = "1")]
    node: Vec<u8>,
}

/// `io.prometheus.client.MetricFamily`. Its fields are optional ones of proto2: zero is sent too.
#[derive(Clone, PartialEq, prost::Message)]
struct MetricFamily {
    #[prost(string, required, tag = "1")]
    name: String,
    #[prost(int32, required, tag = "3")]
    kind: i32,
    #[prost(message, repeated, tag = "4")]
    metric: Vec<Metric>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Metric {
    #[prost(message, repeated, tag = "1")]
    label: Vec<LabelPair>,
    #[prost(message, optional, tag = "2")]
    gauge: Option<Number>,
    #[prost(message, optional, tag = "3")]
    counter: Option<Number>,
    #[prost(message, optional, tag = "4")]
    summary: Option<Summary>,
    #[prost(int64, required, tag = "6")]
    timestamp_ms: i64,
    #[prost(message, optional, tag = "7")]
    histogram: Option<Histogram>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct LabelPair {
    #[prost(string, required, tag = "1")]
    name: String,
    #[prost(string, required, tag = "2")]
    value: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Number {
    #[prost(double, required, tag = "1")]
    value: f64,
}

impl Number {
    #[expect(clippy::cast_precision_loss, reason = "as in Envoy")]
    fn of(value: u64) -> Self {
        Self { value: value as f64 }
    }
}

#[derive(Clone, PartialEq, prost::Message)]
struct Summary {
    #[prost(uint64, required, tag = "1")]
    sample_count: u64,
    #[prost(double, required, tag = "2")]
    sample_sum: f64,
    #[prost(message, repeated, tag = "3")]
    quantile: Vec<Quantile>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Quantile {
    #[prost(double, required, tag = "1")]
    quantile: f64,
    #[prost(double, required, tag = "2")]
    value: f64,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Histogram {
    #[prost(uint64, required, tag = "1")]
    sample_count: u64,
    #[prost(double, required, tag = "2")]
    sample_sum: f64,
    #[prost(message, repeated, tag = "3")]
    bucket: Vec<Bucket>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Bucket {
    #[prost(uint64, required, tag = "1")]
    cumulative_count: u64,
    #[prost(double, required, tag = "2")]
    upper_bound: f64,
}
