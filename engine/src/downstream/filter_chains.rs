//! The filter chains of a listener, and how a connection gets one of them.

use std::sync::Arc;

use super::Listener;
use super::filter_chain::{FilterChain, LocalChain};
use super::filter_chain_match::{Connection, MatchTree};
use crate::shard::Shard;

/// The filter chains of a listener.
#[derive(Debug)]
pub struct FilterChains {
    chains: Vec<FilterChain>,
    choice: Choice,
}

/// How a connection gets its chain, by index.
#[derive(Debug)]
pub(super) enum Choice {
    /// There is one chain, for all connections.
    Only,
    /// By what is known about the connection.
    Match {
        tree: MatchTree,
        /// For connections that match no other chain.
        default: Option<usize>,
    },
}

impl FilterChains {
    /// The indexes in `choice` are those of `chains`.
    pub(super) const fn new(chains: Vec<FilterChain>, choice: Choice) -> Self {
        Self { chains, choice }
    }

    /// All of them.
    #[must_use]
    pub fn all(&self) -> &[FilterChain] {
        &self.chains
    }
}

/// The filter chains of a listener on one shard.
#[derive(Debug)]
pub struct LocalChains {
    listener: Arc<Listener>,
    /// With the same indexes.
    chains: Vec<LocalChain>,
}

impl LocalChains {
    /// Those of `listener`, for the connections of `shard`.
    #[must_use]
    pub fn new(listener: &Arc<Listener>, shard: &'static Shard) -> Self {
        let chains = listener.filter_chains.all().iter();
        let chains = chains.map(|chain| LocalChain::new(chain, shard)).collect();
        Self { listener: Arc::clone(listener), chains }
    }

    /// The chain, if it is the same for all connections: nothing has to be known about them.
    #[must_use]
    pub fn only(&self) -> Option<&LocalChain> {
        match self.listener.filter_chains.choice {
            Choice::Only => self.chains.first(),
            Choice::Match { .. } => None,
        }
    }

    /// The chain that serves the connection; `None`: it is closed.
    #[must_use]
    pub fn find(&self, connection: &Connection<'_>) -> Option<&LocalChain> {
        let index = match &self.listener.filter_chains.choice {
            Choice::Only => Some(0),
            Choice::Match { tree, default } => tree.find(connection).or(*default),
        };
        self.chains.get(index?)
    }
}
