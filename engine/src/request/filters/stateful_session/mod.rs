//! `stateful_session`: the requests of a session go to the host that has answered its first one.
//!
//! The filter keeps nothing: the address of the host is in a cookie or header that the client sends again.

pub(super) mod compile;

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use prost::Message;

use super::{Context, Flow, RouteConfig};
use crate::flags::Flag;
use crate::head_matcher::cookie_value;
use crate::http::{FieldName, Fields};
use crate::request::override_host::SessionHost;
use crate::stats::{Scope, stats};

stats! {
    /// `http.<prefix>.stateful_session.<stat_prefix>.`
    pub struct StatefulSessionStats {
        counter failed_closed;
        counter failed_open;
        counter no_session;
        counter routed;
    }
}

/// The filter.
#[derive(Debug)]
pub struct StatefulSession {
    config: Config,
    /// Only with a `stat_prefix`.
    stats: Option<Arc<Scope<StatefulSessionStats>>>,
}

/// What the filter, or a route, says.
#[derive(Debug)]
pub struct Config {
    /// Where the address is; none: there are no sessions.
    state: Option<SessionState>,
    /// The status of the reply if the host of a session cannot be had; none: another host gets the request.
    strict: Option<u16>,
}

/// What a route says.
#[derive(Debug)]
pub enum PerRoute {
    /// Its requests have no sessions.
    Disabled,
    /// This.
    Config(Config),
}

/// Where a session has the address of its host.
#[derive(Debug)]
enum SessionState {
    Cookie(SessionCookie),
    /// `header`: in a header of this name, in lower case.
    Header(Box<[u8]>),
    /// `envelope`: in front of what the host itself has in this header.
    Envelope(Box<[u8]>),
}

#[derive(Debug)]
struct SessionCookie {
    name: Box<[u8]>,
    /// The path of the requests that have sessions.
    path: Box<[u8]>,
    /// How long it is valid; zero: as long as the client keeps it.
    ttl: Duration,
    /// What follows the value in `set-cookie`.
    attributes: Box<str>,
}

/// What a cookie says, as in Envoy.
#[derive(Clone, PartialEq, Message)]
struct CookieValue {
    #[prost(string, tag = "1")]
    address: String,
    /// In seconds since the epoch; 0: never.
    #[prost(uint64, tag = "2")]
    expires: u64,
}

/// What the filter remembers of a request.
#[derive(Debug, Default)]
pub(in crate::request) enum State {
    /// A route has switched it off.
    #[default]
    Off,
    /// The request can have no session.
    NoSession,
    /// The host of its session, if it has one already.
    Session(Option<Box<str>>),
}

impl StatefulSession {
    pub(super) fn request_head(&self, state: &mut State, cx: &mut Context<'_, '_>) -> Flow {
        let Some(config) = self.config(cx) else { return Flow::Continue };
        let found = config.state.as_ref().and_then(|state| state.find(cx));
        *state = match found {
            None => State::NoSession,
            Some(address) => {
                if let Some(address) = &address {
                    let host = SessionHost { address: address.clone(), strict: config.strict };
                    cx.core.note().session_host = Some(host);
                }
                State::Session(address)
            }
        };
        Flow::Continue
    }

    pub(super) fn response_head(&self, state: &mut State, cx: &mut Context<'_, '_>) {
        let stats = self.stats.as_ref().map(|stats| stats.shard(cx.core.shard.id));
        let pool = cx.core.upstream.pool.as_ref();
        let host = pool.map(|pool| pool.host().address.to_string());
        let wanted = match state {
            State::Off => return,
            State::NoSession => {
                if let (Some(_), Some(stats)) = (host, stats) {
                    stats.no_session.inc();
                }
                return;
            }
            State::Session(wanted) => wanted.take(),
        };
        let Some(config) = self.config(cx) else { return };
        let Some(host) = host else {
            if config.strict.is_some()
                && cx.has_flag(Flag::NoHealthyUpstream)
                && let Some(stats) = stats
            {
                stats.failed_closed.inc();
            }
            return;
        };
        let has_moved = wanted.as_deref() != Some(&*host);
        if let Some(state) = &config.state {
            state.tell(&host, has_moved, &mut cx.core.heads.response.fields);
        }
        match stats {
            Some(stats) if !has_moved => stats.routed.inc(),
            Some(stats) if config.strict.is_none() => stats.failed_open.inc(),
            _ => {}
        }
    }

