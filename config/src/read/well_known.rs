//! Messages with a special spelling in JSON.

use std::collections::HashMap;

use prost_reflect::{DynamicMessage, Kind, MapKey, MessageDescriptor, Value};

use super::Reader;
use super::node::Node;
use super::scalar::{is_yaml_1_1_boolean, shown, yaml_1_1_integer};
use crate::Path;
use crate::problems::{Problem, Severity};

impl Reader<'_> {
    /// `None` if the message is an ordinary one, or is written like one here.
    pub(super) fn well_known(
        &mut self,
        descriptor: &MessageDescriptor,
        node: &Node,
        at: &Path,
    ) -> Option<Option<DynamicMessage>> {
        match descriptor.full_name().strip_prefix("google.protobuf.")? {
            "Any" => Some(self.any(descriptor, node, at)),
            // Envoy accepts {seconds: 5} and {value: 5} as well.
            "Duration" if !matches!(node, Node::Map(_)) => {
                Some(self.duration(descriptor, node, at))
            }
            "Timestamp" if !matches!(node, Node::Map(_)) => {
                Some(self.timestamp(descriptor, node, at))
            }
            "BoolValue" | "BytesValue" | "DoubleValue" | "FloatValue" | "Int32Value"
            | "Int64Value" | "StringValue" | "UInt32Value" | "UInt64Value"
                if !matches!(node, Node::Map(_)) =>
            {
                Some(self.wrapper(descriptor, node, at))
            }
            "Struct" => match node {
                Node::Map(entries) => Some(Some(self.structure(descriptor, entries, at))),
                _ => None,
            },
            "ListValue" => match node {
                Node::List(items) => Some(Some(self.list_value(descriptor, items, at))),
                _ => None,
            },
            "Value" => Some(self.dynamic_value(descriptor, node, at)),
            _ => None,
        }
    }

    fn duration(
        &mut self,
        descriptor: &MessageDescriptor,
        node: &Node,
        at: &Path,
    ) -> Option<DynamicMessage> {
        let parsed = match node {
            Node::Text(text) => parse_duration(text),
            _ => None,
        };
        let Some((seconds, nanos)) = parsed else {
            let text = format!("expected a duration, not {}", shown(node));
            let help = "write seconds with an `s`, such as `5s` or `0.25s`";
            self.report(Problem::new(Severity::Error, at, text).help(help));
            return None;
        };
        let mut message = DynamicMessage::new(descriptor.clone());
        message.set_field_by_name("seconds", Value::I64(seconds));
        message.set_field_by_name("nanos", Value::I32(nanos));
        Some(message)
    }

    fn timestamp(
        &mut self,
        descriptor: &MessageDescriptor,
        node: &Node,
        at: &Path,
    ) -> Option<DynamicMessage> {
        let parsed = match node {
            Node::Text(text) => text.parse::<prost_reflect::prost_types::Timestamp>().ok(),
            _ => None,
        };
        let mut message = DynamicMessage::new(descriptor.clone());
        if parsed.and_then(|parsed| message.transcode_from(&parsed).ok()).is_none() {
            let text = format!("expected a time, not {}", shown(node));
            let help = "write a time as in RFC 3339: `2030-01-31T12:00:00Z`";
            self.report(Problem::new(Severity::Error, at, text).help(help));
            return None;
        }
        Some(message)
    }

    fn wrapper(
        &mut self,
        descriptor: &MessageDescriptor,
        node: &Node,
        at: &Path,
    ) -> Option<DynamicMessage> {
        let field = descriptor.get_field_by_name("value")?;
        let value = self.scalar(&field.kind(), node, at)?;
        let mut message = DynamicMessage::new(descriptor.clone());
        message.set_field(&field, value);
        Some(message)
    }

    fn structure(
        &mut self,
        descriptor: &MessageDescriptor,
        entries: &[(String, Node)],
        at: &Path,
    ) -> DynamicMessage {
        let mut message = DynamicMessage::new(descriptor.clone());
        if let Some(field) = descriptor.get_field_by_name("fields")
            && let Kind::Message(entry) = field.kind()
            && let Kind::Message(value) = entry.map_entry_value_field().kind()
        {
            let mut map = HashMap::new();
            for (key, node) in entries {
                if let Some(read) = self.dynamic_value(&value, node, &at.key(key)) {
                    map.insert(MapKey::String(key.clone()), Value::Message(read));
                }
            }
            message.set_field(&field, Value::Map(map));
        }
        message
    }

    fn list_value(
        &mut self,
        descriptor: &MessageDescriptor,
        items: &[Node],
        at: &Path,
    ) -> DynamicMessage {
        let mut message = DynamicMessage::new(descriptor.clone());
        if let Some(field) = descriptor.get_field_by_name("values")
            && let Kind::Message(value) = field.kind()
        {
            let mut list = Vec::new();
            for (i, node) in items.iter().enumerate() {
                let read = self.dynamic_value(&value, node, &at.index(i));
                list.extend(read.map(Value::Message));
            }
            message.set_field(&field, Value::List(list));
        }
        message
    }

    /// `google.protobuf.Value`: any value. Fractions keep their text, as in Envoy.
    fn dynamic_value(
        &mut self,
        descriptor: &MessageDescriptor,
        node: &Node,
        at: &Path,
    ) -> Option<DynamicMessage> {
        let mut message = DynamicMessage::new(descriptor.clone());
        let nested = |name: &str| descriptor.get_field_by_name(name)?.kind().as_message().cloned();
        match node {
            Node::Null => message.set_field_by_name("null_value", Value::EnumNumber(0)),
            Node::Bool(value) => message.set_field_by_name("bool_value", Value::Bool(*value)),
            Node::Int(value) => set_integer(&mut message, *value),
            Node::Float(value) => match self.plain_scalar(at) {
                Some(text) => {
                    message.set_field_by_name("string_value", Value::String(text.to_owned()));
                }
                None => message.set_field_by_name("number_value", Value::F64(*value)),
            },
            Node::Text(text) => {
                let integer = yaml_1_1_integer(text);
                let doubtful = is_yaml_1_1_boolean(text) || integer.is_some();
                let plain = doubtful && self.plain_scalar(at).is_some();
                match integer {
                    Some(value) if plain => set_integer(&mut message, value),
                    None if plain => {
                        let value = text.to_ascii_lowercase();
                        let value = matches!(value.as_str(), "y" | "yes" | "true" | "on");
                        message.set_field_by_name("bool_value", Value::Bool(value));
                    }
                    _ => message.set_field_by_name("string_value", Value::String(text.clone())),
                }
            }
            Node::Map(entries) => {
                let value = self.structure(&nested("struct_value")?, entries, at);
                message.set_field_by_name("struct_value", Value::Message(value));
            }
            Node::List(items) => {
                let value = self.list_value(&nested("list_value")?, items, at);
                message.set_field_by_name("list_value", Value::Message(value));
            }
        }
        Some(message)
    }
}

