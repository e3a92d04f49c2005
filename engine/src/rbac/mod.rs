//! Role-based access control: policies of permissions (what the client wants) and principals (who it is),
//! for connections and for requests. What follows from a decision is up to the filters.
//!
//! Invariant: a decision reads only what is known of the connection and the request; it has no state.

pub(crate) mod compile;
pub(crate) mod policies;
pub(crate) mod policies_compile;

use std::ops::Range;

use crate::address::{Address, Cidr};
use crate::cel::Program;
use crate::format::Inputs;
use crate::head_matcher::HeaderMatcher;
use crate::http::RequestHead;
use crate::metadata::MetadataOf;
use crate::metadata_matcher::MetadataMatcher;
use crate::text_matcher::TextMatcher;
use crate::transport::tls::certificate::Certificate;
use crate::transport::tls::facts::TlsFacts;

/// Policies and what a match of one means.
#[derive(Debug)]
pub struct Rules {
    /// What a match means.
    action: Action,
    /// In the order of their names; one match is enough.
    policies: Vec<Policy>,
}

/// `action`
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Action {
    /// What matches is allowed, anything else denied.
    Allow,
    /// What matches is denied, anything else allowed.
    Deny,
    /// Everything is allowed.
    Log,
}

/// One policy: it matches if one of its permissions, one of its principals and its condition do.
#[derive(Debug)]
struct Policy {
    name: Box<str>,
    permissions: Vec<Rule<Permission>>,
    principals: Vec<Rule<Principal>>,
    condition: Option<Program>,
}

/// A condition, or a combination of them.
#[derive(Debug)]
enum Rule<C> {
    Any,
    And(Vec<Self>),
    Or(Vec<Self>),
    Not(Box<Self>),
    If(C),
}

/// A condition on what the client wants.
#[derive(Debug)]
enum Permission {
    DestinationIp(Cidr),
    /// `destination_port` and `destination_port_range`; the end is exclusive.
    DestinationPort(Range<u32>),
    Metadata(Metadata),
    Request(OfRequest),
    /// A connection without a server name has an empty one.
    RequestedServerName(TextMatcher),
}

/// A condition on who the client is.
#[derive(Debug)]
enum Principal {
    /// A client with a certificate, whose name matches if there is a condition on it.
    Authenticated(Option<TextMatcher>),
    DirectRemoteIp(Cidr),
    Metadata(Metadata),
    /// As trusted headers say.
    RemoteIp(Cidr),
    Request(OfRequest),
    /// Of the connection.
    SourceIp(Cidr),
}

/// A condition on the head of a request.
#[derive(Debug)]
enum OfRequest {
    Header(HeaderMatcher),
    /// Without the query.
    Path(TextMatcher),
}

/// A condition on metadata.
#[derive(Debug)]
struct Metadata {
    source: MetadataSource,
    matcher: MetadataMatcher,
    invert: bool,
}

#[derive(Clone, Copy, Debug)]
enum MetadataSource {
    Dynamic,
    Route,
}

/// What rules are applied to.
#[derive(Clone, Copy)]
pub(crate) struct Subject<'a> {
    pub(crate) inputs: &'a Inputs<'a>,
    /// The remote address of the connection; trusted headers may announce another one.
    pub(crate) connection_peer: Address,
}

/// What rules decide.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Decision<'a> {
    pub(crate) allowed: bool,
    /// The policy that matched.
    pub(crate) policy: Option<&'a str>,
}

