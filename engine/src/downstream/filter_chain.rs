//! Filter chains: what a connection is served with.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use crate::request::service::{LocalService, Service};
use crate::shard::Shard;
use crate::stats::{Scope, SslStats};
use crate::transport::tls::ServerTls;
use crate::transport::tls::context::ServerContext;

/// One filter chain of a listener.
#[derive(Debug)]
pub struct FilterChain {
    /// What its connections speak.
    pub speaks: Speaks,
    /// Its TLS; none: the connections are plain.
    pub tls: Option<ChainTls>,
}

/// The TLS of a filter chain.
#[derive(Clone, Debug)]
pub struct ChainTls {
    /// What the configuration says.
    pub context: Arc<ServerContext>,
    /// `listener.<address>.ssl.`
    pub stats: Arc<Scope<SslStats>>,
    /// `transport_socket_connect_timeout`; none: no limit.
    pub connect_timeout: Option<Duration>,
}

/// What the connections of a filter chain speak.
#[derive(Clone, Debug)]
pub enum Speaks {
    /// HTTP: the chain ends in a connection manager.
    Http(Arc<Service>),
}

/// A filter chain on one shard.
#[derive(Debug)]
pub struct LocalChain {
    /// What its connections speak.
    pub speaks: LocalSpeaks,
    /// Its TLS; none: the connections are plain.
    pub tls: Option<Rc<ServerTls>>,
}

/// What the connections of a filter chain speak, on one shard.
#[derive(Clone, Debug)]
pub enum LocalSpeaks {
    /// HTTP
    Http(Rc<LocalService>),
}

impl LocalChain {
    /// `chain` for the connections of `shard`.
    #[must_use]
    pub fn new(chain: &FilterChain, shard: &'static Shard) -> Self {
        let speaks = match &chain.speaks {
            Speaks::Http(service) => {
                LocalSpeaks::Http(LocalService::new(Arc::clone(service), shard))
            }
        };
        let tls = chain.tls.clone().map(|ChainTls { context, stats, connect_timeout }| {
            let context = context.for_shard(shard.id);
            Rc::new(ServerTls { context, stats, timeout: connect_timeout })
        });
        Self { speaks, tls }
    }
}
