//! `/ready`: whether the server should receive traffic, for health checks of load balancers.

use hyper::StatusCode;

use crate::control::admin::reply::Reply;
use crate::control::admin::{Effect, Endpoint, ServerState};

pub(super) const ENDPOINT: Endpoint = Endpoint {
    path: "/ready",
    effect: Effect::Shows,
    help: "print server state, return 200 if LIVE, otherwise return 503",
    parameters: &[],
    answer: |admin, _| {
        let state = admin.server.state();
        let status = match state {
            ServerState::Live => StatusCode::OK,
            _ => StatusCode::SERVICE_UNAVAILABLE,
        };
        Reply::text(format!("{}\n", state.name())).with_status(status)
    },
};
