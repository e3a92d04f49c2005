//! An OpenTelemetry collector: metrics in its protocol.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use prost::Message as _;
use tokio::sync::mpsc::Receiver;

use super::Proxy;
use super::remote::{Condition, Messages, Outbox};
use crate::control::collector::{Collector, Failure};
use crate::control::server::Running;
use crate::otlp::{
    DataPoint, ExportMetrics, Gauge, Histogram, HistogramPoint, KeyValue, Metric, MetricData,
    Resource, ResourceMetrics, ScopeMetrics, Sum, Value,
};
use crate::remote_service::RemoteService;
use crate::stats::{Amount, Distribution, Sample};
use crate::stats_sink::{Counters, OpenTelemetrySink};

const METHOD: &str = "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export";

/// The sink at work.
pub(super) struct OpenTelemetry {
    sink: OpenTelemetrySink,
    outbox: Outbox,
    metrics: Vec<Metric>,
    resource: Resource,
    /// When counting has begun, in nanoseconds since 1970; the last flush, and this one.
    began: u64,
    last: u64,
    now: u64,
}

impl OpenTelemetry {
    pub(super) fn new(sink: OpenTelemetrySink, proxy: &Proxy, running: &Arc<Running>) -> Self {
        let (outbox, flushes) = Outbox::new();
        let version = proxy.version.clone();
        let sending = send(sink.service.clone(), version, Arc::clone(running), flushes);
        drop(tokio::task::spawn_local(sending));
        let attributes = vec![
            KeyValue::text("telemetry.sdk.name", "corvoy"),
            KeyValue::text("telemetry.sdk.language", "rust"),
            KeyValue::text("telemetry.sdk.version", &proxy.version),
        ];
        let (began, resource) = (nanoseconds(), Resource { attributes });
        Self { sink, outbox, metrics: Vec::new(), resource, began, last: began, now: began }
    }

    /// Adds the metric of a stat. As in Envoy, no delta is sent of what has not changed.
    pub(super) fn add(&mut self, sample: &Sample<'_>) {
        if self.metrics.is_empty() {
            self.now = nanoseconds();
        }
        let (deltas, histograms) = (Counters::Deltas, self.sink.histograms);
        let data = match (&sample.amount, self.sink.counters) {
            (Amount::Counter { added: 0, .. }, Counters::Deltas) => return,
            (Amount::Counter { added: value, .. }, kind @ Counters::Deltas)
            | (Amount::Counter { value, .. }, kind @ Counters::Cumulative) => {
                let point = self.point(self.since(kind), *value, sample);
                let data_points = vec![point];
                let temporality = temporality(kind);
                MetricData::Sum(Sum { data_points, temporality, is_monotonic: true })
            }
            (Amount::Gauge(value), _) => {
                MetricData::Gauge(Gauge { data_points: vec![self.point(0, *value, sample)] })
            }
            (Amount::Histogram(_), _) => {
                let values =
                    if histograms == deltas { sample.interval() } else { sample.cumulative() };
                let Some(values) = values else { return };
                if histograms == deltas && values.count == 0 {
                    return;
                }
                let data_points = vec![self.histogram(&values, sample)];
                let temporality = temporality(histograms);
                MetricData::Histogram(Histogram { data_points, temporality })
            }
        };
        let short;
        let name = if self.sink.short_names {
            short = sample.tagged().0;
            &short
        } else {
            &sample.name
        };
        let name = format!("{}{name}", self.sink.prefix);
        self.metrics.push(Metric { name, data: Some(data) });
    }

    /// When what is sent of a stat has begun.
    const fn since(&self, kind: Counters) -> u64 {
        match kind {
            Counters::Cumulative => self.began,
            Counters::Deltas => self.last,
        }
    }

    fn attributes(&self, sample: &Sample<'_>) -> Vec<KeyValue> {
        if !self.sink.attributes {
            return Vec::new();
        }
        let (_, tags) = sample.tagged();
        tags.into_iter().map(|(name, value)| KeyValue::text(name, value)).collect()
    }

    fn point(&self, since: u64, value: u64, sample: &Sample<'_>) -> DataPoint {
        DataPoint {
            start_time_unix_nano: since,
            time_unix_nano: self.now,
            value: Some(Value::Int(i64::try_from(value).unwrap_or(i64::MAX))),
            attributes: self.attributes(sample),
        }
    }

    fn histogram(&self, values: &Distribution, sample: &Sample<'_>) -> HistogramPoint {
        let mut below = 0;
        let counts = values.buckets.iter().map(|(_, count)| *count).chain([values.count]);
        let bucket_counts = counts
            .map(|count| count.saturating_sub(std::mem::replace(&mut below, count)))
            .collect();
        HistogramPoint {
            start_time_unix_nano: self.since(self.sink.histograms),
            time_unix_nano: self.now,
            count: values.count,
            sum: Some(values.sum),
            bucket_counts,
            explicit_bounds: values.buckets.iter().map(|(bound, _)| *bound).collect(),
            attributes: self.attributes(sample),
        }
    }

    /// Hands over what was added.
    pub(super) fn send(&mut self) {
        let metrics = std::mem::take(&mut self.metrics);
        self.last = self.now;
        let most = self.sink.batch.unwrap_or(usize::MAX).min(metrics.len().max(1));
        let messages = metrics.chunks(most).map(|metrics| {
            let scope_metrics = vec![ScopeMetrics { metrics: metrics.to_vec() }];
            let resource = Some(self.resource.clone());
            let resource_metrics = vec![ResourceMetrics { resource, scope_metrics }];
            ExportMetrics { resource_metrics }.encode_to_vec()
        });
        self.outbox.hand_over(messages.collect(), self.sink.service.cluster());
    }
}

/// Sends flushes, forever.
async fn send(
    service: RemoteService,
    version: String,
    running: Arc<Running>,
    mut flushes: Receiver<Messages>,
) {
    let mut collector = Collector::new(&running, &service, METHOD, &version);
    let mut condition = Condition::Good;
    let mut turn = 0;
    while let Some(flush) = flushes.recv().await {
        for message in flush {
            let sent = collector.export(turn, message).await;
            turn += usize::from(sent.is_err());
            let sent = sent.map_err(|(Failure::Passing(why) | Failure::Final(why))| why);
            condition.note(service.cluster(), sent);
        }
    }
}

const fn temporality(kind: Counters) -> i32 {
    match kind {
        Counters::Deltas => 1,
        Counters::Cumulative => 2,
    }
}

fn nanoseconds() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_nanos()).unwrap_or(u64::MAX)
}
