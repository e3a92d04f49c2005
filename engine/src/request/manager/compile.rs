//! Schema → the options of a connection manager.

use std::sync::Arc;
use std::time::Duration;

use corvoy_config::{self as config, Path, Problems};

use super::client_cert::{CertDetails, Form, ForwardClientCert};
use super::log_times_compile;
use super::original_ip;
use super::router_compile::router;
use super::{
    BadRequest, CodecType, ConnectionManager, EscapedSlashes, HostRules, IdleExpiry, PathRules,
    RequestIds, StripPort, Timeouts, UserAgent,
};
use crate::access_log;
use crate::access_log::compile::access_logs;
use crate::address::{self, Cidr};
use crate::common_compile::{check_word, key_format};
use crate::http::{FieldName, HeadLimits, Line, Scheme, Underscores};
use crate::http2::compile::http2;
use crate::http2::{self, StreamErrors};
use crate::node::Node;
use crate::request::filters::header_mutation::compile::early;
use crate::request::headers::{ResponseRules, ServerHeader};
use crate::request::reply_rewrite::compile::reply_rewrite;
use crate::request::route::Upgrades;

/// Compiles the options of a connection manager; the listener compiles its routes and stats. `node`
/// is the identity of the proxy. Errors are added to `problems`.
#[expect(clippy::too_many_lines, reason = "one or two lines per field of the schema")]
pub fn compile(
    manager: &config::HttpConnectionManager,
    node: &Node,
    logs: access_log::compile::Context<'_>,
    at: &Path,
    problems: &mut Problems,
) -> Option<ConnectionManager> {
    let config::HttpConnectionManager {
        // `original_ip` compiles these four.
        use_remote_address: _,
        xff_num_trusted_hops: _,
        skip_xff_append: _,
        original_ip_detection_extensions: _,
        request_id_extension,
        codec_type,
        stat_prefix: _,
        route_config: _,
        rds: _,
        http_filters,
        access_log,
        access_log_flush_interval,
        flush_access_log_on_new_request,
        access_log_options,
        add_user_agent,
        common_http_protocol_options,
        http1_safe_max_connection_duration,
        http_protocol_options,
        http2_protocol_options,
        server_name,
        server_header_transformation,
        scheme_header_transformation,
        max_request_headers_kb,
        stream_idle_timeout,
        stream_flush_timeout,
        request_timeout,
        request_headers_timeout,
        drain_timeout,
        delayed_close_timeout,
        internal_address_config,
        append_x_forwarded_port,
        represent_ipv4_remote_address_as_ipv4_mapped_ipv6,
        via,
        generate_request_id,
        preserve_external_request_id,
        always_set_request_id_in_response,
        forward_client_cert_details,
        set_current_client_cert_details,
        proxy_100_continue,
        upgrade_configs,
        normalize_path,
        merge_slashes,
        path_with_escaped_slashes_action,
        local_reply_config,
        strip_matching_host_port,
        strip_any_host_port,
        strip_trailing_host_dot,
        stream_error_on_invalid_http_message,
        early_header_mutation_extensions,
    } = manager;
    if *represent_ipv4_remote_address_as_ipv4_mapped_ipv6 {
        let field = "represent_ipv4_remote_address_as_ipv4_mapped_ipv6";
        problems.not_implemented(&at.field(field), field);
    }

    let router = router(http_filters, logs, &at.field("http_filters"), problems);
    let mut compiled = ConnectionManager {
        access_logs: access_logs(access_log, &at.field("access_log"), logs, problems),
        log_times: log_times_compile::log_times(
            *access_log_flush_interval,
            *flush_access_log_on_new_request,
            access_log_options.as_ref(),
            at,
            problems,
        ),
        upstream_logs: router.upstream_logs,
        codec_type: self::codec_type(*codec_type, at, problems),
        suppress_envoy_headers: router.suppress_envoy_headers,
        strict_check_headers: router.strict_check_headers,
        respect_expected_rq_timeout: router.respect_expected_rq_timeout,
        bad_request: bad_request(*stream_error_on_invalid_http_message),
        client: original_ip::compile::client(manager, at, problems),
        internal_addresses: internal_addresses(internal_address_config.as_ref(), at, problems),
        internal_unix_sockets: internal_address_config.as_ref().is_some_and(|it| it.unix_sockets),
        append_x_forwarded_port: *append_x_forwarded_port,
        scheme: scheme(scheme_header_transformation.as_ref(), at, problems),
        via: via.clone().into_bytes(),
        user_agent: (*add_user_agent == Some(true)).then(|| UserAgent {
            service_cluster: node.cluster.clone().into_bytes(),
            service_node: node.id.clone().into_bytes(),
        }),
        request_id: RequestIds {
            generate: generate_request_id.unwrap_or(true),
            preserve_external: *preserve_external_request_id,
            pack_trace_reason: packs_trace_reason(request_id_extension.as_ref(), at, problems),
        },
        path: PathRules {
            normalize: normalize_path.unwrap_or(false),
            merge_slashes: *merge_slashes,
            escaped_slashes: escaped_slashes(*path_with_escaped_slashes_action),
        },
        host: HostRules {
            strip_port: strip_port(*strip_matching_host_port, *strip_any_host_port, at, problems),
            strip_trailing_dot: *strip_trailing_host_dot,
        },
        forward_client_cert: forward_client_cert(
            *forward_client_cert_details,
            set_current_client_cert_details.as_ref(),
        ),
        upgrades: upgrades(upgrade_configs, logs, &at.field("upgrade_configs"), problems),
        proxy_100_continue: *proxy_100_continue,
        response: ResponseRules {
            server: server(*server_header_transformation),
            server_name: Line::new(
                FieldName::Server,
                if server_name.is_empty() { "envoy" } else { server_name }.as_bytes(),
            ),
            via: via.clone().into_bytes(),
            always_set_request_id: *always_set_request_id_in_response,
            adds_date: true,
        },
        reply_rewrite: local_reply_config.as_ref().map_or_else(Default::default, |schema| {
            reply_rewrite(schema, &at.field("local_reply_config"), logs.runtime, problems)
        }),
        timeouts: timeouts(
            *stream_idle_timeout,
            *stream_flush_timeout,
            *request_timeout,
            *request_headers_timeout,
            *delayed_close_timeout,
            *drain_timeout,
        ),
        ..ConnectionManager::default()
    };
    if !early_header_mutation_extensions.is_empty() {
        let at = at.field("early_header_mutation_extensions");
        let early = early(early_header_mutation_extensions, &at, problems);
        compiled.early_mutations = Some(Arc::new(early));
    }
    if *http1_safe_max_connection_duration {
        compiled.timeouts.idle_expiry = IdleExpiry::AfterNextResponse;
    }
    if let Some(kilobytes) = max_request_headers_kb {
        compiled.limits.bytes_max = *kilobytes as usize * 1024;
    }
    if let Some(options) = common_http_protocol_options {
        common(options, &mut compiled, &at.field("common_http_protocol_options"), problems);
    }
    if let Some(options) = http_protocol_options {
        http1(options, &mut compiled, &at.field("http_protocol_options"), problems);
    }
    if let Some(options) = http2_protocol_options {
        let at = at.field("http2_protocol_options");
        compiled.http2 = http2(options, *stream_error_on_invalid_http_message, &at, problems);
        check_keepalive(&compiled.http2, &at, problems);
        if options.max_header_field_size_kb.is_some()
            && compiled.http2.max_header_field_size as usize > compiled.limits.bytes_max
        {
            let why = "max_header_field_size_kb must not exceed max_request_headers_kb";
            problems.error(&at.field("max_header_field_size_kb"), why);
        }
    } else if *stream_error_on_invalid_http_message == Some(true) {
        compiled.http2.stream_errors = StreamErrors::EndTheStream;
    }
    Some(compiled)
}

