//! Tags: which parts of a stat's name are values, as Envoy's default `stats_tags` find them.
//!
//! `cluster.httpbin.upstream_rq_200` is `cluster.upstream_rq` with `envoy_response_code="200"` and
//! `envoy_cluster_name="httpbin"`. Tokens end at dots, so the tag of a cluster named `a.b` is only `a`: as in
//! Envoy, and dashboards depend on it.

use std::borrow::Cow;
use std::ops::Range;

use regex::bytes::Regex;

use crate::stats::reading::Name;

/// A tag of a stat: `envoy.cluster_name` and `httpbin`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Tag {
    pub(super) name: Cow<'static, str>,
    pub(super) value: String,
}

/// A name without its tags.
#[derive(Debug, Eq, PartialEq)]
pub(super) struct Extracted {
    /// A prefix ends with a dot.
    pub(super) name: String,
    pub(super) tags: Vec<Tag>,
}

/// A tag found in a name, by places in it.
struct Found {
    tag: &'static str,
    value: Range<usize>,
    /// What the name without tags lacks.
    removed: Range<usize>,
}

impl Found {
    /// The token that begins at `from` is the value; it is removed with the dot after it.
    fn token(tag: &'static str, text: &str, from: usize) -> Self {
        let after = text.get(from..).unwrap_or_default();
        let end = from + after.find('.').unwrap_or(after.len());
        Self::with_dot(tag, text, from..end)
    }

    fn with_dot(tag: &'static str, text: &str, value: Range<usize>) -> Self {
        let end = text.len().min(value.end + 1);
        Self { tag, removed: value.start..end, value }
    }
}

/// Extracts the default tags from a scope's prefix.
pub(super) fn of_prefix(prefix: &str) -> Extracted {
    let found = found_in_prefix(prefix);
    let tags = found.iter().map(|found| found.tag(prefix)).collect();
    let removed = found.into_iter().map(|found| found.removed).collect();
    Extracted { name: without(prefix, removed), tags }
}

impl Found {
    fn tag(&self, text: &str) -> Tag {
        let value = text.get(self.value.clone()).unwrap_or_default().to_owned();
        Tag { name: self.tag.into(), value }
    }
}

/// The tags in a prefix. Envoy's order: connection manager before listener, virtual cluster before
/// virtual host before route.
fn found_in_prefix(prefix: &str) -> Vec<Found> {
    let Some((kind, rest)) = prefix.split_once('.') else { return Vec::new() };
    let start = kind.len() + 1;
    let mut found = Vec::new();
    if matches!(kind, "cluster" | "listener")
        && let Some(at) = rest.find(CERTIFICATE)
    {
        found.push(Found::token("envoy.tls_certificate", prefix, start + at + CERTIFICATE.len()));
    }
    match kind {
        "cluster" => found.push(Found::token("envoy.cluster_name", prefix, start)),
        "http" => found.push(Found::token("envoy.http_conn_manager_prefix", prefix, start)),
        "tcp" => found.push(Found::token("envoy.tcp_prefix", prefix, start)),
        "connection_limit" => {
            found.push(Found::token("envoy.connection_limit_prefix", prefix, start));
        }
        "local_rate_limit" => {
            found.push(Found::token("envoy.local_network_ratelimit_prefix", prefix, start));
        }
        "listener_local_ratelimit" => {
            found.push(Found::token("envoy.local_listener_ratelimit_prefix", prefix, start));
        }
        "listener" => {
            let address = start..start + address(rest).len();
            // The connection manager may follow the rest of a `stat_prefix` with dots.
            let after = prefix.get(address.end..).unwrap_or_default();
            if let Some(at) = after.find(".http.") {
                let at = address.end + at + ".http.".len();
                found.push(Found::token("envoy.http_conn_manager_prefix", prefix, at));
            }
            if prefix.get(address.clone()) != Some("admin") {
                found.push(Found::with_dot("envoy.listener_address", prefix, address));
            }
        }
        "vhost" => {
            let host = Found::token("envoy.virtual_host", prefix, start);
            let at = host.removed.end;
            let after = prefix.get(at..).unwrap_or_default();
            if after.starts_with("vcluster.") {
                let at = at + "vcluster.".len();
                found.push(Found::token("envoy.virtual_cluster", prefix, at));
                found.push(host);
            } else if after.starts_with("route.") {
                found.push(host);
                found.push(Found::token("envoy.route", prefix, at + "route.".len()));
            } else {
                found.push(host);
            }
        }
        _ if rest.starts_with("http_local_rate_limit.") => {
            found.push(Found::token("envoy.local_http_ratelimit_prefix", prefix, 0));
        }
        _ => {}
    }
    found
}

