//! Schema → `bandwidth_limit`.

use std::sync::Arc;
use std::time::Duration;

use corvoy_config::{self as config, Path, Problems};

use super::{BandwidthLimit, Bucket, Directions, Settings};
use crate::head_matcher::compile::runtime_flag;
use crate::request::filters::compile::Context;
use crate::shard::clock::millis;
use crate::token_bucket::{Rate, Tokens};

/// Envoy's default.
const FILL_INTERVAL: Duration = Duration::from_millis(50);

impl BandwidthLimit {
    pub(in super::super) fn compile(
        schema: &config::BandwidthLimit,
        context: &Context<'_>,
        at: &Path,
        problems: &mut Problems,
    ) -> Self {
        Self(settings(schema, context, at, problems))
    }
}

pub(in super::super) fn of_route(
    schema: &config::BandwidthLimit,
    context: &Context<'_>,
    at: &Path,
    problems: &mut Problems,
) -> Settings {
    if schema.limit_kbps.is_none() {
        problems.missing(&at.field("limit_kbps"), "for a route the limit must be set");
    }
    settings(schema, context, at, problems)
}

fn settings(
    schema: &config::BandwidthLimit,
    context: &Context<'_>,
    at: &Path,
    problems: &mut Problems,
) -> Settings {
    let config::BandwidthLimit {
        stat_prefix,
        enable_mode,
        limit_kbps,
        fill_interval,
        runtime_enabled,
        enable_response_trailers,
        response_trailer_prefix,
    } = schema;
    let limits = match enable_mode {
        config::BandwidthEnableMode::Disabled => Directions { request: false, response: false },
        config::BandwidthEnableMode::Request => Directions { request: true, response: false },
        config::BandwidthEnableMode::Response => Directions { request: false, response: true },
        config::BandwidthEnableMode::RequestAndResponse => {
            Directions { request: true, response: true }
        }
    };
    let enabled = runtime_flag(runtime_enabled.as_ref(), true, context.runtime);
    if limit_kbps.is_none() && enabled.get() && (limits.request || limits.response) {
        let why = "without a limit no body passes: limit_kbps is needed";
        problems.error(&at.field("limit_kbps"), why);
    }
    let bytes = limit_kbps.unwrap_or(0).saturating_mul(1024);
    let prefix = match response_trailer_prefix.as_str() {
        "" => Box::default(),
        prefix => format!("{}-", prefix.to_ascii_lowercase()).into(),
    };
    Settings {
        enabled,
        limits,
        bucket: Arc::new(Bucket { rate: Rate::per_second(bytes), tokens: Tokens::default() }),
        fill_interval: millis(fill_interval.unwrap_or(FILL_INTERVAL)),
        trailer_prefix: enable_response_trailers.then_some(prefix),
        stats: context.registry.scope(&format!("{stat_prefix}.http_bandwidth_limit.")),
    }
}
