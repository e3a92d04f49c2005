//! Schema → access logs that go to a service.

use std::sync::Arc;
use std::time::Duration;

use corvoy_config::{self as config, Path, Problems};
use tokio::sync::mpsc::unbounded_channel;

use super::custom_tags::{CustomTag, Source, Whose};
use super::entry::{Common, HttpEntries, TcpEntries};
use super::queue::{Queue, Waiting};
use super::records::{Records, Template};
use super::{Entries, Messages, RemoteLog, StreamKind, Work};
use crate::access_log::compile::Context;
use crate::format::compile::extensions;
use crate::format::{Extensions, Formatter};
use crate::limits;
use crate::metadata::MetadataOf;
use crate::otlp::{AnyValue, ArrayValue, KeyValue, KeyValueList, Kind};
use crate::remote_service::RemoteService;
use crate::remote_service::compile as service;

/// Envoy's defaults of `buffer_flush_interval` and `buffer_size_bytes`.
const FLUSH_INTERVAL: Duration = Duration::from_secs(1);
const FLUSH_BYTES: u32 = 16384;

/// The most bytes that are handed over at once.
const FLUSH_BYTES_MAX: usize = limits::LOG_QUEUE_BYTES_MAX / 4;

/// The shortest interval in which the shards are asked for their entries.
const FLUSH_INTERVAL_MIN: Duration = Duration::from_millis(10);

/// Compiles a log of requests.
pub(in crate::access_log) fn http(
    schema: &config::HttpGrpcAccessLogConfig,
    at: &Path,
    context: Context<'_>,
    problems: &mut Problems,
) -> Option<RemoteLog> {
    let config::HttpGrpcAccessLogConfig {
        common_config,
        additional_request_headers_to_log,
        additional_response_headers_to_log,
        additional_response_trailers_to_log,
    } = schema;
    let lower = |names: &[String]| names.iter().map(|name| name.to_ascii_lowercase()).collect();
    let config = common_config.as_ref()?;
    let at = at.field("common_config");
    let entries = Entries::Http(HttpEntries {
        common: common(config, &at, problems),
        request_headers: lower(additional_request_headers_to_log),
        response_headers: lower(additional_response_headers_to_log),
        response_trailers: lower(additional_response_trailers_to_log),
    });
    stream(config, StreamKind::Http, entries, &at, context, problems)
}

/// Compiles a log of connections.
pub(in crate::access_log) fn tcp(
    schema: &config::TcpGrpcAccessLogConfig,
    at: &Path,
    context: Context<'_>,
    problems: &mut Problems,
) -> Option<RemoteLog> {
    let config::TcpGrpcAccessLogConfig { common_config } = schema;
    let config = common_config.as_ref()?;
    let at = at.field("common_config");
    let entries = Entries::Tcp(TcpEntries { common: common(config, &at, problems) });
    stream(config, StreamKind::Tcp, entries, &at, context, problems)
}

fn common(
    schema: &config::CommonGrpcAccessLogConfig,
    at: &Path,
    problems: &mut Problems,
) -> Common {
    let keys = &schema.filter_state_objects_to_log;
    let filter_state = filter_state(keys, &at.field("filter_state_objects_to_log"), problems);
    Common {
        filter_state: filter_state.into_iter().map(|(key, _)| key).collect(),
        custom_tags: custom_tags(&schema.custom_tags, &at.field("custom_tags"), problems),
    }
}

/// A log whose entries go over a stream of their own.
fn stream(
    schema: &config::CommonGrpcAccessLogConfig,
    kind: StreamKind,
    entries: Entries,
    at: &Path,
    context: Context<'_>,
    problems: &mut Problems,
) -> Option<RemoteLog> {
    let config::CommonGrpcAccessLogConfig {
        log_name,
        grpc_service,
        transport_api_version,
        buffer_flush_interval,
        buffer_size_bytes,
        // `common` compiles these.
        filter_state_objects_to_log: _,
        grpc_stream_retry_policy,
        custom_tags: _,
    } = schema;
    if *transport_api_version == config::ApiVersion::V2 {
        let why = "there is no V2 any more, neither here nor in Envoy: write `V3`";
        problems.error(&at.field("transport_api_version"), why);
    }
    let policy_at = at.field("grpc_stream_retry_policy");
    let policy = grpc_stream_retry_policy.as_ref().map(|policy| (policy, &policy_at));
    let service_at = at.field("grpc_service");
    let service =
        service::grpc(grpc_service.as_ref()?, policy, context.cluster, &service_at, problems)?;
    let destination = Destination {
        service: RemoteService::Grpc(service),
        prefix: "access_logs.grpc_access_log.".to_owned(),
        messages: Messages::Stream { log_name: log_name.clone(), kind },
        interval: *buffer_flush_interval,
        bytes: *buffer_size_bytes,
    };
    let queue = destination.queue(&format!("{schema:?} {kind:?}"), context);
    Some(RemoteLog { entries, queue })
}

