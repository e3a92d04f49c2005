//! The proxy as a library. The modules are listed in the order in which a request passes them:
//!
//! ```text
//!  1. `shard`       one thread, one core, one ring; nothing on the request path is shared
//!  2. `transport`   what carries the bytes: a socket, or TLS over one
//!  3. `downstream`  a listener accepts a client connection, which gets its filter chain
//!  4.               `connection::serve` reads request heads in a loop
//!  5. `http1`       the codec for both sides: pure bytes, no I/O; `http` has the heads
//!  6. `request`     the connection manager normalizes the head
//!  7.               the route table selects the cluster
//!  8.               the HTTP filters run
//!  9.               `forward` makes attempts until there is a response
//! 10. `upstream`    the cluster has hosts,
//! 11.               its load balancer picks one,
//! 12.               and the host's pool leases a connection
//! ```
//!
//! Dependencies point downwards only: `downstream` uses `request`, `request` uses `upstream`. Every
//! module may use `http`, `http1`, `stats` and `limits`; none uses `control`, which may use all.
//!
//! A comment `//= rfc9112#section-6.3` names the rule that the code below it implements;
//! `//= envoy: …` names Envoy's behaviour, or the field of its API, that the code follows.

pub mod address;

pub mod shard;

pub mod transport;

pub mod pipe;

pub mod downstream;

pub mod http;

pub mod http1;

pub mod http2;

pub mod request;

pub mod tcp;

pub mod upstream;

pub mod session;

pub mod compile;

mod common_compile;
pub mod dynamic_compile;
mod resources_compile;
mod routes_compile;
mod runtime_compile;

pub mod config_source;

pub mod compression;
pub mod explain;

pub mod listener_facts;

pub mod filter_state;

pub mod node;

pub mod snapshot;

mod fingerprint;
pub mod in_force;

pub mod access_log;

pub mod format;

pub mod flags;

pub mod fraction;

pub mod head_matcher;

pub mod hash;

pub mod runtime;

mod uuid;

pub mod metadata;

pub mod metadata_matcher;

pub mod cel;

pub mod rbac;

mod untrusted;

pub mod matcher;

mod radix;

pub mod stats;

pub mod stats_sink;

pub mod remote_service;

pub mod otlp;

pub mod admin_settings;

pub mod limits;

pub mod token_bucket;

pub mod proxy_protocol;

pub mod text_matcher;

mod re2;

pub mod control;
