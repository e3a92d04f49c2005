//! Whole route tables, from JSON to the result for a request.

use std::time::Duration;

use serde_json::{Value, json};

use super::super::tests::{request, shown};
use super::super::{ClusterChoice, Lookup, Redirect, Request, Scratch};
use super::*;
use crate::address::{Address, Ends};
use crate::format::StreamInfo;
use crate::http::{FieldName, RequestHead, Scheme};
use crate::runtime::{Reader, Runtime};
use crate::stats::Registry;
use crate::transport::tls::certificate::Certificate;
use crate::transport::tls::facts::{TlsFacts, TlsVersion};

struct NoInfo;

impl StreamInfo for NoInfo {
    fn start_time(&self) -> std::time::SystemTime {
        std::time::UNIX_EPOCH
    }
}

fn compiled(table: Value) -> (RouteTable, Problems) {
    let schema = serde_json::from_value(table).unwrap();
    let clusters = ["echo", "other"];
    let cluster = |name: &str| clusters.iter().position(|cluster| *cluster == name);
    let mut problems = Problems::default();
    let (registry, values) = (Registry::new(1), Runtime::default());
    let runtime = &Reader::new(&values);
    let context = &filters::compile::Context::bare(&registry, runtime);
    let needs = Needs { filters: &Chain::default(), filter_context: context, cluster: &cluster };
    let table = route_table(&schema, &needs, &Path::root(), &mut problems);
    (table, problems)
}

/// A table with these routes in one virtual host for everything.
fn routes(routes: Value) -> Value {
    let mut table = json!({"name": "rc", "virtual_hosts": [{"name": "a", "domains": ["*"]}]});
    table["virtual_hosts"][0]["routes"] = routes;
    table
}

fn valid(table: Value) -> RouteTable {
    let (table, problems) = compiled(table);
    assert!(!problems.has_errors(), "{problems:?}");
    table
}

fn errors(table: Value) -> Vec<String> {
    let (_, problems) = compiled(table);
    problems.errors().map(|p| format!("{}: {}", p.path, p.message)).collect()
}

fn asked<'a>(head: &'a RequestHead, tls: Option<&'a TlsFacts>, random: u64) -> Request<'a> {
    let client = Address::from(std::net::SocketAddr::from(([127, 0, 0, 1], 1)));
    let ends = Ends { remote: client, local: client };
    Request { head, tls, client, ends, random, metadata: None, state: None }
}

fn found<'a>(table: &'a RouteTable, head: &RequestHead, random: u64) -> Option<&'a Route> {
    match table.find(&asked(head, None, random)) {
        Lookup::Found { route, .. } => Some(route),
        Lookup::NotFound | Lookup::TlsRequired => None,
    }
}

fn forward(route: &Route) -> &Forward {
    match &route.action {
        Action::Forward(forward) => forward,
        other => panic!("{other:?}"),
    }
}

fn redirect(route: &Route) -> &Redirect {
    match &route.action {
        Action::Redirect(redirect) => redirect,
        other => panic!("{other:?}"),
    }
}

