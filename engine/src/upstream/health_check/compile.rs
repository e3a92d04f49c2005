//! Compiles `health_checks` of a cluster, and `health_check_config` of an endpoint.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use config::{Path, Problems};
use corvoy_config as config;

use super::{
    AddedHeader, Codec, EndpointCheck, EventLog, GrpcProbe, HealthCheck, HttpProbe, Intervals,
    Probe, TcpProbe,
};
use crate::common_compile::check_word;
use crate::http::Method;
use crate::stats::{HealthCheckStats, Scope};
use crate::text_matcher;

/// The health check of the cluster whose list is at `at`; none: it has none.
pub(in crate::upstream) fn health_check(
    schemas: &[config::HealthCheck],
    at: &Path,
    stats: impl FnOnce() -> Arc<Scope<HealthCheckStats>>,
    problems: &mut Problems,
) -> Option<Arc<HealthCheck>> {
    let [schema] = schemas else {
        if schemas.len() > 1 {
            problems.error(at, "a cluster can have one health check only, as in Envoy");
        }
        return None;
    };
    compile(schema, &at.index(0), stats, problems).map(Arc::new)
}

fn compile(
    schema: &config::HealthCheck,
    at: &Path,
    stats: impl FnOnce() -> Arc<Scope<HealthCheckStats>>,
    problems: &mut Problems,
) -> Option<HealthCheck> {
    let config::HealthCheck {
        timeout,
        interval,
        initial_jitter,
        interval_jitter,
        interval_jitter_percent,
        unhealthy_threshold,
        healthy_threshold,
        alt_port,
        reuse_connection,
        http_health_check,
        tcp_health_check,
        grpc_health_check,
        no_traffic_interval,
        no_traffic_healthy_interval,
        unhealthy_interval,
        unhealthy_edge_interval,
        healthy_edge_interval,
        event_log_path,
        event_logger,
        always_log_health_check_failures,
        always_log_health_check_success,
        tls_options,
        // `transport_sockets` has read it.
        transport_socket_match_criteria: _,
    } = schema;
    let healthy = (*interval)?;
    let unhealthy = unhealthy_interval.unwrap_or(healthy);
    let no_traffic = no_traffic_interval.unwrap_or(Duration::from_secs(60));
    let intervals = Intervals {
        healthy,
        healthy_edge: healthy_edge_interval.unwrap_or(healthy),
        unhealthy,
        unhealthy_edge: unhealthy_edge_interval.unwrap_or(unhealthy),
        no_traffic,
        no_traffic_healthy: no_traffic_healthy_interval.unwrap_or(no_traffic),
        initial_jitter: initial_jitter.unwrap_or_default(),
        jitter: interval_jitter.unwrap_or_default(),
        jitter_percent: *interval_jitter_percent,
    };
    let probe = if let Some(schema) = http_health_check {
        Probe::Http(http(schema, &at.field("http_health_check"), problems))
    } else if let Some(schema) = tcp_health_check {
        Probe::Tcp(tcp(schema, &at.field("tcp_health_check"), problems))
    } else {
        let schema = grpc_health_check.as_ref()?;
        Probe::Grpc(grpc(schema, &at.field("grpc_health_check"), problems))
    };
    let log = EventLog {
        path: event_log(event_log_path, event_logger, at, problems).map(Into::into),
        every_failure: *always_log_health_check_failures,
        every_success: *always_log_health_check_success,
    };
    let alpn = tls_options.as_ref().map(|options| {
        let config::HealthCheckTlsOptions { alpn_protocols } = options;
        alpn_protocols.iter().map(|name| name.clone().into_bytes()).collect()
    });
    Some(HealthCheck {
        probe,
        timeout: (*timeout)?,
        intervals,
        unhealthy_threshold: unhealthy_threshold.unwrap_or(1).max(1),
        healthy_threshold: healthy_threshold.unwrap_or(1).max(1),
        reuse_connection: reuse_connection.unwrap_or(true),
        alt_port: alt_port.and_then(|port| self::port(port, &at.field("alt_port"), problems)),
        alpn: alpn.unwrap_or_default(),
        log,
        stats: stats(),
    })
}

/// The file that events are logged to.
fn event_log(
    path: &str,
    loggers: &[config::TypedExtensionConfig],
    at: &Path,
    problems: &mut Problems,
) -> Option<String> {
    let mut paths: Vec<String> = Vec::from_iter((!path.is_empty()).then(|| path.to_owned()));
    for (i, config::TypedExtensionConfig { name: _, typed_config }) in loggers.iter().enumerate() {
        let at = at.field("event_logger").index(i).field("typed_config");
        match typed_config {
            Some(config::Any::HealthCheckEventFileSink(sink)) => {
                let config::HealthCheckEventFileSink { event_log_path } = &**sink;
                paths.push(event_log_path.clone());
            }
            _ => problems
                .missing(&at, "the only logger for health checks is HealthCheckEventFileSink"),
        }
    }
    if paths.len() > 1 {
        problems.not_implemented(&at.field("event_logger"), "more than one log of health checks");
    }
    paths.pop()
}

