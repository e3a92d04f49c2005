//! Compiles access log filters.

use corvoy_config as config;
use corvoy_config::{Path, Problems};

use super::{Comparison, Filter, Op};
use crate::flags::Flag;
use crate::request::route::matchers;

/// Compiles an `AccessLogFilter`; `None` if it is empty or invalid.
pub fn filter(
    schema: &config::AccessLogFilter,
    at: &Path,
    problems: &mut Problems,
) -> Option<Filter> {
    let config::AccessLogFilter {
        status_code_filter,
        duration_filter,
        not_health_check_filter,
        runtime_filter,
        and_filter,
        or_filter,
        header_filter,
        response_flag_filter,
    } = schema;
    if let Some(config::StatusCodeFilter { comparison }) = status_code_filter {
        return compare(comparison.as_ref()?).map(Filter::StatusCode);
    }
    if let Some(config::DurationFilter { comparison }) = duration_filter {
        return compare(comparison.as_ref()?).map(Filter::Duration);
    }
    if let Some(config::HeaderFilter { header }) = header_filter {
        let at = at.field("header_filter").field("header");
        return matchers::compile::header(header.as_ref()?, &at, problems).map(Filter::Header);
    }
    if let Some(config::ResponseFlagFilter { flags }) = response_flag_filter {
        let at = at.field("response_flag_filter").field("flags");
        return Some(Filter::ResponseFlag(response_flags(flags, &at, problems)));
    }
    if let Some(schema) = runtime_filter {
        // All random numbers here are independent of each other.
        let config::RuntimeFilter { percent_sampled, use_independent_randomness: _ } = schema;
        return Some(Filter::Runtime(matchers::compile::percent(percent_sampled.as_ref()?)));
    }
    if let Some(config::NotHealthCheckFilter {}) = not_health_check_filter {
        return Some(Filter::NotHealthCheck);
    }
    if let Some(config::AndFilter { filters }) = and_filter {
        let at = at.field("and_filter").field("filters");
        return Some(Filter::And(each(filters, &at, problems)));
    }
    if let Some(config::OrFilter { filters }) = or_filter {
        let at = at.field("or_filter").field("filters");
        return Some(Filter::Or(each(filters, &at, problems)));
    }
    None
}

fn each(filters: &[config::AccessLogFilter], at: &Path, problems: &mut Problems) -> Vec<Filter> {
    let each = filters.iter().enumerate();
    each.filter_map(|(i, schema)| filter(schema, &at.index(i), problems)).collect()
}

fn compare(schema: &config::ComparisonFilter) -> Option<Comparison> {
    let config::ComparisonFilter { op, value } = schema;
    let config::RuntimeUInt32 { default_value } = value.as_ref()?;
    let op = match op {
        config::Op::Eq => Op::Eq,
        config::Op::Ge => Op::Ge,
        config::Op::Le => Op::Le,
        config::Op::Ne => Op::Ne,
    };
    Some(Comparison { op, value: *default_value })
}

fn response_flags(names: &[String], at: &Path, problems: &mut Problems) -> Vec<Flag> {
    let mut flags = Vec::with_capacity(names.len());
    for (i, name) in names.iter().enumerate() {
        match Flag::of(name) {
            Some(flag) => flags.push(flag),
            None => problems.error(&at.index(i), format!("'{name}' is not a response flag")),
        }
    }
    flags
}
