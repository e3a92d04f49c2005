//! The hosts of a cluster as Envoy's `ClusterLoadAssignment`: what it has now, not what was configured.

use std::sync::Arc;

use serde_json::{Map, Value, json};

use crate::control::admin::listeners::AddressJson;
use crate::upstream::HostSet;
use crate::upstream::host::{Health, Host, Locality};

/// The hosts of a cluster.
#[derive(Debug)]
pub struct ClusterEndpoints {
    /// The name of the cluster, or that of its service.
    pub name: String,
    /// Whether the cluster came from elsewhere than the bootstrap.
    pub is_dynamic: bool,
    /// Whether the hosts come from DNS.
    pub is_resolved: bool,
    /// Its hosts.
    pub hosts: Arc<HostSet>,
    /// `policy.overprovisioning_factor`
    pub overprovisioning_factor: u32,
}

/// The hosts of a priority and locality.
struct Group<'a> {
    locality: &'a Locality,
    priority: u32,
    weight: u32,
    hosts: Vec<&'a Host>,
}

impl ClusterEndpoints {
    /// `envoy.config.endpoint.v3.ClusterLoadAssignment`
    pub(super) fn message(&self) -> Map<String, Value> {
        let mut message = Map::new();
        message.insert("cluster_name".to_owned(), self.name.as_str().into());
        let groups = self.groups();
        if !groups.is_empty() {
            let groups = groups.iter().map(|group| self.localities(group)).collect();
            message.insert("endpoints".to_owned(), groups);
        }
        let policy = json!({ "overprovisioning_factor": self.overprovisioning_factor });
        message.insert("policy".to_owned(), policy);
        message
    }

    fn groups(&self) -> Vec<Group<'_>> {
        let mut groups: Vec<Group<'_>> = Vec::new();
        for host in self.hosts.hosts() {
            let endpoint = &host.endpoint;
            let (locality, priority) = (&endpoint.locality, endpoint.priority);
            let is_it = |it: &&mut Group<'_>| (it.locality, it.priority) == (locality, priority);
            match groups.iter_mut().find(is_it) {
                Some(group) => group.hosts.push(host),
                None => {
                    let weight = endpoint.locality_weight;
                    groups.push(Group { locality, priority, weight, hosts: vec![host] });
                }
            }
        }
        groups
    }

    /// `LocalityLbEndpoints`
    fn localities(&self, group: &Group<'_>) -> Value {
        let Group { locality, priority, weight, hosts } = group;
        let Locality { region, zone, sub_zone } = locality;
        let locality = set([
            ("region", region.as_str().into()),
            ("zone", zone.as_str().into()),
            ("sub_zone", sub_zone.as_str().into()),
        ]);
        let hosts: Vec<Value> = hosts.iter().map(|host| self.host(host)).collect();
        let mut message = json!({
            "locality": locality, "lb_endpoints": hosts, "load_balancing_weight": weight,
        });
        if *priority > 0
            && let Some(fields) = message.as_object_mut()
        {
            fields.insert("priority".to_owned(), (*priority).into());
        }
        message
    }

    /// `LbEndpoint`
    fn host(&self, host: &Host) -> Value {
        let endpoint = &host.endpoint;
        let check = set([
            ("port_value", endpoint.check.port.unwrap_or(0).into()),
            ("hostname", endpoint.check.hostname.as_str().into()),
            ("disable_active_health_check", endpoint.check.disabled.into()),
        ]);
        let mut shown = Map::new();
        shown.insert("address".to_owned(), json!(AddressJson::from(host.address)));
        shown.insert("health_check_config".to_owned(), check.into());
        if !endpoint.hostname.is_empty() {
            shown.insert("hostname".to_owned(), endpoint.hostname.as_str().into());
        }
        let health = match host.health_flags().health() {
            Health::Healthy => "HEALTHY",
            Health::Degraded => "DEGRADED",
            Health::Unhealthy => "UNHEALTHY",
        };
        let mut message = Map::new();
        message.insert("endpoint".to_owned(), shown.into());
        message.insert("health_status".to_owned(), health.into());
        let namespaces = endpoint.metadata.namespaces();
        let namespaces: Map<String, Value> =
            namespaces.map(|(name, values)| (name.to_owned(), values.clone())).collect();
        if !namespaces.is_empty() {
            message.insert("metadata".to_owned(), json!({ "filter_metadata": namespaces }));
        } else if self.is_resolved {
            message.insert("metadata".to_owned(), json!({}));
        }
        message.insert("load_balancing_weight".to_owned(), endpoint.weight.into());
        message.into()
    }
}

/// The fields that are not what they are by default.
fn set<const N: usize>(fields: [(&str, Value); N]) -> Map<String, Value> {
    let is_default =
        |value: &Value| *value == json!("") || *value == json!(0) || *value == json!(false);
    let fields = fields.into_iter().filter(|(_, value)| !is_default(value));
    fields.map(|(name, value)| (name.to_owned(), value)).collect()
}
