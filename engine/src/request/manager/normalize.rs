//! What the connection manager checks and changes in a request head before routing.
//!
//! Pure: takes a head, options and the addresses of the connection; returns facts about the request,
//! or why it is answered locally. The order of the steps, and of the fields added, is Envoy's.

use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::SystemTime;

use super::original_ip;
use super::path::{self, Normalized};
use super::{ConnectionManager, Peer, StripPort, UserAgent};
use crate::address::Address;
use crate::format::StreamInfo;
use crate::http::{
    FieldName, FieldSet, Fields, HOP_BY_HOP_OF_REQUESTS, HOP_BY_HOP_OF_UPGRADES,
    JOINED_IN_REQUESTS, Line, Method, RequestHead, Scheme, Underscores, Version, members,
};
use crate::transport::tls::facts::TlsFacts;
use crate::uuid;

/// The outcome for a request.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Outcome {
    /// It continues to routing.
    Continue(Facts),
    /// It is answered locally.
    Refuse(Refusal),
}

/// Facts about a request that continues.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Facts {
    /// The address of the client; port 0 if it was taken from `x-forwarded-for`.
    pub client: Address,
    /// How many fields were dropped because of underscores in their names.
    pub dropped_for_underscores: u64,
    /// Whether the client is internal: its `x-envoy-*` fields were kept.
    pub internal: bool,
    /// Whether the client waits for `100 Continue`, which the proxy sends.
    pub expects_continue: bool,
    /// Whether it requests an upgrade, allowed or not; `Connection` and `Upgrade` were kept.
    pub upgrade: bool,
}

impl Facts {
    /// Those of a request that the proxy makes itself, on behalf of this client.
    pub const fn of_call(client: Address) -> Self {
        Self {
            client,
            dropped_for_underscores: 0,
            internal: true,
            expects_continue: false,
            upgrade: false,
        }
    }
}

/// Why a request is answered locally.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Refusal {
    /// `Connection` nominates a field that a client must not remove, or too many fields.
    Nomination,
    /// A field name contains an underscore.
    Underscore,
    /// There is no `Host`.
    MissingHost,
    /// QUERY without a content type.
    QueryWithoutContentType,
    /// The target is not a path but an absolute URL, and that is not allowed.
    NotAPath,
    /// The target is an `https` URL, and the connection is not encrypted.
    HttpsInTheClear,
    /// `OPTIONS *` applies to the proxy itself.
    Asterisk,
    /// The path contains a fragment, an escaped NUL, or an escaped slash that is not allowed.
    Path,
    /// The client is redirected: [`RequestHead::target`] is the location.
    Redirect,
    /// An upgrade that is not allowed.
    Upgrade,
    /// The address of the client is not known; with this status.
    OriginalIp(u16),
}

impl Refusal {
    /// The status of the reply.
    pub const fn status(self) -> u16 {
        match self {
            Self::NotAPath => 404,
            Self::Asterisk => 200,
            Self::OriginalIp(status) => status,
            Self::Redirect => 307,
            Self::Upgrade | Self::HttpsInTheClear => 403,
            _ => 400,
        }
    }

    /// The body of the reply.
    pub const fn body(self) -> &'static str {
        match self {
            Self::Nomination | Self::Underscore => "Bad Request",
            Self::HttpsInTheClear => "Forbidden",
            _ => "",
        }
    }

    /// Envoy's `response_code_details`.
    pub const fn details(self) -> &'static str {
        match self {
            Self::Nomination => "http1.connection_header_rejected",
            Self::Underscore => "http1.unexpected_underscore",
            Self::MissingHost => "missing_host_header",
            Self::QueryWithoutContentType => "query_missing_content_type",
            Self::NotAPath => "absolute_path_rejected",
            Self::Asterisk => "server_options",
            Self::HttpsInTheClear => "http1.https_url_on_plaintext_connection",
            Self::Path | Self::Redirect => "path_normalization_failed",
            Self::Upgrade => "upgrade_failed",
            Self::OriginalIp(_) => "rejecting_because_detection_failed",
        }
    }

    /// Whether it is a protocol error of the client (response flag `DPE`).
    pub const fn is_protocol_error(self) -> bool {
        matches!(self, Self::Nomination | Self::Underscore)
    }

    /// Whether the connection is always closed; otherwise the status decides.
    pub const fn closes(self) -> bool {
        self.is_protocol_error() || matches!(self, Self::Upgrade | Self::HttpsInTheClear)
    }
}

