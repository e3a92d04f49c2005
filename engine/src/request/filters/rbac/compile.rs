//! Schema → `rbac` for requests.

use std::collections::HashMap;

use corvoy_config::{self as config, Path, Problems};

use super::super::compile::Context;
use super::{Engine, Rbac, Settings};
use crate::matcher::compile::LooksAt;
use crate::rbac::compile::About;
use crate::rbac::policies_compile::Sources;
use crate::stats::StatSet;

impl Rbac {
    pub(in super::super) fn compile(
        schema: &config::HttpRbac,
        context: &Context<'_>,
        at: &Path,
        problems: &mut Problems,
    ) -> Option<Self> {
        let prefix = |of_rules: &str| stat_prefix(context, of_rules);
        Some(Self {
            settings: settings(schema, context, at, problems)?,
            stats: context.registry.scope(&prefix(&schema.rules_stat_prefix)),
            shadow_stats: context.registry.scope(&prefix(&schema.shadow_rules_stat_prefix)),
        })
    }
}

/// What a route says; without rules the filter does nothing there.
pub(in super::super) fn of_route(
    schema: &config::HttpRbacPerRoute,
    context: &Context<'_>,
    at: &Path,
    problems: &mut Problems,
) -> Option<Settings> {
    let config::HttpRbacPerRoute { rbac } = schema;
    match rbac {
        Some(schema) => settings(schema, context, &at.field("rbac"), problems),
        None => Some(Settings::default()),
    }
}

fn settings(
    schema: &config::HttpRbac,
    context: &Context<'_>,
    at: &Path,
    problems: &mut Problems,
) -> Option<Settings> {
    let config::HttpRbac {
        rules,
        rules_stat_prefix,
        shadow_rules,
        shadow_rules_stat_prefix,
        matcher,
        shadow_matcher,
        track_per_rule_stats,
    } = schema;
    let enforced = Parts {
        rules: rules.as_ref(),
        rules_field: "rules",
        matcher: matcher.as_ref(),
        matcher_field: "matcher",
        prefix: rules_stat_prefix,
        result: "enforced_engine_result",
        policy: "enforced_effective_policy_id",
        counts_policies: *track_per_rule_stats,
    };
    let shadow = Parts {
        rules: shadow_rules.as_ref(),
        rules_field: "shadow_rules",
        matcher: shadow_matcher.as_ref(),
        matcher_field: "shadow_matcher",
        prefix: shadow_rules_stat_prefix,
        result: "shadow_engine_result",
        policy: "shadow_effective_policy_id",
        ..enforced
    };
    let enforced = engine(enforced, context, at, problems);
    let shadow = engine(shadow, context, at, problems);
    Some(Settings { enforced: enforced?, shadow: shadow? })
}

/// What the two engines differ in.
#[derive(Clone, Copy)]
struct Parts<'a> {
    rules: Option<&'a config::RbacRules>,
    rules_field: &'a str,
    matcher: Option<&'a config::Matcher>,
    matcher_field: &'a str,
    prefix: &'a str,
    result: &'a str,
    policy: &'a str,
    counts_policies: bool,
}

fn engine<S: StatSet>(
    parts: Parts<'_>,
    context: &Context<'_>,
    at: &Path,
    problems: &mut Problems,
) -> Option<Option<Engine<S>>> {
    let sources = Sources {
        rules: parts.rules,
        rules_field: parts.rules_field,
        matcher: parts.matcher,
        matcher_field: parts.matcher_field,
        about: About::Request,
        looks_at: LooksAt::Request,
        runtime: context.runtime,
    };
    let Some((policies, names)) = sources.policies(at, problems)? else {
        return Some(None);
    };
    let Parts { prefix, result, policy, counts_policies, .. } = parts;
    let policy_stats = names.into_iter().filter(|_| counts_policies).map(|name| {
        let prefix = format!("{}policy.{name}.", stat_prefix(context, prefix));
        (name.into(), context.registry.scope(&prefix))
    });
    Some(Some(Engine {
        policy_stats: policy_stats.collect::<HashMap<_, _>>(),
        result: format!("{prefix}{result}").into(),
        policy: format!("{prefix}{policy}").into(),
        policies,
    }))
}

/// `http.<stat_prefix>.rbac.`, followed by the prefix of the rules if there is one.
fn stat_prefix(context: &Context<'_>, of_rules: &str) -> String {
    let prefix = format!("{}rbac.", context.stat_prefix);
    match of_rules.trim_end_matches('.') {
        "" => prefix,
        more => format!("{prefix}{more}."),
    }
}
