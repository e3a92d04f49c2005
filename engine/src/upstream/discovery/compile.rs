//! Compiles `type`, `cluster_type`, `load_assignment` and the `dns_*` fields of a cluster into a
//! [`Discovery`].

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use config::{Path, Problems};
use corvoy_config as config;

use crate::address::{self, Address, Pipe};
use crate::common_compile;
use crate::common_compile::check_word;
use crate::stats::Registry;
use crate::upstream::discovery::eds_compile;
use crate::upstream::discovery::provided_compile::{self, Provided};
use crate::upstream::discovery::resolver_compile;
use crate::upstream::discovery::{
    Discovery, Dns, FailureRefresh, LookupFamily, Refresh, Semantics, Target,
};
use crate::upstream::dns_cache::compile::DnsCaches;
use crate::upstream::health_check::compile as health_check;
use crate::upstream::host::{Endpoint, HealthFlags, Host, Locality};
use crate::upstream::host_set::{DistributionRules, HostSet};
use crate::upstream::numbers::Numbers;
use crate::upstream::override_host::HealthStatus;
use crate::upstream::transport_socket::{self, TransportSocket, TransportSockets};

/// The fields of a cluster about discovery.
pub(in crate::upstream) struct Schema<'a> {
    pub(in crate::upstream) kind: Option<config::DiscoveryType>,
    pub(in crate::upstream) custom: Option<&'a config::CustomClusterType>,
    pub(in crate::upstream) load_assignment: Option<&'a config::ClusterLoadAssignment>,
    pub(in crate::upstream) eds: Option<&'a config::EdsClusterConfig>,
    pub(in crate::upstream) original_dst: Option<&'a config::OriginalDstLbConfig>,
    pub(in crate::upstream) cleanup_interval: Option<Duration>,
    /// Whether the policy is the load balancer that the type of the cluster comes with.
    pub(in crate::upstream) is_provided: bool,
    /// The numbers of clusters.
    pub(in crate::upstream) numbers: &'a Numbers,
    /// The DNS caches that are in use, and what their stats belong to.
    pub(in crate::upstream) dns_caches: (&'a DnsCaches, &'a Registry),
    /// The name of the cluster.
    pub(in crate::upstream) name: &'a str,
    pub(in crate::upstream) dns: DnsFields<'a>,
}

/// The `dns_*` fields of the cluster or of `DnsCluster`.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(in crate::upstream) struct DnsFields<'a> {
    pub(in crate::upstream) refresh_rate: Option<Duration>,
    pub(in crate::upstream) jitter: Option<Duration>,
    /// base_interval and max_interval.
    pub(in crate::upstream) failure_refresh_rate: Option<(Option<Duration>, Option<Duration>)>,
    pub(in crate::upstream) respect_ttl: bool,
    pub(in crate::upstream) min_refresh_rate: Option<Duration>,
    pub(in crate::upstream) lookup_family: Option<LookupFamily>,
    pub(in crate::upstream) resolver: Option<&'a config::TypedExtensionConfig>,
}

/// What carries the connections to endpoints.
pub(in crate::upstream) struct Sockets<'a> {
    pub(in crate::upstream) of_traffic: &'a TransportSockets,
    /// `transport_socket_match_criteria` of the health check: selects what carries checks.
    pub(in crate::upstream) of_checks: Option<&'a serde_json::Value>,
}

/// The type of a cluster.
enum Kind<'a> {
    Static,
    Eds,
    Provided(Provided<'a>),
    Dns {
        semantics: Semantics,
        fields: DnsFields<'a>,
        /// The path of the message with the fields.
        at: Path,
    },
}