    /// What applies to the request; none: its route has switched the filter off.
    fn config<'a>(&'a self, cx: &Context<'a, '_>) -> Option<&'a Config> {
        let of_route = cx.route_config(|config| match config {
            RouteConfig::StatefulSession(config) => Some(&**config),
            _ => None,
        });
        match of_route {
            None => Some(&self.config),
            Some(PerRoute::Config(config)) => Some(config),
            Some(PerRoute::Disabled) => None,
        }
    }
}

impl SessionState {
    /// The host of the request's session, if it has one already. None: the request can have no session.
    fn find(&self, cx: &mut Context<'_, '_>) -> Option<Option<Box<str>>> {
        let head = &mut cx.core.heads.request;
        match self {
            Self::Cookie(cookie) => {
                if !cookie.is_for(head.path()) {
                    return None;
                }
                let value = cookie_value(&head.fields, &cookie.name);
                Some(value.and_then(|value| cookie.address(value, SystemTime::now())))
            }
            Self::Header(name) => {
                let value = header(&head.fields, name);
                Some(value.and_then(|value| text(BASE64.decode(value).ok()?)))
            }
            Self::Envelope(name) => {
                let opened = header(&head.fields, name).and_then(open_envelope);
                Some(opened.and_then(|(address, content)| {
                    // As in Envoy, at the end.
                    head.fields.remove_other(name);
                    head.fields.append_other(name, &content);
                    address
                }))
            }
        }
    }

    /// Tells the client of the host that has answered.
    fn tell(&self, host: &str, has_moved: bool, fields: &mut Fields) {
        match self {
            Self::Cookie(cookie) => {
                if has_moved {
                    let cookie = cookie.set(host, SystemTime::now());
                    fields.append(FieldName::SetCookie, cookie.as_bytes());
                }
            }
            Self::Header(name) => {
                if has_moved {
                    fields.set_other(name, BASE64.encode(host).as_bytes());
                }
            }
            Self::Envelope(name) => {
                let value = {
                    let mut all = fields.iter().filter(|(_, other, _)| *other == &**name);
                    // As in Envoy, there is no session where the host names none, or several.
                    let (Some((_, _, content)), None) = (all.next(), all.next()) else { return };
                    format!("{};UV:{}", BASE64.encode(host), BASE64.encode(content))
                };
                fields.remove_other(name);
                fields.append_other(name, value.as_bytes());
            }
        }
    }
}

impl SessionCookie {
    /// Whether the cookie is for requests with this path.
    fn is_for(&self, path: &[u8]) -> bool {
        match &*self.path {
            b"" | b"/" => true,
            whole => path.strip_prefix(whole).is_some_and(|rest| {
                rest.is_empty() || whole.ends_with(b"/") || rest.starts_with(b"/")
            }),
        }
    }

    /// The address in the cookie, unless it has expired.
    fn address(&self, value: &[u8], now: SystemTime) -> Option<Box<str>> {
        let decoded = BASE64.decode(value).ok()?;
        // As in Envoy, an address alone is one as well.
        let Ok(CookieValue { address, expires }) = CookieValue::decode(&*decoded) else {
            return text(decoded);
        };
        let has_expired = self.ttl > Duration::ZERO && expires > 0 && seconds(now) > expires;
        (!has_expired && !address.is_empty()).then(|| address.into())
    }

