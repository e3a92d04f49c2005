//! Selects the route of a request: first the virtual host by its domains, then the first route in
//! declared order that matches.
//!
//! The table is compiled from a `RouteConfiguration` (`compile.rs`), immutable, and shared by the
//! shards. It only selects and describes; forwarding and replying are done elsewhere. Neither
//! lookup allocates, and their cost does not grow with the number of virtual hosts or of routes
//! with a literal path.
//!
//! Invariant: the index finds the same route as trying every route in turn.

use std::sync::Arc;

pub(crate) mod action;
pub mod compile;
pub(crate) mod matchers;
pub(crate) mod mutation;
mod path;
mod radix;
mod rewrite;
mod upgrades;
mod virtual_host;

use self::action::port_start;
use self::path::PathIndex;
use self::virtual_host::Domains;
use super::filters::Plan;
use crate::http::{FieldName, Method, RequestHead, Scheme};
use crate::metadata::Metadata;
use crate::stats::{Scope, VirtualClusterStats};
use crate::transport::tls::facts::TlsFacts;

pub use self::action::{
    Action, Connect, DirectResponse, Forward, Redirect, RedirectPath, Timeouts,
};
pub use self::matchers::{
    CookieMatcher, Fraction, Head, HeaderCondition, HeaderMatcher, HeaderName, Pseudo,
    QueryCondition, QueryParameterMatcher, TlsMatcher,
};
pub use self::mutation::{AppendAction, HeaderAddition, HeaderMutations, MutationLevel, Scratch};
pub use self::path::PathMatch;
pub use self::rewrite::{HostRewrite, PathRewrite, RegexRewrite};
pub use self::upgrades::Upgrades;

/// A compiled `RouteConfiguration`.
#[derive(Debug)]
pub struct RouteTable {
    /// Its name, for the `config_dump`.
    pub name: Box<str>,
    domains: Domains,
    virtual_hosts: Vec<VirtualHost>,
    /// `ignore_port_in_host_matching`
    ignore_port: bool,
    /// `ignore_path_parameters_in_path_matching`
    ignore_path_parameters: bool,
}

/// The routes of some domains.
#[derive(Debug)]
pub struct VirtualHost {
    /// Its name, for stats.
    pub name: Box<str>,
    /// `vhost.<name>.vcluster.other.`: requests that match no virtual cluster. Only shown because
    /// dashboards expect it: virtual clusters are not implemented, so it never counts.
    pub other: Arc<Scope<VirtualClusterStats>>,
    /// Whether upstream requests carry `x-envoy-attempt-count`.
    pub include_request_attempt_count: bool,
    /// Whether responses to clients carry `x-envoy-attempt-count`.
    pub include_attempt_count_in_response: bool,
    /// Whether a retry carries `x-envoy-is-timeout-retry`: whether the previous attempt timed out.
    pub include_is_timeout_retry_header: bool,
    require_tls: RequireTls,
    entries: Vec<Entry>,
    index: PathIndex,
}

/// Which requests must have come over TLS.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
enum RequireTls {
    All,
    ExternalOnly,
    #[default]
    None,
}

/// A route as declared: its conditions and its action.
#[derive(Debug)]
struct Entry {
    conditions: RouteMatch,
    choice: Choice,
}

/// One route, or one per weighted cluster.
#[derive(Debug)]
enum Choice {
    One(Box<Route>),
    Weighted {
        /// Each with the sum of the weights up to and including its own.
        routes: Vec<(u64, Route)>,
        /// The request header that may provide the random number.
        random: Option<HeaderName>,
    },
}

/// The conditions of a route. All must hold.
#[derive(Clone, Debug)]
pub struct RouteMatch {
    /// On the path without query.
    pub path: PathMatch,
    /// On headers.
    pub headers: Vec<HeaderMatcher>,
    /// On the query.
    pub query_parameters: Vec<QueryParameterMatcher>,
    /// On cookies.
    pub cookies: Vec<CookieMatcher>,
    /// Whether only gRPC requests match.
    pub grpc: bool,
    /// On the certificate of the client.
    pub tls: TlsMatcher,
    /// Only this fraction of the requests matches.
    pub fraction: Option<Fraction>,
}

/// What happens with a request that matches.
#[derive(Clone, Debug)]
pub struct Route {
    /// Its name, for logs; may be empty.
    pub name: Box<str>,
    /// The path specifier that matched; rewrites depend on it.
    pub path: PathMatch,
    /// The action.
    pub action: Action,
    /// Changes to the request headers: of this route, its virtual host and its route configuration.
    pub request_headers: HeaderMutations,
    /// Changes to the response headers, also of local replies.
    pub response_headers: HeaderMutations,
    /// The most bytes of a request body that are kept for a retry; `None`: the buffer limit of the
    /// connection.
    pub body_buffer_max: Option<u64>,
    /// The metadata of its configuration.
    pub metadata: Metadata,
    /// That of its virtual host.
    pub virtual_host_metadata: Arc<Metadata>,
    /// Which HTTP filters run.
    pub filters: Plan,
}

/// The result of a lookup.
#[derive(Clone, Copy, Debug)]
pub enum Lookup<'a> {
    /// The first route that matches.
    Found {
        /// Its virtual host.
        virtual_host: &'a VirtualHost,
        /// The route.
        route: &'a Route,
    },
    /// No virtual host or no route matches: 404, flag NR, details `route_not_found`.
    NotFound,
    /// The virtual host requires TLS: 301 to [`tls_location`].
    TlsRequired,
}

