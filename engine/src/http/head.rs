//! Request and response heads.

use super::field_name::{FieldName, FieldSet};
use super::fields::{Fields, Span};
use super::grpc;
use super::method::Method;

/// The supported HTTP versions.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub enum Version {
    /// HTTP/1.0
    Http10,
    /// HTTP/1.1
    #[default]
    Http11,
    /// HTTP/2
    Http2,
}

impl Version {
    /// As in the first line of a message, and in Envoy's access logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Http10 => "HTTP/1.0",
            Self::Http11 => "HTTP/1.1",
            Self::Http2 => "HTTP/2",
        }
    }
}

/// The scheme of a request.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Scheme {
    /// http
    Http,
    /// https
    Https,
}

impl Scheme {
    /// The name in lower case.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }
}

/// Limits for heads, and options of the parser.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct HeadLimits {
    /// The longest head, in bytes as received, first line and line ends included.
    pub bytes_max: usize,
    /// The most fields.
    pub fields_max: usize,
    /// Whether HTTP/1.0 requests are accepted.
    pub accept_http_10: bool,
    /// Whether a request may have a method that Envoy does not know.
    pub allow_custom_methods: bool,
    /// Whether a request target may be in absolute form.
    pub allow_absolute_url: bool,
}

impl Default for HeadLimits {
    /// Envoy's defaults.
    fn default() -> Self {
        Self {
            bytes_max: 60 * 1024,
            fields_max: 100,
            accept_http_10: false,
            allow_custom_methods: false,
            allow_absolute_url: true,
        }
    }
}

/// `headers_with_underscores_action`.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Underscores {
    /// Underscores are allowed.
    #[default]
    Allow,
    /// The request is rejected.
    Reject,
    /// The field is dropped.
    Drop,
}

/// A request head, and the buffer it is received into.
#[derive(Clone, Debug, Default)]
pub struct RequestHead {
    /// The method.
    pub method: Method,
    /// The version of the sender.
    pub version: Version,
    /// The scheme: that of a target in absolute form, until the connection manager sets it.
    /// Without a scheme no route matches.
    pub scheme: Option<Scheme>,
    /// The fields. `Host` is the authority: a target in absolute form overrides it.
    pub fields: Fields,
    pub(crate) method_name: Span,
    pub(crate) target: Span,
    /// The first line without its line end, if it can be sent as it was received; else empty.
    pub(crate) line: Span,
    pub(crate) progress: Progress,
}

impl RequestHead {
    /// The receive buffer: received bytes are appended here.
    pub fn received(&mut self) -> &mut Vec<u8> {
        &mut self.fields.bytes
    }

    /// Moves what was received after the head to the end of `surplus`. To be called once, before any
    /// edit.
    pub fn split_off(&mut self, head_len: usize, surplus: &mut Vec<u8>) {
        let bytes = &mut self.fields.bytes;
        surplus.extend_from_slice(bytes.get(head_len..).unwrap_or_default());
        bytes.truncate(head_len);
    }

    /// Resets it for the next request; keeps the memory.
    pub fn clear(&mut self) {
        self.fields.bytes.clear();
        self.fields.clear_list();
        self.progress = Progress::default();
        self.method = Method::default();
        self.version = Version::default();
        self.target = Span::default();
        self.line = Span::default();
        self.method_name = Span::default();
        self.scheme = None;
    }

    /// The request target: a path with its query, `*`, or for CONNECT the authority.
    pub fn target(&self) -> &[u8] {
        self.target.of(&self.fields.bytes)
    }

    /// Replaces the request target.
    pub fn set_target(&mut self, target: &[u8]) {
        self.target = self.fields.keep(target);
        self.line = Span::default();
    }

    /// The path with its query; none for CONNECT.
    pub fn path_and_query(&self) -> Option<&[u8]> {
        (self.method != Method::Connect).then(|| self.target())
    }

    /// Replaces the authority: `Host`, and the target of a CONNECT.
    pub fn set_authority(&mut self, host: &[u8]) {
        self.fields.set(FieldName::Host, host);
        if self.method == Method::Connect {
            self.set_target(host);
        }
    }

    /// Whether this is gRPC, by its content type.
    pub fn is_grpc(&self) -> bool {
        self.fields.get(FieldName::ContentType).is_some_and(grpc::is_content_type)
    }

    /// The path without its query.
    pub fn path(&self) -> &[u8] {
        let target = self.target();
        let end = memchr::memchr(b'?', target).unwrap_or(target.len());
        target.get(..end).unwrap_or_default()
    }

    /// The method as received.
    pub fn method_name(&self) -> &[u8] {
        match self.method {
            Method::Custom => self.method_name.of(&self.fields.bytes),
            known => known.as_str().as_bytes(),
        }
    }

    /// Replaces the method.
    pub fn set_method(&mut self, name: &[u8]) {
        self.method = Method::of(name);
        if self.method == Method::Custom {
            self.method_name = self.fields.keep(name);
        }
        self.line = Span::default();
    }

    /// The host, with the port if the client sent one.
    pub fn authority(&self) -> Option<&[u8]> {
        self.fields.get(FieldName::Host)
    }

    /// Whether the client allows keep-alive. This depends on `Connection`, so call it before
    /// hop-by-hop fields are removed.
    pub fn keep_alive(&self) -> bool {
        keep_alive(self.version, &self.fields)
    }

