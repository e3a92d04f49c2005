//! `envoy/config/listener/v3`.

use super::{
    AccessLog, Address, Any, CidrRange, Duration, Int32Range, Matcher, Metadata,
    ProxyProtocolPassThroughTlvs, ProxyProtocolVersion, SocketOption, SocketOptionsOverride,
    TcpKeepalive, TransportSocket, schema, schema_enum,
};

schema! {
    const LISTENER;

    struct Listener = "envoy.config.listener.v3.Listener" {
        name: String,
        address: Option<Address>,
        stat_prefix: String,
        filter_chains: Vec<FilterChain>,
        default_filter_chain: Option<FilterChain>,
        filter_chain_matcher: Option<Matcher>,
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
        listener_filters: Vec<ListenerFilter>,
        socket_options: Vec<SocketOption>,
        additional_addresses: Vec<AdditionalAddress>,
        use_original_dst: Option<bool>,
        listener_filters_timeout: Option<Duration>,
        continue_on_listener_filters_timeout: bool,
        metadata: Option<Metadata>,
        access_log: Vec<AccessLog>,
    }

    struct AdditionalAddress = "envoy.config.listener.v3.AdditionalAddress" {
        address: Option<Address>,
        socket_options: Option<SocketOptionsOverride>,
    }

    struct ConnectionBalanceConfig = "envoy.config.listener.v3.Listener.ConnectionBalanceConfig" {
        exact_balance: Option<ExactBalance>,
    }

    struct ExactBalance = "envoy.config.listener.v3.Listener.ConnectionBalanceConfig.ExactBalance" {}

    struct FilterChain = "envoy.config.listener.v3.FilterChain" {
        filter_chain_match: Option<FilterChainMatch>,
        filters: Vec<Filter>,
        transport_socket: Option<TransportSocket>,
        name: String,
        transport_socket_connect_timeout: Option<Duration>,
        metadata: Option<Metadata>,
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
    }

    struct ListenerFilter = "envoy.config.listener.v3.ListenerFilter" {
        name: String,
        typed_config: Option<Any>,
        filter_disabled: Option<ListenerFilterChainMatchPredicate>,
    }

    struct ListenerFilterChainMatchPredicate =
        "envoy.config.listener.v3.ListenerFilterChainMatchPredicate" {
        or_match: Option<PredicateMatchSet>,
        and_match: Option<PredicateMatchSet>,
        not_match: Option<Box<ListenerFilterChainMatchPredicate>>,
        any_match: Option<bool>,
        destination_port_range: Option<Int32Range>,
    }

    struct PredicateMatchSet = "envoy.config.listener.v3.ListenerFilterChainMatchPredicate.MatchSet" {
        rules: Vec<ListenerFilterChainMatchPredicate>,
    }

    struct OriginalDst = "envoy.extensions.filters.listener.original_dst.v3.OriginalDst" {}

    struct HttpInspector = "envoy.extensions.filters.listener.http_inspector.v3.HttpInspector" {}

    struct TlsInspector = "envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector" {
        enable_ja3_fingerprinting: Option<bool>,
        enable_ja4_fingerprinting: Option<bool>,
        close_connection_on_client_hello_parsing_errors: bool,
        max_client_hello_size: Option<u32>,
    } harmless {
        initial_read_buffer_size: "the buffer has the size of what has arrived",
    }

    struct ProxyProtocol = "envoy.extensions.filters.listener.proxy_protocol.v3.ProxyProtocol" {
        allow_requests_without_proxy_protocol: bool,
        disallowed_versions: Vec<ProxyProtocolVersion>,
        stat_prefix: String,
        rules: Vec<ProxyProtocolRule>,
        tlv_location: TlvLocation,
        pass_through_tlvs: Option<ProxyProtocolPassThroughTlvs>,
    }

    struct ProxyProtocolRule = "envoy.extensions.filters.listener.proxy_protocol.v3.ProxyProtocol.Rule" {
        tlv_type: u32,
        on_tlv_present: Option<ProxyProtocolKeyValuePair>,
    }

    struct ProxyProtocolKeyValuePair =
        "envoy.extensions.filters.listener.proxy_protocol.v3.ProxyProtocol.KeyValuePair" {
        metadata_namespace: String,
        key: String,
        value_string_encoding: ValueStringEncoding,
    }

    struct Filter = "envoy.config.listener.v3.Filter" {
        name: String,
        typed_config: Option<Any>,
    }
}

schema_enum! {
    enum TlvLocation = "envoy.extensions.filters.listener.proxy_protocol.v3.ProxyProtocol.TlvLocation" {
        DynamicMetadata, FilterState,
    }

    enum ValueStringEncoding =
        "envoy.extensions.filters.listener.proxy_protocol.v3.ProxyProtocol.KeyValuePair.ValueStringEncoding" {
        Unspecified, SanitizedUtf8, Base64,
    }

    enum TrafficDirection = "envoy.config.core.v3.TrafficDirection" { Unspecified, Inbound, Outbound }

    enum DrainType = "envoy.config.listener.v3.Listener.DrainType" { Default, ModifyOnly }

    enum ConnectionSourceType = "envoy.config.listener.v3.FilterChainMatch.ConnectionSourceType" {
        Any, SameIpOrLoopback, External,
    }
}
