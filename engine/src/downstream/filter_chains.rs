//! The filter chains of a listener, and how a connection gets one of them.

use std::collections::{HashMap, HashSet};
use std::rc::Rc;
use std::sync::Arc;

use super::Listener;
use super::filter_chain::{FilterChain, LocalChain, LocalSpeaks};
use super::filter_chain_match::{Connection, MatchTree};
use crate::matcher::Matcher;
use crate::request::route::RouteTable;
use crate::request::service::Service;
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
    /// `filter_chain_matcher`
    Tree {
        /// To a chain; to none, if the tree names one that does not exist.
        tree: Matcher<Option<usize>>,
        /// For connections that the tree has no action for.
        default: Option<usize>,
    },
}

impl FilterChains {
    /// The indexes in `choice` are those of `chains`.
    pub(super) const fn new(chains: Vec<FilterChain>, choice: Choice) -> Self {
        Self { chains, choice }
    }

    /// The chain that serves the connection, with its index; `None`: it is closed.
    #[must_use]
    pub fn find(&self, connection: &Connection<'_>) -> Option<(usize, &FilterChain)> {
        let index = match &self.choice {
            Choice::Only => Some(0),
            Choice::Match { tree, default } => tree.find(connection).or(*default),
            Choice::Tree { tree, default } => tree.find(connection).copied().unwrap_or(*default),
        }?;
        Some((index, self.chains.get(index)?))
    }

    /// Whether this is the index of the default chain.
    #[must_use]
    pub fn is_default(&self, index: usize) -> bool {
        match &self.choice {
            Choice::Only => false,
            Choice::Match { default, .. } | Choice::Tree { default, .. } => *default == Some(index),
        }
    }

    /// How many of those of before are gone.
    #[must_use]
    pub fn count_gone(&self, before: &Self) -> u64 {
        let kept: HashSet<usize> = self.chains.iter().map(FilterChain::key).collect();
        before.chains.iter().filter(|chain| !kept.contains(&chain.key())).count() as u64
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
    chains: Vec<Rc<LocalChain>>,
}

/// The filter chains that a shard has, by their keys.
pub(super) type KnownChains = HashMap<usize, Rc<LocalChain>>;

impl LocalChains {
    /// Those of `listener`, for the connections of `shard`, which has the `known` ones already.
    #[must_use]
    pub(super) fn new(
        listener: &Arc<Listener>,
        shard: &'static Shard,
        known: &KnownChains,
    ) -> Self {
        let chains = listener.filter_chains.all().iter().map(|chain| {
            let new = || Rc::new(LocalChain::new(chain, shard));
            known.get(&chain.key()).map_or_else(new, Rc::clone)
        });
        Self { listener: Arc::clone(listener), chains: chains.collect() }
    }

    /// All of them.
    pub(super) fn all(&self) -> &[Rc<LocalChain>] {
        &self.chains
    }

    /// The requests of this connection manager that begin from now on have these routes.
    pub(super) fn set_routes(&self, service: &Arc<Service>, table: &Arc<RouteTable>) {
        for chain in &self.chains {
            if let LocalSpeaks::Http(local) = &chain.speaks
                && Arc::ptr_eq(local.service(), service)
            {
                local.set_routes(Arc::clone(table));
            }
        }
    }

    /// The chain, if it is the same for all connections: nothing has to be known about them.
    #[must_use]
    pub fn only(&self) -> Option<&Rc<LocalChain>> {
        match self.listener.filter_chains.choice {
            Choice::Only => self.chains.first(),
            Choice::Match { .. } | Choice::Tree { .. } => None,
        }
    }

    /// The chain that serves the connection; `None`: it is closed.
    #[must_use]
    pub fn find(&self, connection: &Connection<'_>) -> Option<&Rc<LocalChain>> {
        let (index, _) = self.listener.filter_chains.find(connection)?;
        self.chains.get(index)
    }
}
