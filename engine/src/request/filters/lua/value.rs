//! JSON as values of Lua, and the reverse.

use mlua::{Error, Lua, Value};

/// The value of a script for a JSON value.
pub(super) fn of_json(lua: &Lua, json: &serde_json::Value) -> Result<Value, Error> {
    Ok(match json {
        serde_json::Value::Null => Value::Nil,
        serde_json::Value::Bool(value) => Value::Boolean(*value),
        serde_json::Value::Number(value) => Value::Number(value.as_f64().unwrap_or_default()),
        serde_json::Value::String(value) => Value::String(lua.create_string(value)?),
        serde_json::Value::Array(values) => {
            let table = lua.create_table()?;
            for value in values {
                table.push(of_json(lua, value)?)?;
            }
            Value::Table(table)
        }
        serde_json::Value::Object(entries) => {
            let table = lua.create_table()?;
            for (key, value) in entries {
                table.set(key.as_str(), of_json(lua, value)?)?;
            }
            Value::Table(table)
        }
    })
}

/// A table is nested no deeper than this.
const DEPTH_MAX: usize = 32;

/// The JSON for a value of a script. As in Envoy, a table with a first entry is a list.
pub(super) fn to_json(value: &Value, depth: usize) -> Result<serde_json::Value, Error> {
    if depth > DEPTH_MAX {
        return Err(Error::runtime("the table is nested too deeply"));
    }
    Ok(match value {
        Value::Nil => serde_json::Value::Null,
        Value::Boolean(value) => (*value).into(),
        Value::Integer(value) => (*value).into(),
        Value::Number(value) => (*value).into(),
        Value::String(value) => value.to_string_lossy().into(),
        Value::Table(table) if table.raw_len() > 0 => {
            let values = table.sequence_values::<Value>();
            let values: Result<Vec<_>, _> =
                values.map(|value| to_json(&value?, depth + 1)).collect();
            values?.into()
        }
        Value::Table(table) => {
            let mut object = serde_json::Map::new();
            for pair in table.pairs::<mlua::LuaString, Value>() {
                let (key, value) = pair?;
                object.insert(key.to_string_lossy(), to_json(&value, depth + 1)?);
            }
            object.into()
        }
        other => {
            let text = format!("unexpected type in custom metadata: {}", other.type_name());
            return Err(Error::runtime(text));
        }
    })
}
