//! The actions of routes.

pub(crate) mod compile;
pub(crate) mod stream_duration;

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use self::stream_duration::{MaxGrpcTimeout, MaxStreamDuration, grpc_timeout};
use super::hash_policy::HashPolicies;
use super::internal_redirect::InternalRedirectPolicy;
use super::matchers::HeaderName;
use super::path::PathMatch;
use super::rewrite::{Evaluate, HostRewrite, PathRewrite, path_of};
use super::upgrades::Upgrades;
use super::{scheme, without_query};
use crate::format::Formatter;
use crate::http::{FieldName, Line, RequestHead};
use crate::request::mirror;
use crate::request::rate_limit::RouteLimits;
use crate::request::reply_rewrite::BodyFormat;
use crate::request::retry::RetryPolicy;
use crate::shard::clock::millis;
use crate::upstream::circuit_breaker::RoutingPriority;
use crate::upstream::host_set::Criteria;

/// The action of a route.
#[derive(Clone, Debug)]
#[expect(clippy::large_enum_variant, reason = "most routes forward, and none is ever moved")]
pub enum Action {
    /// The cluster did not exist when the route was loaded, which `validate_clusters: false`
    /// allows: every request gets a local reply with this status, flag NC.
    ClusterNotFound {
        /// `cluster_not_found_response_code`
        status: u16,
    },
    /// Responds with a local reply.
    DirectResponse(DirectResponse),
    /// Forwards to a cluster.
    Forward(Forward),
    /// Responds with a redirect.
    Redirect(Redirect),
}

/// How a request is forwarded.
#[derive(Clone, Debug)]
pub struct Forward {
    /// Which cluster it goes to.
    pub cluster: ClusterChoice,
    /// The status of the reply if there is no such cluster.
    pub not_found_status: u16,
    /// What the hash is computed from that the load balancer may choose by.
    pub hash_policies: HashPolicies,
    /// `metadata_match`: what the hosts of a cluster with subsets must have.
    pub subset: Option<Box<Criteria>>,
    /// The timeouts of a request without timeout headers.
    pub timeouts: Timeouts,
    /// `x-envoy-expected-rq-timeout-ms` of the first attempt with these timeouts.
    pub expected: Option<Line>,
    /// How long a request may take; its timeout is unlimited then.
    pub max_stream_duration: Option<MaxStreamDuration>,
    /// `max_grpc_timeout`: the timeout of gRPC requests, unless there is a `max_stream_duration`.
    pub max_grpc_timeout: Option<MaxGrpcTimeout>,
    /// Replaces the connection manager's `stream_idle_timeout`; zero means none.
    pub idle_timeout: Option<Duration>,
    /// How long the client may take for the rest of a response that has been received; zero means for ever.
    /// `None`: as the connection manager says.
    pub flush_timeout: Option<Duration>,
    /// The upgrades that the route allows or rejects, overriding the connection manager.
    pub upgrades: Upgrades,
    /// What to do with a CONNECT that is allowed.
    pub connect: Connect,
    /// The route's own policy or the one of its virtual host.
    pub retry: Option<RetryPolicy>,
    /// How the host is rewritten.
    pub host_rewrite: HostRewrite,
    /// Whether the original host is appended to `x-forwarded-host`.
    pub append_x_forwarded_host: bool,
    /// How the path is rewritten.
    pub path_rewrite: PathRewrite,
    /// Which circuit breakers and pools are used.
    pub priority: RoutingPriority,
    /// The rate limits that filters count by.
    pub(crate) rate_limits: Option<Arc<RouteLimits>>,
    /// Which redirects of hosts are followed here; none: they are for the client.
    pub internal_redirect: Option<Arc<InternalRedirectPolicy>>,
    /// `request_mirror_policies`: of the route, its virtual host or its route configuration.
    pub mirrors: Option<Arc<[mirror::Policy]>>,
}

/// Which cluster a request goes to.
#[derive(Clone, Debug)]
pub enum ClusterChoice {
    /// The one with this index in the snapshot.
    Index(usize),
    /// `cluster_header`: the one that this header names.
    Header(HeaderName),
    /// That is decided elsewhere, for each request: a mirror.
    Open,
}

/// `connect_config`: what to do with a CONNECT.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Connect {
    /// Forwarded: the host is a proxy and opens the tunnel.
    #[default]
    Forwarded,
    /// Terminated: the host gets the bytes in the tunnel.
    Terminated,
    /// `allow_post`: so is a POST, whose body is what the host gets, and what the host sends is the
    /// body of the response.
    TerminatedOrPost,
}

/// A `DirectResponseAction`.
#[derive(Clone, Debug)]
pub struct DirectResponse {
    /// 200 to 599.
    pub status: u16,
    /// May be empty.
    pub body: Bytes,
    /// `body_format`: what makes the body, which may refer to the one above.
    pub format: Option<Box<BodyFormat>>,
}

/// A `RedirectAction`.
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
    /// Whether the query is removed; that of `path_redirect` is kept.
    pub strip_query: bool,
}

/// The path of a redirect.
#[derive(Clone, Debug)]
pub enum RedirectPath {
    /// `path_redirect`: replaces the whole path.
    Replace(Box<[u8]>),
    /// `path_rewrite`: replaces the path; the query is kept behind it.
    Format(Box<Formatter>),
    /// `prefix_rewrite`, `regex_rewrite`, or unchanged.
    Rewrite(PathRewrite),
}

