//! The messages of OpenTelemetry's protocol (OTLP), as far as they are written here.

use prost::Message;

/// `opentelemetry.proto.common.v1.AnyValue`
#[derive(Clone, PartialEq, Message)]
pub struct AnyValue {
    /// The value; none: it is empty.
    #[prost(oneof = "Kind", tags = "1, 2, 3, 4, 5, 6, 7")]
    pub kind: Option<Kind>,
}

/// What a value is.
#[derive(Clone, PartialEq, prost::Oneof)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Kind {
    #[prost(string, tag = "1")]
    Text(String),
    #[prost(bool, tag = "2")]
    Bool(bool),
    #[prost(int64, tag = "3")]
    Int(i64),
    #[prost(double, tag = "4")]
    Double(f64),
    #[prost(message, tag = "5")]
    List(ArrayValue),
    #[prost(message, tag = "6")]
    Map(KeyValueList),
    #[prost(bytes = "vec", tag = "7")]
    Bytes(Vec<u8>),
}

/// `opentelemetry.proto.common.v1.ArrayValue`
#[derive(Clone, PartialEq, Message)]
pub struct ArrayValue {
    /// The values.
    #[prost(message, repeated, tag = "1")]
    pub values: Vec<AnyValue>,
}

/// `opentelemetry.proto.common.v1.KeyValueList`
#[derive(Clone, PartialEq, Message)]
pub struct KeyValueList {
    /// The values with their keys.
    #[prost(message, repeated, tag = "1")]
    pub values: Vec<KeyValue>,
}

/// `opentelemetry.proto.common.v1.KeyValue`
#[derive(Clone, PartialEq, Message)]
pub struct KeyValue {
    /// The key.
    #[prost(string, tag = "1")]
    pub key: String,
    /// The value.
    #[prost(message, optional, tag = "2")]
    pub value: Option<AnyValue>,
}

/// `opentelemetry.proto.resource.v1.Resource`
#[derive(Clone, PartialEq, Message)]
pub struct Resource {
    /// What is known of it.
    #[prost(message, repeated, tag = "1")]
    pub attributes: Vec<KeyValue>,
}

/// `opentelemetry.proto.logs.v1.LogRecord`
#[derive(Clone, PartialEq, Message)]
pub struct LogRecord {
    /// When it happened, in nanoseconds since 1970.
    #[prost(fixed64, tag = "1")]
    pub time_unix_nano: u64,
    /// What happened.
    #[prost(message, optional, tag = "5")]
    pub body: Option<AnyValue>,
    /// More about it.
    #[prost(message, repeated, tag = "6")]
    pub attributes: Vec<KeyValue>,
}

/// `opentelemetry.proto.collector.logs.v1.ExportLogsServiceRequest`
#[derive(Clone, PartialEq, Message)]
pub struct ExportLogs {
    /// The records of one resource.
    #[prost(message, repeated, tag = "1")]
    pub resource_logs: Vec<ResourceLogs>,
}

/// `opentelemetry.proto.logs.v1.ResourceLogs`
#[derive(Clone, PartialEq, Message)]
pub struct ResourceLogs {
    /// What the records are from.
    #[prost(message, optional, tag = "1")]
    pub resource: Option<Resource>,
    /// An encoded `ScopeLogs`: each record is field 2 of it.
    #[prost(bytes = "vec", repeated, tag = "2")]
    pub scope_logs: Vec<Vec<u8>>,
}

/// `opentelemetry.proto.collector.metrics.v1.ExportMetricsServiceRequest`
#[derive(Clone, PartialEq, Message)]
pub struct ExportMetrics {
    /// The metrics of one resource.
    #[prost(message, repeated, tag = "1")]
    pub resource_metrics: Vec<ResourceMetrics>,
}

/// `opentelemetry.proto.metrics.v1.ResourceMetrics`
#[derive(Clone, PartialEq, Message)]
pub struct ResourceMetrics {
    /// What the metrics are of.
    #[prost(message, optional, tag = "1")]
    pub resource: Option<Resource>,
    /// The metrics.
    #[prost(message, repeated, tag = "2")]
    pub scope_metrics: Vec<ScopeMetrics>,
}