    /// Whether the client waits for `100 Continue` before it sends the body.
    ///
    /// RFC 9110 §10.1.1: "A server that receives a 100-continue expectation in an HTTP/1.0
    /// request MUST ignore that expectation." Envoy: a repeated one is left to the origin.
    pub fn expects_continue(&self) -> bool {
        self.version != Version::Http10
            && !self.fields.is_repeated(FieldName::Expect)
            && self
                .fields
                .get(FieldName::Expect)
                .is_some_and(|value| value.eq_ignore_ascii_case(b"100-continue"))
    }

    /// The protocol that the client asks to upgrade to; `Upgrade` counts only if `Connection` names it.
    pub fn upgrade(&self) -> Option<&[u8]> {
        upgrade(&self.fields)
    }
}

/// How far a head that arrives in pieces has been scanned. Used by the HTTP/1 parser only; it is kept
/// here because a separate structure would cost a cache line.
///
/// The head is parsed from the start when the first bytes arrive, at the end of the first line,
/// whenever the length has doubled (so that garbage is rejected early), and at an empty line. Each
/// attempt costs the length, so together they cost a small multiple of it.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Progress {
    /// Empty lines before a request are skipped up to here.
    pub(crate) start: usize,
    /// No empty line ends before here.
    pub(crate) scanned: usize,
    /// The length at the last attempt.
    pub(crate) tried: usize,
    /// Whether there was an attempt when the first line was complete.
    pub(crate) line_tried: bool,
    /// Whether a response may have folded lines.
    pub(crate) folds: bool,
}

/// A response head, and the buffer it is received into.
#[derive(Clone, Debug, Default)]
pub struct ResponseHead {
    /// The status, 100 to 999.
    pub status: u16,
    /// The version of the sender.
    pub version: Version,
    /// The fields.
    pub fields: Fields,
    pub(crate) reason: Span,
    /// What was received after the head.
    pub(crate) surplus: Span,
    pub(crate) progress: Progress,
}

impl ResponseHead {
    /// Whether this is gRPC, by its content type.
    pub fn is_grpc(&self) -> bool {
        self.fields.get(FieldName::ContentType).is_some_and(grpc::is_content_type)
    }

    /// The receive buffer: received bytes are appended here.
    pub fn received(&mut self) -> &mut Vec<u8> {
        &mut self.fields.bytes
    }

    /// What was received after the head, once the head is complete.
    pub fn surplus(&self) -> &[u8] {
        self.surplus.of(&self.fields.bytes)
    }

    /// Discards what was received after the head.
    pub fn discard_surplus(&mut self) {
        self.surplus = Span::default();
    }

    /// Resets it for the next response, which begins with what was received after this head.
    pub fn advance(&mut self) {
        let Span { start, end } = self.surplus;
        let mut bytes = std::mem::take(&mut self.fields.bytes);
        bytes.truncate(end as usize);
        bytes.drain(..bytes.len().min(start as usize));
        self.clear();
        self.fields.bytes = bytes;
    }

    /// Resets it for the next response; keeps the memory.
    pub fn clear(&mut self) {
        self.fields.bytes.clear();
        self.fields.clear_list();
        self.progress = Progress::default();
        self.status = 0;
        self.version = Version::default();
        self.reason = Span::default();
        self.surplus = Span::default();
    }

    /// The reason phrase as received. As in Envoy, the registered one is sent instead.
    pub fn reason(&self) -> &[u8] {
        self.reason.of(&self.fields.bytes)
    }

    /// Whether the origin allows keep-alive. As for requests, call it before hop-by-hop fields are
    /// removed.
    pub fn keep_alive(&self) -> bool {
        keep_alive(self.version, &self.fields)
    }

    /// Whether this is an interim response, which a final one follows. 101 is final.
    pub fn is_interim(&self) -> bool {
        matches!(self.status, 100 | 102..=199)
    }

    /// The protocol that a 101 switches to.
    pub fn upgrade(&self) -> Option<&[u8]> {
        upgrade(&self.fields)
    }
}

/// The non-empty members of a comma-separated list, over all fields of that name.
pub(crate) fn members(fields: &Fields, id: FieldName) -> impl Iterator<Item = &[u8]> {
    fields
        .get_all(id)
        .flat_map(|value| value.split(|&byte| byte == b','))
        .map(<[u8]>::trim_ascii)
        .filter(|member| !member.is_empty())
}

fn has_member(fields: &Fields, id: FieldName, wanted: &[u8]) -> bool {
    fields.has(id) && members(fields, id).any(|member| member.eq_ignore_ascii_case(wanted))
}

#[inline]
fn upgrade(fields: &Fields) -> Option<&[u8]> {
    if fields.has(FieldName::Upgrade) { wanted_upgrade(fields) } else { None }
}

fn wanted_upgrade(fields: &Fields) -> Option<&[u8]> {
    let protocol = fields.get(FieldName::Upgrade)?;
    has_member(fields, FieldName::Connection, b"upgrade").then_some(protocol)
}

/// RFC 9112 §9.3, and Envoy's addition that `Proxy-Connection: close` closes too.
#[inline]
fn keep_alive(version: Version, fields: &Fields) -> bool {
    const ASKED: FieldSet = FieldSet::of(&[FieldName::Connection, FieldName::ProxyConnection]);
    if fields.has_any(ASKED) {
        asked_keep_alive(version, fields)
    } else {
        version != Version::Http10
    }
}

fn asked_keep_alive(version: Version, fields: &Fields) -> bool {
    if has_member(fields, FieldName::Connection, b"close")
        || has_member(fields, FieldName::ProxyConnection, b"close")
    {
        return false;
    }
    match version {
        Version::Http11 | Version::Http2 => true,
        Version::Http10 => has_member(fields, FieldName::Connection, b"keep-alive"),
    }
}
