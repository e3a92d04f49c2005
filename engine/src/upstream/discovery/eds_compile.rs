//! Compiles where clusters of type `EDS` get their hosts from, and what comes from there.

use std::collections::HashMap;
use std::sync::Arc;

use config::{Path, Problems};
use corvoy_config as config;

use super::compile::{Schema, Sockets, endpoints, static_address};
use super::{Assignment, Eds};
use crate::address::Address;
use crate::config_source::compile::{self as source_compile, Resource, check_existence, in_words};
use crate::upstream::Cluster;
use crate::upstream::host::Host;
use crate::upstream::host_set::DistributionRules;

/// Where the hosts of a cluster of type `EDS` come from; none if there is an error.
pub(super) fn eds(
    schema: &Schema<'_>,
    at: &Path,
    sockets: &Sockets<'_>,
    problems: &mut Problems,
) -> Option<Eds> {
    if schema.load_assignment.is_some() {
        let why = "a cluster of type EDS cannot have a load_assignment";
        problems.error(&at.field("load_assignment"), why);
    }
    let at = at.field("eds_cluster_config");
    let Some(config::EdsClusterConfig { eds_config: Some(source), service_name }) = schema.eds
    else {
        problems.missing(&at, "cannot create an EDS cluster without an EDS config");
        return None;
    };
    source_compile::check_name(service_name, &at.field("service_name"), problems);
    let at = at.field("eds_config");
    let origin = source_compile::source(source, &at, problems)?;
    check_existence(&origin, source, &at, problems)?;
    let name = if service_name.is_empty() { schema.name } else { service_name };
    Some(Eds { source: origin, name: name.to_owned(), check_criteria: sockets.of_checks.cloned() })
}

/// What `resource` says of a cluster of type `EDS`, which has `known` hosts so far.
///
/// # Errors
/// It cannot be used: in words.
pub fn assignment(
    resource: &Resource,
    cluster: &Cluster,
    eds: &Eds,
    known: &[Arc<Host>],
    shards: usize,
) -> Result<Assignment, String> {
    let config::Any::ClusterLoadAssignment(schema) = resource.message()? else {
        let what = resource.type_name();
        return Err(format!("{what} is not a ClusterLoadAssignment"));
    };
    let sockets =
        Sockets { of_traffic: &cluster.transport_sockets, of_checks: eds.check_criteria.as_ref() };
    let mut problems = Problems::default();
    let endpoints = endpoints(schema, &Path::root(), &sockets, &mut problems);
    let known: HashMap<Address, &Arc<Host>> = known.iter().map(|it| (it.address, it)).collect();
    let hosts = endpoints.into_iter().filter_map(|endpoint| {
        let address = static_address(&endpoint, &mut problems)?;
        let endpoint = endpoint.endpoint;
        Some(match known.get(&address) {
            Some(host) if host.endpoint.is_same(&endpoint) => Arc::clone(host),
            Some(host) if host.endpoint.connects_as(&endpoint) => {
                host.with_endpoint(Arc::new(endpoint))
            }
            _ => Host::new(address, Arc::new(endpoint), shards),
        })
    });
    let hosts = hosts.collect();
    if problems.has_errors() {
        return Err(in_words(&problems));
    }
    let distribution = with_policy(cluster.distribution.clone(), schema.policy.as_ref());
    Ok(Assignment { hosts, distribution })
}

/// The rules of a cluster with the policy of its hosts.
pub(in crate::upstream) fn with_policy(
    mut rules: DistributionRules,
    policy: Option<&config::Policy>,
) -> DistributionRules {
    if let Some(policy) = policy {
        let config::Policy { overprovisioning_factor, weighted_priority_health } = policy;
        rules.weighted_priority_health = *weighted_priority_health;
        if let Some(factor) = overprovisioning_factor {
            rules.overprovisioning_factor = *factor;
        }
    }
    rules
}
