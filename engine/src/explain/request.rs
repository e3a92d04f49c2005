//! The request that is asked about, and what happens to its head.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, SystemTime};

use super::{Scratch, Service, Snapshot};
use crate::address::Address;
use crate::downstream::Listener;
use crate::format::{Formatter, Inputs, StreamInfo, Unset};
use crate::http::{FieldName, FieldSet, HeadLimits, Method, RequestHead, ResponseHead};
use crate::request::route::{Forward, Route, Timeouts, VirtualHost};

/// A request to explain.
#[derive(Clone, Debug)]
pub struct Asked {
    /// `GET`
    pub method: String,
    /// Whether it comes over TLS.
    pub is_https: bool,
    /// The host of the URL, without port.
    pub host: String,
    /// Its port, if the URL has one.
    pub port: Option<u16>,
    /// Path and query.
    pub target: String,
    /// Further headers.
    pub headers: Vec<(String, String)>,
    /// The name of the listener; none: the one with the port.
    pub listener: Option<String>,
    /// The address of the client.
    pub client: Address,
    /// What fractions and weights are drawn by.
    pub random: u64,
}

/// Why a request cannot be explained.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum AskedError {
    /// It is not a method and a URL.
    #[error("write a method and a URL: 'GET https://host/path'")]
    NotARequest,
    /// A header is not `name: value`.
    #[error("`{0}` is not a header: write 'name: value'")]
    NotAHeader(String),
    /// The head would be refused.
    #[error("the request is not valid HTTP")]
    Invalid,
    /// There is no listener with this port or name.
    #[error("no listener {0}; there are: {1}")]
    NoListener(String, String),
}

impl Asked {
    /// Any port that a client might have.
    pub const CLIENT_PORT: u16 = 50_000;

    /// Reads `GET https://host:port/path?query` and headers of the form `name: value`. Without a method it
    /// is a GET, and without a path `/`.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn new(request: &str, headers: &[String]) -> Result<Self, AskedError> {
        let mut words = request.split_whitespace();
        let (method, url) = match (words.next(), words.next(), words.next()) {
            (Some(url), None, None) => ("GET", url),
            (Some(method), Some(url), None) => (method, url),
            _ => return Err(AskedError::NotARequest),
        };
        let (is_https, rest) = match (url.strip_prefix("https://"), url.strip_prefix("http://")) {
            (Some(rest), _) => (true, rest),
            (None, Some(rest)) => (false, rest),
            (None, None) => return Err(AskedError::NotARequest),
        };
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, target) = rest.split_at_checked(end).ok_or(AskedError::NotARequest)?;
        let target = if target.starts_with('/') { target.to_owned() } else { format!("/{target}") };
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => {
                (host, Some(port.parse().map_err(|_| AskedError::NotARequest)?))
            }
            _ => (authority, None),
        };
        if host.is_empty() {
            return Err(AskedError::NotARequest);
        }
        let header = |header: &String| {
            let parts = header.split_once(':').filter(|(name, _)| !name.is_empty());
            let (name, value) = parts.ok_or_else(|| AskedError::NotAHeader(header.clone()))?;
            Ok((name.trim().to_owned(), value.trim().to_owned()))
        };
        Ok(Self {
            method: method.to_owned(),
            is_https,
            host: host.to_owned(),
            port,
            target,
            headers: headers.iter().map(header).collect::<Result<_, _>>()?,
            listener: None,
            client: Address::from(SocketAddr::from((Ipv4Addr::LOCALHOST, Self::CLIENT_PORT))),
            random: 0,
        })
    }

    const fn default_port(&self) -> u16 {
        if self.is_https { 443 } else { 80 }
    }

    fn authority(&self) -> String {
        match self.port {
            Some(port) => format!("{}:{port}", self.host),
            None => self.host.clone(),
        }
    }

    /// The head as the client sends it.
    pub(super) fn head(&self) -> Result<RequestHead, AskedError> {
        let mut text = format!("{} {} HTTP/1.1\r\n", self.method, self.target);
        let has_host = self.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("host"));
        if !has_host {
            text.push_str(&format!("host: {}\r\n", self.authority()));
        }
        for (name, value) in &self.headers {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        text.push_str("\r\n");
        let mut head = RequestHead::default();
        head.received().extend_from_slice(text.as_bytes());
        match head.parse(&HeadLimits::default()) {
            Ok(Some(len)) if len == text.len() => Ok(head),
            _ => Err(AskedError::Invalid),
        }
    }
}

impl fmt::Display for Asked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.is_https { "https" } else { "http" };
        write!(f, "{} {scheme}://{}{}", self.method, self.authority(), self.target)
    }
}

