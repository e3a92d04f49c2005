//! What becomes of a request that a route matched.

pub(crate) mod compile;

use std::borrow::Cow;
use std::time::Duration;

use bytes::Bytes;

use super::path::PathMatch;
use super::rewrite::{HostRewrite, PathRewrite};
use super::upgrades::Upgrades;
use super::{scheme, without_query};
use crate::http::{FieldName, Line, RequestHead};
use crate::request::retry::RetryPolicy;
use crate::shard::clock::millis;
use crate::upstream::circuit_breaker::RoutingPriority;

/// The action of a route.
#[derive(Clone, Debug)]
#[expect(clippy::large_enum_variant, reason = "most routes forward, and none is ever moved")]
pub enum Action {
    /// The cluster did not exist when the route was loaded, which `validate_clusters: false`
    /// allows: every request gets a local reply of this status, flag NC.
    ClusterNotFound {
        /// `cluster_not_found_response_code`
        status: u16,
    },
    /// Answered here.
    DirectResponse(DirectResponse),
    /// Sent to a cluster.
    Forward(Forward),
    /// Answered here with another address.
    Redirect(Redirect),
}

/// How a request is forwarded.
#[derive(Clone, Debug)]
pub struct Forward {
    /// Index in the snapshot's clusters.
    pub cluster: usize,
    /// The timers of a request that asks for no others.
    pub timeouts: Timeouts,
    /// `x-envoy-expected-rq-timeout-ms` of its first attempt.
    pub expected: Option<Line>,
    /// Replaces the connection manager's `stream_idle_timeout`; zero means none.
    pub idle_timeout: Option<Duration>,
    /// The upgrades that it allows or refuses, whatever the connection manager says.
    pub upgrades: Upgrades,
    /// What becomes of a CONNECT that is allowed.
    pub connect: Connect,
    /// The route's own policy or the one of its virtual host.
    pub retry: Option<RetryPolicy>,
    /// What the endpoint sees as host.
    pub host_rewrite: HostRewrite,
    /// Whether a rewritten host is kept in `x-forwarded-host`.
    pub append_x_forwarded_host: bool,
    /// What the endpoint sees as path.
    pub path_rewrite: PathRewrite,
    /// Which circuit breakers and pools it uses.
    pub priority: RoutingPriority,
}

/// `connect_config`: what becomes of a CONNECT.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Connect {
    /// The host is a proxy and is asked for the tunnel.
    #[default]
    Forwarded,
    /// The tunnel ends here: the host gets what is in it.
    Terminated,
}

/// An answer that the configuration spells out.
#[derive(Clone, Debug)]
pub struct DirectResponse {
    /// 200 to 599.
    pub status: u16,
    /// May be empty.
    pub body: Bytes,
}

/// An answer that sends the client to another address.
#[derive(Clone, Debug, Default)]
pub struct Redirect {
    /// 301, 302, 303, 307 or 308.
    pub status: u16,
    /// `scheme_redirect`, or `https` for `https_redirect`.
    pub scheme: Option<Box<[u8]>>,
    /// `host_redirect`
    pub host: Option<Box<[u8]>>,
    /// `port_redirect`
    pub port: Option<u32>,
    /// The new path.
    pub path: RedirectPath,
    /// Whether the query is dropped; one that `path_redirect` brings along stays.
    pub strip_query: bool,
}

/// The path of a redirect.
#[derive(Clone, Debug)]
pub enum RedirectPath {
    /// `path_redirect`: all of it.
    Replace(Box<[u8]>),
    /// `prefix_rewrite`, `regex_rewrite`, or as it came.
    Rewrite(PathRewrite),
}

/// The timers of one forwarded request.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Timeouts {
    /// For everything; `None` is infinite.
    pub global: Option<Duration>,
    /// For one attempt.
    pub per_try: Option<Duration>,
}

impl Forward {
    /// The timers of a request: those of the route, or those that are asked for in headers, the
    /// one for everything in `global_field`. The caller removes these headers.
    pub fn timeouts(&self, head: &RequestHead, global_field: FieldName) -> Timeouts {
        let fields = &head.fields;
        if !fields.has(global_field) && !fields.has(FieldName::XEnvoyUpstreamRqPerTryTimeoutMs) {
            return self.timeouts;
        }
        let asked = |name| {
            let value = head.fields.get(name)?;
            std::str::from_utf8(value).ok()?.trim().parse().ok().map(Duration::from_millis)
        };
        let some = |timeout: Duration| (!timeout.is_zero()).then_some(timeout);
        let global = match asked(global_field) {
            Some(asked) => some(asked),
            None => self.timeouts.global,
        };
        let per_try = match asked(FieldName::XEnvoyUpstreamRqPerTryTimeoutMs) {
            Some(asked) => some(asked),
            None => self.retry.as_ref().and_then(|retry| retry.per_try_timeout),
        };
        Timeouts::new(global, per_try)
    }
}

