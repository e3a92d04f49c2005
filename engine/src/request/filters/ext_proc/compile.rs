//! Schema → the filter.

use std::sync::Arc;
use std::time::Duration;

use corvoy_config::{self as config, Path, Problems};

use super::mode::{BodyMode, Mode, Parts};
use super::proto::PROCESS;
use super::question::{Attributes, ForwardRules};
use super::{ExtProc, Immediate, Overrides, PerRoute, Plan, RouteCacheAction, RouteOverrides};
use crate::cel::Program;
use crate::request::callout::compile as calls;
use crate::request::callout::grpc::GrpcMethod;
use crate::request::filters::compile::Context;
use crate::request::filters::ext_authz::compile::{list_of, mutation_rules, status};

/// Envoy's default of `message_timeout`.
const MESSAGE_TIMEOUT: Duration = Duration::from_millis(200);

/// Envoy's default of `deferred_close_timeout`.
const DEFERRED_CLOSE: Duration = Duration::from_secs(5);

impl ExtProc {
    #[expect(clippy::too_many_lines, reason = "one or two lines per field of the schema")]
    pub(in crate::request::filters) fn compile(
        schema: &config::ExtProc,
        context: &Context<'_>,
        at: &Path,
        problems: &mut Problems,
    ) -> Option<Self> {
        let config::ExtProc {
            grpc_service,
            failure_mode_allow,
            processing_mode,
            request_attributes,
            response_attributes,
            message_timeout,
            stat_prefix,
            mutation_rules: rules,
            max_message_timeout,
            forward_rules: forward,
            allow_mode_override,
            disable_immediate_response,
            metadata_options,
            observability_mode,
            disable_clear_route_cache,
            route_cache_action,
            deferred_close_timeout,
            send_body_without_waiting_for_header_response,
            allowed_override_modes,
            status_on_error,
            allow_content_length_header,
        } = schema;
        let Some(service) = grpc_service else {
            problems.missing(&at.field("grpc_service"), "grpc_service is required");
            return None;
        };
        let service = service_of(service, context, &at.field("grpc_service"), problems);
        let at_mode = at.field("processing_mode");
        let mode = processing_mode
            .as_ref()
            .map_or_else(|| Some(Mode::default()), |schema| mode(schema, &at_mode, problems));
        let is_duplex = |parts: Parts| parts.body == BodyMode::FullDuplex;
        if *failure_mode_allow
            && mode.is_some_and(|mode| is_duplex(mode.request) || is_duplex(mode.response))
        {
            let message = "it cannot be with FULL_DUPLEX_STREAMED: what was sent is not kept";
            problems.error(&at.field("failure_mode_allow"), message);
        }
        let at_list = at.field("allowed_override_modes");
        let listed = allowed_override_modes.iter().enumerate();
        let listed: Box<[Mode]> =
            listed.filter_map(|(i, schema)| mode_of(schema, &at_list.index(i), problems)).collect();
        let overrides = match (allow_mode_override, listed.is_empty()) {
            (false, _) => Overrides::None,
            (true, true) => Overrides::Any,
            (true, false) => Overrides::Listed(listed),
        };
        let (forwarding, receiving) = namespaces(metadata_options.as_ref());
        let at_attributes = at.field("request_attributes");
        let request_attributes = attributes(request_attributes, &at_attributes, problems);
        let at_attributes = at.field("response_attributes");
        let response_attributes = attributes(response_attributes, &at_attributes, problems);
        // As in Envoy, the prefix is not separated by a dot.
        let prefix = format!("{}ext_proc.{stat_prefix}", context.stat_prefix);
        let at_rules = at.field("mutation_rules");
        let no_rules = config::HeaderMutationRules::default();
        Some(Self {
            plan: Arc::new(Plan {
                service: service?,
                metadata: Box::default(),
                mode: mode?,
                allows_failure: *failure_mode_allow,
                forwarding: forwarding.unwrap_or_default(),
                receiving: receiving.unwrap_or_default(),
            }),
            request_attributes,
            response_attributes,
            forward_rules: forward_rules(forward.as_ref(), at, problems),
            rules: mutation_rules(rules.as_ref().unwrap_or(&no_rules), &at_rules, problems),
            message_timeout: message_timeout.unwrap_or(MESSAGE_TIMEOUT),
            max_message_timeout: max_message_timeout.unwrap_or_default(),
            route_cache: cache_action(*disable_clear_route_cache, *route_cache_action),
            immediate: if *disable_immediate_response {
                Immediate::Disabled
            } else {
                Immediate::Allowed
            },
            overrides,
            status_on_error: status_on_error.as_ref().map_or(500, status),
            observes: *observability_mode,
            deferred_close: deferred_close_timeout.unwrap_or(DEFERRED_CLOSE),
            sends_body_early: *send_body_without_waiting_for_header_response,
            keeps_length: *allow_content_length_header,
            stats: context.registry.scope(&prefix),
        })
    }
}

