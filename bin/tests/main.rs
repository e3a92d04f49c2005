//! Stories about the `corvoy` binary as its users see it: a process, sockets, bytes.
//!
//! They are one test binary, because linking one is faster than linking ten.

#[cfg(test)]
mod support;

#[cfg(test)]
mod access_log_services;
#[cfg(test)]
mod access_logs;
#[cfg(test)]
mod admin;
#[cfg(test)]
mod bodies;
#[cfg(test)]
mod client_certificates;
#[cfg(test)]
mod clusters;
#[cfg(test)]
mod config_dumps;
#[cfg(test)]
mod configuration;
#[cfg(test)]
mod connection_balance;
#[cfg(test)]
mod connection_limits;
#[cfg(test)]
mod connections;
#[cfg(test)]
mod consistent_hashing;
#[cfg(test)]
mod containers;
#[cfg(test)]
mod descriptors;
#[cfg(test)]
mod disconnects;
#[cfg(test)]
mod draining;
#[cfg(test)]
mod dynamic_resources;
#[cfg(test)]
mod edge;
#[cfg(test)]
mod edge_filters;
#[cfg(test)]
mod examples;
#[cfg(test)]
mod explain;
#[cfg(test)]
mod ext_authz;
#[cfg(test)]
mod ext_proc;
#[cfg(test)]
mod fairness;
#[cfg(test)]
mod grpc;
#[cfg(test)]
mod half_close;
#[cfg(test)]
mod handshakes;
#[cfg(test)]
mod health_checks;
#[cfg(test)]
mod http2_clients;
#[cfg(test)]
mod http2_origins;
#[cfg(test)]
mod http_filters;
#[cfg(test)]
mod installing;
#[cfg(test)]
mod internal_redirects;
#[cfg(test)]
mod interoperability;
#[cfg(test)]
mod jwt_authn;
#[cfg(test)]
mod listeners;
#[cfg(test)]
mod lua;
#[cfg(test)]
mod management_servers;
#[cfg(test)]
mod mirrors;
#[cfg(test)]
mod network_filters;
#[cfg(test)]
mod outages;
#[cfg(test)]
mod outliers;
#[cfg(test)]
mod parity;
#[cfg(test)]
mod pipes;
#[cfg(test)]
mod process;
#[cfg(test)]
mod prometheus;
#[cfg(test)]
mod random_resources;
#[cfg(test)]
mod ratelimit;
#[cfg(test)]
mod reloading;
#[cfg(test)]
mod retries;
#[cfg(test)]
mod rolling_upgrade;
#[cfg(test)]
mod runtime;
#[cfg(test)]
mod secrets;
#[cfg(test)]
mod server_names;
#[cfg(test)]
mod service_manager;
#[cfg(test)]
mod stats;
#[cfg(test)]
mod stats_config;
#[cfg(test)]
mod stats_sinks;
#[cfg(test)]
mod tcp;
#[cfg(test)]
mod timeouts;
#[cfg(test)]
mod tls;
#[cfg(test)]
mod upgrades;
#[cfg(test)]
mod waiting;
#[cfg(test)]
mod walkthrough;
