//! The time between two moments of a request.

use std::time::Duration;

use super::{StreamInfo, TimePoint};

/// What is measured, and in which unit.
#[derive(Clone, Copy, Debug)]
pub(super) struct Span {
    /// Without a start or an end the request has no such duration, ever.
    between: Between,
    unit: Unit,
}

#[derive(Clone, Copy, Debug)]
enum Between {
    /// From the start to the end, or to now if it has not ended.
    All,
    /// From one moment to another.
    Points(TimePoint, TimePoint),
    /// A moment that only extensions set, and here there are none that do.
    Unknown,
}

#[derive(Clone, Copy, Debug)]
enum Unit {
    Micros,
    Millis,
    Nanos,
}

impl Span {
    /// The whole request, in milliseconds.
    pub(super) const ALL: Self = Self { between: Between::All, unit: Unit::Millis };

    /// From one moment to another, in milliseconds.
    pub(super) const fn between(start: TimePoint, end: TimePoint) -> Self {
        Self { between: Between::Points(start, end), unit: Unit::Millis }
    }

    /// `COMMON_DURATION(start:end)` or `COMMON_DURATION(start:end:unit)`
    ///
    /// # Errors
    /// What is wrong with the parameters, with Envoy's message.
    pub(super) fn common(parameters: &str) -> Result<Self, String> {
        let parts: Vec<&str> = parameters.split(':').collect();
        let (start, end, unit) = match *parts {
            [start, end] => (start, end, Unit::Millis),
            [start, end, "ms"] => (start, end, Unit::Millis),
            [start, end, "us"] => (start, end, Unit::Micros),
            [start, end, "ns"] => (start, end, Unit::Nanos),
            [_, _, other] => return Err(format!("Invalid common duration precision: {other}.")),
            _ => return Err(format!("Invalid common duration configuration: {parameters}.")),
        };
        let between = match (time_point(start)?, time_point(end)?) {
            (Some(start), Some(end)) => Between::Points(start, end),
            _ => Between::Unknown,
        };
        Ok(Self { between, unit })
    }

    /// In its unit; none if one of the moments has not come, or they came in the other order.
    pub(super) fn count(self, stream: &dyn StreamInfo) -> Option<u64> {
        let duration = match self.between {
            Between::All => stream.duration()?,
            Between::Points(start, end) => {
                stream.time_point(end)?.checked_sub(stream.time_point(start)?)?
            }
            Between::Unknown => return None,
        };
        let count = match self.unit {
            Unit::Micros => Duration::as_micros(&duration),
            Unit::Millis => Duration::as_millis(&duration),
            Unit::Nanos => Duration::as_nanos(&duration),
        };
        Some(u64::try_from(count).unwrap_or(u64::MAX))
    }
}

/// The moment with this name; none if only an extension can set it.
///
/// # Errors
/// Corvoy does not record this moment.
fn time_point(name: &str) -> Result<Option<TimePoint>, String> {
    Ok(Some(match name {
        "DS_RX_BEG" => TimePoint::DownstreamRxBegin,
        "DS_RX_END" => TimePoint::DownstreamRxEnd,
        "DS_TX_END" => TimePoint::DownstreamTxEnd,
        "US_RX_BEG" => TimePoint::UpstreamRxBegin,
        "DS_CX_BEG" | "DS_CX_END" | "DS_HS_BEG" | "DS_HS_END" | "DS_RX_HDR_END" | "DS_TX_BEG"
        | "US_CX_BEG" | "US_CX_END" | "US_HS_END" | "US_RX_BODY_BEG" | "US_RX_END"
        | "US_TX_BEG" | "US_TX_END" => {
            return Err(format!("the time point '{name}' is not implemented by Corvoy"));
        }
        _ => return Ok(None),
    }))
}
