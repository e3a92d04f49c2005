//! `/drain_listeners`: closes the listening sockets; with `graceful`, after a time of `connection: close`.

use crate::control::admin::reply::Reply;
use crate::control::admin::{DrainListeners, Effect, Endpoint, Order, parameter};

pub(super) const ENDPOINT: Endpoint = Endpoint {
    path: "/drain_listeners",
    effect: Effect::Changes,
    help: "drain listeners",
    parameters: &[
        parameter(
            "graceful",
            "When draining listeners, enter a graceful drain period prior to closing listeners. \
             This behaviour and duration is configurable via server options or CLI",
        ),
        parameter(
            "skip_exit",
            "When draining listeners, drain the connections but never stop the listeners. The \
             graceful parameter has no effect when this is set, since the drain period only delays \
             stopping the listeners",
        ),
        parameter(
            "inboundonly",
            "Drains all inbound listeners. traffic_direction field in \
             envoy_v3_api_msg_config.listener.v3.Listener is used to determine whether a listener \
             is inbound or outbound.",
        ),
    ],
    answer: |admin, query| {
        admin.server.order(Order::DrainListeners(DrainListeners {
            graceful: query.has("graceful"),
            skip_exit: query.has("skip_exit"),
            inbound_only: query.has("inboundonly"),
        }));
        Reply::ok()
    },
};