/// Compiles a log of OpenTelemetry.
pub(in crate::access_log) fn open_telemetry(
    schema: &config::OpenTelemetryAccessLogConfig,
    at: &Path,
    context: Context<'_>,
    problems: &mut Problems,
) -> Option<RemoteLog> {
    let config::OpenTelemetryAccessLogConfig {
        common_config,
        http_service,
        grpc_service,
        disable_builtin_labels,
        resource_attributes,
        body,
        attributes,
        stat_prefix,
        formatters,
        log_name,
        buffer_flush_interval,
        buffer_size_bytes,
        filter_state_objects_to_log,
        custom_tags: tags,
    } = schema;
    let extensions = extensions(formatters, &at.field("formatters"), problems);
    let at_common = at.field("common_config");
    let old = common_config.as_ref().map(|schema| common_parts(schema, &at_common, problems));
    let mut old = old.unwrap_or_default();
    let services = (http_service.as_ref(), grpc_service.as_ref(), old.service);
    let service = collector(services, old.retry(), at, context.cluster, problems);
    let body = body.as_ref();
    let body = body.and_then(|body| template(body, extensions, &at.field("body"), problems));
    let at_attributes = at.field("attributes");
    let attributes = attributes.as_ref();
    let attributes = attributes.map(|list| members(list, extensions, &at_attributes, problems));
    let at_state = at.field("filter_state_objects_to_log");
    old.filter_state.extend(filter_state(filter_state_objects_to_log, &at_state, problems));
    old.custom_tags.extend(custom_tags(tags, &at.field("custom_tags"), problems));
    let entries = Entries::OpenTelemetry(Records {
        body,
        attributes: attributes.unwrap_or_default(),
        filter_state: old.filter_state,
        custom_tags: old.custom_tags,
    });
    let log_name = if log_name.is_empty() { old.log_name } else { log_name };
    let dot = if stat_prefix.is_empty() { "" } else { "." };
    let destination = Destination {
        service: service?,
        prefix: format!("access_logs.open_telemetry_access_log.{stat_prefix}{dot}"),
        messages: Messages::OpenTelemetry {
            builtin_labels: (!disable_builtin_labels).then(|| log_name.to_owned()),
            attributes: resource_attributes.as_ref().map(key_values).unwrap_or_default(),
        },
        interval: buffer_flush_interval.or(old.interval),
        bytes: buffer_size_bytes.or(old.bytes),
    };
    let queue = destination.queue(&format!("{schema:?}"), context);
    Some(RemoteLog { entries, queue })
}

/// Where records go: one of `http_service`, `grpc_service`, and the service of `common_config`.
fn collector(
    services: (
        Option<&config::HttpService>,
        Option<&config::GrpcService>,
        Option<&config::GrpcService>,
    ),
    retry: Option<(&config::CoreRetryPolicy, &Path)>,
    at: &Path,
    cluster: service::FindCluster<'_>,
    problems: &mut Problems,
) -> Option<RemoteService> {
    match services {
        (Some(http), None, None) => {
            let at = at.field("http_service");
            service::http(http, cluster, &at, problems).map(RemoteService::Http)
        }
        (None, Some(grpc), None) => {
            let at = at.field("grpc_service");
            service::grpc(grpc, None, cluster, &at, problems).map(RemoteService::Grpc)
        }
        (None, None, Some(grpc)) => {
            let at = at.field("common_config").field("grpc_service");
            service::grpc(grpc, retry, cluster, &at, problems).map(RemoteService::Grpc)
        }
        _ => {
            let why = "exactly one of grpc_service, http_service and common_config.grpc_service \
                       must be set";
            problems.error(at, why);
            None
        }
    }
}

