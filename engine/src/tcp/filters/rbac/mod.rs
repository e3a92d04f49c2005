//! `rbac` for connections: whether their data is passed on.

pub(crate) mod compile;

use std::sync::Arc;
use std::time::Duration;

use super::set_filter_state::Info;
use super::{Subject, Verdict};
use crate::format::Inputs;
use crate::metadata::ListenerInfo;
use crate::rbac::policies::Policies;
use crate::stats::{Scope, stats};

stats! {
    /// `<stat_prefix>.rbac.`
    pub struct RbacStats {
        counter allowed;
        counter denied;
    }
}

stats! {
    /// `<stat_prefix>.rbac.`, followed by `shadow_rules_stat_prefix.` if that is set.
    pub struct RbacShadowStats {
        counter shadow_allowed;
        counter shadow_denied;
    }
}

/// The filter.
#[derive(Debug)]
pub struct Rbac {
    /// What is enforced.
    policies: Option<Policies>,
    /// What is only counted.
    shadow: Option<Policies>,
    /// When the rules are applied.
    pub(super) enforcement: Enforcement,
    /// How long a denied connection is kept before it is closed.
    delay_deny: Option<Duration>,
    /// The listener and the filter chain.
    info: Arc<ListenerInfo>,
    stats: Arc<Scope<RbacStats>>,
    shadow_stats: Arc<Scope<RbacShadowStats>>,
}

/// `enforcement_type`
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Enforcement {
    /// On the first data.
    Once,
    /// Whenever data is received.
    Continuous,
}

impl Rbac {
    /// Decides about a connection, and counts the decision.
    pub(super) fn decide(&self, subject: &Subject) -> Verdict {
        let allows = |policies: &Policies| {
            let info = Info { subject, cluster: None, listener: &self.info };
            policies.decide(&Inputs::new(&info), subject.peer).allowed
        };
        if let Some(shadow) = &self.shadow {
            let stats = self.shadow_stats.shard(subject.shard.id);
            if allows(shadow) { stats.shadow_allowed.inc() } else { stats.shadow_denied.inc() }
        }
        let Some(policies) = &self.policies else { return Verdict::Continue };
        let stats = self.stats.shard(subject.shard.id);
        if allows(policies) {
            stats.allowed.inc();
            Verdict::Continue
        } else {
            stats.denied.inc();
            Verdict::Close(self.delay_deny)
        }
    }
}
