//! Metadata that the configuration gives to its parts, for logs and conditions: JSON by namespace.
//!
//! What filters note about one connection is in `listener_facts`.

use std::collections::BTreeMap;

use serde_json::Value;

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

/// `filter_metadata` of a part of the configuration.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct StaticMetadata(BTreeMap<Box<str>, Value>);

impl StaticMetadata {
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

/// What the configuration says of a listener and one of its filter chains, to everything that serves
/// connections of the chain.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct ListenerInfo {
    /// The name of the listener; if it has none, its address.
    pub name: Box<str>,
    /// The metadata of the listener.
    pub metadata: StaticMetadata,
    /// The name of the filter chain; may be empty.
    pub chain_name: Box<str>,
    /// The metadata of the filter chain.
    pub chain_metadata: StaticMetadata,
}

impl ListenerInfo {
    /// The metadata of the listener or of the filter chain.
    #[must_use]
    pub fn metadata(&self, of: MetadataOf) -> Option<&StaticMetadata> {
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
        let metadata = StaticMetadata::new([("ns", values)]);
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
}