/// What the deprecated `common_config` of OpenTelemetry says.
#[derive(Default)]
struct CommonParts<'a> {
    log_name: &'a str,
    service: Option<&'a config::GrpcService>,
    filter_state: Vec<(String, Formatter)>,
    custom_tags: Vec<CustomTag>,
    retry_policy: Option<(&'a config::CoreRetryPolicy, Path)>,
    interval: Option<Duration>,
    bytes: Option<u32>,
}

impl CommonParts<'_> {
    fn retry(&self) -> Option<(&config::CoreRetryPolicy, &Path)> {
        self.retry_policy.as_ref().map(|(policy, at)| (*policy, at))
    }
}

fn common_parts<'a>(
    schema: &'a config::CommonGrpcAccessLogConfig,
    at: &Path,
    problems: &mut Problems,
) -> CommonParts<'a> {
    let config::CommonGrpcAccessLogConfig {
        log_name,
        grpc_service,
        transport_api_version,
        buffer_flush_interval,
        buffer_size_bytes,
        filter_state_objects_to_log,
        grpc_stream_retry_policy,
        custom_tags: tags,
    } = schema;
    if *transport_api_version == config::ApiVersion::V2 {
        let why = "there is no V2 any more, neither here nor in Envoy: write `V3`";
        problems.error(&at.field("transport_api_version"), why);
    }
    let policy_at = at.field("grpc_stream_retry_policy");
    let state_at = at.field("filter_state_objects_to_log");
    CommonParts {
        log_name,
        service: grpc_service.as_ref(),
        filter_state: filter_state(filter_state_objects_to_log, &state_at, problems),
        custom_tags: custom_tags(tags, &at.field("custom_tags"), problems),
        retry_policy: grpc_stream_retry_policy.as_ref().map(|policy| (policy, policy_at)),
        interval: *buffer_flush_interval,
        bytes: *buffer_size_bytes,
    }
}

/// Where the entries of a log go.
struct Destination {
    service: RemoteService,
    /// Of its stats.
    prefix: String,
    messages: Messages,
    interval: Option<Duration>,
    bytes: Option<u32>,
}

impl Destination {
    /// The queue for it. As in Envoy, logs with the same configuration share one: `key` stands for it.
    fn queue(self, key: &str, context: Context<'_>) -> Arc<Queue> {
        context.files.queue(key, || {
            let Self { service, prefix, messages, interval, bytes } = self;
            let waiting = Waiting::new(context.registry.scope(&prefix));
            let (sender, batches) = unbounded_channel();
            // A batch must fit into the queue.
            let bytes = (bytes.unwrap_or(FLUSH_BYTES) as usize).min(FLUSH_BYTES_MAX);
            let queue = Queue::new(sender, Arc::clone(&waiting), bytes);
            let grpc_stats =
                matches!(service, RemoteService::Grpc(_)).then(|| context.registry.scope(&prefix));
            let work = Work {
                batches,
                queue: Arc::downgrade(&queue),
                waiting,
                interval: interval.unwrap_or(FLUSH_INTERVAL).max(FLUSH_INTERVAL_MIN),
                service,
                messages,
                grpc_stats,
            };
            (queue, work)
        })
    }
}

/// The objects of the filter state that are logged, each with a format that shows it.
fn filter_state(keys: &[String], at: &Path, problems: &mut Problems) -> Vec<(String, Formatter)> {
    let keys = keys.iter().enumerate();
    let shown = keys.filter_map(|(i, key)| {
        let format = Formatter::new(&format!("%FILTER_STATE({key})%"));
        let format = format.map_err(|error| problems.error(&at.index(i), error)).ok()?;
        Some((key.clone(), format))
    });
    shown.collect()
}

fn custom_tags(
    schemas: &[config::CustomTag],
    at: &Path,
    problems: &mut Problems,
) -> Vec<CustomTag> {
    let schemas = schemas.iter().enumerate();
    schemas.filter_map(|(i, schema)| custom_tag(schema, &at.index(i), problems)).collect()
}

fn custom_tag(schema: &config::CustomTag, at: &Path, problems: &mut Problems) -> Option<CustomTag> {
    let config::CustomTag { tag, literal, environment, request_header, metadata, value } = schema;
    let source = if let Some(config::LiteralTag { value }) = literal {
        Source::Fixed(value.clone())
    } else if let Some(config::EnvironmentTag { name, default_value }) = environment {
        Source::Fixed(std::env::var(name).unwrap_or_else(|_| default_value.clone()))
    } else if let Some(config::HeaderTag { name, default_value }) = request_header {
        Source::Header { name: name.to_ascii_lowercase(), default: default_value.clone() }
    } else if let Some(schema) = metadata {
        metadata_tag(schema)
    } else {
        let format = Formatter::new(value.as_deref()?);
        Source::Format(format.map_err(|error| problems.error(&at.field("value"), error)).ok()?)
    };
    Some(CustomTag { name: tag.clone(), source })
}

