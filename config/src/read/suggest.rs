//! Suggestions for misspelled names.

use std::cmp::Reverse;

/// The name among `names` of which `given` is most likely a misspelling.
pub(crate) fn nearest<'n>(given: &str, names: impl Iterator<Item = &'n str>) -> Option<&'n str> {
    let distance = |name: &str| strsim::osa_distance(&given.to_lowercase(), &name.to_lowercase());
    let (distance, name) = names
        .map(|name| (distance(name), name))
        .min_by_key(|(distance, name)| (*distance, *name))?;
    // Up to a third of the letters wrong is a misspelling; more is another word.
    (distance * 3 <= given.chars().count().max(3)).then_some(name)
}

/// "did you mean `x`?", or the list of names if it is short, or nothing.
pub(crate) fn hint<'n>(
    given: &str,
    names: impl Iterator<Item = &'n str> + Clone,
) -> Option<String> {
    if let Some(name) = nearest(given, names.clone()) {
        return Some(format!("did you mean `{name}`?"));
    }
    if names.clone().count() > LISTED_MAX {
        return None;
    }
    Some(format!("expected {}", list(names)))
}

/// "`a`, `b` or `c`".
pub(crate) fn list<'n>(names: impl Iterator<Item = &'n str>) -> String {
    let mut names: Vec<_> = names.map(|name| format!("`{name}`")).collect();
    match names.pop() {
        Some(last) if !names.is_empty() => format!("{} or {last}", names.join(", ")),
        Some(only) => only,
        None => "nothing".to_owned(),
    }
}

/// The type among `types` that was most likely meant: one with the same last word, or a similar
/// name.
/// misspelling.
pub(crate) fn nearest_type<'n>(
    given: &str,
    types: impl Iterator<Item = &'n str> + Clone,
) -> Option<&'n str> {
    let last = |name: &str| name.rsplit('.').next().unwrap_or_default().to_lowercase();
    let same_last = types.clone().filter(|name| last(name) == last(given));
    let shared = |name: &str| name.chars().zip(given.chars()).take_while(|(a, b)| a == b).count();
    same_last.min_by_key(|name| Reverse(shared(name))).or_else(|| nearest(given, types))
}

const LISTED_MAX: usize = 12;

#[cfg(test)]
mod tests {
    use super::{hint, nearest, nearest_type};

    #[test]
    fn a_misspelling_finds_its_name_but_another_word_does_not() {
        let names = ["lb_policy", "name", "load_assignment"];
        assert_eq!(nearest("lb_polcy", names.into_iter()), Some("lb_policy"));
        assert_eq!(nearest("NAME", names.into_iter()), Some("name"));
        assert_eq!(nearest("hosts", names.into_iter()), None);
    }

    #[test]
    fn few_names_are_listed_when_none_is_similar() {
        let hint = hint("x", ["TCP", "UDP"].into_iter());
        assert_eq!(hint.as_deref(), Some("expected `TCP` or `UDP`"));
    }

    #[test]
    fn a_type_is_found_by_its_last_word() {
        let types = ["envoy.extensions.filters.http.router.v3.Router", "envoy.Other"];
        let found = nearest_type("envoy.config.filter.http.router.v2.Router", types.into_iter());
        assert_eq!(found, Some(types[0]));
    }
}
