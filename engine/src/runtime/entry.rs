//! The values of keys, as those who use them see them.

use std::collections::HashMap;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use super::Runtime;
use crate::fraction::Fraction;

/// What a key is set to. The control plane writes it, shards read it.
///
/// Each kind of value is one atomic, so it is never half of one value and half of another.
#[derive(Debug)]
pub struct Entry {
    key: Box<str>,
    integer: AtomicU64,
    /// The bits of a float.
    number: AtomicU64,
    /// 0 or 1.
    flag: AtomicU64,
    /// Numerator and denominator.
    fraction: AtomicU64,
}

/// It is not set. No value is that: the greatest integer is taken for not set, floats are finite, and the
/// denominator is at most a million.
const NONE: u64 = u64::MAX;

impl Entry {
    fn new(key: &str, runtime: &Runtime) -> Self {
        let none = || AtomicU64::new(NONE);
        let entry = Self {
            key: key.into(),
            integer: none(),
            number: none(),
            flag: none(),
            fraction: none(),
        };
        entry.update(runtime);
        entry
    }

    fn update(&self, runtime: &Runtime) {
        let Self { key, integer, number, flag, fraction } = self;
        integer.store(runtime.integer(key).unwrap_or(NONE), Relaxed);
        number.store(runtime.number(key).map_or(NONE, f64::to_bits), Relaxed);
        flag.store(runtime.flag(key).map_or(NONE, u64::from), Relaxed);
        let packed = |it: Fraction| u64::from(it.numerator) << 32 | u64::from(it.denominator);
        fraction.store(runtime.fraction(key).map_or(NONE, packed), Relaxed);
    }

    /// As [`Runtime::integer`].
    #[must_use]
    pub fn integer(&self) -> Option<u64> {
        set(&self.integer)
    }

    fn number(&self) -> Option<f64> {
        set(&self.number).map(f64::from_bits)
    }

    fn flag(&self) -> Option<bool> {
        set(&self.flag).map(|flag| flag == 1)
    }

    #[expect(clippy::cast_possible_truncation, reason = "these are its two halves")]
    fn fraction(&self) -> Option<Fraction> {
        set(&self.fraction)
            .map(|it| Fraction { numerator: (it >> 32) as u32, denominator: it as u32 })
    }
}

fn set(value: &AtomicU64) -> Option<u64> {
    Some(value.load(Relaxed)).filter(|value| *value != NONE)
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.key == other.key
    }
}

/// The entries that are in use.
#[derive(Debug, Default)]
pub(super) struct Entries(Mutex<HashMap<Box<str>, Weak<Entry>>>);

impl Entries {
    /// The entry of a key.
    pub(super) fn of(&self, key: &str, runtime: &Runtime) -> Arc<Entry> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(entry) = all.get(key).and_then(Weak::upgrade) {
            return entry;
        }
        let entry = Arc::new(Entry::new(key, runtime));
        all.insert(key.into(), Arc::downgrade(&entry));
        entry
    }

    /// Gives all entries their values.
    pub(super) fn update(&self, runtime: &Runtime) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|_, entry| entry.strong_count() > 0);
        let grows = |entry: &Arc<Entry>| runtime.integer(&entry.key) > entry.integer();
        let entries = all.values().filter_map(Weak::upgrade);
        // First what grows: weights that are shifted are never all 0 in between.
        let (growing, others): (Vec<_>, Vec<_>) = entries.partition(grows);
        growing.iter().chain(&others).for_each(|entry| entry.update(runtime));
    }
}

/// Declares a default with the key that may override it.
macro_rules! overridable {
    ($(#[$meta:meta])* $name:ident: $kind:ty = $read:ident) => {
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq)]
        pub struct $name {
            default: $kind,
            entry: Option<Arc<Entry>>,
        }

        impl $name {
            /// With the entry of its key; none: nothing overrides it.
            #[must_use]
            pub const fn new(default: $kind, entry: Option<Arc<Entry>>) -> Self {
                Self { default, entry }
            }

            /// Whether nothing overrides it.
            #[inline]
            #[must_use]
            pub const fn is_fixed(&self) -> bool {
                self.entry.is_none()
            }

            /// What it is now.
            #[inline]
            #[must_use]
            pub fn get(&self) -> $kind {
                match &self.entry {
                    None => self.default,
                    Some(entry) => entry.$read().unwrap_or(self.default),
                }
            }
        }

        impl From<$kind> for $name {
            fn from(default: $kind) -> Self {
                Self { default, entry: None }
            }
        }
    };
}

overridable! {
    /// `RuntimeFractionalPercent`
    RuntimeFraction: Fraction = fraction
}

overridable! {
    /// `RuntimeUInt32`
    RuntimeInteger: u64 = integer
}

overridable! {
    /// `RuntimeFeatureFlag`
    RuntimeFlag: bool = flag
}

overridable! {
    /// `RuntimeDouble`
    RuntimeNumber: f64 = number
}

impl RuntimeFraction {
    /// Whether it includes all, whatever the runtime says.
    #[must_use]
    pub const fn is_always_all(&self) -> bool {
        self.entry.is_none() && self.default.numerator >= self.default.denominator
    }

    /// Whether the request with this random number is included.
    #[must_use]
    pub fn includes(&self, random: u64) -> bool {
        self.get().includes(random)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::{Layer, Reader, Runtime};
    use super::*;

    #[test]
    fn whoever_uses_a_value_sees_each_change() {
        let mut runtime = Runtime::default();
        let entry = |key: &str| Some(Reader::new(&runtime).entry(key));
        let half = Fraction { numerator: 1, denominator: 2 };
        let (fraction, integer) =
            (RuntimeFraction::new(half, entry("a")), RuntimeInteger::new(7, entry("b")));
        let (flag, number) =
            (RuntimeFlag::new(true, entry("c")), RuntimeNumber::new(0.5, entry("d")));
        let now = || (fraction.get(), integer.get(), flag.get(), number.get());
        assert_eq!(now(), (half, 7, true, 0.5));
        let (layer, _) = Layer::new("x", &json!({ "a": 30, "b": 8, "c": false, "d": 0.25 }));
        runtime.set_layers(vec![layer]);
        assert_eq!(now(), (Fraction { numerator: 30, denominator: 100 }, 8, false, 0.25));
        runtime.set_layers(Vec::new());
        assert_eq!(now(), (half, 7, true, 0.5));
    }
}