const CERTIFICATE: &str = ".ssl.certificate.";

/// Extracts all tags that `rules` ask for from a whole name.
pub(super) fn of_whole_name(prefix: &str, name: Name<'_>, rules: &TagRules) -> Extracted {
    let whole = format!("{prefix}{name}");
    let (mut tags, mut removed) = (rules.fixed.clone(), Vec::new());
    let mut find = |found: Vec<Found>, anchor: Anchor| {
        for found in found.into_iter().filter(|found| rules.has_default(found.tag)) {
            tags.push(found.tag(&whole));
            removed.push(found.removed);
        }
        for rule in rules.regexes.iter().filter(|rule| rule.anchor == anchor) {
            let Some(captures) = rule.regex.captures(whole.as_bytes()) else { continue };
            let Some(outer) = captures.get(1) else { continue };
            let value = captures.get(2).unwrap_or(outer).as_bytes();
            let value = String::from_utf8_lossy(value).into_owned();
            tags.push(Tag { name: rule.tag.clone().into(), value });
            removed.push(outer.range());
        }
    };
    // Envoy's order.
    find(found_in_name(name, prefix).into_iter().collect(), Anchor::Anywhere);
    find(found_in_prefix(prefix), Anchor::FirstToken);
    Extracted { name: without(&whole, removed), tags }
}

/// The text without these ranges, which may overlap.
fn without(text: &str, mut removed: Vec<Range<usize>>) -> String {
    removed.sort_unstable_by_key(|range| range.start);
    let (mut kept, mut from) = (String::with_capacity(text.len()), 0);
    for Range { start, end } in removed {
        kept.push_str(text.get(from..start).unwrap_or_default());
        from = from.max(end);
    }
    kept.push_str(text.get(from..).unwrap_or_default());
    kept
}

/// Tags as labels of Prometheus: `envoy_cluster_name="httpbin",…`.
pub(super) fn labels(tags: &[Tag]) -> String {
    let mut labels = String::new();
    for Tag { name, value } in tags {
        if !labels.is_empty() {
            labels.push(',');
        }
        let allowed = |c: char| if c.is_ascii_alphanumeric() { c } else { '_' };
        labels.extend(name.chars().map(allowed));
        labels.push_str("=\"");
        labels.push_str(&value.replace('\\', r"\\").replace('\n', r"\n").replace('"', "\\\""));
        labels.push('"');
    }
    labels
}

/// The shape of a name after the prefix, which determines the family.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Shape {
    Class,
    Code,
    Completed,
    Named,
    Plain,
    Unknown,
    Worker,
}

impl Shape {
    pub(super) fn of(name: Name<'_>) -> Self {
        match name {
            Name::Class(..) => Self::Class,
            Name::Code(..) => Self::Code,
            Name::Completed(_) => Self::Completed,
            Name::Named(..) => Self::Named,
            Name::Plain(_) => Self::Plain,
            Name::Unknown(_) => Self::Unknown,
            Name::Worker(..) => Self::Worker,
        }
    }

