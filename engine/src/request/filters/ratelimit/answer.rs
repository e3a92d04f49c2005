//! What a rate limit service says.

use std::fmt::Write as _;

use prost::Message as _;

use super::proto::{Code, DescriptorStatus, HeaderValue, Limit, RateLimitResponse};
use crate::http::Fields;
use crate::request::callout::{CallFailed, Response, grpc, json};
use crate::request::filters::ext_authz::verdict::{Change, is_field};
use crate::request::rate_limit::QuotaHeaders;

/// An answer.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) is_over_limit: bool,
    pub(super) statuses: Vec<DescriptorStatus>,
    pub(super) response: Vec<Change>,
    pub(super) request: Vec<Change>,
    pub(super) body: Vec<u8>,
    pub(super) metadata: serde_json::Map<String, serde_json::Value>,
}

impl Answer {
    /// None: the service has not answered, or with something that cannot be used.
    pub(super) fn read(answer: Result<Response, CallFailed>) -> Option<Self> {
        let message = grpc::message(answer).ok()?;
        let response = RateLimitResponse::decode(&*message).ok()?;
        let is_over_limit = response.overall_code() == Code::OverLimit;
        let RateLimitResponse {
            overall_code: _,
            statuses,
            response_headers_to_add,
            request_headers_to_add,
            raw_body,
            dynamic_metadata,
        } = response;
        Some(Self {
            is_over_limit,
            statuses,
            response: additions(response_headers_to_add)?,
            request: additions(request_headers_to_add)?,
            body: raw_body,
            metadata: dynamic_metadata.map(json::of_struct).unwrap_or_default(),
        })
    }

    /// Adds `x-ratelimit-limit` and what belongs to it. `of_descriptors` is what the descriptors say, in the
    /// order of the statuses.
    pub(super) fn add_quota(&self, of_descriptors: &[QuotaHeaders], to: &mut Fields) {
        let shown = self.statuses.iter().enumerate().filter_map(|(i, status)| {
            let is_off = of_descriptors.get(i) == Some(&QuotaHeaders::Off);
            let limit = status.current_limit.as_ref().filter(|_| !is_off)?;
            Some((status, limit))
        });
        let mut policies = String::new();
        let mut least: Option<(&DescriptorStatus, &Limit)> = None;
        for (status, limit) in shown {
            if least.is_none_or(|(least, _)| status.limit_remaining < least.limit_remaining) {
                least = Some((status, limit));
            }
            limit.write_policy(&mut policies);
        }
        let Some((status, limit)) = least else { return };
        let limit = format!("{}{policies}", limit.requests_per_unit);
        let remaining = status.limit_remaining.to_string();
        let reset = status.seconds_until_reset().to_string();
        for (name, value) in [
            (&b"x-ratelimit-limit"[..], limit),
            (b"x-ratelimit-remaining", remaining),
            (b"x-ratelimit-reset", reset),
        ] {
            // The name of a limit could be anything.
            if is_field(name, value.as_bytes()) {
                to.append_other(name, value.as_bytes());
            }
        }
    }

    /// After how many seconds none of the limits is reached any more.
    pub(super) fn retry_after(&self) -> Option<i64> {
        let reached = self.statuses.iter().filter(|status| status.code() == Code::OverLimit);
        reached.map(DescriptorStatus::seconds_until_reset).max().filter(|seconds| *seconds > 0)
    }
}

impl DescriptorStatus {
    fn seconds_until_reset(&self) -> i64 {
        self.duration_until_reset.map_or(0, |duration| duration.seconds)
    }
}

impl Limit {
    /// `, 10;w=1;name="a"`
    fn write_policy(&self, to: &mut String) {
        // As Envoy's `RateLimitResponse.RateLimit.Unit` numbers them.
        let seconds = match self.unit {
            1 => 1,
            2 => 60,
            3 => 60 * 60,
            4 => 24 * 60 * 60,
            5 => 30 * 24 * 60 * 60,
            6 => 365 * 24 * 60 * 60,
            7 => 7 * 24 * 60 * 60,
            _ => return,
        };
        let _ = write!(to, ", {};w={seconds}", self.requests_per_unit);
        if !self.name.is_empty() {
            let _ = write!(to, ";name=\"{}\"", self.name);
        }
    }
}

/// None: one of them cannot be sent.
fn additions(headers: Vec<HeaderValue>) -> Option<Vec<Change>> {
    let each = headers.into_iter().map(|HeaderValue { key, value, raw_value }| {
        let name = key.to_ascii_lowercase().into_bytes();
        let value = if raw_value.is_empty() { value.into_bytes() } else { raw_value };
        is_field(&name, &value).then_some(Change::Add(name, value))
    });
    each.collect()
}

#[cfg(test)]
mod tests {
    use prost_types::Duration;

    use super::*;

    fn status(limit: Option<(u32, i32, &str)>, remaining: u32, reset: i64) -> DescriptorStatus {
        DescriptorStatus {
            code: Code::OverLimit.into(),
            current_limit: limit.map(|(requests_per_unit, unit, name)| Limit {
                requests_per_unit,
                unit,
                name: name.to_owned(),
            }),
            limit_remaining: remaining,
            duration_until_reset: Some(Duration { seconds: reset, nanos: 0 }),
        }
    }

    fn quota(statuses: Vec<DescriptorStatus>, of_descriptors: &[QuotaHeaders]) -> Vec<String> {
        let answer = Answer {
            is_over_limit: false,
            statuses,
            response: Vec::new(),
            request: Vec::new(),
            body: Vec::new(),
            metadata: serde_json::Map::new(),
        };
        let mut fields = Fields::default();
        answer.add_quota(of_descriptors, &mut fields);
        fields.iter().map(|(_, _, value)| String::from_utf8_lossy(value).into_owned()).collect()
    }

    #[test]
    fn the_limit_that_is_reached_first_is_told() {
        let statuses = || {
            vec![
                status(Some((10, 1, "per-ip")), 7, 1),
                status(Some((100, 2, "")), 3, 42),
                status(None, 0, 9),
                status(Some((5, 0, "")), 3, 8),
            ]
        };
        let limit = "100, 10;w=1;name=\"per-ip\", 100;w=60";
        assert_eq!(quota(statuses(), &[]), [limit, "3", "42"]);
        assert_eq!(quota(statuses(), &[QuotaHeaders::Off]), ["100, 100;w=60", "3", "42"]);
        assert_eq!(quota(vec![status(None, 0, 1)], &[]), [""; 0]);
        // A name must not become a header of its own.
        let named = vec![status(Some((1, 1, "a\r\nx-evil: 1")), 0, 1)];
        assert_eq!(quota(named, &[]), ["0", "1"]);
    }
}