fn codec_type(schema: config::CodecType, at: &Path, problems: &mut Problems) -> CodecType {
    let at = at.field("codec_type");
    match schema {
        config::CodecType::Auto => CodecType::Auto,
        config::CodecType::Http1 => CodecType::Http1,
        config::CodecType::Http2 => CodecType::Http2,
        config::CodecType::Http3 => {
            problems.not_implemented(&at, "HTTP/3");
            CodecType::Auto
        }
    }
}

//= envoy: config.core.v3.KeepaliveSettings.connection_idle_interval concerns upstream connections only.
fn check_keepalive(options: &http2::Options, at: &Path, problems: &mut Problems) {
    if options.keepalive.is_some_and(|keepalive| keepalive.connection_idle_interval.is_some()) {
        let at = at.field("connection_keepalive").field("connection_idle_interval");
        problems.warn(&at, "no effect on a connection manager");
    }
}

fn bad_request(stream_error: Option<bool>) -> BadRequest {
    if stream_error == Some(true) { BadRequest::EndsItself } else { BadRequest::EndsConnection }
}

fn upgrades(
    configs: &[config::UpgradeConfig],
    logs: access_log::compile::Context<'_>,
    at: &Path,
    problems: &mut Problems,
) -> Upgrades {
    let mut upgrades = Upgrades::default();
    for (index, upgrade) in configs.iter().enumerate() {
        let at = at.index(index);
        let config::UpgradeConfig { upgrade_type, filters, enabled } = upgrade;
        if !filters.is_empty() {
            router(filters, logs, &at.field("filters"), problems);
        }
        upgrades.add(upgrade_type, enabled.unwrap_or(true), &at, problems);
    }
    upgrades
}

