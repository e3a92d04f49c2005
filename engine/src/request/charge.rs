//! What a cluster is charged for an answer: the `upstream_rq_<code>` family and its time.

use std::rc::Rc;

use super::Exchange;
use crate::http1::FieldName;
use crate::stats::{ClusterStats, Origin};
use crate::upstream::local::LocalCluster;
use crate::upstream::pool::Pool;

/// Counts the answer that the client gets, from a host or from here. `zoned` is the pool of the last
/// attempt's host if its zone is counted.
pub(super) fn answer(
    cluster: &LocalCluster,
    zoned: Option<&Rc<Pool>>,
    x: &Exchange<'_>,
    status: u16,
) {
    if let Some(zone) = zoned.and_then(|pool| pool.zone_stats()) {
        zone.codes.record(status);
    }
    cluster.stats().record_response(status, origin(x.is_internal()), is_canary(x));
}

/// Counts an interim answer of a host, as Envoy does, though the client does not get it.
pub(super) fn interim(stats: &ClusterStats, is_internal: bool, status: u16) {
    stats.record_response(status, origin(is_internal), false);
}

const fn origin(is_internal: bool) -> Origin {
    if is_internal { Origin::Internal } else { Origin::External }
}

/// Records how long the answer took, from the end of the request to the end of the answer.
pub(super) fn time(cluster: &LocalCluster, zoned: Option<&Rc<Pool>>, x: &Exchange<'_>) {
    let now = x.client.shard.clock.now();
    let took = now.saturating_sub(x.received.unwrap_or(x.began));
    if let Some(zone) = zoned.and_then(|pool| pool.zone_stats()) {
        zone.upstream_rq_time.record(took);
    }
    let canary = is_canary(x);
    cluster.stats().record_response_time(took, origin(x.is_internal()), canary);
}

fn is_canary(x: &Exchange<'_>) -> bool {
    x.heads.response.fields.get(FieldName::XEnvoyUpstreamCanary) == Some(b"true")
}
