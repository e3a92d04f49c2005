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

use std::borrow::Cow;
use std::collections::HashMap;
use std::net::IpAddr;

use crate::address::Cidr;
use crate::cel::Program;
use crate::hash::xxh64_seeded;
use crate::metadata_matcher::ValueMatcher;
use crate::radix::Radix;
use crate::runtime::RuntimeFraction;
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

/// Where a tree leads to depends on what is not known yet: the response has not begun.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Undecided;

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
        fraction: RuntimeFraction,
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
    /// The action for a subject; none if it depends on what is not known of it.
    #[must_use]
    pub fn find(&self, subject: &dyn Subject) -> Option<&A> {
        self.decide(subject).unwrap_or_default()
    }

    /// The action for a subject.
    ///
    /// # Errors
    /// If it depends on what is not known yet.
    pub fn decide(&self, subject: &dyn Subject) -> Result<Option<&A>, Undecided> {
        let found = match &self.search {
            Search::Nothing => None,
            Search::List(list) => first(list.iter().map(|(predicate, then)| {
                if predicate.holds(subject)? { then.action(subject) } else { Ok(None) }
            }))?,
            Search::Exact(input, map) => {
                let value = input.value(subject)?;
                let then = value.and_then(|value| map.get(&*value));
                first(then.into_iter().map(|then| then.action(subject)))?
            }
            Search::Prefix(input, keys) => match input.value(subject)? {
                Some(value) => {
                    let prefixes = keys.prefixes_of(value.iter().copied());
                    first(prefixes.map(|(_, then)| then.action(subject)))?
                }
                None => None,
            },
            Search::Ranges(input, ranges) => match parsed(input.value(subject)?) {
                Some(address) => {
                    first(ranges.containing(address).map(|then| then.action(subject)))?
                }
                None => None,
            },
            Search::ServerNames(input, names) => match input.value(subject)? {
                Some(value) => {
                    let name = std::str::from_utf8(&value).unwrap_or_default();
                    first(names.of(name).map(|then| then.action(subject)))?
                }
                None => None,
            },
        };
        match (found, &self.on_no_match) {
            (None, Some(then)) => then.action(subject),
            (found, _) => Ok(found),
        }
    }
}

/// The first action that is found.
fn first<'a, A: 'a>(
    mut found: impl Iterator<Item = Result<Option<&'a A>, Undecided>>,
) -> Result<Option<&'a A>, Undecided> {
    found.find_map(Result::transpose).transpose()
}

/// The address in a value.
fn parsed(value: Option<Cow<'_, [u8]>>) -> Option<IpAddr> {
    std::str::from_utf8(&value?).ok()?.parse().ok()
}

impl<A> OnMatch<A> {
    /// The action that the match leads to, unless the search is to continue.
    fn action(&self, subject: &dyn Subject) -> Result<Option<&A>, Undecided> {
        //= envoy: xds.type.matcher.v3.Matcher.OnMatch.keep_matching
        if self.keep_matching {
            return Ok(None);
        }
        match &self.to {
            Target::Action(action) => Ok(Some(action)),
            Target::Matcher(matcher) => matcher.decide(subject),
        }
    }
}

impl Predicate {
    fn holds(&self, subject: &dyn Subject) -> Result<bool, Undecided> {
        Ok(match self {
            Self::And(all) => {
                for predicate in all {
                    if !predicate.holds(subject)? {
                        return Ok(false);
                    }
                }
                true
            }
            Self::Or(any) => {
                // One that holds is enough, whatever comes of the others.
                let mut is_undecided = false;
                for predicate in any {
                    match predicate.holds(subject) {
                        Ok(true) => return Ok(true),
                        Ok(false) => {}
                        Err(Undecided) => is_undecided = true,
                    }
                }
                if is_undecided {
                    return Err(Undecided);
                }
                false
            }
            Self::Not(predicate) => !predicate.holds(subject)?,
            Self::Value(input, test) => {
                input.value(subject)?.is_some_and(|value| test.passes(&value))
            }
            Self::Cel(program) => subject.holds(program),
            Self::Metadata { namespace, path, value, invert } => {
                let found = subject.metadata(namespace, path);
                found.is_some_and(|found| value.matches(&found)) != *invert
            }
        })
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
