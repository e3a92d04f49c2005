//! `/runtime` and `/runtime_modify`: shows runtime values, and sets those of the admin layer.

use hyper::StatusCode;

use crate::control::admin::reply::Reply;
use crate::control::admin::{Effect, Endpoint, json};

pub(super) const ENDPOINT: Endpoint = Endpoint {
    path: "/runtime",
    effect: Effect::Shows,
    help: "print runtime values",
    parameters: &[],
    answer: |admin, _| json::reply(&admin.server.runtime()),
};

pub(super) const MODIFY: Endpoint = Endpoint {
    path: "/runtime_modify",
    effect: Effect::Changes,
    help: "Adds or modifies runtime values as passed in query parameters. To delete a previously \
           added key, use an empty string as the value. Note that deletion only applies to \
           overrides added via this endpoint; values loaded from disk can be modified via override \
           but not deleted. E.g. ?key1=value1&key2=value2...",
    parameters: &[],
    answer: |admin, query| match query.parameters().len() {
        0 => Reply::bad_request(USAGE),
        _ if admin.server.set_runtime(&mut query.parameters()) => Reply::text("OK\n"),
        _ => Reply::text("No admin layer specified").with_status(StatusCode::SERVICE_UNAVAILABLE),
    },
};

const USAGE: &str = "usage: /runtime_modify?key1=value1&key2=value2&keyN=valueN\n       \
     or send the parameters as form values\nuse an empty value to remove a previously added override\n";