/// The discovery of the cluster at `at`. The hosts have stats for `shards` shards.
pub(in crate::upstream) fn discovery(
    schema: &Schema<'_>,
    at: &Path,
    sockets: &Sockets<'_>,
    rules: &DistributionRules,
    shards: usize,
    problems: &mut Problems,
) -> Discovery {
    let kind = match kind(schema, at, problems) {
        Some(Kind::Eds) => {
            let eds = eds_compile::eds(schema, at, sockets, problems);
            let none = || Discovery::Static(Arc::new(HostSet::new(Vec::new(), rules)));
            return eds.map_or_else(none, Discovery::Eds);
        }
        Some(Kind::Provided(provided)) => {
            let panic_threshold = rules.healthy_panic_threshold;
            return provided.discovery(schema, at, sockets, panic_threshold, problems);
        }
        kind => kind,
    };
    if schema.is_provided && kind.is_some() {
        let message =
            "CLUSTER_PROVIDED needs a type of cluster that has a load balancer of its own";
        problems.error(&at.field("lb_policy"), message);
    }
    let at = at.field("load_assignment");
    let endpoints = |it| endpoints(it, &at, sockets, problems);
    let endpoints = schema.load_assignment.map_or_else(Vec::new, endpoints);
    match kind {
        // Which addresses are valid depends on the type.
        None | Some(Kind::Eds | Kind::Provided(_)) => {
            Discovery::Static(Arc::new(HostSet::new(Vec::new(), rules)))
        }
        Some(Kind::Static) => {
            let host = |endpoint: AddressedEndpoint| {
                let address = static_address(&endpoint, problems)?;
                Some(Host::new(address, Arc::new(endpoint.endpoint), shards))
            };
            let hosts = endpoints.into_iter().filter_map(host).collect();
            Discovery::Static(Arc::new(HostSet::new(hosts, rules)))
        }
        Some(Kind::Dns { semantics, fields, at: dns_at }) => {
            if semantics == Semantics::Logical {
                check_logical(&fields, schema.load_assignment, &dns_at, &at, problems);
            }
            let target = |endpoint| dns_target(endpoint, semantics, problems);
            let targets = endpoints.into_iter().filter_map(target).collect();
            let lookup_family = fields.lookup_family.unwrap_or(LookupFamily::Auto);
            let refresh = refresh(&fields, &dns_at, problems);
            let resolver = resolver_compile::own(fields.resolver, &dns_at, problems);
            Discovery::Dns(Dns { semantics, targets, lookup_family, refresh, resolver })
        }
    }
}

/// None if it could not be read, or is not implemented.
fn kind<'a>(schema: &Schema<'a>, at: &Path, problems: &mut Problems) -> Option<Kind<'a>> {
    let (at_type, at_custom) = (at.field("type"), at.field("cluster_type"));
    let is_known = match (schema.custom, schema.kind) {
        (None, None) => problems.is_left_out(&at_type) && problems.is_left_out(&at_custom),
        _ => problems.is_read(&at_type) && problems.is_read_whole(&at_custom),
    };
    if !is_known {
        problems.not_checked(format!("the hosts of {at}, whose type is not known"));
        return None;
    }
    let dns = |semantics| Kind::Dns { semantics, fields: schema.dns, at: at.clone() };
    let kind = match (schema.custom, schema.kind) {
        (Some(custom), _) => custom_kind(custom, dns, schema, at, problems)?,
        (None, None | Some(config::DiscoveryType::Static)) => Kind::Static,
        (None, Some(config::DiscoveryType::StrictDns)) => dns(Semantics::Strict),
        (None, Some(config::DiscoveryType::LogicalDns)) => dns(Semantics::Logical),
        (None, Some(config::DiscoveryType::Eds)) => Kind::Eds,
        (None, Some(config::DiscoveryType::OriginalDst)) => original_dst(schema, at, problems),
    };
    let reads_them = matches!(&kind, Kind::Dns { at: dns_at, .. } if dns_at == at);
    if schema.dns != DnsFields::default() && !reads_them {
        let message = "the dns_* fields have no effect: this cluster type does not use them";
        problems.warn(at, message);
    }
    Some(kind)
}

fn custom_kind<'a>(
    custom: &'a config::CustomClusterType,
    dns: impl Fn(Semantics) -> Kind<'a>,
    schema: &Schema<'a>,
    at: &Path,
    problems: &mut Problems,
) -> Option<Kind<'a>> {
    let config::CustomClusterType { name, typed_config } = custom;
    Some(match (typed_config, name.as_str()) {
        (Some(config::Any::DnsCluster(schema)), _) => dns_cluster(schema, at),
        (Some(config::Any::AggregateCluster(schema)), _) => {
            Kind::Provided(Provided::Aggregate(schema))
        }
        (Some(config::Any::DynamicForwardProxyCluster(schema)), _) => {
            Kind::Provided(Provided::DynamicForwardProxy(schema))
        }
        (Some(config::Any::OriginalDstCluster(options)), _) => {
            let at = at.field("cluster_type").field("typed_config");
            let naming = provided_compile::naming_of_extension(options, &at, problems);
            Kind::Provided(Provided::OriginalDst(naming))
        }
        // Envoy's names for the built-in types.
        (None, "envoy.cluster.static") => Kind::Static,
        (None, "envoy.cluster.strict_dns") => dns(Semantics::Strict),
        (None, "envoy.cluster.logical_dns") => dns(Semantics::Logical),
        (None, "envoy.cluster.original_dst") => original_dst(schema, at, problems),
        (_, name) => {
            problems.not_implemented(&at.field("cluster_type"), &format!("cluster type '{name}'"));
            return None;
        }
    })
}

