//! Schema → `fault`.

use bytes::Bytes;
use corvoy_config::{self as config, Path, Problems};

use super::{Abort, AbortStatus, Delay, Fault, Rate, Settings};
use crate::request::filters::compile::Context;
use crate::request::route::Fraction;
use crate::request::route::matchers::compile::{headers, percent};
use crate::runtime::{Reader, RuntimeFraction};
use crate::shard::clock::millis;

impl Fault {
    pub(in super::super) fn compile(
        schema: &config::HttpFault,
        context: &Context<'_>,
        at: &Path,
        problems: &mut Problems,
    ) -> Self {
        Self {
            settings: settings(schema, context, at, problems),
            stats: context.registry.scope(&format!("{}fault.", context.stat_prefix)),
        }
    }
}

pub(in super::super) fn settings(
    schema: &config::HttpFault,
    context: &Context<'_>,
    at: &Path,
    problems: &mut Problems,
) -> Settings {
    let config::HttpFault {
        delay,
        abort,
        upstream_cluster,
        headers: header_matchers,
        downstream_nodes,
        max_active_faults,
        response_rate_limit,
        delay_percent_runtime,
        abort_percent_runtime,
        delay_duration_runtime,
        abort_http_status_runtime,
        max_active_faults_runtime,
        response_rate_limit_percent_runtime,
        abort_grpc_status_runtime,
        filter_metadata,
    } = schema;
    let runtime = context.runtime;
    let keys = AbortKeys {
        percent: or(abort_percent_runtime, "fault.http.abort.abort_percent"),
        http_status: or(abort_http_status_runtime, "fault.http.abort.http_status"),
        grpc_status: or(abort_grpc_status_runtime, "fault.http.abort.grpc_status"),
    };
    let delay_percent = or(delay_percent_runtime, "fault.http.delay.fixed_delay_percent");
    let delay_duration = or(delay_duration_runtime, "fault.http.delay.fixed_duration_ms");
    let rate_percent =
        or(response_rate_limit_percent_runtime, "fault.http.rate_limit.response_percent");
    let most = or(max_active_faults_runtime, "fault.http.max_active_faults");
    Settings {
        upstream_cluster: upstream_cluster.as_str().into(),
        headers: headers(header_matchers, &at.field("headers"), problems),
        downstream_nodes: downstream_nodes.iter().map(|node| node.as_bytes().into()).collect(),
        delay: delay
            .as_ref()
            .and_then(|schema| self::delay(schema, runtime, delay_percent, delay_duration)),
        abort: abort.as_ref().and_then(|schema| self::abort(schema, runtime, &keys)),
        rate_limit: response_rate_limit
            .as_ref()
            .and_then(|schema| rate_limit(schema, runtime, rate_percent)),
        active_max: runtime.number(max_active_faults.map_or(u64::MAX, u64::from), most),
        metadata: filter_metadata
            .as_ref()
            .and_then(|values| values.as_object().cloned())
            .unwrap_or_default(),
    }
}

/// The runtime keys of an abort.
struct AbortKeys<'a> {
    percent: &'a str,
    http_status: &'a str,
    grpc_status: &'a str,
}

fn or<'a>(key: &'a str, default: &'a str) -> &'a str {
    if key.is_empty() { default } else { key }
}

/// A percentage, unless the runtime sets another one.
fn percentage(
    schema: Option<&config::FractionalPercent>,
    runtime: &Reader<'_>,
    key: &str,
) -> RuntimeFraction {
    let none = Fraction { numerator: 0, denominator: 100 };
    runtime.fraction(schema.map_or(none, percent), key)
}

fn delay(
    schema: &config::FaultDelay,
    runtime: &Reader<'_>,
    percent: &str,
    duration: &str,
) -> Option<(Delay, RuntimeFraction)> {
    let config::FaultDelay { fixed_delay, header_delay, percentage: schema } = schema;
    let delay = match (fixed_delay, header_delay) {
        (Some(fixed), _) => Delay::Fixed(runtime.number(millis(*fixed), duration)),
        (None, Some(config::HeaderDelay {})) => {
            Delay::ByHeader { overridden: runtime.entry(duration) }
        }
        (None, None) => return None,
    };
    Some((delay, percentage(schema.as_ref(), runtime, percent)))
}

fn abort(schema: &config::FaultAbort, runtime: &Reader<'_>, keys: &AbortKeys<'_>) -> Option<Abort> {
    let config::FaultAbort {
        http_status,
        grpc_status,
        header_abort,
        percentage: schema,
        response_body,
    } = schema;
    let status = match (http_status, grpc_status, header_abort) {
        (Some(status), ..) => AbortStatus::Http(runtime.number((*status).into(), keys.http_status)),
        (None, Some(status), _) => {
            AbortStatus::Grpc(runtime.number((*status).into(), keys.grpc_status))
        }
        (None, None, Some(config::HeaderAbort {})) => AbortStatus::ByHeader,
        (None, None, None) => return None,
    };
    let body = match response_body.as_str() {
        "" => Bytes::from_static(b"fault filter abort"),
        body => Bytes::copy_from_slice(body.as_bytes()),
    };
    let percentage = percentage(schema.as_ref(), runtime, keys.percent);
    Some(Abort { status, percentage, body })
}

fn rate_limit(
    schema: &config::FaultRateLimit,
    runtime: &Reader<'_>,
    percent: &str,
) -> Option<(Rate, RuntimeFraction)> {
    let config::FaultRateLimit { fixed_limit, header_limit, percentage: schema } = schema;
    let rate = match (fixed_limit, header_limit) {
        (Some(config::FixedLimit { limit_kbps }), _) => Rate::Fixed(*limit_kbps),
        (None, Some(config::HeaderLimit {})) => Rate::ByHeader,
        (None, None) => return None,
    };
    Some((rate, percentage(schema.as_ref(), runtime, percent)))
}