/// The status of a success, if nothing else is configured.
const OK: Range<u16> = 200..201;

fn http(schema: &config::HttpHealthCheck, at: &Path, problems: &mut Problems) -> HttpProbe {
    let config::HttpHealthCheck {
        host,
        path,
        send,
        receive,
        response_buffer_size,
        request_headers_to_add,
        request_headers_to_remove,
        expected_statuses,
        retriable_statuses,
        codec_client_type,
        service_name_matcher,
        method,
    } = schema;
    check_word(host, &at.field("host"), problems);
    check_word(path, &at.field("path"), problems);
    let codec = match codec_client_type {
        config::CodecClientType::Http1 => Codec::Http1,
        config::CodecClientType::Http2 => Codec::Http2,
        config::CodecClientType::Http3 => {
            problems.not_implemented(&at.field("codec_client_type"), "HTTP/3");
            Codec::Http2
        }
    };
    let method = self::method(*method);
    let send = send.as_ref().map(|it| payload(it, &at.field("send"), problems)).unwrap_or_default();
    let takes_body = [Method::Post, Method::Put, Method::Patch, Method::Options].contains(&method);
    if !send.is_empty() && !takes_body {
        let message = format!("a {} request of a health check cannot have a body", method.as_str());
        problems.error(&at.field("send"), message);
    }
    // As in Envoy, fields are removed before others are added: only one of its own can be.
    let mut removed = request_headers_to_remove.iter();
    let sends_user_agent = !removed.any(|name| name.eq_ignore_ascii_case("user-agent"));
    let at_add = at.field("request_headers_to_add");
    let added = request_headers_to_add.iter().enumerate();
    let added = added.filter_map(|(i, it)| header(it, &at_add.index(i), problems));
    let headers = added.collect();
    let expected = statuses(expected_statuses, &at.field("expected_statuses"), problems);
    let matcher_at = at.field("service_name_matcher");
    let receive = payloads(receive, &at.field("receive"), problems);
    let response_buffer_bytes = response_buffer_size.unwrap_or(1024);
    let expected_bytes: usize = receive.iter().map(Vec::len).sum();
    if response_buffer_bytes > 0 && expected_bytes as u64 > response_buffer_bytes {
        let message = format!(
            "{expected_bytes} bytes are expected, and of a response only {response_buffer_bytes} are \
             looked at (response_buffer_size)"
        );
        problems.error(&at.field("receive"), message);
    }
    HttpProbe {
        codec,
        host: host.clone(),
        path: path.clone(),
        method,
        sends_user_agent,
        headers,
        send,
        receive,
        response_buffer_bytes,
        expected: if expected.is_empty() { Vec::from([OK]) } else { expected },
        retriable: statuses(retriable_statuses, &at.field("retriable_statuses"), problems),
        service_name: service_name_matcher
            .as_ref()
            .and_then(|schema| text_matcher::compile::text(schema, &matcher_at, problems)),
    }
}

fn grpc(schema: &config::GrpcHealthCheck, at: &Path, problems: &mut Problems) -> GrpcProbe {
    let config::GrpcHealthCheck { service_name, authority, initial_metadata } = schema;
    check_word(authority, &at.field("authority"), problems);
    let at = at.field("initial_metadata");
    let headers = initial_metadata.iter().enumerate();
    GrpcProbe {
        service_name: service_name.clone(),
        authority: authority.clone(),
        headers: headers.filter_map(|(i, it)| header(it, &at.index(i), problems)).collect(),
    }
}

fn tcp(schema: &config::TcpHealthCheck, at: &Path, problems: &mut Problems) -> TcpProbe {
    let config::TcpHealthCheck { send, receive } = schema;
    TcpProbe {
        send: send.as_ref().map(|it| payload(it, &at.field("send"), problems)).unwrap_or_default(),
        receive: payloads(receive, &at.field("receive"), problems),
    }
}

const fn method(schema: config::RequestMethod) -> Method {
    match schema {
        config::RequestMethod::MethodUnspecified | config::RequestMethod::Get => Method::Get,
        config::RequestMethod::Head => Method::Head,
        config::RequestMethod::Post => Method::Post,
        config::RequestMethod::Put => Method::Put,
        config::RequestMethod::Delete => Method::Delete,
        // The rules of the configuration refuse it.
        config::RequestMethod::Connect => Method::Connect,
        config::RequestMethod::Options => Method::Options,
        config::RequestMethod::Trace => Method::Trace,
        config::RequestMethod::Patch => Method::Patch,
    }
}

