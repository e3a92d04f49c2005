//! Runtime values: named settings in layers, where the last layer that has a key wins.
//!
//! Layers change while the process runs. What uses a value holds the [`Entry`] of its key, so a shard reads an
//! atomic that the control plane writes when the value changes: no lock, and nothing is compiled again.

mod entry;
mod layers;
mod value;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::{Value, json};

use crate::format::number::six_digits;
use crate::fraction::Fraction;

use entry::Entries;
pub use entry::{Entry, RuntimeFlag, RuntimeFraction, RuntimeInteger, RuntimeNumber};
pub use layers::{Changed, LayerSource, Layers};

/// The layers, lowest first.
#[derive(Clone, Debug, Default)]
pub struct Runtime {
    layers: Vec<Layer>,
    entries: Arc<Entries>,
}

/// A layer. Its values are strings and numbers.
#[derive(Clone, Debug, PartialEq)]
pub struct Layer {
    name: String,
    values: BTreeMap<String, Value>,
}

impl Layer {
    /// A layer with the members of an object; those of an object in it get its name and a dot as prefix. Also
    /// returns the keys whose values are invalid: lists and nulls.
    #[must_use]
    pub fn new(name: &str, values: &Value) -> (Self, Vec<String>) {
        let (mut flat, mut invalid) = (BTreeMap::new(), Vec::new());
        if let Value::Object(fields) = values {
            flatten("", fields, &mut flat, &mut invalid);
        }
        (Self { name: name.to_owned(), values: flat }, invalid)
    }

    /// Its keys.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.values.keys().map(String::as_str)
    }

    /// Its keys with their values.
    pub fn values(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.values.iter().map(|(key, value)| (key.as_str(), value))
    }

    /// A layer with these texts.
    #[must_use]
    pub fn of_texts(name: &str, texts: impl IntoIterator<Item = (String, String)>) -> Self {
        let texts = texts.into_iter().map(|(key, text)| (key, text.into()));
        Self { name: name.to_owned(), values: texts.collect() }
    }
}

impl Runtime {
    /// Adds a layer on top of the others. Returns the keys whose values are invalid.
    pub fn push(&mut self, name: &str, values: &Value) -> Vec<String> {
        let (layer, invalid) = Layer::new(name, values);
        self.layers.push(layer);
        invalid
    }

    /// Replaces all layers. Whoever uses a value sees the new one from now on.
    pub fn set_layers(&mut self, layers: Vec<Layer>) {
        self.layers = layers;
        self.entries.update(self);
    }

    /// The value of a key as a whole number; as in Envoy, a value that is not one counts as not set.
    #[must_use]
    pub fn integer(&self, key: &str) -> Option<u64> {
        value::integer(self.value(key)?)
    }

    /// The value of a key as a number.
    #[must_use]
    pub fn number(&self, key: &str) -> Option<f64> {
        value::number(self.value(key)?)
    }

    /// The value of a key as a yes or no.
    #[must_use]
    pub fn flag(&self, key: &str) -> Option<bool> {
        value::flag(self.value(key)?)
    }

    /// The value of a key as a fraction: an object with a numerator and a denominator, or percent.
    #[must_use]
    pub fn fraction(&self, key: &str) -> Option<Fraction> {
        value::fraction(self.value(key)?)
    }

    fn value(&self, key: &str) -> Option<&Value> {
        self.layers.iter().rev().find_map(|layer| layer.values.get(key))
    }

    /// Every key of every layer, with the index of the layer.
    pub fn keys(&self) -> impl Iterator<Item = (usize, &str)> {
        let layers = self.layers.iter().enumerate();
        layers.flat_map(|(at, layer)| layer.values.keys().map(move |key| (at, key.as_str())))
    }

    /// How many keys there are.
    #[must_use]
    pub fn key_count(&self) -> usize {
        self.keys().map(|(_, key)| key).collect::<BTreeSet<_>>().len()
    }

    /// How many layers there are.
    #[must_use]
    pub const fn layer_count(&self) -> usize {
        self.layers.len()
    }

    /// The JSON of `/runtime`.
    #[must_use]
    pub fn json(&self) -> Value {
        let value = |layer: &Layer, key: &str| layer.values.get(key).map_or_else(String::new, text);
        let entries = self.keys().map(|(_, key)| {
            let of_layers: Vec<String> =
                self.layers.iter().map(|layer| value(layer, key)).collect();
            let last = of_layers.iter().rfind(|text| !text.is_empty());
            let last = last.map_or("", String::as_str);
            let entry = json!({ "final_value": last, "layer_values": of_layers });
            (key.to_owned(), entry)
        });
        let entries: serde_json::Map<String, Value> = entries.collect();
        let layers: Vec<&str> = self.layers.iter().map(|layer| layer.name.as_str()).collect();
        json!({ "entries": entries, "layers": layers })
    }
}

/// Reads values while a configuration is compiled, and knows afterwards which keys have an effect.
#[derive(Debug)]
pub struct Reader<'a> {
    runtime: &'a Runtime,
    read: RefCell<BTreeSet<String>>,
}

impl<'a> Reader<'a> {
    /// Nothing is read yet.
    #[must_use]
    pub const fn new(runtime: &'a Runtime) -> Self {
        Self { runtime, read: RefCell::new(BTreeSet::new()) }
    }

    /// As [`Runtime::integer`], once: a later change has no effect.
    pub fn integer(&self, key: &str) -> Option<u64> {
        self.note(key);
        self.runtime.integer(key)
    }

