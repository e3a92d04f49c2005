//! Compiles where calls go, and what they are served with.

use std::cell::Cell;
use std::sync::Arc;
use std::time::Duration;

use corvoy_config::{self as config, Path, Problems};

use super::Target;
use super::grpc::GrpcMethod;
use crate::common_compile::check_word;
use crate::http::Scheme;
use crate::limits;
use crate::metadata::ListenerInfo;
use crate::request::filters::Chain;
use crate::request::headers::ResponseRules;
use crate::request::manager::{ConnectionManager, local_address};
use crate::request::retry::RetryPolicy;
use crate::request::retry::compile::retry_policy;
use crate::request::route::call::{call_target, no_routes};
use crate::request::route::mutation::compile::header as header_of;
use crate::request::route::{AppendAction, HeaderAddition};
use crate::request::routes::Routes;
use crate::request::service::Service;
use crate::shard::drain::Direction;
use crate::stats::{Registry, Scope};

/// What a filter needs to make calls.
#[derive(Clone, Copy)]
pub(crate) struct Context<'a> {
    /// The index of a cluster by its name.
    pub(crate) cluster: &'a dyn Fn(&str) -> Option<usize>,
    /// Whether the connection manager makes calls: set once there is a target.
    pub(crate) are_made: &'a Cell<bool>,
    /// Whether it mirrors requests: set once there is a policy.
    pub(crate) are_mirrored: &'a Cell<bool>,
}

impl Context<'_> {
    /// Calls to a cluster, which must exist.
    pub(crate) fn target(
        &self,
        cluster: &str,
        timeout: Option<Duration>,
        retry: Option<RetryPolicy>,
        at: &Path,
        problems: &mut Problems,
    ) -> Option<Arc<Target>> {
        let Some(index) = (self.cluster)(cluster) else {
            problems.error(at, format!("unknown cluster '{cluster}'"));
            return None;
        };
        self.are_made.set(true);
        let (route, virtual_host) = call_target(index, timeout, retry);
        Some(Arc::new(Target { route, virtual_host }))
    }
}

#[cfg(test)]
impl Context<'static> {
    /// There are no clusters.
    pub(crate) fn without_clusters() -> Self {
        let (are_made, are_mirrored) = (Box::leak(Box::default()), Box::leak(Box::default()));
        Self { cluster: &|_| None, are_made, are_mirrored }
    }
}

/// A method of a gRPC service.
pub(crate) fn grpc(
    schema: &config::GrpcService,
    path: &str,
    default_timeout: Duration,
    context: &Context<'_>,
    at: &Path,
    problems: &mut Problems,
) -> Option<GrpcMethod> {
    let config::GrpcService { envoy_grpc, timeout, initial_metadata } = schema;
    let at_envoy = at.field("envoy_grpc");
    let Some(envoy) = envoy_grpc else {
        problems.missing(&at_envoy, "envoy_grpc is required");
        return None;
    };
    let config::EnvoyGrpc {
        cluster_name,
        authority,
        // As in Envoy it is for the streams of management servers.
        retry_policy: _,
        max_receive_message_length,
        skip_envoy_headers,
    } = envoy;
    let timeout = Some(timeout.unwrap_or(default_timeout)).filter(|timeout| !timeout.is_zero());
    let at_cluster = at_envoy.field("cluster_name");
    let target = context.target(cluster_name, timeout, None, &at_cluster, problems);
    check_word(authority, &at_envoy.field("authority"), problems);
    let authority = if authority.is_empty() { cluster_name } else { authority };
    let metadata = metadata(initial_metadata, &at.field("initial_metadata"), problems);
    Some(GrpcMethod {
        target: target?,
        path: path.into(),
        authority: authority.as_bytes().into(),
        timeout,
        metadata,
        envoy_headers: !skip_envoy_headers,
        message_max: max_receive_message_length
            .map_or(limits::CALL_RESPONSE_BYTES_MAX, |bytes| bytes as usize),
    })
}

