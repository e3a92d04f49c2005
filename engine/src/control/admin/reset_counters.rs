//! `/reset_counters`: counters show zero from here on. Gauges and histograms stay.

use crate::control::admin::reply::Reply;
use crate::control::admin::{Effect, Endpoint};

pub(super) const ENDPOINT: Endpoint = Endpoint {
    path: "/reset_counters",
    effect: Effect::Changes,
    help: "reset all counters to zero",
    parameters: &[],
    answer: |admin, _| {
        admin.registry.reset_counters();
        Reply::ok()
    },
};
