//! `envoy/service/discovery/v3`: what a file with resources contains.

use super::{Any, schema};

schema! {
    const DISCOVERY;

    struct DiscoveryResponse = "envoy.service.discovery.v3.DiscoveryResponse" {
        version_info: String,
        resources: Vec<Any>,
    } harmless {
        canary: "not implemented by Envoy either",
        control_plane: "for the log of a management server",
        nonce: "for the answer to a management server",
        type_url: "each resource has its type",
    }

    struct Resource = "envoy.service.discovery.v3.Resource" {
        resource: Option<Any>,
    } harmless {
        name: "the resource has its own name",
        version: "a resource is compared with its predecessor",
    }
}
