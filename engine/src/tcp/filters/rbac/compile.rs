//! Schema → RBAC rules for connections.

use std::sync::Arc;

use corvoy_config as config;
use corvoy_config::{Path, Problems};

use super::{Enforcement, Rbac};
use crate::rbac::compile::{About, rules as compile_rules};
use crate::tcp::compile::Context;

/// Compiles the filter at `at`; `None` if there are errors.
pub(crate) fn rbac(
    schema: &config::NetworkRbac,
    at: &Path,
    context: &Context<'_>,
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
        schema.map(|schema| compile_rules(schema, About::Connection, &at.field(field), problems))
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
        info: Arc::clone(context.info),
        stats: context.registry.scope(&prefix),
        shadow_stats: context.registry.scope(&shadow_prefix),
    })
}
