//! What the commands of a format can read: a request with its response, or a connection.

use std::borrow::Cow;
use std::time::{Duration, SystemTime};

use crate::access_log::entry_type::EntryType;
use crate::address::Address;
use crate::flags::Flags;
use crate::http::{Fields, RequestHead, ResponseHead, Version};
use crate::listener_facts::ListenerFacts;
use crate::metadata::{Metadata, MetadataOf};
use crate::transport::tls::facts::TlsFacts;

/// What the commands of a format read.
#[derive(Clone, Copy)]
#[expect(missing_debug_implementations, reason = "it only borrows, for the time of one call")]
pub struct Inputs<'a> {
    /// The request, if there is one.
    pub request: Option<&'a RequestHead>,
    /// The response, if there is one yet.
    pub response: Option<&'a ResponseHead>,
    /// The trailers of the response, if they have come.
    pub trailers: Option<&'a Fields>,
    /// Everything else.
    pub stream: &'a dyn StreamInfo,
    /// The body of the local reply that is being formatted.
    pub local_reply_body: &'a [u8],
    /// Why the text is written, if it is the entry of an access log.
    pub entry_type: EntryType,
}

/// What is known about a request besides its heads. What is not known yet, or does not exist,
/// is `None`.
#[expect(missing_docs, reason = "each is the operator of that name in Envoy's documentation")]
pub trait StreamInfo {
    /// When the first byte of the request was received.
    fn start_time(&self) -> SystemTime;

    /// The version that the client speaks.
    fn protocol(&self) -> Option<Version> {
        None
    }
    fn response_code(&self) -> Option<u16> {
        None
    }
    fn response_code_details(&self) -> Option<&str> {
        None
    }
    fn connection_termination_details(&self) -> Option<&str> {
        None
    }
    fn response_flags(&self) -> Flags {
        Flags::NONE
    }
    /// Whether it is a health check that the `health_check` filter has recognized.
    fn is_health_check(&self) -> bool {
        false
    }
    /// Bytes of the request body.
    fn bytes_received(&self) -> u64 {
        0
    }
    /// Bytes of the response body.
    fn bytes_sent(&self) -> u64 {
        0
    }
    /// From start to end.
    fn duration(&self) -> Option<Duration> {
        None
    }
    /// From start to the last byte of the request.
    fn request_duration(&self) -> Option<Duration> {
        None
    }
    /// From start to the first byte of the upstream's response.
    fn response_duration(&self) -> Option<Duration> {
        None
    }
    /// From the first byte of the upstream's response to the last byte sent to the client.
    fn response_tx_duration(&self) -> Option<Duration> {
        None
    }
    /// The host that was chosen, connected or not.
    fn upstream_host(&self) -> Option<Address> {
        None
    }
    /// The peer of the connection to it.
    fn upstream_remote_address(&self) -> Option<Address> {
        None
    }
    fn upstream_host_name(&self) -> Option<&str> {
        None
    }
    fn upstream_local_address(&self) -> Option<Address> {
        None
    }
    /// The name in its stats.
    fn upstream_cluster(&self) -> Option<&str> {
        None
    }
    fn upstream_cluster_raw(&self) -> Option<&str> {
        None
    }
    fn upstream_request_attempt_count(&self) -> u32 {
        0
    }
    fn upstream_transport_failure_reason(&self) -> Option<Cow<'_, str>> {
        None
    }
    fn route_name(&self) -> Option<&str> {
        None
    }
    fn virtual_cluster_name(&self) -> Option<&str> {
        None
    }
    /// The address of the client, also as given by trusted headers.
    fn downstream_remote_address(&self) -> Option<Address> {
        None
    }
    /// The peer of the connection.
    fn downstream_direct_remote_address(&self) -> Option<Address> {
        None
    }
    fn downstream_local_address(&self) -> Option<Address> {
        None
    }
    /// The dynamic metadata of a request, or of a connection without HTTP. As in Envoy a request does not
    /// see that of its connection.
    fn dynamic_metadata(&self) -> Option<&Metadata> {
        None
    }
    /// The text of an object in the filter state, other than those that listener filters set.
    fn filter_state(&self, _key: &str) -> Option<&str> {
        None
    }
    /// What listener filters have found out about the client's connection.
    fn listener_facts(&self) -> Option<&ListenerFacts> {
        None
    }
    /// What is known of the TLS of the client's connection.
    fn downstream_tls(&self) -> Option<&TlsFacts> {
        None
    }
    fn downstream_transport_failure_reason(&self) -> Option<&str> {
        None
    }
    /// What is known of the TLS of the connection to the host.
    fn upstream_tls(&self) -> Option<&TlsFacts> {
        None
    }
    /// In lower case.
    fn requested_server_name(&self) -> Option<&str> {
        None
    }
    fn connection_id(&self) -> Option<u64> {
        None
    }
    fn upstream_connection_id(&self) -> Option<u64> {
        None
    }
    /// The version that the connection to the host speaks.
    fn upstream_protocol(&self) -> Option<Version> {
        None
    }
    fn listener_name(&self) -> Option<&str> {
        None
    }
    fn filter_chain_name(&self) -> Option<&str> {
        None
    }
    /// The address that the connection was accepted on, also if it is for another one.
    fn downstream_direct_local_address(&self) -> Option<Address> {
        let direct = self.listener_facts().and_then(|facts| facts.direct_local);
        direct.or_else(|| self.downstream_local_address())
    }
    /// The metadata that the configuration gives to a part of it.
    fn static_metadata(&self, _of: MetadataOf) -> Option<&Metadata> {
        None
    }
    /// When something happened, since the start.
    fn time_point(&self, point: TimePoint) -> Option<Duration> {
        match point {
            TimePoint::DownstreamRxBegin => Some(Duration::ZERO),
            TimePoint::DownstreamRxEnd => self.request_duration(),
            TimePoint::UpstreamRxBegin => self.response_duration(),
            TimePoint::DownstreamTxEnd => {
                self.response_duration()?.checked_add(self.response_tx_duration()?)
            }
        }
    }
}

/// A moment in the life of a request.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[expect(
    missing_docs,
    reason = "each is a time point of `COMMON_DURATION`: Rx is received, Tx is sent"
)]
pub enum TimePoint {
    DownstreamRxBegin,
    DownstreamRxEnd,
    DownstreamTxEnd,
    UpstreamRxBegin,
}

impl<'a> Inputs<'a> {
    /// Only the stream; the rest is added with `..`.
    pub fn new(stream: &'a dyn StreamInfo) -> Self {
        Self {
            request: None,
            response: None,
            trailers: None,
            stream,
            local_reply_body: &[],
            entry_type: EntryType::NotSet,
        }
    }
}
