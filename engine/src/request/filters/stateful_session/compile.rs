//! Schema → `stateful_session`.

use corvoy_config::{self as config, Path, Problems};

use super::{Config, PerRoute, SessionCookie, SessionState, StatefulSession};
use crate::request::filters::compile::{Context, header_to_set};

impl StatefulSession {
    pub(in super::super) fn compile(
        schema: &config::StatefulSession,
        context: &Context<'_>,
        at: &Path,
        problems: &mut Problems,
    ) -> Option<Self> {
        let prefix = &schema.stat_prefix;
        let stats = (!prefix.is_empty()).then(|| {
            context.registry.scope(&format!("{}stateful_session.{prefix}.", context.stat_prefix))
        });
        Some(Self { config: config(schema, at, problems)?, stats })
    }
}

pub(in super::super) fn of_route(
    schema: &config::StatefulSessionPerRoute,
    at: &Path,
    problems: &mut Problems,
) -> Option<PerRoute> {
    let config::StatefulSessionPerRoute { disabled: _, stateful_session } = schema;
    let Some(schema) = stateful_session else { return Some(PerRoute::Disabled) };
    Some(PerRoute::Config(config(schema, &at.field("stateful_session"), problems)?))
}

fn config(schema: &config::StatefulSession, at: &Path, problems: &mut Problems) -> Option<Config> {
    let config::StatefulSession {
        session_state,
        strict,
        // As in Envoy, only that of the filter counts.
        stat_prefix: _,
        status_on_strict_destination_not_found,
    } = schema;
    let at_status = at.field("status_on_strict_destination_not_found");
    let status = match *status_on_strict_destination_not_found {
        0 => Some(503),
        status => u16::try_from(status).ok().filter(|status| (200..=599).contains(status)),
    };
    if status.is_none() {
        problems.error(&at_status, "a status is between 200 and 599");
    }
    let state = match session_state {
        Some(schema) => Some(state(schema, &at.field("session_state"), problems)?),
        None => None,
    };
    Some(Config { state, strict: status.filter(|_| *strict) })
}

fn state(
    schema: &config::TypedExtensionConfig,
    at: &Path,
    problems: &mut Problems,
) -> Option<SessionState> {
    let config::TypedExtensionConfig { name: _, typed_config } = schema;
    let at = at.field("typed_config");
    let header =
        |name: &str, problems: &mut Problems| header_to_set(name, &at.field("name"), problems);
    match typed_config {
        Some(config::Any::CookieBasedSessionState(schema)) => {
            let config::CookieBasedSessionState { cookie } = &**schema;
            let cookie = self::cookie(cookie.as_ref()?, &at.field("cookie"), problems);
            Some(SessionState::Cookie(cookie))
        }
        Some(config::Any::HeaderBasedSessionState(schema)) => {
            let config::HeaderBasedSessionState { name } = &**schema;
            Some(SessionState::Header(header(name, problems)?))
        }
        Some(config::Any::EnvelopeSessionState(schema)) => {
            let config::EnvelopeSessionState { header: schema } = &**schema;
            let config::EnvelopeSessionStateHeader { name } = schema.as_ref()?;
            Some(SessionState::Envelope(header(name, problems)?))
        }
        Some(other) => {
            problems.error(&at, format!("`{}` is no session state", other.type_name()));
            None
        }
        None => {
            problems.missing(&at, "a session state needs its typed_config");
            None
        }
    }
}

fn cookie(schema: &config::Cookie, at: &Path, problems: &mut Problems) -> SessionCookie {
    let config::Cookie { name, ttl, path, attributes } = schema;
    let ttl = ttl.unwrap_or_default();
    let mut text = String::new();
    if ttl.as_secs() > 0 {
        text.push_str(&format!("; Max-Age={}", ttl.as_secs()));
    }
    if !path.is_empty() {
        text.push_str(&format!("; Path={path}"));
    }
    for config::CookieAttribute { name, value } in attributes {
        text.push_str("; ");
        text.push_str(name);
        if !value.is_empty() {
            text.push('=');
            text.push_str(value);
        }
    }
    let mut check = |text: &str, at: &Path| {
        if text.chars().any(|c| c.is_ascii_control() || c == ';') {
            problems.error(at, "a cookie has neither control characters nor `;` in it");
        }
    };
    check(name, &at.field("name"));
    check(path, &at.field("path"));
    for (i, config::CookieAttribute { name, value }) in attributes.iter().enumerate() {
        let at = at.field("attributes").index(i);
        check(name, &at.field("name"));
        check(value, &at.field("value"));
    }
    SessionCookie {
        name: name.as_bytes().into(),
        path: path.as_bytes().into(),
        ttl,
        attributes: text.into(),
    }
}
