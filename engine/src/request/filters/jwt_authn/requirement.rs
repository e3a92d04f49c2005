//! What requests need, and whether a request has it.
//!
//! An [`Evaluation`] reads the request and decides; what follows from it for the request are [`Effect`]s,
//! which take place once it is decided. An evaluation that needs keys which are not here is repeated when
//! they are.

use std::borrow::Cow;
use std::rc::Rc;

use serde_json::{Value, json};

use super::claims::normalized;
use super::keys::Jwks;
use super::location::Location;
use super::provider::{Audiences, LocalProvider, Provider};
use super::status::Status;
use super::token::Token;
use crate::http::RequestHead;

/// What a request needs.
#[derive(Debug)]
pub(super) enum Requirement {
    /// A token of a provider.
    Provider {
        /// Its place among the providers.
        provider: usize,
        /// In the place of those of the provider.
        audiences: Option<Audiences>,
    },
    /// One of these. Without any token of theirs, `otherwise` says.
    Any(Box<[Self]>, Otherwise),
    /// All of these.
    All(Box<[Self]>),
    /// The first token must be valid, if there are any.
    AllowMissing,
    /// Every token is verified, but none has to be valid.
    AllowFailed,
    /// The same; this header, in lower case, says if the last one was not valid.
    ExtractOnly(Box<[u8]>),
}

/// What becomes of a request for which none of several requirements is met.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Otherwise {
    Refused,
    /// It passes if it has no token.
    AllowMissing,
    AllowFailed,
}

/// What follows from an evaluation.
#[derive(Debug)]
pub(super) enum Effect<'e> {
    /// The token here is removed.
    Remove(&'e Location),
    /// A header is added.
    Add(&'e [u8], Vec<u8>),
    /// A header is set.
    Set(&'e [u8], &'static [u8]),
    /// Metadata is noted.
    Note(&'e str, Value),
    /// The route is looked up again.
    ClearRouteCache,
}

/// What an evaluation has found out.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Verdict {
    Pass,
    Fail(Status),
    /// Keys must be fetched first.
    Pending,
}

/// Where any provider may have a token, with the issuers that it may have there; empty: all.
#[derive(Debug)]
pub(super) struct AnyLocation {
    pub(super) location: Location,
    pub(super) issuers: Box<[Box<str>]>,
}

/// Whether the keys of a provider were fetched for this request.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Fetched {
    pub(super) provider: usize,
    pub(super) succeeded: bool,
}

/// The providers and how a shard knows them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Known<'e> {
    pub(super) providers: &'e [Provider],
    pub(super) local: &'e [LocalProvider],
    pub(super) locations: &'e [AnyLocation],
}

/// The evaluation of a requirement for a request.
#[derive(Debug)]
pub(super) struct Evaluation<'e, 'r> {
    known: Known<'e>,
    request: &'r RequestHead,
    /// In seconds since 1970.
    now: u64,
    fetched: &'r [Fetched],
    pub(super) effects: Vec<Effect<'e>>,
    /// The providers whose keys must be fetched.
    pub(super) needed: Vec<usize>,
    /// Tokens that were found in the cache, and that were not.
    pub(super) cache_hits: u64,
    pub(super) cache_misses: u64,
}

/// A token as it is in the request.
struct Found<'e, 'r> {
    location: &'e Location,
    text: Cow<'r, [u8]>,
    /// The issuers that it may have here; empty: all.
    issuers: &'e [Box<str>],
}

/// A token that may be believed, and its provider.
struct Good<'e> {
    token: Rc<Token>,
    provider: &'e Provider,
}

/// Why a token may not be believed.
enum Bad<'e> {
    /// This; the provider, as far as it is known.
    Refused(Status, Option<&'e Provider>),
    Pending,
}

/// Who must have issued tokens.
#[derive(Clone, Copy)]
enum By<'e> {
    /// This provider.
    One(usize, Option<&'e Audiences>),
    /// The provider with the issuer of the token.
    Any,
}

/// Which of several tokens decides; they are verified from the last to the first.
#[derive(Clone, Copy, Eq, PartialEq)]
enum Strictness {
    /// Any bad one.
    All,
    /// As in Envoy, the one that is verified last.
    Last,
}

impl<'e, 'r> Evaluation<'e, 'r> {
    pub(super) const fn new(
        known: Known<'e>,
        request: &'r RequestHead,
        now: u64,
        fetched: &'r [Fetched],
    ) -> Self {
        Self {
            known,
            request,
            now,
            fetched,
            effects: Vec::new(),
            needed: Vec::new(),
            cache_hits: 0,
            cache_misses: 0,
        }
    }