/// The listener of a request, with its index and what to say about the choice.
pub(super) fn listener<'a>(
    snapshot: &'a Snapshot,
    asked: &Asked,
) -> Result<(usize, &'a Listener, Option<String>), AskedError> {
    let listeners = || snapshot.listeners.iter().enumerate().map(|(i, it)| (i, &**it));
    let names = || listeners().map(|(_, it)| described(it)).collect::<Vec<_>>().join(", ");
    if let Some(name) = &asked.listener {
        let named = listeners().find(|(_, it)| it.name == *name);
        let (index, listener) =
            named.ok_or_else(|| AskedError::NoListener(format!("is named {name}"), names()))?;
        return Ok((index, listener, None));
    }
    let port = asked.port.unwrap_or_else(|| asked.default_port());
    let has_port = |it: &Listener| it.addresses.iter().any(|it| it.address.port() == Some(port));
    if let Some((index, listener)) = listeners().find(|(_, it)| has_port(it)) {
        return Ok((index, listener, None));
    }
    let mut all = listeners();
    match (all.next(), all.next()) {
        (Some((index, listener)), None) => {
            let note = format!("no listener has the port {port}: this is the only one");
            Ok((index, listener, Some(note)))
        }
        _ => Err(AskedError::NoListener(format!("has the port {port}"), names())),
    }
}

fn described(listener: &Listener) -> String {
    let addresses = listener.addresses.iter().map(|it| it.address.to_string());
    format!("{} ({})", listener.name, addresses.collect::<Vec<_>>().join(", "))
}

/// The address that the client connects to: the listener's, where it is a certain one.
pub(super) fn local(listener: &Listener, asked: &Asked) -> Address {
    let port = asked.port.unwrap_or_else(|| asked.default_port());
    let any = Address::from(SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
    let Some(address) = listener.addresses.first().map(|it| it.address) else { return any };
    match (address.ip(), address.port()) {
        (Some(ip), Some(own)) => {
            let ip = if ip.is_unspecified() {
                asked.host.parse().unwrap_or_else(|_| loopback(ip))
            } else {
                ip
            };
            Address::from(SocketAddr::new(ip, if own == 0 { port } else { own }))
        }
        _ => address,
    }
}

const fn loopback(like: IpAddr) -> IpAddr {
    match like {
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(_) => IpAddr::V6(std::net::Ipv6Addr::LOCALHOST),
    }
}

/// A request that is only explained, at its connection manager.
#[derive(Clone, Copy, Debug)]
pub(super) struct Dry<'a> {
    pub(super) asked: &'a Asked,
    pub(super) local: Address,
    pub(super) service: &'a Service,
}

