//! Selects the route of a request: first the virtual host by its domains, then the first route in
//! declared order that matches.
//!
//! A virtual host may have a matcher tree instead of routes in order: it leads to a few routes, the first of
//! which that matches is taken.
//!
//! The table is compiled from a `RouteConfiguration` (`compile.rs`), immutable, and shared by the
//! shards. It only selects and describes; forwarding and replying are done elsewhere. Neither
//! lookup allocates, and their cost does not grow with the number of virtual hosts or of routes
//! with a literal path. The routes that a tree leads to are tried in turn.
//!
//! Invariant: the index finds the same route as trying every route in turn.

use std::ops::Range;
use std::sync::Arc;

pub(crate) mod action;
pub(crate) mod call;
pub mod compile;
pub mod hash_policy;
mod internal_redirect;
mod lint;
pub(crate) mod match_compile;
pub(crate) mod mutation;
mod path;
mod rewrite;
pub(crate) mod rewrite_compile;
mod template;
mod trace;
mod upgrades;
mod virtual_cluster;
mod virtual_host;

use self::action::port_start;
use self::hash_policy::{HashPolicies, Hashed};
use self::path::PathIndex;
use self::virtual_cluster::VirtualClusters;
use self::virtual_host::Domains;
use super::filters::Plan;
use crate::address::{Address, Ends};
use crate::filter_state::FilterState;
use crate::http::{FieldName, Method, RequestHead};
use crate::matcher::{Matcher, Subject};
use crate::metadata::Metadata;
use crate::metadata_matcher::MetadataMatcher;
use crate::stats::{Scope, VirtualClusterStats};
use crate::text_matcher::TextMatcher;
use crate::transport::tls::facts::TlsFacts;
use crate::upstream::numbers::Uses;

pub use self::action::{
    Action, ClusterChoice, Connect, DirectResponse, Forward, Redirect, RedirectPath, Timeouts,
};
pub use self::internal_redirect::{InternalRedirectPolicy, Redirects, Url};
pub use self::mutation::{AppendAction, HeaderAddition, HeaderMutations, MutationLevel, Scratch};
pub use self::path::PathMatch;
pub use self::rewrite::{Evaluate, HostRewrite, PathRewrite, RegexRewrite};
pub use self::template::{Template, TemplateRewrite};
pub use self::trace::Trace;
pub use self::upgrades::Upgrades;
pub use self::virtual_cluster::VirtualCluster;
pub use crate::fraction::Fraction;
pub(crate) use crate::head_matcher as matchers;
pub use crate::head_matcher::scheme;
pub use crate::head_matcher::{
    CookieMatcher, Head, HeaderCondition, HeaderMatcher, HeaderName, Pseudo, QueryCondition,
    QueryParameterMatcher, TlsMatcher,
};
use crate::runtime::{RuntimeFraction, RuntimeInteger};

/// A compiled `RouteConfiguration`.
#[derive(Debug)]
pub struct RouteTable {
    /// Its name, for the `config_dump`.
    pub name: Box<str>,
    domains: Domains,
    virtual_hosts: Vec<VirtualHost>,
    /// The headers that clients from outside must not send.
    pub internal_only_headers: Box<[HeaderName]>,
    /// `ignore_port_in_host_matching`
    ignore_port: bool,
    /// `ignore_path_parameters_in_path_matching`
    ignore_path_parameters: bool,
    /// The clusters that it names, so that their numbers stay theirs.
    pub(crate) uses: Uses,
}

/// The routes of some domains.
#[derive(Debug)]
pub struct VirtualHost {
    /// Its name, for stats.
    pub name: Box<str>,
    /// Its virtual clusters.
    pub virtual_clusters: VirtualClusters,
    /// Whether upstream requests carry `x-envoy-attempt-count`.
    pub include_request_attempt_count: bool,
    /// Whether responses to clients carry `x-envoy-attempt-count`.
    pub include_attempt_count_in_response: bool,
    /// Whether a retry carries `x-envoy-is-timeout-retry`: whether the previous attempt timed out.
    pub include_is_timeout_retry_header: bool,
    require_tls: RequireTls,
    entries: Vec<Entry>,
    search: Search,
}

/// How the routes of a virtual host are searched.
#[derive(Debug)]
enum Search {
    /// `routes`: the first that matches.
    InOrder(PathIndex),
    /// `matcher`: the first that matches of those that the tree leads to.
    Tree(Matcher<Range<usize>>),
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
        /// Each with its weight.
        routes: Vec<(RuntimeInteger, Route)>,
        /// What is drawn by.
        by: DrawnBy,
    },
}

/// What a weighted cluster is drawn by; the random number of the request, if that has no value.
#[derive(Debug)]
pub(crate) enum DrawnBy {
    /// The random number of the request.
    Random,
    /// `header_name`: the number in this header.
    Header(HeaderName),
    /// `use_hash_policy`: the hash of the request.
    Hash(HashPolicies),
}