    /// The family of a declared name with this shape, without the prefix.
    pub(super) fn family(self, declared: &str) -> Cow<'_, str> {
        match self {
            Self::Class => format!("{declared}upstream_rq_xx").into(),
            Self::Code => format!("{declared}upstream_rq").into(),
            Self::Completed => format!("{declared}upstream_rq_completed").into(),
            Self::Named => declared.trim_end_matches('.').into(),
            Self::Plain => match class_of(declared) {
                Some((before, _)) => format!("{before}_rq_xx").into(),
                None => declared.into(),
            },
            Self::Unknown => format!("{declared}upstream_rq_unknown").into(),
            Self::Worker => format!("worker.{declared}").into(),
        }
    }
}

/// The default tag in a name after this prefix; it precedes those of the prefix.
pub(super) fn of_name(name: Name<'_>, prefix: &str) -> Option<Tag> {
    let has_none = match name {
        Name::Completed(_) | Name::Unknown(_) => true,
        Name::Plain(name) => class_of(name).is_none(),
        Name::Class(..) | Name::Code(..) | Name::Named(..) | Name::Worker(..) => false,
    };
    if has_none {
        return None;
    }
    let whole = format!("{prefix}{name}");
    found_in_name(name, prefix).map(|found| found.tag(&whole))
}

/// The same by places in the whole name.
fn found_in_name(name: Name<'_>, prefix: &str) -> Option<Found> {
    let (start, end) = (prefix.len(), prefix.len() + name.to_string().len());
    let class = |digit: usize| {
        let value = digit..digit + 1;
        Found { tag: "envoy.response_code_class", removed: value.clone(), value }
    };
    match name {
        Name::Class(..) => Some(class(end.checked_sub("2xx".len())?)),
        Name::Code(_, code) => {
            let value = end.checked_sub(code.to_string().len())?..end;
            let removed = value.start.saturating_sub(1)..end;
            Some(Found { tag: "envoy.response_code", value, removed })
        }
        Name::Completed(_) | Name::Unknown(_) => None,
        Name::Named(group, _) => {
            let value = start + group.len()..end;
            let removed = value.start.saturating_sub(1)..end;
            tag_of_group(group, prefix).map(|tag| Found { tag, value, removed })
        }
        Name::Plain(name) => {
            class_of(name)?;
            Some(class(end.checked_sub("2xx".len())?))
        }
        Name::Worker(worker, _) => {
            let value = start + "worker_".len();
            let value = value..value + worker.to_string().len();
            let removed = value.start.saturating_sub(1)..value.end;
            Some(Found { tag: "envoy.worker_id", value, removed })
        }
    }
}

/// The tag of the names in a group of `ssl.`; Envoy has two for ciphers.
fn tag_of_group(group: &str, prefix: &str) -> Option<&'static str> {
    match group {
        "ciphers." if prefix.starts_with("cluster.") => Some("cipher_suite"),
        "ciphers." => Some("envoy.ssl_cipher"),
        "curves." => Some("envoy.ssl_curve"),
        "sigalgs." => Some("envoy.ssl_sigalg"),
        "versions." => Some("envoy.ssl_version"),
        _ => None,
    }
}

/// `downstream_rq_2xx`: `downstream` and `2`.
fn class_of(name: &str) -> Option<(&str, &str)> {
    let (before, class) = name.strip_suffix("xx")?.rsplit_once("_rq_")?;
    (class.len() == 1 && class.bytes().all(|byte| byte.is_ascii_digit())).then_some((before, class))
}

/// The address of a listener (`127.0.0.1_80`, `[__1]_80`), or the first token of its `stat_prefix`.
fn address(text: &str) -> &str {
    let end = text.bytes().take_while(|byte| byte.is_ascii_digit() || b"._".contains(byte)).count();
    let numbers = text.get(..end).unwrap_or_default();
    numbers.strip_suffix('.').unwrap_or_else(|| text.split('.').next().unwrap_or_default())
}

/// Which tags stats have: `stats_tags` and `use_all_default_tags`.
#[derive(Debug, Default)]
pub(super) struct TagRules {
    /// Tags that every stat has.
    pub(super) fixed: Vec<Tag>,
    /// The default tags that are extracted; none: all.
    pub(super) defaults: Option<Vec<String>>,
    /// Tags of the configuration.
    pub(super) regexes: Vec<TagRegex>,
}