impl Timeouts {
    /// The timers for everything and for one attempt. An attempt that may last as long as everything
    /// needs none of its own.
    pub fn new(global: Option<Duration>, per_try: Option<Duration>) -> Self {
        let per_try = per_try.filter(|per_try| global.is_none_or(|global| *per_try < global));
        Self { global, per_try }
    }

    /// `x-envoy-expected-rq-timeout-ms` for an attempt that starts `elapsed` after the first one;
    /// `None` if it has no limit.
    pub fn expected_ms(&self, elapsed: Duration) -> Option<u64> {
        let expected = self.per_try.or(self.global)?;
        let left = self.global.map(|global| global.saturating_sub(elapsed));
        let expected = left.map_or(expected, |left| expected.min(left));
        // Zero would mean infinite.
        Some(millis(expected).max(1))
    }
}

impl Redirect {
    /// Writes the `location` for a request to `out`; `matched` is what its path matched.
    pub fn location(&self, matched: &PathMatch, head: &RequestHead, out: &mut Vec<u8>) {
        let old_scheme = scheme(head);
        let new_scheme = self.scheme.as_deref().unwrap_or(old_scheme);
        out.extend_from_slice(new_scheme);
        out.extend_from_slice(b"://");
        out.extend_from_slice(match &self.host {
            Some(host) => host,
            None => {
                self.requested_host(head.authority().unwrap_or_default(), old_scheme, new_scheme)
            }
        });
        if let Some(port) = self.port {
            out.push(b':');
            out.extend_from_slice(itoa::Buffer::new().format(port).as_bytes());
        }
        let path = self.new_path(matched, head.target());
        if !path.starts_with(b"/") {
            out.push(b'/');
        }
        out.extend_from_slice(&path);
    }

    /// The host of the request, without its port if that changes with the redirect.
    fn requested_host<'a>(&self, host: &'a [u8], old_scheme: &[u8], scheme: &[u8]) -> &'a [u8] {
        let Some(colon) = port_start(host) else { return host };
        let (name, port) = host.split_at(colon);
        let is_default = matches!((old_scheme, port), (b"http", b":80") | (b"https", b":443"));
        let goes = self.port.is_some() || (is_default && scheme != old_scheme);
        if goes { name } else { host }
    }

    fn new_path<'a>(&'a self, matched: &PathMatch, target: &'a [u8]) -> Cow<'a, [u8]> {
        let query = target.get(without_query(target).len()..).unwrap_or_default();
        let mut path = match &self.path {
            RedirectPath::Replace(path) if path.contains(&b'?') => return Cow::Borrowed(path),
            RedirectPath::Replace(path) if self.strip_query => return Cow::Borrowed(path),
            RedirectPath::Replace(path) => [path, query].concat(),
            RedirectPath::Rewrite(rewrite) => {
                let mut path = Vec::new();
                rewrite.rewrite(matched, target, &mut path);
                path
            }
        };
        if path.is_empty() {
            let path = if self.strip_query { without_query(target) } else { target };
            return Cow::Borrowed(path);
        }
        if self.strip_query {
            path.truncate(without_query(&path).len());
        }
        Cow::Owned(path)
    }
}

impl DirectResponse {
    /// Writes the `location` that an answer of this status carries to `out`: the address of the
    /// request itself.
    pub fn location(&self, head: &RequestHead, out: &mut Vec<u8>) {
        //= rfc9110#section-7.1.2, as Envoy reads it: 201 and all of 3xx.
        if self.status == 201 || (300..400).contains(&self.status) {
            out.extend_from_slice(scheme(head));
            out.extend_from_slice(b"://");
            out.extend_from_slice(head.authority().unwrap_or_default());
            out.extend_from_slice(head.target());
        }
    }
}

impl Default for RedirectPath {
    fn default() -> Self {
        Self::Rewrite(PathRewrite::None)
    }
}

/// Where the port of a host begins, with its colon. An IPv6 address has colons of its own.
pub(super) fn port_start(host: &[u8]) -> Option<usize> {
    let colon = memchr::memrchr(b':', host)?;
    let is_port =
        !host.starts_with(b"[") || colon.checked_sub(1).and_then(|at| host.get(at)) == Some(&b']');
    is_port.then_some(colon)
}