impl<'a> Lookup<'a> {
    /// The route, if one was found.
    #[must_use]
    pub const fn route(&self) -> Option<&'a Route> {
        match self {
            Self::Found { route, .. } => Some(route),
            Self::NotFound | Self::TlsRequired => None,
        }
    }
}

impl RouteTable {
    /// Finds the route of a request that has come over a connection with this TLS. `random` decides
    /// fractions and weights, and must be the same for all decisions about one request.
    pub fn find(&self, head: &RequestHead, tls: Option<&TlsFacts>, random: u64) -> Lookup<'_> {
        let Some(virtual_host) = self.virtual_host(head).filter(|_| head.scheme.is_some()) else {
            return Lookup::NotFound;
        };
        if virtual_host.requires_tls(head) {
            return Lookup::TlsRequired;
        }
        let mut path = without_query(head.target());
        if self.ignore_path_parameters {
            path = until(path, |byte| byte == b';');
        }
        match virtual_host.route(head, path, tls, random) {
            Some(route) => Lookup::Found { virtual_host, route },
            None => Lookup::NotFound,
        }
    }

    /// The virtual hosts in declared order.
    pub fn virtual_hosts(&self) -> &[VirtualHost] {
        &self.virtual_hosts
    }

    fn virtual_host(&self, head: &RequestHead) -> Option<&VirtualHost> {
        let mut host = head.authority()?;
        if self.ignore_port {
            let end = port_start(host).unwrap_or(host.len());
            host = host.get(..end)?;
        }
        self.virtual_hosts.get(self.domains.find(host)?)
    }
}

impl VirtualHost {
    fn requires_tls(&self, head: &RequestHead) -> bool {
        // As in Envoy, `x-forwarded-proto` counts, not the scheme of the target.
        let is_secure = || head.fields.get(FieldName::XForwardedProto) == Some(b"https");
        let is_internal = || head.fields.get(FieldName::XEnvoyInternal) == Some(b"true");
        match self.require_tls {
            RequireTls::All => !is_secure(),
            RequireTls::ExternalOnly => !is_secure() && !is_internal(),
            RequireTls::None => false,
        }
    }

    fn route(
        &self,
        head: &RequestHead,
        path: &[u8],
        tls: Option<&TlsFacts>,
        random: u64,
    ) -> Option<&Route> {
        let matches = |index| {
            let entry: Option<&Entry> = self.entries.get(index);
            entry.is_some_and(|entry| entry.conditions.matches(head, path, tls, random))
        };
        let entry = self.entries.get(self.index.first(path, matches)?)?;
        entry.choice.route(head, random)
    }
}

impl RouteMatch {
    /// Whether a request with this path (without query) matches. Literal paths have already been
    /// compared by the index.
    fn matches(
        &self,
        head: &RequestHead,
        path: &[u8],
        tls: Option<&TlsFacts>,
        random: u64,
    ) -> bool {
        //= envoy:config.route.v3.RouteMatch.connect_matcher
        //# "Only requests with connect_matcher will match CONNECT requests"
        let is_for_its_method =
            head.method != Method::Connect || matches!(self.path, PathMatch::Connect);
        is_for_its_method
            && (self.path.is_literal() || self.path.matches(path))
            && self.fraction.is_none_or(|fraction| fraction.includes(random))
            && (!self.grpc || head.is_grpc())
            && self.tls.matches(tls)
            && self.headers.iter().all(|matcher| matcher.matches(head))
            && (self.query_parameters.is_empty() || self.query_matches(head.target()))
            && self.cookies.iter().all(|matcher| matcher.matches(head))
    }

    fn query_matches(&self, target: &[u8]) -> bool {
        let query = target.get(without_query(target).len() + 1..).unwrap_or_default();
        self.query_parameters.iter().all(|matcher| matcher.matches(query))
    }
}

impl Choice {
    fn route(&self, head: &RequestHead, random: u64) -> Option<&Route> {
        let (routes, name) = match self {
            Self::One(route) => return Some(route),
            Self::Weighted { routes, random } => (routes, random),
        };
        let from_header = |name: &HeaderName| {
            let value = name.only_value(head)?;
            std::str::from_utf8(value).ok()?.trim().parse().ok()
        };
        let random = name.as_ref().and_then(from_header).unwrap_or(random);
        let (total, _) = routes.last()?;
        let drawn = random.checked_rem(*total)?;
        routes.iter().find(|(up_to, _)| drawn < *up_to).map(|(_, route)| route)
    }
}

/// Writes the `location` that a client is redirected to where TLS is required.
pub fn tls_location(head: &RequestHead, out: &mut Vec<u8>) {
    out.extend_from_slice(b"https://");
    out.extend_from_slice(head.authority().unwrap_or_default());
    out.extend_from_slice(head.target());
}

/// The scheme of a request, `http` if it has none.
pub fn scheme(head: &RequestHead) -> &'static [u8] {
    head.scheme.unwrap_or(Scheme::Http).as_str().as_bytes()
}

fn without_query(target: &[u8]) -> &[u8] {
    until(target, |byte| matches!(byte, b'?' | b'#'))
}

fn until(text: &[u8], end: impl Fn(u8) -> bool) -> &[u8] {
    let len = text.iter().position(|&byte| end(byte)).unwrap_or(text.len());
    text.get(..len).unwrap_or_default()
}

#[cfg(test)]
pub(crate) mod tests;
