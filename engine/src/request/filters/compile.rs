//! Schema → the chain of HTTP filters, and what routes say to it.

use std::collections::BTreeMap;
use std::sync::Arc;

use corvoy_config::{self as config, Path, Problems};

use super::admission_control::AdmissionControl;
use super::api_key_auth::{self, ApiKeyAuth};
use super::bandwidth_limit::{self, BandwidthLimit};
use super::basic_auth::{self, BasicAuth};
use super::buffer::{Buffer, PerRoute};
use super::cdn_loop::CdnLoop;
use super::chain::{Chain, Named, Plan, Said, Step};
use super::compressor::{self, Compressor};
use super::cors::{self, Cors};
use super::credential_injector::CredentialInjector;
use super::csrf::{self, Csrf};
use super::custom_response::{self, CustomResponse};
use super::decompressor::Decompressor;
use super::dynamic_forward_proxy::{self, DynamicForwardProxy};
use super::ext_authz::{self, ExtAuthz};
use super::ext_proc::{self, ExtProc};
use super::fault::{self, Fault};
use super::grpc_http1_bridge::GrpcHttp1Bridge;
use super::grpc_http1_reverse_bridge::GrpcHttp1ReverseBridge;
use super::grpc_stats::GrpcMethodStats;
use super::grpc_web::GrpcWeb;
use super::header_mutation::{self, HeaderMutation};
use super::header_to_metadata::{self, HeaderToMetadata};
use super::health_check::HealthCheck;
use super::json_to_metadata::{self, JsonToMetadata};
use super::jwt_authn::{self, JwtAuthn};
use super::local_ratelimit::{self, LocalRateLimit};
use super::lua::{self, Lua};
use super::ratelimit::{self, GlobalRateLimit};
use super::rbac::{self, Rbac};
use super::selector::{self, Selector};
use super::set_filter_state::{self, SetFilterState};
use super::set_metadata::{Entry, Existing, SetMetadata};
use super::stateful_session::{self, StatefulSession};
use super::upstream::UpstreamChains;
use super::{Filter, RouteConfig};
use crate::head_matcher::HeaderName;
use crate::http::TOKEN;
use crate::request::callout;
use crate::request::route::mutation::compile::{is_framing, is_mutable};
use crate::runtime::Reader;
use crate::stats::Registry;
use crate::transport::tls::context::compile::Secrets;
use crate::upstream::dns_cache::compile::DnsCaches;

/// What filters need from outside their own message.
pub(crate) struct Context<'a> {
    pub(crate) registry: &'a Registry,
    /// `http.<stat_prefix>.`
    pub(crate) stat_prefix: &'a str,
    pub(crate) runtime: &'a Reader<'a>,
    /// For filters that ask others.
    pub(crate) calls: callout::compile::Context<'a>,
    /// The name of this proxy's cluster.
    pub(crate) local_cluster: &'a str,
    /// The DNS caches that are in use.
    pub(crate) dns_caches: &'a DnsCaches,
    /// For filters that have secrets.
    pub(crate) secrets: &'a Secrets,
}

#[cfg(test)]
impl<'a> Context<'a> {
    /// Without clusters and prefix.
    pub(crate) fn bare(registry: &'a Registry, runtime: &'a Reader<'a>) -> Self {
        let calls = callout::compile::Context::without_clusters();
        // They live as long as the test.
        let (dns_caches, secrets) =
            (Box::leak(Box::default()), Box::leak(Box::new(Secrets::new(&[], 1, true))));
        Self { registry, stat_prefix: "", runtime, calls, local_cluster: "", dns_caches, secrets }
    }
}

/// What one level of the route configuration says to filters.
#[derive(Clone, Default)]
pub(crate) struct Level {
    /// By the name of the filter.
    configs: Arc<BTreeMap<String, LevelConfig>>,
    /// The deprecated policy of `cors`.
    old_cors: Option<Arc<RouteConfig>>,
}

/// What a level says to a filter.
enum LevelConfig {
    Disabled,
    /// That it runs, with this.
    Config(Arc<RouteConfig>),
}

