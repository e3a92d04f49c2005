//! `/reopen_logs`: reopens the log file, as SIGUSR1 does.

use crate::control::admin::reply::Reply;
use crate::control::admin::{Effect, Endpoint, Order};

pub(super) const ENDPOINT: Endpoint = Endpoint {
    path: "/reopen_logs",
    effect: Effect::Changes,
    help: "reopen the log file",
    parameters: &[],
    answer: |admin, _| {
        admin.server.order(Order::ReopenLogs);
        Reply::ok()
    },
};
