//! Which endpoints get which transport socket.
//!
//! Invariant: the metadata of an endpoint never changes, so this is decided once.

use std::sync::Arc;

use serde_json::Value;

use super::TransportSocket;

/// All transport sockets of a cluster.
#[derive(Debug)]
pub struct TransportSockets {
    /// `transport_socket_matches`
    pub matches: Vec<(Criteria, Arc<TransportSocket>)>,
    /// `transport_socket`, for endpoints that nothing matches.
    pub default: Arc<TransportSocket>,
}

/// `match`: what the metadata must have, besides anything else.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Criteria(pub Vec<(String, Value)>);

impl TransportSockets {
    /// The transport socket of an endpoint with this metadata of its own and of its locality. As in Envoy,
    /// the locality counts only if nothing matches the endpoint's own.
    #[must_use]
    pub fn of(&self, endpoint: Option<&Value>, locality: Option<&Value>) -> &Arc<TransportSocket> {
        let first = |metadata| {
            let found = self.matches.iter().find(|(criteria, _)| criteria.fits(metadata));
            found.map(|(_, socket)| socket)
        };
        first(endpoint).or_else(|| first(locality)).unwrap_or(&self.default)
    }

    /// All of them.
    pub fn all(&self) -> impl Iterator<Item = &Arc<TransportSocket>> {
        self.matches.iter().map(|(_, socket)| socket).chain([&self.default])
    }
}

impl Criteria {
    /// Whether the metadata has all values. Empty criteria match even endpoints without metadata.
    fn fits(&self, metadata: Option<&Value>) -> bool {
        self.0.iter().all(|(key, value)| metadata.and_then(|it| it.get(key)) == Some(value))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Transport sockets for `use: a`, for `use: b` with `secure: true`, and the default one.
    fn sockets() -> TransportSockets {
        let criteria = |value: Value| {
            let fields = value.as_object().unwrap();
            Criteria(fields.iter().map(|(key, value)| (key.clone(), value.clone())).collect())
        };
        let matches = [json!({"use": "a"}), json!({"use": "b", "secure": true})];
        TransportSockets {
            matches: matches.map(|it| (criteria(it), TransportSocket::plain())).into(),
            default: TransportSocket::plain(),
        }
    }

    /// The index of the socket; 2 is the default.
    fn index(sockets: &TransportSockets, endpoint: &Value, locality: &Value) -> Option<usize> {
        let found = sockets.of(Some(endpoint), Some(locality));
        sockets.all().position(|socket| Arc::ptr_eq(socket, found))
    }

    #[test]
    fn all_values_must_be_there_and_others_may() {
        let sockets = sockets();
        let none = json!({});
        for (metadata, expected) in [
            (json!({"use": "a"}), 0),
            (json!({"use": "a", "secure": true}), 0),
            (json!({"use": "b"}), 2),
            (json!({"use": "b", "secure": "true"}), 2),
            (json!({"use": "b", "secure": true, "more": 1}), 1),
            (none.clone(), 2),
        ] {
            assert_eq!(index(&sockets, &metadata, &none), Some(expected), "{metadata}");
        }
    }

    #[test]
    fn the_locality_counts_if_nothing_matches_the_endpoint() {
        let sockets = sockets();
        let (a, b) = (json!({"use": "a"}), json!({"use": "b", "secure": true}));
        assert_eq!(index(&sockets, &b, &a), Some(1));
        assert_eq!(index(&sockets, &json!({"use": "c"}), &a), Some(0));
    }

    #[test]
    fn no_criteria_match_everything() {
        let mut sockets = sockets();
        sockets.matches.push((Criteria::default(), TransportSocket::plain()));
        let found = sockets.of(None, Some(&json!({"use": "a"})));
        assert!(Arc::ptr_eq(found, &sockets.matches[2].1), "even before the locality");
    }
}
