//! The known field names, and sets of them.
//!
//! Invariant: a name is looked up by its [`Fingerprint`], which is different for all known names; the
//! build fails if it is not.

macro_rules! field_names {
    ($($name:ident = $text:literal,)+) => {
        /// The field names that the proxy handles, and those of HPACK's static table. Every other one is
        /// `Other`.
        #[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
        #[repr(u8)]
        pub enum FieldName {
            /// A name that the proxy only passes on; its text is in the buffer.
            Other,
            $(#[doc = concat!("`", $text, "`")] $name,)+
        }

        /// All but `Other`.
        const KNOWN: &[FieldName] = &[$(FieldName::$name,)+];

        /// By name: what precedes the value in a head, that is a line end, the name, a colon and a
        /// space; empty for `Other`.
        static LINES: [&str; KNOWN.len() + 1] = ["", $(concat!("\r\n", $text, ": "),)+];

        /// By name: its bit in a set.
        static BITS: [u128; KNOWN.len() + 1] =
            [FieldName::Other.bit(), $(FieldName::$name.bit(),)+];

        /// By name: its text.
        static TEXTS: [&str; KNOWN.len() + 1] = ["", $($text,)+];

        /// By name: its fingerprint.
        static FINGERPRINTS: [Fingerprint; KNOWN.len() + 1] = [Fingerprint::of(b""), $(Fingerprint::of($text.as_bytes()),)+];
    };
}

field_names! {
    Host = "host",
    Connection = "connection",
    ContentLength = "content-length",
    TransferEncoding = "transfer-encoding",
    Accept = "accept",
    AcceptCharset = "accept-charset",
    AcceptEncoding = "accept-encoding",
    AcceptLanguage = "accept-language",
    AcceptRanges = "accept-ranges",
    AccessControlAllowCredentials = "access-control-allow-credentials",
    AccessControlAllowHeaders = "access-control-allow-headers",
    AccessControlAllowMethods = "access-control-allow-methods",
    AccessControlAllowOrigin = "access-control-allow-origin",
    AccessControlAllowPrivateNetwork = "access-control-allow-private-network",
    AccessControlExposeHeaders = "access-control-expose-headers",
    AccessControlMaxAge = "access-control-max-age",
    AccessControlRequestHeaders = "access-control-request-headers",
    AccessControlRequestMethod = "access-control-request-method",
    AccessControlRequestPrivateNetwork = "access-control-request-private-network",
    Age = "age",
    Allow = "allow",
    Authorization = "authorization",
    CacheControl = "cache-control",
    ContentDisposition = "content-disposition",
    ContentEncoding = "content-encoding",
    ContentLanguage = "content-language",
    ContentLocation = "content-location",
    ContentRange = "content-range",
    ContentType = "content-type",
    Cookie = "cookie",
    Date = "date",
    Etag = "etag",
    Expect = "expect",
    Expires = "expires",
    From = "from",
    GrpcAcceptEncoding = "grpc-accept-encoding",
    GrpcMessage = "grpc-message",
    GrpcStatus = "grpc-status",
    GrpcTimeout = "grpc-timeout",
    Http2Settings = "http2-settings",
    IfMatch = "if-match",
    IfModifiedSince = "if-modified-since",
    IfNoneMatch = "if-none-match",
    IfRange = "if-range",
    IfUnmodifiedSince = "if-unmodified-since",
    KeepAlive = "keep-alive",
    LastModified = "last-modified",
    Link = "link",
    Location = "location",
    MaxForwards = "max-forwards",
    Origin = "origin",
    Pragma = "pragma",
    ProxyAuthenticate = "proxy-authenticate",
    ProxyAuthorization = "proxy-authorization",
    ProxyConnection = "proxy-connection",
    ProxyStatus = "proxy-status",
    Range = "range",
    Referer = "referer",
    Refresh = "refresh",
    RetryAfter = "retry-after",
    Server = "server",
    SetCookie = "set-cookie",
    StrictTransportSecurity = "strict-transport-security",
    Te = "te",
    Trailer = "trailer",
    Upgrade = "upgrade",
    UserAgent = "user-agent",
    Vary = "vary",
    Via = "via",
    WwwAuthenticate = "www-authenticate",
    XClientTraceId = "x-client-trace-id",
    XEnvoyAttemptCount = "x-envoy-attempt-count",
    XEnvoyDecoratorOperation = "x-envoy-decorator-operation",
    XEnvoyDegraded = "x-envoy-degraded",
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

impl FieldName {
    /// How many there are, `Other` included.
    pub(crate) const COUNT: usize = KNOWN.len() + 1;

    /// The name with this lower-case text.
    pub fn of(lower: &[u8]) -> Self {
        Self::find(&Fingerprint::of(lower), lower)
    }

    /// Lower-cases the text, and returns which name it is.
    #[inline]
    pub(crate) fn of_received(name: &mut [u8]) -> Self {
        let fingerprint = Fingerprint::lowering(name);
        Self::find(&fingerprint, name)
    }

    #[inline]
    fn find(fingerprint: &Fingerprint, lower: &[u8]) -> Self {
        let known = BY_HASH.get(fingerprint.hash()).copied().unwrap_or(Self::Other);
        let is_it = FINGERPRINTS.get(known as usize) == Some(fingerprint)
            && (lower.len() <= Fingerprint::EXACT_MAX || known.as_str().as_bytes() == lower);
        if is_it { known } else { Self::Other }
    }

    /// The lower-case name; empty for `Other`.
    #[inline]
    pub fn as_str(self) -> &'static str {
        TEXTS.get(self as usize).copied().unwrap_or_default()
    }

    /// What precedes the value in a head: a line end, the name, a colon and a space; empty for `Other`.
    #[inline]
    pub fn line(self) -> &'static [u8] {
        LINES.get(self as usize).copied().unwrap_or_default().as_bytes()
    }

    const fn bit(self) -> u128 {
        1 << (self as u8)
    }
}

