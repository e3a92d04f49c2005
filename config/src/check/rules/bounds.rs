use std::fmt::Display;

use prost_reflect::{DynamicMessage, Value};

use super::{field, last, list};
use crate::Path;

/// Limits of a number or a length.
#[derive(Debug)]
pub(in crate::check) struct Bounds<T> {
    pub(super) low: Option<Limit<T>>,
    high: Option<Limit<T>>,
    exact: Option<T>,
    within: Vec<T>,
    without: Vec<T>,
}

#[derive(Clone, Copy, Debug)]
pub(in crate::check) enum Limit<T> {
    Exclusive(T),
    Inclusive(T),
}

impl<T: Copy + Display + PartialOrd> Bounds<T> {
    /// `const`, `lt`, `lte`, `gt`, `gte`, `in` and `not_in`.
    pub(super) fn of(rules: &DynamicMessage, read: fn(&Value) -> Option<T>) -> Self {
        let value = |name| field(rules, name).and_then(|value| read(&value));
        let exclusive = |name| value(name).map(Limit::Exclusive);
        let inclusive = |name| value(name).map(Limit::Inclusive);
        Self {
            low: exclusive("gt").or_else(|| inclusive("gte")),
            high: exclusive("lt").or_else(|| inclusive("lte")),
            exact: value("const"),
            within: list(rules, "in", read),
            without: list(rules, "not_in", read),
        }
    }

    pub(super) fn check(&self, value: T, unit: &str, at: &Path, wrong: &mut dyn FnMut(String)) {
        let unit = if unit.is_empty() { String::new() } else { format!(" {unit}") };
        self.check_shown(value, |value| format!("{value}{unit}"), at, wrong);
    }

    pub(super) fn check_shown(
        &self,
        value: T,
        show: impl Fn(T) -> String,
        at: &Path,
        wrong: &mut dyn FnMut(String),
    ) {
        let mut wrong = |text: String| wrong(format!("{} {text}", last(at)));
        let low = self.low.is_none_or(|limit| match limit {
            Limit::Exclusive(limit) => value > limit,
            Limit::Inclusive(limit) => value >= limit,
        });
        let high = self.high.is_none_or(|limit| match limit {
            Limit::Exclusive(limit) => value < limit,
            Limit::Inclusive(limit) => value <= limit,
        });
        let given = show(value);
        if !low && let Some(limit) = self.low {
            wrong(match limit {
                Limit::Exclusive(limit) => {
                    format!("must be more than {}, not {given}", show(limit))
                }
                Limit::Inclusive(limit) => format!("must be at least {}, not {given}", show(limit)),
            });
        }
        if !high && let Some(limit) = self.high {
            wrong(match limit {
                Limit::Exclusive(limit) => {
                    format!("must be less than {}, not {given}", show(limit))
                }
                Limit::Inclusive(limit) => format!("must be at most {}, not {given}", show(limit)),
            });
        }
        if let Some(exact) = self.exact.filter(|exact| *exact != value) {
            wrong(format!("must be {}, not {given}", show(exact)));
        }
        if !self.within.is_empty() && !self.within.contains(&value) {
            let allowed: Vec<_> = self.within.iter().map(|value| show(*value)).collect();
            wrong(format!("must be one of {}, not {given}", allowed.join(", ")));
        }
        if self.without.contains(&value) {
            wrong(format!("must not be {given}"));
        }
    }
}

impl Bounds<u64> {
    /// Whether 0 is too little.
    pub(super) fn require_some(&self) -> bool {
        self.low.is_some_and(|low| !matches!(low, Limit::Inclusive(0)))
    }

    /// `min_x`, `max_x` and, for lengths, the exact `len`.
    pub(super) fn of_lengths(rules: &DynamicMessage, what: &str) -> Self {
        let value = |name: &str| field(rules, name).and_then(|value| value.as_u64());
        let exact = match what {
            "len" => value("len"),
            "bytes" => value("len_bytes"),
            _ => None,
        };
        Self {
            low: value(&format!("min_{what}")).map(Limit::Inclusive),
            high: value(&format!("max_{what}")).map(Limit::Inclusive),
            exact,
            within: Vec::new(),
            without: Vec::new(),
        }
    }
}