/// The timeouts of one forwarded request.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Timeouts {
    /// Over all attempts; `None` is infinite.
    pub global: Option<Duration>,
    /// For one attempt.
    pub per_try: Option<Duration>,
}

impl Forward {
    /// The timeouts of a request: those of the route, or those that its headers ask for, where
    /// `global_field` is the header for the global timeout. The caller removes these headers.
    pub fn timeouts(&self, head: &RequestHead, global_field: FieldName) -> Timeouts {
        let fields = &head.fields;
        let global = match self.max_grpc_timeout(head) {
            Some(grpc) => grpc.timeout(grpc_timeout(fields)),
            None => self.timeouts.global,
        };
        let per_try = self.retry.as_ref().and_then(|retry| retry.per_try_timeout);
        if !fields.has(global_field) && !fields.has(FieldName::XEnvoyUpstreamRqPerTryTimeoutMs) {
            return Timeouts::new(global, per_try);
        }
        let asked = |name| {
            let value = head.fields.get(name)?;
            std::str::from_utf8(value).ok()?.trim().parse().ok().map(Duration::from_millis)
        };
        let some = |timeout: Duration| (!timeout.is_zero()).then_some(timeout);
        let global = match asked(global_field) {
            Some(asked) => some(asked),
            None => global,
        };
        let per_try = match asked(FieldName::XEnvoyUpstreamRqPerTryTimeoutMs) {
            Some(asked) => some(asked),
            None => per_try,
        };
        Timeouts::new(global, per_try)
    }

    /// `max_grpc_timeout`, if it applies to the request.
    pub fn max_grpc_timeout(&self, head: &RequestHead) -> Option<&MaxGrpcTimeout> {
        self.max_grpc_timeout.as_ref().filter(|_| head.is_grpc())
    }
}

impl Timeouts {
    /// The global timeout and the one per attempt. The latter is dropped if it is not below the
    /// former.
    pub fn new(global: Option<Duration>, per_try: Option<Duration>) -> Self {
        let per_try = per_try.filter(|per_try| global.is_none_or(|global| *per_try < global));
        Self { global, per_try }
    }

    /// `x-envoy-expected-rq-timeout-ms` for an attempt that starts `elapsed` after the first one;
    /// `None` if it has no timeout.
    pub fn expected_ms(&self, elapsed: Duration) -> Option<u64> {
        let expected = self.per_try.or(self.global)?;
        let left = self.global.map(|global| global.saturating_sub(elapsed));
        let expected = left.map_or(expected, |left| expected.min(left));
        // Zero would mean infinite.
        Some(millis(expected).max(1))
    }
}

impl Redirect {
    /// Writes the `location` for a request to `out`; `matched` is the path specifier that matched, `format`
    /// evaluates a format.
    pub fn location(
        &self,
        matched: &PathMatch,
        head: &RequestHead,
        format: Evaluate<'_>,
        out: &mut Vec<u8>,
    ) {
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
        let path = self.new_path(matched, head.target(), format);
        if !path.starts_with(b"/") {
            out.push(b'/');
        }
        out.extend_from_slice(&path);
    }

    /// The host of the request. Its port is dropped if the redirect sets a port, or if it is the
    /// default port of the old scheme and the scheme changes.
    fn requested_host<'a>(&self, host: &'a [u8], old_scheme: &[u8], scheme: &[u8]) -> &'a [u8] {
        let Some(colon) = port_start(host) else { return host };
        let (name, port) = host.split_at(colon);
        let is_default = matches!((old_scheme, port), (b"http", b":80") | (b"https", b":443"));
        let drops_port = self.port.is_some() || (is_default && scheme != old_scheme);
        if drops_port { name } else { host }
    }

    fn new_path<'a>(
        &'a self,
        matched: &PathMatch,
        target: &'a [u8],
        format: Evaluate<'_>,
    ) -> Cow<'a, [u8]> {
        let query = target.get(without_query(target).len()..).unwrap_or_default();
        let mut path = match &self.path {
            RedirectPath::Replace(path) if path.contains(&b'?') => return Cow::Borrowed(path),
            RedirectPath::Replace(path) if self.strip_query => return Cow::Borrowed(path),
            RedirectPath::Replace(path) => [path, query].concat(),
            RedirectPath::Format(formatter) => {
                let path = path_of(formatter, format);
                if self.strip_query && !path.is_empty() {
                    return Cow::Owned(path);
                }
                if path.is_empty() { path } else { [&path, query].concat() }
            }
            RedirectPath::Rewrite(rewrite) => {
                let mut path = Vec::new();
                rewrite.rewrite(matched, target, format, &mut path);
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
    /// Writes the `location` for a response with this status to `out`: the URL of the request
    /// itself. Writes nothing for other statuses.
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

/// The position of the colon before the port of a host. An IPv6 address itself has colons.
pub(in crate::request) fn port_start(host: &[u8]) -> Option<usize> {
    let colon = memchr::memrchr(b':', host)?;
    let is_port =
        !host.starts_with(b"[") || colon.checked_sub(1).and_then(|at| host.get(at)) == Some(&b']');
    is_port.then_some(colon)
}