/// Applies the rules of a connection manager to a request. `random` returns bits for its id.
///
/// To be called once, after [`crate::http1::framing::request`] and after splitting off what follows
/// the head.
pub fn request(
    head: &mut RequestHead,
    manager: &ConnectionManager,
    peer: &Peer<'_>,
    random: &mut impl FnMut() -> u64,
) -> Outcome {
    match checked(head, manager, peer, random) {
        Ok(facts) => Outcome::Continue(facts),
        Err(refusal) => Outcome::Refuse(refusal),
    }
}

/// What a format can know of a request before anything is decided about it.
impl StreamInfo for Peer<'_> {
    fn start_time(&self) -> SystemTime {
        SystemTime::now()
    }

    fn downstream_remote_address(&self) -> Option<Address> {
        Some(self.remote)
    }

    fn downstream_direct_remote_address(&self) -> Option<Address> {
        Some(self.remote)
    }

    fn downstream_local_address(&self) -> Option<Address> {
        Some(self.local)
    }

    fn downstream_tls(&self) -> Option<&TlsFacts> {
        self.tls
    }

    fn requested_server_name(&self) -> Option<&str> {
        self.tls?.server_name.as_deref()
    }
}

fn checked(
    head: &mut RequestHead,
    manager: &ConnectionManager,
    peer: &Peer<'_>,
    random: &mut impl FnMut() -> u64,
) -> Result<Facts, Refusal> {
    let expects_continue = head.expects_continue() && !manager.proxy_100_continue;
    let upgrade = asks_for_upgrade(head);

    let dropped_for_underscores = underscores(&mut head.fields, manager.underscores)?;
    head.fields.merge_set(JOINED_IN_REQUESTS);
    remove_nominated(&mut head.fields, upgrade)?;
    if expects_continue {
        head.fields.remove(FieldName::Expect);
    }
    host(head, manager)?;
    if head.method == Method::Query && !head.fields.has(FieldName::ContentType) {
        return Err(Refusal::QueryWithoutContentType);
    }
    let rules = &manager.client;
    let is_first = rules.use_remote_address && rules.xff_num_trusted_hops == 0;
    let is_http2 = head.version == Version::Http2;
    if is_first && !is_http2 && head.scheme == Some(Scheme::Https) && peer.tls.is_none() {
        return Err(Refusal::HttpsInTheClear);
    }
    normalize_path(head, manager)?;
    strip_host(head, manager, peer);

    if let Some(early) = &manager.early_mutations {
        early.apply(head, peer);
    }
    head.fields.remove_set(if upgrade { REMOVED_BUT_UPGRADE } else { REMOVED });
    sanitize_te(&mut head.fields);
    let client = client_address(&mut head.fields, manager, peer)?;
    head.scheme = scheme(head, manager, peer);
    let edge = manager.client.use_remote_address && !client.internal;
    remove_untrusted(&mut head.fields, &client, edge);
    add_proxy_fields(&mut head.fields, &client, edge, manager);
    request_id(&mut head.fields, manager, edge, random);
    manager.forward_client_cert.apply(&mut head.fields, peer.tls);
    Ok(Facts {
        client: client.address,
        dropped_for_underscores,
        internal: client.internal,
        expects_continue,
        upgrade,
    })
}

