//! Schema → `rbac` for requests.

use std::collections::HashMap;

use corvoy_config::{self as config, Path, Problems};

use super::super::compile::Context;
use super::{Engine, Named, Policies, Rbac, Settings};
use crate::matcher::compile::{self as matcher, LooksAt};
use crate::rbac::Action;
use crate::rbac::compile::{About, action as compile_action, rules as compile_rules};
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
    let Some((policies, names)) = policies(&parts, context, at, problems)? else {
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

/// The policies with their names; the outer `None` is an error, the inner one that there are none.
fn policies(
    parts: &Parts<'_>,
    context: &Context<'_>,
    at: &Path,
    problems: &mut Problems,
) -> Option<Option<(Policies, Vec<String>)>> {
    let at_rules = at.field(parts.rules_field);
    if let Some(schema) = parts.matcher {
        if parts.rules.is_some() {
            let message = format!("ignored, as in Envoy: there is a {}", parts.matcher_field);
            problems.warn(&at_rules, message);
        }
        return tree(schema, context, &at.field(parts.matcher_field), problems).map(Some);
    }
    let Some(schema) = parts.rules else { return Some(None) };
    let rules = compile_rules(schema, About::Request, &at_rules, problems)?;
    let names = rules.policies().map(str::to_owned).collect();
    Some(Some((Policies::Rules(rules), names)))
}

fn tree(
    schema: &config::Matcher,
    context: &Context<'_>,
    at: &Path,
    problems: &mut Problems,
) -> Option<(Policies, Vec<String>)> {
    let (mut names, mut logs) = (Vec::new(), false);
    let mut action = |options: &config::Any, at: &Path, problems: &mut Problems| {
        let config::Any::RbacMatcherAction(schema) = options else {
            let message = format!("`{}` is not an action of rbac", options.type_name());
            problems.error(at, message);
            return None;
        };
        let config::RbacMatcherAction { name, action } = &**schema;
        let action = compile_action(*action);
        logs |= action == Action::Log;
        names.push(name.clone());
        Some(Named { name: name.as_str().into(), action })
    };
    let inputs = matcher::Context { looks_at: LooksAt::Request, runtime: context.runtime };
    let tree = matcher::matcher(schema, &inputs, &mut action, at, problems)?;
    Some((Policies::Tree { tree, logs }, names))
}

/// `http.<stat_prefix>.rbac.`, followed by the prefix of the rules if there is one.
fn stat_prefix(context: &Context<'_>, of_rules: &str) -> String {
    let prefix = format!("{}rbac.", context.stat_prefix);
    match of_rules.trim_end_matches('.') {
        "" => prefix,
        more => format!("{prefix}{more}."),
    }
}
