//! Filter chains: what a connection is served with.

use std::rc::Rc;
use std::sync::Arc;

use crate::request::service::{LocalService, Service};
use crate::shard::Shard;

/// One filter chain of a listener.
#[derive(Debug)]
pub struct FilterChain {
    /// What its connections speak.
    pub speaks: Speaks,
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
        Self { speaks }
    }
}
