//! `filter_disabled`: for which connections a listener filter is skipped.

use std::ops::Range;

/// A condition on a connection.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Predicate {
    /// `any_match`
    Any,
    /// `destination_port_range`
    DestinationPort(Range<i32>),
    /// `not_match`
    Not(Box<Self>),
    /// `and_match`
    All(Vec<Self>),
    /// `or_match`
    Either(Vec<Self>),
}

impl Predicate {
    /// Whether a connection with this local port matches.
    #[must_use]
    pub fn matches(&self, port: u16) -> bool {
        match self {
            Self::Any => true,
            Self::DestinationPort(range) => range.contains(&i32::from(port)),
            Self::Not(inner) => !inner.matches(port),
            Self::All(parts) => parts.iter().all(|part| part.matches(port)),
            Self::Either(parts) => parts.iter().any(|part| part.matches(port)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Predicate::{All, Any, DestinationPort, Either, Not};

    #[test]
    fn predicates_combine() {
        let low = DestinationPort(0..100);
        assert!(low.matches(99) && !low.matches(100), "the end is excluded");
        assert!(Any.matches(1));
        assert!(Not(Box::new(low.clone())).matches(100));
        assert!(!All(vec![Any, low.clone()]).matches(100));
        assert!(Either(vec![low.clone(), Any]).matches(100));
        assert!(!Either(vec![low.clone(), low]).matches(100));
    }
}
