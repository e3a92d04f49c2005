//! Header fields as spans of one buffer.
//!
//! Invariant: `present` has a name exactly when some field of `list` has it, so that asking for an
//! absent field, the usual answer, costs one test; `repeated` has it if two fields do.

use std::ops::Range;

use super::parse::offset;

/// A range of bytes of the buffer that a head was received into.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Span {
    /// Offset of the first byte.
    pub start: u32,
    /// Offset behind the last byte.
    pub end: u32,
}

impl Span {
    /// The bytes it covers; empty if they are not there.
    pub fn of(self, bytes: &[u8]) -> &[u8] {
        bytes.get(self.start as usize..self.end as usize).unwrap_or_default()
    }
}

macro_rules! field_names {
    ($($name:ident = $text:literal,)+) => {
        /// The field names that the proxy asks about. Every other one is `Other`.
        #[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
        #[repr(u8)]
        pub enum FieldName {
            /// A name that the proxy only passes on; its text is in the buffer.
            Other,
            $(#[doc = concat!("`", $text, "`")] $name,)+
        }

        impl FieldName {
            /// The lower-case name; empty for `Other`.
            #[inline]
            pub const fn as_str(self) -> &'static str {
                match self {
                    Self::Other => "",
                    $(Self::$name => $text,)+
                }
            }

            /// What stands before the value in a head: a line end, the name, a colon and a space;
            /// empty for `Other`.
            #[inline]
            pub(super) const fn line(self) -> &'static [u8] {
                match self {
                    Self::Other => b"",
                    $(Self::$name => concat!("\r\n", $text, ": ").as_bytes(),)+
                }
            }
        }

        /// All but `Other`.
        const KNOWN: &[FieldName] = &[$(FieldName::$name,)+];
    };
}

