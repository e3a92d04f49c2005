//! What a cluster is charged for an answer: the `upstream_rq_<code>` family and its time.

use super::Exchange;
use crate::http1::FieldName;
use crate::upstream::local::LocalCluster;

/// Counts the answer that the client gets, from a host or from here.
pub(super) fn answer(cluster: &LocalCluster, is_internal: bool, status: u16) {
    let stats = cluster.stats();
    stats.codes.record(status);
    if is_internal {
        stats.internal.record(status);
    } else {
        stats.external.record(status);
    }
}

/// Records how long the answer took, from the end of the request to the end of the answer.
pub(super) fn time(cluster: &LocalCluster, x: &Exchange<'_>) {
    let stats = cluster.stats();
    let now = x.client.shard.clock.now();
    let took = now.saturating_sub(x.received.unwrap_or(x.began));
    stats.upstream_rq_time.record(took);
    if x.is_internal() {
        stats.internal_upstream_rq_time.record(took);
    } else {
        stats.external_upstream_rq_time.record(took);
    }
    if x.heads.response.fields.get(FieldName::XEnvoyUpstreamCanary) == Some(b"true") {
        stats.canary_upstream_rq_time.record(took);
    }
}
