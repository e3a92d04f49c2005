//! `/clusters`: limits, and each host with its counts and health.

use std::fmt::Write as _;

use serde::Serialize;

use crate::control::admin::json::{self, as_string, is_false, is_zero};
use crate::control::admin::listeners::AddressJson;
use crate::control::admin::query::Query;
use crate::control::admin::reply::Reply;
use crate::control::admin::{
    Admin, ClusterView, Effect, Endpoint, HealthFlags, HostView, Thresholds, parameter,
};
use crate::re2;

pub(super) const ENDPOINT: Endpoint = Endpoint {
    path: "/clusters",
    effect: Effect::Shows,
    help: "upstream cluster status",
    parameters: &[parameter(
        "filter",
        "Regular expression (Google re2) for filtering clusters by name",
    )],
    answer,
};

fn answer(admin: &Admin, query: &Query) -> Reply {
    let Ok(filter) = query.value("filter").map(re2::compile).transpose() else {
        return Reply::bad_request("Invalid re2 regex");
    };
    let mut clusters = admin.server.clusters();
    clusters.retain(|cluster| {
        filter.as_ref().is_none_or(|filter| filter.is_match(cluster.name.as_bytes()))
    });
    if query.value("format") == Some("json") {
        let cluster_statuses = clusters.into_iter().map(ClusterStatus::from).collect();
        return json::reply(&Clusters { cluster_statuses });
    }
    Reply::pieces(clusters.into_iter().map(|cluster| {
        let mut lines = String::new();
        let written = text(&mut lines, &cluster);
        debug_assert!(written.is_ok(), "a string takes everything");
        lines
    }))
}

// === text ===

fn text(out: &mut String, cluster: &ClusterView) -> std::fmt::Result {
    let name = &cluster.name;
    writeln!(out, "{name}::observability_name::{}", cluster.observability_name)?;
    for (priority, limits) in ["default", "high"].iter().zip(&cluster.circuit_breakers) {
        let Thresholds { max_connections, max_pending_requests, max_requests, max_retries } =
            limits;
        writeln!(out, "{name}::{priority}_priority::max_connections::{max_connections}")?;
        writeln!(out, "{name}::{priority}_priority::max_pending_requests::{max_pending_requests}")?;
        writeln!(out, "{name}::{priority}_priority::max_requests::{max_requests}")?;
        writeln!(out, "{name}::{priority}_priority::max_retries::{max_retries}")?;
    }
    writeln!(out, "{name}::added_via_api::{}", cluster.added_via_api)?;
    cluster.hosts.iter().try_for_each(|host| host_text(out, name, host))
}

fn host_text(out: &mut String, cluster: &str, host: &HostView) -> std::fmt::Result {
    let HostView { address, counts, .. } = host;
    for (name, count) in [
        ("cx_active", counts.cx_active),
        ("cx_connect_fail", counts.cx_connect_fail),
        ("cx_total", counts.cx_total),
        ("rq_active", counts.rq_active),
        ("rq_error", counts.rq_error),
        ("rq_pending_active", counts.rq_pending_active),
        ("rq_success", counts.rq_success),
        ("rq_timeout", counts.rq_timeout),
        ("rq_total", counts.rq_total),
    ] {
        writeln!(out, "{cluster}::{address}::{name}::{count}")?;
    }
    writeln!(out, "{cluster}::{address}::hostname::{}", host.hostname)?;
    writeln!(out, "{cluster}::{address}::health_flags::{}", flags(host.health))?;
    writeln!(out, "{cluster}::{address}::weight::{}", host.weight)?;
    writeln!(out, "{cluster}::{address}::region::{}", host.region)?;
    writeln!(out, "{cluster}::{address}::zone::{}", host.zone)?;
    writeln!(out, "{cluster}::{address}::sub_zone::{}", host.sub_zone)?;
    writeln!(out, "{cluster}::{address}::canary::{}", host.canary)?;
    writeln!(out, "{cluster}::{address}::priority::{}", host.priority)?;
    let [success_rate, local_origin] = host.success_rates;
    writeln!(out, "{cluster}::{address}::success_rate::{success_rate}")?;
    writeln!(out, "{cluster}::{address}::local_origin_success_rate::{local_origin}")
}

/// `healthy`, or the reasons why it is not, each after a slash.
pub(super) fn flags(health: HealthFlags) -> String {
    let HealthFlags {
        failed_active_hc,
        failed_outlier_check,
        failed_eds_health,
        degraded_active_hc,
        degraded_eds_health,
        eds_status_draining,
        pending_dynamic_removal,
        pending_active_hc,
        excluded_via_immediate_hc_fail,
        active_hc_timeout,
    } = health;
    let set: String = [
        (failed_active_hc, "/failed_active_hc"),
        (failed_outlier_check, "/failed_outlier_check"),
        (failed_eds_health, "/failed_eds_health"),
        (degraded_active_hc, "/degraded_active_hc"),
        (degraded_eds_health, "/degraded_eds_health"),
        (pending_dynamic_removal, "/pending_dynamic_removal"),
        (pending_active_hc, "/pending_active_hc"),
        (excluded_via_immediate_hc_fail, "/excluded_via_immediate_hc_fail"),
        (active_hc_timeout, "/active_hc_timeout"),
        (eds_status_draining, "/eds_status_draining"),
    ]
    .into_iter()
    .filter_map(|(set, name)| set.then_some(name))
    .collect();
    if set.is_empty() { "healthy".to_owned() } else { set }
}

// === JSON: envoy.admin.v3.Clusters ===

