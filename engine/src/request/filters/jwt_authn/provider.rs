//! Providers: who issues tokens, where they are in a request, and what becomes of them.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use super::JwtAuthnStats;
use super::cache::{CacheLimits, TokenCache};
use super::claims::ClaimHeader;
use super::keys::Jwks;
use super::location::Location;
use super::remote::{Remote, Source};
use super::status::Status;
use super::token::Token;
use crate::request::service::LocalService;
use crate::shard::Shard;
use crate::stats::Scope;
use crate::text_matcher::TextMatcher;

/// A provider.
#[derive(Debug)]
pub(super) struct Provider {
    pub(super) keys: KeySource,
    /// Empty: it is not checked.
    pub(super) issuer: Box<str>,
    pub(super) audiences: Audiences,
    pub(super) subjects: Option<TextMatcher>,
    pub(super) lifetime: Lifetime,
    /// In seconds.
    pub(super) clock_skew: u64,
    /// Sorted.
    pub(super) locations: Box<[Location]>,
    /// Whether the token stays in the request.
    pub(super) forward: bool,
    /// The header that gets the payload, in lower case.
    pub(super) payload_header: Option<Box<[u8]>>,
    /// Whether the payload is padded there.
    pub(super) pads_payload: bool,
    pub(super) claims: Box<[ClaimHeader]>,
    /// The keys of metadata for the payload, for the header and for what is wrong.
    pub(super) payload_metadata: Option<Box<str>>,
    pub(super) header_metadata: Option<Box<str>>,
    pub(super) failed_metadata: Option<Box<str>>,
    /// Claims that are lists of words in metadata.
    pub(super) space_delimited: Box<[Box<str>]>,
    pub(super) clears_route_cache: bool,
    pub(super) cache: Option<CacheLimits>,
}

/// Where the keys are.
#[derive(Debug)]
pub(super) enum KeySource {
    /// Here: a JWK set, or nothing.
    Local(Box<[u8]>),
    Remote(Arc<Source>),
}

/// Audiences that are accepted, as [`Audiences::plain`] makes them; empty: all.
#[derive(Debug, Default)]
pub(super) struct Audiences(pub(super) Box<[Box<str>]>);

/// How long a token may be valid.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Lifetime {
    /// As long as it says, also forever.
    Any,
    /// As long as it says, but it must say how long.
    Limited,
    /// At most so many seconds from now.
    AtMost(u64),
}

impl Audiences {
    /// As in Envoy, a scheme and a slash at the end do not count.
    pub(super) fn plain(audience: &str) -> &str {
        let rest = audience.strip_prefix("https://").or_else(|| audience.strip_prefix("http://"));
        let rest = rest.unwrap_or(audience);
        rest.strip_suffix('/').unwrap_or(rest)
    }

    pub(super) fn check(&self, token: &Token) -> Result<(), Status> {
        let accepts = |audience: &str| self.0.iter().any(|ours| **ours == *Self::plain(audience));
        if self.0.is_empty() || token.audiences.iter().any(|audience| accepts(audience)) {
            Ok(())
        } else {
            Err(Status::AudienceNotAllowed)
        }
    }
}

impl Lifetime {
    const fn allows(self, token: &Token, now: u64) -> bool {
        match self {
            Self::Any => true,
            Self::Limited => token.expires != 0,
            Self::AtMost(most) => token.expires != 0 && token.expires.saturating_sub(now) <= most,
        }
    }
}

impl Provider {
    /// Checks what a token says, before its signature. `audiences` are those of the requirement.
    pub(super) fn check(
        &self,
        token: &Token,
        audiences: Option<&Audiences>,
        now: u64,
    ) -> Result<(), Status> {
        token.check_time(now, self.clock_skew)?;
        let subject = token.subject.as_bytes();
        if self.subjects.as_ref().is_some_and(|subjects| !subjects.matches(subject))
            || !self.lifetime.allows(token, now)
        {
            return Err(Status::VerificationFails);
        }
        audiences.unwrap_or(&self.audiences).check(token)
    }
}

/// What a shard keeps for a provider.
#[derive(Debug)]
pub(super) struct LocalProvider {
    keys: LocalKeys,
    cache: Option<RefCell<TokenCache>>,
}

#[derive(Debug)]
enum LocalKeys {
    Fixed(Rc<Jwks>),
    Remote(Rc<Remote>),
}

impl LocalProvider {
    /// `calls`: what calls are served with, if the connection manager makes any.
    pub(super) fn new(
        provider: &Provider,
        calls: Option<&Rc<LocalService>>,
        shard: &'static Shard,
        stats: &Arc<Scope<JwtAuthnStats>>,
    ) -> Self {
        let keys = match (&provider.keys, calls) {
            // Each shard has a copy: who uses a key counts references to it.
            (KeySource::Local(text), _) => {
                LocalKeys::Fixed(Rc::new(Jwks::parse(text).unwrap_or_else(|_| Jwks::none())))
            }
            (KeySource::Remote(source), Some(calls)) => {
                LocalKeys::Remote(Remote::new(source, calls, shard, stats))
            }
            (KeySource::Remote(_), None) => LocalKeys::Fixed(Rc::new(Jwks::none())),
        };
        let cache = provider.cache.map(|limits| RefCell::new(TokenCache::new(limits)));
        Self { keys, cache }
    }

    /// The keys that can be used now.
    pub(super) fn keys(&self) -> Option<Rc<Jwks>> {
        match &self.keys {
            LocalKeys::Fixed(keys) => Some(Rc::clone(keys)),
            LocalKeys::Remote(remote) => remote.fresh(),
        }
    }

    /// The last keys that were fetched, expired or not.
    pub(super) fn newest_keys(&self) -> Option<Rc<Jwks>> {
        match &self.keys {
            LocalKeys::Fixed(keys) => Some(Rc::clone(keys)),
            LocalKeys::Remote(remote) => remote.newest(),
        }
    }

    /// The keys as something that can be fetched.
    pub(super) const fn remote(&self) -> Option<&Rc<Remote>> {
        match &self.keys {
            LocalKeys::Fixed(_) => None,
            LocalKeys::Remote(remote) => Some(remote),
        }
    }

    /// A token that keys have verified which can still be used.
    pub(super) fn cached(&self, text: &str) -> Option<Rc<Token>> {
        self.keys()?;
        self.cache.as_ref()?.borrow_mut().find(text, self.version())
    }

    /// Keeps a token that was verified.
    pub(super) fn keep(&self, text: &str, token: &Rc<Token>) {
        if let Some(cache) = &self.cache {
            cache.borrow_mut().keep(text, Rc::clone(token), self.version());
        }
    }

    /// Drops a token that is no longer valid.
    pub(super) fn forget(&self, text: &str) {
        if let Some(cache) = &self.cache {
            cache.borrow_mut().forget(text);
        }
    }

    fn version(&self) -> u64 {
        self.remote().map_or(0, |remote| remote.version())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn audiences_are_compared_without_scheme_and_slash() {
        for (audience, plain) in [
            ("https://a.test/", "a.test"),
            ("http://a.test", "a.test"),
            ("a/", "a"),
            ("", ""),
            ("https://", ""),
            ("/", ""),
        ] {
            assert_eq!(Audiences::plain(audience), plain, "{audience}");
        }
    }
}
