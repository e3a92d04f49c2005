//! `rbac` for connections: policies of permissions (what the client wants) and principals (who it is).
//!
//! Invariant: a decision reads only what is known of the connection; it has no state.

pub(crate) mod compile;

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use super::{Subject, Verdict};
use crate::address::{Address, Cidr};
use crate::stats::{Scope, stats};
use crate::text_matcher::TextMatcher;
use crate::transport::tls::certificate::Certificate;
use crate::transport::tls::facts::TlsFacts;

stats! {
    /// `<stat_prefix>.rbac.`
    pub struct RbacStats {
        counter allowed;
        counter denied;
    }
}

stats! {
    /// `<stat_prefix>.rbac.`, followed by `shadow_rules_stat_prefix.` if that is set.
    pub struct RbacShadowStats {
        counter shadow_allowed;
        counter shadow_denied;
    }
}

/// The filter.
#[derive(Debug)]
pub struct Rbac {
    /// The rules that are enforced.
    pub rules: Option<Rules>,
    /// Rules that are only counted.
    pub shadow_rules: Option<Rules>,
    /// When the rules are applied.
    pub enforcement: Enforcement,
    /// How long a denied connection is kept before it is closed.
    pub delay_deny: Option<Duration>,
    /// The stats of the rules.
    pub stats: Arc<Scope<RbacStats>>,
    /// The stats of the shadow rules.
    pub shadow_stats: Arc<Scope<RbacShadowStats>>,
}

/// `enforcement_type`
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Enforcement {
    /// On the first data.
    Once,
    /// Whenever data is received.
    Continuous,
}

/// Policies and what a match of one means.
#[derive(Debug)]
pub struct Rules {
    /// What a match means.
    pub action: Action,
    /// One match is enough.
    pub policies: Vec<Policy>,
}

/// `action`
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Action {
    /// What matches is allowed, anything else denied.
    Allow,
    /// What matches is denied, anything else allowed.
    Deny,
    /// Everything is allowed.
    Log,
}

/// One policy: it matches if one of its permissions and one of its principals do.
#[derive(Debug)]
pub struct Policy {
    /// What the client wants.
    pub permissions: Vec<Rule<Permission>>,
    /// Who the client is.
    pub principals: Vec<Rule<Principal>>,
}

/// A condition, or a combination of them.
#[derive(Debug)]
pub enum Rule<C> {
    /// Everything matches.
    Any,
    /// All of these.
    And(Vec<Self>),
    /// One of these.
    Or(Vec<Self>),
    /// Not this.
    Not(Box<Self>),
    /// One condition.
    If(C),
}

/// A condition on what the client wants.
#[derive(Debug)]
pub enum Permission {
    /// `destination_ip`
    DestinationIp(Cidr),
    /// `destination_port` and `destination_port_range`, whose end is exclusive.
    DestinationPort(Range<u32>),
    /// `requested_server_name`; a connection without one has an empty one.
    RequestedServerName(TextMatcher),
}

/// A condition on who the client is.
#[derive(Debug)]
pub enum Principal {
    /// `authenticated`: a client with a certificate, whose name matches if there is a condition on it.
    Authenticated(Option<TextMatcher>),
    /// `remote_ip` and `source_ip`
    RemoteIp(Cidr),
    /// `direct_remote_ip`
    DirectRemoteIp(Cidr),
}

impl Rbac {
    /// Decides about a connection, and counts the decision.
    pub(super) fn decide(&self, subject: &Subject) -> Verdict {
        if let Some(rules) = &self.shadow_rules {
            let stats = self.shadow_stats.shard(subject.shard.id);
            let allowed = rules.allow(subject);
            if allowed { stats.shadow_allowed.inc() } else { stats.shadow_denied.inc() }
        }
        let Some(rules) = &self.rules else { return Verdict::Continue };
        let stats = self.stats.shard(subject.shard.id);
        if rules.allow(subject) {
            stats.allowed.inc();
            Verdict::Continue
        } else {
            stats.denied.inc();
            Verdict::Close(self.delay_deny)
        }
    }
}

