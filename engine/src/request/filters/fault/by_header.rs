//! Faults that requests ask for with headers.

use crate::http::RequestHead;
use crate::request::route::Fraction;

pub(super) const ABORT: &[u8] = b"x-envoy-fault-abort-request";
pub(super) const ABORT_GRPC: &[u8] = b"x-envoy-fault-abort-grpc-request";
pub(super) const ABORT_PERCENTAGE: &[u8] = b"x-envoy-fault-abort-request-percentage";
/// Milliseconds.
pub(super) const DELAY: &[u8] = b"x-envoy-fault-delay-request";
pub(super) const DELAY_PERCENTAGE: &[u8] = b"x-envoy-fault-delay-request-percentage";
/// KiB a second.
pub(super) const RATE: &[u8] = b"x-envoy-fault-throughput-response";
pub(super) const RATE_PERCENTAGE: &[u8] = b"x-envoy-fault-throughput-response-percentage";

/// The number in a header.
pub(super) fn number(request: &RequestHead, name: &[u8]) -> Option<u64> {
    std::str::from_utf8(request.fields.find(name)?.trim_ascii()).ok()?.parse().ok()
}

/// How many of the requests: a header may ask for fewer than the configuration.
pub(super) fn capped(percentage: Fraction, request: &RequestHead, name: &[u8]) -> Fraction {
    let asked = number(request, name).and_then(|asked| u32::try_from(asked).ok());
    let numerator = asked.map_or(percentage.numerator, |asked| asked.min(percentage.numerator));
    Fraction { numerator, ..percentage }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::route::tests::request;

    #[test]
    fn a_header_may_ask_for_fewer_but_not_for_more() {
        let half = Fraction { numerator: 50, denominator: 100 };
        for (header, expected) in [
            (&[][..], 50),
            (&["x-envoy-fault-abort-request-percentage: 20"][..], 20),
            (&["x-envoy-fault-abort-request-percentage: 90"][..], 50),
            (&["x-envoy-fault-abort-request-percentage: some"][..], 50),
            (&["x-envoy-fault-abort-request-percentage: 0"][..], 0),
        ] {
            let capped = capped(half, &request("/", header), ABORT_PERCENTAGE);
            assert_eq!((capped.numerator, capped.denominator), (expected, 100), "{header:?}");
        }
    }
}