field_names! {
    Host = "host",
    Connection = "connection",
    ContentLength = "content-length",
    TransferEncoding = "transfer-encoding",
    Accept = "accept",
    AcceptEncoding = "accept-encoding",
    AccessControlAllowCredentials = "access-control-allow-credentials",
    AccessControlAllowHeaders = "access-control-allow-headers",
    AccessControlAllowMethods = "access-control-allow-methods",
    AccessControlAllowOrigin = "access-control-allow-origin",
    AccessControlExposeHeaders = "access-control-expose-headers",
    AccessControlMaxAge = "access-control-max-age",
    Age = "age",
    Authorization = "authorization",
    CacheControl = "cache-control",
    ContentEncoding = "content-encoding",
    ContentType = "content-type",
    Cookie = "cookie",
    Date = "date",
    Etag = "etag",
    Expires = "expires",
    Expect = "expect",
    GrpcMessage = "grpc-message",
    GrpcStatus = "grpc-status",
    GrpcTimeout = "grpc-timeout",
    Http2Settings = "http2-settings",
    KeepAlive = "keep-alive",
    LastModified = "last-modified",
    Location = "location",
    Origin = "origin",
    ProxyConnection = "proxy-connection",
    ProxyStatus = "proxy-status",
    Referer = "referer",
    RetryAfter = "retry-after",
    Server = "server",
    SetCookie = "set-cookie",
    Te = "te",
    Trailer = "trailer",
    Upgrade = "upgrade",
    UserAgent = "user-agent",
    Vary = "vary",
    Via = "via",
    XClientTraceId = "x-client-trace-id",
    XEnvoyAttemptCount = "x-envoy-attempt-count",
    XEnvoyDecoratorOperation = "x-envoy-decorator-operation",
    XEnvoyDownstreamServiceCluster = "x-envoy-downstream-service-cluster",
    XEnvoyDownstreamServiceNode = "x-envoy-downstream-service-node",
    XEnvoyExpectedRqTimeoutMs = "x-envoy-expected-rq-timeout-ms",
    XEnvoyExternalAddress = "x-envoy-external-address",
    XEnvoyForceTrace = "x-envoy-force-trace",
    XEnvoyHedgeOnPerTryTimeout = "x-envoy-hedge-on-per-try-timeout",
    XEnvoyImmediateHealthCheckFail = "x-envoy-immediate-health-check-fail",
    XEnvoyInternal = "x-envoy-internal",
    XEnvoyIpTags = "x-envoy-ip-tags",
    XEnvoyIsTimeoutRetry = "x-envoy-is-timeout-retry",
    XEnvoyMaxRetries = "x-envoy-max-retries",
    XEnvoyOriginalDstHost = "x-envoy-original-dst-host",
    XEnvoyOriginalHost = "x-envoy-original-host",
    XEnvoyOriginalMethod = "x-envoy-original-method",
    XEnvoyOriginalPath = "x-envoy-original-path",
    XEnvoyOriginalUrl = "x-envoy-original-url",
    XEnvoyOverloaded = "x-envoy-overloaded",
    XEnvoyRatelimited = "x-envoy-ratelimited",
    XEnvoyRetriableHeaderNames = "x-envoy-retriable-header-names",
    XEnvoyRetriableStatusCodes = "x-envoy-retriable-status-codes",
    XEnvoyRetryGrpcOn = "x-envoy-retry-grpc-on",
    XEnvoyRetryOn = "x-envoy-retry-on",
    XEnvoyUpstreamAltStatName = "x-envoy-upstream-alt-stat-name",
    XEnvoyUpstreamCanary = "x-envoy-upstream-canary",
    XEnvoyUpstreamHealthcheckedCluster = "x-envoy-upstream-healthchecked-cluster",
    XEnvoyUpstreamRqPerTryTimeoutMs = "x-envoy-upstream-rq-per-try-timeout-ms",
    XEnvoyUpstreamRqTimeoutAltResponse = "x-envoy-upstream-rq-timeout-alt-response",
    XEnvoyUpstreamRqTimeoutMs = "x-envoy-upstream-rq-timeout-ms",
    XEnvoyUpstreamServiceTime = "x-envoy-upstream-service-time",
    XEnvoyUpstreamStreamDurationMs = "x-envoy-upstream-stream-duration-ms",
    XForwardedClientCert = "x-forwarded-client-cert",
    XForwardedFor = "x-forwarded-for",
    XForwardedHost = "x-forwarded-host",
    XForwardedPort = "x-forwarded-port",
    XForwardedProto = "x-forwarded-proto",
    XRequestId = "x-request-id",
}

// `Fields::present` has one bit for each name.
const _: () = assert!(KNOWN.len() < 128);

/// The name that a text of this [`hash`] is, if it is a known one.
const BY_HASH: [FieldName; 256] = {
    let mut table = [FieldName::Other; 256];
    let mut names = KNOWN;
    while let [name, rest @ ..] = names {
        if let Some((_, [place, ..])) = table.split_at_mut_checked(hash(name.as_str().as_bytes())) {
            assert!(
                matches!(place, FieldName::Other),
                "two names fall together: `hash` must change"
            );
            *place = *name;
        }
        names = rest;
    }
    table
};

/// A number below 256, another one for each known name: found by trying factors.
const fn hash(name: &[u8]) -> usize {
    const fn byte(name: &[u8], at: usize) -> usize {
        match name.split_at_checked(at) {
            Some((_, [byte, ..])) => *byte as usize,
            _ => 0,
        }
    }
    let len = name.len();
    let sum = len * 95
        + byte(name, 0) * 245
        + byte(name, len / 2) * 212
        + byte(name, len * 3 / 4) * 111
        + byte(name, len.saturating_sub(1)) * 166;
    sum >> 4 & 0xff
}

impl FieldName {
    /// The name of that lower-case text.
    pub fn of(lower: &[u8]) -> Self {
        let name = BY_HASH.get(hash(lower)).copied().unwrap_or(Self::Other);
        if name.as_str().as_bytes() == lower { name } else { Self::Other }
    }

