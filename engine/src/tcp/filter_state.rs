//! Envoy's filter state: what the filters of a connection store for later filters. Only objects that
//! have an effect here can be stored.

use std::rc::Rc;
use std::time::Duration;

use crate::filter_state::TlsObject;
use crate::transport::tls::options::TransportSocketOptions;

/// The filter state of a connection.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct FilterState {
    /// `envoy.tcp_proxy.cluster`: overrides the configured cluster.
    pub cluster: Option<Box<str>>,
    /// `envoy.tcp_proxy.per_connection_idle_timeout_ms`: overrides the configured idle timeout.
    pub idle_timeout: Option<Duration>,
    /// `envoy.tcp_proxy.disable_tunneling`: `tunneling_config` is not used.
    pub disable_tunneling: bool,
    /// What is set for the TLS of the upstream connection; none: nothing.
    pub options: Option<Rc<TransportSocketOptions>>,
}

/// An object that can be set.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Object {
    /// `envoy.tcp_proxy.cluster`
    Cluster,
    /// `envoy.tcp_proxy.per_connection_idle_timeout_ms`
    IdleTimeout,
    /// `envoy.tcp_proxy.disable_tunneling`
    DisableTunneling,
    /// Something about the TLS of upstream connections.
    Tls(TlsObject),
}

impl Object {
    /// The object with this key.
    #[must_use]
    pub fn of(key: &str) -> Option<Self> {
        match key {
            "envoy.tcp_proxy.cluster" => Some(Self::Cluster),
            "envoy.tcp_proxy.per_connection_idle_timeout_ms" => Some(Self::IdleTimeout),
            "envoy.tcp_proxy.disable_tunneling" => Some(Self::DisableTunneling),
            key => TlsObject::of(key).map(Self::Tls),
        }
    }
}

impl FilterState {
    /// Sets an object from text. As in Envoy, a text that is not valid for the object is ignored.
    pub fn set(&mut self, object: Object, text: &str) {
        match object {
            Object::Cluster => self.cluster = Some(text.into()),
            Object::IdleTimeout => {
                if let Ok(ms) = text.parse() {
                    self.idle_timeout = Some(Duration::from_millis(ms));
                }
            }
            Object::DisableTunneling => {
                if let Ok(disable) = text.parse() {
                    self.disable_tunneling = disable;
                }
            }
            Object::Tls(object) => {
                let options = self.options.take().map(Rc::unwrap_or_clone).unwrap_or_default();
                self.options = Some(Rc::new(object.apply(text, options)));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_that_is_no_value_sets_nothing() {
        let mut state = FilterState::default();
        state.set(Object::IdleTimeout, "soon");
        assert_eq!(state, FilterState::default());
        state.set(Object::IdleTimeout, "300");
        state.set(Object::Cluster, "blue");
        assert_eq!(state.idle_timeout, Some(Duration::from_millis(300)));
        assert_eq!(state.cluster.as_deref(), Some("blue"));
    }

    #[test]
    fn objects_for_tls_are_options_of_the_upstream_connection() {
        let mut state = FilterState::default();
        state.set(Object::Tls(TlsObject::UpstreamServerName), "a.test");
        state.set(Object::Tls(TlsObject::ApplicationProtocols), "h2");
        let options = state.options.unwrap();
        assert_eq!(options.server_name(), Some("a.test"));
        assert_eq!(options.application_protocols(), [b"h2".to_vec()]);
    }
}