/// An upgrade to h2c is ignored: the request continues as HTTP/1.1 (RFC 9110 §7.8 allows it).
fn asks_for_upgrade(head: &RequestHead) -> bool {
    head.upgrade().is_some_and(|protocol| !protocol.eq_ignore_ascii_case(b"h2c"))
}

/// Returns how many fields were dropped.
fn underscores(fields: &mut Fields, action: Underscores) -> Result<u64, Refusal> {
    let has_underscore = |name: &[u8]| memchr::memchr(b'_', name).is_some();
    let before = fields.len();
    match action {
        Underscores::Allow => {}
        Underscores::Reject => {
            if fields.iter().any(|(_, name, _)| has_underscore(name)) {
                return Err(Refusal::Underscore);
            }
        }
        Underscores::Drop => fields.retain(|_, name, _, _| !has_underscore(name)),
    }
    Ok((before - fields.len()) as u64)
}

/// RFC 9110 §7.6.1: "Intermediaries MUST parse a received Connection header field before a message
/// is forwarded and, for each connection-option in this field, remove any header or trailer
/// field(s) from the message with the same name as the connection-option".
///
/// A client must not remove what proxies on the path add.
fn remove_nominated(fields: &mut Fields, upgrade: bool) -> Result<(), Refusal> {
    if !fields.has(FieldName::Connection) {
        return Ok(());
    }
    let mut nominated: Vec<Vec<u8>> = Vec::new();
    for (at, member) in members(fields, FieldName::Connection).enumerate() {
        if at + 1 >= NOMINATIONS_MAX {
            return Err(Refusal::Nomination);
        }
        // The usual members are not allocated.
        if USUAL_MEMBERS.iter().any(|usual| member.eq_ignore_ascii_case(usual)) {
            continue;
        }
        let name = member.to_ascii_lowercase();
        match FieldName::of(&name) {
            FieldName::XForwardedFor | FieldName::XForwardedHost | FieldName::XForwardedProto => {
                return Err(Refusal::Nomination);
            }
            // These are hop-by-hop anyway, or part of the framing.
            FieldName::Connection
            | FieldName::ContentLength
            | FieldName::Te
            | FieldName::TransferEncoding => {}
            _ if name.starts_with(b":") => return Err(Refusal::Nomination),
            _ => nominated.push(name),
        }
    }
    for name in &nominated {
        fields.remove_other(name);
    }
    if upgrade && !nominated.is_empty() {
        fields.set(FieldName::Connection, b"upgrade");
    }
    Ok(())
}

fn host(head: &mut RequestHead, manager: &ConnectionManager) -> Result<(), Refusal> {
    if head.fields.has(FieldName::Host) {
        return Ok(());
    }
    if head.version == Version::Http10 && !manager.default_host_for_http_10.is_empty() {
        head.fields.set(FieldName::Host, &manager.default_host_for_http_10);
        return Ok(());
    }
    Err(Refusal::MissingHost)
}

fn normalize_path(head: &mut RequestHead, manager: &ConnectionManager) -> Result<(), Refusal> {
    let target = head.target();
    if head.method == Method::Connect {
        return Ok(());
    }
    if target.first() != Some(&b'/') {
        //= rfc9110#9.3.7
        // "An OPTIONS request with an asterisk ("*") as the request target applies to the server in
        // general rather than to a specific resource." So it is not routed.
        return Err(if target == b"*" { Refusal::Asterisk } else { Refusal::NotAPath });
    }
    match path::normalize(target, &manager.path) {
        Normalized::Unchanged => {}
        Normalized::Changed(target) => head.set_target(&target),
        Normalized::Redirect(_) if head.is_grpc() => return Err(Refusal::Path),
        Normalized::Redirect(target) => {
            head.set_target(&target);
            return Err(Refusal::Redirect);
        }
        Normalized::Refused => return Err(Refusal::Path),
    }
    Ok(())
}

