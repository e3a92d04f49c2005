//! `jwt_authn`: requests need JSON Web Tokens (RFC 7519), as rules, routes or filter state say.
//!
//! The way of a request: [`JwtAuthn::request_head`] finds its [`Requirement`] and evaluates it
//! (`requirement.rs`): tokens are found (`location.rs`), parsed (`token.rs`) and verified with the keys of
//! their provider (`keys.rs`). Keys that are not here are fetched (`remote.rs`), and the request waits.
//!
//! Invariant: claims reach the origin or other filters only from a token that was verified; what a client
//! sends in a header for claims is removed.

mod cache;
mod claims;
pub(super) mod compile;
mod json;
mod keys;
mod location;
mod provider;
mod remote;
mod requirement;
mod status;
#[cfg(test)]
mod tests;
mod token;

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{self, Poll};
use std::time::{SystemTime, UNIX_EPOCH};

use self::provider::{LocalProvider, Provider};
use self::remote::Wait;
use self::requirement::{AnyLocation, Effect, Evaluation, Fetched, Known, Requirement, Verdict};
use self::status::Status;
use super::basic_auth::quoted_uri;
use super::{Context, FilterId, Flow, RouteConfig, Wait as WaitFor};
use crate::flags::Flag;
use crate::http::{FieldName, Fields, JOINED_IN_REQUESTS, Method, RequestHead};
use crate::request::reply::LocalReply;
use crate::request::route::RouteMatch;
use crate::request::service::LocalService;
use crate::shard::Shard;
use crate::stats::{Scope, stats};

stats! {
    /// `http.<stat_prefix>.jwt_authn.`
    pub struct JwtAuthnStats {
        counter allowed;
        counter cors_preflight_bypassed;
        counter denied;
        counter jwks_fetch_failed;
        counter jwks_fetch_success;
        counter jwt_cache_hit;
        counter jwt_cache_miss;
    }
}

/// The namespace of the metadata.
const NAMESPACE: &str = "envoy.filters.http.jwt_authn";

/// The filter.
#[derive(Debug)]
pub struct JwtAuthn {
    id: FilterId,
    /// In the order of their names.
    providers: Box<[Provider]>,
    /// Where any of them may have tokens, sorted.
    locations: Box<[AnyLocation]>,
    /// Headers that only verified tokens may have set, in lower case.
    claim_headers: Box<[Box<[u8]>]>,
    rules: Box<[Rule]>,
    by_filter_state: Option<ByFilterState>,
    /// By name, for routes.
    named: BTreeMap<Box<str>, Requirement>,
    bypasses_preflight: bool,
    strips_reply: bool,
    stats: Arc<Scope<JwtAuthnStats>>,
}

/// Which requests need something.
#[derive(Debug)]
struct Rule {
    matches: RouteMatch,
    /// None: they need nothing.
    needs: Option<Needs>,
}

/// What they need.
#[derive(Debug)]
enum Needs {
    This(Requirement),
    /// What has this name.
    Named(Box<str>),
}

/// `filter_state_rules`
#[derive(Debug)]
struct ByFilterState {
    /// The key of the filter state.
    key: Box<str>,
    /// By its text.
    requires: BTreeMap<Box<str>, Requirement>,
}

/// What a route says.
#[derive(Debug)]
pub enum PerRoute {
    /// Its requests need nothing.
    Disabled,
    /// They need what has this name.
    Named(Box<str>),
}

/// What the filter keeps on a shard.
#[derive(Debug)]
pub struct Local(Box<[LocalProvider]>);

/// What the filter remembers of a request.
#[derive(Debug, Default)]
pub(in crate::request) struct State {
    progress: Progress,
    /// The providers whose keys were fetched for it.
    fetched: Vec<Fetched>,
}

#[derive(Debug, Default)]
enum Progress {
    #[default]
    New,
    /// It waits for the keys of these providers.
    Waiting(Vec<(usize, Wait)>),
    Decided,
}