    /// The value of `set-cookie` for this host.
    fn set(&self, host: &str, now: SystemTime) -> String {
        let seconds_valid = self.ttl.as_secs();
        let expires =
            if seconds_valid > 0 { seconds(now).saturating_add(seconds_valid) } else { 0 };
        let value = CookieValue { address: host.to_owned(), expires }.encode_to_vec();
        let name = String::from_utf8_lossy(&self.name);
        format!("{name}=\"{}\"{}; HttpOnly", BASE64.encode(value), self.attributes)
    }
}

/// Takes an envelope apart: the address, if it is valid, and what the host has put in. None: it is no envelope.
fn open_envelope(value: &[u8]) -> Option<(Option<Box<str>>, Vec<u8>)> {
    let mut parts = value.split(|&byte| byte == b';').filter(|part| !part.is_empty());
    let address = BASE64.decode(parts.next()?).ok().and_then(text);
    let content = parts.find_map(|part| part.strip_prefix(b"UV:"))?;
    let content = BASE64.decode(content).ok().filter(|content| !content.is_empty())?;
    Some((address, content))
}

/// The first value of a header.
fn header<'a>(fields: &'a Fields, name: &[u8]) -> Option<&'a [u8]> {
    fields.iter().find(|(_, other, _)| *other == name).map(|(_, _, value)| value)
}

fn text(bytes: Vec<u8>) -> Option<Box<str>> {
    String::from_utf8(bytes).ok().filter(|text| !text.is_empty()).map(Into::into)
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cookie(path: &[u8], ttl: u64) -> SessionCookie {
        let (name, attributes) = (b"sess"[..].into(), "; Max-Age=100".into());
        SessionCookie { name, path: path.into(), ttl: Duration::from_secs(ttl), attributes }
    }

    #[test]
    fn a_cookie_is_for_the_paths_below_its_own() {
        for (path, of_request, expected) in [
            ("", "/a", true),
            ("/", "/a", true),
            ("/p", "/p", true),
            ("/p", "/p/a", true),
            ("/p", "/pa", false),
            ("/p/", "/p/a", true),
            ("/p/", "/p", false),
        ] {
            let is_for = cookie(path.as_bytes(), 0).is_for(of_request.as_bytes());
            assert_eq!(is_for, expected, "{path} {of_request}");
        }
    }

    #[test]
    fn a_cookie_counts_until_it_expires() {
        let at = |seconds| UNIX_EPOCH + Duration::from_secs(seconds);
        let cookie = cookie(b"", 100);
        let set = cookie.set("127.0.0.1:80", at(1000));
        assert_eq!(set, "sess=\"CgwxMjcuMC4wLjE6ODAQzAg=\"; Max-Age=100; HttpOnly");
        let value = b"CgwxMjcuMC4wLjE6ODAQzAg=";
        assert_eq!(cookie.address(value, at(1100)).as_deref(), Some("127.0.0.1:80"));
        assert_eq!(cookie.address(value, at(1101)), None);
        let plain = BASE64.encode("127.0.0.1:80");
        assert_eq!(cookie.address(plain.as_bytes(), at(0)).as_deref(), Some("127.0.0.1:80"));
        assert_eq!(cookie.address(b"???", at(0)), None);
    }

    #[test]
    fn an_envelope_has_an_address_and_what_the_host_has_put_in() {
        let value = format!("{};UV:{}", BASE64.encode("127.0.0.1:80"), BASE64.encode("abc"));
        let (address, content) = open_envelope(value.as_bytes()).unwrap();
        assert_eq!((address.as_deref(), &*content), (Some("127.0.0.1:80"), &b"abc"[..]));
        assert_eq!(open_envelope(b"abc"), None);
        assert_eq!(open_envelope(b"???;UV:YWJj"), Some((None, b"abc".to_vec())));
        assert_eq!(open_envelope(b""), None);
    }
}