    /// Evaluates a requirement.
    pub(super) fn requirement(&mut self, requirement: &'e Requirement) -> Verdict {
        match requirement {
            Requirement::Provider { provider, audiences } => {
                self.tokens(By::One(*provider, audiences.as_ref()), Strictness::All)
            }
            Requirement::Any(requirements, otherwise) => self.any(requirements, *otherwise),
            Requirement::All(requirements) => self.all(requirements),
            Requirement::AllowMissing => match self.tokens(By::Any, Strictness::Last) {
                Verdict::Fail(Status::Missing) => Verdict::Pass,
                verdict => verdict,
            },
            Requirement::AllowFailed => match self.tokens(By::Any, Strictness::Last) {
                Verdict::Fail(_) => Verdict::Pass,
                verdict => verdict,
            },
            Requirement::ExtractOnly(header) => match self.tokens(By::Any, Strictness::Last) {
                Verdict::Fail(status) => {
                    if status != Status::Missing {
                        self.effects.push(Effect::Set(header, b"false"));
                    }
                    Verdict::Pass
                }
                verdict => verdict,
            },
        }
    }

    /// As in Envoy, what is wrong with a token says more than that one is missing or of somebody else.
    fn any(&mut self, requirements: &'e [Requirement], otherwise: Otherwise) -> Verdict {
        let mut failed = Status::Missing;
        let mut pending = false;
        for requirement in requirements {
            match self.requirement(requirement) {
                Verdict::Pass => return Verdict::Pass,
                Verdict::Pending => pending = true,
                Verdict::Fail(status) => {
                    let says_more = !matches!(status, Status::Missing | Status::UnknownIssuer);
                    if says_more || failed == Status::Missing {
                        failed = status;
                    }
                }
            }
        }
        match otherwise {
            _ if pending => Verdict::Pending,
            Otherwise::AllowFailed => Verdict::Pass,
            Otherwise::AllowMissing if failed == Status::Missing => Verdict::Pass,
            Otherwise::AllowMissing | Otherwise::Refused => Verdict::Fail(failed),
        }
    }

    fn all(&mut self, requirements: &'e [Requirement]) -> Verdict {
        let mut verdict = Verdict::Pass;
        for requirement in requirements {
            match self.requirement(requirement) {
                Verdict::Pass => {}
                Verdict::Fail(status) => return Verdict::Fail(status),
                Verdict::Pending => verdict = Verdict::Pending,
            }
        }
        verdict
    }

    /// Verifies tokens, the last one first. What is said of the last one that was verified is the verdict.
    fn tokens(&mut self, by: By<'e>, strictness: Strictness) -> Verdict {
        let mut verdict = Verdict::Fail(Status::Missing);
        for found in self.find(by).into_iter().rev() {
            match self.verify(&found, by) {
                Ok(good) => {
                    self.accept(&found, &good);
                    verdict = Verdict::Pass;
                }
                Err(Bad::Pending) => return Verdict::Pending,
                Err(Bad::Refused(status, provider)) => {
                    self.note_failure(status, provider);
                    verdict = Verdict::Fail(status);
                    if strictness == Strictness::All {
                        return verdict;
                    }
                }
            }
        }
        verdict
    }

    /// All tokens, but those that were removed.
    fn find(&self, by: By<'e>) -> Vec<Found<'e, 'r>> {
        let request = self.request;
        let found = |location: &'e Location, issuers: &'e [Box<str>]| {
            let removed = self
                .effects
                .iter()
                .any(|effect| matches!(effect, Effect::Remove(other) if location.goes_with(other)));
            let tokens = if removed { Vec::new() } else { location.tokens(request) };
            tokens.into_iter().map(move |text| Found { location, text, issuers })
        };
        match by {
            By::One(provider, _) => {
                let Some(provider) = self.known.providers.get(provider) else { return Vec::new() };
                let issuers = match &*provider.issuer {
                    "" => &[][..],
                    _ => std::slice::from_ref(&provider.issuer),
                };
                provider.locations.iter().flat_map(|it| found(it, issuers)).collect()
            }
            By::Any => {
                let all = self.known.locations.iter();
                all.flat_map(|it| found(&it.location, &it.issuers)).collect()
            }
        }
    }

