//! The path part of a route's match, and the index over the paths of all routes.
//!
//! The index returns the same route as trying every route in declared order, but only checks those
//! whose literal text is a prefix of the path. Other conditions (headers, fractions, the rest of a
//! regular expression) are checked by the caller for each candidate, and the search continues.

use std::collections::BTreeMap;

use super::template::Template;
use crate::radix::Radix;
use crate::text_matcher::{FullRegex, Literal};

/// The path specifier of a route's match. It is applied to the path without query and fragment.
#[derive(Clone, Debug)]
pub enum PathMatch {
    /// `path`: the whole path.
    Exact(Literal),
    /// `prefix`: plain bytes; `/a` matches `/ab`.
    Prefix(Literal),
    /// `path_separated_prefix`: the prefix ends where the path ends or at a `/`.
    SeparatedPrefix(Literal),
    /// `safe_regex`: the whole path.
    Regex(FullRegex),
    /// `path_match_policy`: the whole path.
    Template(Template),
    /// `connect_matcher`: a CONNECT, whose target is an authority, not a path.
    Connect,
}

impl PathMatch {
    /// Whether the index alone decides if it matches.
    pub(super) const fn is_literal(&self) -> bool {
        match self {
            Self::Exact(_) | Self::Prefix(_) | Self::SeparatedPrefix(_) => true,
            Self::Regex(_) | Self::Template(_) | Self::Connect => false,
        }
    }

    /// Whether `path` (without query) matches.
    pub fn matches(&self, path: &[u8]) -> bool {
        match self {
            Self::Exact(literal) => literal.equals(path),
            Self::Prefix(literal) => literal.is_prefix_of(path),
            Self::SeparatedPrefix(literal) => {
                is_separated(path, literal.text.len()) && literal.is_prefix_of(path)
            }
            Self::Regex(regex) => regex.matches(path),
            Self::Template(template) => template.matches(path),
            Self::Connect => path.first() != Some(&b'/'),
        }
    }

    /// How many bytes of a matching `path` (without query) count as matched for a rewrite:
    //= envoy:config.route.v3.RouteAction.prefix_rewrite
    //# "Indicates that during forwarding, the matched prefix (or path) should be swapped"
    pub fn matched_len(&self, path: &[u8]) -> usize {
        match self {
            Self::Exact(literal) | Self::Prefix(literal) | Self::SeparatedPrefix(literal) => {
                literal.text.len()
            }
            Self::Regex(_) | Self::Template(_) | Self::Connect => path.len(),
        }
    }
}

/// An index over the paths of all routes of a virtual host.
#[derive(Debug)]
pub(super) struct PathIndex {
    case_sensitive: Radix<Candidates>,
    /// Keys in lower case, looked up in lower case.
    ignore_case: Radix<Candidates>,
}

/// The routes whose literal text is one key of the index; each list in declared order.
#[derive(Debug, Default)]
struct Candidates {
    exact: Vec<usize>,
    prefix: Vec<usize>,
    separated: Vec<usize>,
}