    const fn bit(self) -> u128 {
        1 << (self as u8)
    }
}

/// A set of known names.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct FieldSet(u128);

impl FieldSet {
    /// The set of these.
    pub const fn of(names: &[FieldName]) -> Self {
        Self(0).with(names)
    }

    /// This set and these.
    pub const fn with(mut self, mut names: &[FieldName]) -> Self {
        while let [name, rest @ ..] = names {
            self.0 |= name.bit();
            names = rest;
        }
        self
    }

    /// Whether the name is in it.
    pub const fn has(self, name: FieldName) -> bool {
        self.0 & name.bit() != 0
    }

    const fn is_disjoint(self, other: Self) -> bool {
        self.0 & other.0 == 0
    }
}

/// One field line.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Field {
    /// The name, if it is a known one.
    pub id: FieldName,
    /// Where the lower-case name is; empty for a known name that was not received.
    pub name: Span,
    /// Where the value is, without white space around it.
    pub value: Span,
}

impl Field {
    /// Where the field stands in `bytes` as it is to be sent: the line end before it, the name, a
    /// colon, a space and the value.
    #[inline]
    pub(super) fn line(&self, bytes: &[u8]) -> Option<Range<usize>> {
        let (name, value) = (self.name, self.value);
        let start = (name.start as usize).wrapping_sub(2);
        let before_value = bytes.get(start..value.start as usize)?;
        let is_line = name.end.wrapping_add(2) == value.start
            && name.start < name.end
            && before_value.first_chunk() == Some(b"\r\n")
            && before_value.last_chunk() == Some(b": ");
        is_line.then_some(start..value.end as usize)
    }
}

/// The fields of a head, in the order they came, and the buffer that holds them.
///
/// An edit never moves what is there: its bytes go behind all that was received. So whatever follows
/// the head in the buffer is taken out first ([`super::RequestHead::split_off`]), or its place is
/// known ([`super::ResponseHead::rest`]).
#[derive(Clone, Debug, Default)]
pub struct Fields {
    pub(super) bytes: Vec<u8>,
    pub(super) list: Vec<Field>,
    present: FieldSet,
    repeated: FieldSet,
}

impl Fields {
    /// The value of the first field of this name.
    pub fn get(&self, id: FieldName) -> Option<&[u8]> {
        if self.has(id) { self.get_all(id).next() } else { None }
    }

    /// Whether there is a field of this name.
    pub fn has(&self, id: FieldName) -> bool {
        self.present.has(id)
    }

    /// Whether there is more than one field of this name.
    pub fn is_repeated(&self, id: FieldName) -> bool {
        self.repeated.has(id) && self.get_all(id).nth(1).is_some()
    }

    /// The values of all fields of this name, in order.
    pub fn get_all(&self, id: FieldName) -> impl Iterator<Item = &[u8]> {
        self.list
            .iter()
            .filter(move |field| field.id == id)
            .map(|field| field.value.of(&self.bytes))
    }

    /// The value of the first field of any name, given in lower case.
    pub fn find(&self, name: &[u8]) -> Option<&[u8]> {
        match FieldName::of(name) {
            FieldName::Other => self.iter().find(|field| field.1 == name).map(|field| field.2),
            id => self.get(id),
        }
    }

    /// All fields: name, its lower-case text, value.
    pub fn iter(&self) -> impl Iterator<Item = (FieldName, &[u8], &[u8])> {
        self.list.iter().map(|field| (field.id, self.name(field), field.value.of(&self.bytes)))
    }

    /// How many fields there are.
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// How many bytes the names and values take together.
    pub fn byte_size(&self) -> usize {
        self.iter().map(|(_, name, value)| name.len() + value.len()).sum()
    }

    /// Adds a field at the end.
    pub fn append(&mut self, id: FieldName, value: &[u8]) {
        let field = self.keep_line(id, value);
        self.push(field);
    }