fn original_dst<'a>(schema: &Schema<'_>, at: &Path, problems: &mut Problems) -> Kind<'a> {
    let at = at.field("original_dst_lb_config");
    let naming = provided_compile::naming_of_cluster(schema.original_dst, &at, problems);
    Kind::Provided(Provided::OriginalDst(naming))
}

/// `envoy.clusters.dns`, of the cluster at `at`.
fn dns_cluster<'a>(schema: &'a config::DnsCluster, at: &Path) -> Kind<'a> {
    let config::DnsCluster {
        dns_refresh_rate,
        dns_failure_refresh_rate,
        respect_dns_ttl,
        dns_jitter,
        dns_lookup_family,
        all_addresses_in_single_endpoint,
        dns_min_refresh_rate,
        typed_dns_resolver_config,
    } = schema;
    let failure = dns_failure_refresh_rate.as_ref().map(|rate| {
        let config::DnsClusterRefreshRate { base_interval, max_interval } = rate;
        (*base_interval, *max_interval)
    });
    let fields = DnsFields {
        refresh_rate: *dns_refresh_rate,
        jitter: *dns_jitter,
        failure_refresh_rate: failure,
        respect_ttl: *respect_dns_ttl,
        min_refresh_rate: *dns_min_refresh_rate,
        resolver: typed_dns_resolver_config.as_ref(),
        lookup_family: match dns_lookup_family {
            config::DnsClusterLookupFamily::Unspecified => None,
            config::DnsClusterLookupFamily::Auto => Some(LookupFamily::Auto),
            config::DnsClusterLookupFamily::V4Only => Some(LookupFamily::V4Only),
            config::DnsClusterLookupFamily::V6Only => Some(LookupFamily::V6Only),
            config::DnsClusterLookupFamily::V4Preferred => Some(LookupFamily::V4Preferred),
            config::DnsClusterLookupFamily::All => Some(LookupFamily::All),
        },
    };
    let logical = *all_addresses_in_single_endpoint;
    let semantics = if logical { Semantics::Logical } else { Semantics::Strict };
    Kind::Dns { semantics, fields, at: at.field("cluster_type").field("typed_config") }
}

/// An endpoint and its configured address.
pub(super) struct AddressedEndpoint {
    pub(super) endpoint: Endpoint,
    place: Place,
    at: Path,
}

/// The address of an endpoint in its configuration.
enum Place {
    Pipe(Pipe),
    Host { address: String, port: u16, resolver_name: String },
}

/// What the endpoints of one `LocalityLbEndpoints` have in common.
struct OfGroup {
    locality: Locality,
    weight: u32,
    priority: u32,
}

pub(super) fn endpoints(
    assignment: &config::ClusterLoadAssignment,
    at: &Path,
    sockets: &Sockets<'_>,
    problems: &mut Problems,
) -> Vec<AddressedEndpoint> {
    // The cluster name matters for EDS only. The policy is part of the health rules.
    let config::ClusterLoadAssignment { cluster_name: _, endpoints: localities, policy: _ } =
        assignment;
    let mut endpoints = Vec::new();
    for (i, group) in localities.iter().enumerate() {
        let config::LocalityLbEndpoints {
            locality,
            lb_endpoints,
            load_balancing_weight,
            priority,
            metadata,
        } = group;
        let at = at.field("endpoints").index(i).field("lb_endpoints");
        // As in Envoy, only a locality has a weight.
        let weight = locality.as_ref().and(*load_balancing_weight).unwrap_or(0);
        let locality = locality.as_ref().map_or_else(Locality::default, common_compile::locality);
        let group = OfGroup { locality, weight, priority: *priority };
        let of_locality = socket_match(metadata.as_ref());
        for (j, lb_endpoint) in lb_endpoints.iter().enumerate() {
            let own = socket_match(lb_endpoint.metadata.as_ref());
            let socket = sockets.of_traffic.of(own, of_locality);
            let at = at.index(j);
            let metadata = lb_endpoint.metadata.as_ref();
            let socket = &transport_socket::compile::for_endpoint(socket, metadata, &at, problems);
            endpoints.extend(endpoint(lb_endpoint, &group, sockets, socket, &at, problems));
        }
    }
    endpoints
}

