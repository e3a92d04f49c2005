//! How long a request may take: `max_stream_duration` of a route, and the `grpc-timeout` of a client.

use std::time::Duration;

use crate::http::{FieldName, Fields};
use crate::shard::clock::millis;

/// `max_stream_duration` of a route. It replaces the route's `timeout`, and the connection manager's
/// `max_stream_duration`.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct MaxStreamDuration {
    /// For requests to which no `grpc-timeout` applies. Zero: no limit; none: the connection manager's.
    pub max: Option<Duration>,
    /// The longest `grpc-timeout` that a client may ask for. Zero: any; none: the header has no effect.
    pub grpc_timeout_header_max: Option<Duration>,
    /// Subtracted from the `grpc-timeout`, so that this proxy gives up before the client does.
    pub grpc_timeout_header_offset: Duration,
}

/// `max_grpc_timeout` of a route: the older way, which makes `grpc-timeout` the route's timeout.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct MaxGrpcTimeout {
    /// The longest timeout. Zero: any.
    pub max: Duration,
    /// `grpc_timeout_offset`: subtracted from the client's timeout if that leaves something.
    pub offset: Duration,
}

impl MaxStreamDuration {
    /// The limit for a request with this `grpc-timeout`; `None`: no limit. `manager` is the connection
    /// manager's limit. As in Envoy, the header counts for every request, gRPC or not.
    pub fn limit(
        &self,
        grpc_timeout: Option<Duration>,
        manager: Option<Duration>,
    ) -> Option<Duration> {
        match (grpc_timeout, self.grpc_timeout_header_max, self.max) {
            (Some(asked), Some(max), _) => {
                let capped = if max.is_zero() { asked } else { asked.min(max) };
                Some(capped.saturating_sub(self.grpc_timeout_header_offset))
            }
            (_, _, Some(max)) => Some(max).filter(|max| !max.is_zero()),
            (_, _, None) => manager,
        }
    }
}

impl MaxGrpcTimeout {
    /// The timeout of a gRPC request with this `grpc-timeout`; `None`: no timeout.
    pub fn timeout(&self, grpc_timeout: Option<Duration>) -> Option<Duration> {
        let asked = grpc_timeout.unwrap_or_default();
        let asked = if self.offset < asked { asked.saturating_sub(self.offset) } else { asked };
        let is_allowed = self.max.is_zero() || (!asked.is_zero() && asked <= self.max);
        Some(if is_allowed { asked } else { self.max }).filter(|timeout| !timeout.is_zero())
    }
}

/// The `grpc-timeout` of a request, in whole milliseconds, rounded up; `None` if it is absent or
/// invalid.
pub(crate) fn grpc_timeout(fields: &Fields) -> Option<Duration> {
    let (unit, digits) = fields.get(FieldName::GrpcTimeout)?.split_last()?;
    let value: u64 = std::str::from_utf8(digits).ok()?.trim().parse().ok()?;
    if value > VALUE_MAX {
        return None;
    }
    let ms = match unit {
        b'H' => value.checked_mul(3_600_000)?,
        b'M' => value.checked_mul(60_000)?,
        b'S' => value.checked_mul(1000)?,
        b'm' => value,
        b'u' => value.div_ceil(1000),
        b'n' => value.div_ceil(1_000_000),
        _ => return None,
    };
    Some(Duration::from_millis(ms))
}

/// Sets the `grpc-timeout` of a request, in the smallest unit from milliseconds on that its eight
/// digits allow.
pub(crate) fn set_grpc_timeout(fields: &mut Fields, timeout: Duration) {
    let mut value = millis(timeout);
    let mut unit = b'm';
    for (larger, factor) in [(b'S', 1000), (b'M', 60), (b'H', 60)] {
        if value <= VALUE_MAX {
            break;
        }
        value /= factor;
        unit = larger;
    }
    let mut text = itoa::Buffer::new().format(value.min(VALUE_MAX)).as_bytes().to_vec();
    text.push(unit);
    fields.set(FieldName::GrpcTimeout, &text);
}

