use std::net::{IpAddr, SocketAddr};
use std::time::SystemTime;

use corvoy_config::{self as config, Path, Problems};
use serde_json::{Value, json};

use super::*;
use crate::address::Address;
use crate::format::StreamInfo;
use crate::metadata::Metadata;
use crate::request::route::tests::request;

/// A request of a client, to a cluster, with metadata.
struct Known {
    client: IpAddr,
    dynamic: Metadata,
    route: Metadata,
}

impl StreamInfo for Known {
    fn start_time(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH
    }

    fn downstream_remote_address(&self) -> Option<Address> {
        Some(SocketAddr::new(self.client, 1234).into())
    }

    fn upstream_cluster_raw(&self) -> Option<&str> {
        Some("service")
    }

    fn dynamic_metadata(&self) -> Option<&Metadata> {
        Some(&self.dynamic)
    }

    fn static_metadata(&self, of: MetadataOf) -> Option<&Metadata> {
        (of == MetadataOf::Route).then_some(&self.route)
    }
}

fn compiled(schema: &Value) -> Result<RateLimit, String> {
    let schema: config::RateLimit = serde_json::from_value(schema.clone()).unwrap();
    let mut problems = Problems::default();
    let limits = compile::of_filter(&[schema], "us", &Path::root(), &mut problems);
    let errors: Vec<_> = problems.errors().map(|error| error.message.clone()).collect();
    limits.and_then(|limits| limits.into_iter().next()).ok_or_else(|| errors.join("; "))
}

/// The descriptor of a request from 192.0.2.77 as `key=value, …`.
fn shown(schema: &Value) -> Option<String> {
    let known = Known {
        client: [192, 0, 2, 77].into(),
        dynamic: Metadata::new([("ns", json!({ "user": { "name": "ann" }, "number": 1 }))]),
        route: Metadata::new([("ns", json!({ "kind": "slow" }))]),
    };
    let head = request("/path?a=x%20y&b", &["x-a: 1", "x-a: 2", "x-size: 12.5"]);
    let inputs = Inputs { request: Some(&head), ..Inputs::new(&known) };
    let descriptor = compiled(schema).unwrap().descriptor(&inputs)?;
    let entries = entries(&descriptor.entries).map(|(key, value)| {
        format!("{}={}", String::from_utf8_lossy(key), String::from_utf8_lossy(value))
    });
    let hits = match (descriptor.hits, descriptor.is_negative) {
        (None, _) => String::new(),
        (Some(hits), false) => format!(" {hits} hits"),
        (Some(hits), true) => format!(" {hits} hits back"),
    };
    Some(entries.collect::<Vec<_>>().join(", ") + &hits)
}

fn action(action: &Value) -> Option<String> {
    shown(&json!({ "actions": [action] }))
}

fn check(cases: &[(Value, Option<&str>)]) {
    for (schema, expected) in cases {
        assert_eq!(action(schema).as_deref(), *expected, "{schema}");
    }
}

#[test]
fn actions_make_entries_of_a_request() {
    check(&[
        (json!({ "source_cluster": {} }), Some("source_cluster=us")),
        (json!({ "destination_cluster": {} }), Some("destination_cluster=service")),
        (json!({ "remote_address": {} }), Some("remote_address=192.0.2.77")),
        (
            json!({ "masked_remote_address": { "v4_prefix_mask_len": 24 } }),
            Some("masked_remote_address=192.0.2.0/24"),
        ),
        (json!({ "masked_remote_address": {} }), Some("masked_remote_address=192.0.2.77/32")),
        (json!({ "generic_key": { "descriptor_value": "v" } }), Some("generic_key=v")),
        (json!({ "generic_key": { "descriptor_value": "v", "descriptor_key": "k" } }), Some("k=v")),
    ]);
}

#[test]
fn what_is_absent_leaves_out_its_entry_or_the_descriptor() {
    let header = |name: &str, skip_if_absent: bool| {
        json!({ "request_headers": {
            "header_name": name, "descriptor_key": "k", "skip_if_absent": skip_if_absent } })
    };
    let parameter = |name: &str, skip_if_absent: bool| {
        json!({ "query_parameters": {
            "query_parameter_name": name, "descriptor_key": "k", "skip_if_absent": skip_if_absent } })
    };
    check(&[
        (header("X-A", false), Some("k=1")),
        (header(":path", false), Some("k=/path?a=x%20y&b")),
        (header("x-b", false), None),
        (header("x-b", true), Some("")),
        (parameter("a", false), Some("k=x y")),
        (parameter("b", false), Some("k=")),
        (parameter("c", false), None),
        (parameter("c", true), Some("")),
    ]);
}

