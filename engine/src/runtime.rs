//! Runtime values: named settings in layers, where the last layer that has a key wins. There are only
//! static layers, so values are read once, when the configuration is compiled.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use crate::format::number::six_digits;
use crate::fraction::Fraction;

/// The layers, lowest first.
#[derive(Clone, Debug, Default)]
pub struct Runtime {
    layers: Vec<Layer>,
}

/// A layer. Its values are strings and numbers.
#[derive(Clone, Debug)]
struct Layer {
    name: String,
    values: BTreeMap<String, Value>,
}

impl Runtime {
    /// Adds a layer on top of the others. The members of an object get its name and a dot as prefix.
    /// Returns the keys whose values are invalid: lists and nulls.
    pub fn push(&mut self, name: &str, values: &Value) -> Vec<String> {
        let (mut flat, mut invalid) = (BTreeMap::new(), Vec::new());
        if let Value::Object(fields) = values {
            flatten("", fields, &mut flat, &mut invalid);
        }
        self.layers.push(Layer { name: name.to_owned(), values: flat });
        invalid
    }

    /// The value of a key as a whole number; as in Envoy, a value that is not one counts as not set.
    #[must_use]
    pub fn integer(&self, key: &str) -> Option<u64> {
        let value = self.layers.iter().rev().find_map(|layer| layer.values.get(key))?;
        let text = match value {
            Value::String(text) => text.clone(),
            // All numbers of a Struct are floats; as text, a whole one has no fraction.
            number => number.as_f64().map_or_else(|| number.to_string(), |n| n.to_string()),
        };
        let whole = text.split_once('.').map_or(text.as_str(), |(whole, _)| whole);
        whole.parse().ok()
    }

    /// The value of a key as a fraction: an object with a numerator and a denominator, or percent.
    #[must_use]
    pub fn fraction(&self, key: &str) -> Option<Fraction> {
        let value = self.layers.iter().rev().find_map(|layer| layer.values.get(key))?;
        let object = value.as_str().and_then(|text| serde_json::from_str::<Value>(text).ok());
        if let Some(Value::Object(fields)) = object {
            return object_fraction(&fields);
        }
        let percent = u32::try_from(self.integer(key)?).unwrap_or(u32::MAX);
        Some(Fraction { numerator: percent, denominator: 100 })
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

    /// As [`Runtime::integer`].
    pub fn integer(&self, key: &str) -> Option<u64> {
        self.note(key);
        self.runtime.integer(key)
    }

    /// As [`Runtime::fraction`].
    pub fn fraction(&self, key: &str) -> Option<Fraction> {
        self.note(key);
        self.runtime.fraction(key)
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

/// A fraction as an object. As in Envoy, one that is not valid counts as not set.
fn object_fraction(fields: &serde_json::Map<String, Value>) -> Option<Fraction> {
    if fields.keys().any(|key| key != "numerator" && key != "denominator") {
        return None;
    }
    let denominator = match fields.get("denominator") {
        None => 100,
        Some(name) => match name.as_str()? {
            "HUNDRED" => 100,
            "TEN_THOUSAND" => 10_000,
            "MILLION" => 1_000_000,
            _ => return None,
        },
    };
    let numerator = fields.get("numerator").map_or(Some(0.0), Value::as_f64)?;
    if numerator.fract() != 0.0 || !(0.0..=f64::from(u32::MAX)).contains(&numerator) {
        return None;
    }
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "it is whole and in the range"
    )]
    Some(Fraction { numerator: numerator as u32, denominator })
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
