//! What a cluster is charged for an answer: the `upstream_rq_<code>` family and its time.

use super::Exchange;
use crate::http1::FieldName;
use crate::stats::{ClusterStats, Origin};
use crate::upstream::local::LocalCluster;

/// Counts the answer that the client gets, from a host or from here.
pub(super) fn answer(cluster: &LocalCluster, x: &Exchange<'_>, status: u16) {
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
pub(super) fn time(cluster: &LocalCluster, x: &Exchange<'_>) {
    let now = x.client.shard.clock.now();
    let took = now.saturating_sub(x.received.unwrap_or(x.began));
    let canary = is_canary(x);
    cluster.stats().record_response_time(took, origin(x.is_internal()), canary);
}

fn is_canary(x: &Exchange<'_>) -> bool {
    x.heads.response.fields.get(FieldName::XEnvoyUpstreamCanary) == Some(b"true")
}