/// The index of the cluster.
fn cluster(route: &Route) -> usize {
    match &forward(route).cluster {
        ClusterChoice::Index(index) => *index,
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_envoy_rejects_is_rejected_with_its_path() {
    let vhosts = |domains: Value| {
        let host = |domains: &Value| json!({"name": "a", "domains": domains});
        let hosts: Vec<_> = domains.as_array().unwrap().iter().map(host).collect();
        json!({"name": "rc", "virtual_hosts": hosts})
    };
    let at = |rest: &str| format!("virtual_hosts[0].routes[0].{rest}");
    let route = |route: Value| routes(json!([{"match": {"prefix": "/"}, "route": route}]));
    let rewrite = json!({"pattern": {"regex": "a"}, "substitution": "b"});
    for (table, error) in [
        (
            vhosts(json!([["*"], ["*"]])),
            "virtual_hosts[1].domains[0]: Only a single wildcard domain is permitted in route rc"
                .to_owned(),
        ),
        (
            vhosts(json!([["x.Y"], ["z", "X.y"]])),
            "virtual_hosts[1].domains[1]: Only unique values for domains are permitted. \
             Duplicate entry of domain x.y in route rc"
                .to_owned(),
        ),
        (route(json!({"cluster": "nope"})), at("route.cluster: route: unknown cluster 'nope'")),
        (
            route(json!({"cluster": "echo", "prefix_rewrite": "/", "regex_rewrite": rewrite})),
            at("route.regex_rewrite: \
                Specify only one of prefix_rewrite, regex_rewrite or path_rewrite_policy"),
        ),
        (
            route(json!({"weighted_clusters": {"clusters": [{"name": "echo", "weight": 0}]}})),
            at("route.weighted_clusters: \
                Sum of weights in the weighted_cluster must be greater than 0."),
        ),
        (
            routes(json!([{"match": {"prefix": "/"}, "direct_response": {"status": 200,
                "body": {"inline_string": "x".repeat(4097)}}}])),
            at("direct_response.body: response body size is 4097 bytes; maximum is 4096"),
        ),
        (
            routes(json!([{"match": {"prefix": "/"}, "route": {"cluster": "echo"},
                "request_headers_to_add": [{"header": {"key": "Host", "value": "x"}}]}])),
            at("request_headers_to_add[0].header.key: \
                :-prefixed or host headers may not be modified"),
        ),
        (
            routes(json!([{"match": {"prefix": "/"}, "route": {"cluster": "echo"},
                "response_headers_to_add": [{"header": {"key": "a", "value": "%NOPE%"}}]}])),
            at("response_headers_to_add[0].header.value: \
                Not supported field in StreamInfo: NOPE"),
        ),
        (
            routes(json!([{"match": {"prefix": "/", "headers": [{"name": "a", "string_match":
                {"safe_regex": {"regex": "a"}, "ignore_case": true}}]}, "route": {"cluster": "echo"}}])),
            at("match.headers[0].string_match.ignore_case: \
                ignore_case has no effect for safe_regex."),
        ),
    ] {
        assert_eq!(errors(table), [error]);
    }
}

#[test]
fn an_invalid_regular_expression_is_called_one() {
    let matched = json!({"match": {"safe_regex": {"regex": "("}}, "route": {"cluster": "echo"}});
    let rewritten = json!({"match": {"prefix": "/"}, "route": {"cluster": "echo",
        "regex_rewrite": {"pattern": {"regex": "("}, "substitution": "b"}}});
    for (route, at) in [(matched, "match.safe_regex.regex"), (rewritten, "route.regex_rewrite")] {
        let error = "invalid regular expression: missing ): (";
        let error = format!("virtual_hosts[0].routes[0].{at}: {error}");
        assert_eq!(errors(routes(json!([route]))), [error]);
    }
}

#[test]
fn a_weighted_cluster_from_a_header_is_not_an_unknown_cluster() {
    let clusters = json!([{"cluster_header": "x", "weight": 1}]);
    let route = json!({"match": {"prefix": "/"},
        "route": {"weighted_clusters": {"clusters": clusters}}});
    assert_eq!(errors(routes(json!([route]))), [""; 0]);
}

/// The paths of all errors of a table with one route.
fn errors_of(route: &Value) -> Vec<String> {
    let (_, problems) = compiled(routes(json!([route])));
    let at = "virtual_hosts[0].routes[0].";
    problems.errors().map(|it| it.path.to_string().replacen(at, "", 1)).collect()
}

/// Headers to add, with three errors.
fn invalid_additions() -> Value {
    json!([{"header": {"key": "host", "value": "%NOPE%"}, "append": true,
        "append_action": "ADD_IF_ABSENT"}])
}

/// A substitution, with two errors.
fn invalid_rewrite() -> Value {
    json!({"pattern": {"regex": "*"}, "substitution": "a b"})
}

#[test]
fn a_route_reports_all_of_its_errors() {
    let bad_regex = json!({"regex": "*"});
    let rewrite = invalid_rewrite();
    assert_eq!(
        errors_of(&json!({
            "match": {"safe_regex": bad_regex,
                "headers": [{"name": "a", "string_match": {"safe_regex": bad_regex}}]},
            "request_headers_to_add": invalid_additions(),
            "response_headers_to_remove": [":status"],
            "route": {
                "cluster": "nope",
                "prefix_rewrite": "/a b", "regex_rewrite": rewrite,
                "host_rewrite_path_regex": rewrite,
                "retry_policy": {"retriable_headers":
                    [{"name": "a", "string_match": {"safe_regex": bad_regex}}]},
                "upgrade_configs": [{"upgrade_type": "websocket", "connect_config": {"allow_post": true}},
                    {"upgrade_type": "websocket"}],
            },
        })),
        [
            "match.safe_regex.regex",
            "match.headers[0].string_match.safe_regex.regex",
            "request_headers_to_add[0].append",
            "request_headers_to_add[0].header.key",
            "request_headers_to_add[0].header.value",
            "response_headers_to_remove[0]",
            "route.host_rewrite_path_regex.substitution",
            "route.host_rewrite_path_regex",
            "route.retry_policy.retriable_headers[0].string_match.safe_regex.regex",
            "route.prefix_rewrite",
            "route.regex_rewrite.substitution",
            "route.regex_rewrite",
            "route.regex_rewrite",
            "route.cluster",
            "route.upgrade_configs[1].upgrade_type",
            "route.upgrade_configs[0].connect_config",
        ]
    );
}

#[test]
fn weighted_clusters_and_redirects_report_all_of_their_errors() {
    assert_eq!(
        errors_of(&json!({"match": {"prefix": "/"}, "route": {"weighted_clusters": {"clusters": [
            {"name": "nope", "host_rewrite_literal": "a b", "request_headers_to_add": invalid_additions()},
            {"name": "nowhere", "weight": 1, "response_headers_to_remove": ["host"]},
        ]}}})),
        [
            "route.weighted_clusters.clusters[0].name",
            "route.weighted_clusters.clusters[0].request_headers_to_add[0].append",
            "route.weighted_clusters.clusters[0].request_headers_to_add[0].header.key",
            "route.weighted_clusters.clusters[0].request_headers_to_add[0].header.value",
            "route.weighted_clusters.clusters[0].host_rewrite_literal",
            "route.weighted_clusters.clusters[0]",
            "route.weighted_clusters.clusters[1].name",
            "route.weighted_clusters.clusters[1].response_headers_to_remove[0]",
        ]
    );
    assert_eq!(
        errors_of(&json!({"match": {"prefix": "/"}, "redirect": {"scheme_redirect": "a\nb",
            "host_redirect": "a b", "regex_rewrite": invalid_rewrite()}})),
        [
            "redirect.scheme_redirect",
            "redirect.host_redirect",
            "redirect.regex_rewrite.substitution",
            "redirect.regex_rewrite",
        ]
    );
}

/// Envoy accepts both, and sends a request line of four words.
#[test]
fn a_rewrite_with_white_space_is_rejected() {
    let route = |route: Value| routes(json!([{"match": {"prefix": "/"}, "route": route}]));
    for (field, value) in [("prefix_rewrite", "/a b"), ("host_rewrite_literal", "a\tb")] {
        assert_eq!(errors(route(json!({"cluster": "echo", field: value}))).len(), 1, "{field}");
    }
}

#[test]
fn a_line_end_in_a_commands_result_becomes_a_space() {
    struct TwoLines;
    impl StreamInfo for TwoLines {
        fn start_time(&self) -> std::time::SystemTime {
            std::time::UNIX_EPOCH
        }
        fn route_name(&self) -> Option<&str> {
            Some("a\tb\r\nx-evil: 1\0")
        }
    }
    let table = valid(routes(json!([{"match": {"prefix": "/"}, "route": {"cluster": "echo"},
        "request_headers_to_add": [{"header": {"key": "x-route", "value": "%ROUTE_NAME%"}}]}])));
    let mut head = request("/", &[]);
    let route = found(&table, &head, 0).unwrap();
    route.request_headers.apply_to_request(&mut head, &TwoLines, &mut Scratch::default());
    assert_eq!(shown(&head.fields).split_off(1), ["x-route: a\tb  x-evil: 1 "]);
}

#[test]
fn what_has_no_effect_is_a_warning() {
    let (_, problems) = compiled(json!({"virtual_hosts": [
        {"name": "a", "domains": ["a"], "routes": [
            {"match": {"prefix": "foo"}, "route": {"cluster": "echo",
                "retry_policy": {"retry_on": "5xx,6xx"}},
                "request_headers_to_add": [{"header": {"key": "x-a", "raw_value": [97]}}]}]},
        {"name": "a", "domains": ["b"]},
    ]}));
    assert!(!problems.has_errors());
    assert_eq!(problems.warnings().count(), 4);
}

#[test]
fn a_route_cannot_change_how_a_body_is_framed() {
    let add = json!([
        {"header": {"key": "Content-Length", "value": "3"}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"},
        {"header": {"key": "transfer-encoding", "value": "chunked"}},
    ]);
    let (table, problems) = compiled(routes(json!([{"match": {"prefix": "/"},
        "direct_response": {"status": 200}, "request_headers_to_add": add,
        "response_headers_to_add": add, "response_headers_to_remove": ["content-length"]}])));
    assert!(!problems.has_errors());
    let warnings: Vec<_> = problems.warnings().map(|problem| problem.message.as_str()).collect();
    let ignored = |name: &str| format!("`{name}` is ignored: the proxy sets how a body is framed");
    let added = ["Content-Length", "transfer-encoding"].map(ignored);
    assert_eq!(warnings, [&added[..], &[ignored("content-length")], &added].concat());
    let route = found(&table, &request("/", &[]), 0).expect("a route");
    assert!(route.request_headers.is_empty() && route.response_headers.is_empty());
}

#[test]
fn the_first_route_in_declared_order_wins_also_with_conditions() {
    let table = valid(routes(json!([
        {"name": "header", "match": {"prefix": "/", "headers": [{"name": "x-a"}]},
            "route": {"cluster": "echo"}},
        {"name": "query", "match": {"path": "/a", "query_parameters": [{"name": "q"}]},
            "route": {"cluster": "echo"}},
        {"name": "grpc", "match": {"prefix": "/a", "grpc": {}}, "route": {"cluster": "echo"}},
        {"name": "all", "match": {"prefix": "/"}, "route": {"cluster": "echo"}},
        {"name": "never", "match": {"path": "/a"}, "route": {"cluster": "echo"}},
    ])));
    for (target, fields, name) in [
        ("/a?q", &["x-a: 1"][..], "header"),
        ("/a?q", &[], "query"),
        ("/a", &["content-type: application/grpc+proto"], "grpc"),
        ("/a", &["content-type: application/grpc-web"], "all"),
        ("/a", &[], "all"),
    ] {
        let head = request(target, fields);
        assert_eq!(&*found(&table, &head, 0).unwrap().name, name, "{target}");
    }
}

#[test]
fn a_route_without_settings_has_envoys_defaults() {
    let table = valid(routes(json!([
        {"match": {"prefix": "/"}, "route": {"cluster": "other"}}])));
    let forward = forward(found(&table, &request("/", &[]), 0).unwrap()).clone();
    assert!(matches!(forward.cluster, ClusterChoice::Index(1)));
    assert_eq!(forward.timeouts.global, Some(Duration::from_secs(15)));
    assert!(forward.retry.is_none() && forward.path_rewrite.is_none());
}

#[test]
fn a_timeout_of_zero_is_infinite() {
    let zero = json!({"secs": 0, "nanos": 0});
    let table = valid(routes(json!([
        {"match": {"prefix": "/"}, "route": {"cluster": "echo", "timeout": zero}}])));
    let head = request("/", &[]);
    let forward = forward(found(&table, &head, 0).unwrap());
    let asked = FieldName::XEnvoyUpstreamRqTimeoutMs;
    assert_eq!(forward.timeouts(&head, asked).expected_ms(Duration::ZERO), None);
}

#[test]
fn the_retry_policy_of_a_route_replaces_the_one_of_its_virtual_host() {
    let table = valid(json!({"virtual_hosts": [{"name": "a", "domains": ["*"],
        "retry_policy": {"retry_on": "5xx", "num_retries": 5},
        "routes": [
            {"match": {"path": "/own"},
                "route": {"cluster": "echo", "retry_policy": {"retry_on": "reset"}}},
            {"match": {"prefix": "/"}, "route": {"cluster": "echo"}}]}]}));
    let retries = |target| {
        let head = request(target, &[]);
        forward(found(&table, &head, 0).unwrap()).retry.as_ref().unwrap().num_retries
    };
    assert_eq!((retries("/own"), retries("/")), (1, 5));
}

#[test]
fn weights_distribute_the_requests() {
    let table = valid(routes(json!([{"match": {"prefix": "/"}, "route": {
        "weighted_clusters": {"clusters": [
            {"name": "echo", "weight": 25},
            {"name": "other", "weight": 75}]}}}])));
    let head = request("/", &[]);
    let cluster = |random| cluster(found(&table, &head, random).unwrap());
    assert_eq!((0..1000).filter(|random| cluster(*random) == 0).count(), 250);
    assert_eq!((cluster(24), cluster(25)), (0, 1));
}

#[test]
fn a_header_that_occurs_once_selects_the_weighted_cluster() {
    let table = valid(routes(json!([{"match": {"prefix": "/"}, "route": {
        "weighted_clusters": {"header_name": "x-random", "clusters": [
            {"name": "echo", "weight": 1}, {"name": "other", "weight": 1}]}}}])));
    let cluster = |fields: &[&str]| cluster(found(&table, &request("/", fields), 0).unwrap());
    assert_eq!(cluster(&["x-random: 7"]), 1);
    assert_eq!(cluster(&["x-random: 7", "x-random: 7"]), 0);
    assert_eq!(cluster(&["x-random: 7,7"]), 0);
}

#[test]
fn an_empty_exact_match_matches_every_value_but_one_in_a_string_match_does_not() {
    let fits = |condition: Value| {
        let mut matcher = json!({"name": "x-a"});
        matcher.as_object_mut().unwrap().extend(condition.as_object().unwrap().clone());
        let table = valid(routes(json!([
            {"match": {"prefix": "/", "headers": [matcher]}, "route": {"cluster": "echo"}}])));
        [&[][..], &["x-a:"], &["x-a: 1"]]
            .map(|fields| found(&table, &request("/", fields), 0).is_some())
    };
    assert_eq!(fits(json!({"exact_match": ""})), [false, true, true]);
    assert_eq!(fits(json!({"exact_match": "", "invert_match": true})), [false, false, false]);
    assert_eq!(fits(json!({"string_match": {"exact": ""}})), [false, true, false]);
}

#[test]
fn an_unknown_cluster_gets_a_local_reply_where_the_configuration_allows_it() {
    let mut table = routes(json!([{"match": {"prefix": "/"}, "route": {"cluster": "nope",
        "cluster_not_found_response_code": "NOT_FOUND"}}]));
    table["validate_clusters"] = json!(false);
    let table = valid(table);
    let route = found(&table, &request("/", &[]), 0).unwrap();
    assert!(matches!(route.action, Action::ClusterNotFound { status: 404 }));
}

#[test]
fn a_route_can_depend_on_the_certificate_of_the_client() {
    let table = |criteria| {
        valid(json!({"virtual_hosts": [{"name": "a", "domains": ["*"], "routes": [
            {"match": {"prefix": "/", "tls_context": criteria}, "route": {"cluster": "echo"}}]}]}))
    };
    let plain = TlsFacts::new(TlsVersion::Tls13);
    let presented = TlsFacts {
        peer_certificates: [Certificate::new(b"a certificate"[..].into())].into(),
        ..plain.clone()
    };
    let validated = TlsFacts { validated: true, ..presented.clone() };
    let clients = [None, Some(&plain), Some(&presented), Some(&validated)];
    let matching = |criteria| {
        let table = table(criteria);
        clients.map(|tls| {
            matches!(table.find(&asked(&request("/", &[]), tls, 0)), Lookup::Found { .. })
        })
    };
    assert_eq!(matching(json!({"presented": true})), [false, false, true, true]);
    assert_eq!(matching(json!({"presented": false})), [true, true, false, false]);
    assert_eq!(matching(json!({"validated": true})), [false, false, false, true]);
    assert_eq!(matching(json!({"validated": false})), [true, true, true, false]);
    assert_eq!(
        matching(json!({"presented": true, "validated": false})),
        [false, false, true, false]
    );
    assert_eq!(matching(json!({})), [true; 4]);
}

#[test]
fn tls_is_required_of_all_or_of_external_clients() {
    let table = |who| {
        valid(json!({"virtual_hosts": [{"name": "a", "domains": ["*"], "require_tls": who,
            "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "echo"}}]}]}))
    };
    let needs_tls = |who, fields: &[&str]| {
        matches!(table(who).find(&asked(&request("/", fields), None, 0)), Lookup::TlsRequired)
    };
    assert!(needs_tls("ALL", &["x-envoy-internal: true"]));
    assert!(!needs_tls("ALL", &["x-forwarded-proto: https"]));
    assert!(needs_tls("EXTERNAL_ONLY", &[]));
    assert!(!needs_tls("EXTERNAL_ONLY", &["x-envoy-internal: true"]));
}

#[test]
fn header_levels_apply_from_route_to_table_or_in_reverse_after_a_weighted_cluster() {
    let add = |value| json!([{"header": {"key": "x-v", "value": value}}]);
    let table = |wins: bool| {
        valid(json!({"most_specific_header_mutations_wins": wins,
            "request_headers_to_add": add("table"),
            "virtual_hosts": [{"name": "a", "domains": ["*"],
                "request_headers_to_add": add("host"),
                "request_headers_to_remove": ["x-gone"],
                "routes": [{"match": {"prefix": "/"}, "route": {"weighted_clusters": {"clusters": [
                        {"name": "echo", "weight": 1, "request_headers_to_add": add("cluster")}]}},
                    "request_headers_to_add": add("route")}]}]}))
    };
    let seen = |wins| {
        let table = table(wins);
        let mut head = request("/", &["x-gone: 1"]);
        let route = found(&table, &head, 0).unwrap();
        route.request_headers.apply_to_request(&mut head, &NoInfo, &mut Scratch::default());
        shown(&head.fields).split_off(1)
    };
    assert_eq!(seen(false), ["x-v: cluster", "x-v: route", "x-v: host", "x-v: table"]);
    assert_eq!(seen(true), ["x-v: cluster", "x-v: table", "x-v: host", "x-v: route"]);
}

/// Recorded from Envoy 1.40.0.
#[test]
fn additions_of_a_level_see_the_request_as_it_was_before_the_level() {
    let table = valid(routes(json!([{"match": {"prefix": "/"}, "route": {"cluster": "echo"},
    "request_headers_to_remove": ["x-rm"],
    "request_headers_to_add": [
        {"header": {"key": "x-v", "value": "route"}},
        {"header": {"key": "x-o", "value": "ow"},
            "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"},
        {"header": {"key": "x-no", "value": "ow"}, "append_action": "OVERWRITE_IF_EXISTS"},
        {"header": {"key": "x-ia", "value": "ia"}, "append_action": "ADD_IF_ABSENT"},
        {"header": {"key": "x-ib", "value": "1"}, "append_action": "ADD_IF_ABSENT"},
        {"header": {"key": "x-ib", "value": "2"}, "append_action": "ADD_IF_ABSENT"},
        {"header": {"key": "user-agent", "value": "ua"}},
        {"header": {"key": "x-path", "value": "%REQ(:path)%|%REQ(x-none)%|%%"}},
        {"header": {"key": "x-nil", "value": "%REQ(x-none)%"}},
        {"header": {"key": "x-kept", "value": ""}, "keep_empty_value": true},
        {"header": {"key": "x-o2", "value": "%REQ(x-o)%"}},
    ]}])));
    let mut head = request(
        "/f?q",
        &["x-o: 1", "x-z: z", "x-o: 2", "x-ia: 1", "user-agent: curl", "X-Rm: 1", "x-end: e"],
    );
    let route = found(&table, &head, 0).unwrap();
    route.request_headers.apply_to_request(&mut head, &NoInfo, &mut Scratch::default());
    assert_eq!(
        shown(&head.fields),
        [
            "host: t.test",
            "x-z: z",
            "x-ia: 1",
            "user-agent: curl,ua",
            "x-end: e",
            "x-o: ow",
            "x-v: route",
            "x-ib: 1",
            "x-ib: 2",
            "x-path: /f?q||%",
            "x-kept: ",
            "x-o2: 1",
        ]
    );
}

/// Recorded from Envoy 1.40.0.
#[test]
fn redirects_have_envoys_location() {
    let rewrite = json!({"pattern": {"regex": "/re/(a*)"}, "substitution": "/x/\\1"});
    for (action, target, location) in [
        (json!({"https_redirect": true}), "/a?q=1", "https://t.test/a?q=1"),
        (json!({"host_redirect": "n.test"}), "/a?q", "http://n.test/a?q"),
        (json!({"port_redirect": 8080}), "/a", "http://t.test:8080/a"),
        (json!({"path_redirect": "/new"}), "/a?q=1", "http://t.test/new?q=1"),
        (
            json!({"path_redirect": "/new?z=1", "strip_query": true}),
            "/a?q=1",
            "http://t.test/new?z=1",
        ),
        (json!({"path_redirect": "/new", "strip_query": true}), "/a?q=1", "http://t.test/new"),
        (json!({"path_redirect": "new"}), "/a", "http://t.test/new"),
        (json!({"prefix_rewrite": "/np/"}), "/a/b?q=1", "http://t.test/np/a/b?q=1"),
        (json!({"regex_rewrite": rewrite}), "/re/aab?q", "http://t.test/x/aab?q"),
        (json!({"strip_query": true}), "/a?q", "http://t.test/a"),
    ] {
        let table = valid(routes(json!([{"match": {"prefix": "/"}, "redirect": action}])));
        let head = request(target, &[]);
        let route = found(&table, &head, 0).unwrap();
        let mut out = Vec::new();
        redirect(route).location(&route.path, &head, &|_, _, _| {}, &mut out);
        assert_eq!(String::from_utf8(out).unwrap(), location, "{:?}", route.action);
    }
}

#[test]
fn a_redirect_keeps_the_port_of_the_host_unless_the_scheme_changes() {
    let location = |action: Value, host: &str, scheme: Scheme| {
        let table = valid(routes(json!([{"match": {"prefix": "/"}, "redirect": action}])));
        let mut head = request("/", &[]);
        head.scheme = Some(scheme);
        head.fields.set(FieldName::Host, host.as_bytes());
        let route = found(&table, &head, 0).unwrap();
        let mut out = Vec::new();
        redirect(route).location(&route.path, &head, &|_, _, _| {}, &mut out);
        String::from_utf8(out).unwrap()
    };
    let https = json!({"https_redirect": true});
    assert_eq!(location(https.clone(), "h.test:80", Scheme::Http), "https://h.test/");
    assert_eq!(location(https.clone(), "h.test:8080", Scheme::Http), "https://h.test:8080/");
    assert_eq!(location(https.clone(), "h.test:443", Scheme::Https), "https://h.test:443/");
    assert_eq!(location(https.clone(), "[::1]:80", Scheme::Http), "https://[::1]/");
    assert_eq!(location(https, "[::1]", Scheme::Http), "https://[::1]/");
    let port = json!({"https_redirect": true, "port_redirect": 8443});
    assert_eq!(location(port, "h.test:8080", Scheme::Http), "https://h.test:8443/");
}
