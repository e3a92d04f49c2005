use prost::Message as _;
use prost_reflect::{DescriptorPool, DynamicMessage, ReflectMessage as _, SerializeOptions};
use serde::Deserialize;

use crate::check::UnknownFields;
use crate::schema::{Bootstrap, Message};
use crate::{Path, Problem, Problems, Source, check, descriptors, read, redact, structs};

/// A bootstrap, as far as it could be read: complete if there is no error.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The structs.
    pub bootstrap: Bootstrap,
    /// The JSON that Envoy prints for it, for `/config_dump`: the field names of the proto files,
    /// defaults left out, secrets redacted. Null if there is an error.
    pub json: serde_json::Value,
}

/// Reads and checks a bootstrap. Adds all errors and warnings to `problems`. If there are errors,
/// the result only serves to find more of them; it is `None` if nothing could be read.
pub fn load(source: &Source, problems: &mut Problems) -> Option<Loaded> {
    let (bootstrap, json) = read_and_check(source, problems)?;
    Some(Loaded { bootstrap, json })
}

/// Reads and checks any message that Corvoy knows, such as a route configuration in its own file.
/// `None` if there is any error.
pub fn load_as<M: Message>(source: &Source, problems: &mut Problems) -> Option<M> {
    load_with_json(source, problems).map(|(message, _)| message)
}

/// As [`load_as`], with the JSON that Envoy prints for it.
pub fn load_with_json<M: Message>(
    source: &Source,
    problems: &mut Problems,
) -> Option<(M, serde_json::Value)> {
    let read = read_and_check(source, problems)?;
    (!problems.has_errors()).then_some(read)
}

fn read_and_check<M: Message>(
    source: &Source,
    problems: &mut Problems,
) -> Option<(M, serde_json::Value)> {
    match descriptors::pool() {
        Ok(pool) => read_with(&pool, source, problems),
        Err(error) => {
            let text = format!("the descriptors in this binary are broken: {error}");
            problems.error(&Path::root(), text);
            None
        }
    }
}

fn read_with<M: Message>(
    pool: &DescriptorPool,
    source: &Source,
    problems: &mut Problems,
) -> Option<(M, serde_json::Value)> {
    let root = Path::root();
    let Some(descriptor) = pool.get_message_by_name(M::NAME) else {
        problems.error(&root, format!("the descriptors in this binary lack {}", M::NAME));
        return None;
    };
    let mut merged: Option<DynamicMessage> = None;
    let mut is_all_there = true;
    for document in source.documents() {
        let read = read::read(document, &descriptor, problems);
        is_all_there &= read.is_some();
        match (&mut merged, read) {
            (Some(merged), Some(read)) => {
                // The wire format is how protobuf itself defines merging.
                if let Err(error) = merged.merge(read.encode_to_vec().as_slice()) {
                    problems.error(&root, format!("cannot merge {}: {error}", document.name));
                }
            }
            (None, read) => merged = read,
            (Some(_), None) => {}
        }
    }
    let Some(message) = merged else {
        if problems.is_empty() {
            problems.error(&root, "there is no configuration");
        }
        return None;
    };
    check::check(&message, pool, UnknownFields::Refused, problems);
    if problems.has_errors() {
        return what_fits(message, source, is_all_there, problems);
    }
    convert(message, pool, problems)
}

/// The struct of a checked message, and the JSON that Envoy prints for it.
pub(crate) fn convert<M: for<'de> Deserialize<'de>>(
    message: DynamicMessage,
    pool: &DescriptorPool,
    problems: &mut Problems,
) -> Option<(M, serde_json::Value)> {
    let root = Path::root();
    let json = shown(&message, pool);
    match (structs::decode(message), json) {
        (Ok(message), Ok(json)) => Some((message, json)),
        (Err(error), _) => {
            problems.error(
                &root,
                format!("internal error: the checked message has no struct: {error}"),
            );
            None
        }
        (_, Err(error)) => {
            problems
                .error(&root, format!("internal error: the checked message has no JSON: {error}"));
            None
        }
    }
}

/// A message as Envoy prints it, secrets redacted.
pub(crate) fn shown(
    message: &DynamicMessage,
    pool: &DescriptorPool,
) -> Result<serde_json::Value, serde_json::Error> {
    let options = SerializeOptions::new().use_proto_field_name(true);
    let mut json = message.serialize_with_options(serde_json::value::Serializer, &options)?;
    structs::write_whole_numbers(&mut json);
    redact::redact(&mut json, &message.descriptor(), pool);
    Ok(json)
}

/// The part of a message with errors that can be compiled.
fn what_fits<M: Message>(
    message: DynamicMessage,
    source: &Source,
    is_all_there: bool,
    problems: &mut Problems,
) -> Option<(M, serde_json::Value)> {
    // In a text that is merged over others, the elements of a list are counted from 0 again.
    let over = source.documents().iter().skip(1);
    let is_merged_over = |problem: &Problem| {
        over.clone().any(|document| problem.document.as_ref() == Some(&document.name))
    };
    let fitting = if is_all_there && !problems.errors().any(is_merged_over) {
        structs::decode_what_fits(message).ok()
    } else {
        None
    };
    if fitting.is_none() {
        problems.not_checked("the values of the rest of the configuration");
    }
    problems.end_of_reading();
    Some((fitting?, serde_json::Value::Null))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::read_with;
    use crate::{Bootstrap, Problems, Source, descriptors, render};

    /// Every field of a real bootstrap, and of its `typed_config`s, gets every kind of value.
    #[test]
    fn no_value_in_any_field_panics_or_is_dropped_without_an_error() {
        let pool = descriptors::pool().unwrap();
        let text = include_str!("../tests/cases/seed-c.yaml");
        let bootstrap: Value = serde_yaml::from_str(text).unwrap();
        let mut places = Vec::new();
        collect(&bootstrap, &mut String::new(), &mut places);
        assert!(places.len() > 60);
        for place in &places {
            for value in intruders() {
                let mut changed = bootstrap.clone();
                *changed.pointer_mut(place).unwrap() = value.clone();
                let source = Source::new().merge_yaml("test", changed.to_string());
                let mut problems = Problems::default();
                let read = read_with::<Bootstrap>(&pool, &source, &mut problems);
                assert!(read.is_some() || problems.has_errors(), "{value} at {place}");
                assert_eq!(render(&problems, &source).is_empty(), problems.is_empty());
            }
        }
    }

    fn collect(value: &Value, at: &mut String, places: &mut Vec<String>) {
        let length = at.len();
        places.push(at.clone());
        let children: Vec<(String, &Value)> = match value {
            Value::Object(map) => map.iter().map(|(key, value)| (key.clone(), value)).collect(),
            Value::Array(list) => {
                list.iter().enumerate().map(|(i, value)| (i.to_string(), value)).collect()
            }
            _ => Vec::new(),
        };
        for (key, value) in children {
            at.push('/');
            at.push_str(&key.replace('~', "~0").replace('/', "~1"));
            collect(value, at, places);
            at.truncate(length);
        }
    }

    fn intruders() -> Vec<Value> {
        vec![
            json!(null),
            json!(true),
            json!(-1),
            json!(99_999_999_999_u64),
            json!(1.5),
            json!(""),
            json!("é\0\n"),
            json!("-5s"),
            json!([]),
            json!([null, "x", {}, [[]]]),
            json!({}),
            json!({"@type": "type.googleapis.com/google.protobuf.Duration", "value": "1s"}),
        ]
    }
}