    /// Adds a field of any name, given in lower case, at the end.
    pub fn append_other(&mut self, name: &[u8], value: &[u8]) {
        let id = FieldName::of(name);
        if id != FieldName::Other {
            return self.append(id, value);
        }
        let name = self.keep(name);
        let value = self.keep(value);
        self.push(Field { id, name, value });
    }

    /// Gives the first field of this name another value and removes its repetitions; adds it at
    /// the end if there is none.
    pub fn set(&mut self, id: FieldName, value: &[u8]) {
        let field = self.keep_line(id, value);
        self.set_field(field);
    }

    /// As [`Fields::set`], with a value that is in the buffer already.
    pub(super) fn set_span(&mut self, id: FieldName, value: Span) {
        self.set_field(Field { id, name: Span::default(), value });
    }

    fn set_field(&mut self, field: Field) {
        if self.has(field.id) {
            self.replace(field);
        } else {
            self.push(field);
        }
    }

    /// As [`Fields::set`], for any name, given in lower case.
    pub fn set_other(&mut self, name: &[u8], value: &[u8]) {
        match FieldName::of(name) {
            FieldName::Other => {
                let Some(first) = self.list.iter().position(|field| self.name(field) == name)
                else {
                    return self.append_other(name, value);
                };
                let value = self.keep(value);
                if let Some(field) = self.list.get_mut(first) {
                    field.value = value;
                }
                self.retain(|at, other, _, _| at <= first || other != name);
            }
            id => self.set(id, value),
        }
    }

    /// Adds to the value of the first field of this name behind a separator, as a list grows,
    /// after joining its repetitions into it; adds the field at the end if there is none.
    pub fn join(&mut self, id: FieldName, separator: &[u8], value: &[u8]) {
        if !self.has(id) {
            return self.append(id, value);
        }
        let mut joined = self.keep_joined(id, separator);
        if joined.end > joined.start {
            self.bytes.extend_from_slice(separator);
        }
        self.bytes.extend_from_slice(value);
        joined.end = offset(self.bytes.len());
        self.replace(Field { id, name: Span::default(), value: joined });
    }

    /// Removes all fields of this name.
    pub fn remove(&mut self, id: FieldName) {
        if self.has(id) {
            self.remove_set(FieldSet::of(&[id]));
        }
    }

    /// Removes all fields of these names.
    pub fn remove_set(&mut self, names: FieldSet) {
        if self.present.is_disjoint(names) {
            return;
        }
        self.list.retain(|field| !names.has(field.id));
        self.present.0 &= !names.0;
        self.repeated.0 &= !names.0;
    }

    /// Joins the values of repeated fields of these names into the first, with commas.
    pub fn merge_set(&mut self, names: FieldSet) {
        while !self.repeated.is_disjoint(names) {
            let Some(id) = self
                .list
                .iter()
                .map(|field| field.id)
                .find(|&id| names.has(id) && self.repeated.has(id))
            else {
                return;
            };
            let value = self.keep_joined(id, b",");
            self.replace(Field { id, name: Span::default(), value });
        }
    }

    /// Removes all fields of any name, given in lower case.
    pub fn remove_other(&mut self, name: &[u8]) {
        match FieldName::of(name) {
            FieldName::Other => self.retain(|_, other, _, _| other != name),
            id => self.remove(id),
        }
    }

    /// Keeps the fields for which `keep` says so: it is given position, name's text, id, value.
    pub fn retain(&mut self, mut keep: impl FnMut(usize, &[u8], FieldName, &[u8]) -> bool) {
        let mut at = 0;
        let bytes = &self.bytes;
        self.list.retain(|field| {
            let name = name_of(field, bytes);
            let kept = keep(at, name, field.id, field.value.of(bytes));
            at += 1;
            kept
        });
        (self.present, self.repeated) = (FieldSet::default(), FieldSet::default());
        for at in 0..self.list.len() {
            let Some(field) = self.list.get(at) else { break };
            let id = field.id;
            self.note(id);
        }
    }