impl PathIndex {
    /// Routes are identified by their index in `paths`, which is the declared order.
    pub(super) fn new<'a>(paths: impl IntoIterator<Item = &'a PathMatch>) -> Self {
        let mut case_sensitive = BTreeMap::<Vec<u8>, Candidates>::new();
        let mut ignore_case = BTreeMap::<Vec<u8>, Candidates>::new();
        for (route, path) in paths.into_iter().enumerate() {
            let (literal, list): (&Literal, fn(&mut Candidates) -> &mut Vec<usize>) = match path {
                PathMatch::Exact(literal) => (literal, |candidates| &mut candidates.exact),
                PathMatch::Prefix(literal) => (literal, |candidates| &mut candidates.prefix),
                PathMatch::SeparatedPrefix(literal) => {
                    (literal, |candidates| &mut candidates.separated)
                }
                // The literal prefix of every match. The caller applies the expression.
                PathMatch::Regex(regex) => (regex.literal(), |candidates| &mut candidates.prefix),
                PathMatch::Template(template) => {
                    (template.literal(), |candidates| &mut candidates.prefix)
                }
                // The empty key is a prefix of every target.
                PathMatch::Connect => {
                    case_sensitive.entry(Vec::new()).or_default().prefix.push(route);
                    continue;
                }
            };
            let keys = if literal.ignore_case { &mut ignore_case } else { &mut case_sensitive };
            list(keys.entry(literal.text.to_vec()).or_default()).push(route);
        }
        Self { case_sensitive: Radix::new(case_sensitive), ignore_case: Radix::new(ignore_case) }
    }

    /// The first route in declared order whose literal text matches `path` (without query) and that
    /// `accept` accepts. Routes that `accept` rejects are skipped, as in a linear search.
    #[inline(always)]
    pub(super) fn first(
        &self,
        path: &[u8],
        mut accept: impl FnMut(usize) -> bool,
    ) -> Option<usize> {
        let case_sensitive = self.case_sensitive.prefixes_of(path.iter().copied());
        let ignore_case = self.ignore_case.prefixes_of(path.iter().map(u8::to_ascii_lowercase));
        let mut from = 0;
        loop {
            let mut first = NONE;
            for (text_len, candidates) in case_sensitive.clone() {
                first = first.min(candidates.next(from, text_len, path));
            }
            for (text_len, candidates) in ignore_case.clone() {
                first = first.min(candidates.next(from, text_len, path));
            }
            if first == NONE {
                return None;
            }
            if accept(first) {
                return Some(first);
            }
            from = first + 1;
        }
    }
}

/// Greater than the index of every route.
const NONE: usize = usize::MAX;

impl Candidates {
    /// The first route from index `from` on, for a path that begins with this key of `text_len`
    /// bytes.
    #[inline(always)]
    fn next(&self, from: usize, text_len: usize, path: &[u8]) -> usize {
        let next = |routes: &[usize]| {
            let passed = if from == 0 { 0 } else { routes.partition_point(|&route| route < from) };
            routes.get(passed).copied().unwrap_or(NONE)
        };
        let mut first = next(&self.prefix);
        if !self.exact.is_empty() && path.len() == text_len {
            first = first.min(next(&self.exact));
        }
        if !self.separated.is_empty() && is_separated(path, text_len) {
            first = first.min(next(&self.separated));
        }
        first
    }
}

