//! `HeaderMutationRules`: which headers a service that a filter asks may change.

use super::ext_authz::verdict::Change;
use crate::text_matcher::FullRegex;

/// The rules.
#[derive(Debug)]
pub(super) struct MutationRules {
    pub(super) allow_all_routing: bool,
    pub(super) allow_envoy: bool,
    pub(super) disallow_system: bool,
    pub(super) disallow_all: bool,
    /// Comes before all others but the next.
    pub(super) allow: Option<FullRegex>,
    /// Comes before all others.
    pub(super) disallow: Option<FullRegex>,
    /// Whether a change that is not allowed is an error; otherwise it is left out.
    pub(super) disallow_is_error: bool,
}

/// A change that is not allowed is an error.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Disallowed;

impl MutationRules {
    /// Leaves out what is not allowed.
    pub(super) fn keep_allowed(&self, changes: &mut Vec<Change>) -> Result<(), Disallowed> {
        let before = changes.len();
        changes.retain(|change| self.allows(change));
        if self.disallow_is_error && changes.len() < before { Err(Disallowed) } else { Ok(()) }
    }

    /// Whether it is allowed.
    pub(super) fn allows(&self, change: &Change) -> bool {
        let name = change.name();
        let is_system = name.starts_with(b":");
        if matches!(change, Change::Remove(_)) && (is_system || name == b"host") {
            return false;
        }
        if self.disallow.as_ref().is_some_and(|regex| regex.matches(name)) {
            return false;
        }
        if self.allow.as_ref().is_some_and(|regex| regex.matches(name)) {
            return true;
        }
        let is_routing = matches!(name, b"host" | b":authority" | b":scheme" | b":method");
        if self.disallow_all || (self.disallow_system && is_system) {
            return false;
        }
        let is_envoys = name.starts_with(b"x-envoy");
        (self.allow_all_routing || !is_routing) && (self.allow_envoy || !is_envoys)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules() -> MutationRules {
        MutationRules {
            allow_all_routing: false,
            allow_envoy: false,
            disallow_system: false,
            disallow_all: false,
            allow: None,
            disallow: None,
            disallow_is_error: false,
        }
    }

    /// Of some names, those that may be set.
    fn may_set(rules: &MutationRules) -> String {
        let names = ["x-a", "x-envoy-a", "host", ":path", ":method"];
        let allowed = names
            .into_iter()
            .filter(|name| rules.allows(&Change::Set(name.as_bytes().to_vec(), Vec::new())));
        allowed.collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn rules_say_which_headers_may_be_set() {
        let regex = |pattern: &str| Some(FullRegex::new(pattern).unwrap());
        assert_eq!(may_set(&rules()), "x-a :path");
        assert_eq!(may_set(&MutationRules { allow_envoy: true, ..rules() }), "x-a x-envoy-a :path");
        let routing = MutationRules { allow_all_routing: true, ..rules() };
        assert_eq!(may_set(&routing), "x-a host :path :method");
        assert_eq!(may_set(&MutationRules { disallow_system: true, ..rules() }), "x-a");
        assert_eq!(may_set(&MutationRules { disallow_all: true, ..rules() }), "");
        let some = MutationRules { disallow_all: true, allow: regex("x-envoy.*|host"), ..rules() };
        assert_eq!(may_set(&some), "x-envoy-a host");
        let not = MutationRules { disallow: regex("x-.*"), allow: regex("x-a"), ..rules() };
        assert_eq!(may_set(&not), ":path");
    }

    #[test]
    fn what_is_not_allowed_is_left_out_or_an_error() {
        let remove = |name: &str| Change::Remove(name.as_bytes().to_vec());
        let mut changes = vec![remove("x-a"), remove("host"), remove(":path"), remove("x-envoy-a")];
        assert_eq!(rules().keep_allowed(&mut changes), Ok(()));
        assert_eq!(changes, [remove("x-a")]);
        let strict = MutationRules { disallow_is_error: true, ..rules() };
        assert_eq!(strict.keep_allowed(&mut changes), Ok(()));
        changes.push(remove("host"));
        assert_eq!(strict.keep_allowed(&mut changes), Err(Disallowed));
    }
}