#[derive(Serialize)]
struct Clusters {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    cluster_statuses: Vec<ClusterStatus>,
}

#[derive(Serialize)]
struct ClusterStatus {
    name: String,
    #[serde(skip_serializing_if = "is_false")]
    added_via_api: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    host_statuses: Vec<HostStatus>,
    circuit_breakers: CircuitBreakers,
    observability_name: String,
}

impl From<ClusterView> for ClusterStatus {
    fn from(cluster: ClusterView) -> Self {
        let [default, high] = cluster.circuit_breakers;
        Self {
            name: cluster.name,
            added_via_api: cluster.added_via_api,
            host_statuses: cluster.hosts.into_iter().map(HostStatus::from).collect(),
            circuit_breakers: CircuitBreakers {
                thresholds: [
                    PriorityThresholds { priority: None, limits: default },
                    PriorityThresholds { priority: Some("HIGH"), limits: high },
                ],
            },
            observability_name: cluster.observability_name,
        }
    }
}

#[derive(Serialize)]
struct CircuitBreakers {
    thresholds: [PriorityThresholds; 2],
}

#[derive(Serialize)]
struct PriorityThresholds {
    /// DEFAULT is the default value.
    #[serde(skip_serializing_if = "Option::is_none")]
    priority: Option<&'static str>,
    #[serde(flatten)]
    limits: Thresholds,
}

#[derive(Serialize)]
struct HostStatus {
    address: AddressJson,
    stats: [SimpleMetric; 9],
    health_status: HostHealthStatus,
    #[serde(skip_serializing_if = "Option::is_none")]
    success_rate: Option<PercentJson>,
    weight: u32,
    #[serde(skip_serializing_if = "String::is_empty")]
    hostname: String,
    #[serde(skip_serializing_if = "is_zero_priority")]
    priority: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    local_origin_success_rate: Option<PercentJson>,
    locality: Locality,
}

#[derive(Serialize)]
struct PercentJson {
    value: f64,
}

impl PercentJson {
    /// None if there were too few requests: then it is negative.
    fn of(value: f64) -> Option<Self> {
        (value >= 0.0).then_some(Self { value })
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn is_zero_priority(priority: &u32) -> bool {
    *priority == 0
}

impl From<HostView> for HostStatus {
    fn from(host: HostView) -> Self {
        let (counter, gauge) = (
            |name, value| SimpleMetric { r#type: None, value, name },
            |name, value| SimpleMetric { r#type: Some("GAUGE"), value, name },
        );
        let counts = host.counts;
        let [success_rate, local_origin] = host.success_rates;
        Self {
            address: host.address.into(),
            stats: [
                counter("cx_connect_fail", counts.cx_connect_fail),
                counter("cx_total", counts.cx_total),
                counter("rq_error", counts.rq_error),
                counter("rq_success", counts.rq_success),
                counter("rq_timeout", counts.rq_timeout),
                counter("rq_total", counts.rq_total),
                gauge("cx_active", counts.cx_active),
                gauge("rq_active", counts.rq_active),
                gauge("rq_pending_active", counts.rq_pending_active),
            ],
            health_status: host.health.into(),
            success_rate: PercentJson::of(success_rate),
            local_origin_success_rate: PercentJson::of(local_origin),
            weight: host.weight,
            hostname: host.hostname,
            priority: host.priority,
            locality: Locality { region: host.region, zone: host.zone, sub_zone: host.sub_zone },
        }
    }
}

#[derive(Serialize)]
struct SimpleMetric {
    #[serde(skip_serializing_if = "Option::is_none")]
    r#type: Option<&'static str>,
    #[serde(skip_serializing_if = "is_zero", serialize_with = "as_string")]
    value: u64,
    name: &'static str,
}

#[derive(Serialize)]
struct HostHealthStatus {
    #[serde(skip_serializing_if = "is_false")]
    failed_active_health_check: bool,
    #[serde(skip_serializing_if = "is_false")]
    failed_outlier_check: bool,
    #[serde(skip_serializing_if = "is_false")]
    failed_active_degraded_check: bool,
    #[serde(skip_serializing_if = "is_false")]
    pending_dynamic_removal: bool,
    #[serde(skip_serializing_if = "is_false")]
    pending_active_hc: bool,
    #[serde(skip_serializing_if = "is_false")]
    excluded_via_immediate_hc_fail: bool,
    #[serde(skip_serializing_if = "is_false")]
    active_hc_timeout: bool,
    eds_health_status: &'static str,
}

impl From<HealthFlags> for HostHealthStatus {
    fn from(health: HealthFlags) -> Self {
        Self {
            failed_active_health_check: health.failed_active_hc,
            failed_outlier_check: health.failed_outlier_check,
            failed_active_degraded_check: health.degraded_active_hc,
            pending_dynamic_removal: health.pending_dynamic_removal,
            pending_active_hc: health.pending_active_hc,
            excluded_via_immediate_hc_fail: health.excluded_via_immediate_hc_fail,
            active_hc_timeout: health.active_hc_timeout,
            eds_health_status: match health {
                HealthFlags { failed_eds_health: true, .. } => "UNHEALTHY",
                HealthFlags { eds_status_draining: true, .. } => "DRAINING",
                HealthFlags { degraded_eds_health: true, .. } => "DEGRADED",
                _ => "HEALTHY",
            },
        }
    }
}

#[derive(Serialize)]
struct Locality {
    #[serde(skip_serializing_if = "String::is_empty")]
    region: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    zone: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    sub_zone: String,
}
