//! Access log filters: conditions on a request and its response. Local replies are selected by them.
//!
//! Pure: no I/O, no state.

pub mod compile;

use crate::flags::Flag;
use crate::format::StreamInfo;
use crate::http::RequestHead;
use crate::request::route::{Fraction, HeaderMatcher};

/// One condition.
#[derive(Clone, Debug)]
pub enum Filter {
    /// On the status of the response.
    StatusCode(Comparison),
    /// On the duration of the request so far, in milliseconds.
    Duration(Comparison),
    /// On the headers of the request.
    Header(HeaderMatcher),
    /// On one of these response flags; any flag if the list is empty.
    ResponseFlag(Vec<Flag>),
    /// A fraction of the requests.
    Runtime(Fraction),
    /// Not a health check request; always true, as there is no health check filter.
    NotHealthCheck,
    /// All of these.
    And(Vec<Self>),
    /// At least one of these.
    Or(Vec<Self>),
}

/// A comparison with a fixed number.
#[derive(Clone, Copy, Debug)]
pub struct Comparison {
    /// The operator.
    pub op: Op,
    /// The right-hand operand.
    pub value: u32,
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

impl Filter {
    /// Whether the request matches. `random` is one random number per request, the same for all its
    /// filters; `request` is none if its head could not be parsed.
    #[must_use]
    pub fn matches(
        &self,
        request: Option<&RequestHead>,
        stream: &dyn StreamInfo,
        random: u64,
    ) -> bool {
        let matches = |filter: &Self| filter.matches(request, stream, random);
        match self {
            Self::StatusCode(comparison) => {
                comparison.holds(stream.response_code().unwrap_or(0).into())
            }
            Self::Duration(comparison) => {
                let millis = stream.duration().unwrap_or_default().as_millis();
                comparison.holds(u64::try_from(millis).unwrap_or(u64::MAX))
            }
            Self::Header(matcher) => match request {
                Some(head) => matcher.matches(head),
                None => matcher.matches(&RequestHead::default()),
            },
            Self::ResponseFlag(wanted) => stream
                .response_flags()
                .iter()
                .any(|flag| wanted.is_empty() || wanted.contains(&flag)),
            Self::Runtime(fraction) => fraction.includes(random),
            Self::NotHealthCheck => true,
            Self::And(filters) => filters.iter().all(matches),
            Self::Or(filters) => filters.iter().any(matches),
        }
    }
}

impl Comparison {
    fn holds(self, left: u64) -> bool {
        let right = u64::from(self.value);
        match self.op {
            Op::Eq => left == right,
            Op::Ge => left >= right,
            Op::Le => left <= right,
            Op::Ne => left != right,
        }
    }
}