impl Rules {
    fn allow(&self, subject: &Subject) -> bool {
        let matches = || self.policies.iter().any(|policy| policy.matches(subject));
        match self.action {
            Action::Allow => matches(),
            Action::Deny => !matches(),
            Action::Log => true,
        }
    }
}

impl Policy {
    fn matches(&self, subject: &Subject) -> bool {
        let permission = |condition: &Permission| condition.matches(subject);
        let principal = |condition: &Principal| condition.matches(subject);
        self.permissions.iter().any(|rule| rule.matches(&permission))
            && self.principals.iter().any(|rule| rule.matches(&principal))
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
    fn matches(&self, subject: &Subject) -> bool {
        match self {
            Self::DestinationIp(range) => is_in(range, subject.local),
            Self::DestinationPort(range) => {
                subject.local.port().is_some_and(|port| range.contains(&port.into()))
            }
            Self::RequestedServerName(text) => {
                text.matches(subject.server_name.as_deref().unwrap_or_default().as_bytes())
            }
        }
    }
}

impl Principal {
    fn matches(&self, subject: &Subject) -> bool {
        match self {
            Self::Authenticated(name) => is_authenticated(name.as_ref(), subject.tls.as_deref()),
            Self::RemoteIp(range) => is_in(range, subject.peer),
            Self::DirectRemoteIp(range) => is_in(range, subject.direct_peer),
        }
    }
}

/// Whether a client is authenticated by TLS, under a name that matches: one of the URIs or DNS names
/// of its certificate, or the subject.
fn is_authenticated(name: Option<&TextMatcher>, tls: Option<&TlsFacts>) -> bool {
    let Some(tls) = tls else { return false };
    let details = tls.peer_certificate().map(Certificate::details);
    let Some(name) = name else { return details.is_some() };
    let Some(details) = details else { return name.matches(b"") };
    let mut names = details.uris.iter().chain(&details.dns_names).chain([&details.subject]);
    names.any(|text| name.matches(text.as_bytes()))
}

/// A unix socket is in no range.
fn is_in(range: &Cidr, address: Address) -> bool {
    address.ip().is_some_and(|ip| range.contains(ip))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text_matcher::Literal;
    use crate::transport::tls::facts::TlsVersion;

    fn holds(rule: &Rule<bool>) -> bool {
        rule.matches(&|condition| *condition)
    }

    #[test]
    fn a_client_is_authenticated_by_a_name_of_its_certificate() {
        let names = ["spiffe://mesh/web".into(), "web.example".into()];
        let mut parameters = rcgen::CertificateParams::new([]).expect("no names yet");
        let [uri, dns]: [String; 2] = names;
        parameters.subject_alt_names = vec![
            rcgen::SanType::URI(uri.try_into().expect("ASCII")),
            rcgen::SanType::DnsName(dns.try_into().expect("ASCII")),
        ];
        let key = rcgen::KeyPair::generate().expect("a key");
        let certificate = parameters.self_signed(&key).expect("a certificate");
        let anonymous = TlsFacts::new(TlsVersion::Tls13);
        let certificate = Certificate::new(certificate.der().clone());
        let client = TlsFacts {
            peer_certificates: [certificate].into(),
            ..TlsFacts::new(TlsVersion::Tls13)
        };
        let exact = |text| TextMatcher::Exact(Literal::new(text, false));
        assert!(!is_authenticated(None, None) && !is_authenticated(None, Some(&anonymous)));
        assert!(is_authenticated(None, Some(&client)));
        for (name, expected) in
            [("spiffe://mesh/web", true), ("web.example", true), ("other.example", false)]
        {
            assert_eq!(is_authenticated(Some(&exact(name)), Some(&client)), expected, "{name}");
        }
        assert!(!is_authenticated(Some(&exact("web.example")), None));
    }

    #[test]
    fn rules_combine_conditions() {
        let (yes, no) = (|| Rule::If(true), || Rule::If(false));
        assert!(holds(&Rule::Any));
        assert!(!holds(&Rule::Not(Box::new(Rule::Any))));
        assert!(holds(&Rule::And(vec![yes(), yes()])) && !holds(&Rule::And(vec![yes(), no()])));
        assert!(holds(&Rule::Or(vec![no(), yes()])) && !holds(&Rule::Or(vec![no(), no()])));
    }
}
