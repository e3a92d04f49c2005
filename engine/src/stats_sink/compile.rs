//! Schema → stats sinks.

use corvoy_config::{self as config, Path, Problems};

use super::{Counters, Destination, MetricsSink, OpenTelemetrySink, Sink, StatsdSink, Style};
use crate::address;
use crate::remote_service::RemoteService;
use crate::remote_service::compile as service;

/// Compiles the sinks at `at`. `cluster` is the number of a cluster by its name.
pub fn sinks(
    schemas: &[config::StatsSink],
    cluster: &dyn Fn(&str) -> Option<usize>,
    at: &Path,
    problems: &mut Problems,
) -> Vec<Sink> {
    let schemas = schemas.iter().enumerate();
    let sinks = schemas.filter_map(|(i, schema)| {
        let config::StatsSink { name: _, typed_config } = schema;
        let at = at.index(i).field("typed_config");
        match typed_config {
            Some(config::Any::StatsdSink(schema)) => statsd(schema, cluster, &at, problems),
            Some(config::Any::DogStatsdSink(schema)) => dog_statsd(schema, &at, problems),
            Some(config::Any::MetricsServiceConfig(schema)) => {
                metrics(schema, cluster, &at, problems).map(Sink::Metrics)
            }
            Some(config::Any::OpenTelemetrySink(schema)) => {
                open_telemetry(schema, cluster, &at, problems).map(Sink::OpenTelemetry)
            }
            _ => {
                let why = "Corvoy supports the stats sinks statsd, dog_statsd, metrics_service and \
                           open_telemetry";
                problems.missing(&at, why);
                None
            }
        }
    });
    sinks.collect()
}

fn statsd(
    schema: &config::StatsdSink,
    cluster: &dyn Fn(&str) -> Option<usize>,
    at: &Path,
    problems: &mut Problems,
) -> Option<Sink> {
    let config::StatsdSink { address, tcp_cluster_name, prefix } = schema;
    let destination = match (address, tcp_cluster_name) {
        (Some(address), _) => datagrams(address, &at.field("address"), problems)?,
        (None, Some(name)) => {
            let Some(cluster) = cluster(name) else {
                let why = format!("there is no cluster '{name}'");
                problems.error(&at.field("tcp_cluster_name"), why);
                return None;
            };
            Destination::Cluster(cluster)
        }
        (None, None) => return None,
    };
    let prefix = prefix_or_default(prefix);
    let style = Style::Statsd;
    Some(Sink::Statsd(StatsdSink { style, prefix, destination, datagram_bytes_max: 0 }))
}

fn dog_statsd(schema: &config::DogStatsdSink, at: &Path, problems: &mut Problems) -> Option<Sink> {
    let config::DogStatsdSink { address, prefix, max_bytes_per_datagram } = schema;
    let destination = datagrams(address.as_ref()?, &at.field("address"), problems)?;
    let most = max_bytes_per_datagram.map(|most| usize::try_from(most).unwrap_or(usize::MAX));
    Some(Sink::Statsd(StatsdSink {
        style: Style::DogStatsd,
        prefix: prefix_or_default(prefix),
        destination,
        datagram_bytes_max: most.unwrap_or(0),
    }))
}

fn metrics(
    schema: &config::MetricsServiceConfig,
    cluster: service::FindCluster<'_>,
    at: &Path,
    problems: &mut Problems,
) -> Option<MetricsSink> {
    let config::MetricsServiceConfig {
        grpc_service,
        transport_api_version,
        report_counters_as_deltas,
        emit_tags_as_labels,
        histogram_emit_mode,
        batch_size,
    } = schema;
    if *transport_api_version == config::ApiVersion::V2 {
        let why = "there is no V2 any more, neither here nor in Envoy: write `V3`";
        problems.error(&at.field("transport_api_version"), why);
    }
    let at = at.field("grpc_service");
    let service = service::grpc(grpc_service.as_ref()?, None, cluster, &at, problems)?;
    use config::HistogramEmitMode as Mode;
    Some(MetricsSink {
        service,
        counters: counters(*report_counters_as_deltas == Some(true)),
        tags_apart: *emit_tags_as_labels,
        summaries: *histogram_emit_mode != Mode::Histogram,
        histograms: *histogram_emit_mode != Mode::Summary,
        batch: batch(*batch_size),
    })
}

fn open_telemetry(
    schema: &config::OpenTelemetrySink,
    cluster: service::FindCluster<'_>,
    at: &Path,
    problems: &mut Problems,
) -> Option<OpenTelemetrySink> {
    let config::OpenTelemetrySink {
        grpc_service,
        http_service,
        report_counters_as_deltas,
        report_histograms_as_deltas,
        emit_tags_as_attributes,
        use_tag_extracted_name,
        prefix,
        max_data_points_per_request,
    } = schema;
    let service = match (grpc_service, http_service) {
        (Some(grpc), _) => {
            let at = at.field("grpc_service");
            RemoteService::Grpc(service::grpc(grpc, None, cluster, &at, problems)?)
        }
        (None, Some(http)) => {
            let at = at.field("http_service");
            RemoteService::Http(service::http(http, cluster, &at, problems)?)
        }
        // One is required, which was checked.
        (None, None) => return None,
    };
    let dot = if prefix.is_empty() { "" } else { "." };
    Some(OpenTelemetrySink {
        service,
        counters: counters(*report_counters_as_deltas),
        histograms: counters(*report_histograms_as_deltas),
        attributes: emit_tags_as_attributes.unwrap_or(true),
        short_names: use_tag_extracted_name.unwrap_or(true),
        prefix: format!("{prefix}{dot}"),
        batch: batch(*max_data_points_per_request),
    })
}

const fn counters(are_deltas: bool) -> Counters {
    if are_deltas { Counters::Deltas } else { Counters::Cumulative }
}

fn batch(most: u32) -> Option<usize> {
    Some(most as usize).filter(|most| *most > 0)
}

fn datagrams(address: &config::Address, at: &Path, problems: &mut Problems) -> Option<Destination> {
    let listening = address::compile::listening(address, at, problems)?;
    Some(Destination::Datagrams(listening.address))
}

fn prefix_or_default(prefix: &str) -> String {
    if prefix.is_empty() { "envoy".to_owned() } else { prefix.to_owned() }
}