/// Compiles the filters before the router, whose other options the manager compiles. `upstream` are those
/// behind it.
pub(crate) fn chain(
    filters: &[config::HttpFilter],
    upstream: UpstreamChains,
    upgrades: Vec<(Box<[u8]>, Chain)>,
    context: &Context<'_>,
    at: &Path,
    problems: &mut Problems,
) -> Chain {
    let upgrades = upgrades.into_iter().map(|(protocol, chain)| (protocol, Arc::new(chain)));
    let mut chain = Chain {
        filters: before_router(filters, context, at, problems).into(),
        upstream,
        upgrades: upgrades.collect(),
        ..Chain::default()
    };
    chain.without_route = chain.compile_plan(&[]);
    chain
}

/// Compiles the filters of upgrades that have others than those of the connection manager, each with the
/// protocol.
pub(crate) fn upgrades(
    schemas: &[config::UpgradeConfig],
    context: &Context<'_>,
    at: &Path,
    problems: &mut Problems,
) -> Vec<(Box<[u8]>, Chain)> {
    let mut chains = Vec::new();
    for (i, schema) in schemas.iter().enumerate() {
        // Whether it is enabled, and what the router has to say, the manager compiles.
        let config::UpgradeConfig { upgrade_type, filters, enabled: _ } = schema;
        if !filters.is_empty() {
            let at = at.index(i).field("filters");
            let filters = before_router(filters, context, &at, problems).into();
            let chain = Chain { filters, ..Chain::default() };
            chains.push((upgrade_type.as_bytes().into(), chain));
        }
    }
    chains
}

fn before_router(
    filters: &[config::HttpFilter],
    context: &Context<'_>,
    at: &Path,
    problems: &mut Problems,
) -> Vec<Named> {
    let before_router = filters.split_last().map_or(&[][..], |(_, others)| others);
    all_named(before_router, context, at, problems)
}

/// Compiles all of `filters`, without those that have errors.
pub(super) fn all_named(
    filters: &[config::HttpFilter],
    context: &Context<'_>,
    at: &Path,
    problems: &mut Problems,
) -> Vec<Named> {
    let mut named = Vec::with_capacity(filters.len());
    for (i, schema) in filters.iter().enumerate() {
        let at = at.index(i);
        let config::HttpFilter { name, typed_config, is_optional, disabled } = schema;
        // Of a filter that exists.
        let _ = is_optional;
        let Some(options) = typed_config else { continue };
        if let Some(filter) = filter(options, context, &at.field("typed_config"), problems) {
            named.push(Named { name: name.as_str().into(), filter, disabled: *disabled });
        }
    }
    named
}

