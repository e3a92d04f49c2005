//! Converts a checked message to its struct in `schema`.
//!
//! prost-reflect's values go straight to serde, without JSON in between, so durations, bytes and
//! 64-bit numbers keep their values. Fields that the struct lacks are harmless ones, and skipped.

use std::fmt::Display;

use prost_reflect::{DescriptorPool, DynamicMessage, Kind, MapKey, ReflectMessage as _, Value};
use serde::Deserialize;
use serde::de::value::{MapDeserializer, SeqDeserializer, StringDeserializer};
use serde::de::{self, DeserializeSeed, IntoDeserializer as _, MapAccess, Visitor};
use serde::forward_to_deserialize_any;

use crate::check::{open_any, seconds_and_nanos};
use crate::schema::{Any, Message};

/// Converts `message` to `M`. An error means that the check accepted something that it should not.
pub(crate) fn decode<M: for<'de> Deserialize<'de>>(message: DynamicMessage) -> Result<M, Error> {
    decode_with(message, Scope::All)
}

/// Converts the part of `message` that fits `M`: the check has reported the rest.
pub(crate) fn decode_what_fits<M: Message>(message: DynamicMessage) -> Result<M, Error> {
    decode_with(message, Scope::WhatFits)
}

fn decode_with<M: for<'de> Deserialize<'de>>(
    message: DynamicMessage,
    scope: Scope,
) -> Result<M, Error> {
    let pool = message.descriptor().parent_pool().clone();
    let kind = Kind::Message(message.descriptor());
    let value = Value::Message(message);
    M::deserialize(Reflected { value: &value, kind: &kind, pool: &pool, scope })
}

/// Which fields of a message must exist in its struct.
#[derive(Clone, Copy)]
enum Scope {
    All,
    WhatFits,
}

/// Whether a struct can hold the value itself; inside a message, each field is checked separately.
fn fits(value: &Value, kind: &Kind, pool: &DescriptorPool) -> bool {
    match value {
        Value::EnumNumber(number) => {
            kind.as_enum().is_some_and(|kind| kind.get_value(*number).is_some())
        }
        Value::List(items) => items.iter().all(|item| fits(item, kind, pool)),
        Value::Map(entries) => {
            let kind = kind.as_message().map(|entry| entry.map_entry_value_field().kind());
            kind.is_some_and(|kind| entries.values().all(|value| fits(value, &kind, pool)))
        }
        Value::Message(message) => match message.descriptor().full_name() {
            "google.protobuf.Any" => open_any(message, pool)
                .is_some_and(|inner| Any::TYPES.contains(&inner.descriptor().full_name())),
            "google.protobuf.Duration" => {
                let (seconds, nanos) = seconds_and_nanos(message);
                seconds >= 0 && nanos >= 0
            }
            _ => true,
        },
        _ => true,
    }
}

/// Protobuf's JSON writes a whole floating-point number without a fraction: `1`, not `1.0`.
pub(crate) fn write_whole_numbers(json: &mut serde_json::Value) {
    match json {
        serde_json::Value::Array(items) => items.iter_mut().for_each(write_whole_numbers),
        serde_json::Value::Number(number) => {
            // Up to where floating-point numbers are exact.
            let whole = number.as_f64().filter(|value| value.abs() < 2_f64.powi(53));
            #[expect(clippy::cast_possible_truncation, reason = "it is whole and within 2^53")]
            if let Some(value) = whole.filter(|value| value.fract() == 0.0) {
                *number = (value as i64).into();
            }
        }
        serde_json::Value::Object(fields) => fields.values_mut().for_each(write_whole_numbers),
        _ => {}
    }
}

/// A value and its type.
#[derive(Clone, Copy)]
struct Reflected<'m> {
    value: &'m Value,
    kind: &'m Kind,
    pool: &'m DescriptorPool,
    scope: Scope,
}

impl<'m> Reflected<'m> {
    fn message<'de, V: Visitor<'de>>(
        self,
        message: &DynamicMessage,
        visitor: V,
    ) -> Result<V::Value, Error> {
        let descriptor = message.descriptor();
        match descriptor.full_name() {
            "google.protobuf.Any" => {
                let inner = open_any(message, self.pool);
                let inner = inner.ok_or_else(|| Error("an Any without a type".to_owned()))?;
                let name = inner.descriptor().full_name().to_owned();
                let kind = Kind::Message(inner.descriptor());
                let value = Value::Message(inner);
                let content = Reflected { value: &value, kind: &kind, ..self };
                visitor.visit_enum(Variant { name, content })
            }
            "google.protobuf.Duration" => {
                let (seconds, nanos) = seconds_and_nanos(message);
                let pairs = [("secs", seconds), ("nanos", nanos.into())];
                visitor.visit_map(MapDeserializer::new(pairs.into_iter()))
            }
            "google.protobuf.Struct" | "google.protobuf.Value" | "google.protobuf.ListValue" => {
                let mut json = serde_json::to_value(message).map_err(de::Error::custom)?;
                write_whole_numbers(&mut json);
                de::Deserializer::deserialize_any(json, visitor).map_err(de::Error::custom)
            }
            name if name.starts_with("google.protobuf.") && name.ends_with("Value") => {
                let field = descriptor.get_field_by_name("value");
                let field = field.ok_or_else(|| Error(format!("{name} wraps nothing")))?;
                let (value, kind) = (message.get_field(&field), field.kind());
                Reflected { value: &value, kind: &kind, ..self }.any(visitor)
            }
            _ => {
                let mut fields: Vec<_> = message.fields().collect();
                if matches!(self.scope, Scope::WhatFits) {
                    fields.retain(|(field, value)| fits(value, &field.kind(), self.pool));
                }
                let fields = fields.into_iter();
                visitor.visit_map(Fields { fields, next: None, pool: self.pool, scope: self.scope })
            }
        }
    }

