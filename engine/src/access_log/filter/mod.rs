//! Conditions of access logs: which requests and connections they write. Local replies are selected by them
//! too.
//!
//! Pure: no I/O, no state.

pub mod compile;
#[cfg(test)]
mod tests;

use super::entry_type::EntryType;
use crate::cel::Program;
use crate::flags::Flag;
use crate::format::{Inputs, grpc_status};
use crate::fraction::Fraction;
use crate::head_matcher::HeaderMatcher;
use crate::http::{FieldName, RequestHead};
use crate::metadata_matcher::MetadataMatcher;
use crate::runtime::RuntimeInteger;

/// One condition.
#[derive(Clone, Debug)]
pub enum Filter {
    /// All of these.
    And(Vec<Self>),
    /// The expression is true.
    Cel(Program),
    /// On the duration of the request so far, in milliseconds.
    Duration(Comparison),
    /// On why the entry is written.
    EntryType {
        /// These types.
        types: Vec<EntryType>,
        /// The types are those that do not pass.
        exclude: bool,
    },
    /// On the status of a gRPC response, or the one that corresponds to its HTTP status.
    GrpcStatus {
        /// By number.
        statuses: Vec<i64>,
        /// The statuses are those that do not pass.
        exclude: bool,
    },
    /// On the headers of the request.
    Header(HeaderMatcher),
    /// On the dynamic metadata.
    Metadata {
        /// What a value must be; without a matcher, there is no value.
        matcher: Option<MetadataMatcher>,
        /// The answer if there is no value.
        if_not_found: bool,
    },
    /// Not a health check request; always true, as there is no health check filter.
    NotHealthCheck,
    /// At least one of these.
    Or(Vec<Self>),
    /// On one of these response flags; any flag if the list is empty.
    ResponseFlag(Vec<Flag>),
    /// A fraction of the requests.
    Runtime(Sample),
    /// On the status of the response.
    StatusCode(Comparison),
    /// The request is traced; never, as there is no tracing.
    Traceable,
}

/// A comparison with a fixed number.
#[derive(Clone, Debug)]
pub struct Comparison {
    /// The operator.
    pub op: Op,
    /// The right-hand operand.
    pub value: RuntimeInteger,
}

/// `ComparisonFilter.Op`
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[expect(missing_docs, reason = "the schema's names say it")]
pub enum Op {
    Eq,
    Ge,
    Le,
    Ne,
}

/// Which requests are taken.
#[derive(Clone, Debug)]
pub struct Sample {
    /// How many of them.
    pub numerator: RuntimeInteger,
    /// Out of how many.
    pub denominator: u32,
    /// What decides.
    pub by: Randomness,
}

/// Where the number comes from that decides about a request.
#[derive(Clone, Copy, Debug)]
pub enum Randomness {
    /// From its request id, so that all that see the id decide alike; without a UUID, as `Own`.
    RequestId {
        /// For requests without a UUID.
        salt: u64,
    },
    /// Each filter decides for itself.
    Own {
        /// What makes it differ from other filters.
        salt: u64,
    },
}

impl Filter {
    /// Whether an entry with these values is written. `random` is one random number per request, the same
    /// for all its filters.
    #[must_use]
    pub fn passes(&self, inputs: &Inputs<'_>, random: u64) -> bool {
        let passes = |filter: &Self| filter.passes(inputs, random);
        let stream = inputs.stream;
        match self {
            Self::And(filters) => filters.iter().all(passes),
            Self::Cel(program) => program.holds(inputs),
            Self::Duration(comparison) => {
                let millis = stream.duration().unwrap_or_default().as_millis();
                comparison.holds(u64::try_from(millis).unwrap_or(u64::MAX))
            }
            Self::EntryType { types, exclude } => types.contains(&inputs.entry_type) != *exclude,
            Self::GrpcStatus { statuses, exclude } => {
                let status = grpc_status(inputs).unwrap_or(UNKNOWN);
                statuses.contains(&status) != *exclude
            }
            Self::Header(matcher) => match inputs.request {
                Some(head) => matcher.matches(head),
                None => matcher.matches(&RequestHead::default()),
            },
            Self::Metadata { matcher, if_not_found } => {
                let found = matcher
                    .as_ref()
                    .and_then(|matcher| matcher.matches(stream.dynamic_metadata()?));
                found.unwrap_or(*if_not_found)
            }
            Self::NotHealthCheck => !stream.is_health_check(),
            Self::Or(filters) => filters.iter().any(passes),
            Self::ResponseFlag(wanted) => stream
                .response_flags()
                .iter()
                .any(|flag| wanted.is_empty() || wanted.contains(&flag)),
            Self::Runtime(sample) => sample.takes(inputs.request, random),
            Self::StatusCode(comparison) => {
                comparison.holds(stream.response_code().unwrap_or(0).into())
            }
            Self::Traceable => false,
        }
    }
}

/// The status of gRPC for a response that has none.
const UNKNOWN: i64 = 2;

impl Comparison {
    fn holds(&self, left: u64) -> bool {
        let right = self.value.get();
        match self.op {
            Op::Eq => left == right,
            Op::Ge => left >= right,
            Op::Le => left <= right,
            Op::Ne => left != right,
        }
    }
}

impl Sample {
    fn takes(&self, request: Option<&RequestHead>, random: u64) -> bool {
        let number = match self.by {
            Randomness::Own { salt } => mixed(random, salt),
            Randomness::RequestId { salt } => {
                let id = request.and_then(|head| head.fields.get(FieldName::XRequestId));
                id.and_then(number_of_uuid).unwrap_or_else(|| mixed(random, salt))
            }
        };
        let numerator = u32::try_from(self.numerator.get()).unwrap_or(u32::MAX);
        Fraction { numerator, denominator: self.denominator }.includes(number)
    }
}

/// As in Envoy the first eight digits of a UUID, which is known by its length.
fn number_of_uuid(id: &[u8]) -> Option<u64> {
    let digits = id.get(..8).filter(|_| id.len() == 36)?;
    u64::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

/// Another random number, the same each time.
const fn mixed(random: u64, salt: u64) -> u64 {
    // The finalizer of SplitMix64.
    let number = random ^ salt;
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}
