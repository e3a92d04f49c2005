//! Tags: which parts of a stat's name are values, as Envoy's default `stats_tags` find them.
//!
//! `cluster.httpbin.upstream_rq_200` is `cluster.upstream_rq` with `envoy_response_code="200"` and
//! `envoy_cluster_name="httpbin"`. Tokens end at dots, so the tag of a cluster named `a.b` is only `a`: as in
//! Envoy, and dashboards depend on it.

use std::borrow::Cow;

use crate::stats::reading::Name;

/// A prefix without its tags.
#[derive(Debug, Eq, PartialEq)]
pub(super) struct Extracted {
    /// Ends with a dot.
    pub(super) name: String,
    /// `envoy_cluster_name="httpbin"`, …
    pub(super) labels: String,
}

/// Extracts the tags from a scope's prefix. Envoy's order of tags: connection manager before listener, virtual
/// cluster before virtual host before route.
pub(super) fn of_prefix(prefix: &str) -> Extracted {
    let Some((kind, rest)) = prefix.split_once('.') else { return untagged(prefix) };
    let mut labels = Vec::new();
    let certificate = split_certificate(rest);
    let rest = match &certificate {
        Some((certificate, rest)) => {
            labels.push(("envoy_tls_certificate", *certificate));
            rest
        }
        None => rest,
    };
    let name = match kind {
        "cluster" => {
            let (cluster, rest) = token(rest);
            labels.push(("envoy_cluster_name", cluster));
            format!("cluster.{rest}")
        }
        "http" => {
            let (stat_prefix, rest) = token(rest);
            labels.push(("envoy_http_conn_manager_prefix", stat_prefix));
            format!("http.{rest}")
        }
        "listener" => {
            let (address, rest) = address(rest);
            // The connection manager may follow the rest of a `stat_prefix` with dots.
            let manager = memchr::memmem::find(rest.as_bytes(), b"http.")
                .filter(|at| *at == 0 || rest.as_bytes().get(at - 1) == Some(&b'.'))
                .and_then(|at| rest.split_at_checked(at + "http.".len()));
            let rest: Cow<'_, str> = match manager {
                Some((before, manager)) => {
                    let (stat_prefix, rest) = token(manager);
                    labels.push(("envoy_http_conn_manager_prefix", stat_prefix));
                    format!("{before}{rest}").into()
                }
                None => rest.into(),
            };
            if address == "admin" {
                format!("listener.admin.{rest}")
            } else {
                labels.push(("envoy_listener_address", address));
                format!("listener.{rest}")
            }
        }
        "vhost" => {
            let (virtual_host, rest) = token(rest);
            if let Some((virtual_cluster, rest)) = rest.strip_prefix("vcluster.").map(token) {
                labels.push(("envoy_virtual_cluster", virtual_cluster));
                labels.push(("envoy_virtual_host", virtual_host));
                format!("vhost.vcluster.{rest}")
            } else if let Some((route, rest)) = rest.strip_prefix("route.").map(token) {
                labels.push(("envoy_virtual_host", virtual_host));
                labels.push(("envoy_route", route));
                format!("vhost.route.{rest}")
            } else {
                labels.push(("envoy_virtual_host", virtual_host));
                format!("vhost.{rest}")
            }
        }
        _ => return untagged(prefix),
    };
    let labels: Vec<String> = labels.into_iter().map(|(tag, value)| label(tag, value)).collect();
    Extracted { name, labels: labels.join(",") }
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

/// The tag in a name after this prefix; it precedes those of the prefix.
pub(super) fn of_name(name: Name<'_>, prefix: &str) -> Option<String> {
    match name {
        Name::Class(_, class) => Some(label("envoy_response_code_class", &class.to_string())),
        Name::Code(_, code) => Some(label("envoy_response_code", &code.to_string())),
        Name::Completed(_) | Name::Unknown(_) => None,
        Name::Named(group, name) => tag_of_group(group, prefix).map(|tag| label(tag, name)),
        Name::Plain(name) => {
            class_of(name).map(|(_, class)| label("envoy_response_code_class", class))
        }
        Name::Worker(worker, _) => Some(label("envoy_worker_id", &worker.to_string())),
    }
}

/// The tag of the names in a group of `ssl.`; Envoy has two for ciphers.
fn tag_of_group(group: &str, prefix: &str) -> Option<&'static str> {
    match group {
        "ciphers." if prefix.starts_with("cluster.") => Some("cipher_suite"),
        "ciphers." => Some("envoy_ssl_cipher"),
        "curves." => Some("envoy_ssl_curve"),
        "sigalgs." => Some("envoy_ssl_sigalg"),
        "versions." => Some("envoy_ssl_version"),
        _ => None,
    }
}

/// `downstream_rq_2xx`: `downstream` and `2`.
fn class_of(name: &str) -> Option<(&str, &str)> {
    let (before, class) = name.strip_suffix("xx")?.rsplit_once("_rq_")?;
    (class.len() == 1 && class.bytes().all(|byte| byte.is_ascii_digit())).then_some((before, class))
}

/// `a.ssl.certificate.b.`: `b` and `a.ssl.certificate.`
fn split_certificate(rest: &str) -> Option<(&str, String)> {
    let (before, certificate) = rest.split_once(".ssl.certificate.")?;
    let (certificate, rest) = token(certificate);
    Some((certificate, format!("{before}.ssl.certificate.{rest}")))
}

/// The text before and after the next dot.
fn token(text: &str) -> (&str, &str) {
    text.split_once('.').unwrap_or((text, ""))
}

/// A listener's address (`127.0.0.1_80`, `[__1]_80`) or its `stat_prefix`.
fn address(text: &str) -> (&str, &str) {
    let end = text.bytes().take_while(|byte| byte.is_ascii_digit() || b"._".contains(byte)).count();
    let numbers = text.get(..end).unwrap_or_default();
    match numbers.strip_suffix('.') {
        Some(address) => (address, text.get(end..).unwrap_or_default()),
        None => token(text),
    }
}

fn label(tag: &str, value: &str) -> String {
    let value = value.replace('\\', r"\\").replace('\n', r"\n").replace('"', "\\\"");
    format!("{tag}=\"{value}\"")
}

fn untagged(prefix: &str) -> Extracted {
    Extracted { name: prefix.to_owned(), labels: String::new() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn extracted(prefix: &str) -> (String, String) {
        let Extracted { name, labels } = of_prefix(prefix);
        (name, labels)
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
        let tagged = |name| (Shape::of(name), of_name(name, "").unwrap_or_default());
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
