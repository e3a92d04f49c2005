//! Schema → RBAC rules for connections.

use std::sync::Arc;

use corvoy_config as config;
use corvoy_config::{Path, Problems};

use super::{Action, Enforcement, Permission, Policy, Principal, Rbac, Rule, Rules};
use crate::address::compile::cidr;
use crate::stats::Registry;
use crate::text_matcher;

/// Compiles the filter at `at`; `None` if there are errors.
pub(crate) fn rbac(
    schema: &config::NetworkRbac,
    at: &Path,
    registry: &Registry,
    problems: &mut Problems,
) -> Option<Rbac> {
    let config::NetworkRbac {
        rules,
        shadow_rules,
        shadow_rules_stat_prefix,
        stat_prefix,
        enforcement_type,
        delay_deny,
    } = schema;
    let prefix = format!("{}.rbac.", stat_prefix.trim_end_matches('.'));
    let shadow_prefix = match shadow_rules_stat_prefix.trim_end_matches('.') {
        "" => prefix.clone(),
        more => format!("{prefix}{more}."),
    };
    let mut compile = |schema: Option<&config::RbacRules>, field: &str| {
        schema.map(|schema| self::rules(schema, &at.field(field), problems))
    };
    let rules = compile(rules.as_ref(), "rules");
    let shadow_rules = compile(shadow_rules.as_ref(), "shadow_rules");
    Some(Rbac {
        rules: rules.map_or(Some(None), |rules| rules.map(Some))?,
        shadow_rules: shadow_rules.map_or(Some(None), |rules| rules.map(Some))?,
        enforcement: match enforcement_type {
            config::RbacEnforcementType::OneTimeOnFirstByte => Enforcement::Once,
            config::RbacEnforcementType::Continuous => Enforcement::Continuous,
        },
        delay_deny: delay_deny.filter(|delay| !delay.is_zero()),
        stats: Arc::clone(&registry.scope(&prefix)),
        shadow_stats: registry.scope(&shadow_prefix),
    })
}

fn rules(schema: &config::RbacRules, at: &Path, problems: &mut Problems) -> Option<Rules> {
    let config::RbacRules { action, policies } = schema;
    let at = at.field("policies");
    let policies = policies.iter().map(|(name, schema)| policy(schema, &at.key(name), problems));
    // All of them are compiled, to report the errors of each.
    let policies: Vec<Option<Policy>> = policies.collect();
    Some(Rules {
        action: match action {
            config::RbacAction::Allow => Action::Allow,
            config::RbacAction::Deny => Action::Deny,
            config::RbacAction::Log => Action::Log,
        },
        policies: policies.into_iter().collect::<Option<_>>()?,
    })
}

fn policy(schema: &config::RbacPolicy, at: &Path, problems: &mut Problems) -> Option<Policy> {
    let config::RbacPolicy { permissions, principals } = schema;
    let permissions = all(permissions, &at.field("permissions"), problems, permission);
    let principals = all(principals, &at.field("principals"), problems, principal);
    Some(Policy { permissions: permissions?, principals: principals? })
}

/// Compiles all of a list; `None` if one of them has an error.
fn all<S, R>(
    schemas: &[S],
    at: &Path,
    problems: &mut Problems,
    compile: fn(&S, &Path, &mut Problems) -> Option<R>,
) -> Option<Vec<R>> {
    let each = schemas.iter().enumerate();
    let compiled: Vec<_> =
        each.map(|(i, schema)| compile(schema, &at.index(i), problems)).collect();
    compiled.into_iter().collect()
}

fn permission(
    schema: &config::RbacPermission,
    at: &Path,
    problems: &mut Problems,
) -> Option<Rule<Permission>> {
    let config::RbacPermission {
        and_rules,
        or_rules,
        any: _, // the only alternative that is left
        destination_ip,
        destination_port,
        destination_port_range,
        not_rule,
        requested_server_name,
    } = schema;
    if let Some(config::RbacPermissionSet { rules }) = and_rules {
        let at = at.field("and_rules").field("rules");
        return all(rules, &at, problems, permission).map(Rule::And);
    }
    if let Some(config::RbacPermissionSet { rules }) = or_rules {
        let at = at.field("or_rules").field("rules");
        return all(rules, &at, problems, permission).map(Rule::Or);
    }
    if let Some(rule) = not_rule {
        let rule = permission(rule, &at.field("not_rule"), problems)?;
        return Some(Rule::Not(Box::new(rule)));
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
        not_id,
    } = schema;
    if let Some(config::RbacPrincipalSet { ids }) = and_ids {
        let at = at.field("and_ids").field("ids");
        return all(ids, &at, problems, principal).map(Rule::And);
    }
    if let Some(config::RbacPrincipalSet { ids }) = or_ids {
        let at = at.field("or_ids").field("ids");
        return all(ids, &at, problems, principal).map(Rule::Or);
    }
    if let Some(rule) = not_id {
        let rule = principal(rule, &at.field("not_id"), problems)?;
        return Some(Rule::Not(Box::new(rule)));
    }
    if let Some(config::RbacAuthenticated { principal_name }) = authenticated {
        let at = at.field("authenticated").field("principal_name");
        let name = match principal_name {
            Some(text) => Some(text_matcher::compile::text(text, &at, problems)?),
            None => None,
        };
        return Some(Rule::If(Principal::Authenticated(name)));
    }
    if let Some(range) = direct_remote_ip {
        let range = cidr(range, &at.field("direct_remote_ip"), problems)?;
        return Some(Rule::If(Principal::DirectRemoteIp(range)));
    }
    for (field, range) in [("source_ip", source_ip), ("remote_ip", remote_ip)] {
        if let Some(range) = range {
            let range = cidr(range, &at.field(field), problems)?;
            return Some(Rule::If(Principal::RemoteIp(range)));
        }
    }
    Some(Rule::Any)
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
