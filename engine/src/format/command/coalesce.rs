//! `%COALESCE({"operators": […]})%`: the first of several commands that has a value.

use serde_json::{Map, Value};

use super::{Command, Field};
use crate::format::{Extensions, Inputs, Token};

/// The commands, in order.
#[derive(Clone, Debug)]
pub(super) struct Coalesce(Box<[Field]>);

impl Coalesce {
    /// No command writes more than `bytes_max`.
    ///
    /// # Errors
    /// The parameters are not the JSON that the command takes, or a command in them is invalid.
    pub(super) fn new(parameters: &str, bytes_max: Option<usize>) -> Result<Self, String> {
        fields(parameters, bytes_max).map(Self).map_err(|error| format!("COALESCE: {error}"))
    }

    pub(super) fn write(&self, inputs: &Inputs<'_>, out: &mut Vec<u8>) -> Option<()> {
        self.0.iter().any(|field| field.write(inputs, out)).then_some(())
    }

    /// With the type of the command that has a value.
    pub(super) fn write_json(&self, inputs: &Inputs<'_>, out: &mut Vec<u8>) -> Option<()> {
        self.0.iter().any(|field| field.write_json(inputs, out)).then_some(())
    }
}

fn fields(parameters: &str, bytes_max: Option<usize>) -> Result<Box<[Field]>, String> {
    let json: Value = serde_json::from_str(parameters)
        .map_err(|error| format!("the parameters are not valid JSON: {error}"))?;
    let object = json.as_object().filter(|object| object.contains_key("operators"));
    let object = object.ok_or("JSON configuration must contain 'operators' array")?;
    only(object, &["operators"])?;
    let operators = object.get("operators").and_then(Value::as_array);
    let operators = operators.ok_or("'operators' must be an array")?;
    if operators.is_empty() {
        return Err("'operators' array must not be empty".to_owned());
    }
    let field = |(index, value): (usize, &Value)| {
        let field = operator(value).and_then(|(name, parameters, length)| {
            let bytes_max = length.into_iter().chain(bytes_max).min();
            let command = Command::new(
                &Token { name, parameters, bytes_max: length },
                Extensions::default(),
            )?;
            Ok(Field { command, bytes_max })
        });
        field.map_err(|error| format!("failed to parse operator at index {index}: {error}"))
    };
    operators.iter().enumerate().map(field).collect()
}

/// A command: its name, or an object with name, parameters and length.
fn operator(value: &Value) -> Result<(&str, &str, Option<usize>), String> {
    if let Some(name) = value.as_str() {
        return Ok((name, "", None));
    }
    let Some(object) = value.as_object() else {
        return Err("operator entry must be either a string (command name) or an object with \
                    'command' field"
            .to_owned());
    };
    only(object, &["command", "param", "max_length"])?;
    let name = object.get("command").and_then(Value::as_str);
    let name = name.ok_or("operator object must have 'command' field, a string")?;
    let parameters = match object.get("param") {
        None => "",
        Some(value) => value.as_str().ok_or("'param' field must be a string")?,
    };
    let length = object.get("max_length").map(|value| {
        let length = value.as_u64().filter(|length| *length > 0);
        let length = length.and_then(|length| usize::try_from(length).ok());
        length.ok_or("'max_length' must be a positive integer")
    });
    Ok((name, parameters, length.transpose()?))
}

fn only(object: &Map<String, Value>, known: &[&str]) -> Result<(), String> {
    match object.keys().find(|key| !known.contains(&key.as_str())) {
        Some(unknown) => Err(format!("unknown field '{unknown}'")),
        None => Ok(()),
    }
}
