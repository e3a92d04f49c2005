//! Converts a map to a message, field by field.

use std::collections::{HashMap, HashSet};

use prost_reflect::{
    DynamicMessage, FieldDescriptor, Kind, MapKey, MessageDescriptor, ReflectMessage as _, Value,
};

use super::node::Node;
use super::{Reader, suggest};
use crate::problems::{About, Problem, Severity};
use crate::{Path, descriptors, features};

impl Reader<'_> {
    /// The part of `node` that fits the message. `None` if it is not a message at all.
    pub(super) fn message(
        &mut self,
        descriptor: &MessageDescriptor,
        node: &Node,
        at: &Path,
    ) -> Option<DynamicMessage> {
        if let Some(read) = self.well_known(descriptor, node, at) {
            return read;
        }
        let Node::Map(entries) = node else {
            let name = descriptor.name();
            self.error(at, format!("{name} must be a map, not {}", node.kind()));
            self.not_read(node, at);
            return None;
        };
        Some(self.fields(descriptor, entries, at))
    }

    /// A message from the fields in a map; `@type` belongs to the enclosing Any.
    pub(super) fn fields(
        &mut self,
        descriptor: &MessageDescriptor,
        entries: &[(String, Node)],
        at: &Path,
    ) -> DynamicMessage {
        let mut message = DynamicMessage::new(descriptor.clone());
        let mut seen = HashSet::new();
        for (key, node) in entries.iter().filter(|(key, _)| key != "@type") {
            let field = descriptor
                .get_field_by_name(key)
                .or_else(|| descriptor.get_field_by_json_name(key));
            let Some(field) = field else {
                self.unknown_field(descriptor, key, node, at);
                continue;
            };
            // null means the default, except for the one type that can hold it.
            if *node == Node::Null && !is_value(&field.kind()) {
                continue;
            }
            if seen.insert(field.number()) {
                let known;
                let node = if field.full_name() == POLICIES {
                    known = self.known_policies(node, &at.field(field.name()));
                    &known
                } else {
                    node
                };
                self.field(&mut message, &field, node, at);
            } else {
                let text = format!("`{}` is set twice, in two spellings", field.name());
                // Envoy uses either one, at random.
                let at = at.field(field.name());
                self.report(Problem::new(Severity::Error, &at, text).at_key());
            }
        }
        self.extension_without_type(&mut message, at);
        message
    }

    /// Envoy skips load balancing policies that it does not know: each is made empty.
    fn known_policies(&mut self, node: &Node, at: &Path) -> Node {
        let Node::List(policies) = node else { return node.clone() };
        let known = policies.iter().enumerate().map(|(i, policy)| {
            let steps = [
                ["typed_extension_config", "typedExtensionConfig"],
                ["typed_config", "typedConfig"],
                ["@type", "@type"],
            ];
            let found = steps.iter().try_fold(policy, |node, names| match node {
                Node::Map(entries) => {
                    let is_named = |name: &str| names.contains(&name);
                    entries.iter().find(|(key, _)| is_named(key)).map(|(_, node)| node)
                }
                _ => None,
            });
            let Some(Node::Text(type_url)) = found else { return policy.clone() };
            let name = type_url.rsplit('/').next().unwrap_or_default();
            if descriptors::is_envoy_type(name) {
                return policy.clone();
            }
            let text = format!("unknown load balancing policy `{name}` is skipped, as by Envoy");
            self.report(Problem::new(Severity::Warning, &at.index(i), text));
            Node::Map(Vec::new())
        });
        Node::List(known.collect())
    }

    fn field(
        &mut self,
        message: &mut DynamicMessage,
        field: &FieldDescriptor,
        node: &Node,
        parent: &Path,
    ) {
        let at = &parent.field(field.name());
        if let Some((oneof, other)) = other_member_set(message, field) {
            let name = field.name();
            let text =
                format!("`{name}` and `{other}` exclude each other: set at most one {oneof}");
            let problem = Problem::new(Severity::Error, at, text).at_key();
            self.report(problem.related(&parent.field(&other), "also set"));
            self.not_read(node, at);
            return;
        }
        let value = if field.is_map() {
            self.map(field, node, at).map(Value::Map)
        } else if field.is_list() {
            let mut list = Vec::new();
            self.list(&field.kind(), node, at, &mut list);
            Some(Value::List(list))
        } else {
            self.value(&field.kind(), node, at)
        };
        if let Some(value) = value {
            message.set_field(field, value);
        }
    }

    /// The elements of a list. As in Envoy, a single value is a list of one, null is an empty
    /// element, and a list in a list is flattened.
    fn list(&mut self, kind: &Kind, node: &Node, at: &Path, list: &mut Vec<Value>) {
        let single = std::slice::from_ref(node);
        let items = match node {
            Node::List(items) => items,
            _ => single,
        };
        for (i, item) in items.iter().enumerate() {
            let at = at.index(i);
            match item {
                Node::Null if !is_value(kind) => list.push(kind.default_value()),
                Node::List(_) if !is_value(kind) => self.list(kind, item, &at, list),
                // An element that cannot be read keeps its place in the list, so that the paths of
                // later elements are right.
                _ => list.push(self.value(kind, item, &at).unwrap_or_else(|| kind.default_value())),
            }
        }
    }

    fn map(
        &mut self,
        field: &FieldDescriptor,
        node: &Node,
        at: &Path,
    ) -> Option<HashMap<MapKey, Value>> {
        let Node::Map(entries) = node else {
            self.error(at, format!("{} must be a map, not {}", field.name(), node.kind()));
            return None;
        };
        let Kind::Message(entry) = field.kind() else { return None };
        let (key_kind, value_kind) =
            (entry.map_entry_key_field().kind(), entry.map_entry_value_field().kind());
        let mut map = HashMap::new();
        for (key, node) in entries {
            let at = at.key(key);
            let value = match node {
                Node::Null if !is_value(&value_kind) => Some(value_kind.default_value()),
                _ => self.value(&value_kind, node, &at),
            };
            let key = match key_kind {
                Kind::String => Some(MapKey::String(key.clone())),
                _ => self
                    .value(&key_kind, &Node::Text(key.clone()), &at)
                    .and_then(Value::into_map_key),
            };
            if let (Some(key), Some(value)) = (key, value) {
                map.insert(key, value);
            }
        }
        Some(map)
    }

    fn value(&mut self, kind: &Kind, node: &Node, at: &Path) -> Option<Value> {
        match kind {
            Kind::Message(descriptor) => self.message(descriptor, node, at).map(Value::Message),
            _ => self.scalar(kind, node, at),
        }
    }

    fn unknown_field(&mut self, descriptor: &MessageDescriptor, key: &str, node: &Node, at: &Path) {
        let name = descriptor.name();
        let problem = |at: &Path, text: String| Problem::new(Severity::Error, at, text).at_key();
        if descriptors::is_newer_field(descriptor.full_name(), key) {
            self.report(features::lacking_field_named(key, &at.field(key)));
            return;
        }
        let mut found = problem(&at.field(key), format!("{name} has no field `{key}`"));
        let fields: Vec<_> = descriptor.fields().collect();
        let names = || fields.iter().map(FieldDescriptor::name);
        found.help = match key {
            "<<" => Some("Envoy does not support merge keys: repeat the fields".to_owned()),
            "config" | "typed_config" if descriptor.get_field_by_name("typed_config").is_some() => {
                Some("write `typed_config` with an `@type`".to_owned())
            }
            _ => suggest::hint(key, names()),
        };
        // The field that was misspelt is not reported as missing too.
        found.stands_for = suggest::nearest(key, names()).map(|name| at.field(name));
        found.about = About::UnknownKey;
        self.report(found);
        self.not_read(node, &at.field(key));
    }
}

fn is_value(kind: &Kind) -> bool {
    kind.as_message().is_some_and(|message| message.full_name() == "google.protobuf.Value")
}

/// The oneof of a field and its member that is already set.
fn other_member_set(message: &DynamicMessage, field: &FieldDescriptor) -> Option<(String, String)> {
    let oneof = field.containing_oneof().filter(|oneof| !oneof.is_synthetic())?;
    let other = oneof.fields().find(|other| message.has_field(other))?;
    debug_assert_eq!(message.descriptor(), *oneof.parent_message());
    Some((oneof.name().to_owned(), other.name().to_owned()))
}

/// The load balancing policies of a cluster.
const POLICIES: &str = "envoy.config.cluster.v3.LoadBalancingPolicy.policies";
