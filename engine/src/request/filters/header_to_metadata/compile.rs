//! Schema → `header_to_metadata`.

use corvoy_config::{self as config, Path, Problems};

use super::{Encoding, Form, From, HeaderToMetadata, Note, Rule, Rules, Text};
use crate::request::route::rewrite_compile::substitution;
use crate::stats::Registry;

impl HeaderToMetadata {
    pub(in super::super) fn compile(
        schema: &config::HeaderToMetadata,
        registry: &Registry,
        at: &Path,
        problems: &mut Problems,
    ) -> Self {
        Self(rules(schema, registry, at, problems))
    }
}

pub(in super::super) fn rules(
    schema: &config::HeaderToMetadata,
    registry: &Registry,
    at: &Path,
    problems: &mut Problems,
) -> Rules {
    let config::HeaderToMetadata { request_rules, response_rules, stat_prefix } = schema;
    let mut list = |field: &str, schemas: &[config::HeaderToMetadataRule]| {
        let at = at.field(field);
        let each = schemas.iter().enumerate();
        each.filter_map(|(i, schema)| rule(schema, &at.index(i), problems)).collect()
    };
    Rules {
        request: list("request_rules", request_rules),
        response: list("response_rules", response_rules),
        stats: (!stat_prefix.is_empty())
            .then(|| registry.scope(&format!("http_filter_name.{stat_prefix}."))),
    }
}

fn rule(schema: &config::HeaderToMetadataRule, at: &Path, problems: &mut Problems) -> Option<Rule> {
    let config::HeaderToMetadataRule {
        header,
        cookie,
        on_header_present,
        on_header_missing,
        remove,
    } = schema;
    let from = match (header.as_str(), cookie.as_str()) {
        ("", "") => {
            problems.error(at, "one of header and cookie must be set");
            return None;
        }
        ("", cookie) => From::Cookie(cookie.as_bytes().into()),
        (header, "") => {
            From::Header { name: header.to_ascii_lowercase().into_bytes().into(), remove: *remove }
        }
        (_, _) => {
            problems.error(at, "only one of header and cookie may be set");
            return None;
        }
    };
    if let (true, From::Cookie(_)) = (*remove, &from) {
        problems.error(&at.field("remove"), "a cookie cannot be removed");
    }
    if on_header_present.is_none() && on_header_missing.is_none() {
        problems.error(at, "a rule needs on_header_present or on_header_missing");
    }
    let mut noted = |field: &str, schema: Option<&config::HeaderToMetadataKeyValuePair>| {
        schema.map(|schema| note(schema, &at.field(field), problems))
    };
    let present = noted("on_header_present", on_header_present.as_ref());
    let missing = noted("on_header_missing", on_header_missing.as_ref());
    if let Some(Note { text: Text::OfHeader | Text::Rewritten(_), .. }) = missing {
        let at = at.field("on_header_missing").field("value");
        problems.error(&at, "a value is needed: the header has none if it is missing");
    }
    Some(Rule { from, present, missing })
}

fn note(schema: &config::HeaderToMetadataKeyValuePair, at: &Path, problems: &mut Problems) -> Note {
    let config::HeaderToMetadataKeyValuePair {
        metadata_namespace,
        key,
        value,
        regex_value_rewrite,
        r#type,
        encode,
    } = schema;
    if !value.is_empty() && regex_value_rewrite.is_some() {
        problems.error(at, "only one of value and regex_value_rewrite may be set");
    }
    let rewrite = regex_value_rewrite
        .as_ref()
        .and_then(|schema| substitution(schema, &at.field("regex_value_rewrite"), problems));
    let text = match rewrite {
        _ if !value.is_empty() => Text::Fixed(value.as_str().into()),
        Some(rewrite) => Text::Rewritten(rewrite),
        None => Text::OfHeader,
    };
    let namespace = match metadata_namespace.as_str() {
        "" => "envoy.filters.http.header_to_metadata",
        namespace => namespace,
    };
    Note {
        namespace: namespace.into(),
        key: key.as_str().into(),
        text,
        encoding: match encode {
            config::HeaderToMetadataValueEncode::None => Encoding::None,
            config::HeaderToMetadataValueEncode::Base64 => Encoding::Base64,
        },
        form: match r#type {
            config::HeaderToMetadataValueType::String => Form::String,
            config::HeaderToMetadataValueType::Number => Form::Number,
            config::HeaderToMetadataValueType::ProtobufValue => Form::ProtobufValue,
        },
    }
}