/// What calls carry.
pub(crate) fn metadata(
    schema: &[config::HeaderValue],
    at: &Path,
    problems: &mut Problems,
) -> Box<[HeaderAddition]> {
    let each = schema.iter().enumerate().filter_map(|(i, header)| {
        let (name, value) = header_of(header, &at.index(i), problems)?;
        let action = AppendAction::AppendIfExistsOrAdd;
        Some(HeaderAddition { name, value, action, keep_empty: false })
    });
    each.collect()
}

/// Calls over HTTP.
pub(crate) fn http(
    schema: &config::HttpUri,
    retry: Option<RetryPolicy>,
    context: &Context<'_>,
    at: &Path,
    problems: &mut Problems,
) -> Option<Arc<Target>> {
    // The cluster says where: the URI is for who fills in the head.
    let config::HttpUri { uri: _, cluster, timeout } = schema;
    let timeout = timeout.filter(|timeout| !timeout.is_zero());
    context.target(cluster.as_deref()?, timeout, retry, &at.field("cluster"), problems)
}

/// Scheme, authority and path of a URI.
pub(crate) fn split_uri(uri: &str) -> Option<(Scheme, &str, &str)> {
    let (scheme, rest) = match (uri.strip_prefix("http://"), uri.strip_prefix("https://")) {
        (Some(rest), _) => (Scheme::Http, rest),
        (None, Some(rest)) => (Scheme::Https, rest),
        (None, None) => return None,
    };
    let end = rest.find('/').unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    let is_plain = !authority.is_empty() && uri.bytes().all(|byte| byte.is_ascii_graphic());
    is_plain.then_some((scheme, authority, if path.is_empty() { "/" } else { path }))
}

/// Envoy's default interval between retries.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);

/// The retries of calls, for what `retry_on` says.
pub(crate) fn retry(
    schema: &config::CoreRetryPolicy,
    retry_on: &str,
    at: &Path,
    problems: &mut Problems,
) -> RetryPolicy {
    let config::CoreRetryPolicy { retry_back_off, num_retries } = schema;
    let back_off = retry_back_off.as_ref();
    let base = back_off.and_then(|schema| schema.base_interval).unwrap_or(RETRY_INTERVAL);
    let max = back_off.and_then(|schema| schema.max_interval);
    let schema = config::RetryPolicy {
        retry_on: retry_on.to_owned(),
        num_retries: *num_retries,
        // As in Envoy, which takes the same time for both.
        per_try_timeout: Some(max.unwrap_or_else(|| base.saturating_mul(10))),
        retry_back_off: retry_back_off.as_ref().map(|schema| {
            let config::BackoffStrategy { base_interval, max_interval } = schema;
            config::RetryBackOff { base_interval: *base_interval, max_interval: *max_interval }
        }),
        ..config::RetryPolicy::default()
    };
    retry_policy(&schema, at, problems)
}

/// What calls are served with: a connection manager that changes nothing.
pub(crate) fn service(registry: &Registry, info: &Arc<ListenerInfo>, filters: Chain) -> Service {
    let mut manager = ConnectionManager {
        enable_trailers: true,
        response: ResponseRules::unchanged(),
        ..ConnectionManager::default()
    };
    manager.client.local_address = local_address();
    // A call has the timeout of its target.
    manager.timeouts.stream_idle = None;
    manager.timeouts.request = None;
    let shards = registry.shards();
    Service {
        manager,
        filters,
        routes: Routes::new(no_routes(), None),
        http: Arc::new(Scope::unlisted(shards)),
        router: registry.scope("http.async-client."),
        tracing: Arc::new(Scope::unlisted(shards)),
        http1: registry.scope("http1."),
        http2: registry.scope("http2."),
        listener_http: Arc::new(Scope::unlisted(shards)),
        info: Arc::clone(info),
        direction: Direction::Other,
        buffer_limit: limits::REPLAY_BYTES_MAX,
        calls: None,
        mirrors: None,
        cluster_mirrors: Arc::default(),
    }
}
