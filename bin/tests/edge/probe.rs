//! The responses that Http11Probe accepts, parsed from its descriptions.

use super::corpus::{Case, Level};
use super::exchange::Exchange;

/// Cases of level Should in which the client may be rejected but is served, each with the reason.
const LAXER: [(&str, &str); 5] = [
    ("COMP-DUPLICATE-CT", "it does not affect framing; forwarded as one joined field, as in Envoy"),
    ("COMP-LEADING-CRLF", "RFC 9112 §2.2 says to ignore empty lines before a request"),
    (
        "MAL-URL-BACKSLASH",
        "forwarded unchanged; `normalize_path` turns it into a slash, as in Envoy",
    ),
    ("SMUG-CL-EXTRA-LEADING-SP", "OWS of any length may precede a value: RFC 9112 §5"),
    ("SMUG-CL-TRAILING-SPACE", "OWS may follow a value: RFC 9112 §5"),
];

/// Cases of level Should that fail, each with the reason. Every Must passes.
const UNLIKE: [(&str, &str); 1] = [(
    "COMP-HTTP10-DEFAULT-CLOSE",
    "426 to HTTP/1.0, as Envoy does unless `accept_http_10` is set",
)];

/// Why a case of level Must or Should fails.
pub(super) fn judge(case: &Case, exchange: &Exchange) -> Option<String> {
    let should = case.level == Level::Should;
    // Shoulds without a score depend on the origin.
    if case.level != Level::Must && !(should && case.scored) {
        return None;
    }
    let is = |table: &[(&str, &str)]| table.iter().any(|(id, _)| *id == case.id);
    let answered = is_2xx(exchange.answers.first().map(|answer| answer.status()));
    let passes = passes(&case.expect, exchange);
    if should && answered && case.expect.starts_with("400 or 2xx") {
        let known = is(&LAXER);
        return (!known).then(|| format!("is laxer than a Should: {}", case.expect));
    }
    match (passes, should && is(&UNLIKE)) {
        (true, false) | (false, true) => None,
        (true, true) => Some("passes, and is in the table of those that do not".into()),
        (false, false) => Some(format!("({:?}) does not get {}", case.level, case.expect)),
    }
}

fn passes(expect: &str, exchange: &Exchange) -> bool {
    let first = exchange.answers.first();
    let status = first.map(|answer| answer.status());
    let only = exchange.answers.len() <= 1;
    let has = |name: &str| first.is_some_and(|answer| answer.header(name).is_some());
    let body = first.map(|answer| answer.body.as_slice()).unwrap_or_default();
    let two = is_2xx(status);
    match expect {
        "!101" | "non-101 (426 preferred)" => status != Some(101),
        "non-1xx response" => first.is_none_or(|answer| answer.interim.is_empty()),
        "2xx + close" => two && exchange.closed && only,
        "400/501 or 2xx+close" | "400 or 2xx+close" | "400, or 2xx + close" => {
            (two || refused(expect, exchange)) && exchange.closed && only
        }
        "2xx + echo" => two && exchange.seen.first().is_some_and(|seen| seen.body == body),
        "2xx with no body" => two && body.is_empty(),
        "2xx with Allow header" => two && has("allow"),
        "2xx with Date header" | "IMF-fixdate format" => two && has("date"),
        "2xx with Content-Type" => two && has("content-type"),
        "405 + Allow header" => status == Some(405) && has("allow"),
        "204 without CL" => status == Some(204) && !has("content-length"),
        "2xx + 2xx" => exchange.answers.len() >= 2,
        "not 414" => status.is_some_and(|status| status != 414),
        "Reject/drop (pass), normalize (fail), preserve (warn)" => refused("400", exchange),
        "400, or close" | "400, or close (no extra response)" => refused(expect, exchange) && only,
        _ => refused(expect, exchange) || two && (expect.contains("2xx") || expect.contains("200")),
    }
}

/// One of the named statuses; or a close or silence where they are allowed.
fn refused(expect: &str, exchange: &Exchange) -> bool {
    let status = exchange.answers.first().map(|answer| answer.status());
    if exchange.answered_before_canary == 0 && expect.contains("timeout") {
        return true;
    }
    let Some(status) = status else { return exchange.closed && expect.contains("close") };
    let named = expect.split(|c: char| !c.is_ascii_digit()).any(|word| word == status.to_string());
    // `close` also stands for an error response followed by a close.
    !is_2xx(Some(status)) && (named || exchange.closed && expect.contains("close"))
}

fn is_2xx(status: Option<u16>) -> bool {
    status.is_some_and(|status| (200..300).contains(&status))
}
