//! `/help`: every endpoint and its parameters. The answer to an unknown path, too.

use crate::control::admin::reply::Reply;
use crate::control::admin::{ENDPOINTS, Effect, Endpoint};

pub(super) const ENDPOINT: Endpoint = Endpoint {
    path: "/help",
    effect: Effect::Shows,
    help: "print out list of admin commands",
    parameters: &[],
    answer: |_, _| Reply::pieces(commands()),
};

/// What Envoy says to an unknown path.
pub(super) fn unknown_path() -> impl Iterator<Item = String> + Send {
    std::iter::once("invalid path. ".to_owned()).chain(commands())
}

fn commands() -> impl Iterator<Item = String> + Send {
    std::iter::once("admin commands are:\n".to_owned()).chain(ENDPOINTS.iter().map(|endpoint| {
        let post = if endpoint.effect == Effect::Changes { " (POST)" } else { "" };
        let mut lines = format!("  {}{post}: {}\n", endpoint.path, endpoint.help);
        for parameter in endpoint.parameters {
            lines.push_str(&format!("      {}: {}\n", parameter.name, parameter.help));
        }
        lines
    }))
}
