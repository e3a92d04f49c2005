//! Compiles the cluster types that come with a load balancer of their own: `ORIGINAL_DST`,
//! `envoy.clusters.dynamic_forward_proxy` and `envoy.clusters.aggregate`.

use std::sync::Arc;
use std::time::Duration;

use config::{Path, Problems};
use corvoy_config as config;

use super::compile::{Schema, Sockets};
use super::{Discovery, DynamicForwardProxy};
use crate::metadata::Metadata;
use crate::upstream::aggregate::Aggregate;
use crate::upstream::dns_cache::DnsCache;
use crate::upstream::health_check::EndpointCheck;
use crate::upstream::host::{Endpoint, HealthFlags, Locality};
use crate::upstream::original_dst::{Naming, OriginalDst};
use crate::upstream::override_host::HealthStatus;

/// Envoy's default of `cleanup_interval`.
const CLEANUP_INTERVAL: Duration = Duration::from_secs(5);

/// Envoy's default of `http_header_name`.
const DESTINATION_HEADER: &str = "x-envoy-original-dst-host";

/// A type of cluster with a load balancer of its own.
pub(super) enum Provided<'a> {
    OriginalDst(Naming),
    Aggregate(&'a config::AggregateCluster),
    DynamicForwardProxy(&'a config::DynamicForwardProxyCluster),
}

impl Provided<'_> {
    /// The discovery of the cluster at `at`.
    pub(super) fn discovery(
        self,
        schema: &Schema<'_>,
        at: &Path,
        sockets: &Sockets<'_>,
        panic_threshold: f64,
        problems: &mut Problems,
    ) -> Discovery {
        if !schema.is_provided {
            let message = "this type of cluster has a load balancer of its own: lb_policy must be \
                           CLUSTER_PROVIDED";
            problems.error(&at.field("lb_policy"), message);
        }
        match self {
            Self::OriginalDst(naming) => {
                if schema.load_assignment.is_some() {
                    let message = "ORIGINAL_DST clusters must have no load assignment configured";
                    problems.error(&at.field("load_assignment"), message);
                }
                let interval = schema.cleanup_interval.unwrap_or(CLEANUP_INTERVAL);
                let prefix = schema.name.to_owned();
                let template = endpoint(sockets);
                Discovery::OriginalDst(OriginalDst::new(naming, interval, template, prefix))
            }
            Self::Aggregate(config::AggregateCluster { clusters }) => {
                let clusters = clusters.iter().map(|name| schema.numbers.of(name)).collect();
                Discovery::Aggregate(Aggregate { clusters, panic_threshold })
            }
            Self::DynamicForwardProxy(options) => {
                let template = endpoint(sockets);
                let default_port = if template.transport_socket.tls.is_some() { 443 } else { 80 };
                let at = at.field("cluster_type").field("typed_config");
                let cache = dns_cache(options, schema, &at, problems);
                // Without a cache there is an error.
                let none = || Discovery::Static(Arc::default());
                cache.map_or_else(none, |cache| {
                    let proxy = DynamicForwardProxy { cache, template, default_port };
                    Discovery::DynamicForwardProxy(proxy)
                })
            }
        }
    }
}

fn dns_cache(
    options: &config::DynamicForwardProxyCluster,
    schema: &Schema<'_>,
    at: &Path,
    problems: &mut Problems,
) -> Option<Arc<DnsCache>> {
    // Whether the cluster verifies server names is checked with its HTTP options.
    let config::DynamicForwardProxyCluster { dns_cache_config, allow_insecure_cluster_options: _ } =
        options;
    let Some(cache) = dns_cache_config else {
        problems.missing(at, "a dynamic_forward_proxy cluster needs a dns_cache_config");
        return None;
    };
    let (caches, registry) = schema.dns_caches;
    caches.get(cache, registry, &at.field("dns_cache_config"), problems)
}

/// What all hosts have in common that no configuration describes.
pub(super) fn endpoint(sockets: &Sockets<'_>) -> Endpoint {
    let transport_socket = sockets.of_traffic.of(None, None);
    let of_check = |criteria| Arc::clone(sockets.of_traffic.of(Some(criteria), None));
    Endpoint {
        hostname: String::new(),
        weight: 1,
        priority: 0,
        locality: Locality::default(),
        locality_weight: 0,
        health_flags: HealthFlags::EMPTY,
        health_status: HealthStatus::Unknown,
        check: EndpointCheck {
            transport_socket: sockets.of_checks.map(of_check),
            ..EndpointCheck::default()
        },
        transport_socket: Arc::clone(transport_socket),
        metadata: Arc::new(Metadata::default()),
    }
}

