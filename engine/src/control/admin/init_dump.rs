//! `/init_dump`: what the server still waits for. It answers only once it waits for nothing.

use serde_json::json;

use crate::control::admin::{Effect, Endpoint, json};

pub(super) const ENDPOINT: Endpoint = Endpoint {
    path: "/init_dump",
    effect: Effect::Shows,
    help: "dump what the start still waits for (always empty)",
    parameters: &[],
    answer: |_, _| json::reply(&json!({})),
};
