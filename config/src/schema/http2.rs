//! `envoy/config/core/v3/protocol.proto`: HTTP/2; and the protocols that a cluster chooses from.

use super::{Duration, Http1ProtocolOptions, Percent, schema, schema_enum};

schema! {
    const HTTP2;

    struct Http2ProtocolOptions = "envoy.config.core.v3.Http2ProtocolOptions" {
        hpack_table_size: Option<u32>,
        max_concurrent_streams: Option<u32>,
        initial_stream_window_size: Option<u32>,
        initial_connection_window_size: Option<u32>,
        allow_connect: bool,
        allow_metadata: bool,
        max_outbound_frames: Option<u32>,
        max_outbound_control_frames: Option<u32>,
        max_consecutive_inbound_frames_with_empty_payload: Option<u32>,
        max_inbound_priority_frames_per_stream: Option<u32>,
        max_inbound_window_update_frames_per_data_frame_sent: Option<u32>,
        stream_error_on_invalid_http_messaging: bool,
        override_stream_error_on_invalid_http_message: Option<bool>,
        custom_settings_parameters: Vec<SettingsParameter>,
        connection_keepalive: Option<KeepaliveSettings>,
        enable_huffman_encoding: Option<bool>,
        max_header_field_size_kb: Option<u32>,
        disallow_obs_text: Option<bool>,
        stream_reset_burst: Option<u64>,
        stream_reset_rate: Option<u64>,
    } harmless {
        max_metadata_size: "it limits METADATA frames, which Corvoy does not accept",
        use_oghttp2_codec: "Corvoy has one HTTP/2 codec",
    }

    struct SettingsParameter = "envoy.config.core.v3.Http2ProtocolOptions.SettingsParameter" {
        identifier: Option<u32>,
        value: Option<u32>,
    }

    struct KeepaliveSettings = "envoy.config.core.v3.KeepaliveSettings" {
        interval: Option<Duration>,
        timeout: Option<Duration>,
        interval_jitter: Option<Percent>,
        connection_idle_interval: Option<Duration>,
    }

    struct UseDownstreamHttpConfig =
        "envoy.extensions.upstreams.http.v3.HttpProtocolOptions.UseDownstreamHttpConfig" {
        http_protocol_options: Option<Http1ProtocolOptions>,
        http2_protocol_options: Option<Http2ProtocolOptions>,
    }

    struct AutoHttpConfig =
        "envoy.extensions.upstreams.http.v3.HttpProtocolOptions.AutoHttpConfig" {
        http_protocol_options: Option<Http1ProtocolOptions>,
        http2_protocol_options: Option<Http2ProtocolOptions>,
    }
}

schema_enum! {
    enum ClusterProtocolSelection = "envoy.config.cluster.v3.Cluster.ClusterProtocolSelection" {
        UseConfiguredProtocol, UseDownstreamProtocol,
    }
}
