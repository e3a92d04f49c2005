//! Requests that a client resets before it has anything of the response. If most of them are, it makes
//! work for nothing ("rapid reset"). The rule is Envoy's.

use std::cell::Cell;

use crate::request::manager::PrematureResets;
use crate::shard::clock::Millis;

/// The requests of one connection that have ended.
#[derive(Debug, Default)]
pub(super) struct Resets {
    ended: Cell<u64>,
    premature: Cell<u64>,
}

/// How a request has ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum End {
    /// The response had begun.
    Answered,
    /// The client has reset it before, this long after it began.
    Unanswered(Millis),
}

impl Resets {
    /// A request has ended.
    pub(super) fn count(&self, end: End, limit: &PrematureResets) {
        self.ended.set(self.ended.get() + 1);
        // As in Envoy, whole seconds are compared.
        if matches!(end, End::Unanswered(lived) if lived / 1000 <= limit.lifetime_s) {
            self.premature.set(self.premature.get() + 1);
        }
    }

    /// Whether half of the requests, but not of fewer than the limit, are reset too early.
    pub(super) fn are_too_many(&self, limit: &PrematureResets) -> bool {
        let (ended, premature) = (self.ended.get(), self.premature.get());
        ended > 0 && premature.saturating_mul(2) >= ended.max(limit.requests)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(ends: impl IntoIterator<Item = End>) -> bool {
        let (resets, limit) = (Resets::default(), PrematureResets::default());
        ends.into_iter().for_each(|end| resets.count(end, &limit));
        resets.are_too_many(&limit)
    }

    #[test]
    fn half_of_500_requests_are_too_many() {
        assert!(!after([End::Unanswered(0); 249]));
        assert!(after([End::Unanswered(0); 250]));
        // However many are answered, the half counts.
        assert!(!after([End::Answered; 300].into_iter().chain([End::Unanswered(0); 299])));
        assert!(after([End::Answered; 300].into_iter().chain([End::Unanswered(0); 300])));
    }

    #[test]
    fn a_client_that_cancels_what_takes_long_or_is_answered_is_left_alone() {
        assert!(after([End::Unanswered(1999); 250]));
        assert!(!after([End::Unanswered(2000); 10_000]));
        assert!(!after([End::Answered; 10_000]));
        assert!(!after([]));
    }

    #[test]
    fn without_a_limit_the_first_reset_is_too_much() {
        let (resets, limit) =
            (Resets::default(), PrematureResets { requests: 0, ..PrematureResets::default() });
        assert!(!resets.are_too_many(&limit));
        resets.count(End::Unanswered(0), &limit);
        assert!(resets.are_too_many(&limit));
    }
}
