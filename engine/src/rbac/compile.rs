//! Schema → RBAC rules.

use corvoy_config as config;
use corvoy_config::{Path, Problems};

use super::{
    Action, Metadata, MetadataSource, OfRequest, Permission, Policy, Principal, Rule, Rules,
};
use crate::address::compile::cidr;
use crate::cel::compile::program;
use crate::head_matcher::compile::header;
use crate::metadata_matcher::compile::metadata_matcher;
use crate::text_matcher;

/// What rules are about.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum About {
    Connection,
    Request,
}

/// Compiles the rules at `at`; none if there is an error.
pub(crate) fn rules(
    schema: &config::RbacRules,
    about: About,
    at: &Path,
    problems: &mut Problems,
) -> Option<Rules> {
    let config::RbacRules { action, policies } = schema;
    let at = at.field("policies");
    // All of them are compiled, to report the errors of each.
    let policies: Vec<Option<Policy>> = policies
        .iter()
        .map(|(name, schema)| policy(name, schema, about, &at.key(name), problems))
        .collect();
    Some(Rules {
        action: self::action(*action),
        policies: policies.into_iter().collect::<Option<_>>()?,
    })
}

pub(crate) const fn action(schema: config::RbacAction) -> Action {
    match schema {
        config::RbacAction::Allow => Action::Allow,
        config::RbacAction::Deny => Action::Deny,
        config::RbacAction::Log => Action::Log,
    }
}

fn policy(
    name: &str,
    schema: &config::RbacPolicy,
    about: About,
    at: &Path,
    problems: &mut Problems,
) -> Option<Policy> {
    let config::RbacPolicy { permissions, principals, condition } = schema;
    let permissions = all(permissions, about, &at.field("permissions"), problems, permission);
    let principals = all(principals, about, &at.field("principals"), problems, principal);
    let condition = match condition {
        Some(schema) => program(schema, &at.field("condition"), problems).map(Some),
        None => Some(None),
    };
    Some(Policy {
        name: name.into(),
        permissions: permissions?,
        principals: principals?,
        condition: condition?,
    })
}

/// Compiles all of a list; none if one of them has an error.
fn all<S, R>(
    schemas: &[S],
    about: About,
    at: &Path,
    problems: &mut Problems,
    compile: fn(&S, About, &Path, &mut Problems) -> Option<R>,
) -> Option<Vec<R>> {
    let each = schemas.iter().enumerate();
    let compiled: Vec<_> =
        each.map(|(i, schema)| compile(schema, about, &at.index(i), problems)).collect();
    compiled.into_iter().collect()
}

fn permission(
    schema: &config::RbacPermission,
    about: About,
    at: &Path,
    problems: &mut Problems,
) -> Option<Rule<Permission>> {
    let config::RbacPermission {
        and_rules,
        or_rules,
        any: _, // the only alternative that is left
        header,
        url_path,
        destination_ip,
        destination_port,
        destination_port_range,
        metadata,
        not_rule,
        requested_server_name,
        sourced_metadata,
    } = schema;
    if let Some(config::RbacPermissionSet { rules }) = and_rules {
        let at = at.field("and_rules").field("rules");
        return all(rules, about, &at, problems, permission).map(Rule::And);
    }
    if let Some(config::RbacPermissionSet { rules }) = or_rules {
        let at = at.field("or_rules").field("rules");
        return all(rules, about, &at, problems, permission).map(Rule::Or);
    }
    if let Some(rule) = not_rule {
        let rule = permission(rule, about, &at.field("not_rule"), problems)?;
        return Some(Rule::Not(Box::new(rule)));
    }
    if let Some(condition) = of_request(header.as_ref(), url_path.as_ref(), about, at, problems) {
        return condition.map(Permission::Request).map(Rule::If);
    }
    if let Some(condition) =
        self::metadata(metadata.as_ref(), sourced_metadata.as_ref(), at, problems)
    {
        return condition.map(Permission::Metadata).map(Rule::If);
    }
    if let Some(range) = destination_ip {
        let range = cidr(range, &at.field("destination_ip"), problems)?;
        return Some(Rule::If(Permission::DestinationIp(range)));
    }
    if let Some(port) = destination_port {
        return Some(Rule::If(Permission::DestinationPort(*port..port + 1)));
    }
    if let Some(config::Int32Range { start, end }) = destination_port_range {
        let at = at.field("destination_port_range");
        return port_range(*start, *end, &at, problems)
            .map(|range| Rule::If(Permission::DestinationPort(range)));
    }
    if let Some(text) = requested_server_name {
        let at = at.field("requested_server_name");
        let text = text_matcher::compile::text(text, &at, problems)?;
        return Some(Rule::If(Permission::RequestedServerName(text)));
    }
    Some(Rule::Any)
}