/// `original_dst_lb_config`, at `at`.
pub(super) fn naming_of_cluster(
    schema: Option<&config::OriginalDstLbConfig>,
    at: &Path,
    problems: &mut Problems,
) -> Naming {
    let Some(schema) = schema else { return Naming::default() };
    let config::OriginalDstLbConfig {
        use_http_header,
        http_header_name,
        upstream_port_override,
        metadata_key,
    } = schema;
    if !use_http_header && !http_header_name.is_empty() {
        let message = "no effect without use_http_header: set that to true, or remove the name";
        problems.error(&at.field("http_header_name"), message);
    }
    let header = use_http_header.then_some(http_header_name.as_str());
    naming(header, *upstream_port_override, metadata_key.as_ref())
}

/// The same of `envoy.clusters.original_dst`.
pub(super) fn naming_of_extension(
    schema: &config::OriginalDstCluster,
    at: &Path,
    problems: &mut Problems,
) -> Naming {
    let config::OriginalDstCluster {
        use_http_header,
        http_header_name,
        upstream_port_override,
        metadata_key,
    } = schema.clone();
    let schema = config::OriginalDstLbConfig {
        use_http_header,
        http_header_name,
        upstream_port_override,
        metadata_key,
    };
    naming_of_cluster(Some(&schema), at, problems)
}

fn naming(
    header: Option<&str>,
    port: Option<u32>,
    metadata: Option<&config::MetadataKey>,
) -> Naming {
    let header = header.map(|name| if name.is_empty() { DESTINATION_HEADER } else { name });
    let metadata = metadata.map(|config::MetadataKey { key, path }| {
        let segments = path.iter().map(|config::MetadataKeySegment { key }| key.as_deref());
        let path = segments.map(|key| key.unwrap_or_default().into()).collect();
        (key.as_str().into(), path)
    });
    Naming {
        header: header.map(|name| name.to_ascii_lowercase().into_bytes().into()),
        metadata,
        // The rules of the schema allow no larger one.
        port: port.and_then(|port| u16::try_from(port).ok()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::upstream::compile::tests::{assignment, good, problem};

    fn original_dst(options: &Value) -> Value {
        json!({
            "name": "a",
            "type": "ORIGINAL_DST",
            "lb_policy": "CLUSTER_PROVIDED",
            "original_dst_lb_config": options,
        })
    }

    #[test]
    fn an_original_dst_cluster_says_where_requests_name_their_host() {
        let cluster = good(original_dst(&json!({
            "use_http_header": true,
            "upstream_port_override": 81,
            "metadata_key": {"key": "n", "path": [{"key": "a"}, {"key": "b"}]},
        })));
        let Discovery::OriginalDst(it) = &cluster.discovery else { panic!("not ORIGINAL_DST") };
        assert_eq!(it.cleanup_interval, Duration::from_secs(5));
        let header = b"x-envoy-original-dst-host"[..].into();
        let path = ["a", "b"].map(Into::into).into();
        let metadata = Some(("n".into(), path));
        assert_eq!(it.naming, Naming { header: Some(header), metadata, port: Some(81) });
    }

    #[test]
    fn a_cluster_that_brings_a_load_balancer_needs_the_policy_that_says_so() {
        let mut cluster = original_dst(&json!({}));
        cluster["lb_policy"] = "RANDOM".into();
        assert_eq!(
            problem(cluster),
            "clusters[0].lb_policy: this type of cluster has a load balancer of its own: lb_policy \
             must be CLUSTER_PROVIDED"
        );
        assert_eq!(
            problem(json!({"name": "a", "lb_policy": "CLUSTER_PROVIDED",
                "load_assignment": assignment(&["::1"])})),
            "clusters[0].lb_policy: CLUSTER_PROVIDED needs a type of cluster that has a load balancer \
             of its own"
        );
    }

    #[test]
    fn hosts_of_an_original_dst_cluster_are_not_configured() {
        let mut cluster = original_dst(&json!({}));
        cluster["load_assignment"] = assignment(&["::1"]);
        assert_eq!(
            problem(cluster),
            "clusters[0].load_assignment: ORIGINAL_DST clusters must have no load assignment \
             configured"
        );
        assert_eq!(
            problem(original_dst(&json!({"http_header_name": "x"}))),
            "clusters[0].original_dst_lb_config.http_header_name: no effect without \
             use_http_header: set that to true, or remove the name"
        );
    }
}
