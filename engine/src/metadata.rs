//! Metadata: values by namespace, for formats and conditions. The configuration gives static metadata to
//! its parts; filters note dynamic metadata about a connection or a request.
//!
//! A value is JSON: null, a bool, a number, a string, a list or a struct, as in Envoy's `Struct`.
//!
//! Invariant: what a namespace has is a JSON object.

use std::collections::BTreeMap;

use serde_json::map::Entry;
use serde_json::{Map, Value};

/// What the configuration gives metadata to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[expect(missing_docs, reason = "the names say it")]
pub enum MetadataOf {
    Cluster,
    FilterChain,
    Listener,
    Route,
    UpstreamHost,
    VirtualHost,
}

/// Envoy's `Metadata`, without the typed part.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Metadata(BTreeMap<Box<str>, Value>);

impl Metadata {
    /// Of these namespaces; each value is an object.
    #[must_use]
    pub fn new<'a>(namespaces: impl IntoIterator<Item = (&'a str, Value)>) -> Self {
        let sorted = namespaces.into_iter().map(|(name, mut value)| {
            // Values are shown in the order of their keys.
            value.sort_all_objects();
            (name.into(), value)
        });
        Self(sorted.collect())
    }

    /// Whether there is no namespace.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether there is this namespace.
    #[must_use]
    pub fn has(&self, namespace: &str) -> bool {
        self.0.contains_key(namespace)
    }

    /// Sets the value of a key.
    pub fn set(&mut self, namespace: &str, key: &str, value: impl Into<Value>) {
        self.change(namespace, |values| drop(values.insert(key.to_owned(), value.into())));
    }

    /// Sets the values of several keys; without any, there is at least the namespace.
    pub fn set_all(&mut self, namespace: &str, new: &Map<String, Value>) {
        self.change(namespace, |values| values.extend(new.clone()));
    }

    /// Merges an object into a namespace: a list is added to a list, an object is merged into an object,
    /// and any other value replaces the old one.
    pub fn merge(&mut self, namespace: &str, new: &Map<String, Value>) {
        self.change(namespace, |values| merge(values, new));
    }

    fn change(&mut self, namespace: &str, change: impl FnOnce(&mut Map<String, Value>)) {
        let values = self.0.entry(namespace.into()).or_insert_with(|| Value::Object(Map::new()));
        if let Value::Object(values) = &mut *values {
            change(values);
        }
        // Values are shown in the order of their keys.
        values.sort_all_objects();
    }

    /// All namespaces with their values.
    pub fn namespaces(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.0.iter().map(|(name, values)| (&**name, values))
    }

    /// The value at a path of keys in a namespace; without keys, the whole namespace.
    #[must_use]
    pub fn find(&self, namespace: &str, path: &[Box<str>]) -> Option<&Value> {
        path.iter().try_fold(self.0.get(namespace)?, |value, key| value.get(&**key))
    }
}

fn merge(old: &mut Map<String, Value>, new: &Map<String, Value>) {
    for (key, value) in new {
        match old.entry(key.as_str()) {
            Entry::Vacant(entry) => drop(entry.insert(value.clone())),
            Entry::Occupied(mut entry) => match (entry.get_mut(), value) {
                (Value::Object(old), Value::Object(new)) => merge(old, new),
                (Value::Array(old), Value::Array(new)) => old.extend_from_slice(new),
                (old, new) => *old = new.clone(),
            },
        }
    }
}

/// What the configuration says of a listener and one of its filter chains, to everything that serves
/// connections of the chain.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct ListenerInfo {
    /// The name of the listener; if it has none, its address.
    pub name: Box<str>,
    /// The metadata of the listener.
    pub metadata: Metadata,
    /// The name of the filter chain; may be empty.
    pub chain_name: Box<str>,
    /// The metadata of the filter chain.
    pub chain_metadata: Metadata,
}

impl ListenerInfo {
    /// The metadata of the listener or of the filter chain.
    #[must_use]
    pub fn metadata(&self, of: MetadataOf) -> Option<&Metadata> {
        match of {
            MetadataOf::FilterChain => Some(&self.chain_metadata),
            MetadataOf::Listener => Some(&self.metadata),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_value_is_found_by_its_path() {
        let values = json!({ "b": { "z": 1, "a": [2] }, "a": null });
        let metadata = Metadata::new([("ns", values)]);
        let find = |path: &[&str]| {
            let path: Vec<Box<str>> = path.iter().map(|&key| key.into()).collect();
            metadata.find("ns", &path).map(ToString::to_string)
        };
        assert_eq!(find(&[]).as_deref(), Some(r#"{"a":null,"b":{"a":[2],"z":1}}"#));
        assert_eq!(find(&["b", "z"]).as_deref(), Some("1"));
        assert_eq!(find(&["b", "y"]), None);
        assert_eq!(find(&["b", "a", "0"]), None, "a list has no keys");
        assert_eq!(metadata.find("other", &[]), None);
    }

    #[test]
    fn merging_adds_to_lists_and_objects_and_replaces_the_rest() {
        let mut metadata = Metadata::default();
        metadata.set("ns", "kept", true);
        metadata.set("ns", "text", "old");
        metadata.set("ns", "list", json!([1]));
        metadata.set("ns", "object", json!({ "a": 1, "b": [1] }));
        metadata.set("ns", "other", json!({ "a": 1 }));
        let new = json!({ "text": "new", "list": [2, 3], "object": { "b": [2], "c": null },
            "other": [1], "added": 1 });
        metadata.merge("ns", new.as_object().unwrap());
        let expected = json!({ "kept": true, "text": "new", "list": [1, 2, 3],
            "object": { "a": 1, "b": [1, 2], "c": null }, "other": [1], "added": 1 });
        assert_eq!(metadata.find("ns", &[]), Some(&expected));
    }
}
