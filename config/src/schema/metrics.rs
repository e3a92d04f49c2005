//! `envoy/config/metrics/v3`.

use super::{Address, Any, ListStringMatcher, StringMatcher, schema};

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
