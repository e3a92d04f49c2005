//! Schema → RBAC rules for connections.

use std::sync::Arc;

use corvoy_config as config;
use corvoy_config::{Path, Problems};

use super::{Enforcement, Rbac};
use crate::matcher::compile::LooksAt;
use crate::rbac::compile::About;
use crate::rbac::policies_compile::Sources;
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
        matcher,
        shadow_matcher,
    } = schema;
    let prefix = format!("{}.rbac.", stat_prefix.trim_end_matches('.'));
    let shadow_prefix = match shadow_rules_stat_prefix.trim_end_matches('.') {
        "" => prefix.clone(),
        more => format!("{prefix}{more}."),
    };
    let enforced = Sources {
        rules: rules.as_ref(),
        rules_field: "rules",
        matcher: matcher.as_ref(),
        matcher_field: "matcher",
        about: About::Connection,
        looks_at: LooksAt::Connection,
        runtime: context.access_logs.runtime,
    };
    let shadow = Sources {
        rules: shadow_rules.as_ref(),
        rules_field: "shadow_rules",
        matcher: shadow_matcher.as_ref(),
        matcher_field: "shadow_matcher",
        ..enforced
    };
    let policies = enforced.policies(at, problems);
    let shadow = shadow.policies(at, problems);
    Some(Rbac {
        policies: policies?.map(|(policies, _)| policies),
        shadow: shadow?.map(|(policies, _)| policies),
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