/// The metadata that selects a transport socket.
fn socket_match(metadata: Option<&config::Metadata>) -> Option<&serde_json::Value> {
    let config::Metadata { filter_metadata, typed_filter_metadata: _ } = metadata?;
    filter_metadata.get("envoy.transport_socket_match")
}

fn endpoint(
    lb_endpoint: &config::LbEndpoint,
    group: &OfGroup,
    sockets: &Sockets<'_>,
    transport_socket: &Arc<TransportSocket>,
    at: &Path,
    problems: &mut Problems,
) -> Option<AddressedEndpoint> {
    let config::LbEndpoint { endpoint, health_status, load_balancing_weight, metadata } =
        lb_endpoint;
    let Some(config::Endpoint { address: Some(address), hostname, health_check_config }) = endpoint
    else {
        problems.missing(at, "an endpoint needs an address");
        return None;
    };
    let at = at.field("endpoint");
    // `auto_host_rewrite` sends it.
    check_word(hostname, &at.field("hostname"), problems);
    let at_check = at.field("health_check_config");
    let mut check = health_check::of_endpoint(health_check_config.as_ref(), &at_check, problems);
    check.transport_socket =
        sockets.of_checks.map(|criteria| Arc::clone(sockets.of_traffic.of(Some(criteria), None)));
    let at = at.field("address");
    let endpoint = Endpoint {
        hostname: hostname.clone(),
        weight: load_balancing_weight.unwrap_or(1),
        priority: group.priority,
        locality: group.locality.clone(),
        locality_weight: group.weight,
        health_flags: health_flags(*health_status),
        health_status: self::health_status(*health_status),
        check,
        transport_socket: Arc::clone(transport_socket),
        metadata: Arc::new(common_compile::metadata(metadata.as_ref())),
    };
    let config::Address { socket_address, pipe } = address;
    if let Some(pipe) = pipe {
        let at = at.field("pipe");
        let place = Place::Pipe(address::compile::pipe(pipe, &at, problems)?);
        return Some(AddressedEndpoint { endpoint, place, at });
    }
    // Whether an IPv6 socket accepts IPv4 matters for listening only.
    let Some(config::SocketAddress {
        protocol,
        address,
        port_value,
        resolver_name,
        ipv4_compat: _,
    }) = socket_address
    else {
        problems.missing(&at, "an endpoint needs a socket_address");
        return None;
    };
    let at = at.field("socket_address");
    if *protocol == config::Protocol::Udp {
        problems.error(&at.field("protocol"), "protocol must be TCP: UDP hosts are not supported");
    }
    let port = port_value.and_then(|port| u16::try_from(port).ok());
    if port.is_none() {
        problems.missing(&at, "an endpoint needs a port_value of at most 65535");
    }
    let (address, resolver_name) = (address.clone(), resolver_name.clone());
    // The address is checked even if the port is missing.
    let place = Place::Host { address, port: port.unwrap_or(0), resolver_name };
    Some(AddressedEndpoint { endpoint, place, at })
}

pub(in crate::upstream) const fn health_status(status: config::HealthStatus) -> HealthStatus {
    match status {
        config::HealthStatus::Unknown => HealthStatus::Unknown,
        config::HealthStatus::Healthy => HealthStatus::Healthy,
        config::HealthStatus::Unhealthy => HealthStatus::Unhealthy,
        config::HealthStatus::Draining => HealthStatus::Draining,
        config::HealthStatus::Timeout => HealthStatus::Timeout,
        config::HealthStatus::Degraded => HealthStatus::Degraded,
    }
}

fn health_flags(status: config::HealthStatus) -> HealthFlags {
    match status {
        config::HealthStatus::Unknown | config::HealthStatus::Healthy => HealthFlags::EMPTY,
        config::HealthStatus::Unhealthy | config::HealthStatus::Timeout => {
            HealthFlags::FAILED_EDS_HEALTH
        }
        config::HealthStatus::Draining => HealthFlags::EDS_STATUS_DRAINING,
        config::HealthStatus::Degraded => HealthFlags::DEGRADED_EDS_HEALTH,
    }
}