fn strip_host(head: &mut RequestHead, manager: &ConnectionManager, peer: &Peer<'_>) {
    let rules = &manager.host;
    if !rules.strip_trailing_dot && rules.strip_port == StripPort::Never {
        return;
    }
    let Some(received) = head.authority() else { return };
    let at = match memchr::memrchr(b']', received) {
        Some(bracket) => received
            .get(bracket..)
            .and_then(|rest| rest.iter().position(|&b| b == b':'))
            .map(|colon| bracket + colon),
        None => memchr::memchr(b':', received),
    };
    let (name, port) = received.split_at(at.unwrap_or(received.len()));
    let name = match name.strip_suffix(b".") {
        Some(undotted) if rules.strip_trailing_dot && !undotted.is_empty() => undotted,
        _ => name,
    };
    let number = port
        .strip_prefix(b":")
        .and_then(|digits| std::str::from_utf8(digits).ok())
        .and_then(|digits| digits.parse::<u16>().ok());
    let strip = match (rules.strip_port, number) {
        (StripPort::Any, Some(_)) => true,
        (StripPort::Matching, Some(number)) => Some(number) == peer.local.port(),
        _ => false,
    };
    let host = if strip { name.to_vec() } else { [name, port].concat() };
    if host != received {
        head.fields.set(FieldName::Host, &host);
    }
}

/// `TE` is hop-by-hop (RFC 9110 §10.1.4); only `trailers` is forwarded. As in Envoy, so is an empty
/// value.
fn sanitize_te(fields: &mut Fields) {
    if fields.get(FieldName::Te).is_none_or(<[u8]>::is_empty) {
        return;
    }
    if members(fields, FieldName::Te).any(|member| member.eq_ignore_ascii_case(b"trailers")) {
        fields.set(FieldName::Te, b"trailers");
    } else {
        fields.remove(FieldName::Te);
    }
}

struct Client {
    address: Address,
    internal: bool,
}

#[inline(always)]
fn client_address(
    fields: &mut Fields,
    manager: &ConnectionManager,
    peer: &Peer<'_>,
) -> Result<Client, Refusal> {
    let rules = &manager.client;
    let hops = rules.xff_num_trusted_hops;
    let (named, checkable) = if rules.use_remote_address {
        let checkable = !fields.has(FieldName::XForwardedFor);
        let named = if hops > 0 { forwarded_for(fields, hops - 1) } else { None };
        if !rules.skip_xff_append {
            append_forwarded_for(fields, rules.local_address, peer);
        }
        (Some(named.unwrap_or(peer.remote)), checkable)
    } else if !rules.detections.is_empty() {
        let detected = original_ip::detect(&rules.detections, fields, peer.remote);
        let detected = detected.map_err(Refusal::OriginalIp)?;
        if detected.appends {
            append_forwarded_for(fields, rules.local_address, peer);
        }
        (detected.client, detected.is_trusted)
    } else if !fields.has(FieldName::XForwardedFor) {
        (None, true)
    } else {
        let single = members(fields, FieldName::XForwardedFor).nth(1).is_none();
        (forwarded_for(fields, hops), single)
    };
    let internal = checkable
        && named.is_some_and(|address| match address.ip() {
            Some(ip) => manager.internal_addresses.iter().any(|range| range.contains(ip)),
            None => manager.internal_unix_sockets,
        });
    Ok(Client { address: named.unwrap_or(peer.remote), internal })
}

/// The address at a position of `x-forwarded-for`, counted from the end.
pub(super) fn forwarded_for(fields: &Fields, from_end: usize) -> Option<Address> {
    let value = fields.get(FieldName::XForwardedFor)?;
    named_by(value.rsplit(|&byte| byte == b',').nth(from_end)?.trim_ascii())
}

/// The address that a text names.
pub(super) fn named_by(text: &[u8]) -> Option<Address> {
    let address: IpAddr = std::str::from_utf8(text).ok()?.parse().ok()?;
    Some(SocketAddr::new(address, 0).into())
}

