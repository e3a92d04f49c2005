//! `envoy/extensions/filters/http/json_to_metadata/v3`

use super::{RegexMatcher, schema, schema_enum};

schema! {
    const JSON_TO_METADATA;

    struct JsonToMetadata = "envoy.extensions.filters.http.json_to_metadata.v3.JsonToMetadata" {
        request_rules: Option<JsonMatchRules>,
        response_rules: Option<JsonMatchRules>,
    }

    struct JsonMatchRules =
        "envoy.extensions.filters.http.json_to_metadata.v3.JsonToMetadata.MatchRules" {
        rules: Vec<JsonRule>,
        allow_content_types: Vec<String>,
        allow_empty_content_type: bool,
        allow_content_types_regex: Option<RegexMatcher>,
    }

    struct JsonRule = "envoy.extensions.filters.http.json_to_metadata.v3.JsonToMetadata.Rule" {
        selectors: Vec<JsonSelector>,
        on_present: Option<JsonKeyValuePair>,
        on_missing: Option<JsonKeyValuePair>,
        on_error: Option<JsonKeyValuePair>,
    }

    struct JsonSelector =
        "envoy.extensions.filters.http.json_to_metadata.v3.JsonToMetadata.Selector" {
        key: Option<String>,
    }

    struct JsonKeyValuePair =
        "envoy.extensions.filters.http.json_to_metadata.v3.JsonToMetadata.KeyValuePair" {
        metadata_namespace: String,
        key: String,
        value: Option<serde_json::Value>,
        r#type: JsonValueType,
        preserve_existing_metadata_value: bool,
    }
}

schema_enum! {
    enum JsonValueType =
        "envoy.extensions.filters.http.json_to_metadata.v3.JsonToMetadata.ValueType" {
        ProtobufValue, String, Number,
    }
}