/// A request whose route is looked up.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// Its head.
    pub head: &'a RequestHead,
    /// The TLS of its connection.
    pub tls: Option<&'a TlsFacts>,
    /// The address of the client, also as given by trusted headers.
    pub client: Address,
    /// The ends of its connection.
    pub ends: Ends,
    /// Decides fractions and weights: the same for all decisions about one request.
    pub random: u64,
    /// The dynamic metadata that filters have noted.
    pub metadata: Option<&'a Metadata>,
    /// The filter state that filters have set.
    pub state: Option<&'a FilterState>,
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
    pub fraction: Option<RuntimeFraction>,
    /// On what filters have noted.
    pub noted: Option<Box<NotedMatch>>,
}

/// The conditions of a route on what filters have noted of the request. All must hold.
#[derive(Clone, Debug)]
pub struct NotedMatch {
    /// On the dynamic metadata, each inverted or not.
    pub metadata: Vec<(MetadataMatcher, bool)>,
    /// On the texts in the filter state, by their keys.
    pub state: Vec<(Box<str>, TextMatcher)>,
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
    /// `vhost.<virtual host>.route.<stat_prefix>.`
    pub stats: Option<Arc<Scope<VirtualClusterStats>>>,
}

impl Route {
    /// How it forwards, if it does.
    pub const fn forward(&self) -> Option<&Forward> {
        match &self.action {
            Action::Forward(forward) => Some(forward),
            Action::ClusterNotFound { .. } | Action::DirectResponse(_) | Action::Redirect(_) => {
                None
            }
        }
    }
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
    /// Finds the route of a request.
    pub fn find(&self, request: &Request<'_>) -> Lookup<'_> {
        let head = request.head;
        let Some(virtual_host) = self.virtual_host(head).filter(|_| head.scheme.is_some()) else {
            return Lookup::NotFound;
        };
        if virtual_host.requires_tls(head) {
            return Lookup::TlsRequired;
        }
        match virtual_host.route(request, self.path_of(head)) {
            Some(route) => Lookup::Found { virtual_host, route },
            None => Lookup::NotFound,
        }
    }

    /// Whether a request may name any cluster.
    pub fn name_clusters_at_run_time(&self) -> bool {
        let routes = self.virtual_hosts.iter().flat_map(|it| &it.entries);
        routes.flat_map(|entry| entry.choice.routes()).any(|route| match &route.action {
            Action::Forward(plan) => matches!(plan.cluster, ClusterChoice::Header(_)),
            Action::ClusterNotFound { .. } | Action::DirectResponse(_) | Action::Redirect(_) => {
                false
            }
        })
    }

    /// The virtual hosts in declared order.
    pub fn virtual_hosts(&self) -> &[VirtualHost] {
        &self.virtual_hosts
    }

    fn virtual_host(&self, head: &RequestHead) -> Option<&VirtualHost> {
        self.virtual_hosts.get(self.index_of(head.authority()?)?)
    }

    /// The index of the virtual host for this host.
    fn index_of(&self, mut host: &[u8]) -> Option<usize> {
        if self.ignore_port {
            let end = port_start(host).unwrap_or(host.len());
            host = host.get(..end)?;
        }
        self.domains.find(host)
    }

    /// The part of the path that routes are matched with.
    fn path_of<'a>(&self, head: &'a RequestHead) -> &'a [u8] {
        let path = without_query(head.target());
        if self.ignore_path_parameters { until(path, |byte| byte == b';') } else { path }
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

    fn route(&self, request: &Request<'_>, path: &[u8]) -> Option<&Route> {
        let matches = |index| {
            let entry: Option<&Entry> = self.entries.get(index);
            entry.is_some_and(|entry| entry.conditions.matches(request, path))
        };
        let index = match &self.search {
            Search::InOrder(index) => index.first(path, matches)?,
            Search::Tree(tree) => tree.find(request)?.clone().find(|&index| {
                let entry = self.entries.get(index);
                // No index has compared the literal paths; the others are compared with the rest.
                let path_matches = |entry: &Entry| {
                    let pattern = &entry.conditions.path;
                    !pattern.is_literal() || pattern.matches(path)
                };
                entry.is_some_and(path_matches) && matches(index)
            })?,
        };
        self.entries.get(index)?.choice.route(request)
    }
}

