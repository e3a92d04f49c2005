//! `/hot_restart_version`: which other versions this process could take over from. None: a reload swaps the
//! configuration within the process.

use crate::control::admin::reply::Reply;
use crate::control::admin::{Effect, Endpoint};

pub(super) const ENDPOINT: Endpoint = Endpoint {
    path: "/hot_restart_version",
    effect: Effect::Shows,
    help: "print the hot restart compatibility version",
    parameters: &[],
    answer: |_, _| Reply::text("disabled"),
};