    pub(super) fn push(&mut self, field: Field) {
        self.note(field.id);
        self.list.push(field);
    }

    pub(super) fn clear_list(&mut self) {
        self.list.clear();
        (self.present, self.repeated) = (FieldSet::default(), FieldSet::default());
    }

    /// Copies text behind the head.
    pub(super) fn keep(&mut self, text: &[u8]) -> Span {
        let start = offset(self.bytes.len());
        self.bytes.extend_from_slice(text);
        Span { start, end: offset(self.bytes.len()) }
    }

    /// Writes a field behind the head, as it will be sent.
    fn keep_line(&mut self, id: FieldName, value: &[u8]) -> Field {
        let name = self.keep(id.line());
        let value = self.keep(value);
        // Between the line end and the colon.
        let name = Span { start: name.start + 2, end: name.end.saturating_sub(2) };
        Field { id, name, value }
    }

    /// The buffer and the list, for the parser that fills them.
    pub(super) fn parts(&mut self) -> (&mut [u8], &mut Vec<Field>) {
        (&mut self.bytes, &mut self.list)
    }

    /// Lower-cases the names in place and finds out which are known.
    pub(super) fn recognise(&mut self) {
        let (mut present, mut repeated) = (0, 0);
        for field in &mut self.list {
            let range = field.name.start as usize..field.name.end as usize;
            let Some(name) = self.bytes.get_mut(range) else { continue };
            to_lower_case(name);
            field.id = FieldName::of(name);
            let bit = field.id.bit();
            repeated |= present & bit;
            present |= bit;
        }
        (self.present, self.repeated) = (FieldSet(present), FieldSet(repeated));
    }

    fn note(&mut self, id: FieldName) {
        let bit = id.bit();
        self.repeated.0 |= self.present.0 & bit;
        self.present.0 |= bit;
    }

    /// Copies the values of this name behind the head, joined.
    fn keep_joined(&mut self, id: FieldName, separator: &[u8]) -> Span {
        let start = self.bytes.len();
        for field in self.list.iter().filter(|field| field.id == id) {
            if self.bytes.len() > start {
                self.bytes.extend_from_slice(separator);
            }
            let range = field.value.start as usize..field.value.end as usize;
            if range.end <= self.bytes.len() && range.start <= range.end {
                self.bytes.extend_from_within(range);
            }
        }
        Span { start: offset(start), end: offset(self.bytes.len()) }
    }

    fn name(&self, field: &Field) -> &[u8] {
        name_of(field, &self.bytes)
    }

    /// Puts a field in the place of the first of its name, and removes the others.
    fn replace(&mut self, field: Field) {
        let mut first = true;
        if self.repeated.has(field.id) {
            self.list.retain(|other| other.id != field.id || std::mem::take(&mut first));
            self.repeated.0 &= !field.id.bit();
        }
        if let Some(place) = self.list.iter_mut().find(|other| other.id == field.id) {
            *place = field;
        }
    }
}

/// Pieces of a fixed length are changed at once; the last one may overlap with the one before.
fn to_lower_case(name: &mut [u8]) {
    name.as_chunks_mut::<8>().0.iter_mut().for_each(|piece| piece.make_ascii_lowercase());
    if let Some(last) = name.last_chunk_mut::<8>() {
        last.make_ascii_lowercase();
    } else if let Some(first) = name.first_chunk_mut::<4>() {
        first.make_ascii_lowercase();
        if let Some(last) = name.last_chunk_mut::<4>() {
            last.make_ascii_lowercase();
        }
    } else {
        name.make_ascii_lowercase();
    }
}

fn name_of<'a>(field: &Field, bytes: &'a [u8]) -> &'a [u8] {
    match field.id {
        FieldName::Other => field.name.of(bytes),
        id => id.as_str().as_bytes(),
    }
}
