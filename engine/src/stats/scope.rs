//! One set of stats under one prefix: a block for each shard and one for the control plane.

use std::fmt;
use std::sync::OnceLock;

use crate::stats::{Counter, Gauge, StatSet};

/// The blocks of one set of stats.
///
/// Invariant: block N is written by shard N only, `control` by the control plane only.
pub struct Scope<S> {
    prefix: Box<str>,
    /// A block is made by the thread that writes it, when it first does: on its own memory node, and not at
    /// all for what a shard never uses.
    shards: Box<[Lazy<S>]>,
    control: Lazy<S>,
}

impl<S: StatSet> Scope<S> {
    /// A scope that no registry knows: it is not in `/stats`. For hosts, which Envoy shows in `/clusters` only.
    pub fn unlisted(shards: usize) -> Self {
        Self::new("", shards)
    }

    pub(super) fn new(prefix: &str, shards: usize) -> Self {
        let shards = (0..shards).map(|_| Lazy::default()).collect();
        Self { prefix: prefix.into(), shards, control: Lazy::default() }
    }

    /// The block of one shard. For that shard only.
    #[inline]
    pub fn shard(&self, shard: usize) -> &S {
        debug_assert!(shard < self.shards.len(), "no such shard: {shard}");
        self.shards.get(shard).unwrap_or(&self.control).make()
    }

    /// The block of the control plane. For its thread only.
    #[inline]
    pub fn control(&self) -> &S {
        self.control.make()
    }

    /// What all blocks counted, for any thread.
    pub fn counter(&self, field: impl Fn(&S) -> &Counter) -> u64 {
        self.blocks().fold(0, |sum, block| sum.wrapping_add(field(block).value()))
    }

    /// What all blocks hold together, for any thread.
    pub fn gauge(&self, field: impl Fn(&S) -> &Gauge) -> u64 {
        self.blocks().map(|block| field(block).signed()).sum::<i64>().try_into().unwrap_or(0)
    }

    /// The blocks that were written to.
    fn blocks(&self) -> impl Iterator<Item = &S> {
        self.shards.iter().chain([&self.control]).filter_map(Lazy::made)
    }

    /// What stands before the names: `cluster.httpbin.`.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }
}

impl<S> fmt::Debug for Scope<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scope").field("prefix", &self.prefix).finish_non_exhaustive()
    }
}

/// A block, once somebody wrote to it.
struct Lazy<S>(OnceLock<Box<Block<S>>>);

impl<S: Default> Lazy<S> {
    #[inline]
    fn make(&self) -> &S {
        &self.0.get_or_init(Box::default).stats
    }

    fn made(&self) -> Option<&S> {
        self.0.get().map(|block| &block.stats)
    }
}

impl<S> Default for Lazy<S> {
    fn default() -> Self {
        Self(OnceLock::new())
    }
}

/// Two cache lines, because the processor fetches them in pairs: no block shares one with its neighbour.
#[derive(Default)]
#[repr(align(128))]
struct Block<S> {
    stats: S,
}
