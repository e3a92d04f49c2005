//! Schema → `basic_auth`.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use corvoy_config::{self as config, Path, Problems};

use super::super::compile::{Context, header_to_set};
use super::{BasicAuth, Sha1, Users};
use crate::format::compile::data_source;

/// What is wrong with a file of users.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("line {line}: {why}")]
pub(super) struct InvalidUsers {
    /// Counted from one.
    line: usize,
    why: &'static str,
}

impl BasicAuth {
    pub(in super::super) fn compile(
        schema: &config::BasicAuth,
        context: &Context<'_>,
        at: &Path,
        problems: &mut Problems,
    ) -> Option<Self> {
        let config::BasicAuth { users, forward_username_header, authentication_header } = schema;
        let forward_user = match &**forward_username_header {
            "" => None,
            name => Some(header_to_set(name, &at.field("forward_username_header"), problems)?),
        };
        let header = match &**authentication_header {
            "" => "authorization",
            name => name,
        };
        Some(Self {
            users: self::users(users.as_ref(), at, problems)?,
            header: header.to_ascii_lowercase().into_bytes().into(),
            forward_user,
            stats: context.registry.scope(&format!("{}basic_auth.", context.stat_prefix)),
        })
    }
}

/// The users of a route.
pub(in super::super) fn of_route(
    schema: &config::BasicAuthPerRoute,
    at: &Path,
    problems: &mut Problems,
) -> Option<Users> {
    let config::BasicAuthPerRoute { users } = schema;
    self::users(users.as_ref(), at, problems)
}

fn users(schema: Option<&config::DataSource>, at: &Path, problems: &mut Problems) -> Option<Users> {
    let at = at.field("users");
    let text = schema.map_or_else(|| Ok(Vec::new()), data_source);
    let text = text.map_err(|error| problems.error(&at, error)).ok()?;
    Users::parse(&text).map_err(|error| problems.error(&at, error.to_string())).ok()
}

impl Users {
    /// Reads lines of an `htpasswd` file: `name:{SHA}…`. As in Envoy, other hashes are errors.
    pub(super) fn parse(text: &[u8]) -> Result<Self, InvalidUsers> {
        let mut users = HashMap::new();
        let lines = text.split(|byte| *byte == b'\n').enumerate();
        for (line, user) in lines.filter(|(_, line)| !line.is_empty() && !line.starts_with(b"#")) {
            let invalid = |why| InvalidUsers { line: line + 1, why };
            let (name, hash) = user_of(user).map_err(invalid)?;
            let Entry::Vacant(free) = users.entry(name.into()) else {
                return Err(invalid("the user is there already"));
            };
            free.insert(hash);
        }
        Ok(Self(users))
    }
}

fn user_of(line: &[u8]) -> Result<(&[u8], Sha1), &'static str> {
    let colon = memchr::memchr(b':', line).ok_or("expected name:{SHA}hash")?;
    let (name, hash) = line.split_at(colon);
    if name.is_empty() || name.iter().any(u8::is_ascii_control) {
        return Err("the name of the user is empty or has control characters");
    }
    let encoded =
        hash.strip_prefix(b":{SHA}").ok_or("only hashes of the format {SHA} are supported")?;
    let hash = STANDARD.decode(encoded).ok().and_then(|hash| hash.try_into().ok());
    Ok((name, hash.ok_or("the hash is not the base64 of a SHA-1")?))
}
