use prost::Message as _;
use prost_reflect::{DynamicMessage, SerializeOptions};

use crate::schema::{Bootstrap, Message};
use crate::{Path, Problems, Source, check, descriptors, read, structs};

/// A bootstrap that passed every check.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// What it says.
    pub bootstrap: Bootstrap,
    /// The same as Envoy prints it, for `/config_dump`: the field names of the proto files, defaults
    /// left out.
    pub json: serde_json::Value,
}

/// Reads and checks a bootstrap. `None` if there is any error, all of which are in `problems` then;
/// warnings are there in any case.
pub fn load(source: &Source, problems: &mut Problems) -> Option<Loaded> {
    let (bootstrap, json) = read_and_check(source, problems)?;
    Some(Loaded { bootstrap, json })
}

/// As [`load`], for any message that Corvoy knows: a route configuration of its own file, say.
pub fn load_as<M: Message>(source: &Source, problems: &mut Problems) -> Option<M> {
    read_and_check(source, problems).map(|(message, _)| message)
}

fn read_and_check<M: Message>(
    source: &Source,
    problems: &mut Problems,
) -> Option<(M, serde_json::Value)> {
    let root = Path::root();
    let pool = match descriptors::pool() {
        Ok(pool) => pool,
        Err(error) => {
            problems.error(&root, format!("the descriptors in this binary are broken: {error}"));
            return None;
        }
    };
    let Some(descriptor) = pool.get_message_by_name(M::NAME) else {
        problems.error(&root, format!("the descriptors in this binary lack {}", M::NAME));
        return None;
    };
    let mut merged: Option<DynamicMessage> = None;
    for document in source.documents() {
        let read = read::read(document, &descriptor, problems);
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
    check::check(&message, &pool, problems);
    if problems.has_errors() {
        return None;
    }
    let options = SerializeOptions::new().use_proto_field_name(true);
    let json = message.serialize_with_options(serde_json::value::Serializer, &options);
    match (structs::decode(&message), json) {
        (Ok(message), Ok(json)) => Some((message, json)),
        (Err(error), _) => {
            problems.error(&root, format!("this passed all checks and is still wrong: {error}"));
            None
        }
        (_, Err(error)) => {
            problems.error(&root, format!("this passed all checks and has no JSON: {error}"));
            None
        }
    }
}