fn append_forwarded_for(fields: &mut Fields, local_address: Option<IpAddr>, peer: &Peer<'_>) {
    // A unix socket has no address to append.
    let Some(remote) = peer.remote.ip() else { return };
    // As in Envoy, only these two addresses count as loopback.
    let is_loopback = remote == Ipv4Addr::LOCALHOST || remote == Ipv6Addr::LOCALHOST;
    let address = if is_loopback { local_address.unwrap_or(remote) } else { remote };
    let mut room = [0; ADDRESS_TEXT_MAX];
    fields.join(FieldName::XForwardedFor, b",", text_of(address, &mut room));
}

/// Determines the scheme, and sets `x-forwarded-proto` and `x-forwarded-port`. As in Envoy, an empty
/// `x-forwarded-proto` means that there is no scheme, whatever the target says.
#[inline(always)]
fn scheme(head: &mut RequestHead, manager: &ConnectionManager, peer: &Peer<'_>) -> Option<Scheme> {
    let by_connection = if peer.tls.is_some() { Scheme::Https } else { Scheme::Http };
    let fields = &mut head.fields;
    // No trusted proxy is in front of this one: the fields of the request do not count.
    let distrusted = manager.client.use_remote_address && manager.client.xff_num_trusted_hops == 0;
    let claimed = match fields.get(FieldName::XForwardedProto) {
        Some(b"") if !distrusted => None,
        Some(proto) if !distrusted => Some(match proto {
            _ if proto.eq_ignore_ascii_case(b"https") => Scheme::Https,
            _ if proto.eq_ignore_ascii_case(b"http") => Scheme::Http,
            _ => by_connection,
        }),
        _ => {
            set_forwarded_proto(fields, by_connection);
            Some(by_connection)
        }
    };
    if manager.append_x_forwarded_port
        && (distrusted || !fields.has(FieldName::XForwardedPort))
        && let Some(port) = peer.local.port()
    {
        let mut digits = itoa::Buffer::new();
        let port = digits.format(port).as_bytes();
        fields.set(FieldName::XForwardedPort, port);
    }
    if let Some(scheme) = manager.scheme {
        set_forwarded_proto(fields, scheme);
        return Some(scheme);
    }
    claimed.map(|claimed| head.scheme.unwrap_or(claimed))
}
#[inline(always)]
fn set_forwarded_proto(fields: &mut Fields, scheme: Scheme) {
    const NAME: FieldName = FieldName::XForwardedProto;
    match scheme {
        Scheme::Http => fields.set_line(&Line::of_bytes(NAME, b"\r\nx-forwarded-proto: http")),
        Scheme::Https => fields.set_line(&Line::of_bytes(NAME, b"\r\nx-forwarded-proto: https")),
    }
}

/// Removes fields that an external client must not set.
fn remove_untrusted(fields: &mut Fields, client: &Client, edge: bool) {
    if client.internal {
        fields.set(FieldName::XEnvoyInternal, b"true");
    } else {
        fields.remove_set(if edge { EDGE_CONTROL } else { CONTROL });
    }
}

/// Adds fields that identify the proxy, and at the edge the client.
fn add_proxy_fields(fields: &mut Fields, client: &Client, edge: bool, manager: &ConnectionManager) {
    if let Some(us) = &manager.user_agent {
        add_user_agent(fields, us);
    }
    if !manager.via.is_empty() {
        fields.join(FieldName::Via, b", ", &manager.via);
    }
    if edge && let Some(ip) = client.address.ip() {
        let mut room = [0; ADDRESS_TEXT_MAX];
        let address = text_of(ip, &mut room);
        fields.set(FieldName::XEnvoyExternalAddress, address);
    }
}

/// As in Envoy, the service cluster is sent even if it is empty, the service node is not.
fn add_user_agent(fields: &mut Fields, us: &UserAgent) {
    fields.set(FieldName::XEnvoyDownstreamServiceCluster, &us.service_cluster);
    if fields.get(FieldName::UserAgent).is_none_or(<[u8]>::is_empty) {
        fields.set(FieldName::UserAgent, &us.service_cluster);
    }
    if !us.service_node.is_empty() {
        fields.set(FieldName::XEnvoyDownstreamServiceNode, &us.service_node);
    }
}

