//! What listener filters have found out about a connection beyond its two addresses, for everything that
//! serves it. Most connections have none of it.

use crate::address::Address;

/// What listener filters have found out.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct ListenerFacts {
    /// The address that the connection comes from, if a PROXY header has announced another one.
    pub direct_peer: Option<Address>,
    /// The JA3 fingerprint of a TLS client.
    pub ja3: Option<Box<str>>,
    /// The JA4 fingerprint of a TLS client.
    pub ja4: Option<Box<str>>,
}
