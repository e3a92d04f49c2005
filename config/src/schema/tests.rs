use prost_reflect::{DescriptorPool, DynamicMessage, FieldDescriptor, Kind, MapKey, Value};

use super::{Coverage, coverage};
use crate::{Any, descriptors};

/// An `Any` that has only a type.
fn any(pool: &DescriptorPool, name: &str) -> Value {
    let any = pool.get_message_by_name("google.protobuf.Any").unwrap();
    let mut any = DynamicMessage::new(any);
    any.set_field_by_name("type_url", Value::String(format!("type.googleapis.com/{name}")));
    Value::Message(any)
}

/// Values of a field that its struct has to accept: each value of an enum, one set value otherwise.
fn samples(pool: &DescriptorPool, kind: &Kind) -> Vec<Value> {
    match kind {
        Kind::Enum(values) => {
            values.values().map(|value| Value::EnumNumber(value.number())).collect()
        }
        Kind::Message(message) if message.full_name() == "google.protobuf.Any" => {
            Any::TYPES.iter().map(|name| any(pool, name)).collect()
        }
        Kind::Bool => vec![Value::Bool(true)],
        Kind::Bytes => vec![Value::Bytes(b"x".as_slice().into())],
        Kind::Double => vec![Value::F64(0.5)],
        Kind::Int64 => vec![Value::I64(i64::MIN)],
        Kind::String => vec![Value::String("x".to_owned())],
        Kind::Uint32 => vec![Value::U32(u32::MAX)],
        Kind::Uint64 => vec![Value::U64(u64::MAX)],
        other => vec![Value::default_value(other)],
    }
}

fn with(field: &FieldDescriptor, value: Value) -> Value {
    if field.is_list() {
        Value::List(vec![value])
    } else if field.is_map() {
        Value::Map([(MapKey::String("x".to_owned()), value)].into())
    } else {
        value
    }
}

fn each(test: impl Fn(&DescriptorPool, &Coverage)) {
    let pool = descriptors::pool().unwrap();
    for entry in coverage() {
        test(&pool, entry);
    }
}

#[test]
fn every_message_and_field_of_the_schema_exists_in_envoys_api() {
    each(|pool, entry| {
        let message = pool.get_message_by_name(entry.message).expect(entry.message);
        for field in entry.done().chain(entry.harmless.iter().map(|(name, _)| *name)) {
            assert!(message.get_field_by_name(field).is_some(), "{}.{field}", entry.message);
        }
        for (field, _) in entry.harmless {
            assert!(entry.done().all(|done| done != *field), "{}.{field}", entry.message);
        }
    });
}

#[test]
fn every_message_in_a_struct_has_a_struct() {
    each(|pool, entry| {
        let message = pool.get_message_by_name(entry.message).unwrap();
        for name in entry.done() {
            let field = message.get_field_by_name(name).unwrap();
            let Kind::Message(held) = field.kind() else { continue };
            let covered = coverage().any(|entry| entry.message == held.full_name());
            let known = held.package_name() == "google.protobuf" || held.is_map_entry();
            assert!(covered || known, "{}.{name} is a {}", entry.message, held.full_name());
        }
    });
}

#[test]
fn every_struct_accepts_every_field_of_its_message() {
    each(|pool, entry| {
        let message = pool.get_message_by_name(entry.message).unwrap();
        (entry.fits)(DynamicMessage::new(message.clone())).expect(entry.message);
        for name in entry.done() {
            let field = message.get_field_by_name(name).unwrap();
            let kind = match field.kind() {
                Kind::Message(map) if map.is_map_entry() => map.map_entry_value_field().kind(),
                kind => kind,
            };
            for value in samples(pool, &kind) {
                let mut sample = DynamicMessage::new(message.clone());
                sample.set_field(&field, with(&field, value.clone()));
                let fits = (entry.fits)(sample);
                assert!(fits.is_ok(), "{}.{name} = {value:?}: {fits:?}", entry.message);
            }
        }
    });
}
