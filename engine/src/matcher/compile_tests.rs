//! Trees from JSON, and where they lead.
#![expect(clippy::needless_pass_by_value, reason = "JSON that is made where it is passed")]

use std::net::SocketAddr;

use corvoy_config::{self as config, Path, Problems};
use serde_json::{Value, json};

use super::{Context, LooksAt, matcher};
use crate::address::Address;
use crate::downstream::filter_chain_match::{Connection, Detected, TransportProtocol};
use crate::http::{RequestHead, ResponseHead};
use crate::matcher::{Matcher, Subject, Undecided};
use crate::request::route::tests::{request, response};
use crate::runtime::{Reader, Runtime};

const NETWORK: &str = "envoy.extensions.matching.common_inputs.network.v3";

fn compiled(looks_at: LooksAt, tree: Value) -> (Option<Matcher<String>>, Vec<String>) {
    let schema: config::Matcher = serde_json::from_value(tree).unwrap();
    let runtime = Runtime::default();
    let context = Context { looks_at, runtime: &Reader::new(&runtime) };
    let mut action = |action: &config::Any, _: &Path, _: &mut Problems| match action {
        config::Any::StringValue(name) => Some(name.0.clone()),
        other => panic!("{other:?}"),
    };
    let mut problems = Problems::default();
    let tree = matcher(&schema, &context, &mut action, &Path::root(), &mut problems);
    let errors = problems.errors().map(|it| format!("{}: {}", it.path, it.message)).collect();
    (tree, errors)
}

fn tree(looks_at: LooksAt, schema: Value) -> Matcher<String> {
    let (tree, errors) = compiled(looks_at, schema);
    tree.unwrap_or_else(|| panic!("{errors:?}"))
}

fn found<'a>(tree: &'a Matcher<String>, subject: &dyn Subject) -> Option<&'a str> {
    tree.find(subject).map(String::as_str)
}

fn any(name: &str, mut fields: Value) -> Value {
    let content = if name == "google.protobuf.StringValue" { fields.take() } else { fields };
    json!({ "typed_config": { name: content } })
}

fn header(name: &str) -> Value {
    any("envoy.type.matcher.v3.HttpRequestHeaderMatchInput", json!({ "header_name": name }))
}

fn input(name: &str) -> Value {
    any(&format!("{NETWORK}.{name}"), json!({}))
}

/// Leads to an action.
fn to(action: &str) -> Value {
    json!({ "action": any("google.protobuf.StringValue", json!(action)) })
}

fn passed_over(action: &str) -> Value {
    let mut then = to(action);
    then["keep_matching"] = json!(true);
    then
}

fn exact(input: Value, map: Value) -> Value {
    json!({ "matcher_tree": { "input": input, "exact_match_map": { "map": map } } })
}

fn prefix(input: Value, map: Value) -> Value {
    json!({ "matcher_tree": { "input": input, "prefix_match_map": { "map": map } } })
}

fn single(input: Value, value_match: Value) -> Value {
    json!({ "single_predicate": { "input": input, "value_match": value_match } })
}

fn list(matchers: &[(Value, Value)]) -> Value {
    let matchers: Vec<_> = matchers
        .iter()
        .map(|(predicate, then)| json!({ "predicate": predicate, "on_match": then }))
        .collect();
    json!({ "matcher_list": { "matchers": matchers } })
}

fn connection(remote: &str, detected: &Detected) -> Connection<'static> {
    let address = |text: &str| Address::from(text.parse::<SocketAddr>().unwrap());
    Connection {
        local: address("192.0.2.1:443"),
        remote: address(remote),
        direct_remote: address("198.51.100.7:9"),
        detected: Box::leak(Box::new(detected.clone())),
    }
}

#[test]
fn an_exact_map_compares_the_whole_value() {
    let tree = tree(LooksAt::RequestHeaders, exact(header(":path"), json!({ "/a": to("a") })));
    assert_eq!(found(&tree, &request("/a", &[])), Some("a"));
    assert_eq!(found(&tree, &request("/a?b", &[])), None, "a path has its query");
    assert_eq!(found(&tree, &request("/ab", &[])), None);
}

#[test]
fn the_lines_of_a_header_are_joined() {
    let tree = tree(LooksAt::RequestHeaders, exact(header("x"), json!({ "1,2": to("both") })));
    assert_eq!(found(&tree, &request("/", &["x: 1", "x: 2"])), Some("both"));
    assert_eq!(found(&tree, &request("/", &["x: 1"])), None);
}

#[test]
fn the_longest_prefix_comes_first_and_a_shorter_one_after_it() {
    let inner = exact(header("x"), json!({ "1": to("inner") }));
    let schema = prefix(
        header(":path"),
        json!({ "/a": to("a"), "/a/b": { "matcher": inner }, "/": to("root") }),
    );
    let tree = tree(LooksAt::RequestHeaders, schema);
    for (path, fields, action) in [
        ("/a/b/c", &["x: 1"][..], "inner"),
        ("/a/b/c", &[], "a"),
        ("/a/c", &[], "a"),
        ("/c", &[], "root"),
    ] {
        assert_eq!(found(&tree, &request(path, fields)), Some(action), "{path} {fields:?}");
    }
}