fn metadata_tag(schema: &config::MetadataTag) -> Source {
    let config::MetadataTag { kind, metadata_key, default_value } = schema;
    let config::MetadataKind { request: _, route, cluster, host } =
        kind.clone().unwrap_or_default();
    let of = if let Some(config::MetadataOfRoute {}) = route {
        Whose::Static(MetadataOf::Route)
    } else if let Some(config::MetadataOfCluster {}) = cluster {
        Whose::Static(MetadataOf::Cluster)
    } else if let Some(config::MetadataOfHost {}) = host {
        Whose::Static(MetadataOf::UpstreamHost)
    } else {
        Whose::Request
    };
    let config::MetadataKey { key, path } = metadata_key.clone().unwrap_or_default();
    let path = path.into_iter().filter_map(|config::MetadataKeySegment { key }| key);
    let path = path.map(Into::into).collect();
    Source::Metadata { of, namespace: key, path, default: default_value.clone() }
}

/// Compiles a value whose texts have commands. As in Envoy it consists of texts, lists and maps.
fn template(
    schema: &config::AnyValue,
    extensions: Extensions,
    at: &Path,
    problems: &mut Problems,
) -> Option<Template> {
    let config::AnyValue {
        string_value,
        bool_value: _,
        int_value: _,
        double_value: _,
        array_value,
        kvlist_value,
        bytes_value: _,
    } = schema;
    if let Some(text) = string_value {
        let at = at.field("string_value");
        let format = Formatter::with(text, extensions);
        return format.map_err(|error| problems.error(&at, error)).ok().map(Template::Text);
    }
    if let Some(config::ArrayValue { values }) = array_value {
        let at = at.field("array_value").field("values");
        let values = values.iter().enumerate();
        let items =
            values.filter_map(|(i, item)| template(item, extensions, &at.index(i), problems));
        return Some(Template::List(items.collect()));
    }
    if let Some(list) = kvlist_value {
        return Some(Template::Map(members(list, extensions, &at.field("kvlist_value"), problems)));
    }
    let why = "as in Envoy, only texts, lists and maps are supported";
    problems.error(at, why);
    None
}

fn members(
    schema: &config::KeyValueList,
    extensions: Extensions,
    at: &Path,
    problems: &mut Problems,
) -> Vec<(String, Template)> {
    let config::KeyValueList { values } = schema;
    let at = at.field("values");
    let mut members = Vec::with_capacity(values.len());
    for (i, config::KeyValue { key, value }) in values.iter().enumerate() {
        let at = at.index(i).field("value");
        let template = value.as_ref().and_then(|it| template(it, extensions, &at, problems));
        members.extend(template.map(|template| (key.clone(), template)));
    }
    members
}

/// Values without commands.
pub(crate) fn key_values(schema: &config::KeyValueList) -> Vec<KeyValue> {
    let config::KeyValueList { values } = schema;
    let pair = |schema: &config::KeyValue| {
        let config::KeyValue { key, value } = schema;
        KeyValue { key: key.clone(), value: value.as_ref().map(any_value) }
    };
    values.iter().map(pair).collect()
}

fn any_value(schema: &config::AnyValue) -> AnyValue {
    let config::AnyValue {
        string_value,
        bool_value,
        int_value,
        double_value,
        array_value,
        kvlist_value,
        bytes_value,
    } = schema;
    let list = |config::ArrayValue { values }: &config::ArrayValue| {
        Kind::List(ArrayValue { values: values.iter().map(any_value).collect() })
    };
    let map = |list: &config::KeyValueList| Kind::Map(KeyValueList { values: key_values(list) });
    let kind = string_value
        .clone()
        .map(Kind::Text)
        .or_else(|| bool_value.map(Kind::Bool))
        .or_else(|| int_value.map(Kind::Int))
        .or_else(|| double_value.map(Kind::Double))
        .or_else(|| array_value.as_ref().map(list))
        .or_else(|| kvlist_value.as_ref().map(map))
        .or_else(|| bytes_value.clone().map(Kind::Bytes));
    AnyValue { kind }
}
