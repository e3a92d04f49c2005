//! An explanation as text for a terminal.

use std::fmt::Write as _;

use super::{Explanation, Forwarded, Outcome, Place};

impl Explanation {
    /// Text of several lines. `locate` says where a place is, such as `envoy.yaml:12`.
    #[must_use]
    pub fn to_text(&self, locate: &dyn Fn(&Place) -> Option<String>) -> String {
        let mut text = Text { out: format!("{}\n", self.request), locate };
        text.part("listener", &self.listener.name, Some(&self.listener.at));
        if let Some(chain) = &self.filter_chain {
            text.part("filter chain", &chain.name, Some(&chain.at));
        }
        if let Some(host) = &self.virtual_host {
            text.part("virtual host", &host.name, Some(&host.at));
        }
        for passed in &self.passed_over {
            text.part("  not", &passed.failed_on, Some(&passed.at));
        }
        if let Some(route) = &self.route {
            let name = if route.name.is_empty() {
                route.matched.clone()
            } else {
                format!("{}: {}", route.name, route.matched)
            };
            text.part("route", &name, Some(&route.at));
        }
        text.outcome(&self.outcome);
        if !self.filters.is_empty() {
            text.part("filters", &self.filters.join(", "), None);
        }
        text.list("request", &self.request_changes);
        text.list("response", &self.response_changes);
        text.list("note", &self.notes);
        text.out
    }
}

struct Text<'a> {
    out: String,
    locate: &'a dyn Fn(&Place) -> Option<String>,
}

impl Text<'_> {
    /// A line: what it is, its value, and where it is configured.
    fn part(&mut self, what: &str, value: &str, at: Option<&Place>) {
        let place = at.map(|at| (self.locate)(at).unwrap_or_else(|| at.to_string()));
        let line = match place {
            Some(place) if value.is_empty() => format!("{what:<14} {place}"),
            Some(place) => format!("{what:<14} {value}  ({place})"),
            None => format!("{what:<14} {value}"),
        };
        let _ = writeln!(self.out, "{line}");
    }

    fn list(&mut self, what: &str, values: &[String]) {
        for (i, value) in values.iter().enumerate() {
            self.part(if i == 0 { what } else { "" }, value, None);
        }
    }

    fn outcome(&mut self, outcome: &Outcome) {
        match outcome {
            Outcome::Forward(forwarded) => self.forwarded(forwarded),
            Outcome::Reply { status, why, location } => {
                let location =
                    if location.is_empty() { String::new() } else { format!(", to {location}") };
                self.part("answered", &format!("{status}, {why}{location}"), None);
            }
            Outcome::Closed => self.part("closed", "no filter chain matches", None),
            Outcome::Bytes => self.part("served", "as bytes: this chain has no HTTP", None),
        }
    }

    fn forwarded(&mut self, forwarded: &Forwarded) {
        let Forwarded {
            cluster,
            hosts,
            timeout_ms,
            per_try_timeout_ms,
            idle_timeout_ms,
            max_stream_duration_ms,
            retries,
            retry_on,
        } = forwarded;
        self.part("cluster", &cluster.name, Some(&cluster.at));
        let none = ["none: answered with 503".to_owned()];
        self.list("hosts", if hosts.is_empty() { &none } else { hosts });
        let ms = |limit: &Option<u128>| limit.map_or("none".to_owned(), |ms| format!("{ms} ms"));
        let mut timeouts = format!("{}, idle {}", ms(timeout_ms), ms(idle_timeout_ms));
        if per_try_timeout_ms.is_some() {
            timeouts.push_str(&format!(", per try {}", ms(per_try_timeout_ms)));
        }
        if max_stream_duration_ms.is_some() {
            timeouts.push_str(&format!(", at most {}", ms(max_stream_duration_ms)));
        }
        self.part("timeout", &timeouts, None);
        let retries = match (retry_on.is_empty(), *retries) {
            (true, _) | (_, 0) => "none".to_owned(),
            (false, times) => format!("up to {times}, on {}", retry_on.join(", ")),
        };
        self.part("retries", &retries, None);
    }
}