/// Compiles a filter; `None` if there are errors.
#[expect(clippy::too_many_lines, reason = "an arm or two per filter")]
pub(super) fn filter(
    options: &config::Any,
    context: &Context<'_>,
    at: &Path,
    problems: &mut Problems,
) -> Option<Filter> {
    Some(match options {
        config::Any::AdmissionControl(schema) => {
            let filter = AdmissionControl::compile(schema, context, at, problems);
            Filter::AdmissionControl(Box::new(filter))
        }
        config::Any::ApiKeyAuth(schema) => {
            Filter::ApiKeyAuth(ApiKeyAuth::compile(schema, context, at, problems)?)
        }
        config::Any::BandwidthLimit(schema) => {
            let filter = BandwidthLimit::compile(schema, context, at, problems);
            Filter::BandwidthLimit(Box::new(filter))
        }
        config::Any::BasicAuth(schema) => {
            Filter::BasicAuth(BasicAuth::compile(schema, context, at, problems)?)
        }
        config::Any::Buffer(schema) => Filter::Buffer(buffer(schema)),
        config::Any::CdnLoop(schema) => Filter::CdnLoop(CdnLoop::compile(schema, at, problems)?),
        config::Any::Compressor(schema) => {
            Filter::Compressor(Box::new(Compressor::compile(schema, context, at, problems)?))
        }
        config::Any::Composite(schema) => {
            Filter::Selector(Box::new(Selector::composite(schema, context, at, problems)?))
        }
        config::Any::ExtensionWithMatcher(schema) => {
            Filter::Selector(Box::new(Selector::with_matcher(schema, context, at, problems)?))
        }
        config::Any::Cors(schema) => {
            let config::Cors {} = **schema;
            let prefix = format!("{}cors.", context.stat_prefix);
            Filter::Cors(Cors { stats: context.registry.scope(&prefix) })
        }
        config::Any::CredentialInjector(schema) => {
            let filter = CredentialInjector::compile(schema, context, at, problems)?;
            Filter::CredentialInjector(Box::new(filter))
        }
        config::Any::CustomResponse(schema) => {
            let filter = CustomResponse::compile(schema, context, at, problems)?;
            Filter::CustomResponse(Box::new(filter))
        }
        config::Any::CsrfPolicy(schema) => {
            Filter::Csrf(Csrf::compile(schema, context, at, problems))
        }
        config::Any::Decompressor(schema) => {
            Filter::Decompressor(Box::new(Decompressor::compile(schema, context, at, problems)?))
        }
        config::Any::DynamicForwardProxy(schema) => Filter::DynamicForwardProxy(
            DynamicForwardProxy::compile(schema, context, at, problems)?,
        ),
        config::Any::HttpFault(schema) => {
            Filter::Fault(Box::new(Fault::compile(schema, context, at, problems)))
        }
        config::Any::ExtAuthz(schema) => {
            Filter::ExtAuthz(Box::new(ExtAuthz::compile(schema, context, at, problems)?))
        }
        config::Any::ExtProc(schema) => {
            Filter::ExtProc(Box::new(ExtProc::compile(schema, context, at, problems)?))
        }
        config::Any::GlobalRateLimit(schema) => {
            let filter = GlobalRateLimit::compile(schema, context, at, problems)?;
            Filter::GlobalRateLimit(Box::new(filter))
        }
        config::Any::GrpcHttp1Bridge(schema) => {
            let config::GrpcHttp1Bridge { upgrade_protobuf_to_grpc, ignore_query_parameters } =
                **schema;
            Filter::GrpcHttp1Bridge(GrpcHttp1Bridge {
                upgrades_protobuf: upgrade_protobuf_to_grpc,
                removes_query: ignore_query_parameters,
            })
        }
        config::Any::GrpcHttp1ReverseBridge(schema) => {
            Filter::GrpcHttp1ReverseBridge(Box::new(reverse_bridge(schema)))
        }
        config::Any::GrpcStatsFilter(schema) => {
            Filter::GrpcStats(Box::new(GrpcMethodStats::compile(schema, context)))
        }
        config::Any::GrpcWeb(schema) => {
            let config::GrpcWeb {} = **schema;
            Filter::GrpcWeb(GrpcWeb { registry: context.registry.clone() })
        }
        config::Any::HeaderMutationFilter(schema) => {
            Filter::HeaderMutation(HeaderMutation::compile(schema, at, problems))
        }
        config::Any::HeaderToMetadata(schema) => Filter::HeaderToMetadata(
            HeaderToMetadata::compile(schema, context.registry, at, problems),
        ),
        config::Any::HealthCheckFilter(schema) => {
            Filter::HealthCheck(Box::new(HealthCheck::compile(schema, context, at, problems)?))
        }
        config::Any::HttpRbac(schema) => {
            Filter::Rbac(Box::new(Rbac::compile(schema, context, at, problems)?))
        }
        config::Any::JsonToMetadata(schema) => {
            let filter = JsonToMetadata::compile(schema, context, at, problems);
            Filter::JsonToMetadata(Box::new(filter))
        }
        config::Any::JwtAuthentication(schema) => {
            Filter::JwtAuthn(Box::new(JwtAuthn::compile(schema, context, at, problems)?))
        }
        config::Any::LocalRateLimit(schema) => {
            let filter = LocalRateLimit::compile(schema, context, at, problems)?;
            Filter::LocalRateLimit(Box::new(filter))
        }
        config::Any::Lua(schema) => {
            Filter::Lua(Box::new(Lua::compile(schema, context, at, problems)?))
        }
        config::Any::HttpSetFilterState(schema) => {
            Filter::SetFilterState(SetFilterState::compile(schema, at, problems))
        }
        config::Any::SetMetadata(schema) => Filter::SetMetadata(set_metadata(schema, at, problems)),
        config::Any::StatefulSession(schema) => {
            let filter = StatefulSession::compile(schema, context, at, problems)?;
            Filter::StatefulSession(Box::new(filter))
        }
        config::Any::Router(_) => {
            let message = "the router must be the last HTTP filter";
            problems.error(at, message);
            return None;
        }
        other => {
            problems.error(at, format!("`{}` is not an HTTP filter", other.type_name()));
            return None;
        }
    })
}