impl RouteMatch {
    /// Whether a request with this path (without query) matches. Literal paths have already been
    /// compared by the index.
    fn matches(&self, request: &Request<'_>, path: &[u8]) -> bool {
        let Request { head, tls, random, .. } = *request;
        //= envoy:config.route.v3.RouteMatch.connect_matcher
        //# "Only requests with connect_matcher will match CONNECT requests"
        let is_for_its_method =
            head.method != Method::Connect || matches!(self.path, PathMatch::Connect);
        is_for_its_method
            && (self.path.is_literal() || self.path.matches(path))
            && self.fraction.as_ref().is_none_or(|fraction| fraction.includes(random))
            && (!self.grpc || head.is_grpc())
            && self.tls.matches(tls)
            && self.headers.iter().all(|matcher| matcher.matches(head))
            && (self.query_parameters.is_empty() || self.query_matches(head.target()))
            && self.cookies.iter().all(|matcher| matcher.matches(head))
            && self.noted.as_ref().is_none_or(|noted| noted.matches(request))
    }

    /// The same for a condition that no index has looked at.
    pub(in crate::request) fn matches_alone(&self, request: &Request<'_>) -> bool {
        let path = without_query(request.head.target());
        self.path.matches(path) && self.matches(request, path)
    }

    fn query_matches(&self, target: &[u8]) -> bool {
        let query = target.get(without_query(target).len() + 1..).unwrap_or_default();
        self.query_parameters.iter().all(|matcher| matcher.matches(query))
    }
}

impl NotedMatch {
    fn matches(&self, request: &Request<'_>) -> bool {
        let metadata = |(matcher, invert): &(MetadataMatcher, bool)| {
            let fits = request.metadata.and_then(|metadata| matcher.matches(metadata));
            fits.unwrap_or(false) != *invert
        };
        let state = |(key, matcher): &(Box<str>, TextMatcher)| {
            let text = request.state.and_then(|state| state.text(key));
            text.is_some_and(|text| matcher.matches(text.as_bytes()))
        };
        self.metadata.iter().all(metadata) && self.state.iter().all(state)
    }
}

impl Choice {
    /// All routes.
    fn routes(&self) -> impl Iterator<Item = &Route> {
        let (one, weighted) = match self {
            Self::One(route) => (Some(&**route), &[][..]),
            Self::Weighted { routes, .. } => (None, routes.as_slice()),
        };
        one.into_iter().chain(weighted.iter().map(|(_, route)| route))
    }

    /// The weight of the route that is drawn at random, and the sum of all weights.
    fn chance(&self, request: &Request<'_>) -> Option<(u64, u64)> {
        let Self::Weighted { routes, by: DrawnBy::Random } = self else { return None };
        let (weight, total, _) = drawn(routes, request.random)?;
        Some((weight, total))
    }

    fn route(&self, request: &Request<'_>) -> Option<&Route> {
        let (routes, by) = match self {
            Self::One(route) => return Some(route),
            Self::Weighted { routes, by } => (routes, by),
        };
        let random = by.number(request).unwrap_or(request.random);
        drawn(routes, random).map(|(_, _, route)| route)
    }
}

/// The weight of the route that a random number draws, the sum of all weights, and the route; none: no route has a
/// weight.
fn drawn(routes: &[(RuntimeInteger, Route)], random: u64) -> Option<(u64, u64, &Route)> {
    // Each weight is read once: they may change meanwhile.
    let draw = |weights: &mut dyn Iterator<Item = u64>, total: u64| {
        let mut left = random.checked_rem(total)?;
        for ((_, route), weight) in routes.iter().zip(weights) {
            if left < weight {
                return Some((weight, total, route));
            }
            left -= weight;
        }
        None
    };
    let sum = |sum: u64, weight: u64| sum.saturating_add(weight);
    let weights = || routes.iter().map(|(weight, _)| weight.get());
    if routes.iter().all(|(weight, _)| weight.is_fixed()) {
        return draw(&mut weights(), weights().fold(0, sum));
    }
    let read: Vec<u64> = weights().collect();
    draw(&mut read.iter().copied(), read.iter().copied().fold(0, sum))
}

impl DrawnBy {
    fn number(&self, request: &Request<'_>) -> Option<u64> {
        match self {
            Self::Random => None,
            Self::Header(name) => {
                let value = name.only_value(request.head)?;
                std::str::from_utf8(value).ok()?.trim().parse().ok()
            }
            Self::Hash(policies) => policies.hash(&request.hashed(), None),
        }
    }
}

/// What the tree of a virtual host looks at.
impl Subject for Request<'_> {
    fn request(&self) -> Option<&RequestHead> {
        Some(self.head)
    }

    fn filter_state(&self, key: &str) -> Option<&str> {
        self.state?.text(key)
    }
}

impl<'a> Request<'a> {
    fn hashed(&self) -> Hashed<'a> {
        let Self { head, client, ends, state, .. } = *self;
        Hashed { head, client, ends, state }
    }
}

/// Writes the `location` that a client is redirected to where TLS is required.
pub fn tls_location(head: &RequestHead, out: &mut Vec<u8>) {
    out.extend_from_slice(b"https://");
    out.extend_from_slice(head.authority().unwrap_or_default());
    out.extend_from_slice(head.target());
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
