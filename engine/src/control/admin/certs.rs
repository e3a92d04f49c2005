//! `/certs`: the certificates of listeners and clusters. There is no TLS yet, so there are none.

use serde_json::json;

use crate::control::admin::{Effect, Endpoint, json};

pub(super) const ENDPOINT: Endpoint = Endpoint {
    path: "/certs",
    effect: Effect::Shows,
    help: "print certs on machine",
    parameters: &[],
    answer: |_, _| json::reply(&json!({ "certificates": [] })),
};
