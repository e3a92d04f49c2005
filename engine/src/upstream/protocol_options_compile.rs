//! Schema → the HTTP options of a cluster: its own fields (deprecated), or `HttpProtocolOptions` among
//! its `typed_extension_protocol_options`, which replaces them all.

use std::collections::BTreeMap;

use corvoy_config::{self as config, Path, Problems};

use super::auto_sni::AutoSni;
use super::cluster::{HttpProtocolOptions, Protocols};
use super::transport_socket::TransportSockets;
use crate::common_compile::key_format;
use crate::http2::compile::http2;

/// The fields of a cluster that concern HTTP.
#[derive(Debug)]
pub(super) struct Http<'a> {
    pub(super) max_requests_per_connection: Option<u32>,
    pub(super) common: Option<&'a config::HttpProtocolOptions>,
    pub(super) http1: Option<&'a config::Http1ProtocolOptions>,
    pub(super) http2: Option<&'a config::Http2ProtocolOptions>,
    pub(super) protocol_selection: config::ClusterProtocolSelection,
    pub(super) upstream: Option<&'a config::UpstreamHttpProtocolOptions>,
    pub(super) typed: &'a BTreeMap<String, config::Any>,
    /// What carries the connections of the cluster.
    pub(super) sockets: &'a TransportSockets,
}

/// The options of one of the two places.
struct Chosen<'a> {
    protocols: Protocols,
    common: Option<&'a config::HttpProtocolOptions>,
    upstream: Option<&'a config::UpstreamHttpProtocolOptions>,
    http1: Option<&'a config::Http1ProtocolOptions>,
    http2: Option<&'a config::Http2ProtocolOptions>,
    /// The message that has `common` and `upstream`.
    at: Path,
    /// The message that has `http1` and `http2`.
    versions_at: Path,
}

impl Http<'_> {
    pub(super) fn compile(
        &self,
        at: &Path,
        problems: &mut Problems,
    ) -> (HttpProtocolOptions, Option<AutoSni>) {
        let mut chosen = self.older(at, problems);
        for (key, any) in self.typed {
            let typed_at = at.field("typed_extension_protocol_options").key(key);
            if let (HTTP_PROTOCOL_OPTIONS, config::Any::UpstreamsHttpProtocolOptions(options)) =
                (key.as_str(), any)
            {
                self.warn_of_older(at, problems);
                chosen = newer(options, typed_at);
            } else {
                problems.error(
                    &typed_at,
                    format!(
                        "Didn't find a registered network or http filter or protocol options \
                         implementation for name: '{key}'"
                    ),
                );
            }
        }
        let mut options =
            HttpProtocolOptions { protocols: chosen.protocols, ..HttpProtocolOptions::default() };
        self.check_protocols(&chosen, problems);
        if let Some(schema) = chosen.common {
            common_options(&mut options, schema);
        }
        if let Some(schema) = chosen.http1 {
            let at = chosen.versions_at.field("http_protocol_options");
            http1_options(&mut options, schema, &at, problems);
        }
        if let Some(schema) = chosen.http2 {
            let at = chosen.versions_at.field("http2_protocol_options");
            options.http2 = http2(schema, None, &at, problems);
        }
        if let Some(max) = self.max_requests_per_connection {
            if chosen.common.is_some_and(|common| common.max_requests_per_connection.is_some()) {
                problems.error(
                    &at.field("max_requests_per_connection"),
                    "Only one of max_requests_per_connection from Cluster or HttpProtocolOptions \
                     can be specified",
                );
            }
            options.max_requests_per_connection = Some(max).filter(|&max| max > 0);
        }
        let upstream_at = chosen.at.field("upstream_http_protocol_options");
        let auto = chosen.upstream.and_then(|schema| auto_sni(schema, &upstream_at, problems));
        (options, auto)
    }

    /// The cluster's own fields.
    fn older(&self, at: &Path, problems: &mut Problems) -> Chosen<'_> {
        use config::ClusterProtocolSelection as Selection;
        let protocols = match (self.protocol_selection, self.http2) {
            (Selection::UseDownstreamProtocol, _) => Protocols::Downstream,
            (Selection::UseConfiguredProtocol, Some(_)) => Protocols::Http2,
            (Selection::UseConfiguredProtocol, None) => Protocols::Http1,
        };
        if protocols == Protocols::Http2 && self.http1.is_some() {
            let why = "http_protocol_options and http2_protocol_options can be set together only \
                       if protocol_selection is USE_DOWNSTREAM_PROTOCOL";
            problems.error(&at.field("http2_protocol_options"), why);
        }
        Chosen {
            protocols,
            common: self.common,
            upstream: self.upstream,
            http1: self.http1,
            http2: self.http2,
            at: at.clone(),
            versions_at: at.clone(),
        }
    }

    fn warn_of_older(&self, at: &Path, problems: &mut Problems) {
        let is_selected = self.protocol_selection != config::ClusterProtocolSelection::default();
        for (name, is_set) in [
            ("common_http_protocol_options", self.common.is_some()),
            ("http_protocol_options", self.http1.is_some()),
            ("http2_protocol_options", self.http2.is_some()),
            ("protocol_selection", is_selected),
            ("upstream_http_protocol_options", self.upstream.is_some()),
        ] {
            if is_set {
                let why = "has no effect: HttpProtocolOptions overrides it";
                problems.warn(&at.field(name), format!("{name} {why}"));
            }
        }
    }

    fn check_protocols(&self, chosen: &Chosen<'_>, problems: &mut Problems) {
        if chosen.protocols == Protocols::Auto {
            let TransportSockets { matches, default } = self.sockets;
            let mut all = matches.iter().map(|(_, socket)| socket).chain([default]);
            if all.any(|socket| socket.tls.is_none()) {
                let why = "auto_config needs TLS, where the protocol is negotiated: a transport \
                           socket of the cluster has none";
                problems.missing(&chosen.versions_at, why);
            }
        }
    }
}

