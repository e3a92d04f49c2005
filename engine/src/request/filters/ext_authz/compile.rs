//! Schema → the filter.

use std::sync::Arc;
use std::time::Duration;

use corvoy_config::{self as config, Path, Problems};

use super::http::{HttpService, PathRule};
use super::proto::CHECK;
use super::question::Question;
use super::{
    BodySettings, CheckSettings, Counted, EnabledMetadata, Enforcement, ExtAuthz, FailureMode,
    PerRoute, RouteBody, Service,
};
use crate::common_compile::check_word;
use crate::metadata_matcher::compile::metadata_matcher;
use crate::request::callout::compile as calls;
use crate::request::filters::compile::Context;
use crate::request::filters::mutation_rules::MutationRules;
use crate::request::route::mutation::compile::header as header_of;
use crate::request::route::{AppendAction, HeaderAddition, matchers};
use crate::text_matcher::{self, Literal, TextMatcher};

/// Envoy's default timeout of both services.
const TIMEOUT: Duration = Duration::from_millis(200);

/// What a retry of an HTTP service is made for, as in Envoy.
const RETRY_ON: &str = "5xx,gateway-error,connect-failure,reset";

impl ExtAuthz {
    #[expect(clippy::too_many_lines, reason = "one or two lines per field of the schema")]
    pub(in crate::request::filters) fn compile(
        schema: &config::ExtAuthz,
        context: &Context<'_>,
        at: &Path,
        problems: &mut Problems,
    ) -> Option<Self> {
        let config::ExtAuthz {
            grpc_service,
            http_service,
            transport_api_version,
            failure_mode_allow,
            failure_mode_allow_header_add,
            with_request_body,
            clear_route_cache,
            status_on_error,
            metadata_context_namespaces,
            route_metadata_context_namespaces,
            filter_enabled,
            filter_enabled_metadata,
            deny_at_disable,
            include_peer_certificate,
            stat_prefix,
            allowed_headers,
            disallowed_headers,
            include_tls_session,
            charge_cluster_response_stats,
            encode_raw_headers,
            enable_dynamic_metadata_ingestion,
            max_denied_response_body_bytes,
            decoder_header_mutation_rules: rules,
            shadow_mode,
        } = schema;
        // As in Envoy, AUTO is V3.
        if *transport_api_version == config::ApiVersion::V2 {
            problems.error(&at.field("transport_api_version"), "V2 is no longer supported");
        }
        let service = service(grpc_service.as_ref(), http_service.as_ref(), context, at, problems);
        let old_list = http_service.as_ref().and_then(|schema| {
            let config::AuthorizationRequest { allowed_headers, headers_to_add: _ } =
                schema.authorization_request.as_ref()?;
            allowed_headers.as_ref()
        });
        let list = allowed_headers.as_ref().or(old_list);
        let mut allowed = list.map(|schema| list_of(schema, at, problems));
        if http_service.is_some() {
            // As in Envoy, an HTTP service gets these, and nothing else that is not listed.
            let always = [":authority", ":method", ":path", "authorization"];
            let always = always.map(|name| TextMatcher::Exact(Literal::new(name, false)));
            let others = allowed.take().unwrap_or_default();
            allowed = Some(always.into_iter().chain(others).collect());
        }
        let disallowed = disallowed_headers.as_ref();
        let question = Question {
            allowed,
            disallowed: disallowed
                .map(|schema| list_of(schema, &at.field("disallowed_headers"), problems))
                .unwrap_or_default(),
            raw_headers: *encode_raw_headers,
            peer_certificate: *include_peer_certificate,
            tls_session: *include_tls_session,
            metadata: metadata_context_namespaces.clone().into(),
            route_metadata: route_metadata_context_namespaces.clone().into(),
        };
        let prefix = if stat_prefix.is_empty() {
            format!("{}ext_authz.", context.stat_prefix)
        } else {
            format!("{}ext_authz.{stat_prefix}.", context.stat_prefix)
        };
        Some(Self {
            service: service?,
            body: with_request_body.as_ref().map(body),
            question,
            failure: match (failure_mode_allow, failure_mode_allow_header_add) {
                (false, _) => FailureMode::Refuse,
                (true, false) => FailureMode::Allow,
                (true, true) => FailureMode::AllowWithHeader,
            },
            enforcement: if *shadow_mode { Enforcement::Shadow } else { Enforcement::Full },
            status_on_error: status_on_error.as_ref().map_or(403, status),
            clear_route_cache: *clear_route_cache,
            rules: rules.as_ref().map(|schema| {
                mutation_rules(schema, &at.field("decoder_header_mutation_rules"), problems)
            }),
            ingests_metadata: enable_dynamic_metadata_ingestion.unwrap_or(true),
            denied_body_max: *max_denied_response_body_bytes as usize,
            enabled: filter_enabled
                .as_ref()
                .and_then(|it| matchers::compile::runtime_fraction(it, context.runtime)),
            enabled_metadata: filter_enabled_metadata.as_ref().and_then(|schema| {
                let at = at.field("filter_enabled_metadata");
                let matcher = metadata_matcher(schema, &at, problems)?;
                Some(EnabledMetadata { matcher, invert: schema.invert })
            }),
            deny_at_disable: matchers::compile::runtime_flag(
                deny_at_disable.as_ref(),
                false,
                context.runtime,
            ),
            charges_cluster: charge_cluster_response_stats.unwrap_or(true),
            stats: context.registry.scope(&prefix),
            counted: counted(stat_prefix),
        })
    }
}

