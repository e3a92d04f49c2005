//! The subsets of a cluster: hosts with the same values of some of their metadata (`lb_subset_config`).
//!
//! As in Envoy, a request finds the subset of exactly the keys that it has values for, if a selector names
//! these keys; otherwise a fallback applies.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use serde_json::Value;

use super::division::{self, Division};
use super::levels::levels;
use super::{DistributionRules, Member};

/// `lb_subset_config`
#[derive(Clone, Debug, PartialEq)]
pub struct SubsetRules {
    /// What happens to requests that no subset fits.
    pub fallback: Fallback,
    /// The metadata of hosts of the default subset.
    pub default_subset: Criteria,
    /// Which keys make subsets.
    pub selectors: Vec<Selector>,
    /// Whether a host with a list of values is in the subset of each.
    pub list_as_any: bool,
    /// Whether all hosts are used if a fallback has none.
    pub panic_mode_any: bool,
}

/// One of `subset_selectors`.
#[derive(Clone, Debug, PartialEq)]
pub struct Selector {
    /// The keys, sorted.
    pub keys: Vec<String>,
    /// Its fallback; none: the general one.
    pub fallback: Option<SelectorFallback>,
}

/// `fallback_policy` of the cluster.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Fallback {
    /// There is no host.
    #[default]
    None,
    /// Any host.
    AnyEndpoint,
    /// A host of the default subset.
    DefaultSubset,
}

/// `fallback_policy` of a selector.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum SelectorFallback {
    /// As that of a cluster.
    As(Fallback),
    /// The subset of these keys, which are fewer.
    Keys(Vec<String>),
}

/// Metadata that hosts must have, by key.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Criteria(BTreeMap<String, Value>);

/// The subsets of a host set. A subset is the number of its division: 0 is the whole set.
#[derive(Debug)]
pub(super) struct Subsets {
    rules: Arc<SubsetRules>,
    by_criteria: HashMap<String, usize>,
    default: Option<usize>,
}

/// Where a request goes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Found {
    /// To this division, the subset of its values.
    Subset(usize),
    /// To this one, by a fallback; none: what it falls back to has no hosts.
    Fallback(Option<usize>),
    /// Nowhere.
    Nothing,
}

impl Criteria {
    /// Of these pairs.
    pub fn new(pairs: impl IntoIterator<Item = (String, Value)>) -> Self {
        Self(pairs.into_iter().collect())
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// With those of `other`, which win.
    #[must_use]
    pub fn merged(&self, other: &Self) -> Self {
        Self(self.0.iter().chain(&other.0).map(|(k, v)| (k.clone(), v.clone())).collect())
    }

    fn only(&self, keys: &[String]) -> Self {
        let kept = self.0.iter().filter(|(key, _)| keys.contains(key));
        Self(kept.map(|(key, value)| (key.clone(), value.clone())).collect())
    }

    fn has_keys(&self, keys: &[String]) -> bool {
        self.0.len() == keys.len() && keys.iter().all(|key| self.0.contains_key(key))
    }

    /// The same text for the same criteria.
    fn text(&self) -> String {
        serde_json::to_string(&self.0).unwrap_or_default()
    }
}

impl Subsets {
    /// The subsets of these hosts, whose divisions are added to `divisions`.
    pub(super) fn new(
        members: &[Member<'_>],
        rules: &DistributionRules,
        subset_rules: &Arc<SubsetRules>,
        divisions: &mut Vec<Division>,
    ) -> Self {
        let mut hosts = BTreeMap::<String, Vec<Member<'_>>>::new();
        for selector in &subset_rules.selectors {
            for member in members {
                for criteria in criteria_of(member, selector, subset_rules.list_as_any) {
                    let of_subset = hosts.entry(criteria.text()).or_default();
                    // Two selectors may have the same keys.
                    if of_subset.last().is_none_or(|last| last.index != member.index) {
                        of_subset.push(*member);
                    }
                }
            }
        }
        let mut add = |members: &[Member<'_>]| {
            divisions.push(division::division(&levels(members, rules), rules));
            divisions.len() - 1
        };
        let by_criteria = hosts.into_iter().map(|(text, members)| (text, add(&members))).collect();
        let in_default: Vec<Member<'_>> = members
            .iter()
            .filter(|it| has_all(it, &subset_rules.default_subset))
            .copied()
            .collect();
        let default = (!in_default.is_empty()).then(|| add(&in_default));
        Self { rules: Arc::clone(subset_rules), by_criteria, default }
    }

    /// Whether all hosts are used if a fallback has none.
    pub(super) fn panic_mode_any(&self) -> bool {
        self.rules.panic_mode_any
    }

    /// How many of them `other` does not have.
    pub(super) fn count_without(&self, other: Option<&Self>) -> usize {
        let is_new = |text: &&String| other.is_none_or(|it| !it.by_criteria.contains_key(*text));
        self.by_criteria.keys().filter(is_new).count()
    }

    /// How many there are, without the default one.
    pub(super) fn count(&self) -> usize {
        self.by_criteria.len()
    }

    /// Where a request with these criteria goes; none: it has no criteria.
    pub(super) fn find(&self, criteria: Option<&Criteria>) -> Found {
        let Some(criteria) = criteria else { return self.fall_back(self.rules.fallback) };
        if let Some(division) = self.by_criteria.get(&criteria.text()) {
            return Found::Subset(*division);
        }
        let selector = self.rules.selectors.iter().find(|it| criteria.has_keys(&it.keys));
        match selector.and_then(|selector| selector.fallback.as_ref()) {
            None => self.fall_back(self.rules.fallback),
            Some(SelectorFallback::As(Fallback::None)) => Found::Nothing,
            Some(SelectorFallback::As(fallback)) => self.fall_back(*fallback),
            Some(SelectorFallback::Keys(keys)) => {
                let fewer = criteria.only(keys);
                // Each step has fewer keys, which the configuration guarantees.
                if fewer.0.len() < criteria.0.len() {
                    self.find(Some(&fewer))
                } else {
                    Found::Nothing
                }
            }
        }
    }

    fn fall_back(&self, fallback: Fallback) -> Found {
        match fallback {
            Fallback::None => Found::Nothing,
            Fallback::AnyEndpoint => Found::Fallback(Some(0)),
            Fallback::DefaultSubset => Found::Fallback(self.default),
        }
    }
}

/// The subsets of a selector that a host is in: more than one, if it has lists of values that count one by
/// one.
fn criteria_of(member: &Member<'_>, selector: &Selector, list_as_any: bool) -> Vec<Criteria> {
    let mut all = vec![Criteria::default()];
    for key in &selector.keys {
        let Some(value) = value_of(member, key) else { return Vec::new() };
        let values = match value {
            Value::Array(values) if list_as_any => values.as_slice(),
            value => std::slice::from_ref(value),
        };
        let with = |criteria: &Criteria, value: &Value| {
            let mut criteria = criteria.clone();
            criteria.0.insert(key.clone(), value.clone());
            criteria
        };
        all = all.iter().flat_map(|it| values.iter().map(move |value| with(it, value))).collect();
    }
    all
}

fn has_all(member: &Member<'_>, criteria: &Criteria) -> bool {
    criteria.0.iter().all(|(key, value)| value_of(member, key) == Some(value))
}

fn value_of<'a>(member: &Member<'a>, key: &str) -> Option<&'a Value> {
    member.host.endpoint.metadata.find("envoy.lb", &[key.into()])
}

#[cfg(test)]
#[path = "subset_tests.rs"]
mod tests;