/// The part of a name that is compared first.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Fingerprint {
    len: usize,
    /// The first eight bytes; the first four and the last four of a shorter name.
    first: u64,
    /// The last eight bytes.
    last: u64,
    /// Eight bytes from the middle of a name that is longer than `EXACT_MAX`.
    middle: u64,
}

impl Fingerprint {
    /// Up to this length, names with the same fingerprint are equal.
    const EXACT_MAX: usize = 16;

    #[inline]
    const fn of(name: &[u8]) -> Self {
        let len = name.len();
        if let (Some(first), Some(last)) = (name.first_chunk(), name.last_chunk()) {
            let (first, last) = (u64::from_le_bytes(*first), u64::from_le_bytes(*last));
            return Self {
                len,
                first,
                last,
                middle: if len > Self::EXACT_MAX { middle(name) } else { 0 },
            };
        }
        if let (Some(first), Some(last)) = (name.first_chunk(), name.last_chunk()) {
            return Self { len, first: both(*first, *last), last: 0, middle: 0 };
        }
        let (mut first, mut rest) = (0, name);
        while let [byte, tail @ ..] = rest {
            first = first << 8 | *byte as u64;
            rest = tail;
        }
        Self { len, first, last: 0, middle: 0 }
    }

    /// Lower-cases the name. Both its ends are read before they are written: they may overlap.
    #[inline]
    fn lowering(name: &mut [u8]) -> Self {
        let len = name.len();
        if let (Some(first), Some(last)) = (name.first_chunk(), name.last_chunk()) {
            let first = lower(u64::from_le_bytes(*first));
            let last = lower(u64::from_le_bytes(*last));
            let middle = if len > Self::EXACT_MAX { lower_middle(name) } else { 0 };
            replace(name.first_chunk_mut(), first.to_le_bytes());
            replace(name.last_chunk_mut(), last.to_le_bytes());
            return Self { len, first, last, middle };
        }
        if let (Some(first), Some(last)) = (name.first_chunk(), name.last_chunk()) {
            let ends = lower(both(*first, *last));
            let [a, b, c, d, e, f, g, h] = ends.to_le_bytes();
            replace(name.first_chunk_mut(), [a, b, c, d]);
            replace(name.last_chunk_mut(), [e, f, g, h]);
            return Self { len, first: ends, last: 0, middle: 0 };
        }
        name.make_ascii_lowercase();
        Self::of(name)
    }

    /// A perfect hash of the known names, below [`BY_HASH`]'s length. The factor was found by trial.
    #[inline]
    const fn hash(&self) -> usize {
        let Self { len, first, last, middle } = *self;
        let sum = first
            .wrapping_add(last.rotate_left(5))
            .wrapping_add(middle.rotate_left(11))
            .wrapping_add(len as u64);
        (sum.wrapping_mul(0x137d_006b_2702_f921) >> 55) as usize
    }
}

