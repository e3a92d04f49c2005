//! The upstream side: clusters, their hosts, and which host the next request goes to.
//!
//! A [`Cluster`] is configuration: immutable, part of the snapshot. Its hosts come from
//! [`discovery`] as whole [`HostSet`]s, made on the control plane and handed to the shards; a host
//! that stays keeps its `Arc`, so its stats and its connections stay too. [`balance`] chooses on
//! the shard; [`circuit_breaker`] says how much.
//!
//! What it is not: it does not decide to retry (`request/retry.rs`), and nothing here looks up a
//! name (`control/dns.rs` does, and tells [`discovery`] the answers).
//!
//! Invariant: a published host set never changes.

pub mod balance;
pub mod circuit_breaker;
pub mod cluster;
pub mod compile;
pub mod connection;
pub mod discovery;
pub mod error;
pub mod host;
pub mod host_set;
pub mod local;
pub mod pool;

pub use cluster::Cluster;
pub use error::Error;
pub use host::Host;
pub use host_set::HostSet;