/// The largest value of a `grpc-timeout`: eight digits.
const VALUE_MAX: u64 = 99_999_999;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::route::tests::request;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn read(value: &str) -> Option<u64> {
        let request = request("/", &[&format!("grpc-timeout: {value}")]);
        grpc_timeout(&request.fields).map(millis)
    }

    fn written(timeout: Duration) -> String {
        let mut request = request("/", &[]);
        set_grpc_timeout(&mut request.fields, timeout);
        String::from_utf8(request.fields.get(FieldName::GrpcTimeout).unwrap().to_vec()).unwrap()
    }

    #[test]
    fn every_unit_is_read_and_fractions_of_a_millisecond_are_rounded_up() {
        for (value, expected) in [
            ("2H", 7_200_000),
            ("3M", 180_000),
            ("1S", 1000),
            ("100m", 100),
            ("200000u", 200),
            ("1u", 1),
            ("1000001n", 2),
            ("0m", 0),
        ] {
            assert_eq!(read(value), Some(expected), "{value}");
        }
    }

    #[test]
    fn an_invalid_timeout_counts_as_none() {
        for value in ["abc", "", "m", "10", "10x", "-1m", "1.5S", "100000000m"] {
            assert_eq!(read(value), None, "{value}");
        }
        assert_eq!(grpc_timeout(&request("/", &[]).fields), None);
    }

    #[test]
    fn a_timeout_is_written_with_at_most_eight_digits() {
        assert_eq!(written(ms(300)), "300m");
        assert_eq!(written(ms(99_999_999)), "99999999m");
        assert_eq!(written(ms(100_000_000)), "100000S");
        assert_eq!(written(Duration::from_secs(100_000_000)), "1666666M");
        assert_eq!(written(Duration::MAX), "99999999H");
    }

    #[test]
    fn the_header_counts_only_if_a_maximum_is_configured() {
        let manager = Some(ms(7));
        let none = MaxStreamDuration::default();
        assert_eq!(none.limit(Some(ms(100)), manager), manager);
        let own = MaxStreamDuration { max: Some(ms(300)), ..none };
        assert_eq!(own.limit(Some(ms(100)), manager), Some(ms(300)));
        let unlimited = MaxStreamDuration { max: Some(ms(0)), ..none };
        assert_eq!(unlimited.limit(None, manager), None);
        let capped = MaxStreamDuration { grpc_timeout_header_max: Some(ms(200)), ..own };
        assert_eq!(capped.limit(Some(ms(100)), manager), Some(ms(100)));
        assert_eq!(capped.limit(Some(ms(900)), manager), Some(ms(200)));
        assert_eq!(capped.limit(None, manager), Some(ms(300)));
        let any = MaxStreamDuration { grpc_timeout_header_max: Some(ms(0)), ..none };
        assert_eq!(any.limit(Some(ms(900)), manager), Some(ms(900)));
    }

    #[test]
    fn the_offset_may_leave_nothing() {
        let offset = MaxStreamDuration {
            max: None,
            grpc_timeout_header_max: Some(ms(10_000)),
            grpc_timeout_header_offset: ms(500),
        };
        assert_eq!(offset.limit(Some(ms(800)), None), Some(ms(300)));
        assert_eq!(offset.limit(Some(ms(400)), None), Some(ms(0)));
    }

    #[test]
    fn the_older_fields_cap_the_timeout_of_the_route() {
        let capped = MaxGrpcTimeout { max: ms(1000), offset: ms(100) };
        assert_eq!(capped.timeout(Some(ms(300))), Some(ms(200)));
        assert_eq!(capped.timeout(Some(ms(100))), Some(ms(100)));
        assert_eq!(capped.timeout(Some(ms(5000))), Some(ms(1000)));
        assert_eq!(capped.timeout(None), Some(ms(1000)));
        let any = MaxGrpcTimeout { max: ms(0), offset: ms(0) };
        assert_eq!(any.timeout(Some(ms(5000))), Some(ms(5000)));
        assert_eq!(any.timeout(None), None);
    }
}