fn principal(
    schema: &config::RbacPrincipal,
    about: About,
    at: &Path,
    problems: &mut Problems,
) -> Option<Rule<Principal>> {
    let config::RbacPrincipal {
        and_ids,
        or_ids,
        any: _, // the only alternative that is left
        authenticated,
        source_ip,
        direct_remote_ip,
        remote_ip,
        header,
        url_path,
        metadata,
        not_id,
        sourced_metadata,
    } = schema;
    if let Some(config::RbacPrincipalSet { ids }) = and_ids {
        let at = at.field("and_ids").field("ids");
        return all(ids, about, &at, problems, principal).map(Rule::And);
    }
    if let Some(config::RbacPrincipalSet { ids }) = or_ids {
        let at = at.field("or_ids").field("ids");
        return all(ids, about, &at, problems, principal).map(Rule::Or);
    }
    if let Some(rule) = not_id {
        let rule = principal(rule, about, &at.field("not_id"), problems)?;
        return Some(Rule::Not(Box::new(rule)));
    }
    if let Some(condition) = of_request(header.as_ref(), url_path.as_ref(), about, at, problems) {
        return condition.map(Principal::Request).map(Rule::If);
    }
    if let Some(condition) =
        self::metadata(metadata.as_ref(), sourced_metadata.as_ref(), at, problems)
    {
        return condition.map(Principal::Metadata).map(Rule::If);
    }
    if let Some(config::RbacAuthenticated { principal_name }) = authenticated {
        let at = at.field("authenticated").field("principal_name");
        let name = match principal_name {
            Some(text) => Some(text_matcher::compile::text(text, &at, problems)?),
            None => None,
        };
        return Some(Rule::If(Principal::Authenticated(name)));
    }
    let (range, field, of): (_, _, fn(_) -> _) = match (direct_remote_ip, source_ip, remote_ip) {
        (Some(range), ..) => (range, "direct_remote_ip", Principal::DirectRemoteIp),
        (None, Some(range), _) => (range, "source_ip", Principal::SourceIp),
        (None, None, Some(range)) => (range, "remote_ip", Principal::RemoteIp),
        (None, None, None) => return Some(Rule::Any),
    };
    cidr(range, &at.field(field), problems).map(of).map(Rule::If)
}

/// A condition on a request, if there is one; it is none if it has an error.
fn of_request(
    header: Option<&config::HeaderMatcher>,
    url_path: Option<&config::PathMatcher>,
    about: About,
    at: &Path,
    problems: &mut Problems,
) -> Option<Option<OfRequest>> {
    let (field, condition) = match (header, url_path) {
        (Some(schema), _) => {
            let at = at.field("header");
            ("header", self::header(schema, &at, problems).map(OfRequest::Header))
        }
        (None, Some(config::PathMatcher { path })) => {
            let at = at.field("url_path").field("path");
            let text =
                path.as_ref().and_then(|schema| text_matcher::compile::text(schema, &at, problems));
            ("url_path", text.map(OfRequest::Path))
        }
        (None, None) => return None,
    };
    if about == About::Connection {
        problems.error(&at.field(field), "only rules for requests can have this condition");
    }
    Some(condition.filter(|_| about == About::Request))
}

/// A condition on metadata, if there is one; it is none if it has an error.
fn metadata(
    dynamic: Option<&config::MetadataMatcher>,
    sourced: Option<&config::SourcedMetadata>,
    at: &Path,
    problems: &mut Problems,
) -> Option<Option<Metadata>> {
    let (schema, source, at) = match (dynamic, sourced) {
        (Some(schema), _) => (schema, MetadataSource::Dynamic, at.field("metadata")),
        (None, Some(config::SourcedMetadata { metadata_matcher, metadata_source })) => {
            let source = match metadata_source {
                config::RbacMetadataSource::Dynamic => MetadataSource::Dynamic,
                config::RbacMetadataSource::Route => MetadataSource::Route,
            };
            let at = at.field("sourced_metadata").field("metadata_matcher");
            (metadata_matcher.as_ref()?, source, at)
        }
        (None, None) => return None,
    };
    let matcher = metadata_matcher(schema, &at, problems);
    Some(matcher.map(|matcher| Metadata { source, matcher, invert: schema.invert }))
}

/// The end is exclusive.
fn port_range(
    start: i32,
    end: i32,
    at: &Path,
    problems: &mut Problems,
) -> Option<std::ops::Range<u32>> {
    let ports = u32::try_from(start).ok().zip(u32::try_from(end).ok());
    let ports = ports.filter(|(start, end)| start < end && *end <= 65_536);
    if ports.is_none() {
        let message = format!(
            "range {start} to {end} is not a range of ports: the start must be below the end, which \
             is exclusive, and neither may exceed 65536"
        );
        problems.error(at, message);
    }
    ports.map(|(start, end)| start..end)
}