/// Seconds and nanoseconds of `1.5s`, with at most nine digits after the point.
fn parse_duration(text: &str) -> Option<(i64, i32)> {
    let number = text.strip_suffix('s')?;
    let (negative, number) = match number.strip_prefix('-') {
        Some(number) => (true, number),
        None => (false, number),
    };
    let (whole, fraction) = match number.split_once('.') {
        Some((_, "")) => return None,
        Some((whole, fraction)) => (whole, fraction),
        None => (number, ""),
    };
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || !digits(whole) || !digits(fraction) || fraction.len() > 9 {
        return None;
    }
    let seconds: i64 = whole.parse().ok()?;
    let nanos: i32 = format!("{fraction:0<9}").parse().ok()?;
    Some(if negative { (-seconds, -nanos) } else { (seconds, nanos) })
}

/// As in Envoy, an integer of more than 32 bits is kept as text.
fn set_integer(message: &mut DynamicMessage, value: i128) {
    match i32::try_from(value) {
        Ok(value) => message.set_field_by_name("number_value", Value::F64(value.into())),
        Err(_) => message.set_field_by_name("string_value", Value::String(value.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::parse_duration;

    #[test]
    fn a_duration_is_a_number_of_seconds() {
        assert_eq!(parse_duration("5s"), Some((5, 0)));
        assert_eq!(parse_duration("0.25s"), Some((0, 250_000_000)));
        assert_eq!(parse_duration("-1.5s"), Some((-1, -500_000_000)));
        assert_eq!(parse_duration("0.000000001s"), Some((0, 1)));
    }

    /// Each of these was refused by Envoy 1.40.
    #[test]
    fn anything_else_is_none() {
        for text in ["5", ".5s", "1ms", "1S", " 1s", "1.s", "1.1234567891s", "1e3s", "+1s", "s", ""]
        {
            assert_eq!(parse_duration(text), None, "{text}");
        }
    }
}
