//! Listener filters: what happens to a connection before it has a filter chain.
//!
//! They look at its first bytes and at the kernel's view of it, and find out its addresses, transport
//! protocol, server name and application protocols. They do not answer: a connection that they refuse
//! is closed. Read `run` first.
//!
//! Invariant: a byte that was received is either consumed by a filter or becomes the first byte of
//! the connection. Nothing is peeked at twice, and what is buffered for a connection is bounded.

pub mod compile;
mod fingerprint;
pub mod first_line;
mod inspect;
pub mod predicate;
mod run;
#[cfg(test)]
mod tests;
pub mod tlv_rules;

use std::sync::Arc;
use std::time::Duration;

use self::predicate::Predicate;
use crate::proxy_protocol::{TlvTypes, Versions};
use crate::stats::{Scope, stats};

pub(super) use run::run;

/// The listener filters of a listener.
#[derive(Debug)]
pub struct ListenerFilters {
    /// In their order.
    pub filters: Vec<ListenerFilter>,
    /// How long all of them may take together; `None`: as long as they want.
    pub timeout: Option<Duration>,
    /// What happens then.
    pub on_timeout: OnTimeout,
}

impl ListenerFilters {
    /// Adds `original_dst` after the others, unless it is there, as `use_original_dst` does.
    pub fn add_original_dst(&mut self) {
        let is_there = self.filters.iter().any(|it| matches!(it.kind, Kind::OriginalDst));
        if !is_there {
            self.filters.push(ListenerFilter { disabled: None, kind: Kind::OriginalDst });
        }
    }
}

/// `continue_on_listener_filters_timeout`
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum OnTimeout {
    /// The connection is closed.
    Close,
    /// It is served with what has been found out.
    Continue,
}

/// One listener filter.
#[derive(Debug)]
pub struct ListenerFilter {
    /// It is skipped for connections that match.
    pub disabled: Option<Predicate>,
    /// What it does.
    pub kind: Kind,
}

/// What a listener filter does.
#[derive(Debug)]
pub enum Kind {
    /// `original_dst`: takes the destination before a redirection by the kernel as the local address.
    OriginalDst,
    /// `proxy_protocol`: takes the addresses that a PROXY header announces.
    ProxyProtocol(ProxyProtocol),
    /// `tls_inspector`: detects TLS, the server name and the application protocols.
    TlsInspector(TlsInspector),
    /// `http_inspector`: detects the version of plaintext HTTP as application protocol.
    HttpInspector(Arc<Scope<HttpInspectorStats>>),
}

/// The options of `proxy_protocol`.
#[derive(Debug)]
pub struct ProxyProtocol {
    /// Those that are not in `disallowed_versions`.
    pub versions: Versions,
    /// `allow_requests_without_proxy_protocol`
    pub optional: bool,
    /// `rules`
    pub rules: tlv_rules::Rules,
    /// `pass_through_tlvs`: the values that may be passed on to hosts; `None`: no value.
    pub passes: Option<TlvTypes>,
    /// `proxy_proto.[<stat_prefix>.]`
    pub stats: Arc<Scope<ProxyProtocolStats>>,
    /// Counts all errors of all filters.
    pub errors: Arc<Scope<ProxyProtocolErrors>>,
}

/// The options of `tls_inspector`.
#[derive(Debug)]
pub struct TlsInspector {
    /// `max_client_hello_size`: how many bytes may be received until the ClientHello is complete.
    pub hello_max: usize,
    /// `close_connection_on_client_hello_parsing_errors`: whether what is not TLS is closed.
    pub only_tls: bool,
    /// `enable_ja3_fingerprinting`
    pub ja3: bool,
    /// `enable_ja4_fingerprinting`
    pub ja4: bool,
    /// `tls_inspector.`
    pub stats: Arc<Scope<TlsInspectorStats>>,
}

stats! {
    /// `tls_inspector.`
    pub struct TlsInspectorStats {
        counter alpn_found;
        counter alpn_not_found;
        histogram bytes_processed;
        counter client_hello_too_large;
        counter sni_found;
        counter sni_not_found;
        counter tls_found;
        counter tls_not_found;
    }
}

stats! {
    /// `http_inspector.`
    pub struct HttpInspectorStats {
        counter http10_found;
        counter http11_found;
        counter http2_found;
        counter http_not_found;
        constant counter read_error;
    }
}

stats! {
    /// `proxy_proto.` or `proxy_proto.<stat_prefix>.`
    pub struct ProxyProtocolStats {
        counter not_found_allowed;
        counter not_found_disallowed;
        counter v1_disallowed = "versions.v1.disallowed";
        counter v1_error = "versions.v1.error";
        counter v1_found = "versions.v1.found";
        counter v2_disallowed = "versions.v2.disallowed";
        counter v2_error = "versions.v2.error";
        counter v2_found = "versions.v2.found";
    }
}

stats! {
    /// Without a prefix.
    pub struct ProxyProtocolErrors {
        counter downstream_cx_proxy_proto_error;
    }
}
