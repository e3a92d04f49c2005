//! `envoy/config/listener/v3`.

use super::{Address, Any, CidrRange, Duration, TcpKeepalive, schema, schema_enum};

schema! {
    const LISTENER;

    struct Listener = "envoy.config.listener.v3.Listener" {
        name: String,
        address: Option<Address>,
        stat_prefix: String,
        filter_chains: Vec<FilterChain>,
        default_filter_chain: Option<FilterChain>,
        per_connection_buffer_limit_bytes: Option<u32>,
        drain_type: DrainType,
        traffic_direction: TrafficDirection,
        freebind: Option<bool>,
        transparent: Option<bool>,
        tcp_fast_open_queue_length: Option<u32>,
        tcp_backlog_size: Option<u32>,
        tcp_keepalive: Option<TcpKeepalive>,
        bind_to_port: Option<bool>,
        reuse_port: bool,
        enable_reuse_port: Option<bool>,
        ignore_global_conn_limit: bool,
        bypass_overload_manager: bool,
        max_connections_to_accept_per_socket_event: Option<u32>,
        connection_balance_config: Option<ConnectionBalanceConfig>,
    } harmless {
        metadata: "only extensions that Corvoy refuses read it",
    }

    struct ConnectionBalanceConfig = "envoy.config.listener.v3.Listener.ConnectionBalanceConfig" {
        exact_balance: Option<ExactBalance>,
    }

    struct ExactBalance = "envoy.config.listener.v3.Listener.ConnectionBalanceConfig.ExactBalance" {}

    struct FilterChain = "envoy.config.listener.v3.FilterChain" {
        filter_chain_match: Option<FilterChainMatch>,
        filters: Vec<Filter>,
        name: String,
        transport_socket_connect_timeout: Option<Duration>,
    } harmless {
        metadata: "only extensions that Corvoy refuses read it",
    }

    struct FilterChainMatch = "envoy.config.listener.v3.FilterChainMatch" {
        destination_port: Option<u32>,
        prefix_ranges: Vec<CidrRange>,
        direct_source_prefix_ranges: Vec<CidrRange>,
        source_type: ConnectionSourceType,
        source_prefix_ranges: Vec<CidrRange>,
        source_ports: Vec<u32>,
        server_names: Vec<String>,
        transport_protocol: String,
        application_protocols: Vec<String>,
    } harmless {
        address_suffix: "not implemented by Envoy either",
        suffix_len: "not implemented by Envoy either",
    }

    struct Filter = "envoy.config.listener.v3.Filter" {
        name: String,
        typed_config: Option<Any>,
    }
}

schema_enum! {
    enum TrafficDirection = "envoy.config.core.v3.TrafficDirection" { Unspecified, Inbound, Outbound }

    enum DrainType = "envoy.config.listener.v3.Listener.DrainType" { Default, ModifyOnly }

    enum ConnectionSourceType = "envoy.config.listener.v3.FilterChainMatch.ConnectionSourceType" {
        Any, SameIpOrLoopback, External,
    }
}