impl Context<'_> {
    /// Compiles a `typed_per_filter_config`, and the deprecated policy of `cors` beside it.
    pub(crate) fn level(
        &self,
        schema: &BTreeMap<String, config::Any>,
        old_cors: Option<&config::RouteCorsPolicy>,
        at: &Path,
        problems: &mut Problems,
    ) -> Level {
        let at_filters = at.field("typed_per_filter_config");
        let configs = schema.iter().filter_map(|(name, options)| {
            Some((name.clone(), level_config(options, self, &at_filters.key(name), problems)?))
        });
        let configs = Arc::new(configs.collect());
        let old_cors = old_cors.map(|schema| {
            let policy =
                cors::compile::old_policy(schema, self.runtime, &at.field("cors"), problems);
            Arc::new(RouteConfig::Cors(Box::new(policy)))
        });
        Level { configs, old_cors }
    }
}

fn level_config(
    options: &config::Any,
    context: &Context<'_>,
    at: &Path,
    problems: &mut Problems,
) -> Option<LevelConfig> {
    let config::Any::FilterConfig(schema) = options else {
        return Some(LevelConfig::Config(Arc::new(route_config(options, context, at, problems)?)));
    };
    let config::FilterConfig { config, disabled } = &**schema;
    match (config, disabled) {
        (_, true) => Some(LevelConfig::Disabled),
        (None, false) => {
            problems.missing(at, "an entry that does not disable the filter needs a config");
            None
        }
        (Some(options), false) => {
            let config = route_config(options, context, &at.field("config"), problems)?;
            Some(LevelConfig::Config(Arc::new(config)))
        }
    }
}

