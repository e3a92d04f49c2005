//! Matcher trees: Envoy's `xds.type.matcher.v3.Matcher`. A tree leads from what is known of a request or
//! a connection to an action.
//!
//! What the actions are is up to the owner of the tree: routes, a filter chain, whether a filter runs.
//! `input` is what a tree can look at, `compile` reads the schema.
//!
//! Invariant: a search has no state, and its cost does not grow with the number of keys of a map or
//! ranges of addresses.

pub(crate) mod compile;
mod input;
mod keys;

use std::collections::HashMap;

use crate::address::Cidr;
use crate::cel::Program;
use crate::fraction::Fraction;
use crate::hash::xxh64_seeded;
use crate::metadata_matcher::ValueMatcher;
use crate::radix::Radix;
use crate::text_matcher::TextMatcher;

pub use self::input::{Input, Subject};
use self::keys::{Ranges, ServerNames};

/// A tree with actions of type `A`.
#[derive(Debug)]
pub struct Matcher<A> {
    search: Search<A>,
    /// For a subject that `search` does not find anything for.
    on_no_match: Option<Box<OnMatch<A>>>,
}

/// Where a match leads to.
#[derive(Debug)]
struct OnMatch<A> {
    to: Target<A>,
    /// The match is passed over, and the search continues.
    keep_matching: bool,
}

#[derive(Debug)]
enum Target<A> {
    Action(A),
    Matcher(Box<Matcher<A>>),
}

/// How a tree is searched.
#[derive(Debug)]
enum Search<A> {
    /// There is nothing but `on_no_match`.
    Nothing,
    /// `matcher_list`: the first predicate that holds.
    List(Vec<(Predicate, OnMatch<A>)>),
    /// `exact_match_map`
    Exact(Input, HashMap<Box<[u8]>, OnMatch<A>>),
    /// `prefix_match_map`: the longest prefix first.
    Prefix(Input, Radix<OnMatch<A>>),
    /// `IPMatcher`: the longest range first.
    Ranges(Input, Ranges<OnMatch<A>>),
    /// `ServerNameMatcher`: the most specific domain first.
    ServerNames(Input, ServerNames<OnMatch<A>>),
}

/// A condition of a `matcher_list`.
#[derive(Debug)]
enum Predicate {
    And(Vec<Self>),
    Or(Vec<Self>),
    Not(Box<Self>),
    /// An input has a value that passes the test.
    Value(Input, Test),
    /// A CEL expression is true.
    Cel(Program),
    /// A value in the dynamic metadata matches.
    Metadata {
        namespace: Box<str>,
        path: Box<[Box<str>]>,
        value: ValueMatcher,
        invert: bool,
    },
}

/// A condition on the value of an input.
#[derive(Debug)]
enum Test {
    Text(TextMatcher),
    /// The value is an address in one of these ranges.
    Ip(Vec<Cidr>),
    /// The hash of the value, modulo `modulo`, is at least `threshold`.
    Hash {
        threshold: u64,
        modulo: u64,
        seed: u64,
    },
    /// The hash of the value falls into the fraction.
    Fraction {
        fraction: Fraction,
        seed: u64,
    },
}

/// The tree that leads nowhere.
impl<A> Default for Matcher<A> {
    fn default() -> Self {
        Self { search: Search::Nothing, on_no_match: None }
    }
}

impl<A> Matcher<A> {
    /// The action for a subject.
    #[must_use]
    pub fn find(&self, subject: &dyn Subject) -> Option<&A> {
        let found = match &self.search {
            Search::Nothing => None,
            Search::List(list) => list
                .iter()
                .filter(|(predicate, _)| predicate.holds(subject))
                .find_map(|(_, then)| then.action(subject)),
            Search::Exact(input, map) => input
                .value(subject)
                .and_then(|value| map.get(&*value))
                .and_then(|then| then.action(subject)),
            Search::Prefix(input, keys) => input.value(subject).and_then(|value| {
                let mut prefixes = keys.prefixes_of(value.iter().copied());
                prefixes.find_map(|(_, then)| then.action(subject))
            }),
            Search::Ranges(input, ranges) => input.value(subject).and_then(|value| {
                let address = std::str::from_utf8(&value).ok()?.parse().ok()?;
                ranges.containing(address).find_map(|then| then.action(subject))
            }),
            Search::ServerNames(input, names) => input.value(subject).and_then(|value| {
                let name = std::str::from_utf8(&value).ok()?;
                names.of(name).find_map(|then| then.action(subject))
            }),
        };
        found.or_else(|| self.on_no_match.as_ref()?.action(subject))
    }
}

impl<A> OnMatch<A> {
    /// The action that the match leads to, unless the search is to continue.
    fn action(&self, subject: &dyn Subject) -> Option<&A> {
        //= envoy: xds.type.matcher.v3.Matcher.OnMatch.keep_matching
        if self.keep_matching {
            return None;
        }
        match &self.to {
            Target::Action(action) => Some(action),
            Target::Matcher(matcher) => matcher.find(subject),
        }
    }
}

impl Predicate {
    fn holds(&self, subject: &dyn Subject) -> bool {
        match self {
            Self::And(all) => all.iter().all(|predicate| predicate.holds(subject)),
            Self::Or(any) => any.iter().any(|predicate| predicate.holds(subject)),
            Self::Not(predicate) => !predicate.holds(subject),
            Self::Value(input, test) => {
                input.value(subject).is_some_and(|value| test.passes(&value))
            }
            Self::Cel(program) => subject.holds(program),
            Self::Metadata { namespace, path, value, invert } => {
                let found = subject.metadata(namespace, path);
                found.is_some_and(|found| value.matches(&found)) != *invert
            }
        }
    }
}

impl Test {
    fn passes(&self, value: &[u8]) -> bool {
        match self {
            Self::Text(matcher) => matcher.matches(value),
            Self::Ip(ranges) => std::str::from_utf8(value)
                .ok()
                .and_then(|text| text.parse().ok())
                .is_some_and(|address| ranges.iter().any(|range| range.contains(address))),
            Self::Hash { threshold, modulo, seed } => {
                xxh64_seeded(value, *seed) % (*modulo).max(1) >= *threshold
            }
            Self::Fraction { fraction, seed } => fraction.includes(xxh64_seeded(value, *seed)),
        }
    }
}
