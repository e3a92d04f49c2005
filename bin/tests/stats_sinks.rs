//! Stats sinks that are services: the real `grpcio` (`stats_sinks/service.py`).
//!
//! The package is in `.venv` at the root of the repository, otherwise the tests print SKIPPED.

use serde_json::{Value, json};

use crate::grpc::{HTTP2, protocols};
use crate::support::{Config, Origin, Proxy, Service};

const SERVICE: &str = "grpc_service: { envoy_grpc: { cluster_name: stats } }";

/// A proxy whose stats go to the service each 0.2 s; `sink` has the type and the options.
fn proxy(service: &Service, origin: &Origin, sink: &str) -> Proxy {
    let config = Config::to(origin)
        .bootstrap("node: { id: one, cluster: many }")
        .bootstrap("stats_flush_interval: 0.2s")
        .bootstrap(&format!("stats_sinks: [{{ name: sink, typed_config: {{ {sink} }} }}]"));
    let yaml = service.in_cluster(&config.yaml(), "stats", &protocols(HTTP2));
    Proxy::with(Config::verbatim(yaml))
}

/// The first of what is told under `of` that `is_it` accepts.
fn told(service: &mut Service, of: &str, is_it: impl Fn(&Value) -> bool) -> Value {
    loop {
        let message = service.told();
        let all = message[of].as_array().unwrap();
        if let Some(found) = all.iter().find(|one| is_it(one)) {
            return found.clone();
        }
    }
}

#[test]
fn the_metrics_service_gets_families_with_the_names_of_stats() {
    let Some(mut service) = Service::start("stats_sinks") else { return };
    let origin = Origin::that_answers();
    let sink = "\"@type\": type.googleapis.com/envoy.config.metrics.v3.MetricsServiceConfig";
    let proxy = proxy(&service, &origin, &format!("{sink}, {SERVICE}, transport_api_version: V3"));
    assert_eq!(service.told()["node"], "one");
    proxy.get("/");
    proxy.get("/");
    let named = |name: &'static str, kind: u64| {
        move |family: &Value| family["name"] == name && family["kind"] == kind
    };
    let counter = |family: &Value| {
        named("cluster.service.upstream_rq_200", 0)(family) && family["value"] == 2.0
    };
    assert_eq!(told(&mut service, "families", counter)["labels"], json!({}));
    let gauge = told(&mut service, "families", named("cluster.service.membership_total", 1));
    assert_eq!(gauge["value"], 1.0);
    let time = "cluster.service.upstream_rq_time";
    let summary = told(&mut service, "families", named(time, 2));
    assert_eq!(summary["parts"], 10, "quantiles");
    let histogram = told(&mut service, "families", named(time, 4));
    assert_eq!(histogram["parts"], 19, "buckets");
}

#[test]
fn tags_are_labels_counters_deltas_and_messages_short_if_that_is_configured() {
    let Some(mut service) = Service::start("stats_sinks") else { return };
    let origin = Origin::that_answers();
    let sink = "\"@type\": type.googleapis.com/envoy.config.metrics.v3.MetricsServiceConfig, \
        transport_api_version: V3, report_counters_as_deltas: true, emit_tags_as_labels: true, \
        histogram_emit_mode: HISTOGRAM, batch_size: 5";
    let proxy = proxy(&service, &origin, &format!("{sink}, {SERVICE}"));
    proxy.get("/");
    let of_codes = |value: f64| {
        move |family: &Value| {
            family["name"] == "cluster.upstream_rq"
                && family["value"] == value
                && family["labels"]["envoy.cluster_name"] == "service"
        }
    };
    let counter = told(&mut service, "families", of_codes(1.0));
    assert_eq!(counter["labels"]["envoy.response_code"], "200");
    told(&mut service, "families", of_codes(0.0));
    for _ in 0..50 {
        let message = service.told();
        let families = message["families"].as_array().unwrap();
        assert!(families.len() <= 5);
        assert!(families.iter().all(|family| family["kind"] != 2), "{families:?}");
    }
}

#[test]
fn a_collector_gets_metrics_with_attributes_or_deltas_with_whole_names() {
    let Some(mut service) = Service::start("stats_sinks") else { return };
    let origin = Origin::that_answers();
    let sink =
        "\"@type\": type.googleapis.com/envoy.extensions.stat_sinks.open_telemetry.v3.SinkConfig";
    let cumulative = proxy(&service, &origin, &format!("{sink}, {SERVICE}"));
    cumulative.get("/");
    let is_counter = |metric: &Value| {
        metric["name"] == "cluster.upstream_rq"
            && metric["attributes"]["envoy.cluster_name"] == "service"
    };
    for _ in 0..2 {
        let counter = told(&mut service, "metrics", is_counter);
        assert_eq!((&counter["kind"], &counter["value"]), (&json!("sum"), &json!(1)));
        assert_eq!(counter["deltas"], false);
    }
    drop(cumulative);

    let Some(mut service) = Service::start("stats_sinks") else { return };
    let options = "report_counters_as_deltas: true, report_histograms_as_deltas: true, \
        emit_tags_as_attributes: false, use_tag_extracted_name: false, prefix: pre, \
        max_data_points_per_request: 5";
    let deltas = proxy(&service, &origin, &format!("{sink}, {SERVICE}, {options}"));
    deltas.get("/");
    let named = |name: &'static str| move |metric: &Value| metric["name"] == name;
    let name = "pre.cluster.service.upstream_rq_200";
    let counter = told(&mut service, "metrics", named(name));
    assert_eq!((&counter["value"], &counter["deltas"]), (&json!(1), &json!(true)));
    assert_eq!(counter["attributes"], json!({}));
    for _ in 0..50 {
        let message = service.told();
        let metrics = message["metrics"].as_array().unwrap();
        assert!(metrics.len() <= 5);
        assert!(!metrics.iter().any(named(name)), "nothing was added");
    }
}
