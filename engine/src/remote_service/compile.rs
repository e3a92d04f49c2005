//! Schema → a service that the control plane sends something to.

use std::time::Duration;

use corvoy_config::{self as config, Path, Problems};
use http::Uri;

use super::{BACK_OFF, GrpcService, HttpService};
use crate::common_compile::check_word;
use crate::request::route::mutation::compile::header as header_of;
use crate::tcp::proxy::backoff::Backoff;

/// The number of a cluster by its name; none: there is no such cluster.
pub type FindCluster<'a> = &'a dyn Fn(&str) -> Option<usize>;

/// Compiles a gRPC service; `retry` is the policy of what is sent to it.
pub(crate) fn grpc(
    schema: &config::GrpcService,
    retry: Option<(&config::CoreRetryPolicy, &Path)>,
    cluster: FindCluster<'_>,
    at: &Path,
    problems: &mut Problems,
) -> Option<GrpcService> {
    let config::GrpcService { envoy_grpc, timeout, initial_metadata } = schema;
    let envoy_at = at.field("envoy_grpc");
    let Some(envoy) = envoy_grpc else {
        problems.missing(&envoy_at, "envoy_grpc is required");
        return None;
    };
    let config::EnvoyGrpc {
        cluster_name,
        authority,
        retry_policy,
        // What is answered is empty.
        max_receive_message_length: _,
        // Those that Envoy adds are not sent by the control plane.
        skip_envoy_headers: _,
    } = envoy;
    check_cluster(cluster_name, cluster, &envoy_at.field("cluster_name"), problems)?;
    check_word(authority, &envoy_at.field("authority"), problems);
    let authority = if authority.is_empty() { cluster_name } else { authority };
    let policy_at = envoy_at.field("retry_policy");
    let policy = retry.or_else(|| retry_policy.as_ref().map(|policy| (policy, &policy_at)));
    let (back_off, retries) = policy.map_or((BACK_OFF, None), |(policy, at)| {
        let config::CoreRetryPolicy { retry_back_off, num_retries } = policy;
        let at = at.field("retry_back_off");
        let back_off = retry_back_off.as_ref().map(|schema| back_off(schema, &at, problems));
        (back_off.unwrap_or(BACK_OFF), *num_retries)
    });
    Some(GrpcService {
        cluster: cluster_name.clone(),
        authority: authority.clone(),
        metadata: metadata(initial_metadata, &at.field("initial_metadata"), problems),
        timeout: timeout.filter(|timeout| !timeout.is_zero()),
        back_off,
        retries,
    })
}

/// Compiles a URI of a cluster.
pub(crate) fn http(
    schema: &config::HttpService,
    cluster: FindCluster<'_>,
    at: &Path,
    problems: &mut Problems,
) -> Option<HttpService> {
    let config::HttpService { http_uri, request_headers_to_add } = schema;
    let at_uri = at.field("http_uri");
    let Some(config::HttpUri { uri, cluster: name, timeout }) = http_uri else {
        problems.missing(&at_uri, "http_uri is required");
        return None;
    };
    let name = name.as_deref().unwrap_or_default();
    check_cluster(name, cluster, &at_uri.field("cluster"), problems)?;
    let Ok(parsed) = uri.parse::<Uri>() else {
        problems.error(&at_uri.field("uri"), format!("`{uri}` is not a URI"));
        return None;
    };
    let path = parsed.path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
    let mut headers = Vec::with_capacity(request_headers_to_add.len());
    for (i, schema) in request_headers_to_add.iter().enumerate() {
        let at = at.field("request_headers_to_add").index(i);
        let config::HeaderValueOption { header, append, append_action, keep_empty_value } = schema;
        let overwrites = *append == Some(false)
            || *append_action != config::HeaderAppendAction::AppendIfExistsOrAdd;
        if overwrites || *keep_empty_value {
            problems.not_implemented(&at, "an action of a header other than to append it");
        }
        let at = at.field("header");
        headers.extend(header.as_ref().and_then(|schema| pair(schema, &at, problems)));
    }
    Some(HttpService {
        cluster: name.to_owned(),
        authority: parsed.authority().map_or(name, http::uri::Authority::as_str).to_owned(),
        path: path.to_owned(),
        headers,
        timeout: timeout.filter(|timeout| !timeout.is_zero()),
    })
}

fn check_cluster(
    name: &str,
    cluster: FindCluster<'_>,
    at: &Path,
    problems: &mut Problems,
) -> Option<()> {
    if cluster(name).is_none() {
        problems.error(at, format!("unknown cluster '{name}'"));
        return None;
    }
    Some(())
}

fn metadata(
    schemas: &[config::HeaderValue],
    at: &Path,
    problems: &mut Problems,
) -> Vec<(String, String)> {
    let schemas = schemas.iter().enumerate();
    schemas.filter_map(|(i, schema)| pair(schema, &at.index(i), problems)).collect()
}

fn pair(
    schema: &config::HeaderValue,
    at: &Path,
    problems: &mut Problems,
) -> Option<(String, String)> {
    let config::HeaderValue { key, value, raw_value } = schema;
    if value.contains('%') || !raw_value.is_empty() {
        problems.not_implemented(at, "a value with a command or in raw bytes");
        return None;
    }
    header_of(schema, at, problems)?;
    Some((key.to_ascii_lowercase(), value.clone()))
}

fn back_off(schema: &config::BackoffStrategy, at: &Path, problems: &mut Problems) -> Backoff {
    let config::BackoffStrategy { base_interval, max_interval } = schema;
    let base = base_interval.unwrap_or(BACK_OFF.base);
    //= envoy: BackoffStrategy.max_interval
    // Default: ten times the base interval.
    let max = max_interval.unwrap_or_else(|| base.saturating_mul(10));
    if max < base {
        let why = "max_interval must be greater than or equal to the base_interval";
        problems.error(&at.field("max_interval"), why);
    }
    Backoff { base, max: max.max(Duration::from_millis(1)) }
}
