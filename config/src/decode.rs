//! Resources that come while the process runs: from management servers as protobuf, and from files.

use prost::Message as _;
use prost_reflect::{DescriptorError, DescriptorPool, DynamicMessage, Value};

use crate::check::UnknownFields;
use crate::load::{convert, shown};
use crate::schema::{DiscoveryResponse, Message as _, Node};
use crate::{Any, Path, Problem, Problems, Source, check, descriptors, read};

/// Decodes one message after the other. It keeps the descriptors, which take some megabytes.
#[derive(Debug)]
pub struct Decoder {
    pool: DescriptorPool,
}

/// A resource.
#[derive(Debug)]
pub struct Decoded {
    /// `None`: it cannot be used.
    pub message: Option<Any>,
    /// As Envoy prints it.
    pub json: serde_json::Value,
}

/// A `DiscoveryResponse`.
#[derive(Debug)]
pub struct Encoded {
    /// `version_info`
    pub version: String,
    /// Type and bytes of each resource.
    pub resources: Vec<(String, Vec<u8>)>,
}

impl Decoder {
    /// Decodes the descriptors.
    ///
    /// # Errors
    /// Those in this binary are broken.
    pub fn new() -> Result<Self, DescriptorError> {
        Ok(Self { pool: descriptors::pool()? })
    }

    /// Decodes and checks a message in an `Any`. `None` if that is not possible, or there is an error for which
    /// Envoy rejects the whole response; after other errors the message is not there.
    ///
    /// A field that is not in Envoy's API is a warning: as in Envoy, a management server may be newer.
    pub fn decode(
        &self,
        type_url: &str,
        bytes: Vec<u8>,
        problems: &mut Problems,
    ) -> Option<Decoded> {
        let Some(any) = self.pool.get_message_by_name("google.protobuf.Any") else {
            problems.error(&Path::root(), "the descriptors in this binary lack Any");
            return None;
        };
        let mut message = DynamicMessage::new(any);
        message.set_field_by_name("type_url", Value::String(type_url.to_owned()));
        message.set_field_by_name("value", Value::Bytes(bytes.into()));
        check::check(&message, &self.pool, UnknownFields::Warned, problems);
        if problems.has_errors() {
            let is_of_it_alone = problems.errors().all(Problem::is_of_resource_alone);
            let json = is_of_it_alone.then(|| shown(&message, &self.pool).ok()).flatten()?;
            return Some(Decoded { message: None, json });
        }
        let (message, json) = convert(message, &self.pool, problems)?;
        Some(Decoded { message: Some(message), json })
    }

    /// Reads a file with a `DiscoveryResponse`. Its resources are still to be decoded. `None` if it cannot be read.
    pub fn read(&self, source: &Source, problems: &mut Problems) -> Option<Encoded> {
        let Some(descriptor) = self.pool.get_message_by_name(DiscoveryResponse::NAME) else {
            problems.error(&Path::root(), "the descriptors in this binary lack DiscoveryResponse");
            return None;
        };
        let document = source.documents().first()?;
        let message = read::read(document, &descriptor, problems);
        problems.tolerate_unknown_keys();
        let message = message.filter(|_| !problems.has_errors())?;
        let version = message.get_field_by_name("version_info")?.as_str()?.to_owned();
        let resources = message.get_field_by_name("resources")?;
        let any = |value: &Value| {
            let any = value.as_message()?;
            let type_url = any.get_field_by_name("type_url")?.as_str()?.to_owned();
            Some((type_url, any.get_field_by_name("value")?.as_bytes()?.to_vec()))
        };
        let resources = resources.as_list()?.iter().filter_map(any).collect();
        Some(Encoded { version, resources })
    }

    /// The `node` of a bootstrap as protobuf, from its JSON; empty if there is none.
    #[must_use]
    pub fn encode_node(&self, json: &serde_json::Value) -> Vec<u8> {
        let node = self.pool.get_message_by_name(Node::NAME);
        let node = node.and_then(|node| DynamicMessage::deserialize(node, json).ok());
        node.map(|node| node.encode_to_vec()).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use prost::Message as _;
    use prost_reflect::DynamicMessage;
    use serde_json::json;

    use super::{Decoded, Decoder};
    use crate::{Any, Path, Problems};

    const CLUSTER: &str = "type.googleapis.com/envoy.config.cluster.v3.Cluster";
    const SECRET: &str = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret";

    /// A message as a management server sends it.
    fn bytes(decoder: &Decoder, type_url: &str, json: &serde_json::Value) -> Vec<u8> {
        let name = type_url.rsplit('/').next().unwrap();
        let descriptor = decoder.pool.get_message_by_name(name).unwrap();
        DynamicMessage::deserialize(descriptor, json).unwrap().encode_to_vec()
    }

    #[test]
    fn a_resource_is_checked_and_redacted_like_one_in_a_file() {
        let decoder = Decoder::new().unwrap();
        let key = json!({ "inline_string": "secret" });
        let secret = json!({ "name": "a", "tls_certificate": { "private_key": key } });
        let mut problems = Problems::default();
        let encoded = bytes(&decoder, SECRET, &secret);
        let Decoded { message, json } = decoder.decode(SECRET, encoded, &mut problems).unwrap();
        assert!(matches!(message.unwrap(), Any::Secret(secret) if secret.name == "a"));
        assert_eq!(json["@type"], SECRET);
        assert_eq!(json["tls_certificate"]["private_key"]["inline_string"], "[redacted]");
        assert!(problems.is_empty());
        let cluster = json!({ "name": "a", "connect_timeout": "-1s" });
        let encoded = bytes(&decoder, CLUSTER, &cluster);
        assert!(decoder.decode(CLUSTER, encoded, &mut problems).is_none());
        let error = problems.errors().next().unwrap();
        assert_eq!(error.path, Path::root().field("connect_timeout"));
    }

    #[test]
    fn a_field_of_a_newer_management_server_is_a_warning() {
        let decoder = Decoder::new().unwrap();
        let mut encoded = bytes(&decoder, SECRET, &json!({ "name": "a" }));
        encoded.extend([0xA8, 0x3F, 1]); // field 1013, a number
        let mut problems = Problems::default();
        assert!(decoder.decode(SECRET, encoded, &mut problems).is_some());
        let warning = problems.iter().next().unwrap();
        assert_eq!(warning.message, "Secret has no field number 1013");
    }

    #[test]
    fn what_is_not_a_message_is_an_error() {
        let decoder = Decoder::new().unwrap();
        for (type_url, bytes) in [(SECRET, &b"\xFF"[..]), ("a/no.Such", b""), ("", b"")] {
            let mut problems = Problems::default();
            assert!(decoder.decode(type_url, bytes.to_vec(), &mut problems).is_none());
            assert!(problems.has_errors(), "{type_url}");
        }
    }

    #[test]
    fn a_node_is_encoded_with_all_its_fields() {
        let decoder = Decoder::new().unwrap();
        let node = json!({ "id": "a", "client_features": ["b"], "listening_addresses": [{ "pipe": { "path": "c" } }] });
        let encoded = decoder.encode_node(&node);
        let descriptor = decoder.pool.get_message_by_name("envoy.config.core.v3.Node").unwrap();
        let decoded = DynamicMessage::decode(descriptor, &*encoded).unwrap();
        let options = prost_reflect::SerializeOptions::new().use_proto_field_name(true);
        let again =
            decoded.serialize_with_options(serde_json::value::Serializer, &options).unwrap();
        assert_eq!(again, node);
        assert!(decoder.encode_node(&serde_json::Value::Null).is_empty());
    }
}