/// Whether a prefix of `text_len` bytes ends where the path ends or before a `/`.
fn is_separated(path: &[u8], text_len: usize) -> bool {
    path.get(text_len).is_none_or(|&next| next == b'/')
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use proptest::prelude::*;

    fn prefix(text: &str) -> PathMatch {
        PathMatch::Prefix(Literal::new(text, false))
    }

    fn exact(text: &str) -> PathMatch {
        PathMatch::Exact(Literal::new(text, false))
    }

    fn first(paths: &[PathMatch], path: &str) -> Option<usize> {
        PathIndex::new(paths).first(path.as_bytes(), |route| paths[route].matches(path.as_bytes()))
    }

    #[test]
    fn the_declared_order_decides_not_the_length() {
        assert_eq!(first(&[prefix("/"), exact("/a"), prefix("/a")], "/a"), Some(0));
        assert_eq!(first(&[exact("/a"), prefix("/a"), prefix("/")], "/a"), Some(0));
        assert_eq!(first(&[exact("/a"), prefix("/a"), prefix("/")], "/ab"), Some(1));
        assert_eq!(first(&[exact("/a"), prefix("/a"), prefix("/")], "/b"), Some(2));
    }

    #[test]
    fn an_exact_path_does_not_match_with_a_trailing_slash() {
        assert_eq!(first(&[exact("/a")], "/a/"), None);
    }

    #[test]
    fn a_separated_prefix_ends_at_a_slash_or_at_the_end() {
        let paths = [PathMatch::SeparatedPrefix(Literal::new("/psp", false))];
        for (path, found) in [("/psp", Some(0)), ("/psp/x", Some(0)), ("/pspx", None)] {
            assert_eq!(first(&paths, path), found, "{path}");
        }
    }

    #[test]
    fn each_route_chooses_whether_case_matters() {
        let paths = [prefix("/API"), PathMatch::Prefix(Literal::new("/Api", true))];
        assert_eq!(first(&paths, "/API/x"), Some(0));
        assert_eq!(first(&paths, "/aPI/x"), Some(1));
    }

    #[test]
    fn a_prefix_without_a_slash_loads_and_never_matches() {
        assert_eq!(first(&[prefix("foo")], "/foo"), None);
    }

    /// So many routes of each kind, none of which matches what another one does.
    fn services(count: usize) -> Vec<PathMatch> {
        let of = |i: usize| match i % 4 {
            0 => exact(&format!("/service-{i}/status")),
            1 => prefix(&format!("/service-{i}/")),
            2 => PathMatch::Template(Template::new(&format!("/service-{i}/{{id}}/*")).unwrap()),
            _ => PathMatch::Regex(FullRegex::new(&format!("/service-{i}/[0-9]+")).unwrap()),
        };
        (0..count).map(of).collect()
    }

    #[test]
    fn a_lookup_tries_no_more_routes_among_many_than_among_few() {
        let tried = |count: usize| {
            let paths = services(count);
            let index = PathIndex::new(&paths);
            let last = count - 4;
            let requests = [
                format!("/service-{last}/status"),
                format!("/service-{}/x", last + 1),
                format!("/service-{}/7/x", last + 2),
                format!("/service-{}/7", last + 3),
                "/service-/none".to_owned(),
            ];
            requests.map(|request| {
                let path = request.as_bytes();
                let mut tried = 0;
                let found = index.first(path, |route| {
                    tried += 1;
                    paths[route].matches(path)
                });
                (found.map(|route| count - route), tried)
            })
        };
        let few = tried(12);
        assert_eq!(few.map(|(found, _)| found), [Some(4), Some(3), Some(2), Some(1), None]);
        assert_eq!(tried(4000), few);
    }

    pub(in crate::request::route) fn any_path_match() -> impl Strategy<Value = PathMatch> {
        let text = "[aAb/]{0,4}";
        let regex = proptest::sample::select(vec![
            "/a.*", "/a", "/(a|b)", "/a|/b", "/aa?b*", "a+", "/a{2}", "(?i)/AB", ".*", "/[ab]", "",
        ]);
        let template = proptest::sample::select(vec![
            "/*",
            "/a/*",
            "/a/**",
            "/{x}/b",
            "/**b",
            "/a",
            "/{x=a/*}/b",
        ]);
        prop_oneof![
            (text, any::<bool>()).prop_map(|(t, fold)| PathMatch::Exact(Literal::new(&t, fold))),
            (text, any::<bool>()).prop_map(|(t, fold)| PathMatch::Prefix(Literal::new(&t, fold))),
            (text, any::<bool>())
                .prop_map(|(t, fold)| PathMatch::SeparatedPrefix(Literal::new(&t, fold))),
            regex.prop_map(|regex| PathMatch::Regex(FullRegex::new(regex).unwrap())),
            template.prop_map(|text| PathMatch::Template(Template::new(text).unwrap())),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        /// `refused`: the routes whose other conditions (headers, fractions, …) do not hold.
        #[test]
        fn the_index_finds_the_same_as_a_linear_search(
            paths in proptest::collection::vec((any_path_match(), any::<bool>()), 0..24),
            path in "/?[aAb/]{0,6}",
        ) {
            let path = path.as_bytes();
            let accept = |route: usize| {
                let (matcher, refused) = &paths[route];
                !refused && matcher.matches(path)
            };
            let index = PathIndex::new(paths.iter().map(|(matcher, _)| matcher));
            prop_assert_eq!(index.first(path, accept), (0..paths.len()).find(|&r| accept(r)));
        }
    }
}
