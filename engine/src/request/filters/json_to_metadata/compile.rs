//! Schema → `json_to_metadata`.

use corvoy_config::{self as config, Path, Problems};

use super::{Form, JsonToMetadata, Note, OneWay, Rule, Rules};
use crate::request::filters::compile::Context;
use crate::text_matcher::compile::regex;

impl JsonToMetadata {
    pub(in super::super) fn compile(
        schema: &config::JsonToMetadata,
        context: &Context<'_>,
        at: &Path,
        problems: &mut Problems,
    ) -> Self {
        let stats = context.registry.scope("json_to_metadata.");
        Self { rules: rules(schema, at, problems), stats }
    }
}

pub(in super::super) fn rules(
    schema: &config::JsonToMetadata,
    at: &Path,
    problems: &mut Problems,
) -> Rules {
    let config::JsonToMetadata { request_rules, response_rules } = schema;
    if request_rules.is_none() && response_rules.is_none() {
        problems.missing(at, "request_rules or response_rules are needed");
    }
    let mut one_way = |schema: Option<&config::JsonMatchRules>, field: &str| {
        schema.map(|schema| one_way(schema, &at.field(field), problems)).unwrap_or_default()
    };
    Rules {
        request: one_way(request_rules.as_ref(), "request_rules"),
        response: one_way(response_rules.as_ref(), "response_rules"),
    }
}

fn one_way(schema: &config::JsonMatchRules, at: &Path, problems: &mut Problems) -> OneWay {
    let config::JsonMatchRules {
        rules,
        allow_content_types,
        allow_empty_content_type,
        allow_content_types_regex,
    } = schema;
    let at_rules = at.field("rules");
    let each = rules.iter().enumerate();
    let rules = each.map(|(i, schema)| rule(schema, &at_rules.index(i), problems)).collect();
    let of_types = |types: &[String]| types.iter().map(|name| name.as_bytes().into()).collect();
    let content_types = if allow_content_types.is_empty() {
        of_types(&["application/json".to_owned()])
    } else {
        of_types(allow_content_types)
    };
    let at_regex = at.field("allow_content_types_regex");
    let content_type_regex =
        allow_content_types_regex.as_ref().and_then(|schema| regex(schema, &at_regex, problems));
    OneWay {
        rules,
        content_types,
        content_type_regex,
        without_content_type: *allow_empty_content_type,
    }
}

fn rule(schema: &config::JsonRule, at: &Path, problems: &mut Problems) -> Rule {
    let config::JsonRule { selectors, on_present, on_missing, on_error } = schema;
    if on_present.is_none() && on_missing.is_none() {
        problems.missing(at, "a rule needs on_present or on_missing");
    }
    for (field, schema) in [("on_missing", on_missing), ("on_error", on_error)] {
        if schema.as_ref().is_some_and(|schema| schema.value.is_none()) {
            problems.missing(&at.field(field), "a value is needed: there is none in the body");
        }
    }
    let keys = selectors.iter().map(|config::JsonSelector { key }| key.as_deref());
    Rule {
        path: keys.map(|key| key.unwrap_or_default().into()).collect(),
        present: on_present.as_ref().map(note),
        missing: on_missing.as_ref().map(note),
        error: on_error.as_ref().map(note),
    }
}

fn note(schema: &config::JsonKeyValuePair) -> Note {
    let config::JsonKeyValuePair {
        metadata_namespace,
        key,
        value,
        r#type,
        preserve_existing_metadata_value,
    } = schema;
    let namespace = match metadata_namespace.as_str() {
        "" => "envoy.filters.http.json_to_metadata",
        namespace => namespace,
    };
    Note {
        namespace: namespace.into(),
        key: key.as_str().into(),
        value: value.clone(),
        form: match r#type {
            config::JsonValueType::ProtobufValue => Form::AsItIs,
            config::JsonValueType::Number => Form::Number,
            config::JsonValueType::String => Form::String,
        },
        keeps_existing: *preserve_existing_metadata_value,
    }
}
