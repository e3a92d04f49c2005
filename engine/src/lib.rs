//! The proxy as a library. The modules stand in the order in which a request meets them:
//!
//! ```text
//!  1. `shard`       one thread, one core, one ring; a request meets nothing that shards share
//!  2. `downstream`  a listener accepts a connection of a client
//!  3.               the connection gets its filter chain
//!  4.               `connection::serve` reads a head and comes back here for the next one
//!  5.               `normalize` applies the connection manager's header rules
//!  6. `http1`       is the codec underneath, both ways: pure bytes, no I/O; `http` has the heads
//!  7. `request`     the route table names the cluster
//!  8.               the filters have their say
//!  9.               `forward` makes attempts until an answer can be given
//! 10. `upstream`    the cluster knows its hosts,
//! 11.               its balancer chooses one,
//! 12.               and the host's pool lends a connection
//! ```
//!
//! Arrows go down only: `downstream` uses `request`, `request` uses `upstream`. Everything may use
//! `http`, `http1`, `stats` and `limits`; nothing uses `control`, which looks at everything.

pub mod shard;

pub mod downstream;

pub mod http;

pub mod http1;

pub mod request;

pub mod upstream;

pub mod compile;

pub mod snapshot;

pub mod format;

pub mod flags;

pub mod runtime;

pub mod log_filter;

pub mod stats;

pub mod limits;

mod re2;

pub mod control;
