//! `/help`: every endpoint and its parameters. The answer to an unknown path, too.

use crate::control::admin::reply::Reply;
use crate::control::admin::{ENDPOINTS, Effect, Endpoint};

pub(super) const ENDPOINT: Endpoint = Endpoint {
    path: "/help",
    effect: Effect::Shows,
    help: "print out list of admin commands",
    parameters: &[],
    answer: |_, _| Reply::text(commands()),
};

/// What Envoy says to an unknown path.
pub(super) fn unknown_path() -> String {
    format!("invalid path. {}", commands())
}

fn commands() -> String {
    let mut lines = "admin commands are:\n".to_owned();
    for Endpoint { path, effect, help, parameters, answer: _ } in ENDPOINTS {
        let post = if effect.takes_post() { " (POST)" } else { "" };
        lines.push_str(&format!("  {path}{post}: {help}\n"));
        for parameter in *parameters {
            lines.push_str(&format!("      {}: {}\n", parameter.name, parameter.help));
        }
    }
    lines
}