fn request_id(
    fields: &mut Fields,
    manager: &ConnectionManager,
    edge: bool,
    random: &mut impl FnMut() -> u64,
) {
    let rules = &manager.request_id;
    if !rules.generate {
        return;
    }
    let received = fields.get(FieldName::XRequestId).filter(|id| !id.is_empty());
    match received.filter(|_| !edge || rules.preserve_external) {
        None => {
            let mut line = *b"\r\nx-request-id: 00000000-0000-4000-8000-000000000000";
            if let Some(id) = line.last_chunk_mut() {
                uuid::v4(random(), random(), id);
            }
            fields.set_line(&Line::of_bytes(FieldName::XRequestId, line));
        }
        Some(id) => {
            // As in Envoy, an external client must not request a trace.
            if edge
                && rules.pack_trace_reason
                && let Ok(mut id) = <[u8; 36]>::try_from(id)
            {
                uuid::set_version(&mut id);
                fields.set(FieldName::XRequestId, &id);
            }
        }
    }
}

fn text_of(address: IpAddr, room: &mut [u8; ADDRESS_TEXT_MAX]) -> &[u8] {
    let mut rest = room.as_mut_slice();
    // It always fits; otherwise it would be truncated.
    let fits = write!(rest, "{address}");
    debug_assert!(fits.is_ok(), "an address is longer than ADDRESS_TEXT_MAX");
    let left = rest.len();
    room.get(..ADDRESS_TEXT_MAX - left).unwrap_or_default()
}

/// The longest text of an IPv6 address with an IPv4 address in it.
const ADDRESS_TEXT_MAX: usize = 46;

/// Members of `Connection` that name no field to remove.
const USUAL_MEMBERS: [&[u8]; 3] = [b"keep-alive", b"close", b"upgrade"];

/// A request with this many members of `Connection` is rejected, as in Envoy.
const NOMINATIONS_MAX: usize = 10;

/// Removed from every request: hop-by-hop fields, and those that only the proxy sets.
const REMOVED: FieldSet = HOP_BY_HOP_OF_REQUESTS.with(&[FieldName::XEnvoyInternal]);

const REMOVED_BUT_UPGRADE: FieldSet = HOP_BY_HOP_OF_UPGRADES.with(&[FieldName::XEnvoyInternal]);

/// Fields that control Envoys upstream; only internal clients may set them.
const CONTROL: FieldSet = FieldSet::of(&[
    FieldName::XEnvoyExpectedRqTimeoutMs,
    FieldName::XEnvoyForceTrace,
    FieldName::XEnvoyHedgeOnPerTryTimeout,
    FieldName::XEnvoyIpTags,
    FieldName::XEnvoyMaxRetries,
    FieldName::XEnvoyOriginalUrl,
    FieldName::XEnvoyRetriableHeaderNames,
    FieldName::XEnvoyRetriableStatusCodes,
    FieldName::XEnvoyRetryGrpcOn,
    FieldName::XEnvoyRetryOn,
    FieldName::XEnvoyUpstreamAltStatName,
    FieldName::XEnvoyUpstreamRqPerTryTimeoutMs,
    FieldName::XEnvoyUpstreamRqTimeoutAltResponse,
    FieldName::XEnvoyUpstreamRqTimeoutMs,
    FieldName::XEnvoyUpstreamStreamDurationMs,
]);

/// At the edge also fields that only the proxy sets.
const EDGE_CONTROL: FieldSet = CONTROL.with(&[
    FieldName::XEnvoyDecoratorOperation,
    FieldName::XEnvoyDownstreamServiceCluster,
    FieldName::XEnvoyDownstreamServiceNode,
    FieldName::XEnvoyOriginalHost,
    FieldName::XEnvoyOriginalPath,
]);