/// What a route says.
pub(in crate::request::filters) fn of_route(
    schema: &config::ExtProcPerRoute,
    context: &Context<'_>,
    at: &Path,
    problems: &mut Problems,
) -> Option<PerRoute> {
    let config::ExtProcPerRoute { disabled, overrides } = schema;
    if disabled.is_some() {
        return Some(PerRoute::Disabled);
    }
    let at = at.field("overrides");
    let Some(schema) = overrides else {
        problems.missing(&at, "disabled or overrides is required");
        return None;
    };
    let config::ExtProcOverrides {
        processing_mode,
        grpc_service,
        metadata_options,
        grpc_initial_metadata,
        failure_mode_allow,
    } = schema;
    let at_mode = at.field("processing_mode");
    let mode = match processing_mode {
        Some(schema) => Some(mode(schema, &at_mode, problems)?),
        None => None,
    };
    let service = match grpc_service {
        Some(schema) => Some(service_of(schema, context, &at.field("grpc_service"), problems)?),
        None => None,
    };
    let (forwarding, receiving) = namespaces(metadata_options.as_ref());
    let at_metadata = at.field("grpc_initial_metadata");
    Some(PerRoute::Overrides(Box::new(RouteOverrides {
        mode,
        service,
        metadata: calls::metadata(grpc_initial_metadata, &at_metadata, problems),
        allows_failure: *failure_mode_allow,
        forwarding,
        receiving,
    })))
}

/// As in Envoy, a stream has no timeout.
fn service_of(
    schema: &config::GrpcService,
    context: &Context<'_>,
    at: &Path,
    problems: &mut Problems,
) -> Option<Arc<GrpcMethod>> {
    let mut schema = schema.clone();
    schema.timeout = None;
    calls::grpc(&schema, PROCESS, Duration::ZERO, &context.calls, at, problems).map(Arc::new)
}

/// A mode, with Envoy's rule for full duplex.
fn mode(schema: &config::ProcessingMode, at: &Path, problems: &mut Problems) -> Option<Mode> {
    let mode = mode_of(schema, at, problems)?;
    for (parts, field) in
        [(mode.request, "request_trailer_mode"), (mode.response, "response_trailer_mode")]
    {
        if parts.body == BodyMode::FullDuplex && !parts.trailers {
            problems.error(&at.field(field), "FULL_DUPLEX_STREAMED needs SEND here");
        }
    }
    Some(mode)
}

fn mode_of(schema: &config::ProcessingMode, at: &Path, problems: &mut Problems) -> Option<Mode> {
    let config::ProcessingMode {
        request_header_mode,
        response_header_mode,
        request_body_mode,
        response_body_mode,
        request_trailer_mode,
        response_trailer_mode,
    } = schema;
    let mut parts = |headers, body, trailers, field| {
        Some(Parts {
            headers: headers != config::HeaderSendMode::Skip,
            body: body_mode(body, &at.field(field), problems)?,
            trailers: trailers == config::HeaderSendMode::Send,
        })
    };
    let request =
        parts(*request_header_mode, *request_body_mode, *request_trailer_mode, "request_body_mode");
    let response = parts(
        *response_header_mode,
        *response_body_mode,
        *response_trailer_mode,
        "response_body_mode",
    );
    Some(Mode { request: request?, response: response? })
}

fn body_mode(mode: config::BodySendMode, at: &Path, problems: &mut Problems) -> Option<BodyMode> {
    Some(match mode {
        config::BodySendMode::None => BodyMode::None,
        config::BodySendMode::Streamed => BodyMode::Streamed,
        config::BodySendMode::Buffered => BodyMode::Buffered,
        config::BodySendMode::BufferedPartial => BodyMode::BufferedPartial,
        config::BodySendMode::FullDuplexStreamed => BodyMode::FullDuplex,
        config::BodySendMode::Grpc => {
            problems.error(at, "GRPC is not supported");
            return None;
        }
    })
}

const fn cache_action(is_disabled: bool, action: config::RouteCacheAction) -> RouteCacheAction {
    match (is_disabled, action) {
        (true, _) | (_, config::RouteCacheAction::Retain) => RouteCacheAction::Retain,
        (_, config::RouteCacheAction::Clear) => RouteCacheAction::Clear,
        (_, config::RouteCacheAction::Default) => RouteCacheAction::Default,
    }
}

type Namespaces = Option<Arc<[String]>>;

fn namespaces(schema: Option<&config::ExtProcMetadataOptions>) -> (Namespaces, Namespaces) {
    let Some(schema) = schema else { return (None, None) };
    let config::ExtProcMetadataOptions { forwarding_namespaces, receiving_namespaces } = schema;
    let list = |schema: &Option<config::ExtProcMetadataNamespaces>| {
        let config::ExtProcMetadataNamespaces { untyped } = schema.as_ref()?;
        Some(untyped.clone().into())
    };
    (list(forwarding_namespaces), list(receiving_namespaces))
}

fn forward_rules(
    schema: Option<&config::HeaderForwardingRules>,
    at: &Path,
    problems: &mut Problems,
) -> ForwardRules {
    let Some(schema) = schema else { return ForwardRules::default() };
    let config::HeaderForwardingRules { allowed_headers, disallowed_headers } = schema;
    let at = at.field("forward_rules");
    let mut list = |schema: &Option<config::ListStringMatcher>, field: &str| {
        let list = schema.as_ref().map(|schema| list_of(schema, &at.field(field), problems));
        list.unwrap_or_default()
    };
    ForwardRules {
        allowed: list(allowed_headers, "allowed_headers"),
        disallowed: list(disallowed_headers, "disallowed_headers"),
    }
}

fn attributes(names: &[String], at: &Path, problems: &mut Problems) -> Attributes {
    let each = names.iter().enumerate();
    each.filter_map(|(i, name)| match Program::new(name) {
        Ok(program) => Some((name.clone(), program)),
        Err(message) => {
            problems.error(&at.index(i), message);
            None
        }
    })
    .collect()
}