#[test]
fn what_is_kept_for_later_is_passed_over() {
    let yes = || single(header(":path"), json!({ "prefix": "/" }));
    let mut schema = list(&[(yes(), passed_over("first")), (yes(), to("second"))]);
    schema["on_no_match"] = to("none");
    assert_eq!(found(&tree(LooksAt::Request, schema), &request("/", &[])), Some("second"));
    let mut schema = list(&[(yes(), passed_over("first"))]);
    schema["on_no_match"] = to("none");
    assert_eq!(found(&tree(LooksAt::Request, schema), &request("/", &[])), Some("none"));
}

#[test]
fn predicates_are_combined() {
    let a = || single(header("a"), json!({ "exact": "1" }));
    let b = || single(header("b"), json!({ "suffix": "X", "ignore_case": true }));
    let schema = list(&[
        (json!({ "and_matcher": { "predicate": [a(), b()] } }), to("both")),
        (json!({ "not_matcher": { "or_matcher": { "predicate": [a(), b()] } } }), to("neither")),
    ]);
    let tree = tree(LooksAt::RequestHeaders, schema);
    for (fields, action) in [
        (&["a: 1", "b: ax"][..], Some("both")),
        (&["a: 1"], None),
        (&["a: 2"], Some("neither")),
        (&[], Some("neither")),
    ] {
        assert_eq!(found(&tree, &request("/", fields)), action, "{fields:?}");
    }
}

#[test]
fn addresses_are_found_by_the_longest_range() {
    let ranges = json!({ "range_matchers": [
        { "ranges": [{ "address_prefix": "10.0.0.0", "prefix_len": 8 }], "on_match": to("ten") },
        { "ranges": [{ "address_prefix": "10.1.0.0", "prefix_len": 16 }],
          "on_match": { "matcher": exact(input("SourcePortInput"), json!({ "5": to("five") })) } },
        { "ranges": [{ "address_prefix": "0.0.0.0" }], "exclusive": true, "on_match": to("any") },
        { "ranges": [{ "address_prefix": "::" }], "on_match": to("six") },
    ] });
    let custom = any("xds.type.matcher.v3.IPMatcher", ranges);
    let schema =
        json!({ "matcher_tree": { "input": input("SourceIPInput"), "custom_match": custom } });
    let tree = tree(LooksAt::Connection, schema);
    let detected = Detected::default();
    for (remote, action) in [
        ("10.2.0.1:5", "ten"),
        ("10.1.0.1:5", "five"),
        ("10.1.0.1:6", "ten"),
        ("11.0.0.1:5", "any"),
        ("[2001:db8::1]:5", "six"),
    ] {
        assert_eq!(found(&tree, &connection(remote, &detected)), Some(action), "{remote}");
    }
}

#[test]
fn an_exclusive_range_does_not_stand_in_for_a_longer_one() {
    let nothing = json!({ "matcher": exact(input("SourcePortInput"), json!({ "1": to("one") })) });
    let ranges = json!({ "range_matchers": [
        { "ranges": [{ "address_prefix": "10.0.0.0", "prefix_len": 8 }], "on_match": nothing },
        { "ranges": [{ "address_prefix": "0.0.0.0" }], "exclusive": true, "on_match": to("any") },
    ] });
    let custom = any("xds.type.matcher.v3.IPMatcher", ranges);
    let schema =
        json!({ "matcher_tree": { "input": input("SourceIPInput"), "custom_match": custom } });
    let tree = tree(LooksAt::Connection, schema);
    assert_eq!(found(&tree, &connection("10.0.0.1:5", &Detected::default())), None);
    assert_eq!(found(&tree, &connection("11.0.0.1:5", &Detected::default())), Some("any"));
}

#[test]
fn server_names_are_found_by_the_most_specific_domain() {
    let domains = json!({ "domain_matchers": [
        { "domains": ["*"], "on_match": to("any") },
        { "domains": ["*.example", "other.test"], "on_match": to("wild") },
        { "domains": ["a.example"], "on_match": to("exact") },
    ] });
    let custom = any("xds.type.matcher.v3.ServerNameMatcher", domains);
    let schema =
        json!({ "matcher_tree": { "input": input("ServerNameInput"), "custom_match": custom } });
    let tree = tree(LooksAt::Connection, schema);
    for (name, action) in [
        ("a.example", Some("exact")),
        ("b.a.example", Some("wild")),
        ("other.test", Some("wild")),
        ("example", Some("any")),
        ("", None),
    ] {
        let detected = Detected { server_name: name.to_owned(), ..Detected::default() };
        assert_eq!(found(&tree, &connection("10.0.0.1:5", &detected)), action, "{name}");
    }
}

