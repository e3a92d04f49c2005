//! Decodes what management servers send, and encodes the node that they get.

use corvoy_config as config;
use prost::Message as _;
use prost_types::value::Kind;
use prost_types::{Any, Struct, Value};

use super::messages::{BuildVersion, Locality, NodeAdditions, SemanticVersion};
use crate::config_source::compile::Resource;
use crate::node::Node;

/// Decodes resources.
#[derive(Debug)]
pub(super) struct Decoder(config::Decoder);

impl Decoder {
    /// None: the descriptors in this binary are broken.
    pub(super) fn new() -> Option<Self> {
        config::Decoder::new().ok().map(Self)
    }

    /// As [`Resource::decode`].
    ///
    /// # Errors
    /// The whole response cannot be used: in words.
    pub(super) fn resource(&self, any: Any) -> Result<Resource, String> {
        let Any { type_url, value } = any;
        Resource::decode(&self.0, &type_url, value)
    }

    /// The `configured` node, with the names that flags may have changed, and with the name and version of this
    /// program. `version` is `MAJOR.MINOR.PATCH`, and whatever follows.
    pub(super) fn node(
        &self,
        configured: &serde_json::Value,
        node: &Node,
        version: &str,
    ) -> Vec<u8> {
        let mut encoded = self.0.encode_node(configured);
        encoded.extend(additions(node, version).encode_to_vec());
        encoded
    }
}

fn additions(node: &Node, version: &str) -> NodeAdditions {
    let Node { id, cluster, metadata: _, region, zone, sub_zone } = node;
    let mut numbers = version.split(['.', '-', '+', ' ']).map_while(|part| part.parse().ok());
    let mut number = || numbers.next().unwrap_or(0);
    let release =
        SemanticVersion { major_number: number(), minor_number: number(), patch: number() };
    let text = Value { kind: Some(Kind::StringValue(version.to_owned())) };
    let metadata = Struct { fields: [("version".to_owned(), text)].into() };
    let locality = [region, zone, sub_zone].into_iter().any(|name| !name.is_empty());
    let locality = locality.then(|| Locality {
        region: region.clone(),
        zone: zone.clone(),
        sub_zone: sub_zone.clone(),
    });
    NodeAdditions {
        id: id.clone(),
        cluster: cluster.clone(),
        locality,
        user_agent_name: "corvoy".to_owned(),
        user_agent_build_version: Some(BuildVersion {
            version: Some(release),
            metadata: Some(metadata),
        }),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn flags_and_the_version_are_in_the_node() {
        let decoder = Decoder::new().unwrap();
        let configured = json!({ "id": "a", "cluster": "b", "client_features": ["f"] });
        let node =
            Node { id: "flag".into(), cluster: "b".into(), zone: "z".into(), ..Node::default() };
        let encoded = decoder.node(&configured, &node, "1.2.3-dev");
        let merged = NodeAdditions::decode(&*encoded).unwrap();
        assert_eq!((&*merged.id, &*merged.cluster), ("flag", "b"));
        assert_eq!(merged.locality.unwrap().zone, "z");
        let version = merged.user_agent_build_version.unwrap().version.unwrap();
        assert_eq!((version.major_number, version.minor_number, version.patch), (1, 2, 3));
        // Field 10 comes from the bootstrap.
        assert!(encoded.windows(3).any(|bytes| bytes == [0x52, 1, b'f']));
    }
}
