//! `retry_host_predicate`: which hosts a retry does not go to, apart from those that were tried before.

use serde_json::{Map, Value};

use crate::upstream::Host;

/// Hosts that a retry avoids.
#[derive(Clone, Debug, PartialEq)]
pub enum HostPredicate {
    /// Those whose metadata says that they are canaries.
    Canaries,
    /// Those that have all of these values in their metadata `envoy.lb`.
    Metadata(Map<String, Value>),
}

impl HostPredicate {
    /// Whether it avoids this host.
    #[must_use]
    pub fn avoids(&self, host: &Host) -> bool {
        match self {
            Self::Canaries => host.canary,
            Self::Metadata(wanted) => {
                let value = |key: &str| host.endpoint.metadata.find("envoy.lb", &[key.into()]);
                let has = |(key, wanted): (&String, &Value)| match value(key) {
                    // As in Envoy, of a list one value is enough.
                    Some(Value::Array(values)) => values.contains(wanted),
                    value => value == Some(wanted),
                };
                !wanted.is_empty() && wanted.iter().all(has)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;

    use super::*;
    use crate::metadata::Metadata;
    use crate::upstream::host::{Endpoint, HealthFlags};
    use crate::upstream::host_set::tests::host;

    fn with_metadata(values: Value) -> Arc<Host> {
        let plain = host(1, 0, 1, HealthFlags::EMPTY);
        let metadata = Arc::new(Metadata::new([("envoy.lb", values)]));
        let endpoint = Endpoint { metadata, ..Endpoint::clone(&plain.endpoint) };
        Host::new(plain.address, Arc::new(endpoint), 1)
    }

    #[test]
    fn a_canary_is_avoided() {
        assert!(HostPredicate::Canaries.avoids(&with_metadata(json!({"canary": true}))));
        assert!(!HostPredicate::Canaries.avoids(&with_metadata(json!({"canary": "true"}))));
        assert!(!HostPredicate::Canaries.avoids(&with_metadata(json!({}))));
    }

    #[test]
    fn hosts_with_all_of_the_values_are_avoided() {
        let of = |wanted: Value| HostPredicate::Metadata(wanted.as_object().unwrap().clone());
        let host = with_metadata(json!({"stage": ["a", "b"], "version": 2}));
        assert!(of(json!({"stage": "b"})).avoids(&host));
        assert!(of(json!({"stage": "b", "version": 2})).avoids(&host));
        assert!(!of(json!({"stage": "c", "version": 2})).avoids(&host));
        assert!(!of(json!({"other": 1})).avoids(&host));
        assert!(!of(json!({})).avoids(&host));
    }
}