#[expect(clippy::too_many_lines, reason = "an arm or two per filter")]
fn route_config(
    options: &config::Any,
    context: &Context<'_>,
    at: &Path,
    problems: &mut Problems,
) -> Option<RouteConfig> {
    Some(match options {
        config::Any::ApiKeyAuthPerRoute(schema) => {
            let config = api_key_auth::compile::of_route(schema, at, problems)?;
            RouteConfig::ApiKeyAuth(Box::new(config))
        }
        config::Any::BandwidthLimit(schema) => {
            let settings = bandwidth_limit::compile::of_route(schema, context, at, problems);
            RouteConfig::BandwidthLimit(Box::new(settings))
        }
        config::Any::BasicAuthPerRoute(schema) => {
            RouteConfig::BasicAuth(basic_auth::compile::of_route(schema, at, problems)?)
        }
        config::Any::BufferPerRoute(schema) => {
            let config::BufferPerRoute { disabled: _, buffer: limit } = &**schema;
            RouteConfig::Buffer(match limit {
                Some(schema) => PerRoute::Buffer(buffer(schema)),
                None => PerRoute::Disabled,
            })
        }
        config::Any::CompressorPerRoute(schema) => {
            let config = compressor::compile::per_route(schema, at, problems);
            RouteConfig::Compressor(Box::new(config))
        }
        config::Any::CompositePerRoute(schema) => {
            let config::CompositePerRoute { matcher } = &**schema;
            let at = at.field("matcher");
            let tree = selector::compile::tree(matcher.as_ref()?, context, &at, problems)?;
            RouteConfig::Selector(Box::new(tree))
        }
        config::Any::ExtensionWithMatcherPerRoute(schema) => {
            let config::ExtensionWithMatcherPerRoute { xds_matcher } = &**schema;
            let at = at.field("xds_matcher");
            let tree = selector::compile::tree(xds_matcher.as_ref()?, context, &at, problems)?;
            RouteConfig::Selector(Box::new(tree))
        }
        config::Any::CorsPolicy(schema) => RouteConfig::Cors(Box::new(cors::compile::policy(
            schema,
            context.runtime,
            at,
            problems,
        ))),
        config::Any::CustomResponse(schema) => {
            let tree = custom_response::compile::tree(schema, context, at, problems)?;
            RouteConfig::CustomResponse(Box::new(tree))
        }
        config::Any::CsrfPolicy(schema) => {
            RouteConfig::Csrf(Box::new(csrf::compile::policy(schema, context, at, problems)))
        }
        config::Any::DynamicForwardProxyPerRoute(schema) => {
            RouteConfig::DynamicForwardProxy(dynamic_forward_proxy::compile::of_route(schema))
        }
        config::Any::HttpFault(schema) => {
            RouteConfig::Fault(Box::new(fault::compile::settings(schema, context, at, problems)))
        }
        config::Any::ExtAuthzPerRoute(schema) => {
            RouteConfig::ExtAuthz(ext_authz::compile::of_route(schema, context, at, problems)?)
        }
        config::Any::ExtProcPerRoute(schema) => {
            let config = ext_proc::compile::of_route(schema, context, at, problems)?;
            RouteConfig::ExtProc(Box::new(config))
        }
        config::Any::GlobalRateLimitPerRoute(schema) => {
            let config = ratelimit::compile::of_route(schema, context, at, problems)?;
            RouteConfig::GlobalRateLimit(Box::new(config))
        }
        config::Any::GrpcHttp1ReverseBridgePerRoute(schema) => {
            let config::GrpcHttp1ReverseBridgePerRoute { disabled } = **schema;
            RouteConfig::GrpcHttp1ReverseBridge { disabled }
        }
        config::Any::HeaderMutationPerRoute(schema) => {
            let config::HeaderMutationPerRoute { mutations } = &**schema;
            let at = at.field("mutations");
            let mutations = mutations
                .as_ref()
                .map(|schema| header_mutation::compile::mutations(schema, &at, problems));
            RouteConfig::HeaderMutation(Box::new(mutations.unwrap_or_default()))
        }
        config::Any::HeaderToMetadata(schema) => {
            let rules = header_to_metadata::compile::rules(schema, context.registry, at, problems);
            if rules.is_empty() {
                problems.error(at, "for a route it needs request_rules or response_rules");
            }
            RouteConfig::HeaderToMetadata(Box::new(rules))
        }
        config::Any::HttpRbacPerRoute(schema) => {
            let settings = rbac::compile::of_route(schema, context, at, problems)?;
            RouteConfig::Rbac(Box::new(settings))
        }
        config::Any::JsonToMetadata(schema) => {
            let rules = json_to_metadata::compile::rules(schema, at, problems);
            RouteConfig::JsonToMetadata(Box::new(rules))
        }
        config::Any::JwtPerRoute(schema) => {
            RouteConfig::JwtAuthn(jwt_authn::compile::of_route(schema, at, problems)?)
        }
        config::Any::LocalRateLimit(schema) => {
            let settings = local_ratelimit::compile::of_route(schema, context, at, problems)?;
            RouteConfig::LocalRateLimit(Box::new(settings))
        }
        config::Any::LuaPerRoute(schema) => {
            RouteConfig::Lua(Box::new(lua::compile::of_route(schema, at, problems)?))
        }
        config::Any::HttpSetFilterState(schema) => {
            RouteConfig::SetFilterState(set_filter_state::compile::of_route(schema, at, problems))
        }
        config::Any::StatefulSessionPerRoute(schema) => {
            let config = stateful_session::compile::of_route(schema, at, problems)?;
            RouteConfig::StatefulSession(Box::new(config))
        }
        other => {
            let message =
                format!("`{}` does not configure a filter for a route", other.type_name());
            problems.error(at, message);
            return None;
        }
    })
}

/// The name, in lower case, of a header that a filter sets or removes.
pub(super) fn header_to_set(name: &str, at: &Path, problems: &mut Problems) -> Option<Box<[u8]>> {
    if !is_mutable(name) || is_framing(name) || !TOKEN.has_all(name.as_bytes()) {
        let name = name.escape_debug();
        problems.error(at, format!("`{name}` is not a header that a filter can set"));
        return None;
    }
    Some(name.to_ascii_lowercase().into_bytes().into())
}