const fn both(first: [u8; 4], last: [u8; 4]) -> u64 {
    u32::from_le_bytes(first) as u64 | (u32::from_le_bytes(last) as u64) << 32
}

const fn middle(name: &[u8]) -> u64 {
    let (_, rest) = name.split_at(name.len().saturating_sub(8) / 2);
    match rest.first_chunk() {
        Some(middle) => u64::from_le_bytes(*middle),
        None => 0,
    }
}

#[inline(never)]
fn lower_middle(name: &mut [u8]) -> u64 {
    name.make_ascii_lowercase();
    middle(name)
}

#[inline]
fn replace<const N: usize>(place: Option<&mut [u8; N]>, bytes: [u8; N]) {
    if let Some(place) = place {
        *place = bytes;
    }
}

/// Lower-cases eight ASCII characters at once; others are unchanged.
#[inline]
const fn lower(bytes: u64) -> u64 {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGH: u64 = 0x80 * ONES;
    // The high bit of each byte is set from `A` on, after `Z`, and in non-ASCII bytes.
    let low = bytes & !HIGH;
    let from_a = low + (0x80 - b'A' as u64) * ONES;
    let after_z = low + (0x80 - b'Z' as u64 - 1) * ONES;
    let is_upper = from_a & !after_z & !bytes & HIGH;
    bytes | is_upper >> 2
}

/// The known name with this hash.
static BY_HASH: [FieldName; 512] = {
    let mut table = [FieldName::Other; 512];
    let mut names = KNOWN;
    // Without `Other`.
    let [_, fingerprints @ ..] = &FINGERPRINTS;
    let mut fingerprints: &[Fingerprint] = fingerprints;
    while let ([name, rest @ ..], [fingerprint, more @ ..]) = (names, fingerprints) {
        if let Some((_, [place, ..])) = table.split_at_mut_checked(fingerprint.hash()) {
            assert!(
                matches!(place, FieldName::Other),
                "two names have the same hash: `hash` must change"
            );
            *place = *name;
        }
        (names, fingerprints) = (rest, more);
    }
    table
};

/// A set of known names.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct FieldSet(u128);

impl FieldSet {
    /// A set of names.
    pub const fn of(names: &[FieldName]) -> Self {
        Self(0).with(names)
    }

    /// This set with more names.
    pub const fn with(mut self, mut names: &[FieldName]) -> Self {
        while let [name, rest @ ..] = names {
            self.0 |= name.bit();
            names = rest;
        }
        self
    }

    /// Whether the name is in the set.
    pub const fn has(self, name: FieldName) -> bool {
        self.0 & name.bit() != 0
    }

    pub(crate) const fn is_disjoint(self, other: Self) -> bool {
        self.0 & other.0 == 0
    }

    /// The set of one name.
    #[inline]
    pub(crate) fn of_one(name: FieldName) -> Self {
        // A lookup is faster than a 128-bit shift.
        Self(BITS.get(name as usize).copied().unwrap_or_default())
    }

    /// The intersection of both sets.
    pub(crate) const fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// The union of both sets.
    pub(crate) const fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// This set without `names`.
    pub(crate) const fn without(self, names: Self) -> Self {
        Self(self.0 & !names.0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_known_name_is_found_in_any_case() {
        for &name in KNOWN {
            assert_eq!(FieldName::of(name.as_str().as_bytes()), name);
            let mut upper = name.as_str().to_ascii_uppercase().into_bytes();
            assert_eq!(FieldName::of_received(&mut upper), name);
            assert_eq!(upper, name.as_str().as_bytes());
        }
    }

    #[test]
    fn a_name_that_differs_in_one_byte_is_not_known() {
        for &name in KNOWN {
            for at in 0..name.as_str().len() {
                let mut other = name.as_str().as_bytes().to_vec();
                other[at] = b'~';
                assert_eq!(FieldName::of(&other), FieldName::Other, "{name:?} {at}");
            }
        }
    }

    proptest! {
        #[test]
        fn a_name_is_lower_cased_and_nothing_else_is(name in prop::collection::vec(any::<u8>(), 0..40)) {
            let mut lowered = name.clone();
            let known = FieldName::of_received(&mut lowered);
            prop_assert_eq!(&lowered, &name.to_ascii_lowercase());
            prop_assert_eq!(known, FieldName::of(&lowered));
        }
    }
}
