//! The entries of the admin endpoint's access logs: one for each request, however it ends.

use std::io::Write as _;
use std::net::IpAddr;
use std::time::{Duration, Instant, SystemTime};

use hyper::Request;
use hyper::body::Incoming;
use hyper::http::response::Parts;

use crate::access_log::AccessLogs;
use crate::access_log::entry_type::EntryType;
use crate::address::Address;
use crate::flags::{Flag, Flags};
use crate::format::{Inputs, StreamInfo};
use crate::http::{FieldName, HeadLimits, RequestHead, ResponseHead, Version};

/// Both ends of a connection to the endpoint.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ends {
    pub(super) peer: Address,
    pub(super) local: Address,
    /// Its id, unique in this process.
    pub(super) id: u64,
}

/// What an entry shows of a request.
#[derive(Debug)]
pub(super) struct Entry {
    ends: Ends,
    started: SystemTime,
    since: Instant,
    request: Option<RequestHead>,
    response: ResponseHead,
    flags: Flags,
    details: &'static str,
    /// Bytes of the response's body so far.
    bytes_sent: u64,
    duration: Duration,
}

impl Entry {
    /// For a request that has just been received.
    pub(super) fn new(
        ends: Ends,
        request: &Request<Incoming>,
        own_address: Option<IpAddr>,
    ) -> Self {
        let mut request = head_of(request);
        if let Some(request) = &mut request {
            // As by Envoy's connection manager with `use_remote_address`.
            let client = ends
                .peer
                .ip()
                .map(|ip| if ip.is_loopback() { own_address.unwrap_or(ip) } else { ip });
            let client = client.map(|ip| ip.to_string()).unwrap_or_default();
            request.fields.join(FieldName::XForwardedFor, b",", client.as_bytes());
            request.fields.set(FieldName::XForwardedProto, b"http");
        }
        Self { request, ..Self::without_head(ends) }
    }

    /// For a request whose head is malformed: it gets 400.
    pub(super) fn malformed(ends: Ends) -> Self {
        let mut entry = Self { details: "http1.codec_error", ..Self::without_head(ends) };
        entry.response.status = 400;
        entry.flags.set(Flag::DownstreamProtocolError);
        entry
    }

    fn without_head(ends: Ends) -> Self {
        Self {
            ends,
            started: SystemTime::now(),
            since: Instant::now(),
            request: None,
            response: ResponseHead::default(),
            flags: Flags::NONE,
            details: "admin_filter_response",
            bytes_sent: 0,
            duration: Duration::ZERO,
        }
    }

    /// Notes the head of the response.
    pub(super) fn answered(&mut self, response: &Parts) {
        self.response.status = response.status.as_u16();
        for (name, value) in &response.headers {
            self.response.fields.append_other(name.as_str().as_bytes(), value.as_bytes());
        }
    }

    /// Counts bytes of the response's body.
    pub(super) const fn sent(&mut self, bytes: usize) {
        self.bytes_sent += bytes as u64;
    }

    /// Notes that the client has gone before the response was complete.
    pub(super) fn cut_off(&mut self) {
        self.flags.set(Flag::DownstreamConnectionTermination);
        self.details = "downstream_remote_disconnect";
    }

    /// Writes the entry.
    pub(super) fn write(mut self, logs: &AccessLogs) {
        self.duration = self.since.elapsed();
        let inputs = Inputs {
            request: self.request.as_ref(),
            response: Some(&self.response),
            entry_type: EntryType::DownstreamEnd,
            ..Inputs::new(&self)
        };
        logs.write_from_control(&inputs, fastrand::u64(..));
    }
}

/// The head of a request as formats read it.
fn head_of(request: &Request<Incoming>) -> Option<RequestHead> {
    let mut head = RequestHead::default();
    let text = head.received();
    let (method, target, version) = (request.method(), request.uri(), request.version());
    // Writing to a Vec does not fail.
    let _infallible = write!(text, "{method} {target} {version:?}\r\n");
    for (name, value) in request.headers() {
        text.extend_from_slice(name.as_str().as_bytes());
        text.extend_from_slice(b": ");
        text.extend_from_slice(value.as_bytes());
        text.extend_from_slice(b"\r\n");
    }
    text.extend_from_slice(b"\r\n");
    let limits = HeadLimits {
        bytes_max: head.received().len(),
        fields_max: request.headers().len(),
        accept_http_10: true,
        allow_custom_methods: true,
        ..HeadLimits::default()
    };
    head.parse(&limits).ok()?;
    Some(head)
}

impl StreamInfo for Entry {
    fn start_time(&self) -> SystemTime {
        self.started
    }

    fn duration(&self) -> Option<Duration> {
        Some(self.duration)
    }

    fn protocol(&self) -> Option<Version> {
        Some(self.request.as_ref().map_or(Version::Http11, |head| head.version))
    }

    fn response_code(&self) -> Option<u16> {
        Some(self.response.status)
    }

    fn response_code_details(&self) -> Option<&str> {
        Some(self.details)
    }

    fn response_flags(&self) -> Flags {
        self.flags
    }

    fn bytes_sent(&self) -> u64 {
        self.bytes_sent
    }

    fn downstream_remote_address(&self) -> Option<Address> {
        Some(self.ends.peer)
    }

    fn downstream_direct_remote_address(&self) -> Option<Address> {
        Some(self.ends.peer)
    }

    fn downstream_local_address(&self) -> Option<Address> {
        Some(self.ends.local)
    }

    fn connection_id(&self) -> Option<u64> {
        Some(self.ends.id)
    }
}
