//! Schema → `health_check`.

use corvoy_config::{self as config, Path, Problems};

use super::{Cache, HealthCheck, MinHealthy, Mode};
use crate::head_matcher::compile::headers;
use crate::request::filters::compile::Context;
use crate::shard::clock::millis;

impl HealthCheck {
    pub(in super::super) fn compile(
        schema: &config::HealthCheckFilter,
        context: &Context<'_>,
        at: &Path,
        problems: &mut Problems,
    ) -> Option<Self> {
        let config::HealthCheckFilter {
            pass_through_mode,
            cache_time,
            cluster_min_healthy_percentages,
            headers: schemas,
        } = schema;
        let passes = (*pass_through_mode)?;
        let period = cache_time.map_or(0, millis);
        if period > 0 && !passes {
            let message = "cache_time must not be set when pass_through_mode is off";
            problems.error(&at.field("cache_time"), message);
            return None;
        }
        if passes && !cluster_min_healthy_percentages.is_empty() {
            let message = "ignored, as in Envoy, while pass_through_mode is on";
            problems.warn(&at.field("cluster_min_healthy_percentages"), message);
        }
        let clusters = cluster_min_healthy_percentages.iter();
        let clusters = clusters.map(|(name, config::Percent { value })| MinHealthy {
            cluster: name.as_str().into(),
            percent: whole(*value),
        });
        Some(Self {
            headers: headers(schemas, &at.field("headers"), problems),
            mode: match (passes, period) {
                (false, _) => Mode::Local(clusters.collect()),
                (true, 0) => Mode::PassThrough,
                (true, period) => Mode::Cached(Cache::new(period)),
            },
            local_cluster: context.local_cluster.as_bytes().into(),
        })
    }
}

/// As in Envoy, fractions are dropped. The validation rules have checked the range.
fn whole(percent: f64) -> u64 {
    (1..=100_u32).rev().find(|whole| f64::from(*whole) <= percent).map_or(0, u64::from)
}