impl Dry<'_> {
    /// Edits the head as the route says, as it is sent in the first attempt.
    pub(super) fn edit(
        &self,
        (virtual_host, route): (&VirtualHost, &Route),
        plan: &Forward,
        head: &mut RequestHead,
    ) {
        let tells = !self.service.manager.suppress_envoy_headers;
        if let Some(expected) = self.timeouts(plan, head).expected_ms(Duration::ZERO)
            && tells
        {
            let expected = expected.to_string();
            head.fields.set(FieldName::XEnvoyExpectedRqTimeoutMs, expected.as_bytes());
        }
        head.fields.remove_set(CONTROL);
        if virtual_host.include_request_attempt_count {
            head.fields.set(FieldName::XEnvoyAttemptCount, b"1");
        }
        let stream = Stream { dry: self, route };
        route.request_headers.apply_to_request(head, &stream, &mut Scratch::default());
        let mut text = Vec::new();
        plan.host_rewrite.rewrite(head, &self.evaluate(route, head), &mut text);
        if !text.is_empty() {
            let original = head.authority().unwrap_or_default().to_vec();
            head.set_authority(&text);
            if tells {
                head.fields.set(FieldName::XEnvoyOriginalHost, &original);
            }
            if plan.append_x_forwarded_host {
                head.fields.join(FieldName::XForwardedHost, b",", &original);
            }
        }
        text.clear();
        let (matched, target) = (&route.path, head.target());
        plan.path_rewrite.rewrite(matched, target, &self.evaluate(route, head), &mut text);
        if !text.is_empty() {
            let original = head.target().to_vec();
            head.set_target(&text);
            if tells {
                head.fields.set(FieldName::XEnvoyOriginalPath, &original);
            }
        }
    }

    /// The timeouts of the request.
    pub(super) fn timeouts(&self, plan: &Forward, head: &RequestHead) -> Timeouts {
        let expected = FieldName::XEnvoyExpectedRqTimeoutMs;
        let respects = self.service.manager.respect_expected_rq_timeout;
        let asks = FieldName::XEnvoyUpstreamRqTimeoutMs;
        let field = if respects && head.fields.has(expected) { expected } else { asks };
        plan.timeouts(head, field)
    }

    /// Evaluates formats of the route.
    pub(super) fn evaluate(
        &self,
        route: &Route,
        head: &RequestHead,
    ) -> impl Fn(&Formatter, Unset, &mut Vec<u8>) {
        move |formatter, unset, out| {
            let stream = Stream { dry: self, route };
            let inputs = Inputs { request: Some(head), ..Inputs::new(&stream) };
            formatter.format(&inputs, unset, out);
        }
    }

    /// The protocol that the request may not upgrade to.
    pub(super) fn refused_upgrade(&self, plan: &Forward, head: &RequestHead) -> Option<String> {
        let protocol = match head.upgrade() {
            None if head.method == Method::Connect => b"CONNECT",
            protocol => protocol?,
        };
        let allowed = plan.upgrades.allow(protocol);
        let allowed = allowed.or_else(|| self.service.manager.upgrades.allow(protocol));
        (allowed != Some(true)).then(|| String::from_utf8_lossy(protocol).into_owned())
    }

    /// What the route changes in a response without fields.
    pub(super) fn response_changes(&self, route: &Route, head: &RequestHead) -> Vec<String> {
        let stream = Stream { dry: self, route };
        let mut response = ResponseHead { status: 200, ..ResponseHead::default() };
        let scratch = &mut Scratch::default();
        route.response_headers.apply_to_response(&mut response, Some(head), &stream, scratch);
        let removed = route.response_headers.removed().map(|name| format!("- {name}"));
        let added =
            response.fields.iter().map(|(_, name, value)| format!("+ {}", line(name, value)));
        removed.chain(added).collect()
    }
}

/// Headers that only this proxy reads.
const CONTROL: FieldSet = FieldSet::of(&[
    FieldName::XEnvoyMaxRetries,
    FieldName::XEnvoyRetriableHeaderNames,
    FieldName::XEnvoyRetriableStatusCodes,
    FieldName::XEnvoyRetryGrpcOn,
    FieldName::XEnvoyRetryOn,
    FieldName::XEnvoyUpstreamRqPerTryTimeoutMs,
    FieldName::XEnvoyUpstreamRqTimeoutMs,
]);

/// What is different in the second of two heads: `- removed`, `+ added`.
pub(super) fn changes(before: &RequestHead, after: &RequestHead) -> Vec<String> {
    let mut old = lines(before);
    let mut added = Vec::new();
    for line in lines(after) {
        match old.iter().position(|other| *other == line) {
            Some(at) => drop(old.remove(at)),
            None => added.push(format!("+ {line}")),
        }
    }
    old.into_iter().map(|line| format!("- {line}")).chain(added).collect()
}

fn lines(head: &RequestHead) -> Vec<String> {
    let authority = head.authority().unwrap_or_default();
    let pseudo = [(":path", head.target()), (":authority", authority)];
    let pseudo = pseudo.iter().map(|(name, value)| line(name.as_bytes(), value));
    let host = |name: &[u8]| name.eq_ignore_ascii_case(b"host");
    let fields = head.fields.iter().filter(|(_, name, _)| !host(name));
    pseudo.chain(fields.map(|(_, name, value)| line(name, value))).collect()
}

fn line(name: &[u8], value: &[u8]) -> String {
    format!("{}: {}", String::from_utf8_lossy(name), String::from_utf8_lossy(value))
}

/// What a format can know of a request that is not sent.
struct Stream<'a> {
    dry: &'a Dry<'a>,
    route: &'a Route,
}

impl StreamInfo for Stream<'_> {
    fn start_time(&self) -> SystemTime {
        SystemTime::now()
    }

    fn route_name(&self) -> Option<&str> {
        Some(&self.route.name)
    }

    fn downstream_remote_address(&self) -> Option<Address> {
        Some(self.dry.asked.client)
    }

    fn downstream_direct_remote_address(&self) -> Option<Address> {
        Some(self.dry.asked.client)
    }

    fn downstream_local_address(&self) -> Option<Address> {
        Some(self.dry.local)
    }

    fn listener_name(&self) -> Option<&str> {
        Some(&self.dry.service.info.name)
    }

    fn filter_chain_name(&self) -> Option<&str> {
        Some(&self.dry.service.info.chain_name)
    }
}