/// A tag that a regular expression finds: its first group is removed from the name, the second one (if there
/// is one) is the value.
#[derive(Debug)]
pub(super) struct TagRegex {
    pub(super) tag: String,
    pub(super) regex: Regex,
    pub(super) anchor: Anchor,
}

/// Where a regular expression matches.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Anchor {
    Anywhere,
    /// It begins with the first token of a name: `^cluster\.`.
    FirstToken,
}

impl Anchor {
    /// That of this expression.
    pub(super) fn of(pattern: &str) -> Self {
        let rest = pattern.strip_prefix('^').unwrap_or_default();
        let token = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(0);
        match rest.get(token..) {
            Some(after) if token > 0 && after.starts_with(r"\.") => Self::FirstToken,
            _ => Self::Anywhere,
        }
    }
}

impl TagRules {
    /// Whether the tags are Envoy's default ones, and maybe fixed ones.
    pub(super) fn are_default(&self) -> bool {
        self.defaults.is_none() && self.regexes.is_empty()
    }

    /// Leaves this default tag to a regular expression of the configuration.
    pub(super) fn override_default(&mut self, tag: &str) {
        let all = || DEFAULTS.iter().map(|tag| (*tag).to_owned()).collect();
        self.defaults.get_or_insert_with(all).retain(|it| it != tag);
    }

    fn has_default(&self, tag: &str) -> bool {
        self.defaults.as_ref().is_none_or(|defaults| defaults.iter().any(|it| it == tag))
    }
}

/// The default tags that Corvoy's stats can have.
pub(super) const DEFAULTS: &[&str] = &[
    "cipher_suite",
    "envoy.cluster_name",
    "envoy.connection_limit_prefix",
    "envoy.http_conn_manager_prefix",
    "envoy.listener_address",
    "envoy.local_http_ratelimit_prefix",
    "envoy.local_listener_ratelimit_prefix",
    "envoy.local_network_ratelimit_prefix",
    "envoy.response_code",
    "envoy.response_code_class",
    "envoy.route",
    "envoy.ssl_cipher",
    "envoy.ssl_curve",
    "envoy.ssl_sigalg",
    "envoy.ssl_version",
    "envoy.tcp_prefix",
    "envoy.tls_certificate",
    "envoy.virtual_cluster",
    "envoy.virtual_host",
    "envoy.worker_id",
];

/// The other default tags of Envoy: no stat of Corvoy has them.
pub(super) const UNUSED_DEFAULTS: &[&str] = &[
    "envoy.clientssl_prefix",
    "envoy.dns_filter_prefix",
    "envoy.dynamo_operation",
    "envoy.dynamo_partition_id",
    "envoy.dynamo_table",
    "envoy.ext_authz_prefix",
    "envoy.fault_downstream_cluster",
    "envoy.google_grpc_client_prefix",
    "envoy.grpc_bridge_method",
    "envoy.grpc_bridge_service",
    "envoy.health_check_name",
    "envoy.http_user_agent",
    "envoy.mongo_callsite",
    "envoy.mongo_cmd",
    "envoy.mongo_collection",
    "envoy.mongo_prefix",
    "envoy.proxy_protocol_prefix",
    "envoy.proxy_protocol_version",
    "envoy.ratelimit_prefix",
    "envoy.rbac_http_prefix",
    "envoy.rbac_policy_name",
    "envoy.rbac_prefix",
    "envoy.rds_route_config",
    "envoy.redis_prefix",
    "envoy.scoped_rds_config",
    "envoy.thrift_prefix",
    "envoy.udp_prefix",
    "envoy.xds_resource_name",
];

#[cfg(test)]
mod tests {
    use super::*;

    fn extracted(prefix: &str) -> (String, String) {
        let Extracted { name, tags } = of_prefix(prefix);
        (name, labels(&tags))
    }

    fn pair(name: &str, labels: &str) -> (String, String) {
        (name.to_owned(), labels.to_owned())
    }

