//! Stats of HTTP connection managers and their router.

use crate::stats::stats;

stats! {
    /// `http.<stat_prefix>.`: the connection manager.
    pub struct HttpStats {
        gauge downstream_cx_active;
        counter downstream_cx_delayed_close_timeout;
        counter downstream_cx_destroy;
        counter downstream_cx_destroy_active_rq;
        counter downstream_cx_destroy_local;
        counter downstream_cx_destroy_local_active_rq;
        counter downstream_cx_destroy_remote;
        counter downstream_cx_destroy_remote_active_rq;
        counter downstream_cx_drain_close;
        gauge downstream_cx_http1_active;
        constant gauge downstream_cx_http1_soft_drain;
        counter downstream_cx_http1_total;
        gauge downstream_cx_http2_active;
        counter downstream_cx_http2_total;
        constant gauge downstream_cx_http3_active;
        constant counter downstream_cx_http3_total;
        counter downstream_cx_idle_timeout;
        histogram downstream_cx_length_ms;
        counter downstream_cx_max_duration_reached;
        counter downstream_cx_max_requests_reached;
        constant counter downstream_cx_overload_disable_keepalive;
        counter downstream_cx_protocol_error;
        gauge downstream_cx_rx_bytes_buffered;
        counter downstream_cx_rx_bytes_total;
        gauge downstream_cx_ssl_active;
        counter downstream_cx_ssl_total;
        counter downstream_cx_total;
        gauge downstream_cx_tx_bytes_buffered;
        counter downstream_cx_tx_bytes_total;
        gauge downstream_cx_upgrades_active;
        counter downstream_cx_upgrades_total;
        constant counter downstream_flow_control_paused_reading_total;
        constant counter downstream_flow_control_resumed_reading_total;
        counter downstream_rq_1xx;
        counter downstream_rq_2xx;
        counter downstream_rq_3xx;
        counter downstream_rq_4xx;
        counter downstream_rq_5xx;
        gauge downstream_rq_active;
        counter downstream_rq_completed;
        counter downstream_rq_failed_path_normalization;
        counter downstream_rq_header_timeout;
        counter downstream_rq_http1_total;
        counter downstream_rq_http2_total;
        constant counter downstream_rq_http3_total;
        counter downstream_rq_idle_timeout;
        counter downstream_rq_max_duration_reached;
        counter downstream_rq_non_relative_path;
        constant counter downstream_rq_overload_close;
        counter downstream_rq_redirected_with_normalized_path;
        constant counter downstream_rq_rejected_via_ip_detection;
        counter downstream_rq_response_before_rq_complete;
        counter downstream_rq_rx_reset;
        histogram downstream_rq_time;
        counter downstream_rq_timeout;
        counter downstream_rq_too_large;
        counter downstream_rq_too_many_premature_resets;
        counter downstream_rq_total;
        counter downstream_rq_tx_reset;
        counter downstream_rq_ws_on_non_ws_route;
        counter rs_too_large;
    }
}

stats! {
    /// `http.<stat_prefix>.` and `http.async-client.`: the router.
    pub struct RouterStats {
        counter no_cluster;
        counter no_route;
        counter passthrough_internal_redirect_bad_location;
        counter passthrough_internal_redirect_no_route;
        counter passthrough_internal_redirect_predicate;
        counter passthrough_internal_redirect_too_many_redirects;
        counter passthrough_internal_redirect_unsafe_scheme;
        counter rq_direct_response;
        constant counter rq_overload_local_reply;
        constant counter rq_redirect;
        constant counter rq_reset_after_downstream_response_started;
        counter rq_total;
    }
}

stats! {
    /// `http.<stat_prefix>.`: why a request was traced, or not.
    pub struct TracingStats {
        constant counter client_enabled = "tracing.client_enabled";
        counter health_check = "tracing.health_check";
        constant counter not_traceable = "tracing.not_traceable";
        constant counter random_sampling = "tracing.random_sampling";
        constant counter service_forced = "tracing.service_forced";
    }
}

stats! {
    /// `http1.`: the downstream codec.
    pub struct Http1Stats {
        counter dropped_headers_with_underscores;
        constant counter metadata_not_supported_error;
        counter requests_rejected_with_underscores_in_headers;
        counter response_flood;
    }
}

stats! {
    /// `http2.` of all connection managers, and `cluster.<name>.http2.`: the codec. The names appear with
    /// the first connection.
    late pub struct Http2Stats {
        constant counter cookies_total_bytes_too_large;
        gauge deferred_stream_close;
        counter dropped_headers_with_underscores;
        counter goaway_sent;
        counter header_list_size_too_large;
        counter header_overflow;
        counter headers_cb_no_stream;
        counter inbound_empty_frames_flood;
        counter inbound_priority_frames_flood;
        counter inbound_window_update_frames_flood;
        counter keepalive_timeout;
        constant counter metadata_empty_frames;
        counter nghttp2_downstream_connections;
        counter nghttp2_upstream_connections;
        constant counter oghttp2_downstream_connections;
        constant counter oghttp2_upstream_connections;
        counter outbound_control_flood;
        gauge outbound_control_frames_active;
        counter outbound_flood;
        gauge outbound_frames_active;
        gauge pending_send_bytes;
        counter requests_rejected_with_underscores_in_headers;
        counter rx_messaging_error;
        counter rx_reset;
        counter stream_refused_errors;
        gauge streams_active;
        counter trailers;
        counter tx_flush_timeout;
        counter tx_reset;

        histogram cookie_count;
        histogram cookie_size;
        histogram header_count;
        histogram header_list_size;
    }
}