pub(in crate::request::filters) fn mutation_rules(
    schema: &config::HeaderMutationRules,
    at: &Path,
    problems: &mut Problems,
) -> MutationRules {
    let config::HeaderMutationRules {
        allow_all_routing,
        allow_envoy,
        disallow_system,
        disallow_all,
        allow_expression,
        disallow_expression,
        disallow_is_error,
    } = schema;
    let mut regex = |schema: &Option<config::RegexMatcher>, field: &str| {
        text_matcher::compile::regex(schema.as_ref()?, &at.field(field), problems)
    };
    MutationRules {
        allow_all_routing: allow_all_routing.unwrap_or(false),
        allow_envoy: allow_envoy.unwrap_or(false),
        disallow_system: disallow_system.unwrap_or(false),
        disallow_all: disallow_all.unwrap_or(false),
        allow: regex(allow_expression, "allow_expression"),
        disallow: regex(disallow_expression, "disallow_expression"),
        disallow_is_error: disallow_is_error.unwrap_or(false),
    }
}

fn counted(stat_prefix: &str) -> Counted {
    if stat_prefix.is_empty() {
        return Counted {
            denied: "denied",
            error: "error",
            failure_mode_allowed: "failure_mode_allowed",
            ok: "ok",
        };
    }
    // A name lives as long as the stats that it is counted with: as the process.
    let name = |text: &str| &*format!("{stat_prefix}.{text}").leak();
    Counted {
        denied: name("denied"),
        error: name("error"),
        failure_mode_allowed: name("failure_mode_allowed"),
        ok: name("ok"),
    }
}

/// What a route says.
pub(in crate::request::filters) fn of_route(
    schema: &config::ExtAuthzPerRoute,
    context: &Context<'_>,
    at: &Path,
    problems: &mut Problems,
) -> Option<PerRoute> {
    let config::ExtAuthzPerRoute { disabled, check_settings } = schema;
    if let Some(disabled) = disabled {
        if !disabled {
            problems.error(&at.field("disabled"), "it can only be true");
        }
        return Some(PerRoute::Disabled);
    }
    let at = at.field("check_settings");
    let config::CheckSettings {
        context_extensions,
        disable_request_body_buffering,
        with_request_body,
        grpc_service,
        http_service,
    } = check_settings.as_ref()?;
    let service = match (grpc_service, http_service) {
        (None, None) => None,
        (grpc, http) => Some(service(grpc.as_ref(), http.as_ref(), context, &at, problems)?),
    };
    let body = match (disable_request_body_buffering, with_request_body) {
        (true, Some(_)) => {
            let message = "it contradicts with_request_body";
            problems.error(&at.field("disable_request_body_buffering"), message);
            RouteBody::NotSent
        }
        (true, None) => RouteBody::NotSent,
        (false, Some(schema)) => RouteBody::Sent(body(schema)),
        (false, None) => RouteBody::Inherited,
    };
    let context_extensions = context_extensions.clone();
    Some(PerRoute::Check(Box::new(CheckSettings { context_extensions, body, service })))
}