/// `HttpProtocolOptions` at `at`.
fn newer(schema: &config::UpstreamsHttpProtocolOptions, at: Path) -> Chosen<'_> {
    let config::UpstreamsHttpProtocolOptions {
        common_http_protocol_options,
        upstream_http_protocol_options,
        explicit_http_config,
        use_downstream_protocol_config,
        auto_config,
        // Whoever forwards requests takes these.
        request_mirror_policies: _,
        http_filters: _,
    } = schema;
    let (protocols, http1, http2, versions) =
        match (explicit_http_config, use_downstream_protocol_config, auto_config) {
            (_, Some(downstream), _) => {
                let config::UseDownstreamHttpConfig {
                    http_protocol_options: http1,
                    http2_protocol_options: http2,
                } = downstream;
                (Protocols::Downstream, http1, http2, "use_downstream_protocol_config")
            }
            (_, _, Some(auto)) => {
                let config::AutoHttpConfig {
                    http_protocol_options: http1,
                    http2_protocol_options: http2,
                } = auto;
                (Protocols::Auto, http1, http2, "auto_config")
            }
            (Some(explicit), ..) => {
                let config::ExplicitHttpConfig {
                    http_protocol_options: http1,
                    http2_protocol_options: http2,
                } = explicit;
                let protocols = if http2.is_some() { Protocols::Http2 } else { Protocols::Http1 };
                (protocols, http1, http2, "explicit_http_config")
            }
            (None, None, None) => (Protocols::Http1, &None, &None, "explicit_http_config"),
        };
    Chosen {
        protocols,
        common: common_http_protocol_options.as_ref(),
        upstream: upstream_http_protocol_options.as_ref(),
        http1: http1.as_ref(),
        http2: http2.as_ref(),
        versions_at: at.field(versions),
        at,
    }
}

fn auto_sni(
    schema: &config::UpstreamHttpProtocolOptions,
    at: &Path,
    problems: &mut Problems,
) -> Option<AutoSni> {
    let config::UpstreamHttpProtocolOptions {
        auto_sni,
        auto_san_validation,
        override_auto_sni_header,
    } = schema;
    let header = override_auto_sni_header.to_ascii_lowercase();
    let at = at.field("override_auto_sni_header");
    let is_used = *auto_sni || *auto_san_validation;
    if !is_used && !header.is_empty() {
        problems.warn(&at, "no effect without auto_sni or auto_san_validation");
    }
    let header = match header.as_str() {
        "" | "host" | ":authority" => None,
        name if name.starts_with(':') => {
            problems.not_implemented(&at, &format!("the pseudo-header {name} as a server name"));
            None
        }
        name => Some(name.as_bytes().into()),
    };
    let auto = AutoSni { auto_sni: *auto_sni, auto_san_validation: *auto_san_validation, header };
    is_used.then_some(auto)
}

