//! `/healthcheck/fail` and `/healthcheck/ok`: take the server out of its load balancer, and put it back.

use crate::control::admin::reply::Reply;
use crate::control::admin::{Effect, Endpoint, Order};

pub(super) const FAIL: Endpoint = Endpoint {
    path: "/healthcheck/fail",
    effect: Effect::Changes,
    help: "cause the server to fail health checks",
    parameters: &[],
    answer: |admin, _| {
        admin.server.order(Order::FailHealthCheck);
        Reply::ok()
    },
};

pub(super) const OK: Endpoint = Endpoint {
    path: "/healthcheck/ok",
    effect: Effect::Changes,
    help: "cause the server to pass health checks",
    parameters: &[],
    answer: |admin, _| {
        admin.server.order(Order::PassHealthCheck);
        Reply::ok()
    },
};