fn service(
    grpc: Option<&config::GrpcService>,
    http: Option<&config::ExtAuthzHttpService>,
    context: &Context<'_>,
    at: &Path,
    problems: &mut Problems,
) -> Option<Arc<Service>> {
    Some(Arc::new(match (grpc, http) {
        (Some(schema), _) => {
            let at = at.field("grpc_service");
            Service::Grpc(calls::grpc(schema, CHECK, TIMEOUT, &context.calls, &at, problems)?)
        }
        (None, Some(schema)) => {
            Service::Http(http_service(schema, context, &at.field("http_service"), problems)?)
        }
        (None, None) => {
            problems.missing(at, "grpc_service or http_service is required");
            return None;
        }
    }))
}

fn http_service(
    schema: &config::ExtAuthzHttpService,
    context: &Context<'_>,
    at: &Path,
    problems: &mut Problems,
) -> Option<HttpService> {
    let config::ExtAuthzHttpService {
        server_uri,
        path_prefix,
        path_override,
        authorization_request,
        authorization_response,
        retry_policy,
    } = schema;
    let retry = retry_policy
        .as_ref()
        .map(|schema| calls::retry(schema, RETRY_ON, &at.field("retry_policy"), problems));
    let Some(uri) = server_uri else {
        problems.missing(&at.field("server_uri"), "server_uri is required");
        return None;
    };
    let target = calls::http(uri, retry, &context.calls, &at.field("server_uri"), problems);
    check_word(path_prefix, &at.field("path_prefix"), problems);
    check_word(path_override, &at.field("path_override"), problems);
    if !path_prefix.is_empty() && !path_prefix.starts_with('/') {
        problems.error(&at.field("path_prefix"), "it must begin with /");
    }
    let path = if path_override.is_empty() {
        PathRule::Prefix(path_prefix.as_bytes().into())
    } else {
        PathRule::Fixed(path_override.as_bytes().into())
    };
    let empty = config::AuthorizationRequest::default();
    // The other field is taken with those of the filter.
    let config::AuthorizationRequest { allowed_headers: _, headers_to_add } =
        authorization_request.as_ref().unwrap_or(&empty);
    let at_add = at.field("authorization_request").field("headers_to_add");
    let headers_to_add = headers_to_add.iter().enumerate().filter_map(|(i, header)| {
        let (name, value) = header_of(header, &at_add.index(i), problems)?;
        let action = AppendAction::OverwriteIfExistsOrAdd;
        Some(HeaderAddition { name, value, action, keep_empty: false })
    });
    let headers_to_add = headers_to_add.collect();
    let at = at.field("authorization_response");
    let empty = config::AuthorizationResponse::default();
    let config::AuthorizationResponse {
        allowed_upstream_headers,
        allowed_upstream_headers_to_append,
        allowed_client_headers,
        allowed_client_headers_on_success,
        dynamic_metadata_from_headers,
    } = authorization_response.as_ref().unwrap_or(&empty);
    let mut list = |schema: &Option<config::ListStringMatcher>, field: &str| {
        let list = schema.as_ref().map(|schema| list_of(schema, &at.field(field), problems));
        list.unwrap_or_default()
    };
    Some(HttpService {
        target: target?,
        path,
        headers_to_add,
        upstream: list(allowed_upstream_headers, "allowed_upstream_headers"),
        upstream_append: list(
            allowed_upstream_headers_to_append,
            "allowed_upstream_headers_to_append",
        ),
        client: list(allowed_client_headers, "allowed_client_headers"),
        client_on_success: list(
            allowed_client_headers_on_success,
            "allowed_client_headers_on_success",
        ),
        metadata: list(dynamic_metadata_from_headers, "dynamic_metadata_from_headers"),
    })
}

pub(in crate::request::filters) fn list_of(
    schema: &config::ListStringMatcher,
    at: &Path,
    problems: &mut Problems,
) -> Box<[TextMatcher]> {
    let config::ListStringMatcher { patterns } = schema;
    let at = at.field("patterns");
    let patterns = patterns.iter().enumerate();
    patterns
        .filter_map(|(i, schema)| text_matcher::compile::text(schema, &at.index(i), problems))
        .collect()
}

const fn body(schema: &config::BufferSettings) -> BodySettings {
    let config::BufferSettings { max_request_bytes, allow_partial_message, pack_as_bytes } = schema;
    BodySettings {
        bytes_max: *max_request_bytes as usize,
        allow_partial: *allow_partial_message,
        pack_as_bytes: *pack_as_bytes,
    }
}

pub(in crate::request::filters) const fn status(schema: &config::HttpStatus) -> u16 {
    let config::HttpStatus { code } = schema;
    *code as u16
}