impl State {
    /// Ready when keys that the request waits for have been fetched, or will not be.
    pub(super) fn poll_keys(&self, cx: &task::Context<'_>) -> Poll<()> {
        let Progress::Waiting(waits) = &self.progress else { return Poll::Ready(()) };
        let ready = waits.iter().filter(|(_, wait)| wait.poll(cx).is_ready()).count();
        if ready > 0 { Poll::Ready(()) } else { Poll::Pending }
    }
}

impl JwtAuthn {
    /// What it keeps on a shard.
    pub(super) fn local(&self, service: &LocalService, shard: &'static Shard) -> Rc<Local> {
        service.filters_on_shard.of(self.id, || {
            let calls = service.calls.as_ref();
            let local = |provider| LocalProvider::new(provider, calls, shard, &self.stats);
            Rc::new(Local(self.providers.iter().map(local).collect()))
        })
    }

    pub(super) fn request_head(&self, state: &mut State, cx: &mut Context<'_, '_>) -> Flow {
        match std::mem::replace(&mut state.progress, Progress::Decided) {
            Progress::New => self.sanitize(&mut cx.core.heads.request.fields),
            Progress::Waiting(waits) => {
                state.fetched.extend(waits.iter().filter_map(|(provider, wait)| {
                    Some(Fetched { provider: *provider, succeeded: wait.result()? })
                }));
            }
            Progress::Decided => return Flow::Continue,
        }
        let stats = self.stats.shard(cx.core.shard.id);
        if self.bypasses_preflight && is_preflight(&cx.core.heads.request) {
            stats.cors_preflight_bypassed.inc();
            stats.allowed.inc();
            return Flow::Continue;
        }
        let requirement = match self.requirement(cx) {
            Ok(requirement) => requirement,
            Err(reply) => {
                stats.denied.inc();
                return Flow::Reply(reply);
            }
        };
        match requirement {
            Some(requirement) => self.evaluate(requirement, state, cx),
            None => {
                stats.allowed.inc();
                Flow::Continue
            }
        }
    }

    /// Removes what a client may not say itself.
    fn sanitize(&self, fields: &mut Fields) {
        for name in &self.claim_headers {
            fields.remove_other(name);
        }
    }

    /// What the request needs, if anything.
    fn requirement(&self, cx: &Context<'_, '_>) -> Result<Option<&Requirement>, Box<LocalReply>> {
        let of_route = cx.route_config(|config| match config {
            RouteConfig::JwtAuthn(config) => Some(config),
            _ => None,
        });
        match of_route {
            Some(PerRoute::Disabled) => return Ok(None),
            Some(PerRoute::Named(name)) => {
                let found = self.named.get(name).map(Some);
                return found.ok_or_else(|| Box::new(self.no_such_requirement(name)));
            }
            None => {}
        }
        let request = cx.core.route_request();
        if let Some(rule) = self.rules.iter().find(|rule| rule.matches.matches_alone(&request)) {
            return Ok(match &rule.needs {
                None => None,
                Some(Needs::This(requirement)) => Some(requirement),
                Some(Needs::Named(name)) => self.named.get(name),
            });
        }
        let by_state = self.by_filter_state.as_ref();
        Ok(by_state.and_then(|rules| {
            let text = request.state.and_then(|state| state.text(&rules.key))?;
            rules.requires.get(text)
        }))
    }

