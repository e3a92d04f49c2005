//! What a filter decides by: rules, or a matcher tree.

use super::{Action, Rules, Subject};
use crate::address::Address;
use crate::format::Inputs;
use crate::matcher::Matcher;

/// Rules, or a tree that leads to actions.
#[derive(Debug)]
pub(crate) enum Policies {
    /// `rules` or `shadow_rules`
    Rules(Rules),
    /// `matcher` or `shadow_matcher`: what it does not find is denied.
    Tree {
        tree: Matcher<Named>,
        /// Whether one of its actions is `LOG`.
        logs: bool,
    },
}

/// What a tree leads to.
#[derive(Clone, Debug)]
pub(crate) struct Named {
    pub(super) name: Box<str>,
    pub(super) action: Action,
}

/// A decision about a request or a connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Decision<'a> {
    pub(crate) allowed: bool,
    /// The policy that has decided.
    pub(crate) policy: Option<&'a str>,
    /// Whether the request is to be logged, if that is to be noted.
    pub(crate) log_hint: Option<bool>,
}

impl Policies {
    pub(crate) fn decide(&self, inputs: &Inputs<'_>, connection_peer: Address) -> Decision<'_> {
        match self {
            Self::Rules(rules) => {
                let decision = rules.decide(&Subject { inputs, connection_peer });
                let super::Decision { allowed, policy } = decision;
                let is_log = rules.action() == Action::Log;
                Decision { allowed, policy, log_hint: is_log.then_some(policy.is_some()) }
            }
            Self::Tree { tree, logs } => match tree.find(inputs) {
                Some(Named { name, action }) => Decision {
                    allowed: *action != Action::Deny,
                    policy: Some(name),
                    log_hint: logs.then_some(*action == Action::Log),
                },
                None => Decision { allowed: false, policy: None, log_hint: None },
            },
        }
    }
}
