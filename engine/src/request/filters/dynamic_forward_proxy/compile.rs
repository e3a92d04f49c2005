//! Schema → `dynamic_forward_proxy`.

use corvoy_config::{self as config, Path, Problems};

use super::super::compile::Context;
use super::{DynamicForwardProxy, HostRewrite};

impl DynamicForwardProxy {
    pub(in super::super) fn compile(
        schema: &config::DynamicForwardProxy,
        context: &Context<'_>,
        at: &Path,
        problems: &mut Problems,
    ) -> Option<Self> {
        let config::DynamicForwardProxy {
            dns_cache_config,
            save_upstream_address,
            allow_dynamic_host_from_filter_state,
        } = schema;
        let Some(cache) = dns_cache_config else {
            problems.missing(at, "dynamic_forward_proxy needs a dns_cache_config");
            return None;
        };
        let at = at.field("dns_cache_config");
        Some(Self {
            cache: context.dns_caches.get(cache, context.registry, &at, problems)?,
            saves_address: *save_upstream_address,
            uses_state: *allow_dynamic_host_from_filter_state,
        })
    }
}

/// The host that takes the place of the request's on a route.
pub(in super::super) fn of_route(schema: &config::DynamicForwardProxyPerRoute) -> HostRewrite {
    let config::DynamicForwardProxyPerRoute { host_rewrite_literal, host_rewrite_header } = schema;
    let literal = host_rewrite_literal.as_ref().filter(|host| !host.is_empty());
    let header = host_rewrite_header.as_ref().filter(|name| !name.is_empty());
    match (literal, header) {
        (Some(host), _) => HostRewrite::To(host.as_bytes().into()),
        (None, Some(name)) => HostRewrite::ByHeader(name.to_ascii_lowercase().into_bytes().into()),
        (None, None) => HostRewrite::Kept,
    }
}