impl Rules {
    pub(crate) fn decide(&self, subject: &Subject<'_>) -> Decision<'_> {
        let policy = self.policies.iter().find(|policy| policy.matches(subject));
        let allowed = match self.action {
            Action::Allow => policy.is_some(),
            Action::Deny => policy.is_none(),
            Action::Log => true,
        };
        Decision { allowed, policy: policy.map(|policy| &*policy.name) }
    }

    pub(crate) const fn action(&self) -> Action {
        self.action
    }

    /// The names of the policies.
    pub(crate) fn policies(&self) -> impl Iterator<Item = &str> {
        self.policies.iter().map(|policy| &*policy.name)
    }
}

impl Policy {
    fn matches(&self, subject: &Subject<'_>) -> bool {
        let permission = |condition: &Permission| condition.matches(subject);
        let principal = |condition: &Principal| condition.matches(subject);
        self.permissions.iter().any(|rule| rule.matches(&permission))
            && self.principals.iter().any(|rule| rule.matches(&principal))
            && self.condition.as_ref().is_none_or(|condition| condition.holds(subject.inputs))
    }
}

impl<C> Rule<C> {
    fn matches(&self, test: &dyn Fn(&C) -> bool) -> bool {
        match self {
            Self::Any => true,
            Self::And(all) => all.iter().all(|rule| rule.matches(test)),
            Self::Or(any) => any.iter().any(|rule| rule.matches(test)),
            Self::Not(rule) => !rule.matches(test),
            Self::If(condition) => test(condition),
        }
    }
}

impl Permission {
    fn matches(&self, subject: &Subject<'_>) -> bool {
        let stream = subject.inputs.stream;
        match self {
            Self::DestinationIp(range) => is_in(range, stream.downstream_local_address()),
            Self::DestinationPort(range) => {
                let port = stream.downstream_local_address().and_then(|address| address.port());
                port.is_some_and(|port| range.contains(&port.into()))
            }
            Self::Metadata(condition) => condition.matches(subject.inputs),
            Self::Request(condition) => condition.matches(subject.inputs.request),
            Self::RequestedServerName(text) => {
                text.matches(stream.requested_server_name().unwrap_or_default().as_bytes())
            }
        }
    }
}

impl Principal {
    fn matches(&self, subject: &Subject<'_>) -> bool {
        let stream = subject.inputs.stream;
        match self {
            Self::Authenticated(name) => is_authenticated(name.as_ref(), stream.downstream_tls()),
            Self::DirectRemoteIp(range) => is_in(range, stream.downstream_direct_remote_address()),
            Self::Metadata(condition) => condition.matches(subject.inputs),
            Self::RemoteIp(range) => is_in(range, stream.downstream_remote_address()),
            Self::Request(condition) => condition.matches(subject.inputs.request),
            Self::SourceIp(range) => is_in(range, Some(subject.connection_peer)),
        }
    }
}

impl OfRequest {
    fn matches(&self, request: Option<&RequestHead>) -> bool {
        let Some(request) = request else { return false };
        match self {
            Self::Header(matcher) => matcher.matches(request),
            // A CONNECT has no path.
            Self::Path(text) => {
                request.path_and_query().is_some_and(|target| text.matches(path_of(target)))
            }
        }
    }
}

impl Metadata {
    fn matches(&self, inputs: &Inputs<'_>) -> bool {
        let metadata = match self.source {
            MetadataSource::Dynamic => inputs.stream.dynamic_metadata(),
            MetadataSource::Route => inputs.stream.static_metadata(MetadataOf::Route),
        };
        metadata.and_then(|metadata| self.matcher.matches(metadata)).unwrap_or(false) != self.invert
    }
}

/// Whether a client is authenticated by TLS, under a name that matches: one of the URIs or DNS names
/// of its certificate, or the subject.
//= envoy: config.rbac.v3.Principal.Authenticated: without a name "it applies to any user that is allowed by
// the downstream TLS configuration".
fn is_authenticated(name: Option<&TextMatcher>, tls: Option<&TlsFacts>) -> bool {
    let Some(tls) = tls else { return false };
    let Some(name) = name else { return true };
    let details = tls.peer_certificate().map(Certificate::details);
    let Some(details) = details else { return name.matches(b"") };
    let mut names = details.uris.iter().chain(&details.dns_names).chain([&details.subject]);
    names.any(|text| name.matches(text.as_bytes()))
}

/// The path of a target, without query and fragment.
fn path_of(target: &[u8]) -> &[u8] {
    let end = target.iter().position(|byte| matches!(byte, b'?' | b'#'));
    end.and_then(|end| target.get(..end)).unwrap_or(target)
}

/// A unix socket is in no range.
fn is_in(range: &Cidr, address: Option<Address>) -> bool {
    address.and_then(|address| address.ip()).is_some_and(|ip| range.contains(ip))
}

#[cfg(test)]
mod compile_tests;
