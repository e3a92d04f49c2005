//! `envoy/config/metrics/v3`.

use super::{
    Address, Any, ApiVersion, GrpcService, HttpService, ListStringMatcher, StringMatcher, schema,
    schema_enum,
};

schema! {
    const METRICS;

    struct StatsConfig = "envoy.config.metrics.v3.StatsConfig" {
        stats_tags: Vec<TagSpecifier>,
        use_all_default_tags: Option<bool>,
        stats_matcher: Option<StatsMatcher>,
        histogram_bucket_settings: Vec<HistogramBucketSettings>,
        allow_default_tag_overrides: Option<bool>,
    }

    struct TagSpecifier = "envoy.config.metrics.v3.TagSpecifier" {
        tag_name: String,
        regex: Option<String>,
        fixed_value: Option<String>,
    }

    struct StatsMatcher = "envoy.config.metrics.v3.StatsMatcher" {
        reject_all: Option<bool>,
        exclusion_list: Option<ListStringMatcher>,
        inclusion_list: Option<ListStringMatcher>,
    }

    struct HistogramBucketSettings = "envoy.config.metrics.v3.HistogramBucketSettings" {
        r#match: Option<StringMatcher>,
        buckets: Vec<f64>,
    } harmless {
        bins: "it is the size of native histograms, which exist only in Prometheus' protobuf format",
    }

    struct StatsSink = "envoy.config.metrics.v3.StatsSink" {
        name: String,
        typed_config: Option<Any>,
    }

    struct MetricsServiceConfig = "envoy.config.metrics.v3.MetricsServiceConfig" {
        grpc_service: Option<GrpcService>,
        transport_api_version: ApiVersion,
        report_counters_as_deltas: Option<bool>,
        emit_tags_as_labels: bool,
        histogram_emit_mode: HistogramEmitMode,
        batch_size: u32,
    }

    struct OpenTelemetrySink = "envoy.extensions.stat_sinks.open_telemetry.v3.SinkConfig" {
        grpc_service: Option<GrpcService>,
        http_service: Option<HttpService>,
        report_counters_as_deltas: bool,
        report_histograms_as_deltas: bool,
        emit_tags_as_attributes: Option<bool>,
        use_tag_extracted_name: Option<bool>,
        prefix: String,
        max_data_points_per_request: u32,
    }

    struct StatsdSink = "envoy.config.metrics.v3.StatsdSink" {
        address: Option<Address>,
        tcp_cluster_name: Option<String>,
        prefix: String,
    }

    struct DogStatsdSink = "envoy.config.metrics.v3.DogStatsdSink" {
        address: Option<Address>,
        prefix: String,
        max_bytes_per_datagram: Option<u64>,
    }
}

schema_enum! {
    enum HistogramEmitMode = "envoy.config.metrics.v3.HistogramEmitMode" {
        SummaryAndHistogram, Summary, Histogram,
    }
}
