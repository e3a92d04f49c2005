//! `rbac` for requests: refuses those that no policy allows, or one denies.

pub(super) mod compile;

use std::collections::HashMap;
use std::sync::Arc;

use super::{Context, Flow, RouteConfig};
use crate::format::Inputs;
use crate::rbac::policies::{Decision, Policies};
use crate::request::reply::LocalReply;
use crate::stats::{Scope, stats};

stats! {
    /// `http.<stat_prefix>.rbac.`, followed by `rules_stat_prefix.` if that is set.
    pub struct HttpRbacStats {
        counter allowed;
        counter denied;
    }
}

stats! {
    /// The same, with `shadow_rules_stat_prefix`.
    pub struct HttpRbacShadowStats {
        counter shadow_allowed;
        counter shadow_denied;
    }
}

stats! {
    /// `….rbac.policy.<name>.`
    late pub struct HttpRbacPolicyStats {
        counter allowed;
        counter denied;
    }
}

stats! {
    /// `….rbac.policy.<name>.`
    late pub struct HttpRbacShadowPolicyStats {
        counter shadow_allowed;
        counter shadow_denied;
    }
}

/// The namespace of what the filter notes about a request.
const NAMESPACE: &str = "envoy.filters.http.rbac";

/// The filter.
#[derive(Debug)]
pub struct Rbac {
    settings: Settings,
    stats: Arc<Scope<HttpRbacStats>>,
    shadow_stats: Arc<Scope<HttpRbacShadowStats>>,
}

/// The rules of the filter, or of a route.
#[derive(Debug, Default)]
pub struct Settings {
    enforced: Option<Engine<HttpRbacPolicyStats>>,
    shadow: Option<Engine<HttpRbacShadowPolicyStats>>,
}

/// Policies, and where their decisions are noted.
#[derive(Debug)]
struct Engine<S> {
    policies: Policies,
    /// The key of the result in the metadata.
    result: Box<str>,
    /// The key of the policy in the metadata.
    policy: Box<str>,
    /// By the name of a policy, if they are counted.
    policy_stats: HashMap<Box<str>, Arc<Scope<S>>>,
}

impl Rbac {
    pub(super) fn request_head(&self, cx: &mut Context<'_, '_>) -> Flow {
        let of_route = cx.route_config(|config| match config {
            RouteConfig::Rbac(settings) => Some(&**settings),
            _ => None,
        });
        let Settings { enforced, shadow } = of_route.unwrap_or(&self.settings);
        let shard = cx.core.shard.id;
        if let Some(engine) = shadow {
            let (stats, decision) = (self.shadow_stats.shard(shard), engine.decide(cx));
            if decision.allowed { &stats.shadow_allowed } else { &stats.shadow_denied }.inc();
            if let Some(stats) = engine.stats_of(decision) {
                let stats = stats.shard(shard);
                if decision.allowed { &stats.shadow_allowed } else { &stats.shadow_denied }.inc();
            }
        }
        let Some(engine) = enforced else { return Flow::Continue };
        let (stats, decision) = (self.stats.shard(shard), engine.decide(cx));
        if let Some(hint) = decision.log_hint {
            cx.core.note().metadata.set("envoy.common", "access_log_hint", hint);
        }
        if decision.allowed { &stats.allowed } else { &stats.denied }.inc();
        if let Some(stats) = engine.stats_of(decision) {
            let stats = stats.shard(shard);
            if decision.allowed { &stats.allowed } else { &stats.denied }.inc();
        }
        if decision.allowed {
            return Flow::Continue;
        }
        let reply = LocalReply::new(403, "RBAC: access denied");
        Flow::Reply(Box::new(reply.with_details(None, details(decision.policy))))
    }
}

impl<S> Engine<S> {
    /// Decides about a request, and notes the decision.
    fn decide(&self, cx: &mut Context<'_, '_>) -> Decision<'_> {
        let decision = {
            let stream = cx.stream();
            let request = Some(&cx.core.heads.request);
            let inputs = Inputs { request, ..Inputs::new(&stream) };
            self.policies.decide(&inputs, cx.core.given.peer)
        };
        let metadata = &mut cx.core.note().metadata;
        metadata.set(NAMESPACE, &self.result, if decision.allowed { "allowed" } else { "denied" });
        if let Some(policy) = decision.policy {
            metadata.set(NAMESPACE, &self.policy, policy);
        }
        decision
    }

    fn stats_of(&self, decision: Decision<'_>) -> Option<&Scope<S>> {
        self.policy_stats.get(decision.policy?).map(|stats| &**stats)
    }
}

/// As in Envoy without white space, which would add a word to a line of a log.
fn details(policy: Option<&str>) -> String {
    let policy = policy.unwrap_or("none").replace(|c: char| c.is_ascii_whitespace(), "_");
    format!("rbac_access_denied_matched_policy[{policy}]")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn details_are_one_word() {
        assert_eq!(details(None), "rbac_access_denied_matched_policy[none]");
        assert_eq!(details(Some("a b\tc")), "rbac_access_denied_matched_policy[a_b_c]");
    }
}
