//! Filters in an exchange: the heads on their way through them.

use std::sync::Arc;

use super::active::{HeldUp, Stop};
use super::{Active, Chain, Piece, RouteCache};
use crate::http::BodyLength;
use crate::pipe::heads::Heads;
use crate::request::deadlines::Timer;
use crate::request::end::ClientEnd;
use crate::request::given::Given;
use crate::request::reply::LocalReply;
use crate::request::route::Action;
use crate::request::{Core, Exchange, Outcome, Upgrade};
use crate::shard::clock::millis;

impl<'a> Core<'a> {
    /// Calls `with` with the chain, if one is at work, and with this.
    pub(super) fn with_filters<R>(
        &mut self,
        with: impl FnOnce(&mut Active, &mut Self) -> R,
    ) -> Option<R> {
        let mut active = self.filters.take()?;
        let result = with(&mut active, self);
        self.filters = Some(active);
        Some(result)
    }

    /// Prepares the filters. As in Envoy, they see the response to every request, also to one that none
    /// of them has seen.
    pub(in crate::request) fn begin_filters(&mut self) {
        let service = self.service();
        if service.filters.is_empty() {
            return;
        }
        let mut active = service.active_filters.take();
        match self.filters_of_upgrade() {
            Some(chain) => {
                active.begin_upgrade(chain, self.record.route.map(|route| &route.filters));
            }
            None => active.begin(&service.filters, self.record.route),
        }
        if active.is_empty() {
            service.active_filters.give(active);
        } else {
            self.filters = Some(active);
        }
    }

    /// The filters of the request's upgrade, if it is allowed and has others than other requests.
    fn filters_of_upgrade(&self) -> Option<&'a Arc<Chain>> {
        if self.upgrade != Upgrade::Allowed {
            return None;
        }
        self.service().filters.for_upgrade(self.upgrade_protocol())
    }

    /// Takes what the filters and the wait for them need of the route.
    fn enter_route(&mut self) {
        let Some(route) = self.record.route else { return };
        self.note_cluster(&route.action);
        if let Action::Forward(plan) = &route.action {
            self.set_idle_timeout(plan);
            self.set_duration_limit(plan);
        }
    }

    /// Looks the route up again.
    pub(super) fn enter_new_route(&mut self) {
        let lookup = self.find_route();
        self.rerouted = Some(lookup);
        // Nothing of the former route stays.
        let manager = &self.service().manager.timeouts;
        let began = self.heads.began;
        let duration = manager.max_stream_duration.map(|limit| began.saturating_add(millis(limit)));
        self.deadlines.set(Timer::StreamDuration, duration);
        self.stream_idle = manager.stream_idle;
        self.upstream.cluster = None;
        self.enter_route();
    }

    /// The request is served.
    #[inline]
    pub(in crate::request) fn end_filters(&mut self) {
        if self.filters.is_some() {
            self.give_filters();
        }
    }

    #[cold]
    fn give_filters(&mut self) {
        if self.record.is_health_check {
            self.service().tracing.shard(self.shard.id).health_check.inc();
        }
        if let Some(active) = self.filters.take() {
            self.service().active_filters.give(active);
        }
    }

    /// Passes the head of the response through the filters.
    #[inline]
    pub(in crate::request) fn filter_response_head(
        &mut self,
        reply: Option<&LocalReply>,
        body: BodyLength,
    ) {
        if self.filters.is_some() {
            self.filter_response(reply, body);
        }
    }

    #[cold]
    fn filter_response(&mut self, reply: Option<&LocalReply>, body: BodyLength) {
        let passed = self.with_filters(|active, core| active.response_head(core, reply, body));
        if let Some(Err(HeldUp::Replaced(reply))) = passed {
            self.replacement = Some(reply);
        }
    }
}

impl<C: ClientEnd> Exchange<'_, C> {
    /// Passes the head of the request through the filters. An error is how the request ends instead.
    pub(in crate::request) async fn filter_request(&mut self) -> Result<RouteCache, Outcome> {
        let route = self.core.record.route;
        let allowed = route.map_or(Ok(()), |route| {
            self.core.note_cluster(&route.action);
            self.core.begin_upgrade(&route.action)
        });
        self.core.begin_filters();
        // As in Envoy, the reply to an upgrade that is not allowed passes the filters, the request
        // does not.
        if let Err(refused) = allowed {
            return Err(self.end_by(Box::new(refused)).await);
        }
        self.core.enter_route();
        let mut has_waited = false;
        loop {
            let passed = self.core.with_filters(|active, core| {
                active.request_head(core).map(|()| active.shared.route_cache)
            });
            match passed {
                None => return Ok(RouteCache::Kept),
                Some(Ok(route_cache)) => return Ok(route_cache),
                Some(Err(Stop::Reply(reply))) => {
                    if has_waited {
                        self.drop_what_came_meanwhile();
                    }
                    return Err(self.end_by(reply).await);
                }
                Some(Err(Stop::Wait(wait))) => {
                    has_waited = true;
                    if let Err(outcome) = self.wait_for_filter(wait).await {
                        return Err(match outcome {
                            Outcome::Reply(reply) => self.end_by(reply).await,
                            other @ (Outcome::Done(_) | Outcome::Redirected) => other,
                        });
                    }
                }
            }
        }
    }

    /// A filter answers after a wait. As in Envoy, what the client has sent meanwhile belongs to the request: if that
    /// is all of it, the connection goes on.
    fn drop_what_came_meanwhile(&mut self) {
        if self.core.received.is_some() {
            return;
        }
        let mut piece = Piece::default();
        // After an error the request is incomplete, which ends the connection.
        let taken = self.receive_at_hand(&mut piece);
        self.core.upstream.body_bytes += piece.data.len() as u64;
        if taken.is_ok() && piece.has_ended() {
            self.core.received = Some(self.core.shard.clock.now());
            self.core.deadlines.set(Timer::Request, None);
        }
    }

    async fn end_by(&mut self, reply: Box<LocalReply>) -> Outcome {
        Outcome::Done(self.reply(reply, self.core.record.route).await)
    }
}

/// Passes the head of a reply to a request that never became an exchange through the filters.
pub(in crate::request) fn filter_refusal(given: &Given, heads: &mut Heads, reply: &LocalReply) {
    let mut core = Core::begin(given, heads, BodyLength::None);
    core.begin_filters();
    // Filters that have not seen a request do not change the body of its response.
    core.filter_response_head(Some(reply), BodyLength::None);
    core.end_filters();
}