fn payloads(
    schemas: &[config::HealthCheckPayload],
    at: &Path,
    problems: &mut Problems,
) -> Vec<Vec<u8>> {
    let each = schemas.iter().enumerate();
    each.map(|(i, schema)| payload(schema, &at.index(i), problems)).collect()
}

/// The bytes of a payload: `text` is in hexadecimal digits.
fn payload(schema: &config::HealthCheckPayload, at: &Path, problems: &mut Problems) -> Vec<u8> {
    let config::HealthCheckPayload { text, binary } = schema;
    if let Some(binary) = binary {
        return binary.clone();
    }
    let text = text.as_deref().unwrap_or_default();
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let byte = |[high, low]: &[u8; 2]| u8::try_from(digit(*high)? * 16 + digit(*low)?).ok();
    let bytes: Option<Vec<u8>> = pairs.iter().map(byte).collect();
    bytes.filter(|_| rest.is_empty()).unwrap_or_else(|| {
        problems.error(&at.field("text"), "text must be pairs of hexadecimal digits");
        Vec::new()
    })
}

fn statuses(schemas: &[config::Int64Range], at: &Path, problems: &mut Problems) -> Vec<Range<u16>> {
    let mut ranges = Vec::with_capacity(schemas.len());
    for (i, config::Int64Range { start, end }) in schemas.iter().enumerate() {
        let status = |number: i64| u16::try_from(number).ok().filter(|it| (100..=600).contains(it));
        match (status(*start), status(*end)) {
            (Some(start), Some(end)) if start < end && start < 600 => ranges.push(start..end),
            _ => {
                let message = "a range of statuses must begin at 100 or above, end at 600 or below, \
                               and not be empty";
                problems.error(&at.index(i), message);
            }
        }
    }
    ranges
}

fn header(
    schema: &config::HeaderValueOption,
    at: &Path,
    problems: &mut Problems,
) -> Option<AddedHeader> {
    let config::HeaderValueOption { header, append, append_action, keep_empty_value } = schema;
    let config::HeaderValue { key, value, raw_value } = header.as_ref()?;
    if !raw_value.is_empty() {
        let at = at.field("header").field("raw_value");
        problems.warn(&at, "raw_value is ignored, as in Envoy: value is used");
    }
    let at_value = at.field("header").field("value");
    if value.contains('%') {
        problems.not_implemented(&at_value, "a command in a field of a health check");
    }
    if value.bytes().any(|byte| matches!(byte, b'\r' | b'\n' | 0)) {
        problems.error(&at_value, "a value must be on one line");
    }
    if key.starts_with(':') || key.eq_ignore_ascii_case("host") {
        problems.error(&at.field("header").field("key"), "the host is set by `host`");
    }
    let replaces = match (append, append_action) {
        (Some(append), _) => !append,
        (None, config::HeaderAppendAction::AppendIfExistsOrAdd) => false,
        (None, config::HeaderAppendAction::OverwriteIfExistsOrAdd) => true,
        (None, _) => {
            problems.not_implemented(&at.field("append_action"), "this append_action");
            false
        }
    };
    let is_sent = !value.is_empty() || *keep_empty_value;
    is_sent.then(|| AddedHeader { name: key.to_ascii_lowercase(), value: value.clone(), replaces })
}

fn port(port: u32, at: &Path, problems: &mut Problems) -> Option<u16> {
    let valid = u16::try_from(port).ok().filter(|port| *port > 0);
    if valid.is_none() {
        problems.error(at, "a port must be 1 to 65535");
    }
    valid
}

/// `health_check_config` of an endpoint.
pub(in crate::upstream) fn of_endpoint(
    schema: Option<&config::EndpointHealthCheckConfig>,
    at: &Path,
    problems: &mut Problems,
) -> EndpointCheck {
    let Some(schema) = schema else { return EndpointCheck::default() };
    let config::EndpointHealthCheckConfig { port_value, hostname, disable_active_health_check } =
        schema;
    check_word(hostname, &at.field("hostname"), problems);
    EndpointCheck {
        port: u16::try_from(*port_value).ok().filter(|port| *port > 0),
        hostname: hostname.clone(),
        disabled: *disable_active_health_check,
        transport_socket: None,
    }
}

/// The metadata that selects the transport socket of checks; none: that of traffic is used.
pub(in crate::upstream) const fn match_criteria(
    schema: &config::HealthCheck,
) -> Option<&serde_json::Value> {
    schema.transport_socket_match_criteria.as_ref()
}
