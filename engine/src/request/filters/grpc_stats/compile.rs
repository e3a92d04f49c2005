//! Schema → `grpc_stats`.

use std::collections::HashSet;

use corvoy_config as config;

use super::methods::Naming;
use super::{GrpcMethodStats, Named};
use crate::request::filters::compile::Context;

impl GrpcMethodStats {
    pub(in super::super) fn compile(
        schema: &config::GrpcStatsFilter,
        context: &Context<'_>,
    ) -> Self {
        let config::GrpcStatsFilter {
            emit_filter_state,
            individual_method_stats_allowlist,
            stats_for_all_methods,
            enable_upstream_stats,
            replace_dots_in_grpc_service_name,
        } = schema;
        let listed = individual_method_stats_allowlist.as_ref();
        let named = match (stats_for_all_methods, listed) {
            (Some(true), _) => Named::All,
            (_, Some(schema)) => Named::Listed(names(schema)),
            (_, None) => Named::Listed(HashSet::new()),
        };
        // As in Envoy, dots are replaced only if all methods have names.
        let naming = match named {
            Named::All if *replace_dots_in_grpc_service_name => Naming::GrpcWithoutDots,
            Named::All | Named::Listed(_) => Naming::Grpc,
        };
        Self {
            registry: context.registry.clone(),
            named,
            naming,
            notes_messages: *emit_filter_state,
            records_time: *enable_upstream_stats,
        }
    }
}

fn names(schema: &config::GrpcMethodList) -> HashSet<Box<str>> {
    let config::GrpcMethodList { services } = schema;
    let each = services.iter().flat_map(|config::GrpcMethodListService { name, method_names }| {
        method_names.iter().map(move |method| format!("{name}/{method}").into())
    });
    each.collect()
}
