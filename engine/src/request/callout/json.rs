//! `google.protobuf.Struct` and JSON.

use std::collections::BTreeMap;

use prost_types::value::Kind;
use prost_types::{ListValue, Struct, Value};
use serde_json::{Map, Number};

/// The object that a struct is.
#[must_use]
pub fn of_struct(schema: Struct) -> Map<String, serde_json::Value> {
    schema.fields.into_iter().map(|(key, value)| (key, of_value(value))).collect()
}

fn of_value(value: Value) -> serde_json::Value {
    match value.kind {
        None | Some(Kind::NullValue(_)) => serde_json::Value::Null,
        Some(Kind::BoolValue(value)) => value.into(),
        // What is no finite number is no JSON.
        Some(Kind::NumberValue(value)) => Number::from_f64(value).into(),
        Some(Kind::StringValue(value)) => value.into(),
        Some(Kind::ListValue(ListValue { values })) => values.into_iter().map(of_value).collect(),
        Some(Kind::StructValue(value)) => of_struct(value).into(),
    }
}

/// The struct that a JSON object is; an empty one for any other value.
#[must_use]
pub fn to_struct(value: &serde_json::Value) -> Struct {
    let entries = value.as_object().into_iter().flatten();
    let fields: BTreeMap<_, _> =
        entries.map(|(key, value)| (key.clone(), to_value(value))).collect();
    Struct { fields }
}

fn to_value(value: &serde_json::Value) -> Value {
    Value {
        kind: Some(match value {
            serde_json::Value::Null => Kind::NullValue(0),
            serde_json::Value::Bool(value) => Kind::BoolValue(*value),
            serde_json::Value::Number(value) => Kind::NumberValue(value.as_f64().unwrap_or(0.0)),
            serde_json::Value::String(value) => Kind::StringValue(value.clone()),
            serde_json::Value::Array(values) => {
                Kind::ListValue(ListValue { values: values.iter().map(to_value).collect() })
            }
            object @ serde_json::Value::Object(_) => Kind::StructValue(to_struct(object)),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_survives_the_way_through_a_struct() {
        let object = serde_json::json!({
            "null": null, "bool": true, "number": 1.5, "text": "a", "list": [1.0, "b", {}],
            "object": { "inner": [] },
        });
        assert_eq!(serde_json::Value::Object(of_struct(to_struct(&object))), object);
        assert!(to_struct(&serde_json::json!("no object")).fields.is_empty());
    }
}
