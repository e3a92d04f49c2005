//! Schema → hash policies.

use corvoy_config::{self as config, Path, Problems};

use super::{HashOf, HashPolicies, HashPolicy, SetCookie};
use crate::request::route::matchers::HeaderName;
use crate::request::route::rewrite_compile::substitution;

/// Compiles the `hash_policy` at `at`.
pub(crate) fn policies(
    schemas: &[config::HashPolicy],
    at: &Path,
    problems: &mut Problems,
) -> HashPolicies {
    let each = schemas.iter().enumerate();
    let each = each.filter_map(|(i, schema)| policy(schema, &at.index(i), problems));
    HashPolicies(each.collect())
}

fn policy(schema: &config::HashPolicy, at: &Path, problems: &mut Problems) -> Option<HashPolicy> {
    let config::HashPolicy {
        header,
        cookie,
        connection_properties,
        query_parameter,
        filter_state,
        terminal,
    } = schema;
    let of = if let Some(schema) = header {
        let config::HashPolicyHeader { header_name, regex_rewrite } = schema;
        let at = at.field("header").field("regex_rewrite");
        let rewrite = match regex_rewrite {
            Some(schema) => Some(substitution(schema, &at, problems)?),
            None => None,
        };
        HashOf::Header { name: HeaderName::new(header_name), rewrite }
    } else if let Some(schema) = cookie {
        cookie_policy(schema, &at.field("cookie"), problems)
    } else if let Some(config::HashPolicyConnectionProperties { source_ip }) = connection_properties
    {
        if !source_ip {
            let at = at.field("connection_properties");
            problems.warn(&at, "without source_ip this policy has no effect");
            return None;
        }
        HashOf::SourceIp
    } else if let Some(config::HashPolicyFilterState { key }) = filter_state {
        HashOf::FilterState(key.as_str().into())
    } else {
        let config::HashPolicyQueryParameter { name } = query_parameter.as_ref()?;
        HashOf::QueryParameter(name.as_bytes().into())
    };
    Some(HashPolicy { of, terminal: *terminal })
}

fn cookie_policy(schema: &config::HashPolicyCookie, at: &Path, problems: &mut Problems) -> HashOf {
    let config::HashPolicyCookie { name, ttl, path, attributes } = schema;
    let set = ttl.map(|ttl| {
        let mut text = if path.is_empty() { String::new() } else { format!("; Path={path}") };
        for config::HashPolicyCookieAttribute { name, value } in attributes {
            text.push_str("; ");
            text.push_str(name);
            if !value.is_empty() {
                text.push('=');
                text.push_str(value);
            }
        }
        SetCookie { ttl, attributes: text.into() }
    });
    let is_field_value = |text: &str| !text.chars().any(|c| c.is_ascii_control());
    for (field, text) in [("name", name), ("path", path)] {
        if !is_field_value(text) {
            problems.error(&at.field(field), "a cookie has no control characters");
        }
    }
    HashOf::Cookie { name: name.as_str().into(), set }
}
