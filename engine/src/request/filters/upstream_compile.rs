//! Schema → the filters behind the router.

use std::cell::Cell;
use std::sync::Arc;

use corvoy_config::{self as config, Path, Problems};

use super::Filter;
use super::chain::Chain;
use super::compile::{Context, all_named};
use super::upstream::{ClusterChains, UpstreamChains};
use crate::request::callout;
use crate::runtime::Reader;
use crate::stats::Registry;
use crate::transport::tls::context::compile::Secrets;
use crate::upstream::dns_cache::compile::DnsCaches;

/// What the filters of clusters need from outside.
pub(crate) struct Surroundings<'a> {
    pub(crate) registry: &'a Registry,
    pub(crate) runtime: &'a Reader<'a>,
    /// The index of a cluster by its name.
    pub(crate) cluster: &'a dyn Fn(&str) -> Option<usize>,
    /// The name of this proxy's cluster.
    pub(crate) local_cluster: &'a str,
    pub(crate) secrets: &'a Secrets,
    /// The DNS caches that are in use.
    pub(crate) dns_caches: &'a DnsCaches,
}

/// The filters of all these clusters, each with its place.
pub(crate) fn of_clusters<'c>(
    schemas: impl Iterator<Item = (&'c config::Cluster, Path)>,
    around: &Surroundings<'_>,
    problems: &mut Problems,
) -> ClusterChains {
    let mut all = ClusterChains::default();
    let (are_made, are_mirrored) = (Cell::new(false), Cell::new(false));
    for (schema, at) in schemas {
        for (key, any) in &schema.typed_extension_protocol_options {
            let config::Any::UpstreamsHttpProtocolOptions(options) = any else { continue };
            let at = at.field("typed_extension_protocol_options").key(key).field("http_filters");
            let name = match schema.alt_stat_name.as_str() {
                "" => &schema.name,
                name => name,
            };
            let context = Context {
                registry: around.registry,
                stat_prefix: &format!("cluster.{}.", name.trim_end_matches('.').replace(':', "_")),
                runtime: around.runtime,
                calls: callout::compile::Context {
                    cluster: around.cluster,
                    are_made: &are_made,
                    are_mirrored: &are_mirrored,
                },
                local_cluster: around.local_cluster,
                secrets: around.secrets,
                dns_caches: around.dns_caches,
            };
            if let Some(chain) = chain(&options.http_filters, &context, &at, problems) {
                all.by_name.insert(schema.name.as_str().into(), chain);
            }
        }
    }
    all.make_calls = are_made.get();
    all
}

/// A text for what [`of_clusters`] makes of a cluster; `None`: nothing.
pub(crate) fn described(schema: &config::Cluster) -> Option<String> {
    let mut all = schema.typed_extension_protocol_options.values();
    let filters = all.find_map(|any| match any {
        config::Any::UpstreamsHttpProtocolOptions(options) => Some(&options.http_filters),
        _ => None,
    })?;
    (!filters.is_empty()).then(|| format!("{} {filters:?}", schema.name))
}

/// The filters behind the router of a connection manager with these filters.
pub(crate) fn of_manager(
    filters: &[config::HttpFilter],
    of_clusters: &Arc<ClusterChains>,
    context: &Context<'_>,
    at: &Path,
    problems: &mut Problems,
) -> UpstreamChains {
    let of_router = filters.last().and_then(|router| {
        let config::Any::Router(options) = router.typed_config.as_ref()? else { return None };
        let at = at.index(filters.len() - 1).field("typed_config").field("upstream_http_filters");
        chain(&options.upstream_http_filters, context, &at, problems)
    });
    UpstreamChains { of_clusters: Arc::clone(of_clusters), of_router }
}

/// The filters in front of the codec; none: there are none, nor a codec.
fn chain(
    filters: &[config::HttpFilter],
    context: &Context<'_>,
    at: &Path,
    problems: &mut Problems,
) -> Option<Arc<Chain>> {
    let (codec, filters) = filters.split_last()?;
    if !matches!(codec.typed_config, Some(config::Any::UpstreamCodec(_))) {
        let why = "the last upstream HTTP filter must be envoy.filters.http.upstream_codec";
        problems.error(&at.index(filters.len()), why);
    } else if codec.disabled {
        let at = at.index(filters.len()).field("disabled");
        problems.error(&at, "the upstream codec cannot be disabled");
    }
    let named = all_named(filters, context, at, problems);
    for (i, named) in named.iter().enumerate() {
        if !runs_upstream(&named.filter) {
            let why = format!("`{}` cannot run behind the router", named.name);
            problems.error(&at.index(i), why);
        }
    }
    Some(Arc::new(Chain { filters: named.into(), ..Chain::default() }))
}

/// Whether Envoy lets a filter run behind the router.
const fn runs_upstream(filter: &Filter) -> bool {
    matches!(
        filter,
        Filter::AdmissionControl(_)
            | Filter::Buffer(_)
            | Filter::Compressor(_)
            | Filter::CredentialInjector(_)
            | Filter::HeaderMutation(_)
            | Filter::Rbac(_)
            | Filter::Selector(_)
    )
}
