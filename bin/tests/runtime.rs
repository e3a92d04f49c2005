//! Runtime values that change while traffic flows.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use serde_json::Value;
use tempfile::TempDir;

use crate::support::{Config, Origin, Proxy, wait_until};

const FAULT: &str = "fault.v3.HTTPFault";

/// A proxy that aborts requests with a 503 if `abort.percent` says so, which is 0.
fn that_aborts(origin: &Origin, layers: &str) -> Proxy {
    let abort = "abort: { http_status: 503, percentage: { numerator: 0 } }, \
                 abort_percent_runtime: abort.percent";
    Proxy::with(
        Config::to(origin)
            .filter("envoy.filters.http.fault", FAULT, abort)
            .bootstrap("node: { id: edge, cluster: edges }")
            .bootstrap(&format!("layered_runtime: {{ layers: [{layers}] }}")),
    )
}

fn layers(proxy: &Proxy, key: &str) -> Vec<String> {
    let runtime: Value = serde_json::from_slice(&proxy.admin("/runtime").body).unwrap();
    let values = runtime["entries"][key]["layer_values"].as_array().cloned().unwrap_or_default();
    values.iter().map(|value| value.as_str().unwrap().to_owned()).collect()
}

#[test]
fn the_operator_sets_a_value_and_takes_it_back() {
    let origin = Origin::that_answers();
    let layers_of = "{ name: fixed, static_layer: { abort: { percent: 0 } } }, \
                     { name: admin, admin_layer: {} }";
    let proxy = that_aborts(&origin, layers_of);
    let mut client = proxy.connect();
    assert_eq!(client.get("/").status(), 200);
    let set = proxy.admin_post("/runtime_modify?abort.percent=100");
    assert_eq!((set.status(), &*set.body), (200, &b"OK\n"[..]));
    assert_eq!(client.get("/").status(), 503, "also on a connection that is open");
    assert_eq!(layers(&proxy, "abort.percent"), ["0", "100"]);
    assert_eq!(proxy.stat("runtime.admin_overrides_active"), 1);
    assert_eq!(proxy.admin_post("/runtime_modify?abort.percent=").status(), 200);
    assert_eq!(client.get("/").status(), 200);
    assert_eq!(proxy.stat("runtime.admin_overrides_active"), 0);
    assert_eq!(proxy.stat("runtime.load_success"), 4);
}

#[test]
fn without_a_layer_for_it_nothing_is_set() {
    let origin = Origin::that_answers();
    let proxy = that_aborts(&origin, "{ name: fixed, static_layer: {} }");
    let refused = proxy.admin_post("/runtime_modify?abort.percent=100");
    assert_eq!((refused.status(), &*refused.body), (503, &b"No admin layer specified"[..]));
    assert_eq!(proxy.get("/").status(), 200);
}

/// Makes `link` lead to `version`, as Kubernetes does it.
fn swap(folder: &Path, version: &str) {
    symlink(version, folder.join("new")).unwrap();
    fs::rename(folder.join("new"), folder.join("current")).unwrap();
}

#[test]
fn files_are_read_again_when_their_root_is_swapped() {
    let folder = TempDir::new().unwrap();
    let put = |path: &str, text: &str| {
        let path = folder.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    put("v1/envoy/abort/percent", "# nobody\n0\n");
    put("v2/envoy/abort/percent", "0\n");
    put("v2/override/edges/abort/percent", "100");
    swap(folder.path(), "v1");
    let root = folder.path().join("current");
    let root = root.display();
    let origin = Origin::that_answers();
    let proxy = that_aborts(
        &origin,
        &format!(
            "{{ name: base, disk_layer: {{ symlink_root: {root}, subdirectory: envoy }} }}, \
             {{ name: cluster, disk_layer: {{ symlink_root: {root}, subdirectory: override, \
             append_service_cluster: true }} }}"
        ),
    );
    let mut client = proxy.connect();
    assert_eq!(client.get("/").status(), 200);
    assert_eq!(layers(&proxy, "abort.percent"), ["0"], "the other directory is not there");
    assert_eq!(proxy.stat("runtime.num_layers"), 1);
    swap(folder.path(), "v2");
    wait_until("the new values", || client.get("/").status() == 503);
    assert_eq!(layers(&proxy, "abort.percent"), ["0", "100"]);
    assert!(proxy.stat("runtime.override_dir_exists") > 0);
}

#[test]
fn values_come_as_a_resource() {
    let folder = TempDir::new().unwrap();
    let put = |version: &str, name: &str, percent: &str| {
        let new = folder.path().join("new");
        let resource = format!(
            "version_info: {version}\nresources:\n- '@type': type.googleapis.com/envoy.service.runtime.v3.Runtime\n  \
             name: {name}\n  layer: {{ abort: {{ percent: {percent} }} }}\n"
        );
        fs::write(&new, resource).unwrap();
        fs::rename(new, folder.path().join("rtds.yaml")).unwrap();
    };
    put("v1", "values", "100");
    let path = folder.path().join("rtds.yaml");
    let origin = Origin::that_answers();
    let layer = format!(
        "{{ name: come, rtds_layer: {{ name: values, rtds_config: {{ path_config_source: {{ path: {} }} }} }} }}",
        path.display()
    );
    let proxy = that_aborts(&origin, &layer);
    let mut client = proxy.connect();
    assert_eq!(client.get("/").status(), 503, "they are there before the first request");
    put("v2", "values", "0");
    wait_until("the new value", || client.get("/").status() == 200);
    put("v3", "others", "100");
    proxy.stat_becomes("runtime.update_rejected", 1);
    assert_eq!(client.get("/").status(), 200);
    assert_eq!(proxy.stat("runtime.update_success"), 2);
}

#[test]
fn the_weights_of_clusters_follow_the_runtime() {
    let origins = [Origin::that_answers(), Origin::that_answers()];
    let route = "cluster: service";
    let weighted = "weighted_clusters: { runtime_key_prefix: weights, clusters: \
                    [{ name: service, weight: 100 }, { name: other, weight: 0 }] }";
    let config = Config::to(&origins[0])
        .other_cluster("other", origins[1].address())
        .bootstrap("layered_runtime: { layers: [{ name: admin, admin_layer: {} }] }")
        .yaml()
        .replace(route, weighted);
    let proxy = Proxy::with(Config::verbatim(config));
    let mut client = proxy.connect();
    assert_eq!(client.get("/").status(), 200);
    assert_eq!(origins[1].seen().len(), 0);
    proxy.admin_post("/runtime_modify?weights.service=0&weights.other=5");
    assert_eq!(client.get("/").status(), 200);
    assert_eq!(origins[1].seen().len(), 1);
}
