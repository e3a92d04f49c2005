//! `/explain`: what the configuration that is in force does with a request, without sending it.

use std::net::{IpAddr, SocketAddr};

use hyper::StatusCode;

use crate::control::admin::query::Query;
use crate::control::admin::reply::Reply;
use crate::control::admin::{Admin, Effect, Endpoint, json, parameter};
use crate::explain::{Asked, Explanation};

pub(super) const ENDPOINT: Endpoint = Endpoint {
    path: "/explain",
    effect: Effect::Shows,
    help: "show what the configuration does with a request",
    parameters: &[
        parameter("request", "Method and URL: GET https://host/path"),
        parameter("header", "A header of the request: 'name: value'. May be repeated"),
        parameter("listener", "Name of the listener. Default: the one with the port of the URL"),
        parameter("client", "IP address of the client. Default: 127.0.0.1"),
        parameter("random", "What fractions and weights are drawn by. Default: 0"),
        parameter("format", "File format to use; One of (text, json)"),
    ],
    answer: |admin, query| match explained(admin, query) {
        Ok(explanation) if query.value("format") == Some("json") => json::reply(&explanation),
        Ok(explanation) => Reply::text(explanation.to_text(&|_| None)),
        Err(why) => Reply::text(format!("{why}\n")).with_status(StatusCode::BAD_REQUEST),
    },
};

fn explained(admin: &Admin, query: &Query) -> Result<Explanation, String> {
    let request = query.value("request").ok_or("the parameter `request` is missing")?;
    let headers = query.parameters().filter(|(name, _)| *name == "header");
    let headers: Vec<String> = headers.map(|(_, value)| value.to_owned()).collect();
    let mut asked = Asked::new(request, &headers).map_err(|error| error.to_string())?;
    asked.listener = query.value("listener").map(str::to_owned);
    if let Some(client) = query.value("client") {
        let client: IpAddr = client.parse().map_err(|_| format!("`{client}` is no IP address"))?;
        asked.client = SocketAddr::new(client, Asked::CLIENT_PORT).into();
    }
    if let Some(random) = query.value("random") {
        asked.random = random.parse().map_err(|_| format!("`{random}` is no number"))?;
    }
    admin.server.explain(&asked).map_err(|error| error.to_string())
}
