//! The identity of this proxy.

use crate::upstream::host::Locality;

/// The identity of this proxy: the bootstrap's `node`, which flags may override.
#[derive(Clone, Debug, Default)]
pub struct Node {
    /// `node.id`
    pub id: String,
    /// `node.cluster`
    pub cluster: String,
    /// `node.metadata`
    pub metadata: serde_json::Value,
    /// `node.locality.region`
    pub region: String,
    /// `node.locality.zone`
    pub zone: String,
    /// `node.locality.sub_zone`
    pub sub_zone: String,
}

impl Node {
    /// Where the proxy runs.
    #[must_use]
    pub fn locality(&self) -> Locality {
        let Self { region, zone, sub_zone, .. } = self;
        Locality { region: region.clone(), zone: zone.clone(), sub_zone: sub_zone.clone() }
    }

    /// The `node` of `/server_info`.
    pub(crate) fn json(&self) -> serde_json::Value {
        let Self { id, cluster, metadata, region, zone, sub_zone } = self;
        serde_json::json!({
            "id": id,
            "cluster": cluster,
            "metadata": metadata,
            "locality": { "region": region, "zone": zone, "sub_zone": sub_zone },
            "user_agent_name": "corvoy",
        })
    }
}