#[test]
fn a_match_adds_an_entry_or_its_absence_does() {
    let header = |value: &str, expect: Option<bool>| {
        json!({ "header_value_match": {
            "descriptor_value": "v", "expect_match": expect,
            "headers": [{ "name": "x-a", "string_match": { "exact": value } }] } })
    };
    let query = |value: &str, expect: Option<bool>| {
        json!({ "query_parameter_value_match": {
            "descriptor_value": "v", "descriptor_key": "k", "expect_match": expect,
            "query_parameters": [{ "name": "a", "string_match": { "exact": value } }] } })
    };
    let address = |prefix: &str, invert: bool| {
        json!({ "remote_address_match": {
            "descriptor_value": "%REQ(x-a)%", "address_matcher": {
                "ranges": [{ "address_prefix": prefix, "prefix_len": 24 }], "invert_match": invert } } })
    };
    check(&[
        (header("2", None), Some("header_match=v")),
        (header("3", None), None),
        (header("3", Some(false)), Some("header_match=v")),
        (query("x y", None), Some("k=v")),
        (query("x", None), None),
        (query("x", Some(false)), Some("k=v")),
        (address("192.0.2.0", false), Some("remote_address_match=1")),
        (address("192.0.3.0", false), None),
        (address("192.0.3.0", true), Some("remote_address_match=1")),
    ]);
}

#[test]
fn metadata_is_an_entry_if_it_is_a_text() {
    let metadata = |source: &str, path: &[&str], default: &str, skip_if_absent: bool| {
        let path: Vec<_> = path.iter().map(|key| json!({ "key": key })).collect();
        json!({ "metadata": {
            "descriptor_key": "k", "metadata_key": { "key": "ns", "path": path },
            "source": source, "default_value": default, "skip_if_absent": skip_if_absent } })
    };
    check(&[
        (metadata("DYNAMIC", &["user", "name"], "", false), Some("k=ann")),
        (metadata("ROUTE_ENTRY", &["kind"], "", false), Some("k=slow")),
        (metadata("CLUSTER_ENTRY", &["kind"], "", false), None),
        (metadata("DYNAMIC", &["number"], "", false), None),
        (metadata("DYNAMIC", &["number"], "default", false), Some("k=default")),
        (metadata("DYNAMIC", &["number"], "", true), Some("")),
    ]);
}

#[test]
fn a_descriptor_has_the_entries_of_all_its_actions() {
    let actions = json!({ "actions": [
        { "generic_key": { "descriptor_value": "v" } },
        { "remote_address": {} },
    ] });
    assert_eq!(shown(&actions).as_deref(), Some("generic_key=v, remote_address=192.0.2.77"));
}

#[test]
fn hits_are_a_number_or_computed() {
    let hits = |hits: &Value| {
        let actions = json!([{ "generic_key": { "descriptor_value": "v" } }]);
        shown(&json!({ "actions": actions, "hits_addend": hits }))
    };
    assert_eq!(hits(&json!({ "number": 5 })).as_deref(), Some("generic_key=v 5 hits"));
    let back = json!({ "number": 5, "is_negative_hits": true });
    assert_eq!(hits(&back).as_deref(), Some("generic_key=v 5 hits back"));
    let computed = hits(&json!({ "format": "%REQ(x-size)%" }));
    assert_eq!(computed.as_deref(), Some("generic_key=v 12 hits"));
    assert_eq!(hits(&json!({ "format": "%REQ(x-none)%" })), None);
}

#[test]
fn what_cannot_be_done_is_an_error() {
    let error = |schema: Value| compiled(&schema).unwrap_err();
    let locality = json!({ "actions": [{ "metadata": {
        "descriptor_key": "k", "metadata_key": { "key": "ns" }, "source": "CLUSTER_LOCALITY_ENTRY" } }] });
    assert!(error(locality).contains("locality"));
    let hits = json!({ "actions": [], "hits_addend": { "format": "%PROTOCOL%%PROTOCOL%" } });
    assert!(error(hits).contains("one command"));
}