    /// Verifies a token.
    fn verify(&mut self, found: &Found<'e, 'r>, by: By<'e>) -> Result<Good<'e>, Bad<'e>> {
        let known = self.known;
        let of_one = match by {
            By::One(at, _) => known.providers.get(at),
            By::Any => None,
        };
        let refused = |status| Bad::Refused(status, of_one);
        let text = std::str::from_utf8(&found.text).map_err(|_| refused(Status::BadFormat))?;
        if let (By::One(at, audiences), Some(provider)) = (by, of_one)
            && let Some(local) = known.local.get(at)
        {
            if let Some(token) = local.cached(text) {
                self.cache_hits += 1;
                if let Err(status) = provider.check(&token, audiences, self.now) {
                    if status == Status::Expired {
                        local.forget(text);
                    }
                    return Err(refused(status));
                }
                return Ok(Good { token, provider });
            }
            self.cache_misses += 1;
        }
        let token = Rc::new(Token::parse(text).map_err(refused)?);
        if !found.issuers.is_empty() && !found.issuers.contains(&token.issuer) {
            return Err(refused(Status::UnknownIssuer));
        }
        let (at, audiences) = match by {
            By::One(at, audiences) => (at, audiences),
            By::Any => {
                let at =
                    self.issuer(&token.issuer).ok_or_else(|| refused(Status::UnknownIssuer))?;
                (at, None)
            }
        };
        let (Some(provider), Some(local)) = (known.providers.get(at), known.local.get(at)) else {
            return Err(refused(Status::UnknownIssuer));
        };
        let refused = |status| Bad::Refused(status, Some(provider));
        provider.check(&token, audiences, self.now).map_err(refused)?;
        self.keys(at, local)?.map_err(refused)?.verify(&token).map_err(refused)?;
        if matches!(by, By::One(..)) {
            local.keep(text, &token);
        }
        Ok(Good { token, provider })
    }

    /// The provider with this issuer; as in Envoy, otherwise one without an issuer.
    fn issuer(&self, issuer: &str) -> Option<usize> {
        let with = |issuer: &str| self.known.providers.iter().position(|it| *it.issuer == *issuer);
        with(issuer).or_else(|| with(""))
    }

    /// The keys of a provider.
    fn keys(
        &mut self,
        at: usize,
        local: &LocalProvider,
    ) -> Result<Result<Rc<Jwks>, Status>, Bad<'e>> {
        let fetched = self.fetched.iter().find(|fetched| fetched.provider == at);
        let keys = match fetched {
            None => local.keys(),
            Some(Fetched { succeeded: true, .. }) => local.newest_keys(),
            Some(Fetched { succeeded: false, .. }) => return Ok(Err(Status::FetchFails)),
        };
        if let Some(keys) = keys {
            return Ok(Ok(keys));
        }
        if !self.needed.contains(&at) {
            self.needed.push(at);
        }
        Err(Bad::Pending)
    }

    /// What follows from a token that may be believed.
    fn accept(&mut self, found: &Found<'e, 'r>, good: &Good<'e>) {
        let Good { token, provider } = good;
        if let Some(header) = &provider.payload_header {
            let mut payload = token.payload_text.trim_end_matches('=').as_bytes().to_vec();
            while provider.pads_payload && payload.len() % 4 != 0 {
                payload.push(b'=');
            }
            self.effects.push(Effect::Add(header, payload));
        }
        let before = self.effects.len();
        for claim in &provider.claims {
            if let Some(value) = claim.value(&token.payload) {
                self.effects.push(Effect::Add(&claim.header, value));
            }
        }
        let has_claims = self.effects.len() > before;
        if !provider.forward {
            self.effects.push(Effect::Remove(found.location));
        }
        if let Some(key) = &provider.header_metadata {
            self.effects.push(Effect::Note(key, Value::Object(token.header.clone())));
        }
        if let Some(key) = &provider.payload_metadata {
            let payload = normalized(&token.payload, &provider.space_delimited);
            self.effects.push(Effect::Note(key, payload));
        }
        if provider.clears_route_cache && (has_claims || provider.payload_metadata.is_some()) {
            self.effects.push(Effect::ClearRouteCache);
        }
    }

    fn note_failure(&mut self, status: Status, provider: Option<&'e Provider>) {
        if let Some(key) = provider.and_then(|provider| provider.failed_metadata.as_ref()) {
            let why = json!({ "code": status.code(), "message": status.text() });
            self.effects.push(Effect::Note(key, why));
        }
    }
}
