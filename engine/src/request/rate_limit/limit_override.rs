//! The limit that a request brings along for its descriptor.

use crate::format::Inputs;

/// A limit.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct LimitOverride {
    pub(crate) requests_per_unit: u32,
    /// As Envoy's `RateLimitUnit` numbers it.
    pub(crate) unit: i32,
}

/// `config.route.v3.RateLimit.Override`
#[derive(Debug)]
pub(super) enum OverrideSource {
    Fixed(LimitOverride),
    /// A struct in dynamic metadata.
    Metadata {
        namespace: Box<str>,
        path: Box<[Box<str>]>,
    },
}

impl OverrideSource {
    /// None: the service decides.
    pub(super) fn of(&self, inputs: &Inputs<'_>) -> Option<LimitOverride> {
        match self {
            Self::Fixed(limit) => Some(*limit),
            Self::Metadata { namespace, path } => {
                let value = inputs.stream.dynamic_metadata()?.find(namespace, path)?;
                let requests = value.get("requests_per_unit")?.as_f64()?;
                let requests_per_unit = whole(requests)?;
                let unit = unit(value.get("unit")?.as_str()?)?;
                Some(LimitOverride { requests_per_unit, unit })
            }
        }
    }
}

fn whole(number: f64) -> Option<u32> {
    let is_whole = number.fract() == 0.0 && (0.0..=f64::from(u32::MAX)).contains(&number);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "it is whole and in the range"
    )]
    is_whole.then_some(number as u32)
}

/// The number of a unit in Envoy's `RateLimitUnit`.
fn unit(name: &str) -> Option<i32> {
    Some(match name {
        "UNKNOWN" => 0,
        "SECOND" => 1,
        "MINUTE" => 2,
        "HOUR" => 3,
        "DAY" => 4,
        "MONTH" => 5,
        "YEAR" => 6,
        "WEEK" => 7,
        _ => return None,
    })
}