/// Whether a request id says whether its request is traced.
fn packs_trace_reason(
    schema: Option<&config::RequestIdExtension>,
    at: &Path,
    problems: &mut Problems,
) -> bool {
    let Some(config::RequestIdExtension { typed_config }) = schema else { return true };
    let Some(config::Any::UuidRequestIdConfig(schema)) = typed_config else {
        let at = at.field("request_id_extension").field("typed_config");
        problems.missing(&at, "Corvoy supports only UUIDs as request ids");
        return true;
    };
    let config::UuidRequestIdConfig { pack_trace_reason } = &**schema;
    pack_trace_reason.unwrap_or(true)
}

fn internal_addresses(
    ranges: Option<&config::InternalAddressConfig>,
    at: &Path,
    problems: &mut Problems,
) -> Vec<Cidr> {
    let Some(ranges) = ranges else { return Vec::new() };
    // `compile` takes it.
    let config::InternalAddressConfig { unix_sockets: _, cidr_ranges } = ranges;
    if cidr_ranges.is_empty() {
        return Cidr::PRIVATE.to_vec();
    }
    let at = at.field("internal_address_config").field("cidr_ranges");
    address::compile::cidrs(cidr_ranges, &at, problems)
}

/// `match_upstream` has no effect: it changes a pseudo-header, which HTTP/1 does not have.
fn scheme(
    transformation: Option<&config::SchemeHeaderTransformation>,
    at: &Path,
    problems: &mut Problems,
) -> Option<Scheme> {
    let config::SchemeHeaderTransformation { scheme_to_overwrite, match_upstream: _ } =
        transformation?;
    match scheme_to_overwrite.as_deref()? {
        "http" => Some(Scheme::Http),
        "https" => Some(Scheme::Https),
        other => {
            let at = at.field("scheme_header_transformation").field("scheme_to_overwrite");
            problems.error(&at, format!("'{other}' is neither http nor https"));
            None
        }
    }
}

fn strip_port(matching: bool, any: bool, at: &Path, problems: &mut Problems) -> StripPort {
    match (matching, any) {
        (false, false) => StripPort::Never,
        (true, false) => StripPort::Matching,
        (false, true) => StripPort::Any,
        (true, true) => {
            let message = "strip_matching_host_port and strip_any_host_port cannot be set together";
            problems.error(&at.field("strip_any_host_port"), message);
            StripPort::Any
        }
    }
}

fn escaped_slashes(action: config::PathWithEscapedSlashesAction) -> EscapedSlashes {
    use config::PathWithEscapedSlashesAction as Action;
    match action {
        Action::ImplementationSpecificDefault | Action::KeepUnchanged => {
            EscapedSlashes::KeepUnchanged
        }
        Action::RejectRequest => EscapedSlashes::Reject,
        Action::UnescapeAndRedirect => EscapedSlashes::UnescapeAndRedirect,
        Action::UnescapeAndForward => EscapedSlashes::UnescapeAndForward,
    }
}

