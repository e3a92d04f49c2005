//! `admission_control`: refuses some of the requests while too few of the others succeed.
//!
//! As in Envoy each shard judges by its own requests.

pub(super) mod compile;
mod window;

use std::cell::RefCell;
use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;

use self::window::{Counts, Window};
use super::{Context, FilterId, Flow, Piece, Way};
use crate::http::{BodyLength, FieldName, grpc};
use crate::request::reply::LocalReply;
use crate::runtime::{RuntimeFlag, RuntimeInteger, RuntimeNumber};
use crate::stats::{Scope, stats};

stats! {
    /// `http.<stat_prefix>.admission_control.`, for the filters of a cluster
    /// `cluster.<name>.admission_control.`
    pub struct AdmissionControlStats {
        counter rq_failure;
        counter rq_rejected;
        counter rq_success;
    }
}

/// The filter.
#[derive(Debug)]
pub struct AdmissionControl {
    id: FilterId,
    /// Whether it does anything.
    enabled: RuntimeFlag,
    success: Criteria,
    refusal: Refusal,
    /// How long a request counts, in milliseconds.
    window: u64,
    /// Below so many requests per second none is refused.
    rps_threshold: RuntimeInteger,
    stats: Arc<Scope<AdmissionControlStats>>,
}

/// Which responses are successes.
#[derive(Debug)]
struct Criteria {
    http: Box<[Range<u16>]>,
    /// By the number of the status.
    grpc: u32,
}

/// How likely a request is refused.
#[derive(Clone, Debug)]
struct Refusal {
    /// The percentage of successes from which on none is.
    success_rate_threshold: RuntimeNumber,
    aggression: f64,
    /// In percent.
    probability_max: RuntimeNumber,
}

/// What the filter remembers of a request.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(in crate::request) enum State {
    /// Its response does not count, or was counted.
    #[default]
    Ignored,
    /// Its response is to be judged.
    Watched,
    /// The trailers say whether it has succeeded.
    EndsInTrailers,
}

impl AdmissionControl {
    pub(super) fn request_head(&self, state: &mut State, cx: &mut Context<'_, '_>) -> Flow {
        if !self.enabled.get() || cx.core.record.is_health_check {
            return Flow::Continue;
        }
        let shard = cx.core.shard;
        let window = self.window(cx);
        let now = shard.clock.now();
        if window.borrow_mut().per_second(now) >= self.rps_threshold.get() {
            let counts = window.borrow_mut().counts(now);
            if self.refusal.applies(counts, shard.random.borrow_mut().f64()) {
                self.stats.shard(shard.id).rq_rejected.inc();
                let reply = LocalReply::new(503, "");
                let reply = reply.with_details(None, "denied_by_admission_control");
                return Flow::Reply(Box::new(reply));
            }
        }
        *state = State::Watched;
        Flow::Continue
    }

    pub(super) fn response_head(&self, state: &mut State, cx: &mut Context<'_, '_>) {
        if *state != State::Watched {
            return;
        }
        let response = &cx.core.heads.response;
        let has_body = !matches!(cx.response_body, BodyLength::None | BodyLength::Length(0));
        let status = response.fields.get(FieldName::GrpcStatus);
        let is_grpc = response.is_grpc() && response.status == 200 || !has_body && status.is_some();
        let is_success = match (is_grpc, status) {
            (true, None) => {
                *state = State::EndsInTrailers;
                cx.see_body(Way::Response);
                return;
            }
            (true, Some(status)) => self.success.is_grpc_success(status),
            (false, _) => self.success.is_http_success(response.status),
        };
        self.judge(is_success, state, cx);
    }

    /// The body of a response passes: its trailers are looked at.
    pub(super) fn body(&self, state: &mut State, piece: &Piece, cx: &mut Context<'_, '_>) {
        let Some(trailers) = piece.end.as_deref().filter(|lines| !lines.is_empty()) else { return };
        if *state == State::EndsInTrailers {
            let status = grpc::status_in_trailers(trailers);
            let is_success = status.is_some_and(|status| self.success.is_grpc_success(status));
            self.judge(is_success, state, cx);
        }
    }

    fn judge(&self, is_success: bool, state: &mut State, cx: &Context<'_, '_>) {
        *state = State::Ignored;
        let stats = self.stats.shard(cx.core.shard.id);
        if is_success {
            stats.rq_success.inc();
        } else {
            stats.rq_failure.inc();
        }
        self.window(cx).borrow_mut().add(is_success, cx.core.shard.clock.now());
    }

    /// The requests of this shard.
    fn window(&self, cx: &Context<'_, '_>) -> Rc<RefCell<Window>> {
        let on_shard = &cx.core.service().filters_on_shard;
        on_shard.of(self.id, || Rc::new(RefCell::new(Window::new(self.window))))
    }
}

impl Criteria {
    fn is_http_success(&self, status: u16) -> bool {
        self.http.iter().any(|range| range.contains(&status))
    }

    fn is_grpc_success(&self, status: &[u8]) -> bool {
        let number = std::str::from_utf8(status).ok().and_then(|text| text.parse::<u32>().ok());
        number.and_then(|number| 1_u32.checked_shl(number)).is_some_and(|bit| self.grpc & bit != 0)
    }
}

impl Refusal {
    /// Whether a request is refused, for a random number between 0 and 1.
    //= envoy: admission_control, the formula of the rejection probability
    fn applies(&self, counts: Counts, random: f64) -> bool {
        #[expect(clippy::cast_precision_loss, reason = "as many requests as one shard has")]
        let (requests, successes) = (counts.requests as f64, counts.successes as f64);
        // As in Envoy, a threshold that changes stays above 1 percent.
        let threshold = self.success_rate_threshold.get().clamp(1.0, 100.0) / 100.0;
        let excess = requests - successes / threshold;
        let probability = (excess / (requests + 1.0)).max(0.0).powf(1.0 / self.aggression);
        random < probability.min(self.probability_max.get() / 100.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal() -> Refusal {
        Refusal {
            success_rate_threshold: 95.0.into(),
            aggression: 1.0,
            probability_max: 80.0.into(),
        }
    }

    #[test]
    fn nothing_is_refused_while_enough_succeeds() {
        let refused = |requests, successes| refusal().applies(Counts { requests, successes }, 0.0);
        assert!(!refused(0, 0));
        assert!(!refused(100, 95));
        assert!(refused(100, 94));
    }

    #[test]
    fn the_more_fails_the_more_is_refused_up_to_a_share() {
        let half = Counts { requests: 1000, successes: 500 };
        // (1000 - 500 / 0.95) / 1001
        assert!(refusal().applies(half, 0.47) && !refusal().applies(half, 0.48));
        let none = Counts { requests: 1000, successes: 0 };
        assert!(refusal().applies(none, 0.79) && !refusal().applies(none, 0.8));
        let aggressive = Refusal { aggression: 2.0, ..refusal() };
        // The square root.
        assert!(aggressive.applies(half, 0.68) && !aggressive.applies(half, 0.69));
    }

    #[test]
    fn a_status_is_a_success_if_it_is_listed() {
        let criteria = Criteria { http: [100..400, 404..405].into(), grpc: 0b101 };
        assert!(criteria.is_http_success(399) && criteria.is_http_success(404));
        assert!(!criteria.is_http_success(400));
        assert!(criteria.is_grpc_success(b"0") && criteria.is_grpc_success(b"2"));
        assert!(!criteria.is_grpc_success(b"1") && !criteria.is_grpc_success(b"99"));
        assert!(!criteria.is_grpc_success(b"x"));
    }
}
