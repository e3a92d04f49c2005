//! `/reload`: reads the configuration again, as SIGHUP does, and says what has become of it. Corvoy's own.

use hyper::StatusCode;

use crate::control::admin::reply::Reply;
use crate::control::admin::{Effect, Endpoint, Reloaded};

pub(super) const ENDPOINT: Endpoint = Endpoint {
    path: "/reload",
    effect: Effect::Changes,
    help: "read the configuration again; the answer says what has changed, or why it is refused",
    parameters: &[],
    answer: |admin, _| Reply::later(admin.server.reload()),
};

/// The answer once it is known; `None`: the process ends.
pub(super) fn reply(reloaded: Option<Reloaded>) -> Reply {
    match reloaded {
        Some(Ok(text)) => Reply::text(text),
        Some(Err(why)) => Reply::text(why).with_status(StatusCode::BAD_REQUEST),
        None => {
            let why = "the process ends: the configuration is not read again\n";
            Reply::text(why).with_status(StatusCode::SERVICE_UNAVAILABLE)
        }
    }
}
