//! Which requests may share connections.

use std::rc::Rc;

use super::circuit_breaker::RoutingPriority;
use super::transport_socket::EncodedHeader;
use crate::transport::tls::options::TransportSocketOptions;

/// What the connections of a pool have in common. A request can only use the pool with its key.
#[derive(Clone, Debug, Default, Eq, Hash, PartialEq)]
pub struct PoolKey {
    /// The limits that they count against.
    pub priority: RoutingPriority,
    /// What passes over them.
    pub carries: Carries,
    /// Which version of HTTP they speak.
    pub speaks: Speaks,
    /// The PROXY header that they begin with.
    pub proxy_header: Option<EncodedHeader>,
    /// Names that requests set for their TLS.
    pub options: Option<Rc<TransportSocketOptions>>,
}

impl PoolKey {
    /// Whether any client's requests may use the pool: it stays as long as its host.
    #[must_use]
    pub const fn is_shared(&self) -> bool {
        self.proxy_header.is_none() && self.options.is_none()
    }
}

/// Which version of HTTP the connections of a pool speak.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub enum Speaks {
    /// HTTP/1
    #[default]
    Http1,
    /// HTTP/2, without asking.
    Http2,
    /// What each TLS handshake negotiates.
    Negotiated,
}

/// What passes over the connections of a pool.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub enum Carries {
    /// HTTP requests, one after the other.
    #[default]
    Requests,
    /// Each the bytes of one TCP client.
    Bytes,
}