    #[test]
    fn clusters_and_connection_managers_are_tagged_with_their_first_token() {
        assert_eq!(extracted("cluster.foo."), pair("cluster.", r#"envoy_cluster_name="foo""#));
        assert_eq!(
            extracted("cluster.foo.bar."),
            pair("cluster.bar.", r#"envoy_cluster_name="foo""#)
        );
        assert_eq!(
            extracted("cluster.foo.circuit_breakers.high."),
            pair("cluster.circuit_breakers.high.", r#"envoy_cluster_name="foo""#)
        );
        assert_eq!(extracted("http.in."), pair("http.", r#"envoy_http_conn_manager_prefix="in""#));
        assert_eq!(extracted("cluster_manager."), pair("cluster_manager.", ""));
    }

    #[test]
    fn listeners_are_tagged_with_their_address_or_stat_prefix_except_the_admin_one() {
        let address = |address| format!(r#"envoy_listener_address="{address}""#);
        for name in ["127.0.0.1_22001", "[__1]_22002", "edge1"] {
            let prefix = format!("listener.{name}.");
            assert_eq!(extracted(&prefix), pair("listener.", &address(name)));
        }
        assert_eq!(
            extracted("listener.0.0.0.0_80.http.in."),
            pair(
                "listener.http.",
                r#"envoy_http_conn_manager_prefix="in",envoy_listener_address="0.0.0.0_80""#
            )
        );
        assert_eq!(
            extracted("listener.a.b.http.c.d."),
            pair(
                "listener.b.http.d.",
                r#"envoy_http_conn_manager_prefix="c",envoy_listener_address="a""#
            )
        );
        assert_eq!(
            extracted("listener.admin.http.admin."),
            pair("listener.admin.http.", r#"envoy_http_conn_manager_prefix="admin""#)
        );
    }

    #[test]
    fn certificates_are_tagged_with_the_first_token_of_their_name() {
        assert_eq!(
            extracted("listener.127.0.0.1_443.ssl.certificate.my.cert."),
            pair(
                "listener.ssl.certificate.cert.",
                r#"envoy_tls_certificate="my",envoy_listener_address="127.0.0.1_443""#
            )
        );
        assert_eq!(
            extracted("cluster.up.ssl.certificate.plain."),
            pair(
                "cluster.ssl.certificate.",
                r#"envoy_tls_certificate="plain",envoy_cluster_name="up""#
            )
        );
    }

    #[test]
    fn virtual_hosts_are_tagged_with_their_virtual_cluster_or_route() {
        assert_eq!(
            extracted("vhost.vh.vcluster.other."),
            pair("vhost.vcluster.", r#"envoy_virtual_cluster="other",envoy_virtual_host="vh""#)
        );
        assert_eq!(
            extracted("vhost.vh.route.rsp."),
            pair("vhost.route.", r#"envoy_virtual_host="vh",envoy_route="rsp""#)
        );
        assert_eq!(
            extracted("vhost.vh.one.vcluster.other."),
            pair("vhost.one.vcluster.other.", r#"envoy_virtual_host="vh""#)
        );
    }

    #[test]
    fn codes_classes_and_workers_are_tags_of_the_name() {
        let tagged = |name| (Shape::of(name), labels(of_name(name, "").as_slice()));
        assert_eq!(
            tagged(Name::Code("external.", 200)),
            (Shape::Code, r#"envoy_response_code="200""#.to_owned())
        );
        assert_eq!(Shape::Code.family("external."), "external.upstream_rq");
        assert_eq!(
            tagged(Name::Plain("downstream_rq_2xx")),
            (Shape::Plain, r#"envoy_response_code_class="2""#.to_owned())
        );
        assert_eq!(Shape::Plain.family("downstream_rq_2xx"), "downstream_rq_xx");
        assert_eq!(
            tagged(Name::Worker(3, "downstream_cx_total")),
            (Shape::Worker, r#"envoy_worker_id="3""#.to_owned())
        );
        assert_eq!(Shape::Worker.family("downstream_cx_total"), "worker.downstream_cx_total");
    }
}
