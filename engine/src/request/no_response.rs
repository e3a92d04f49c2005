//! The reply to a request when no attempt has brought a response.

use super::attempt::Failed;
use super::charge;
use super::deadlines::Timer;
use super::end::{ClientEnd, Ended};
use super::forward::Forwarder;
use super::reply::LocalReply;
use super::{Exchange, Interim, Outcome};

impl Forwarder<'_> {
    /// The reply to the client when no attempt succeeded.
    pub(super) fn end<C: ClientEnd>(
        &self,
        exchange: &mut Exchange<'_, C>,
        failed: Failed,
    ) -> Outcome {
        exchange.core.upstream.body_bytes = self.upload.received_bytes();
        exchange.core.end_upstream_filters();
        let stats = self.cluster.stats();
        let mut reply = match failed {
            Failed::ClientGone => return Outcome::Done(Ended::Over),
            Failed::Replied => {
                let reply = exchange.core.replacement.take();
                return reply.map_or(Outcome::Done(Ended::Over), Outcome::Reply);
            }
            Failed::ClientError(error) => {
                exchange.core.stats().downstream_cx_protocol_error.inc();
                return Outcome::reply(LocalReply::protocol_error(error));
            }
            Failed::NoHealthyHost => {
                let mut reply = LocalReply::no_healthy_upstream();
                let status = self.wanted.as_ref().and_then(|wanted| wanted.missing_status());
                reply.status = status.unwrap_or(reply.status);
                if let Some(why) = self.named.as_ref().and_then(|named| named.unresolved.clone()) {
                    reply.details = why;
                }
                reply
            }
            Failed::Upstream { error, .. } => {
                exchange.core.upstream.failure = Some(error);
                LocalReply::upstream_reset(error, exchange.core.upstream.attempts > 1)
            }
            Failed::Deadline(Timer::Route) => {
                stats.upstream_rq_timeout.inc();
                exchange.core.groups.each(|stats| stats.upstream_rq_timeout.inc());
                exchange.core.timeout_reply.apply(LocalReply::upstream_timeout())
            }
            Failed::Deadline(Timer::PerTry | Timer::PerTryIdle) => {
                exchange.core.timeout_reply.apply(LocalReply::per_try_timeout())
            }
            Failed::Deadline(Timer::UpstreamDuration) => {
                LocalReply::upstream_duration(exchange.core.is_complete())
            }
            Failed::Deadline(timer) => return Outcome::reply(exchange.core.timed_out(timer)),
        };
        reply.attempts = self.told_attempts(&exchange.core);
        exchange.core.heads.response.clear();
        // As in Envoy, the cluster's own limit is not charged to it.
        let is_charged = failed != Failed::Deadline(Timer::UpstreamDuration);
        if is_charged && exchange.core.interim == Interim::None {
            charge::response(&self.cluster, &exchange.core, reply.status);
        }
        Outcome::reply(reply)
    }
}
