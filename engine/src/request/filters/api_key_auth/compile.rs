//! Schema → `api_key_auth`.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use aws_lc_rs::digest::{SHA256, digest};
use corvoy_config::{self as config, Path, Problems};

use super::super::compile::{Context, header_to_set};
use super::{ApiKeyAuth, Credentials, Forwarding, PerRoute, Settings, Source};

impl ApiKeyAuth {
    pub(in super::super) fn compile(
        schema: &config::ApiKeyAuth,
        context: &Context<'_>,
        at: &Path,
        problems: &mut Problems,
    ) -> Option<Self> {
        let config::ApiKeyAuth { credentials, key_sources, forwarding } = schema;
        let stats = context.registry.scope(&format!("{}api_key_auth.", context.stat_prefix));
        let settings = settings(credentials, key_sources, forwarding.as_ref(), at, problems)?;
        Some(Self { settings, stats })
    }
}

pub(in super::super) fn of_route(
    schema: &config::ApiKeyAuthPerRoute,
    at: &Path,
    problems: &mut Problems,
) -> Option<PerRoute> {
    let config::ApiKeyAuthPerRoute { credentials, key_sources, allowed_clients, forwarding } =
        schema;
    Some(PerRoute {
        settings: settings(credentials, key_sources, forwarding.as_ref(), at, problems)?,
        allowed: allowed_clients.iter().map(|client| client.as_str().into()).collect(),
    })
}

fn settings(
    keys: &[config::ApiKeyCredential],
    sources: &[config::ApiKeySource],
    forwarding: Option<&config::ApiKeyForwarding>,
    at: &Path,
    problems: &mut Problems,
) -> Option<Settings> {
    let keys = (!keys.is_empty()).then(|| credentials(keys, &at.field("credentials"), problems));
    let at_sources = at.field("key_sources");
    let each = sources.iter().enumerate();
    let compiled: Vec<_> =
        each.map(|(i, schema)| source(schema, &at_sources.index(i), problems)).collect();
    let sources: Box<[_]> = compiled.into_iter().collect::<Option<_>>()?;
    let forwarding = match forwarding {
        Some(schema) => Some(self::forwarding(schema, &at.field("forwarding"), problems)?),
        None => None,
    };
    Some(Settings {
        credentials: keys,
        sources: (!sources.is_empty()).then_some(sources),
        forwarding,
    })
}

fn credentials(
    schemas: &[config::ApiKeyCredential],
    at: &Path,
    problems: &mut Problems,
) -> Credentials {
    let mut keys = HashMap::new();
    for (i, config::ApiKeyCredential { key, client }) in schemas.iter().enumerate() {
        let digest = digest(&SHA256, key.as_bytes()).as_ref().try_into().unwrap_or([0; 32]);
        match keys.entry(digest) {
            Entry::Vacant(free) => drop(free.insert(client.as_str().into())),
            Entry::Occupied(_) => {
                problems.error(&at.index(i).field("key"), "the key is there already");
            }
        }
        if client.chars().any(char::is_control) {
            let message = "the name of a client may not have control characters";
            problems.error(&at.index(i).field("client"), message);
        }
    }
    Credentials(keys)
}

fn source(schema: &config::ApiKeySource, at: &Path, problems: &mut Problems) -> Option<Source> {
    let config::ApiKeySource { header, query, cookie } = schema;
    let text = |text: &str| text.as_bytes().into();
    match (&**header, &**query, &**cookie) {
        ("", "", "") => {
            problems.missing(at, "one of header, query and cookie must be set");
            None
        }
        ("", "", cookie) => Some(Source::Cookie(text(cookie))),
        ("", query, _) => Some(Source::Query(text(query))),
        // It can be removed, so the rules are those of a header that is set.
        (header, ..) => header_to_set(header, &at.field("header"), problems).map(Source::Header),
    }
}

