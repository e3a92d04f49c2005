//! The log of outlier detection: a line of JSON for each event, as Envoy writes them.

use std::path::Path;

use serde_json::{Map, Value, json};

use super::event_json;
use crate::upstream::Cluster;
use crate::upstream::outlier_detection::{Action, Ejection, Kind};

/// Appends what has happened to hosts of a cluster.
pub(super) fn append(path: &Path, cluster: &Cluster, actions: &[Action]) {
    let lines = actions.iter().map(|action| line(cluster, action, event_json::now()));
    if let Err(error) = event_json::append(path, lines) {
        let path = path.display();
        tracing::warn!(target: "upstream", "cannot write to the log of outlier detection {path}: {error}");
    }
}

fn line(cluster: &Cluster, action: &Action, now: String) -> Value {
    let Action { host, ejection, ejections, since_last_s } = action;
    let mut line = Map::new();
    let mut set = |name: &str, value: Value| {
        line.insert(name.to_owned(), value);
    };
    let kind = match ejection {
        Ejection::Eject { kind, .. } => *kind,
        Ejection::Uneject => Kind::Consecutive5xx,
    };
    set("type", kind.name().into());
    set("timestamp", now.into());
    if let Some(seconds) = since_last_s {
        set("secs_since_last_action", seconds.to_string().into());
    }
    set("cluster_name", cluster.name.as_str().into());
    set("upstream_url", host.address.to_string().into());
    let is_ejected = matches!(ejection, Ejection::Eject { .. });
    set("action", if is_ejected { "EJECT" } else { "UNEJECT" }.into());
    set("num_ejections", (*ejections).into());
    let is_enforced = matches!(ejection, Ejection::Eject { is_enforced: true, .. });
    set("enforced", is_enforced.into());
    if let Ejection::Eject { kind, rates, .. } = ejection {
        let (rate, mean, limit) = rates.unwrap_or_default();
        match kind {
            Kind::SuccessRate | Kind::SuccessRateLocalOrigin => set(
                "eject_success_rate_event",
                json!({
                    "host_success_rate": whole(rate),
                    "cluster_average_success_rate": whole(mean),
                    "cluster_success_rate_ejection_threshold": whole(limit),
                }),
            ),
            Kind::FailurePercentage | Kind::FailurePercentageLocalOrigin => {
                set("eject_failure_percentage_event", json!({ "host_success_rate": whole(rate) }));
            }
            _ => set("eject_consecutive_event", json!({})),
        }
    }
    Value::Object(line)
}

/// A percentage without its fraction.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a percentage, 0 to 100"
)]
const fn whole(percent: f64) -> u32 {
    percent as u32
}
