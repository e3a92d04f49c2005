//! Replaces secrets in JSON that is shown to operators.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use prost_reflect::{DescriptorPool, FieldDescriptor, Kind, MessageDescriptor};
use serde_json::{Map, Value};

use crate::descriptors::TYPE_URL_PREFIX;

/// What is shown in place of a secret.
const REDACTED: &str = "[redacted]";

/// Redacts the fields of a message that Envoy's API marks as sensitive, as Envoy does: which field is
/// set remains visible. The JSON has the field names of the proto files.
//= envoy: udpa.annotations.sensitive
pub(crate) fn redact(json: &mut Value, descriptor: &MessageDescriptor, pool: &DescriptorPool) {
    if let Value::Object(fields) = json {
        let inner = fields.get("@type").and_then(Value::as_str).and_then(|url| {
            pool.get_message_by_name(url.strip_prefix(TYPE_URL_PREFIX).unwrap_or(url))
        });
        redact_fields(fields, inner.as_ref().unwrap_or(descriptor), pool);
    }
}

fn redact_fields(
    fields: &mut Map<String, Value>,
    descriptor: &MessageDescriptor,
    pool: &DescriptorPool,
) {
    for (name, value) in fields {
        // Structs and the like have no such fields.
        let Some(field) = descriptor.get_field_by_name(name) else { continue };
        if is_sensitive(&field, pool) {
            replace(value, &field.kind());
        } else if let Kind::Message(inner) = field.kind() {
            for_each(value, &inner, |value, inner| redact(value, inner, pool));
        }
    }
}

/// The messages in a field: of a list, of a map, or the one.
fn for_each(
    value: &mut Value,
    descriptor: &MessageDescriptor,
    mut apply: impl FnMut(&mut Value, &MessageDescriptor),
) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(|item| apply(item, descriptor)),
        Value::Object(entries) if descriptor.is_map_entry() => {
            if let Kind::Message(inner) = descriptor.map_entry_value_field().kind() {
                entries.values_mut().for_each(|value| apply(value, &inner));
            }
        }
        value => apply(value, descriptor),
    }
}

/// Replaces all texts in a sensitive field.
fn replace(value: &mut Value, kind: &Kind) {
    match (&mut *value, kind) {
        (Value::Array(items), kind) => items.iter_mut().for_each(|item| replace(item, kind)),
        (Value::Object(_), Kind::Message(descriptor)) => {
            for_each(value, descriptor, |value, descriptor| {
                let Value::Object(fields) = value else { return };
                for (name, value) in fields {
                    match descriptor.get_field_by_name(name) {
                        Some(field) => replace(value, &field.kind()),
                        None => *value = Value::Null,
                    }
                }
            });
        }
        (Value::String(_), Kind::String) => *value = REDACTED.into(),
        (Value::String(_), Kind::Bytes) => *value = STANDARD.encode(REDACTED).into(),
        _ => *value = Value::Null,
    }
}

fn is_sensitive(field: &FieldDescriptor, pool: &DescriptorPool) -> bool {
    let options = field.options();
    pool.get_extension_by_name("udpa.annotations.sensitive")
        .is_some_and(|extension| options.get_extension(&extension).as_bool().unwrap_or(false))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::redact;
    use crate::descriptors;

    #[test]
    fn secrets_are_replaced_and_everything_else_stays() {
        let pool = descriptors::pool().unwrap();
        let bootstrap = pool.get_message_by_name("envoy.config.bootstrap.v3.Bootstrap").unwrap();
        let context = "type.googleapis.com/\
                       envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext";
        let dump = |key: &str, password: &str, ticket: &str, map: &str| {
            json!({
                "node": { "id": "n", "metadata": { "private_key": { "filename": "not a secret" } } },
                "static_resources": {
                    "listeners": [{ "filter_chains": [{ "transport_socket": { "typed_config": {
                        "@type": context,
                        "common_tls_context": { "tls_certificates": [{
                            "certificate_chain": { "inline_string": "public" },
                            "private_key": { "filename": key },
                            "password": { "inline_bytes": password },
                        }] },
                        "session_ticket_keys": { "keys": [{ "inline_bytes": ticket }] },
                    } } }] }],
                    "secrets": [{ "name": "s", "generic_secret": {
                        "secrets": { "a": { "inline_string": map } },
                    } }],
                },
            })
        };
        let mut shown = dump("/key.pem", "cGFzc3dvcmQ=", "c2VjcmV0", "secret");
        redact(&mut shown, &bootstrap, &pool);
        let bytes = "W3JlZGFjdGVkXQ==";
        assert_eq!(shown, dump("[redacted]", bytes, bytes, "[redacted]"));
    }
}