fn forward_client_cert(
    details: config::ForwardClientCertDetails,
    current: Option<&config::SetCurrentClientCertDetails>,
) -> ForwardClientCert {
    use config::ForwardClientCertDetails as Details;
    let default = config::SetCurrentClientCertDetails::default();
    let config::SetCurrentClientCertDetails { subject, cert, chain, dns, uri, issuer, format } =
        current.unwrap_or(&default);
    let current = CertDetails {
        cert: *cert,
        chain: *chain,
        subject: subject.unwrap_or(false),
        uri: *uri,
        dns: *dns,
        issuer: *issuer,
    };
    let form = match format {
        config::ForwardClientCertFormat::Text => Form::Text,
        config::ForwardClientCertFormat::Json => Form::Json,
    };
    match details {
        Details::Sanitize => ForwardClientCert::Sanitize,
        Details::ForwardOnly => ForwardClientCert::ForwardOnly,
        // As in Envoy, what is added to the client's header is always text.
        Details::AppendForward => ForwardClientCert::AppendForward(current),
        Details::SanitizeSet => ForwardClientCert::SanitizeSet(current, form),
        Details::AlwaysForwardOnly => ForwardClientCert::AlwaysForwardOnly,
    }
}

fn server(transformation: config::ServerHeaderTransformation) -> ServerHeader {
    use config::ServerHeaderTransformation as Transformation;
    match transformation {
        Transformation::Overwrite => ServerHeader::Overwrite,
        Transformation::AppendIfAbsent => ServerHeader::AppendIfAbsent,
        Transformation::PassThrough => ServerHeader::PassThrough,
    }
}

fn timeouts(
    stream_idle: Option<Duration>,
    stream_flush: Option<Duration>,
    request: Option<Duration>,
    request_headers: Option<Duration>,
    delayed_close: Option<Duration>,
    drain: Option<Duration>,
) -> Timeouts {
    let default = Timeouts::default();
    Timeouts {
        stream_idle: timer(stream_idle, default.stream_idle),
        stream_flush,
        request: timer(request, default.request),
        request_headers: timer(request_headers, default.request_headers),
        delayed_close: timer(delayed_close, default.delayed_close),
        drain: drain.unwrap_or(default.drain),
        ..default
    }
}

/// A timer of 0 s never fires.
fn timer(set: Option<Duration>, default: Option<Duration>) -> Option<Duration> {
    match set {
        None => default,
        Some(Duration::ZERO) => None,
        some => some,
    }
}

fn common(
    options: &config::HttpProtocolOptions,
    compiled: &mut ConnectionManager,
    at: &Path,
    problems: &mut Problems,
) {
    let config::HttpProtocolOptions {
        idle_timeout,
        max_connection_duration,
        max_headers_count,
        max_response_headers_kb,
        max_stream_duration,
        headers_with_underscores_action,
        max_requests_per_connection,
    } = options;
    let timeouts = &mut compiled.timeouts;
    timeouts.idle = timer(*idle_timeout, timeouts.idle);
    timeouts.max_connection_duration = timer(*max_connection_duration, None);
    timeouts.max_stream_duration = timer(*max_stream_duration, None);
    if let Some(most) = max_headers_count {
        compiled.limits.fields_max = *most as usize;
    }
    if max_response_headers_kb.is_some() {
        let message = "cannot be set on http_connection_manager";
        problems.error(&at.field("max_response_headers_kb"), message);
    }
    use config::HeadersWithUnderscoresAction as Action;
    compiled.underscores = match headers_with_underscores_action {
        Action::Allow => Underscores::Allow,
        Action::RejectRequest => Underscores::Reject,
        Action::DropHeader => Underscores::Drop,
    };
    compiled.max_requests_per_connection = max_requests_per_connection.filter(|&most| most > 0);
}

