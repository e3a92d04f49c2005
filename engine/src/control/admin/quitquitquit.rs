//! `/quitquitquit`: the server exits, without a drain.

use crate::control::admin::reply::Reply;
use crate::control::admin::{Effect, Endpoint, Order};

pub(super) const ENDPOINT: Endpoint = Endpoint {
    path: "/quitquitquit",
    effect: Effect::Exits,
    help: "exit the server at once",
    parameters: &[],
    answer: |_, _| Reply::ok().then(Order::Quit),
};
