//! The decision of a filter about the bytes that have arrived so far. Pure.

use super::fingerprint;
use super::first_line::{self, FirstLine};
use super::{HttpInspectorStats, ProxyProtocol, TlsInspector, TlsInspectorStats};
use crate::address::Address;
use crate::downstream::filter_chain_match::{Detected, TransportProtocol};
use crate::listener_facts::ListenerFacts;
use crate::proxy_protocol::{self, Addresses, Malformed, Signature, Version, Versions};
use crate::transport::tls::client_hello::{ClientHello, FirstBytes, first_message};

/// What has been found out about a connection.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Found {
    /// The local address.
    pub local: Address,
    /// The remote address.
    pub remote: Address,
    /// What the first bytes say.
    pub detected: Detected,
    /// Everything else.
    pub facts: ListenerFacts,
}

/// How a filter continues.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Step {
    /// It is done; this many bytes were for it only.
    Continue { consumed: usize },
    /// It needs more bytes.
    Wait,
    /// The connection is closed.
    Close,
}

const DONE: Step = Step::Continue { consumed: 0 };

impl ProxyProtocol {
    pub(super) fn inspect(&self, shard: usize, bytes: &[u8], found: &mut Found) -> Step {
        let stats = self.stats.shard(shard);
        // Without a requirement, a version that is not allowed is content like any other.
        let looked_for = if self.optional { self.versions } else { Versions::BOTH };
        let version = match proxy_protocol::signature(bytes, looked_for) {
            Signature::Found(version) => version,
            Signature::Incomplete => return Step::Wait,
            Signature::Absent if self.optional => {
                stats.not_found_allowed.inc();
                return DONE;
            }
            Signature::Absent => {
                stats.not_found_disallowed.inc();
                self.errors.shard(shard).downstream_cx_proxy_proto_error.inc();
                return Step::Close;
            }
        };
        let (disallowed, error, header_found) = match version {
            Version::V1 => (&stats.v1_disallowed, &stats.v1_error, &stats.v1_found),
            Version::V2 => (&stats.v2_disallowed, &stats.v2_error, &stats.v2_found),
        };
        if !self.versions.include(version) {
            header_found.inc();
            disallowed.inc();
            return Step::Close;
        }
        match proxy_protocol::parse(bytes, version) {
            Ok(None) => Step::Wait,
            Ok(Some(header)) => {
                header_found.inc();
                if let Some(Addresses { source, destination }) = header.addresses {
                    (found.remote, found.local) = (source.into(), destination.into());
                }
                self.rules.apply(&header.tlvs, &mut found.facts);
                if let Some(passes) = &self.passes {
                    found.facts.passed_tlvs = header.tlvs;
                    found.facts.passed_tlvs.retain(|tlv| passes.include(tlv.kind));
                    // They are kept as long as the connection.
                    found.facts.passed_tlvs.shrink_to_fit();
                }
                Step::Continue { consumed: header.length }
            }
            Err(Malformed) => {
                error.inc();
                self.errors.shard(shard).downstream_cx_proxy_proto_error.inc();
                Step::Close
            }
        }
    }
}

impl TlsInspector {
    pub(super) fn inspect(&self, shard: usize, bytes: &[u8], found: &mut Found) -> Step {
        let stats = self.stats.shard(shard);
        let most = bytes.get(..self.hello_max).unwrap_or(bytes);
        let message = match first_message(most) {
            FirstBytes::Incomplete if most.len() < self.hello_max => return Step::Wait,
            FirstBytes::Incomplete => {
                stats.client_hello_too_large.inc();
                return Step::Close;
            }
            FirstBytes::ClientHello(message) => Some(message),
            FirstBytes::NotTls | FirstBytes::Malformed(_) => None,
        };
        let hello = message.as_deref().map(ClientHello::parse);
        let Some(Ok(hello)) = hello else {
            stats.tls_not_found.inc();
            stats.bytes_processed.record(most.len().min(RECORD_HEADER) as u64);
            return if self.only_tls { Step::Close } else { DONE };
        };
        stats.bytes_processed.record(most.len() as u64);
        detected(&hello, stats, &mut found.detected);
        found.facts.ja3 = self.ja3.then(|| fingerprint::ja3(&hello).into());
        found.facts.ja4 = self.ja4.then(|| fingerprint::ja4(&hello).into());
        DONE
    }
}

/// The bytes by which another protocol is told apart.
const RECORD_HEADER: usize = 5;

fn detected(hello: &ClientHello<'_>, stats: &TlsInspectorStats, detected: &mut Detected) {
    stats.tls_found.inc();
    detected.transport = TransportProtocol::Tls;
    match &hello.server_name {
        Some(name) => {
            stats.sni_found.inc();
            detected.server_name = name.to_ascii_lowercase();
        }
        None => stats.sni_not_found.inc(),
    }
    match &hello.alpn {
        Some(protocols) => {
            stats.alpn_found.inc();
            detected.application_protocols = protocols.iter().map(|it| it.to_vec()).collect();
        }
        None => stats.alpn_not_found.inc(),
    }
}

/// `http_inspector`
pub(super) fn http(stats: &HttpInspectorStats, bytes: &[u8], found: &mut Found) -> Step {
    if found.detected.transport != TransportProtocol::RawBuffer {
        return DONE;
    }
    let protocol = match first_line::inspect(bytes) {
        FirstLine::Incomplete => return Step::Wait,
        FirstLine::NotHttp => {
            stats.http_not_found.inc();
            return DONE;
        }
        FirstLine::Http10 => {
            stats.http10_found.inc();
            "http/1.0"
        }
        FirstLine::Http11 => {
            stats.http11_found.inc();
            "http/1.1"
        }
        FirstLine::Http2 => {
            stats.http2_found.inc();
            "h2c"
        }
    };
    found.detected.application_protocols = vec![protocol.as_bytes().to_vec()];
    DONE
}
