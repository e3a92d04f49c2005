//! A call as an exchange.

use std::rc::Rc;

use super::Target;
use crate::http::BodyLength;
use crate::pipe::heads::Heads;
use crate::request::deadlines::Timer;
use crate::request::end::{ClientEnd, Ended};
use crate::request::given::Given;
use crate::request::manager::normalize::Facts;
use crate::request::reply::Maker;
use crate::request::route::Action;
use crate::request::{Core, Exchange, Outcome};
use crate::shard::clock::{Millis, millis};
use crate::upstream::local::LocalCluster;

/// Makes a request of the proxy itself, whose head is in `heads`: its route is known, and the rules for
/// clients do not apply to it.
///
/// It goes to `cluster` if the target leaves that open.
///
/// `received` is when all of the request was there, if it is. The timeout of the target counts from then on,
/// also while the host does not read.
pub(super) async fn serve<C: ClientEnd>(
    client: impl FnOnce() -> C,
    given: &Given,
    heads: &mut Heads,
    body: BodyLength,
    received: Option<Millis>,
    (target, cluster): (&Target, Option<Rc<LocalCluster>>),
) -> C::After {
    let Target { route, virtual_host } = target;
    let mut exchange = Exchange { client: client(), core: Core::begin(given, heads, body) };
    exchange.core.facts = Some(Facts::of_call(given.peer));
    exchange.core.received = received;
    exchange.core.named_cluster = cluster;
    if let (Some(received), Action::Forward(plan)) = (received, &route.action) {
        let timeout = plan.timeouts.global.map(|limit| received.saturating_add(millis(limit)));
        exchange.core.deadlines.set(Timer::Route, timeout);
    }
    exchange.core.record.route = Some(route);
    let router = given.service.router.shard(given.shard.id);
    router.rq_total.inc();
    let ended = match exchange.run_action(router, virtual_host, route).await {
        Outcome::Done(ended) => ended,
        // No call follows a redirect.
        Outcome::Redirected => Ended::Cut,
        Outcome::Reply(mut reply) => {
            // Whoever calls sees the status, whatever it has asked for.
            reply.maker = Maker::Filter;
            exchange.reply(reply, Some(route)).await
        }
    };
    exchange.client.finish(ended)
}
