//! Filter state: objects by key that a filter sets for later filters, formats and upstream connections.
//!
//! An object is text. Those with the keys of [`TlsObject`] have an effect on the TLS of upstream
//! connections; every other one can only be read.

use std::borrow::Cow;

use crate::transport::tls::options::TransportSocketOptions;

/// What filters have set for one request.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct FilterState(Vec<Entry>);

#[derive(Clone, Debug, Eq, PartialEq)]
struct Entry {
    object: Object,
    text: Box<str>,
}

/// An object that can be set.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Object {
    /// Its key.
    pub key: Box<str>,
    /// What it is.
    pub kind: Kind,
}

/// What an object is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// Text without an effect of its own.
    Text,
    /// The same, by which a host can be chosen.
    HashableText,
    /// Something about the TLS of upstream connections.
    Tls(TlsObject),
}

/// An object about the TLS of upstream connections.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum TlsObject {
    /// `envoy.network.upstream_server_name`
    UpstreamServerName,
    /// `envoy.network.upstream_subject_alt_names`: names, separated by commas.
    UpstreamSubjectAltNames,
    /// `envoy.network.application_protocols`: names, separated by commas.
    ApplicationProtocols,
}

/// The factories of objects that are text.
const STRINGS: [&str; 2] = ["envoy.hashable_string", "envoy.string"];

/// The address that a request to a cluster of type `ORIGINAL_DST` goes to.
pub const ORIGINAL_DST_ADDRESS: &str = "envoy.network.transport_socket.original_dst_address";

/// The host of a request to a cluster of type `dynamic_forward_proxy`.
pub const DYNAMIC_HOST: &str = "envoy.upstream.dynamic_host";

/// Its port.
pub const DYNAMIC_PORT: &str = "envoy.upstream.dynamic_port";

/// The address of that host, as the filter `dynamic_forward_proxy` has found it.
pub const UPSTREAM_ADDRESS: &str = "envoy.stream.upstream_address";

/// The objects by which clusters choose the host of a request.
const HOSTS: [&str; 3] = [ORIGINAL_DST_ADDRESS, DYNAMIC_HOST, DYNAMIC_PORT];

/// Whether it is the key of an object that Envoy defines and that can be set.
#[must_use]
pub fn is_settable(key: &str) -> bool {
    STRINGS.contains(&key) || HOSTS.contains(&key) || TlsObject::of(key).is_some()
}

/// What `composite` has executed, as JSON.
pub const EXECUTED: &str = "envoy.extensions.filters.http.composite.matched_actions";

/// How many messages of a request and its response `grpc_stats` has seen: two numbers, separated by a comma.
pub const GRPC_MESSAGES: &str = "envoy.filters.http.grpc_stats";

/// Whether it is the key of an object that has a form in JSON, which Envoy defines and a filter sets.
#[must_use]
pub fn is_json(key: &str) -> bool {
    [EXECUTED, GRPC_MESSAGES].contains(&key)
}

/// The form in JSON of the object with this key and text.
#[must_use]
pub fn json_of<'a>(key: &str, text: &'a str) -> Cow<'a, str> {
    if key != GRPC_MESSAGES {
        return text.into();
    }
    let counts = text.split(',').zip(["requestMessageCount", "responseMessageCount"]);
    // In JSON a number of 64 bits is a text, and zero is the default.
    let counts = counts.filter(|(count, _)| *count != "0");
    let counts = counts.map(|(count, name)| (name.to_owned(), count.into()));
    serde_json::Value::Object(counts.collect()).to_string().into()
}

impl Kind {
    /// What the factory of this name makes.
    #[must_use]
    pub fn made_by(factory: &str) -> Option<Self> {
        match factory {
            "envoy.string" => Some(Self::Text),
            _ if HOSTS.contains(&factory) => Some(Self::Text),
            "envoy.hashable_string" => Some(Self::HashableText),
            _ => TlsObject::of(factory).map(Self::Tls),
        }
    }
}

impl TlsObject {
    /// The object with this key.
    #[must_use]
    pub fn of(key: &str) -> Option<Self> {
        match key {
            "envoy.network.upstream_server_name" => Some(Self::UpstreamServerName),
            "envoy.network.upstream_subject_alt_names" => Some(Self::UpstreamSubjectAltNames),
            "envoy.network.application_protocols" => Some(Self::ApplicationProtocols),
            _ => None,
        }
    }

