//! Runtime values: what an operator sets by name, in layers of which the last one that has a name
//! counts. There are static layers only, so a value is asked for once, when the configuration is
//! compiled.

use std::collections::BTreeMap;

use serde_json::{Value, json};

/// The layers, lowest first.
#[derive(Clone, Debug, Default)]
pub struct Runtime {
    layers: Vec<Layer>,
}

/// A layer: its name, and its values as text.
#[derive(Clone, Debug)]
struct Layer {
    name: String,
    values: BTreeMap<String, String>,
}

impl Runtime {
    /// Puts a layer over those that are there. What stands in an object gets the object's name and
    /// a dot in front.
    pub fn push(&mut self, name: &str, values: &Value) {
        let mut flat = BTreeMap::new();
        flatten("", values, &mut flat);
        self.layers.push(Layer { name: name.to_owned(), values: flat });
    }

    /// The value of a key as a whole number; as in Envoy, what is none counts as not set.
    #[must_use]
    pub fn integer(&self, key: &str) -> Option<u64> {
        let text = self.layers.iter().rev().find_map(|layer| layer.values.get(key))?;
        let whole = text.split_once('.').map_or(text.as_str(), |(whole, _)| whole);
        whole.parse().ok()
    }

    /// Every key of a layer, with the place of the layer.
    pub fn keys(&self) -> impl Iterator<Item = (usize, &str)> {
        let layers = self.layers.iter().enumerate();
        layers.flat_map(|(at, layer)| layer.values.keys().map(move |key| (at, key.as_str())))
    }

    /// How many layers there are.
    #[must_use]
    pub const fn layer_count(&self) -> usize {
        self.layers.len()
    }

    /// As `/runtime` shows it.
    #[must_use]
    pub fn json(&self) -> Value {
        let value = |layer: &Layer, key: &str| layer.values.get(key).cloned().unwrap_or_default();
        let entries = self.keys().map(|(_, key)| {
            let of_layers: Vec<String> =
                self.layers.iter().map(|layer| value(layer, key)).collect();
            let last = of_layers.iter().rfind(|text| !text.is_empty());
            let entry = json!({ "final_value": last, "layer_values": of_layers });
            (key.to_owned(), entry)
        });
        let entries: serde_json::Map<String, Value> = entries.collect();
        let layers: Vec<&str> = self.layers.iter().map(|layer| layer.name.as_str()).collect();
        json!({ "entries": entries, "layers": layers })
    }
}

/// Envoy: an object that is a fraction is one value.
fn flatten(prefix: &str, value: &Value, flat: &mut BTreeMap<String, String>) {
    match value {
        Value::Object(fields) if !fields.contains_key("numerator") => {
            for (name, value) in fields {
                let dot = if prefix.is_empty() { "" } else { "." };
                flatten(&format!("{prefix}{dot}{name}"), value, flat);
            }
        }
        Value::String(text) => drop(flat.insert(prefix.to_owned(), text.clone())),
        // All numbers of a Struct are floating; as text a whole one has no fraction.
        Value::Number(number) => {
            let text = number.as_f64().map_or_else(|| number.to_string(), |n| n.to_string());
            flat.insert(prefix.to_owned(), text);
        }
        other => drop(flat.insert(prefix.to_owned(), other.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn runtime(layers: &[Value]) -> Runtime {
        let mut runtime = Runtime::default();
        layers.iter().for_each(|values| runtime.push("static", values));
        runtime
    }

    #[test]
    fn the_last_layer_that_has_a_key_counts() {
        let runtime = runtime(&[json!({ "a": { "b": 1, "c": 2 } }), json!({ "a.b": "3" })]);
        assert_eq!((runtime.integer("a.b"), runtime.integer("a.c")), (Some(3), Some(2)));
        assert_eq!(runtime.json()["entries"]["a.b"]["layer_values"], json!(["1", "3"]));
        assert_eq!(runtime.json()["entries"]["a.c"]["final_value"], "2");
    }

    #[test]
    fn what_is_no_number_is_not_set() {
        let runtime = runtime(&[json!({ "a": "x", "b": -1, "c": 2.7, "d": true })]);
        assert_eq!(
            ["a", "b", "c", "d", "e"].map(|key| runtime.integer(key)),
            [None, None, Some(2), None, None]
        );
    }
}
