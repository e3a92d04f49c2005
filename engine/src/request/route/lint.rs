//! Routes that no request can reach, because an earlier one takes all of theirs.
//!
//! Only what is certain is found: an earlier route without any condition but its path, whose path covers
//! that of the later one.

use std::collections::HashMap;

use super::RouteMatch;
use super::matchers::TlsMatcher;
use super::path::PathMatch;
use crate::runtime::RuntimeFraction;
use crate::text_matcher::Literal;

/// The routes so far that have no condition but their path, by what they cover.
#[derive(Debug, Default)]
pub(super) struct Covering {
    exact: HashMap<Box<[u8]>, usize>,
    prefix: HashMap<Box<[u8]>, usize>,
    separated: HashMap<Box<[u8]>, usize>,
    connect: Option<usize>,
}

impl Covering {
    /// The earlier route that takes every request of this one. Adds this one, with its index.
    pub(super) fn add(&mut self, index: usize, route: &RouteMatch) -> Option<usize> {
        let earlier = self.earlier(&route.path);
        if earlier.is_none() && has_only_a_path(route) {
            self.insert(index, &route.path);
        }
        earlier
    }

    fn earlier(&self, path: &PathMatch) -> Option<usize> {
        let literal = match path {
            PathMatch::Connect => return self.connect,
            PathMatch::Exact(literal) => {
                let same = self.exact.get(&*literal.text).filter(|_| !literal.ignore_case);
                if let Some(same) = same {
                    return Some(*same);
                }
                literal
            }
            PathMatch::Prefix(literal) | PathMatch::SeparatedPrefix(literal) => literal,
            PathMatch::Regex(regex) => regex.literal(),
            PathMatch::Template(template) => template.literal(),
        };
        if literal.ignore_case {
            // What matters is only the text that has no letters before it.
            return self.prefix.get(&b""[..]).or_else(|| self.prefix.get(&b"/"[..])).copied();
        }
        let text = &*literal.text;
        let starts = (0..=text.len()).filter_map(|len| text.get(..len));
        starts
            .filter_map(|start| {
                let behind = text.get(start.len());
                // A separated prefix covers what goes on with a slash, or ends there.
                let is_whole = behind.is_none()
                    && matches!(path, PathMatch::Exact(_) | PathMatch::SeparatedPrefix(_));
                let separated = self.separated.get(start);
                let separated = separated.filter(|_| behind == Some(&b'/') || is_whole);
                self.prefix.get(start).into_iter().chain(separated).min()
            })
            .min()
            .copied()
    }

    fn insert(&mut self, index: usize, path: &PathMatch) {
        let (map, literal): (_, &Literal) = match path {
            PathMatch::Exact(literal) => (&mut self.exact, literal),
            PathMatch::Prefix(literal) => (&mut self.prefix, literal),
            PathMatch::SeparatedPrefix(literal) => (&mut self.separated, literal),
            PathMatch::Connect => {
                self.connect.get_or_insert(index);
                return;
            }
            PathMatch::Regex(_) | PathMatch::Template(_) => return,
        };
        // Without case it covers the same text with it.
        let has_case = literal.text.iter().any(u8::is_ascii_alphabetic);
        if !literal.ignore_case || !has_case {
            map.entry(literal.text.clone()).or_insert(index);
        }
    }
}

/// Whether the path alone decides.
fn has_only_a_path(route: &RouteMatch) -> bool {
    let RouteMatch { path: _, headers, query_parameters, cookies, grpc, tls, fraction, noted } =
        route;
    let TlsMatcher { presented, validated } = tls;
    headers.is_empty()
        && query_parameters.is_empty()
        && cookies.is_empty()
        && !grpc
        && noted.is_none()
        && presented.is_none()
        && validated.is_none()
        && fraction.as_ref().is_none_or(RuntimeFraction::is_always_all)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::request::route::path::tests::any_path_match;

    fn only(path: PathMatch) -> RouteMatch {
        RouteMatch {
            path,
            headers: Vec::new(),
            query_parameters: Vec::new(),
            cookies: Vec::new(),
            grpc: false,
            tls: TlsMatcher::default(),
            fraction: None,
            noted: None,
        }
    }

    fn literal(text: &str) -> Literal {
        Literal::new(text, false)
    }

    fn shadowed(paths: &[PathMatch]) -> Vec<Option<usize>> {
        let mut covering = Covering::default();
        paths.iter().enumerate().map(|(i, path)| covering.add(i, &only(path.clone()))).collect()
    }

    #[test]
    fn a_later_route_is_shadowed_by_a_path_that_covers_its_own() {
        use PathMatch::{Exact, Prefix, SeparatedPrefix};
        let paths = [
            Exact(literal("/a")),
            Exact(literal("/a")),
            SeparatedPrefix(literal("/s")),
            Prefix(literal("/s/x")),
            Prefix(literal("/s")),
            Exact(literal("/s")),
            Prefix(literal("/")),
            Exact(literal("/z")),
            PathMatch::Connect,
            PathMatch::Connect,
        ];
        let found = shadowed(&paths);
        let expected = [None, Some(0), None, Some(2), None, Some(2), None, Some(6), None, Some(8)];
        assert_eq!(found, expected);
    }

    #[test]
    fn a_route_with_another_condition_shadows_nothing() {
        let mut covering = Covering::default();
        let path = || PathMatch::Prefix(literal("/"));
        assert_eq!(covering.add(0, &RouteMatch { grpc: true, ..only(path()) }), None);
        assert_eq!(covering.add(1, &only(path())), None);
        assert_eq!(covering.add(2, &RouteMatch { grpc: true, ..only(path()) }), Some(1));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn a_shadowed_route_matches_nothing_that_its_shadow_does_not(
            paths in proptest::collection::vec(any_path_match(), 0..8),
            requests in proptest::collection::vec("/[aAb/]{0,6}", 0..40),
        ) {
            for (route, shadow) in shadowed(&paths).into_iter().enumerate() {
                let Some(shadow) = shadow else { continue };
                prop_assert!(shadow < route);
                for request in &requests {
                    let request = request.as_bytes();
                    prop_assert!(!paths[route].matches(request) || paths[shadow].matches(request));
                }
            }
        }
    }
}
