//! The upstream side: clusters, their hosts, load balancing and connection pools.
//!
//! A [`Cluster`] is configuration: immutable, part of the snapshot. [`discovery`] on the control plane
//! creates its hosts as whole [`HostSet`]s and sends them to the shards; a host that stays keeps its
//! `Arc`, and so its stats and connections. [`balance`] picks a host on the shard; [`circuit_breaker`]
//! limits concurrency.
//!
//! Not here: retry decisions (`request/retry.rs`), and DNS lookups (`control/dns`, which passes the
//! answers to [`discovery`]).
//!
//! Invariant: a published host set never changes.

pub mod aggregate;
pub mod auto_sni;
pub mod balance;
pub mod circuit_breaker;
pub mod cluster;
pub mod clusters;
pub mod compile;
mod connect;
pub mod connection;
pub mod destination;
pub mod discovery;
pub mod dns_cache;
pub mod error;
mod establish;
pub mod health_check;
pub mod host;
pub mod host_set;
mod http2;
mod keyed_pools;
pub mod local;
pub mod numbers;
pub mod origin;
pub mod original_dst;
pub mod outlier_detection;
pub mod override_host;
pub mod pool;
pub mod pool_key;
mod protocol_options_compile;
pub mod transport_socket;
mod waiting;

pub use cluster::Cluster;
pub use error::Error;
pub use host::Host;
pub use host_set::HostSet;
