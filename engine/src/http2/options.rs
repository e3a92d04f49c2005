//! The options of a connection. The defaults are Envoy's.

use std::time::Duration;

/// `Http2ProtocolOptions`
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Options {
    /// The most bytes of the decoder's dynamic table. Default 4096.
    pub hpack_table_size: u32,
    /// The most streams at once that the peer may begin, or that we do. Default 1024.
    pub max_concurrent_streams: u32,
    /// Bytes that a peer may send on a stream before they are read, 65,535 to 2^31 - 1. Default 16 MiB.
    pub initial_stream_window_size: u32,
    /// The same for all streams together. Default 24 MiB.
    pub initial_connection_window_size: u32,
    /// Whether extended CONNECT (RFC 8441) is offered.
    pub allow_connect: bool,
    /// Whether strings of header blocks are written by the Huffman code. Default true.
    pub enable_huffman_encoding: bool,
    /// Whether a value with a byte above 0x7f is malformed.
    pub disallow_obs_text: bool,
    /// The most bytes of the payload of a frame of the peer, 16,384 to 2^24 - 1. Default 16,384.
    pub max_frame_size: u32,
    /// More SETTINGS, by number.
    pub custom_settings: Box<[(u16, u32)]>,
    /// The most frames that may wait to be sent. Default 10,000.
    pub max_outbound_frames: u32,
    /// The most of them that are answers to control frames. Default 1000.
    pub max_outbound_control_frames: u32,
    /// The most frames without content in a row. Default 1.
    pub max_consecutive_inbound_frames_with_empty_payload: u32,
    /// The most PRIORITY frames for each stream. Default 100.
    pub max_inbound_priority_frames_per_stream: u32,
    /// The most WINDOW_UPDATE frames for each DATA frame that was sent. Default 10.
    pub max_inbound_window_update_frames_per_data_frame_sent: u32,
    /// So many resets are allowed at once. Default 1000.
    pub stream_reset_burst: u32,
    /// So many more each second. Default 33.
    pub stream_reset_rate: u32,
    /// The most bytes of the name and the value of one field. Default 64 KiB.
    pub max_header_field_size: u32,
    /// What a malformed message ends.
    pub stream_errors: StreamErrors,
    /// `connection_keepalive`: PINGs, which the owner of a connection sends.
    pub keepalive: Option<Keepalive>,
}

/// `override_stream_error_on_invalid_http_message`
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum StreamErrors {
    /// The connection.
    #[default]
    EndTheConnection,
    /// Its stream.
    EndTheStream,
}

/// When PINGs are sent, and how long an answer may take.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Keepalive {
    /// Time between PINGs; none: they are not sent regularly.
    pub interval: Option<Duration>,
    /// By how many percent of the interval it may be longer. Default 15.
    pub interval_jitter_percent: u32,
    /// How long the answer may take before the connection is closed.
    pub timeout: Duration,
    /// Upstream: how long a connection may be idle before its next request sends a PING first.
    pub connection_idle_interval: Option<Duration>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            hpack_table_size: 4096,
            max_concurrent_streams: 1024,
            initial_stream_window_size: 16 * 1024 * 1024,
            initial_connection_window_size: 24 * 1024 * 1024,
            allow_connect: false,
            enable_huffman_encoding: true,
            disallow_obs_text: false,
            max_frame_size: 16_384,
            custom_settings: Box::default(),
            max_outbound_frames: 10_000,
            max_outbound_control_frames: 1000,
            max_consecutive_inbound_frames_with_empty_payload: 1,
            max_inbound_priority_frames_per_stream: 100,
            max_inbound_window_update_frames_per_data_frame_sent: 10,
            stream_reset_burst: 1000,
            stream_reset_rate: 33,
            max_header_field_size: 64 * 1024,
            stream_errors: StreamErrors::default(),
            keepalive: None,
        }
    }
}
