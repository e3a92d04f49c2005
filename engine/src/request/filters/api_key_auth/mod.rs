//! `api_key_auth`: requests need the key of a client, from a header, a query parameter or a cookie.
//!
//! Keys are kept and looked up as digests, so that how long a look-up takes tells nothing about them, and
//! they appear in no log.

pub(super) mod compile;

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};

use super::{Context, Flow, RouteConfig};
use crate::http::{FieldName, RequestHead};
use crate::request::query::{parameter, remove_parameter};
use crate::request::reply::LocalReply;
use crate::request::route::matchers::{cookie_value, cookies_without};
use crate::stats::{Scope, stats};

stats! {
    /// `http.<stat_prefix>.api_key_auth.`
    pub struct ApiKeyAuthStats {
        counter allowed;
        counter forbidden;
        counter unauthorized;
    }
}

/// The filter.
#[derive(Debug)]
pub struct ApiKeyAuth {
    settings: Settings,
    stats: Arc<Scope<ApiKeyAuthStats>>,
}

/// What a route says.
#[derive(Debug)]
pub struct PerRoute {
    settings: Settings,
    /// The clients that may pass; empty: all.
    allowed: HashSet<Box<str>>,
}

/// What a route says in the place of the filter, each for itself.
#[derive(Debug)]
struct Settings {
    credentials: Option<Credentials>,
    sources: Option<Box<[Source]>>,
    forwarding: Option<Forwarding>,
}

/// By the SHA-256 of the key: its client.
struct Credentials(HashMap<[u8; 32], Box<str>>);

/// Where a key is.
#[derive(Debug)]
enum Source {
    /// In a header, given in lower case.
    Header(Box<[u8]>),
    Query(Box<[u8]>),
    Cookie(Box<[u8]>),
}

/// What a host gets to see.
#[derive(Debug)]
struct Forwarding {
    /// The header that gets the client, in lower case.
    client: Option<Box<[u8]>>,
    /// Whether the key is removed.
    hide_credentials: bool,
}

/// Why a request is refused.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Denied {
    NoSources,
    NoCredentials,
    NoKey,
    UnknownKey,
    NotAllowed,
}

impl ApiKeyAuth {
    pub(super) fn request_head(&self, cx: &mut Context<'_, '_>) -> Flow {
        let route = cx.route_config(|config| match config {
            RouteConfig::ApiKeyAuth(config) => Some(&**config),
            _ => None,
        });
        let stats = self.stats.shard(cx.core.shard.id);
        match self.check(route, &mut cx.core.heads.request) {
            Ok(()) => {
                stats.allowed.inc();
                Flow::Continue
            }
            Err(denied) => {
                let reply = denied.reply();
                if reply.status == 401 { &stats.unauthorized } else { &stats.forbidden }.inc();
                Flow::Reply(Box::new(reply))
            }
        }
    }

    /// Finds the client of a request, and changes the request as configured.
    fn check(&self, route: Option<&PerRoute>, request: &mut RequestHead) -> Result<(), Denied> {
        let ours = &self.settings;
        let theirs = route.map(|route| &route.settings);
        let sources = theirs.and_then(|it| it.sources.as_ref()).or(ours.sources.as_ref());
        let sources = sources.ok_or(Denied::NoSources)?;
        let credentials = theirs.and_then(|it| it.credentials.as_ref());
        let credentials = credentials.or(ours.credentials.as_ref()).ok_or(Denied::NoCredentials)?;
        let mut keys = sources.iter().filter_map(|source| source.key(request));
        let key = keys.find(|key| !key.is_empty()).ok_or(Denied::NoKey)?;
        let client = credentials.client(&key).ok_or(Denied::UnknownKey)?;
        if route.is_some_and(|it| !it.allowed.is_empty() && !it.allowed.contains(client)) {
            return Err(Denied::NotAllowed);
        }
        // As in Envoy, a route that says anything says all of this.
        let forwarding = theirs.unwrap_or(ours).forwarding.as_ref();
        if let Some(Forwarding { client: header, hide_credentials }) = forwarding {
            if let Some(name) = header {
                request.fields.replace_other(name, client.as_bytes());
            }
            if *hide_credentials {
                sources.iter().for_each(|source| source.remove(request));
            }
        }
        Ok(())
    }
}

impl Credentials {
    fn client(&self, key: &[u8]) -> Option<&str> {
        let digest = digest(&SHA256, key);
        self.0.get(digest.as_ref()).map(|client| &**client)
    }
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} keys", self.0.len())
    }
}

impl Source {
    fn key<'a>(&self, request: &'a RequestHead) -> Option<Cow<'a, [u8]>> {
        match self {
            Self::Header(name) => {
                let value = request.fields.find(name)?;
                Some(value.strip_prefix(b"Bearer ").unwrap_or(value).into())
            }
            Self::Query(name) => parameter(request, name).map(Cow::Owned),
            Self::Cookie(name) => cookie_value(&request.fields, name).map(Cow::Borrowed),
        }
    }

    fn remove(&self, request: &mut RequestHead) {
        match self {
            Self::Header(name) => request.fields.remove_other(name),
            Self::Query(name) => remove_parameter(request, name),
            Self::Cookie(name) => {
                let rest = cookies_without(request, name);
                request.fields.remove(FieldName::Cookie);
                if !rest.is_empty() {
                    request.fields.append(FieldName::Cookie, &rest);
                }
            }
        }
    }
}

impl Denied {
    fn reply(self) -> LocalReply {
        const FAILED: &str = "Client authentication failed.";
        let (status, body, details) = match self {
            Self::NoSources => (401, FAILED, "missing_key_sources"),
            Self::NoCredentials => (401, FAILED, "missing_credentials"),
            Self::NoKey => (401, FAILED, "missing_api_key"),
            Self::UnknownKey => (401, FAILED, "unknown_api_key"),
            Self::NotAllowed => (403, "Client is forbidden.", "client_not_allowed"),
        };
        LocalReply::new(status, body).with_details(None, details)
    }
}