    /// The options with this object, made from text.
    #[must_use]
    pub fn apply(self, text: &str, to: TransportSocketOptions) -> TransportSocketOptions {
        match self {
            Self::UpstreamServerName => to.with_server_name(text),
            Self::UpstreamSubjectAltNames => {
                to.with_subject_alt_names(text.split(',').map(Into::into))
            }
            Self::ApplicationProtocols => {
                to.with_application_protocols(text.split(',').map(|name| name.as_bytes().to_vec()))
            }
        }
    }
}

impl FilterState {
    /// Sets an object, in place of an earlier one with its key.
    pub fn set(&mut self, object: &Object, text: &str) {
        match self.0.iter_mut().find(|entry| entry.object.key == object.key) {
            Some(entry) => *entry = Entry { object: object.clone(), text: text.into() },
            None => self.0.push(Entry { object: object.clone(), text: text.into() }),
        }
    }

    /// The text of an object.
    #[must_use]
    pub fn text(&self, key: &str) -> Option<&str> {
        self.0.iter().find(|entry| &*entry.object.key == key).map(|entry| &*entry.text)
    }

    /// The same, of an object by which a host can be chosen.
    #[must_use]
    pub fn hashable(&self, key: &str) -> Option<&str> {
        let found = self.0.iter().find(|entry| &*entry.object.key == key)?;
        (found.object.kind == Kind::HashableText).then_some(&*found.text)
    }

    /// What is set for the TLS of upstream connections, over what their client's connection has set; none:
    /// nothing is set here.
    #[must_use]
    pub fn tls_options(
        &self,
        of_connection: Option<&TransportSocketOptions>,
    ) -> Option<TransportSocketOptions> {
        let objects = self.0.iter().filter_map(|entry| match entry.object.kind {
            // Under another key it has no effect.
            Kind::Tls(object) if TlsObject::of(&entry.object.key) == Some(object) => {
                Some((object, &*entry.text))
            }
            Kind::Tls(_) | Kind::Text | Kind::HashableText => None,
        });
        objects.fold(None, |options: Option<TransportSocketOptions>, (object, text)| {
            let before = options.or_else(|| of_connection.cloned()).unwrap_or_default();
            Some(object.apply(text, before))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(key: &str) -> Object {
        Object { key: key.into(), kind: Kind::made_by(key).unwrap_or(Kind::Text) }
    }

    #[test]
    fn an_object_can_be_set_again() {
        let mut state = FilterState::default();
        state.set(&object("a"), "1");
        state.set(&object("a"), "2");
        assert_eq!((state.text("a"), state.text("b")), (Some("2"), None));
    }

    #[test]
    fn a_host_is_chosen_only_by_hashable_text() {
        let mut state = FilterState::default();
        for (key, kind) in [("a", Kind::Text), ("b", Kind::HashableText)] {
            state.set(&Object { key: key.into(), kind }, "1");
        }
        assert_eq!((state.hashable("a"), state.hashable("b")), (None, Some("1")));
    }

    #[test]
    fn names_for_tls_are_separated_by_commas() {
        let mut state = FilterState::default();
        assert_eq!(state.tls_options(None), None);
        for (key, text) in [
            ("envoy.network.upstream_server_name", "A.test"),
            ("envoy.network.upstream_subject_alt_names", "a.test,spiffe://b"),
            ("envoy.network.application_protocols", "h2,http/1.1"),
        ] {
            state.set(&object(key), text);
        }
        let options = state.tls_options(None).unwrap();
        assert_eq!(options.server_name(), Some("a.test"));
        assert_eq!(**options.subject_alt_names(), ["a.test".into(), "spiffe://b".into()]);
        assert_eq!(options.application_protocols(), [b"h2".to_vec(), b"http/1.1".to_vec()]);
    }

    #[test]
    fn a_request_overrides_its_connection_object_by_object() {
        let of_connection = TransportSocketOptions::default()
            .with_server_name("connection")
            .with_application_protocols([b"h2".to_vec()]);
        let mut state = FilterState::default();
        let server_name = object("envoy.network.upstream_server_name");
        state.set(&server_name, "request");
        let options = state.tls_options(Some(&of_connection)).unwrap();
        assert_eq!(options.server_name(), Some("request"));
        assert_eq!(options.application_protocols(), [b"h2".to_vec()]);
    }

    #[test]
    fn text_under_the_key_of_another_object_has_no_effect() {
        let mut state = FilterState::default();
        let key = "envoy.network.upstream_server_name".into();
        state.set(&Object { key, kind: Kind::Text }, "a.test");
        assert_eq!(state.tls_options(None), None);
    }
}