    /// A fraction with the key that may override it.
    pub fn fraction(&self, default: Fraction, key: &str) -> RuntimeFraction {
        RuntimeFraction::new(default, self.entry_of(key))
    }

    /// A number with the key that may override it.
    pub fn number(&self, default: u64, key: &str) -> RuntimeInteger {
        RuntimeInteger::new(default, self.entry_of(key))
    }

    /// A yes or no with the key that may override it.
    pub fn flag(&self, default: bool, key: &str) -> RuntimeFlag {
        RuntimeFlag::new(default, self.entry_of(key))
    }

    /// None: there is no key.
    fn entry_of(&self, key: &str) -> Option<Arc<Entry>> {
        (!key.is_empty()).then(|| self.entry(key))
    }

    /// What a key is set to, as it changes.
    pub fn entry(&self, key: &str) -> Arc<Entry> {
        self.note(key);
        self.runtime.entries.of(key, self.runtime)
    }

    /// Whether the key was read.
    #[must_use]
    pub fn has_read(&self, key: &str) -> bool {
        self.read.borrow().contains(key)
    }

    fn note(&self, key: &str) {
        self.read.borrow_mut().insert(key.to_owned());
    }
}

/// The keys of a layer, or of an object in it.
fn flatten(
    prefix: &str,
    fields: &serde_json::Map<String, Value>,
    flat: &mut BTreeMap<String, Value>,
    invalid: &mut Vec<String>,
) {
    for (name, value) in fields {
        let key = if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
        match value {
            Value::Object(fields) if !is_value(fields) => flatten(&key, fields, flat, invalid),
            Value::Array(_) | Value::Null => invalid.push(key),
            Value::Number(_) | Value::String(_) => drop(flat.insert(key, value.clone())),
            other => drop(flat.insert(key, other.to_string().into())),
        }
    }
}

/// Envoy: a fraction is a single value, and so is an empty object.
fn is_value(fields: &serde_json::Map<String, Value>) -> bool {
    fields.is_empty() || fields.contains_key("numerator") || fields.contains_key("denominator")
}

/// A value as in `/runtime`. Envoy: numbers have six significant digits.
fn text(value: &Value) -> String {
    let Some(number) = value.as_f64() else {
        return value.as_str().unwrap_or_default().to_owned();
    };
    six_digits(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn runtime(layers: &[Value]) -> Runtime {
        let mut runtime = Runtime::default();
        for values in layers {
            assert_eq!(runtime.push("static", values), [""; 0]);
        }
        runtime
    }

    #[test]
    fn the_last_layer_that_has_a_key_wins() {
        let runtime = runtime(&[json!({ "a": { "b": 1, "c": 2 } }), json!({ "a.b": "3" })]);
        assert_eq!((runtime.integer("a.b"), runtime.integer("a.c")), (Some(3), Some(2)));
        assert_eq!(runtime.json()["entries"]["a.b"]["layer_values"], json!(["1", "3"]));
        assert_eq!(runtime.json()["entries"]["a.c"]["final_value"], "2");
    }

    #[test]
    fn a_number_is_shown_with_six_digits_and_read_exactly() {
        let numbers = json!({ "a": 999_999, "b": 123_456_789, "c": -5, "d": 1e6, "e": 0.000_01 });
        let runtime = runtime(&[numbers, json!({ "f": "", "a": "x" })]);
        let shown = ["a", "b", "c", "d", "e", "f"]
            .map(|key| runtime.json()["entries"][key]["final_value"].clone());
        assert_eq!(shown, ["x", "1.23457e+08", "-5", "1e+06", "1e-05", ""]);
        assert_eq!(
            (runtime.integer("b"), runtime.integer("d")),
            (Some(123_456_789), Some(1_000_000))
        );
        assert_eq!(runtime.key_count(), 6);
    }

    #[test]
    fn lists_and_nulls_are_invalid_values() {
        let values = json!({ "a": [1], "b": { "c": null }, "d": { "numerator": null } });
        assert_eq!(Runtime::default().push("static", &values), ["a", "b.c"]);
    }

    /// The layer itself is not a fraction, even with a key `numerator`.
    #[test]
    fn a_fraction_and_an_empty_object_are_single_values() {
        let fraction = json!({ "numerator": 1, "denominator": "HUNDRED" });
        let runtime = runtime(&[json!({ "numerator": 3, "a": fraction, "b": {}, "c": { "d": {} },
            "e": { "denominator": [1] } })]);
        let keys: Vec<&str> = runtime.keys().map(|(_, key)| key).collect();
        assert_eq!(keys, ["a", "b", "c.d", "e", "numerator"]);
        assert_eq!(runtime.integer("numerator"), Some(3));
    }

    #[test]
    fn a_reader_knows_what_was_read() {
        let runtime = runtime(&[json!({ "a": 1, "b": 2 })]);
        let reader = Reader::new(&runtime);
        assert_eq!((reader.integer("a"), reader.integer("none")), (Some(1), None));
        assert!(reader.has_read("a") && reader.has_read("none") && !reader.has_read("b"));
    }

    #[test]
    fn a_value_that_is_not_a_number_counts_as_not_set() {
        let runtime = runtime(&[json!({ "a": "x", "b": -1, "c": 2.7, "d": true })]);
        assert_eq!(
            ["a", "b", "c", "d", "e"].map(|key| runtime.integer(key)),
            [None, None, Some(2), None, None]
        );
    }
}