    fn any<'de, V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.value {
            Value::Bool(value) => visitor.visit_bool(*value),
            Value::I32(value) => visitor.visit_i32(*value),
            Value::I64(value) => visitor.visit_i64(*value),
            Value::U32(value) => visitor.visit_u32(*value),
            Value::U64(value) => visitor.visit_u64(*value),
            Value::F32(value) => visitor.visit_f32(*value),
            Value::F64(value) => visitor.visit_f64(*value),
            Value::String(value) => visitor.visit_str(value),
            Value::Bytes(value) => visitor.visit_seq(SeqDeserializer::new(value.iter().copied())),
            Value::EnumNumber(number) => {
                let value = self.kind.as_enum().and_then(|kind| kind.get_value(*number));
                let name = value.map(|value| value.name().to_owned());
                let name = name.ok_or_else(|| Error(format!("{number} is not in its enum")))?;
                let name: StringDeserializer<Error> = name.into_deserializer();
                visitor.visit_enum(name)
            }
            Value::Message(message) => self.message(message, visitor),
            Value::List(items) => {
                let items = items.iter().map(move |value| Reflected { value, ..self });
                visitor.visit_seq(SeqDeserializer::new(items))
            }
            Value::Map(entries) => {
                let entry =
                    self.kind.as_message().map(|entry| entry.map_entry_value_field().kind());
                let kind = entry.ok_or_else(|| Error("a map of nothing".to_owned()))?;
                let kind = &kind;
                let entries = entries
                    .iter()
                    .map(|(key, value)| (key_text(key), Reflected { value, kind, ..self }));
                visitor.visit_map(MapDeserializer::new(entries))
            }
        }
    }
}

impl<'de> de::Deserializer<'de> for Reflected<'_> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.any(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_unit()
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit
        unit_struct seq tuple tuple_struct map struct enum identifier
    }
}

impl<'de> de::IntoDeserializer<'de, Error> for Reflected<'_> {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

/// The fields that are set, by their names in the proto file.
struct Fields<'m> {
    fields: std::vec::IntoIter<(prost_reflect::FieldDescriptor, &'m Value)>,
    next: Option<(Kind, &'m Value)>,
    pool: &'m DescriptorPool,
    scope: Scope,
}

impl<'de> MapAccess<'de> for Fields<'_> {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Error> {
        let Some((field, value)) = self.fields.next() else { return Ok(None) };
        self.next = Some((field.kind(), value));
        seed.deserialize(de::value::StrDeserializer::new(field.name())).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Error> {
        let next = self.next.take();
        let (kind, value) = next.ok_or_else(|| Error("a value before its key".to_owned()))?;
        seed.deserialize(Reflected { value, kind: &kind, pool: self.pool, scope: self.scope })
    }
}

/// A message in an Any: a variant of the enum `Any`, named by its type.
struct Variant<'m> {
    name: String,
    content: Reflected<'m>,
}

impl<'de, 'm> de::EnumAccess<'de> for Variant<'m> {
    type Error = Error;
    type Variant = Reflected<'m>;

    fn variant_seed<V: DeserializeSeed<'de>>(
        self,
        seed: V,
    ) -> Result<(V::Value, Reflected<'m>), Error> {
        let name: StringDeserializer<Error> = self.name.into_deserializer();
        Ok((seed.deserialize(name)?, self.content))
    }
}

impl<'de> de::VariantAccess<'de> for Reflected<'_> {
    type Error = Error;

    fn unit_variant(self) -> Result<(), Error> {
        Ok(())
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, Error> {
        seed.deserialize(self)
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, Error> {
        self.any(visitor)
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.any(visitor)
    }
}

/// A struct does not fit its message.
#[derive(Debug)]
pub(crate) struct Error(String);

impl Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Error {}

impl de::Error for Error {
    fn custom<T: Display>(message: T) -> Self {
        Self(message.to_string())
    }
}

fn key_text(key: &MapKey) -> String {
    match key {
        MapKey::String(key) => key.clone(),
        MapKey::Bool(key) => key.to_string(),
        MapKey::I32(key) => key.to_string(),
        MapKey::I64(key) => key.to_string(),
        MapKey::U32(key) => key.to_string(),
        MapKey::U64(key) => key.to_string(),
    }
}
