//! The messages between a proxy and its management server: `envoy/service/discovery/v3/discovery.proto`.
//!
//! Only what is read or written is here. A node is bytes: the same ones in each request.

use prost::Message;
use prost_types::{Any, Duration, Struct};

#[derive(Clone, PartialEq, Message)]
pub(super) struct DiscoveryRequest {
    #[prost(string, tag = "1")]
    pub(super) version_info: String,
    #[prost(bytes = "vec", optional, tag = "2")]
    pub(super) node: Option<Vec<u8>>,
    #[prost(string, repeated, tag = "3")]
    pub(super) resource_names: Vec<String>,
    #[prost(string, tag = "4")]
    pub(super) type_url: String,
    #[prost(string, tag = "5")]
    pub(super) response_nonce: String,
    #[prost(message, optional, tag = "6")]
    pub(super) error_detail: Option<Status>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct DiscoveryResponse {
    #[prost(string, tag = "1")]
    pub(super) version_info: String,
    #[prost(message, repeated, tag = "2")]
    pub(super) resources: Vec<Any>,
    #[prost(string, tag = "4")]
    pub(super) type_url: String,
    #[prost(string, tag = "5")]
    pub(super) nonce: String,
    #[prost(message, optional, tag = "6")]
    pub(super) control_plane: Option<ControlPlane>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct DeltaDiscoveryRequest {
    #[prost(bytes = "vec", optional, tag = "1")]
    pub(super) node: Option<Vec<u8>>,
    #[prost(string, tag = "2")]
    pub(super) type_url: String,
    #[prost(string, repeated, tag = "3")]
    pub(super) resource_names_subscribe: Vec<String>,
    #[prost(string, repeated, tag = "4")]
    pub(super) resource_names_unsubscribe: Vec<String>,
    #[prost(btree_map = "string, string", tag = "5")]
    pub(super) initial_resource_versions: std::collections::BTreeMap<String, String>,
    #[prost(string, tag = "6")]
    pub(super) response_nonce: String,
    #[prost(message, optional, tag = "7")]
    pub(super) error_detail: Option<Status>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct DeltaDiscoveryResponse {
    #[prost(string, tag = "1")]
    pub(super) system_version_info: String,
    #[prost(message, repeated, tag = "2")]
    pub(super) resources: Vec<WrappedResource>,
    #[prost(string, tag = "4")]
    pub(super) type_url: String,
    #[prost(string, repeated, tag = "6")]
    pub(super) removed_resources: Vec<String>,
    #[prost(string, tag = "5")]
    pub(super) nonce: String,
    #[prost(message, optional, tag = "7")]
    pub(super) control_plane: Option<ControlPlane>,
}

/// `envoy.service.discovery.v3.Resource`
#[derive(Clone, PartialEq, Message)]
pub(super) struct WrappedResource {
    #[prost(string, tag = "1")]
    pub(super) version: String,
    /// None: the one with this version is still valid.
    #[prost(message, optional, tag = "2")]
    pub(super) resource: Option<Any>,
    #[prost(string, tag = "3")]
    pub(super) name: String,
    #[prost(message, optional, tag = "6")]
    pub(super) ttl: Option<Duration>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct ControlPlane {
    #[prost(string, tag = "1")]
    pub(super) identifier: String,
}

/// `google.rpc.Status`
#[derive(Clone, PartialEq, Message)]
pub(super) struct Status {
    #[prost(int32, tag = "1")]
    pub(super) code: i32,
    #[prost(string, tag = "2")]
    pub(super) message: String,
}

impl Status {
    /// Why a response is rejected.
    //= envoy: INTERNAL, and at most 4096 bytes of the error
    pub(super) fn rejected(why: &str) -> Self {
        const INTERNAL: i32 = 13;
        const BYTES_MAX: usize = 4096;
        let message = match why.get(..why.floor_char_boundary(BYTES_MAX)) {
            Some(start) if start.len() < why.len() => format!("{start}...(truncated)"),
            _ => why.to_owned(),
        };
        Self { code: INTERNAL, message }
    }
}

/// What a proxy adds to the `node` of its bootstrap: `envoy.config.core.v3.Node`. Of a message that occurs twice
/// protobuf merges the fields, so the bytes of this follow those of the bootstrap.
#[derive(Clone, PartialEq, Message)]
pub(super) struct NodeAdditions {
    #[prost(string, tag = "1")]
    pub(super) id: String,
    #[prost(string, tag = "2")]
    pub(super) cluster: String,
    #[prost(message, optional, tag = "4")]
    pub(super) locality: Option<Locality>,
    #[prost(string, tag = "6")]
    pub(super) user_agent_name: String,
    #[prost(message, optional, tag = "8")]
    pub(super) user_agent_build_version: Option<BuildVersion>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Locality {
    #[prost(string, tag = "1")]
    pub(super) region: String,
    #[prost(string, tag = "2")]
    pub(super) zone: String,
    #[prost(string, tag = "3")]
    pub(super) sub_zone: String,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct BuildVersion {
    #[prost(message, optional, tag = "1")]
    pub(super) version: Option<SemanticVersion>,
    #[prost(message, optional, tag = "2")]
    pub(super) metadata: Option<Struct>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct SemanticVersion {
    #[prost(uint32, tag = "1")]
    pub(super) major_number: u32,
    #[prost(uint32, tag = "2")]
    pub(super) minor_number: u32,
    #[prost(uint32, tag = "3")]
    pub(super) patch: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_reason_is_cut_between_two_characters() {
        assert_eq!(Status::rejected("why").message, "why");
        let long = Status::rejected(&"ä".repeat(3000)).message;
        assert_eq!(long, format!("{}...(truncated)", "ä".repeat(2048)));
    }
}