fn http1(
    options: &config::Http1ProtocolOptions,
    compiled: &mut ConnectionManager,
    at: &Path,
    problems: &mut Problems,
) {
    let config::Http1ProtocolOptions {
        allow_absolute_url,
        accept_http_10,
        default_host_for_http_10,
        header_key_format,
        enable_trailers,
        allow_chunked_length,
        override_stream_error_on_invalid_http_message,
        // Envoy uses it only for upstream requests.
        send_fully_qualified_url: _,
        allow_custom_methods,
    } = options;
    // The more specific option takes precedence.
    if override_stream_error_on_invalid_http_message.is_some() {
        compiled.bad_request = bad_request(*override_stream_error_on_invalid_http_message);
    }
    if let Some(format) = header_key_format {
        compiled.header_key_format = key_format(format, &at.field("header_key_format"), problems);
    }
    if *allow_chunked_length {
        let message = "Corvoy never accepts Content-Length together with Transfer-Encoding";
        problems.error(&at.field("allow_chunked_length"), message);
    }
    compiled.limits = HeadLimits {
        accept_http_10: *accept_http_10,
        allow_custom_methods: *allow_custom_methods,
        allow_absolute_url: allow_absolute_url.unwrap_or(true),
        ..compiled.limits
    };
    compiled.enable_trailers = *enable_trailers;
    check_word(default_host_for_http_10, &at.field("default_host_for_http_10"), problems);
    compiled.default_host_for_http_10 = default_host_for_http_10.clone().into_bytes();
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access_log::files::Files;
    use crate::runtime::{Reader, Runtime};
    use crate::stats::Registry;

    #[test]
    fn an_empty_manager_has_envoys_defaults() {
        let (manager, errors) = compiled(|_| {});
        assert_eq!(errors, Vec::<String>::new());
        assert_eq!((manager.limits.bytes_max, manager.limits.fields_max), (60 * 1024, 100));
        assert_eq!(manager.timeouts.stream_idle, Some(Duration::from_secs(300)));
        assert_eq!(manager.response.server_name.value(), b"envoy");
        assert!(manager.request_id.generate && !manager.client.use_remote_address);
    }

    #[test]
    fn options_that_are_set_are_compiled() {
        let (manager, errors) = compiled(|manager| {
            manager.use_remote_address = Some(true);
            manager.stream_idle_timeout = Some(Duration::ZERO);
            manager.max_request_headers_kb = Some(96);
            manager.strip_any_host_port = true;
            manager.common_http_protocol_options = Some(config::HttpProtocolOptions {
                max_headers_count: Some(7),
                max_requests_per_connection: Some(0),
                ..Default::default()
            });
            manager.http_protocol_options =
                Some(config::Http1ProtocolOptions { accept_http_10: true, ..Default::default() });
        });
        assert_eq!(errors, Vec::<String>::new());
        assert!(manager.client.use_remote_address && manager.limits.accept_http_10);
        assert_eq!((manager.limits.bytes_max, manager.limits.fields_max), (96 * 1024, 7));
        assert_eq!(
            (manager.timeouts.stream_idle, manager.max_requests_per_connection),
            (None, None)
        );
        assert_eq!(manager.host.strip_port, StripPort::Any);
    }

    #[test]
    fn unsupported_options_are_rejected_by_name() {
        let (_, errors) = compiled(|manager| {
            manager.codec_type = config::CodecType::Http3;
            manager.http_protocol_options = Some(config::Http1ProtocolOptions {
                allow_chunked_length: true,
                ..Default::default()
            });
        });
        let paths: Vec<&str> = errors.iter().map(String::as_str).collect();
        assert_eq!(paths, ["codec_type", "http_protocol_options.allow_chunked_length",]);
    }

    fn compiled(
        change: impl FnOnce(&mut config::HttpConnectionManager),
    ) -> (ConnectionManager, Vec<String>) {
        let mut manager = config::HttpConnectionManager {
            http_filters: vec![config::HttpFilter::default()],
            ..Default::default()
        };
        change(&mut manager);
        let mut problems = Problems::default();
        let (files, registry) = (Files::default(), Registry::new(1));
        let values = Runtime::default();
        let runtime = &Reader::new(&values);
        let logs = access_log::compile::Context {
            files: &files,
            registry: &registry,
            runtime,
            cluster: &|_| None,
        };
        let compiled = compile(&manager, &Node::default(), logs, &Path::root(), &mut problems)
            .expect("something");
        (compiled, problems.errors().map(|problem| problem.path.to_string()).collect())
    }
}
