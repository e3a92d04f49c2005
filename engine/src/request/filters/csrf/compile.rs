//! Schema → `csrf`.

use corvoy_config::{self as config, Path, Problems};

use super::super::compile::Context;
use super::{Csrf, Policy};
use crate::request::route::Fraction;
use crate::request::route::matchers::compile::runtime_fraction;
use crate::text_matcher::compile::text;

impl Csrf {
    pub(in super::super) fn compile(
        schema: &config::CsrfPolicy,
        context: &Context<'_>,
        at: &Path,
        problems: &mut Problems,
    ) -> Self {
        let stats = context.registry.scope(&format!("{}csrf.", context.stat_prefix));
        Self { policy: policy(schema, context, at, problems), stats }
    }
}

pub(in super::super) fn policy(
    schema: &config::CsrfPolicy,
    context: &Context<'_>,
    at: &Path,
    problems: &mut Problems,
) -> Policy {
    let config::CsrfPolicy { filter_enabled, shadow_enabled, additional_origins } = schema;
    let at = at.field("additional_origins");
    let origins = additional_origins.iter().enumerate();
    let none = Fraction { numerator: 0, denominator: 1 };
    let all = Fraction { numerator: 1, denominator: 1 };
    let part = |schema: &Option<config::RuntimeFractionalPercent>| {
        runtime_fraction(schema.as_ref()?, context.runtime)
    };
    Policy {
        enabled: part(filter_enabled).unwrap_or_else(|| all.into()),
        shadow: part(shadow_enabled).unwrap_or_else(|| none.into()),
        additional_origins: origins
            .filter_map(|(i, schema)| text(schema, &at.index(i), problems))
            .collect(),
    }
}
