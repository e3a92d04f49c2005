//! Schema → what several rooms need.

use corvoy_config::{self as config, Path, Problems};

use crate::http::header_key_format::{
    EnvoyHeaderCase, HeaderKeyFormat, PreserveCase, ReasonPhrase,
};
use crate::metadata::Metadata;
use crate::proxy_protocol::{Tlv, TlvTypes};
use crate::upstream::host::Locality;

/// Rejects a path or a host with white space or control characters, which would add a word or a line
/// to a head.
pub(crate) fn check_word(text: &str, at: &Path, problems: &mut Problems) {
    if text.chars().any(|c| c.is_ascii_control() || c == ' ') {
        let text = text.escape_debug();
        problems.error(at, format!("`{text}` contains white space or a control character"));
    }
}

/// The metadata of a part of the configuration.
pub(crate) fn metadata(schema: Option<&config::Metadata>) -> Metadata {
    let Some(schema) = schema else { return Metadata::default() };
    // Typed metadata is for extensions; logs and conditions do not see it.
    let config::Metadata { filter_metadata, typed_filter_metadata: _ } = schema;
    let namespaces = filter_metadata.iter().map(|(name, value)| (&**name, value.clone()));
    Metadata::new(namespaces)
}

/// A locality, of an endpoint or of the node.
pub(crate) fn locality(schema: &config::Locality) -> Locality {
    let config::Locality { region, zone, sub_zone } = schema;
    Locality { region: region.clone(), zone: zone.clone(), sub_zone: sub_zone.clone() }
}

/// `header_key_format`, of a listener or a cluster.
pub(crate) fn key_format(
    format: &config::HeaderKeyFormat,
    at: &Path,
    problems: &mut Problems,
) -> HeaderKeyFormat {
    let config::HeaderKeyFormat { proper_case_words, stateful_formatter } = format;
    let Some(config::TypedExtensionConfig { name: _, typed_config }) = stateful_formatter else {
        return match proper_case_words {
            Some(_) => HeaderKeyFormat::ProperCaseWords,
            None => HeaderKeyFormat::LowerCase,
        };
    };
    let Some(config::Any::PreserveCaseFormatterConfig(options)) = typed_config else {
        let at = at.field("stateful_formatter").field("typed_config");
        problems.missing(&at, "Corvoy supports only the stateful formatter preserve_case");
        return HeaderKeyFormat::LowerCase;
    };
    let config::PreserveCaseFormatterConfig {
        forward_reason_phrase,
        formatter_type_on_envoy_headers,
    } = &**options;
    HeaderKeyFormat::PreserveCase(PreserveCase {
        envoy_headers: match formatter_type_on_envoy_headers {
            config::FormatterTypeOnEnvoyHeaders::Default => EnvoyHeaderCase::LowerCase,
            config::FormatterTypeOnEnvoyHeaders::ProperCase => EnvoyHeaderCase::ProperCase,
        },
        reason_phrase: if *forward_reason_phrase {
            ReasonPhrase::Forwarded
        } else {
            ReasonPhrase::Registered
        },
    })
}

/// `pass_through_tlvs`
pub(crate) fn tlv_types(schema: &config::ProxyProtocolPassThroughTlvs) -> TlvTypes {
    let config::ProxyProtocolPassThroughTlvs { match_type, tlv_type } = schema;
    match match_type {
        config::PassTlvsMatchType::IncludeAll => TlvTypes::All,
        config::PassTlvsMatchType::Include => {
            TlvTypes::Only(tlv_type.iter().map(|kind| self::tlv_type(*kind)).collect())
        }
    }
}

/// A `tlv_type`: at most 255, which the rules of the configuration have checked.
pub(crate) fn tlv_type(kind: u32) -> u8 {
    u8::try_from(kind).unwrap_or(u8::MAX)
}

/// `added_tlvs`, of the list at `at`.
pub(crate) fn added_tlvs(
    entries: &[config::TlvEntry],
    at: &Path,
    problems: &mut Problems,
) -> Box<[Tlv]> {
    let mut tlvs = Vec::with_capacity(entries.len());
    for (i, config::TlvEntry { r#type, value }) in entries.iter().enumerate() {
        let at = at.index(i);
        if value.is_empty() && problems.is_read(&at.field("format_string")) {
            problems.missing(&at, "an added TLV needs a value");
        }
        tlvs.push(Tlv { kind: tlv_type(*r#type), value: value.clone() });
    }
    tlvs.into()
}
