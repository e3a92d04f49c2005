//! Schema → listener filters.

use std::time::Duration;

use corvoy_config::{self as config, Path, Problems};

use super::predicate::Predicate;
use super::tlv_rules::{Encoding, Location, Rule, Rules};
use super::{Kind, ListenerFilter, ListenerFilters, OnTimeout, ProxyProtocol, TlsInspector};
use crate::common_compile;
use crate::limits;
use crate::proxy_protocol::{Version, Versions};
use crate::stats::Registry;

/// Envoy's default of `listener_filters_timeout`.
const TIMEOUT: Duration = Duration::from_secs(15);

/// Compiles the listener filters of the listener at `at`.
pub fn listener_filters(
    filters: &[config::ListenerFilter],
    timeout: Option<Duration>,
    continue_on_timeout: bool,
    at: &Path,
    registry: &Registry,
    problems: &mut Problems,
) -> Option<ListenerFilters> {
    let at = at.field("listener_filters");
    let mut compiled = Vec::with_capacity(filters.len());
    for (i, filter) in filters.iter().enumerate() {
        let at = at.index(i);
        let config::ListenerFilter { name: _, typed_config, filter_disabled } = filter;
        let kind = kind(typed_config.as_ref(), &at.field("typed_config"), registry, problems);
        let disabled = filter_disabled.as_ref().and_then(predicate);
        compiled.push(kind.map(|kind| ListenerFilter { disabled, kind }));
    }
    Some(ListenerFilters {
        filters: compiled.into_iter().collect::<Option<_>>()?,
        timeout: Some(timeout.unwrap_or(TIMEOUT)).filter(|timeout| !timeout.is_zero()),
        on_timeout: if continue_on_timeout { OnTimeout::Continue } else { OnTimeout::Close },
    })
}

fn kind(
    typed_config: Option<&config::Any>,
    at: &Path,
    registry: &Registry,
    problems: &mut Problems,
) -> Option<Kind> {
    match typed_config {
        Some(config::Any::OriginalDst(options)) => {
            let config::OriginalDst {} = **options;
            Some(Kind::OriginalDst)
        }
        Some(config::Any::ProxyProtocol(options)) => {
            proxy_protocol(options, at, registry, problems).map(Kind::ProxyProtocol)
        }
        Some(config::Any::TlsInspector(options)) => {
            Some(Kind::TlsInspector(tls_inspector(options, registry)))
        }
        Some(config::Any::HttpInspector(options)) => {
            let config::HttpInspector {} = **options;
            Some(Kind::HttpInspector(registry.scope("http_inspector.")))
        }
        Some(_) => {
            problems.error(at, "this is not a listener filter");
            None
        }
        None => {
            problems.missing(at, "a listener filter needs a typed_config");
            None
        }
    }
}

fn proxy_protocol(
    options: &config::ProxyProtocol,
    at: &Path,
    registry: &Registry,
    problems: &mut Problems,
) -> Option<ProxyProtocol> {
    let config::ProxyProtocol {
        allow_requests_without_proxy_protocol,
        disallowed_versions,
        stat_prefix,
        rules,
        tlv_location,
        pass_through_tlvs,
    } = options;
    let allows = |version| !disallowed_versions.contains(&version);
    let versions = Versions {
        v1: allows(config::ProxyProtocolVersion::V1),
        v2: allows(config::ProxyProtocolVersion::V2),
    };
    if ![Version::V1, Version::V2].into_iter().any(|version| versions.include(version)) {
        problems.error(&at.field("disallowed_versions"), "all versions are disallowed");
        return None;
    }
    let prefix = if stat_prefix.is_empty() {
        "proxy_proto.".to_owned()
    } else {
        format!("proxy_proto.{stat_prefix}.")
    };
    Some(ProxyProtocol {
        versions,
        optional: *allow_requests_without_proxy_protocol,
        rules: tlv_rules(rules, *tlv_location),
        passes: pass_through_tlvs.as_ref().map(common_compile::tlv_types),
        stats: registry.scope(&prefix),
        errors: registry.scope(""),
    })
}

fn tlv_rules(rules: &[config::ProxyProtocolRule], location: config::TlvLocation) -> Rules {
    let location = match location {
        config::TlvLocation::DynamicMetadata => Location::DynamicMetadata,
        config::TlvLocation::FilterState => Location::FilterState,
    };
    let rules = rules.iter().map(|rule| {
        let config::ProxyProtocolRule { tlv_type, on_tlv_present } = rule;
        // Envoy: without it, the key is empty.
        let pair = on_tlv_present.clone().unwrap_or_default();
        let config::ProxyProtocolKeyValuePair { metadata_namespace, key, value_string_encoding } =
            pair;
        Rule {
            kind: common_compile::tlv_type(*tlv_type),
            namespace: metadata_namespace,
            key,
            encoding: match value_string_encoding {
                config::ValueStringEncoding::Unspecified
                | config::ValueStringEncoding::SanitizedUtf8 => Encoding::SanitizedUtf8,
                config::ValueStringEncoding::Base64 => Encoding::Base64,
            },
        }
    });
    Rules::new(rules.collect(), location)
}

fn tls_inspector(options: &config::TlsInspector, registry: &Registry) -> TlsInspector {
    let config::TlsInspector {
        enable_ja3_fingerprinting,
        enable_ja4_fingerprinting,
        close_connection_on_client_hello_parsing_errors,
        max_client_hello_size,
    } = options;
    TlsInspector {
        hello_max: max_client_hello_size
            .and_then(|most| usize::try_from(most).ok())
            .unwrap_or(limits::CLIENT_HELLO_BYTES_MAX),
        only_tls: *close_connection_on_client_hello_parsing_errors,
        ja3: enable_ja3_fingerprinting.is_some_and(|on| on),
        ja4: enable_ja4_fingerprinting.is_some_and(|on| on),
        stats: registry.scope("tls_inspector."),
    }
}

/// `None` if no rule is set, which the rules of the configuration have refused already.
fn predicate(predicate: &config::ListenerFilterChainMatchPredicate) -> Option<Predicate> {
    let config::ListenerFilterChainMatchPredicate {
        or_match,
        and_match,
        not_match,
        any_match,
        destination_port_range,
    } = predicate;
    let all = |set: &config::PredicateMatchSet| -> Option<Vec<Predicate>> {
        let config::PredicateMatchSet { rules } = set;
        rules.iter().map(self::predicate).collect()
    };
    if let Some(set) = or_match {
        return all(set).map(Predicate::Either);
    }
    if let Some(set) = and_match {
        return all(set).map(Predicate::All);
    }
    if let Some(inner) = not_match {
        return self::predicate(inner).map(|inner| Predicate::Not(Box::new(inner)));
    }
    if let Some(config::Int32Range { start, end }) = destination_port_range {
        return Some(Predicate::DestinationPort(*start..*end));
    }
    any_match.map(|_| Predicate::Any)
}
