//! `csrf`: refuses requests that change something and come from a page of another origin.

use std::sync::Arc;

use super::{Context, Flow, RouteConfig};
use crate::http::{FieldName, Method, RequestHead};
use crate::request::reply::LocalReply;
use crate::runtime::RuntimeFraction;
use crate::stats::{Scope, stats};
use crate::text_matcher::TextMatcher;

pub(super) mod compile;

stats! {
    /// `http.<stat_prefix>.csrf.`
    pub struct CsrfStats {
        counter missing_source_origin;
        counter request_invalid;
        counter request_valid;
    }
}

/// The filter.
#[derive(Debug)]
pub struct Csrf {
    policy: Policy,
    stats: Arc<Scope<CsrfStats>>,
}

/// What the filter, or a route, does.
#[derive(Clone, Debug)]
pub struct Policy {
    /// Of the requests, how many it applies to.
    enabled: RuntimeFraction,
    /// Of the others, how many are counted.
    shadow: RuntimeFraction,
    /// Other origins that may send requests.
    additional_origins: Box<[TextMatcher]>,
}

/// Where a request comes from.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Source {
    /// It says nothing about it.
    Missing,
    Allowed,
    Other,
}

impl Csrf {
    pub(super) fn request_head(&self, cx: &mut Context<'_, '_>) -> Flow {
        let of_route = cx.route_config(|config| match config {
            RouteConfig::Csrf(policy) => Some(&**policy),
            _ => None,
        });
        let policy = of_route.unwrap_or(&self.policy);
        if !changes_something(cx.core.heads.request.method) {
            return Flow::Continue;
        }
        let (enabled, shadow) = {
            let mut random = cx.core.shard.random.borrow_mut();
            (policy.enabled.includes(random.u64(..)), policy.shadow.includes(random.u64(..)))
        };
        if !enabled && !shadow {
            return Flow::Continue;
        }
        let stats = self.stats.shard(cx.core.shard.id);
        match policy.source(&cx.core.heads.request) {
            Source::Allowed => {
                stats.request_valid.inc();
                return Flow::Continue;
            }
            Source::Missing => stats.missing_source_origin.inc(),
            Source::Other => stats.request_invalid.inc(),
        }
        if !enabled {
            return Flow::Continue;
        }
        let reply = LocalReply::new(403, "Invalid origin");
        Flow::Reply(Box::new(reply.with_details(None, "csrf_origin_mismatch")))
    }
}

impl Policy {
    fn source(&self, request: &RequestHead) -> Source {
        let part = |name| request.fields.get(name).map_or(&b""[..], host_and_port);
        let source = match part(FieldName::Origin) {
            // RFC 6454 §7.3: a page that does not say.
            b"null" => return Source::Missing,
            b"" => part(FieldName::Referer),
            origin => origin,
        };
        if source.is_empty() {
            Source::Missing
        } else if source == request.authority().map_or(&b""[..], host_and_port)
            || self.additional_origins.iter().any(|matcher| matcher.matches(source))
        {
            Source::Allowed
        } else {
            Source::Other
        }
    }
}

const fn changes_something(method: Method) -> bool {
    matches!(method, Method::Delete | Method::Patch | Method::Post | Method::Put)
}

/// Host and port of a URL; a text that is none is taken as it is.
fn host_and_port(text: &[u8]) -> &[u8] {
    of_url(text).unwrap_or(text)
}

fn of_url(text: &[u8]) -> Option<&[u8]> {
    let colon = memchr::memmem::find(text, b"://").filter(|length| *length > 0)?;
    let (scheme, rest) = (text.get(..colon)?, text.get(colon + 3..)?);
    let is_scheme = |byte: &u8| byte.is_ascii_alphanumeric() || b"+-.".contains(byte);
    let end = rest.iter().position(|byte| b"/?".contains(byte)).unwrap_or(rest.len());
    let authority = rest.get(..end)?;
    if !scheme.iter().all(is_scheme) || authority.contains(&b'#') {
        return None;
    }
    let host = memchr::memrchr(b'@', authority).map_or(0, |at| at + 1);
    authority.get(host..).filter(|host| !host.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fraction::Fraction;
    use crate::request::route::tests::request;
    use crate::text_matcher::Literal;

    #[test]
    fn a_request_comes_from_its_origin_or_its_referrer() {
        const ALL: Fraction = Fraction { numerator: 1, denominator: 1 };
        let other = TextMatcher::Exact(Literal::new("other:81", false));
        let policy =
            Policy { enabled: ALL.into(), shadow: ALL.into(), additional_origins: [other].into() };
        let source = |field: &str| {
            let mut head = request("/", &[field]);
            head.set_authority(b"here:80");
            policy.source(&head)
        };
        assert_eq!(source("x: y"), Source::Missing);
        assert_eq!(source("origin: http://here:80"), Source::Allowed);
        assert_eq!(source("origin: http://here"), Source::Other);
        assert_eq!(source("origin: http://here:80.evil"), Source::Other);
        assert_eq!(source("origin: http://here:80@evil"), Source::Other);
        assert_eq!(source("origin: null"), Source::Missing);
        assert_eq!(source("origin: http://"), Source::Other);
        assert_eq!(source("origin: http://here:80#x"), Source::Other);
        assert_eq!(source("referer: https://here:80/path?a://b"), Source::Allowed);
        assert_eq!(source("origin: https://other:81"), Source::Allowed);
    }
}