    fn evaluate(
        &self,
        requirement: &Requirement,
        state: &mut State,
        cx: &mut Context<'_, '_>,
    ) -> Flow {
        let local = self.local(&cx.core.given.service, cx.core.shard);
        let known =
            Known { providers: &self.providers, local: &local.0, locations: &self.locations };
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let request = &cx.core.heads.request;
        let mut evaluation = Evaluation::new(known, request, now, &state.fetched);
        let verdict = evaluation.requirement(requirement);
        let Evaluation { effects, needed, cache_hits, cache_misses, .. } = evaluation;
        let stats = self.stats.shard(cx.core.shard.id);
        if verdict != Verdict::Pending {
            stats.jwt_cache_hit.add(cache_hits);
            stats.jwt_cache_miss.add(cache_misses);
        }
        match verdict {
            Verdict::Pass => {
                stats.allowed.inc();
                apply(effects, cx).map_or_else(Flow::Reply, |()| Flow::Continue)
            }
            Verdict::Fail(status) => {
                stats.denied.inc();
                let reply = self.refusal(status, request);
                for effect in effects {
                    if let Effect::Note(key, value) = effect {
                        cx.core.note().metadata.set(NAMESPACE, key, value);
                    }
                }
                Flow::Reply(Box::new(reply))
            }
            Verdict::Pending => {
                let waits = needed
                    .into_iter()
                    .filter_map(|at| Some((at, local.0.get(at)?.remote()?.wait())));
                state.progress = Progress::Waiting(waits.collect());
                Flow::Wait(WaitFor::Call)
            }
        }
    }

    fn refusal(&self, status: Status, request: &RequestHead) -> LocalReply {
        let body = if self.strips_reply { "" } else { status.text() };
        let reply = LocalReply::new(status.http_status(), body);
        let mut reply = reply.with_details(None, details(status.text()));
        if !self.strips_reply {
            let mut challenge = b"Bearer realm=".to_vec();
            challenge.extend_from_slice(&quoted_uri(request));
            if status != Status::Missing {
                challenge.extend_from_slice(b", error=\"invalid_token\"");
            }
            reply.add_field(FieldName::WwwAuthenticate, &challenge);
        }
        reply
    }

    fn no_such_requirement(&self, name: &str) -> LocalReply {
        let names: Vec<&str> = self.named.keys().map(|name| &**name).collect();
        let names = names.join(",");
        let why = format!("Wrong requirement_name: {name}. It should be one of [{names}]");
        let body = format!("Failed JWT authentication: {why}");
        LocalReply::new(403, &body).with_details(None, details(&why))
    }
}

fn details(why: &str) -> String {
    format!("jwt_authn_access_denied{{{}}}", why.replace(' ', "_"))
}

/// Changes the request as its tokens say.
fn apply(effects: Vec<Effect<'_>>, cx: &mut Context<'_, '_>) -> Result<(), Box<LocalReply>> {
    let mut clears_route_cache = false;
    let mut result = Ok(());
    for effect in effects {
        let request = &mut cx.core.heads.request;
        match effect {
            Effect::Remove(location) => location.remove(request),
            Effect::Add(name, value) => {
                if value.iter().any(|byte| byte.is_ascii_control() && *byte != b'\t') {
                    result = Err(Box::new(invalid_value(name)));
                } else {
                    add(&mut request.fields, name, &value);
                }
            }
            Effect::Set(name, value) => request.fields.replace_other(name, value),
            Effect::Note(key, value) => cx.core.note().metadata.set(NAMESPACE, key, value),
            Effect::ClearRouteCache => clears_route_cache = true,
        }
    }
    if clears_route_cache {
        cx.clear_route_cache();
    }
    result
}

/// As in Envoy, a known header is joined.
fn add(fields: &mut Fields, name: &[u8], value: &[u8]) {
    match FieldName::of(name) {
        id if JOINED_IN_REQUESTS.has(id) => fields.join(id, b",", value),
        _ => fields.append_other(name, value),
    }
}

/// A claim cannot be a header: RFC 9110 §5.5.
fn invalid_value(name: &[u8]) -> LocalReply {
    let name = String::from_utf8_lossy(name);
    let details =
        format!("filter_removed_required_request_headers{{invalid_header_value_for:_{name}}}");
    LocalReply::new(503, &format!("invalid header value for: {name}"))
        .with_details(Some(Flag::DownstreamProtocolError), details)
}

/// Whether a browser asks if it may send a request; it does not send tokens then.
fn is_preflight(request: &RequestHead) -> bool {
    let has = |name: &[u8]| request.fields.find(name).is_some_and(|value| !value.is_empty());
    request.method == Method::Options && has(b"origin") && has(b"access-control-request-method")
}