fn forwarding(
    schema: &config::ApiKeyForwarding,
    at: &Path,
    problems: &mut Problems,
) -> Option<Forwarding> {
    let config::ApiKeyForwarding { header, hide_credentials } = schema;
    let client = match &**header {
        "" => None,
        name => Some(header_to_set(name, &at.field("header"), problems)?),
    };
    Some(Forwarding { client, hide_credentials: *hide_credentials })
}

#[cfg(test)]
mod tests {
    use super::super::Denied;
    use super::*;
    use crate::http::RequestHead;
    use crate::request::route::tests::{request, shown};
    use crate::stats::Registry;

    fn credential(key: &str, client: &str) -> config::ApiKeyCredential {
        config::ApiKeyCredential { key: key.into(), client: client.into() }
    }

    fn filter(hide_credentials: bool) -> ApiKeyAuth {
        let source = |header: &str, query: &str, cookie: &str| config::ApiKeySource {
            header: header.into(),
            query: query.into(),
            cookie: cookie.into(),
        };
        let forwarding = config::ApiKeyForwarding { header: "X-Client".into(), hide_credentials };
        let mut problems = Problems::default();
        let settings = settings(
            &[credential("one", "first"), credential("two words", "second")],
            &[source("X-Key", "", ""), source("", "key", ""), source("", "", "k")],
            Some(&forwarding),
            &Path::root(),
            &mut problems,
        );
        assert!(problems.is_empty());
        ApiKeyAuth { settings: settings.unwrap(), stats: Registry::new(1).scope("t.") }
    }

    /// Its fields but `host`.
    fn fields_of(head: &RequestHead) -> String {
        shown(&head.fields).split_off(1).join(", ")
    }

    #[test]
    fn a_key_is_found_in_each_source() {
        for (target, field, client) in [
            ("/", "x-key: one", "first"),
            ("/", "x-key: Bearer one", "first"),
            ("/?a=b&key=two%20words", "x: y", "second"),
            ("/", "cookie: a=b; k=one", "first"),
        ] {
            let mut head = request(target, &[field]);
            assert_eq!(filter(false).check(None, &mut head), Ok(()), "{target} {field}");
            assert_eq!(fields_of(&head), format!("{field}, x-client: {client}"));
        }
    }

    #[test]
    fn a_wrong_key_is_refused_and_appears_nowhere() {
        let check = |field: &str| filter(false).check(None, &mut request("/", &[field]));
        assert_eq!(check("x: y"), Err(Denied::NoKey));
        assert_eq!(check("x-key: "), Err(Denied::NoKey));
        assert_eq!(check("x-key: on"), Err(Denied::UnknownKey));
        assert!(!format!("{:?}", filter(false)).contains("one"));
    }

    #[test]
    fn keys_are_hidden_from_the_host() {
        let mut head =
            request("/a?x=1&key=one&y=2", &["x-key: one", "cookie: a=b; k=one; c=d", "z: 1"]);
        assert_eq!(filter(true).check(None, &mut head), Ok(()));
        assert_eq!(head.target(), b"/a?x=1&y=2");
        assert_eq!(fields_of(&head), "z: 1, x-client: first, cookie: a=b; c=d");
    }

    #[test]
    fn a_route_decides_which_clients_and_which_keys() {
        let route = |credentials: Vec<_>, clients: &[&str]| {
            let schema = config::ApiKeyAuthPerRoute {
                credentials,
                allowed_clients: clients.iter().map(|client| (*client).to_owned()).collect(),
                ..config::ApiKeyAuthPerRoute::default()
            };
            of_route(&schema, &Path::root(), &mut Problems::default()).unwrap()
        };
        let check = |route: &PerRoute, field: &str| {
            filter(false).check(Some(route), &mut request("/", &[field]))
        };
        let second = route(Vec::new(), &["second"]);
        assert_eq!(check(&second, "x-key: one"), Err(Denied::NotAllowed));
        assert_eq!(check(&second, "x-key: two words"), Ok(()));
        let third = route(vec![credential("three", "third")], &[]);
        assert_eq!(check(&third, "x-key: one"), Err(Denied::UnknownKey));
        assert_eq!(check(&third, "x-key: three"), Ok(()));
    }
}
