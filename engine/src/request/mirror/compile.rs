//! Schema → the mirrors of requests.

use std::sync::Arc;

use corvoy_config::{self as config, Path, Problems};

use super::{ClusterPolicies, MirrorCluster, MirrorHost, Policy};
use crate::common_compile::check_word;
use crate::head_matcher::compile::runtime_fraction;
use crate::request::callout::Target;
use crate::request::filters::header_mutation::compile::request_mutations;
use crate::request::route::call::mirror_target;
use crate::request::route::{Fraction, HeaderName};
use crate::runtime::Reader;

/// The policies of a route, a virtual host or a route configuration; `None`: it has none.
pub(crate) fn policies(
    schemas: &[config::RequestMirrorPolicy],
    runtime: &Reader<'_>,
    known: &dyn Fn(&str) -> bool,
    at: &Path,
    problems: &mut Problems,
) -> Option<Arc<[Policy]>> {
    if schemas.is_empty() {
        return None;
    }
    let at = at.field("request_mirror_policies");
    let each = schemas.iter().enumerate();
    Some(
        each.filter_map(|(i, schema)| policy(schema, runtime, known, &at.index(i), problems))
            .collect(),
    )
}

/// The policies of all these clusters, each with its place. Calls `uses` with the names of the clusters that they
/// mirror to: as in Envoy, these need not exist.
pub(crate) fn of_clusters<'c>(
    schemas: impl Iterator<Item = (&'c config::Cluster, Path)>,
    runtime: &Reader<'_>,
    uses: &dyn Fn(&str),
    problems: &mut Problems,
) -> ClusterPolicies {
    let mut all = ClusterPolicies::default();
    for (schema, at) in schemas {
        for (key, any) in &schema.typed_extension_protocol_options {
            let config::Any::UpstreamsHttpProtocolOptions(options) = any else { continue };
            let at = at.field("typed_extension_protocol_options").key(key);
            let known = |name: &str| {
                uses(name);
                true
            };
            let schemas = &options.request_mirror_policies;
            if let Some(policies) = policies(schemas, runtime, &known, &at, problems) {
                all.0.insert(schema.name.as_str().into(), policies);
            }
        }
    }
    all
}

/// A text for what [`of_clusters`] makes of a cluster; `None`: nothing.
pub(crate) fn described(schema: &config::Cluster) -> Option<String> {
    let options =
        schema.typed_extension_protocol_options.iter().find_map(|(_, any)| match any {
            config::Any::UpstreamsHttpProtocolOptions(options) => Some(options),
            _ => None,
        })?;
    let policies = &options.request_mirror_policies;
    (!policies.is_empty()).then(|| format!("{} {policies:?}", schema.name))
}

fn policy(
    schema: &config::RequestMirrorPolicy,
    runtime: &Reader<'_>,
    known: &dyn Fn(&str) -> bool,
    at: &Path,
    problems: &mut Problems,
) -> Option<Policy> {
    let config::RequestMirrorPolicy {
        cluster,
        cluster_header,
        runtime_fraction: fraction,
        disable_shadow_host_suffix_append,
        request_headers_mutations,
        host_rewrite_literal,
    } = schema;
    let cluster = match (cluster.is_empty(), cluster_header.is_empty()) {
        (false, true) => {
            if !known(cluster) {
                let message = format!("route: unknown shadow cluster '{cluster}'");
                problems.error(&at.field("cluster"), message);
            }
            Some(MirrorCluster::Named(cluster.as_str().into()))
        }
        (true, false) => Some(MirrorCluster::Header(HeaderName::new(cluster_header))),
        (true, true) => {
            problems.missing(at, "a mirror policy needs a cluster or a cluster_header");
            None
        }
        (false, false) => {
            let why = "a mirror policy has either a cluster or a cluster_header";
            problems.error(&at.field("cluster_header"), why);
            None
        }
    };
    check_word(host_rewrite_literal, &at.field("host_rewrite_literal"), problems);
    let at_mutations = at.field("request_headers_mutations");
    let (route, virtual_host) = mirror_target();
    Some(Policy {
        cluster: cluster?,
        fraction: fraction
            .as_ref()
            .and_then(|schema| runtime_fraction(schema, runtime))
            .unwrap_or_else(|| Fraction { numerator: 100, denominator: 100 }.into()),
        host: if !host_rewrite_literal.is_empty() {
            MirrorHost::Literal(host_rewrite_literal.as_bytes().into())
        } else if *disable_shadow_host_suffix_append {
            MirrorHost::Kept
        } else {
            MirrorHost::Suffixed
        },
        mutations: request_mutations(request_headers_mutations, &at_mutations, problems),
        target: Arc::new(Target::new(route, virtual_host)),
    })
}