pub(super) fn static_address(
    endpoint: &AddressedEndpoint,
    problems: &mut Problems,
) -> Option<Address> {
    const HELP: &str = "Consider setting resolver_name or setting cluster type to 'STRICT_DNS' \
                        or 'LOGICAL_DNS'";
    let AddressedEndpoint { endpoint: _, place, at } = endpoint;
    let (address, port, resolver_name) = match place {
        Place::Pipe(pipe) => return Some(Address::Pipe(*pipe)),
        Place::Host { address, port, resolver_name } => (address, port, resolver_name),
    };
    if !resolver_name.is_empty() {
        let at = at.field("resolver_name");
        problems.error(&at, format!("Unknown address resolver: {resolver_name}. {HELP}"));
        return None;
    }
    if let Ok(ip) = address.parse::<IpAddr>() {
        return Some(SocketAddr::new(ip, *port).into());
    }
    problems.error(&at.field("address"), format!("malformed IP address: {address}. {HELP}"));
    None
}

fn dns_target(
    endpoint: AddressedEndpoint,
    semantics: Semantics,
    problems: &mut Problems,
) -> Option<Target> {
    let AddressedEndpoint { mut endpoint, place, at } = endpoint;
    let Place::Host { address, port, resolver_name } = place else {
        problems.error(
            &at,
            format!("{} clusters resolve names, and a pipe has none", name_of(semantics)),
        );
        return None;
    };
    if !resolver_name.is_empty() {
        let kind = name_of(semantics);
        let message = format!("{kind} clusters must NOT have a custom resolver name set");
        problems.error(&at.field("resolver_name"), message);
        return None;
    }
    check_word(&address, &at.field("address"), problems);
    if endpoint.hostname.is_empty() {
        endpoint.hostname.clone_from(&address);
    }
    Some(Target { name: address, port, endpoint: Arc::new(endpoint) })
}

fn check_logical(
    fields: &DnsFields<'_>,
    assignment: Option<&config::ClusterLoadAssignment>,
    dns_at: &Path,
    assignment_at: &Path,
    problems: &mut Problems,
) {
    match assignment.map_or(&[][..], |assignment| &assignment.endpoints) {
        [] => problems.missing(assignment_at, "LOGICAL_DNS clusters must have a single host"),
        [locality] if locality.lb_endpoints.len() == 1 => {}
        _ => problems.missing(
            assignment_at,
            "LOGICAL_DNS clusters must have a single locality_lb_endpoint and a single lb_endpoint",
        ),
    }
    if fields.lookup_family == Some(LookupFamily::All) {
        // Envoy races connections to all addresses, which is not implemented.
        let at = dns_at.field("dns_lookup_family");
        problems.not_implemented(&at, "ALL for LOGICAL_DNS");
    }
}

fn refresh(fields: &DnsFields<'_>, dns_at: &Path, problems: &mut Problems) -> Refresh {
    let failure = failure_refresh(fields.failure_refresh_rate, dns_at, problems);
    let default = Refresh::default();
    Refresh {
        rate: fields.refresh_rate.unwrap_or(default.rate),
        jitter: fields.jitter.unwrap_or(default.jitter),
        respect_ttl: fields.respect_ttl,
        ttl_min: fields.min_refresh_rate.unwrap_or(default.ttl_min),
        failure,
    }
}

/// `dns_failure_refresh_rate`, of the message at `at`: base_interval and max_interval.
pub(in crate::upstream) fn failure_refresh(
    rate: Option<(Option<Duration>, Option<Duration>)>,
    at: &Path,
    problems: &mut Problems,
) -> Option<FailureRefresh> {
    let (base, max) = rate?;
    let base_interval = base?;
    let max_interval = max.unwrap_or(base_interval * 10);
    if max_interval < base_interval {
        problems.missing(
            &at.field("dns_failure_refresh_rate"),
            "dns_failure_refresh_rate must have max_interval greater than or equal to \
             the base_interval",
        );
    }
    Some(FailureRefresh { base_interval, max_interval })
}

fn name_of(semantics: Semantics) -> &'static str {
    match semantics {
        Semantics::Strict => "STRICT_DNS",
        Semantics::Logical => "LOGICAL_DNS",
    }
}

#[cfg(test)]
#[path = "compile_tests.rs"]
mod tests;
