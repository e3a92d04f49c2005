//! What a request, or a client of `tcp_proxy`, sets for the TLS of its upstream connection, in place of
//! what the cluster says: Envoy's transport socket options.

use std::sync::Arc;

/// Transport socket options. A connection is used only by requests that have the same.
#[derive(Clone, Debug, Default, Eq, Hash, PartialEq)]
pub struct TransportSocketOptions {
    server_name: Option<Box<str>>,
    subject_alt_names: Arc<[Box<str>]>,
    application_protocols: Vec<Vec<u8>>,
}

impl TransportSocketOptions {
    /// Sets the server name, which replaces `sni` and `auto_host_sni`. An empty one replaces nothing.
    #[must_use]
    pub fn with_server_name(mut self, name: &str) -> Self {
        // Names that differ in case only are the same.
        self.server_name = Some(name.to_ascii_lowercase().into());
        self
    }

    /// Sets names of which the certificate must have one.
    #[must_use]
    pub fn with_subject_alt_names(mut self, names: impl IntoIterator<Item = Box<str>>) -> Self {
        self.subject_alt_names = names.into_iter().collect();
        self
    }

    /// Sets the protocols that are offered by ALPN, which replace all others.
    #[must_use]
    pub fn with_application_protocols(mut self, names: impl IntoIterator<Item = Vec<u8>>) -> Self {
        self.application_protocols = names.into_iter().filter(|name| !name.is_empty()).collect();
        self
    }

    /// The server name.
    #[must_use]
    pub fn server_name(&self) -> Option<&str> {
        self.server_name.as_deref().filter(|name| !name.is_empty())
    }

    /// Whether a server name was set, even an empty one.
    #[must_use]
    pub const fn sets_server_name(&self) -> bool {
        self.server_name.is_some()
    }

    /// The certificate must have one of these names; empty: they do not matter.
    #[must_use]
    pub const fn subject_alt_names(&self) -> &Arc<[Box<str>]> {
        &self.subject_alt_names
    }

    /// The protocols that are offered; empty: those of the cluster.
    #[must_use]
    pub fn application_protocols(&self) -> &[Vec<u8>] {
        &self.application_protocols
    }
}

#[cfg(test)]
mod tests {
    use super::TransportSocketOptions;

    fn named(name: &str) -> TransportSocketOptions {
        TransportSocketOptions::default().with_server_name(name)
    }

    #[test]
    fn names_that_differ_in_case_are_the_same() {
        assert_eq!(named("A.Test"), named("a.test"));
        assert_ne!(named("a.test"), named("b.test"));
    }

    #[test]
    fn empty_names_replace_nothing() {
        assert_eq!(named("").server_name(), None);
        assert!(named("").sets_server_name());
        let protocols = TransportSocketOptions::default().with_application_protocols([Vec::new()]);
        assert_eq!(protocols, TransportSocketOptions::default());
    }
}
