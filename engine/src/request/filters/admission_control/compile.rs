//! Schema → `admission_control`.

use std::time::Duration;

use corvoy_config::{self as config, Path, Problems};

use super::{AdmissionControl, Criteria, Refusal};
use crate::head_matcher::compile::runtime_flag;
use crate::request::filters::FilterId;
use crate::request::filters::compile::Context;
use crate::runtime::RuntimeNumber;
use crate::shard::clock::millis;

/// Envoy's defaults.
const WINDOW: Duration = Duration::from_secs(30);
const SUCCESS_RATE_THRESHOLD: f64 = 95.0;
const PROBABILITY_MAX: f64 = 80.0;

/// The statuses of gRPC that do not say that the service has a problem.
const GRPC_SUCCESSES: [u32; 11] = [0, 1, 2, 3, 5, 6, 7, 9, 11, 12, 16];

impl AdmissionControl {
    pub(in super::super) fn compile(
        schema: &config::AdmissionControl,
        context: &Context<'_>,
        at: &Path,
        problems: &mut Problems,
    ) -> Self {
        let config::AdmissionControl {
            enabled,
            success_criteria,
            sampling_window,
            aggression,
            sr_threshold,
            rps_threshold,
            max_rejection_probability,
        } = schema;
        let percent = |schema: Option<&config::RuntimePercent>, default: f64| {
            let Some(config::RuntimePercent { default_value, runtime_key }) = schema else {
                return default.into();
            };
            let value = default_value.as_ref().map_or(0.0, |config::Percent { value }| *value);
            let entry = (!runtime_key.is_empty()).then(|| context.runtime.entry(runtime_key));
            RuntimeNumber::new(value, entry)
        };
        let threshold = percent(sr_threshold.as_ref(), SUCCESS_RATE_THRESHOLD);
        if threshold.get() < 1.0 {
            problems.error(&at.field("sr_threshold"), "the success rate is at least 1 percent");
        }
        let probability = percent(max_rejection_probability.as_ref(), PROBABILITY_MAX);
        let aggression =
            aggression.as_ref().map(|config::RuntimeDouble { default_value }| *default_value);
        let window = millis(sampling_window.unwrap_or(WINDOW));
        Self {
            id: FilterId::next(),
            enabled: runtime_flag(enabled.as_ref(), true, context.runtime),
            success: criteria(success_criteria.as_ref(), &at.field("success_criteria"), problems),
            refusal: Refusal {
                success_rate_threshold: threshold,
                aggression: aggression.unwrap_or(1.0).max(1.0),
                probability_max: probability,
            },
            // As in Envoy in whole seconds.
            window: window - window % 1000,
            rps_threshold: rps_threshold.as_ref().map_or_else(
                || 0.into(),
                |config::RuntimeUInt32 { default_value, runtime_key }| {
                    context.runtime.number((*default_value).into(), runtime_key)
                },
            ),
            stats: context.registry.scope(&format!("{}admission_control.", context.stat_prefix)),
        }
    }
}

fn criteria(
    schema: Option<&config::AdmissionSuccessCriteria>,
    at: &Path,
    problems: &mut Problems,
) -> Criteria {
    let empty = config::AdmissionSuccessCriteria::default();
    let config::AdmissionSuccessCriteria { http_criteria, grpc_criteria } =
        schema.unwrap_or(&empty);
    let http = http_criteria.as_ref().map_or_else(
        || std::iter::once(100..500).collect(),
        |config::AdmissionHttpCriteria { http_success_status }| {
            let at = at.field("http_criteria").field("http_success_status");
            let each = http_success_status.iter().enumerate();
            each.filter_map(|(i, schema)| {
                let config::Int32Range { start, end } = *schema;
                let edge =
                    |edge: i32| u16::try_from(edge).ok().filter(|it| (100..=600).contains(it));
                let range = edge(start).zip(edge(end)).filter(|(start, end)| start <= end);
                if range.is_none() {
                    let why = format!("no range of statuses between 100 and 600: {start} to {end}");
                    problems.error(&at.index(i), why);
                }
                range.map(|(start, end)| start..end)
            })
            .collect()
        },
    );
    let grpc = grpc_criteria.as_ref().map_or_else(
        || GRPC_SUCCESSES.to_vec(),
        |config::AdmissionGrpcCriteria { grpc_success_status }| grpc_success_status.clone(),
    );
    let at = at.field("grpc_criteria").field("grpc_success_status");
    for (i, status) in grpc.iter().enumerate().filter(|(_, status)| **status > 16) {
        problems.error(&at.index(i), format!("no status of gRPC: {status}"));
    }
    let grpc = grpc.into_iter().filter(|status| *status <= 16).fold(0, |all, it| all | 1 << it);
    Criteria { http, grpc }
}
