//! The log of health checks: a line of JSON for each event, as Envoy writes them.

use std::path::Path;

use serde_json::{Map, Value, json};

use crate::control::event_json;
use crate::upstream::Cluster;
use crate::upstream::health_check::{Event, Failure};
use crate::upstream::host::{Host, Locality};

/// Appends events of a host, which is checked by `kind`.
pub(super) fn append(path: &Path, kind: &str, cluster: &Cluster, host: &Host, events: &[Event]) {
    let lines = events.iter().map(|event| line(*event, kind, cluster, host, event_json::now()));
    if let Err(error) = event_json::append(path, lines) {
        let path = path.display();
        tracing::warn!(target: "upstream", "cannot write to the log of health checks {path}: {error}");
    }
}

fn line(event: Event, kind: &str, cluster: &Cluster, host: &Host, now: String) -> Value {
    let (name, content) = content(event);
    let mut line = Map::new();
    let mut set = |name: &str, value: Value| {
        line.insert(name.to_owned(), value);
    };
    set("health_checker_type", kind.into());
    set("host", event_json::address(host));
    set("cluster_name", cluster.name.as_str().into());
    set("timestamp", now.into());
    let metadata: Map<String, Value> = host
        .endpoint
        .metadata
        .namespaces()
        .map(|(name, values)| (name.to_owned(), values.clone()))
        .collect();
    if !metadata.is_empty() {
        set("metadata", json!({ "filter_metadata": metadata, "typed_filter_metadata": {} }));
    }
    let Locality { region, zone, sub_zone } = &host.endpoint.locality;
    set("locality", json!({ "region": region, "zone": zone, "sub_zone": sub_zone }));
    set(name, content);
    in_order_of_the_proto_file(line)
}

/// The fields of `HealthCheckEvent` in the order of their numbers, as Envoy writes them.
fn in_order_of_the_proto_file(mut line: Map<String, Value>) -> Value {
    const ORDER: [&str; 12] = [
        "health_checker_type",
        "host",
        "cluster_name",
        "eject_unhealthy_event",
        "add_healthy_event",
        "timestamp",
        "health_check_failure_event",
        "degraded_healthy_host",
        "no_longer_degraded_host",
        "metadata",
        "locality",
        "successful_health_check_event",
    ];
    let sorted = ORDER.into_iter().filter_map(|name| Some((name.to_owned(), line.remove(name)?)));
    Value::Object(sorted.collect())
}

fn content(event: Event) -> (&'static str, Value) {
    let status = |failure: Failure| failure.status.unwrap_or(0);
    match event {
        Event::EjectUnhealthy(failure) => (
            "eject_unhealthy_event",
            json!({ "failure_type": failure.kind.name(), "http_status_code": status(failure) }),
        ),
        Event::AddHealthy { is_first } => ("add_healthy_event", json!({ "first_check": is_first })),
        Event::Success => ("successful_health_check_event", json!({})),
        Event::Failure { failure, is_first } => (
            "health_check_failure_event",
            json!({
                "failure_type": failure.kind.name(),
                "first_check": is_first,
                "http_status_code": status(failure),
            }),
        ),
        Event::Degraded => ("degraded_healthy_host", json!({})),
        Event::NoLongerDegraded => ("no_longer_degraded_host", json!({})),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As Envoy 1.40 wrote them.
    #[test]
    fn fields_are_in_envoys_order() {
        let fields = json!({
            "locality": {}, "add_healthy_event": {"first_check": true}, "timestamp": "now",
            "cluster_name": "c", "host": {}, "health_checker_type": "HTTP",
        });
        let Value::Object(fields) = fields else { panic!("an object") };
        assert_eq!(
            in_order_of_the_proto_file(fields).to_string(),
            r#"{"health_checker_type":"HTTP","host":{},"cluster_name":"c","add_healthy_event":{"first_check":true},"timestamp":"now","locality":{}}"#
        );
    }
}
