//! Envoy's filter state: what the filters of a connection store for later filters. Only objects that
//! have an effect here can be stored.

use std::time::Duration;

/// The filter state of a connection.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct FilterState {
    /// `envoy.tcp_proxy.cluster`: overrides the configured cluster.
    pub cluster: Option<Box<str>>,
    /// `envoy.tcp_proxy.per_connection_idle_timeout_ms`: overrides the configured idle timeout.
    pub idle_timeout: Option<Duration>,
    /// `envoy.tcp_proxy.disable_tunneling`: `tunneling_config` is not used.
    pub disable_tunneling: bool,
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
}

impl Object {
    /// The object with this key.
    #[must_use]
    pub fn of(key: &str) -> Option<Self> {
        match key {
            "envoy.tcp_proxy.cluster" => Some(Self::Cluster),
            "envoy.tcp_proxy.per_connection_idle_timeout_ms" => Some(Self::IdleTimeout),
            "envoy.tcp_proxy.disable_tunneling" => Some(Self::DisableTunneling),
            _ => None,
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
}
