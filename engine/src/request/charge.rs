//! Charges a response to its cluster (the `upstream_rq_<code>` family and its time) and to its
//! host.

use std::rc::Rc;

use super::attempt::{Failed, Sent};
use super::deadlines::Timer;
use super::{Core, Interim};
use crate::http::grpc;
use crate::http::{BodyLength, FieldName};
use crate::stats::{ClusterStats, HostStats, Origin, ZoneStats};
use crate::upstream::circuit_breaker::{Permit, Resource, RoutingPriority};
use crate::upstream::error::Error;
use crate::upstream::local::LocalCluster;
use crate::upstream::outlier_detection as outlier;
use crate::upstream::pool::Pool;

/// Counts the response that the client gets, whether it is the host's or a local reply.
pub(super) fn response(cluster: &LocalCluster, core: &Core<'_>, status: u16) {
    if let Some(zone) = zone(core) {
        zone.codes.record(status);
    }
    core.groups.each(|stats| stats.codes.record(status));
    cluster.stats().record_response(status, origin(core.is_internal()), is_canary(core));
}

/// Counts an interim response of a host, as Envoy does even if the client does not get it.
pub(super) fn interim(stats: &ClusterStats, core: &Core<'_>, status: u16) {
    core.groups.each(|stats| stats.codes.record(status));
    stats.record_response(status, origin(core.is_internal()), false);
}

/// Counts the outcome of an attempt for its host; `outcome` is the length of the response.
///
/// As in Envoy, a failure after the response has begun is not an error of the host.
#[inline(always)]
pub(super) fn host(pool: &Pool, core: &Core<'_>, outcome: Result<BodyLength, &Failed>) {
    if let Some(monitor) = pool.host().monitor()
        && let Some(result) = outlier_result(core, outcome)
    {
        monitor.note(core.shard.id, result);
    }
    if core.heads.response.fields.has(FieldName::XEnvoyImmediateHealthCheckFail) {
        pool.host().fail_itself();
    }
    let host = pool.host_stats();
    let is_error = match outcome {
        Ok(length) if waits_for_trailers(core, length) => return,
        Ok(length) => {
            (500..600).contains(&core.heads.response.status) || is_grpc_error(core, length)
        }
        Err(Failed::Upstream { sent, .. }) => {
            // A host may close an idle connection at any time.
            if *sent != Sent::OnStaleConnection {
                host.rq_reset.inc();
            }
            core.interim == Interim::None
        }
        Err(Failed::Deadline(Timer::Route | Timer::PerTry | Timer::PerTryIdle)) => {
            host.rq_timeout.inc();
            core.interim == Interim::None
        }
        Err(_) => false,
    };
    if is_error {
        host.rq_error.inc();
        if outcome.is_ok() {
            host.rq_error_response.inc();
        }
    } else if outcome.is_ok() {
        host.rq_success.inc();
    }
}

/// What the outcome of an attempt is for outlier detection.
#[inline(never)]
fn outlier_result(
    core: &Core<'_>,
    outcome: Result<BodyLength, &Failed>,
) -> Option<outlier::Result> {
    match outcome {
        Ok(_) => {
            let response = &core.heads.response;
            let grpc_status = response.fields.get(FieldName::GrpcStatus);
            let grpc_status = grpc_status.filter(|_| core.heads.request.is_grpc());
            Some(outlier::Result::Response(grpc_status.map_or(response.status, grpc::http_status)))
        }
        Err(Failed::Upstream { .. }) => Some(outlier::Result::ConnectFailed),
        Err(Failed::Deadline(Timer::Route | Timer::PerTry | Timer::PerTryIdle)) => {
            Some(outlier::Result::TimedOut)
        }
        Err(_) => None,
    }
}

/// Counts for a host that a request got no connection. A limit of ours is not the host's error.
pub(super) fn no_connection(pool: &Pool, failed: &Failed) {
    match failed {
        Failed::Upstream { error: Error::Overflow, .. } => {}
        Failed::Upstream { .. } => {
            pool.host_stats().rq_error.inc();
            pool.note(outlier::Result::ConnectFailed);
        }
        Failed::Deadline(Timer::Route | Timer::PerTry) => {
            pool.host_stats().rq_connect_wait_timeout.inc();
        }
        _ => {}
    }
}

/// Whether the response has no body and ends a gRPC call with an error.
fn is_grpc_error(core: &Core<'_>, length: BodyLength) -> bool {
    matches!(length, BodyLength::None | BodyLength::Length(0))
        && core.heads.request.is_grpc()
        && grpc::is_server_error(core.heads.response.fields.get(FieldName::GrpcStatus))
}

/// Whether only the trailers will tell if the host has served the request: those of a gRPC call.
#[inline]
pub(super) fn waits_for_trailers(core: &Core<'_>, length: BodyLength) -> bool {
    !matches!(length, BodyLength::None | BodyLength::Length(0))
        && !(500..600).contains(&core.heads.response.status)
        && core.heads.request.is_grpc()
}

/// Counts the outcome of a gRPC call whose response has ended. As in Envoy, a response that was cut
/// off counts neither way.
#[cold]
pub(super) fn grpc_trailers(host: &HostStats, trailers: &[u8]) {
    if grpc::is_server_error(grpc::status_in_trailers(trailers)) {
        host.rq_error.inc();
    } else {
        host.rq_success.inc();
    }
}

const fn origin(is_internal: bool) -> Origin {
    if is_internal { Origin::Internal } else { Origin::External }
}

/// Records the time from the end of the request to the end of the response.
#[inline(always)]
pub(super) fn time(stats: &ClusterStats, core: &Core<'_>) {
    let now = core.shard.clock.now();
    let took = now.saturating_sub(core.received.unwrap_or(core.began));
    if let Some(zone) = zone(core) {
        zone.upstream_rq_time.record(took);
    }
    core.groups.each(|stats| stats.upstream_rq_time.record(took));
    let canary = is_canary(core);
    stats.record_response_time(took, origin(core.is_internal()), canary);
}

/// The counters for the zone of the last attempt's host, if there are any.
fn zone<'a>(core: &'a Core<'_>) -> Option<&'a ZoneStats> {
    core.upstream.pool.as_ref()?.zone_stats()
}

fn is_canary(core: &Core<'_>) -> bool {
    core.upstream.pool.as_ref().is_some_and(|pool| pool.host().canary)
        || core.heads.response.fields.get(FieldName::XEnvoyUpstreamCanary) == Some(b"true")
}

/// A request on an upstream connection, counted as active until this is dropped.
pub(super) struct ActiveRequest {
    pool: Rc<Pool>,
    _permit: Permit,
}

impl ActiveRequest {
    /// Counts a request; `None` if the circuit breaker allows no more.
    pub(super) fn begin(pool: &Rc<Pool>, priority: RoutingPriority) -> Option<Self> {
        pool.note(outlier::Result::Connected);
        let Some(permit) = pool.breakers().acquire(priority, Resource::Requests) else {
            pool.stats().upstream_rq_active_overflow.inc();
            return None;
        };
        let (stats, host_stats) = (pool.stats(), pool.host_stats());
        stats.upstream_rq_total.inc();
        stats.upstream_rq_active.inc();
        host_stats.rq_total.inc();
        host_stats.rq_active.inc();
        Some(Self { pool: Rc::clone(pool), _permit: permit })
    }
}

impl Drop for ActiveRequest {
    fn drop(&mut self) {
        self.pool.stats().upstream_rq_active.dec();
        self.pool.host_stats().rq_active.dec();
    }
}