fn common_options(options: &mut HttpProtocolOptions, schema: &config::HttpProtocolOptions) {
    let config::HttpProtocolOptions {
        idle_timeout,
        max_connection_duration,
        max_headers_count,
        max_response_headers_kb,
        max_stream_duration,
        // In Envoy it applies to downstream requests only.
        headers_with_underscores_action: _,
        max_requests_per_connection,
    } = schema;
    if let Some(timeout) = idle_timeout {
        options.idle_timeout = Some(*timeout).filter(|timeout| !timeout.is_zero());
    }
    options.max_connection_duration = *max_connection_duration;
    options.max_stream_duration = *max_stream_duration;
    options.max_requests_per_connection = max_requests_per_connection.filter(|&max| max > 0);
    if let Some(max) = max_headers_count {
        options.head_limits.fields_max = *max as usize;
        options.http2_head_limits.fields_max = *max as usize;
    }
    if let Some(max) = max_response_headers_kb {
        options.head_limits.bytes_max = *max as usize * 1024;
        options.http2_head_limits.bytes_max = *max as usize * 1024;
    }
}

fn http1_options(
    options: &mut HttpProtocolOptions,
    schema: &config::Http1ProtocolOptions,
    at: &Path,
    problems: &mut Problems,
) {
    let config::Http1ProtocolOptions {
        // In Envoy these apply to downstream requests only.
        allow_absolute_url: _,
        accept_http_10: _,
        default_host_for_http_10: _,
        override_stream_error_on_invalid_http_message: _,
        header_key_format,
        enable_trailers,
        allow_chunked_length,
        send_fully_qualified_url,
        allow_custom_methods,
    } = schema;
    options.enable_trailers = *enable_trailers;
    options.send_fully_qualified_url = *send_fully_qualified_url;
    if let Some(format) = header_key_format {
        options.header_key_format = key_format(format, &at.field("header_key_format"), problems);
    }
    let unsupported = [
        ("allow_chunked_length", *allow_chunked_length),
        ("allow_custom_methods", *allow_custom_methods),
    ];
    for (name, _) in unsupported.iter().filter(|(_, is_set)| *is_set) {
        problems.not_implemented(&at.field(name), &format!("{name} of a cluster"));
    }
}

const HTTP_PROTOCOL_OPTIONS: &str = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::upstream::compile::tests::{good, problem};

    #[test]
    fn either_place_says_which_versions_the_hosts_speak() {
        let explicit = |options: Value| typed(&json!({ "explicit_http_config": options }));
        let both = json!({
            "http_protocol_options": {},
            "http2_protocol_options": {},
            "protocol_selection": "USE_DOWNSTREAM_PROTOCOL",
        });
        for (cluster, expected) in [
            (json!({}), Protocols::Http1),
            (json!({ "http2_protocol_options": {} }), Protocols::Http2),
            (both, Protocols::Downstream),
            (explicit(json!({ "http_protocol_options": {} })), Protocols::Http1),
            (explicit(json!({ "http2_protocol_options": {} })), Protocols::Http2),
            (typed(&json!({ "use_downstream_protocol_config": {} })), Protocols::Downstream),
        ] {
            assert_eq!(good(cluster).http.protocols, expected);
        }
    }

    #[test]
    fn options_of_both_versions_need_a_selection() {
        let both = json!({ "http_protocol_options": {}, "http2_protocol_options": {} });
        assert!(problem(both).contains("can be set together only if protocol_selection is"));
    }

    #[test]
    fn without_tls_nothing_is_negotiated() {
        let auto = typed(&json!({ "auto_config": { "http2_protocol_options": {} } }));
        assert!(problem(auto).contains("auto_config needs TLS"));
    }

    #[test]
    fn the_options_of_http2_come_from_the_place_that_counts() {
        let options = json!({ "max_concurrent_streams": 7 });
        let older = json!({ "http2_protocol_options": options });
        assert_eq!(good(older).http.http2.max_concurrent_streams, 7);
        for place in ["explicit_http_config", "use_downstream_protocol_config"] {
            let newer = typed(&json!({ place: { "http2_protocol_options": options } }));
            assert_eq!(good(newer).http.http2.max_concurrent_streams, 7, "{place}");
        }
    }

    fn typed(options: &Value) -> Value {
        json!({ "typed_extension_protocol_options": {
            HTTP_PROTOCOL_OPTIONS: { HTTP_PROTOCOL_OPTIONS: options } } })
    }
}