#[test]
fn a_connection_is_described_as_in_envoy() {
    let detected = Detected {
        transport: TransportProtocol::Tls,
        server_name: "a.example".to_owned(),
        application_protocols: vec![b"h2".to_vec(), b"http/1.1".to_vec()],
    };
    for (name, value) in [
        ("DestinationIPInput", "192.0.2.1"),
        ("DestinationPortInput", "443"),
        ("SourceIPInput", "192.0.2.1"),
        ("SourcePortInput", "5"),
        ("DirectSourceIPInput", "198.51.100.7"),
        ("SourceTypeInput", "local"),
        ("ServerNameInput", "a.example"),
        ("TransportProtocolInput", "tls"),
        ("ApplicationProtocolInput", "'h2','http/1.1'"),
    ] {
        let tree = tree(LooksAt::Connection, exact(input(name), json!({ value: to("yes") })));
        let connection = connection("192.0.2.1:5", &detected);
        assert_eq!(found(&tree, &connection), Some("yes"), "{name}");
    }
}

#[test]
fn the_hash_of_a_value_selects_a_part_of_the_requests() {
    let part = any(
        "envoy.extensions.matching.input_matchers.consistent_hashing.v3.ConsistentHashing",
        json!({ "threshold": 1, "modulo": 4, "seed": 7 }),
    );
    let predicate = json!({ "single_predicate": { "input": header("x"), "custom_match": part } });
    let tree = tree(LooksAt::RequestHeaders, list(&[(predicate, to("in"))]));
    let is_in = |value: u32| found(&tree, &request("/", &[&format!("x: {value}")])).is_some();
    let count = (0..4000).filter(|value| is_in(*value)).count();
    assert!((2800..3200).contains(&count), "{count} of 4000, 3000 expected");
    assert_eq!(is_in(1), is_in(1));
    assert_eq!(found(&tree, &request("/", &[])), None, "no value has no hash");
}

#[test]
fn what_a_place_does_not_have_cannot_be_looked_at() {
    for (looks_at, input, why) in [
        (LooksAt::RequestHeaders, input("SourceIPInput"), "a tree of routes can only look at"),
        (LooksAt::Connection, header("x"), "a tree of filter chains can only look at"),
        (LooksAt::Request, input("ApplicationProtocolInput"), "this tree can only look at"),
    ] {
        let (_, errors) = compiled(looks_at, exact(input, json!({ "1": to("a") })));
        let [error] = &errors[..] else { panic!("{errors:?}") };
        assert!(error.contains(why), "{error}");
        assert!(error.starts_with("matcher_tree.input.typed_config: "), "{error}");
    }
}

/// A request, and its response once that has begun.
struct Exchange(RequestHead, Option<ResponseHead>);

impl Subject for Exchange {
    fn request(&self) -> Option<&RequestHead> {
        Some(&self.0)
    }

    fn response(&self) -> Option<&ResponseHead> {
        self.1.as_ref()
    }
}

#[test]
fn a_tree_that_looks_at_the_response_is_decided_when_that_has_begun() {
    let response_header =
        any("envoy.type.matcher.v3.HttpResponseHeaderMatchInput", json!({ "header_name": "b" }));
    let is_one = |input: Value| json!({ "single_predicate": { "input": input, "value_match": { "exact": "1" } } });
    let both = || json!({ "predicate": [is_one(header("a")), is_one(response_header.clone())] });
    let list = |predicate: Value| {
        let matcher = json!({ "predicate": predicate, "on_match": to("found") });
        tree(LooksAt::Exchange, json!({ "matcher_list": { "matchers": [matcher] } }))
    };
    let either = list(json!({ "or_matcher": both() }));
    let all = list(json!({ "and_matcher": both() }));
    let not = list(json!({ "not_matcher": is_one(response_header.clone()) }));
    let early = |fields: &[&str]| Exchange(request("/", fields), None);
    let late = |fields: &[&str]| Exchange(request("/", fields), Some(response(200, &["b: 1"])));
    let found = "found".to_owned();
    let found = Ok(Some(&found));
    assert_eq!(either.decide(&early(&["a: 1"])), found);
    assert_eq!(either.decide(&early(&[])), Err(Undecided));
    assert_eq!(either.decide(&late(&[])), found);
    assert_eq!(all.decide(&early(&["a: 1"])), Err(Undecided));
    assert_eq!(all.decide(&early(&[])), Ok(None), "the response does not matter");
    assert_eq!(all.decide(&late(&["a: 1"])), found);
    assert_eq!(not.decide(&early(&["a: 1"])), Err(Undecided));
    assert_eq!(not.decide(&late(&["a: 1"])), Ok(None));
}

#[test]
fn the_status_of_a_response_can_be_matched() {
    for (input, key) in [
        ("HttpResponseStatusCodeMatchInput", "503"),
        ("HttpResponseStatusCodeClassMatchInput", "5xx"),
        ("HttpResponseLocalReplyMatchInput", "false"),
    ] {
        let input = any(&format!("envoy.type.matcher.v3.{input}"), json!({}));
        let tree = tree(LooksAt::Exchange, exact(input, json!({ key: to("found") })));
        assert_eq!(
            found(&tree, &Exchange(request("/", &[]), Some(response(503, &[])))),
            Some("found")
        );
        assert_eq!(found(&tree, &Exchange(request("/", &[]), None)), None);
    }
}
