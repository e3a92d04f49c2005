//! What listener filters have found out about a connection beyond its two addresses, and what network
//! filters have set, for everything that serves it. Most connections have none of it.

use std::rc::Rc;

use crate::address::Address;
use crate::metadata::Metadata;
use crate::proxy_protocol::Tlv;
use crate::transport::tls::options::TransportSocketOptions;

/// What listener filters have found out.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct ListenerFacts {
    /// The address that the connection comes from, if a PROXY header has announced another one.
    pub direct_peer: Option<Address>,
    /// The address that the connection was accepted on, if it is for another one.
    pub direct_local: Option<Address>,
    /// The JA3 fingerprint of a TLS client.
    pub ja3: Option<Box<str>>,
    /// The JA4 fingerprint of a TLS client.
    pub ja4: Option<Box<str>>,
    /// The dynamic metadata of the connection.
    pub metadata: Metadata,
    /// `envoy.network.proxy_protocol.tlv` of the filter state of the connection.
    pub tlv_values: Option<Values>,
    /// The values of a PROXY header that may be passed on to hosts.
    pub passed_tlvs: Vec<Tlv>,
    /// What network filters have set for the TLS of upstream connections.
    pub options: Option<Rc<TransportSocketOptions>>,
}

/// Texts by key, in the order in which they were set first.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Values(Vec<(Box<str>, Box<str>)>);

impl Values {
    /// Sets a value.
    pub fn set(&mut self, key: &str, value: &str) {
        match self.0.iter_mut().find(|(name, _)| **name == *key) {
            Some((_, old)) => *old = value.into(),
            None => self.0.push((key.into(), value.into())),
        }
    }

    /// The value of a key.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.iter().find(|(name, _)| **name == *key).map(|(_, value)| &**value)
    }

    /// All of them as a JSON object.
    #[must_use]
    pub fn to_json(&self) -> String {
        let entries = self.0.iter().map(|(key, value)| (key.to_string(), (&**value).into()));
        serde_json::Value::Object(entries.collect()).to_string()
    }
}
