//! Access log filters: which requests something is for. Local replies are chosen with them.
//!
//! Pure: what is known of a request in, yes or no out.

pub mod compile;

use crate::flags::Flag;
use crate::format::StreamInfo;
use crate::http::RequestHead;
use crate::request::route::{Fraction, HeaderMatcher};

/// One condition.
#[derive(Clone, Debug)]
pub enum Filter {
    /// On the status of the answer.
    StatusCode(Comparison),
    /// On how long the request has taken so far, in milliseconds.
    Duration(Comparison),
    /// On the headers of the request.
    Header(HeaderMatcher),
    /// One of these response flags; if there are none, any.
    ResponseFlag(Vec<Flag>),
    /// A share of the requests.
    Runtime(Fraction),
    /// No health check, of which there are none here.
    NotHealthCheck,
    /// All of these.
    And(Vec<Self>),
    /// One of these.
    Or(Vec<Self>),
}

/// A number held against another.
#[derive(Clone, Copy, Debug)]
pub struct Comparison {
    /// How.
    pub op: Op,
    /// Stands right of the sign.
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
    /// Whether the request is meant. `random` is its own, the same for all its filters; there is no
    /// head if it could not be read.
    #[must_use]
    pub fn admits(
        &self,
        request: Option<&RequestHead>,
        stream: &dyn StreamInfo,
        random: u64,
    ) -> bool {
        let admits = |filter: &Self| filter.admits(request, stream, random);
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
            Self::And(filters) => filters.iter().all(admits),
            Self::Or(filters) => filters.iter().any(admits),
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
