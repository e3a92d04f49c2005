//! Schema → access log filters.

use corvoy_config as config;
use corvoy_config::{Path, Problems};

use super::{Comparison, Filter, Op, Randomness, Sample};
use crate::access_log::entry_type::EntryType;
use crate::cel::Program;
use crate::flags::Flag;
use crate::fraction::Fraction;
use crate::head_matcher;
use crate::metadata_matcher::compile::metadata_matcher;
use crate::runtime::Reader;

/// Compiles an `AccessLogFilter`; `None` if it is empty or invalid.
pub fn filter(
    schema: &config::AccessLogFilter,
    at: &Path,
    runtime: &Reader<'_>,
    problems: &mut Problems,
) -> Option<Filter> {
    let config::AccessLogFilter {
        status_code_filter,
        duration_filter,
        not_health_check_filter,
        traceable_filter,
        runtime_filter,
        and_filter,
        or_filter,
        header_filter,
        response_flag_filter,
        grpc_status_filter,
        extension_filter,
        metadata_filter,
        log_type_filter,
    } = schema;
    if let Some(config::StatusCodeFilter { comparison }) = status_code_filter {
        return compare(comparison.as_ref()?, runtime).map(Filter::StatusCode);
    }
    if let Some(config::DurationFilter { comparison }) = duration_filter {
        return compare(comparison.as_ref()?, runtime).map(Filter::Duration);
    }
    if let Some(config::HeaderFilter { header }) = header_filter {
        let at = at.field("header_filter").field("header");
        return head_matcher::compile::header(header.as_ref()?, &at, problems).map(Filter::Header);
    }
    if let Some(config::ResponseFlagFilter { flags }) = response_flag_filter {
        let at = at.field("response_flag_filter").field("flags");
        return Some(Filter::ResponseFlag(response_flags(flags, &at, problems)));
    }
    if let Some(schema) = runtime_filter {
        return Some(Filter::Runtime(sample(schema, runtime)));
    }
    if let Some(config::NotHealthCheckFilter {}) = not_health_check_filter {
        return Some(Filter::NotHealthCheck);
    }
    if let Some(config::TraceableFilter {}) = traceable_filter {
        return Some(Filter::Traceable);
    }
    if let Some(config::GrpcStatusFilter { statuses, exclude }) = grpc_status_filter {
        // They are declared in the order of their numbers, beginning with 0.
        let statuses = statuses.iter().map(|status| *status as i64).collect();
        return Some(Filter::GrpcStatus { statuses, exclude: *exclude });
    }
    if let Some(schema) = metadata_filter {
        return metadata(schema, &at.field("metadata_filter"), problems);
    }
    if let Some(schema) = extension_filter {
        return extension(schema, &at.field("extension_filter"), problems).map(Filter::Cel);
    }
    if let Some(config::LogTypeFilter { types, exclude }) = log_type_filter {
        let types = types.iter().filter_map(|it| entry_type(*it)).collect();
        return Some(Filter::EntryType { types, exclude: *exclude });
    }
    if let Some(config::AndFilter { filters }) = and_filter {
        let at = at.field("and_filter").field("filters");
        return each(filters, &at, runtime, problems).map(Filter::And);
    }
    if let Some(config::OrFilter { filters }) = or_filter {
        let at = at.field("or_filter").field("filters");
        return each(filters, &at, runtime, problems).map(Filter::Or);
    }
    None
}

/// None if one of them is invalid.
fn each(
    filters: &[config::AccessLogFilter],
    at: &Path,
    runtime: &Reader<'_>,
    problems: &mut Problems,
) -> Option<Vec<Filter>> {
    let each = filters.iter().enumerate();
    each.map(|(i, schema)| filter(schema, &at.index(i), runtime, problems)).collect()
}

fn compare(schema: &config::ComparisonFilter, runtime: &Reader<'_>) -> Option<Comparison> {
    let config::ComparisonFilter { op, value } = schema;
    let config::RuntimeUInt32 { default_value, runtime_key } = value.as_ref()?;
    let op = match op {
        config::Op::Eq => Op::Eq,
        config::Op::Ge => Op::Ge,
        config::Op::Le => Op::Le,
        config::Op::Ne => Op::Ne,
    };
    let value = runtime.number(u64::from(*default_value), runtime_key);
    Some(Comparison { op, value })
}

fn sample(schema: &config::RuntimeFilter, runtime: &Reader<'_>) -> Sample {
    let config::RuntimeFilter { runtime_key, percent_sampled, use_independent_randomness } = schema;
    let configured = percent_sampled.as_ref().map(head_matcher::compile::percent);
    let configured = configured.unwrap_or(Fraction { numerator: 0, denominator: 100 });
    let Fraction { numerator, denominator } = configured;
    let salt = fastrand::u64(..);
    Sample {
        // As in Envoy the denominator is always that of the configuration, and a fraction is no value here.
        numerator: runtime.number(numerator.into(), runtime_key),
        denominator,
        by: if *use_independent_randomness {
            Randomness::Own { salt }
        } else {
            Randomness::RequestId { salt }
        },
    }
}

fn metadata(schema: &config::MetadataFilter, at: &Path, problems: &mut Problems) -> Option<Filter> {
    let config::MetadataFilter { matcher, match_if_key_not_found } = schema;
    let at = at.field("matcher");
    let matcher = match matcher {
        Some(schema) => Some(metadata_matcher(schema, &at, problems)?),
        None => None,
    };
    if schema.matcher.as_ref().is_some_and(|matcher| matcher.invert) {
        problems.warn(&at.field("invert"), "as in Envoy it has no effect in an access log filter");
    }
    Some(Filter::Metadata { matcher, if_not_found: match_if_key_not_found.unwrap_or(true) })
}

fn extension(
    schema: &config::ExtensionFilter,
    at: &Path,
    problems: &mut Problems,
) -> Option<Program> {
    let config::ExtensionFilter { name: _, typed_config } = schema;
    let at = at.field("typed_config");
    let Some(config::Any::ExpressionFilter(filter)) = typed_config else {
        problems.missing(&at, "Corvoy supports only the CEL filter as an extension filter");
        return None;
    };
    let config::ExpressionFilter { expression } = &**filter;
    let program = Program::new(expression);
    program.map_err(|error| problems.error(&at.field("expression"), error)).ok()
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

/// None for types of entries that nothing here writes.
fn entry_type(schema: config::AccessLogType) -> Option<EntryType> {
    use config::AccessLogType as Type;
    Some(match schema {
        Type::NotSet => EntryType::NotSet,
        Type::TcpUpstreamConnected => EntryType::TcpUpstreamConnected,
        Type::TcpPeriodic => EntryType::TcpPeriodic,
        Type::TcpConnectionEnd => EntryType::TcpConnectionEnd,
        Type::DownstreamStart => EntryType::DownstreamStart,
        Type::DownstreamPeriodic => EntryType::DownstreamPeriodic,
        Type::DownstreamEnd => EntryType::DownstreamEnd,
        Type::UpstreamPoolReady => EntryType::UpstreamPoolReady,
        Type::UpstreamPeriodic => EntryType::UpstreamPeriodic,
        Type::UpstreamEnd => EntryType::UpstreamEnd,
        Type::DownstreamTunnelSuccessfullyEstablished => {
            EntryType::DownstreamTunnelSuccessfullyEstablished
        }
        Type::TcpConnectionStart
        | Type::UdpTunnelUpstreamConnected
        | Type::UdpPeriodic
        | Type::UdpSessionEnd => return None,
    })
}
