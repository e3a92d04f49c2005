//! `typed_config`: the message that a map with an `@type` contains.

use prost::Message as _;
use prost_reflect::{DynamicMessage, MessageDescriptor, ReflectMessage as _, Value};

use super::Reader;
use super::node::Node;
use crate::descriptors::TYPE_URL_PREFIX as PREFIX;
use crate::problems::{Problem, Severity};
use crate::{Path, descriptors, features};

impl Reader<'_> {
    pub(super) fn any(
        &mut self,
        descriptor: &MessageDescriptor,
        node: &Node,
        at: &Path,
    ) -> Option<DynamicMessage> {
        let Node::Map(entries) = node else {
            self.error(at, format!("expected a map with an `@type`, not {}", node.kind()));
            return None;
        };
        if entries.is_empty() {
            return Some(DynamicMessage::new(descriptor.clone()));
        }
        let entry = |name: &str| entries.iter().find(|(key, _)| key == name).map(|(_, node)| node);
        let Some(Node::Text(type_url)) = entry("@type") else {
            self.report(missing_type(at));
            self.not_read(node, at);
            return None;
        };
        if descriptors::is_typed_struct(type_url.rsplit('/').next().unwrap_or_default()) {
            return self.typed_struct(descriptor, entries, at);
        }
        let Some(inner) = self.type_of(type_url, &at.field("@type")) else {
            // The options of an extension that is not implemented cannot be checked.
            if !descriptors::is_envoy_type(type_url.rsplit('/').next().unwrap_or_default()) {
                self.not_read(node, at);
            }
            return None;
        };
        let message = if is_well_known(&inner) {
            let value = entry("value").unwrap_or(&Node::Null);
            self.message(&inner, value, &at.field("value"))?
        } else {
            self.fields(&inner, entries, at)
        };
        Some(pack(descriptor, type_url, &message))
    }

    /// A message in a `TypedStruct`, which becomes the content of the `Any`.
    fn typed_struct(
        &mut self,
        descriptor: &MessageDescriptor,
        entries: &[(String, Node)],
        at: &Path,
    ) -> Option<DynamicMessage> {
        let (mut type_url, mut value) = (None, &[][..]);
        for (key, node) in entries {
            match (key.as_str(), node) {
                ("@type", _) | ("value", Node::Null) => {}
                ("type_url" | "typeUrl", Node::Text(text)) => type_url = Some(text),
                ("value", Node::Map(fields)) => value = fields,
                ("value" | "type_url" | "typeUrl", other) => {
                    let text = format!("`{key}` cannot be {}", other.kind());
                    self.error(&at.field(key), text);
                    return None;
                }
                (other, _) => {
                    let text = "a TypedStruct has only the fields `type_url` and `value`";
                    self.error(&at.field(other), text);
                    return None;
                }
            }
        }
        let Some(type_url) = type_url else {
            self.error(at, "`type_url` is missing: an extension is found by its type");
            return None;
        };
        let inner = self.type_of(type_url, &at.field("type_url"))?;
        let message = self.fields(&inner, value, &at.field("value"));
        Some(pack(descriptor, type_url, &message))
    }

    fn type_of(&mut self, type_url: &str, at: &Path) -> Option<MessageDescriptor> {
        let url = type_url.rsplit_once('/').filter(|(host, _)| !host.is_empty());
        let Some((_, name)) = url else {
            let text = format!("`{type_url}` is not a type URL");
            let help = format!("write `{PREFIX}{}`", type_url.trim_start_matches('/'));
            self.report(Problem::new(Severity::Error, at, text).help(help));
            return None;
        };
        if let Some(descriptor) = self.pool.get_message_by_name(name) {
            return Some(descriptor);
        }
        self.report(features::lacking_type(name, at));
        None
    }

    /// An extension is found by the type of its configuration, not by its name. Old versions of
    /// Envoy found the router by its name, and many texts still rely on that.
    pub(super) fn extension_without_type(&mut self, message: &mut DynamicMessage, at: &Path) {
        let descriptor = message.descriptor();
        if !NAMED_EXTENSIONS.contains(&descriptor.full_name()) {
            return;
        }
        let Some(config_type) = descriptor.oneofs().find(|oneof| oneof.name() == "config_type")
        else {
            return;
        };
        let path = at.field("typed_config");
        if config_type.fields().any(|field| message.has_field(&field))
            || self.problems.errors().any(|problem| problem.path.starts_with(&path))
        {
            return;
        }
        let name = message.get_field_by_name("name");
        let name = name.as_deref().and_then(Value::as_str).unwrap_or_default().to_owned();
        let router = self.pool.get_message_by_name(ROUTER);
        let field = descriptor.get_field_by_name("typed_config");
        if descriptor.name() == "HttpFilter"
            && name == "envoy.filters.http.router"
            && let (Some(router), Some(field)) = (router, field)
            && let Some(any) = field.kind().as_message()
        {
            let router = DynamicMessage::new(router);
            let type_url = format!("{PREFIX}{ROUTER}");
            message.set_field(&field, Value::Message(pack(any, &type_url, &router)));
            let text = "the router has no typed_config, which Envoy 1.40 rejects";
            let help = format!("write `typed_config: {{\"@type\": {type_url}}}`");
            self.report(Problem::new(Severity::Warning, at, text).help(help));
            return;
        }
        let text = format!("`{name}` needs a typed_config: an extension is found by its type");
        let help = "write `typed_config: {\"@type\": type.googleapis.com/…}`";
        self.report(Problem::new(Severity::Error, &path, text).help(help));
    }
}

/// The error for a `typed_config` without an `@type`.
pub(crate) fn missing_type(at: &Path) -> Problem {
    let help = "write `\"@type\": type.googleapis.com/…` with the name of the message";
    let text = "`@type` is missing";
    Problem::new(Severity::Error, at, text).help(help).at_key()
}

fn pack(any: &MessageDescriptor, type_url: &str, message: &DynamicMessage) -> DynamicMessage {
    let mut packed = DynamicMessage::new(any.clone());
    packed.set_field_by_name("type_url", Value::String(type_url.to_owned()));
    packed.set_field_by_name("value", Value::Bytes(message.encode_to_vec().into()));
    packed
}

/// Messages that are under `value` in an Any, because they are not maps of fields.
fn is_well_known(descriptor: &MessageDescriptor) -> bool {
    descriptor.package_name() == "google.protobuf"
}

const NAMED_EXTENSIONS: &[&str] = &[
    "envoy.config.listener.v3.Filter",
    "envoy.config.route.v3.RetryPolicy.RetryHostPredicate",
    "envoy.extensions.filters.network.http_connection_manager.v3.HttpFilter",
];
const ROUTER: &str = "envoy.extensions.filters.http.router.v3.Router";
