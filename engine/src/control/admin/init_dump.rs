//! `/init_dump`: what listeners wait for before they serve.

use serde_json::{Value, json};

use crate::control::admin::query::Query;
use crate::control::admin::reply::Reply;
use crate::control::admin::{Admin, Effect, Endpoint, Unready, json, parameter};

pub(super) const ENDPOINT: Endpoint = Endpoint {
    path: "/init_dump",
    effect: Effect::Shows,
    help: "dump what listeners wait for before they serve",
    parameters: &[parameter(
        "mask",
        "The desired component to dump unready targets. The mask is parsed as a \
         Protobuf::FieldMask",
    )],
    answer,
};

//= envoy: only listeners are shown, and a mask selects nothing else
fn answer(admin: &Admin, query: &Query) -> Reply {
    let is_wanted =
        query.value("mask").is_none_or(|mask| mask.split(',').any(|it| it == "listener"));
    let unready = if is_wanted { admin.server.unready() } else { Vec::new() };
    if unready.is_empty() {
        return json::reply(&json!({}));
    }
    let dumps: Vec<Value> = unready.iter().map(dump).collect();
    json::reply(&json!({ "unready_targets_dumps": dumps }))
}

/// `envoy.admin.v3.UnreadyTargetsDumps.UnreadyTargetsDump`
fn dump(unready: &Unready) -> Value {
    let Unready { listener, hash, routes } = unready;
    let target =
        |routes: &String| format!("shared target RdsRouteConfigSubscription RDS init {routes}");
    let targets: Vec<String> = routes.iter().map(target).collect();
    json!({
        "name": format!("init manager Listener-local-init-manager {listener} {hash}"),
        "target_names": targets,
    })
}