/// `opentelemetry.proto.metrics.v1.ScopeMetrics`
#[derive(Clone, PartialEq, Message)]
pub struct ScopeMetrics {
    /// The metrics.
    #[prost(message, repeated, tag = "2")]
    pub metrics: Vec<Metric>,
}

/// `opentelemetry.proto.metrics.v1.Metric`
#[derive(Clone, PartialEq, Message)]
pub struct Metric {
    /// The name.
    #[prost(string, tag = "1")]
    pub name: String,
    /// The values.
    #[prost(oneof = "MetricData", tags = "5, 7, 9")]
    pub data: Option<MetricData>,
}

/// What the values of a metric are.
#[derive(Clone, PartialEq, prost::Oneof)]
#[expect(missing_docs, reason = "the names say it")]
pub enum MetricData {
    #[prost(message, tag = "5")]
    Gauge(Gauge),
    #[prost(message, tag = "7")]
    Sum(Sum),
    #[prost(message, tag = "9")]
    Histogram(Histogram),
}

/// `opentelemetry.proto.metrics.v1.Gauge`
#[derive(Clone, PartialEq, Message)]
pub struct Gauge {
    /// The values.
    #[prost(message, repeated, tag = "1")]
    pub data_points: Vec<DataPoint>,
}

/// `opentelemetry.proto.metrics.v1.Sum`
#[derive(Clone, PartialEq, Message)]
pub struct Sum {
    /// The values.
    #[prost(message, repeated, tag = "1")]
    pub data_points: Vec<DataPoint>,
    /// 1: since the last one; 2: since the start.
    #[prost(int32, tag = "2")]
    pub temporality: i32,
    /// Whether it only grows.
    #[prost(bool, tag = "3")]
    pub is_monotonic: bool,
}

/// `opentelemetry.proto.metrics.v1.NumberDataPoint`
#[derive(Clone, PartialEq, Message)]
pub struct DataPoint {
    /// When it has begun, in nanoseconds since 1970.
    #[prost(fixed64, tag = "2")]
    pub start_time_unix_nano: u64,
    /// When it was read.
    #[prost(fixed64, tag = "3")]
    pub time_unix_nano: u64,
    /// The value.
    #[prost(oneof = "Value", tags = "6")]
    pub value: Option<Value>,
    /// Its tags.
    #[prost(message, repeated, tag = "7")]
    pub attributes: Vec<KeyValue>,
}

/// The value of a point.
#[derive(Clone, Copy, PartialEq, prost::Oneof)]
pub enum Value {
    /// A whole number.
    #[prost(sfixed64, tag = "6")]
    Int(i64),
}

/// `opentelemetry.proto.metrics.v1.Histogram`
#[derive(Clone, PartialEq, Message)]
pub struct Histogram {
    /// The values.
    #[prost(message, repeated, tag = "1")]
    pub data_points: Vec<HistogramPoint>,
    /// As of a sum.
    #[prost(int32, tag = "2")]
    pub temporality: i32,
}

/// `opentelemetry.proto.metrics.v1.HistogramDataPoint`
#[derive(Clone, PartialEq, Message)]
pub struct HistogramPoint {
    /// When it has begun, in nanoseconds since 1970.
    #[prost(fixed64, tag = "2")]
    pub start_time_unix_nano: u64,
    /// When it was read.
    #[prost(fixed64, tag = "3")]
    pub time_unix_nano: u64,
    /// How many values there are.
    #[prost(fixed64, tag = "4")]
    pub count: u64,
    /// Their sum.
    #[prost(double, optional, tag = "5")]
    pub sum: Option<f64>,
    /// How many are in each bucket; the last one has no bound.
    #[prost(fixed64, repeated, tag = "6")]
    pub bucket_counts: Vec<u64>,
    /// The upper bounds of the other buckets.
    #[prost(double, repeated, tag = "7")]
    pub explicit_bounds: Vec<f64>,
    /// Its tags.
    #[prost(message, repeated, tag = "9")]
    pub attributes: Vec<KeyValue>,
}

impl KeyValue {
    /// A text with its key.
    #[must_use]
    pub fn text(key: impl Into<String>, text: impl Into<String>) -> Self {
        Self { key: key.into(), value: Some(AnyValue::from(Kind::Text(text.into()))) }
    }
}

impl From<Kind> for AnyValue {
    fn from(kind: Kind) -> Self {
        Self { kind: Some(kind) }
    }
}