fn set_metadata(schema: &config::SetMetadata, at: &Path, problems: &mut Problems) -> SetMetadata {
    let config::SetMetadata { metadata_namespace, value, metadata } = schema;
    let mut entries = Vec::new();
    let mut add = |namespace: &str, values: &serde_json::Value, existing| {
        let values = values.as_object().cloned().unwrap_or_default();
        entries.push(Entry { namespace: namespace.into(), values, existing });
    };
    // The deprecated pair comes first.
    if let (false, Some(values)) = (metadata_namespace.is_empty(), value) {
        add(metadata_namespace, values, Existing::Merged);
    }
    for (i, schema) in metadata.iter().enumerate() {
        let config::SetMetadataEntry { metadata_namespace, allow_overwrite, value } = schema;
        let existing = if *allow_overwrite { Existing::Merged } else { Existing::Kept };
        match value {
            Some(values) => add(metadata_namespace, values, existing),
            None => problems.warn(&at.field("metadata").index(i), "no value: nothing is set"),
        }
    }
    SetMetadata { entries: entries.into() }
}

fn reverse_bridge(schema: &config::GrpcHttp1ReverseBridge) -> GrpcHttp1ReverseBridge {
    let config::GrpcHttp1ReverseBridge { content_type, withhold_grpc_frames, response_size_header } =
        schema;
    let size_header = Some(response_size_header).filter(|name| !name.is_empty());
    GrpcHttp1ReverseBridge {
        content_type: content_type.as_bytes().into(),
        withholds_frames: *withhold_grpc_frames,
        size_header: size_header.map(|name| HeaderName::new(name)),
    }
}

fn buffer(schema: &config::Buffer) -> Buffer {
    let config::Buffer { max_request_bytes } = schema;
    Buffer { bytes_max: max_request_bytes.map_or(usize::MAX, |bytes| bytes as usize) }
}

impl Chain {
    /// What a route makes of the chain. `levels` is what its levels say, the most specific first.
    pub(crate) fn compile_plan(&self, levels: &[&Level]) -> Plan {
        if self.is_empty() && self.upstream.is_empty() {
            return Plan::default();
        }
        let says_nothing = |level: &&Level| level.configs.is_empty() && level.old_cors.is_none();
        if !levels.is_empty() && levels.iter().all(says_nothing) {
            return self.without_route.clone();
        }
        let steps = self.filters.iter().enumerate();
        let steps = steps.filter_map(|(filter, named)| named.step(filter, levels)).collect();
        // Whether there is such a filter does not matter: there may be as many chains as clusters.
        let has_others = self.by_name().next().is_some();
        let names = levels.iter().filter(|_| has_others).flat_map(|level| level.configs.keys());
        let by_name: BTreeMap<Box<str>, Said> =
            names.filter_map(|name| Some((name.as_str().into(), said(name, levels)?))).collect();
        Plan { steps, by_name: (!by_name.is_empty()).then(|| Arc::new(by_name)) }
    }
}

/// What the levels say to the filter with this name; none: nothing.
fn said(name: &str, levels: &[&Level]) -> Option<Said> {
    let said = || levels.iter().filter_map(|level| level.configs.get(name));
    //= envoy: config.route.v3.FilterConfig.disabled: the most specific level decides.
    if let LevelConfig::Disabled = said().next()? {
        return Some(Said::Disabled);
    }
    let configs = said().filter_map(|said| match said {
        LevelConfig::Config(config) => Some(Arc::clone(config)),
        LevelConfig::Disabled => None,
    });
    Some(Said::Configs(configs.collect()))
}

impl Named {
    /// The step of a plan, if the filter runs for its route.
    fn step(&self, filter: usize, levels: &[&Level]) -> Option<Step> {
        let mut configs = match said(&self.name, levels) {
            Some(Said::Disabled) => return None,
            None if self.disabled => return None,
            None => Box::default(),
            Some(Said::Configs(configs)) => configs,
        };
        // As in Envoy, the deprecated policies count only if there are no others.
        if matches!(self.filter, Filter::Cors(_)) && configs.is_empty() {
            configs = levels.iter().filter_map(|level| level.old_cors.clone()).collect();
        }
        Some(Step { filter, configs })
    }
}
