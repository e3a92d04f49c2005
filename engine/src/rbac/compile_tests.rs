use std::net::SocketAddr;
use std::time::SystemTime;

use corvoy_config::{self as config, Path, Problems};
use serde_json::{Value, json};

use super::compile::{About, rules};
use super::*;
use crate::format::StreamInfo;
use crate::request::route::tests::request;
use crate::text_matcher::Literal;
use crate::transport::tls::facts::TlsVersion;

fn holds(rule: &Rule<bool>) -> bool {
    rule.matches(&|condition| *condition)
}

#[test]
fn a_client_is_authenticated_by_a_name_of_its_certificate() {
    let names = ["spiffe://mesh/web".into(), "web.example".into()];
    let mut parameters = rcgen::CertificateParams::new([]).expect("no names yet");
    let [uri, dns]: [String; 2] = names;
    parameters.subject_alt_names = vec![
        rcgen::SanType::URI(uri.try_into().expect("ASCII")),
        rcgen::SanType::DnsName(dns.try_into().expect("ASCII")),
    ];
    let key = rcgen::KeyPair::generate().expect("a key");
    let certificate = parameters.self_signed(&key).expect("a certificate");
    let anonymous = TlsFacts::new(TlsVersion::Tls13);
    let certificate = Certificate::new(certificate.der().clone());
    let client =
        TlsFacts { peer_certificates: [certificate].into(), ..TlsFacts::new(TlsVersion::Tls13) };
    let exact = |text| TextMatcher::Exact(Literal::new(text, false));
    assert!(!is_authenticated(None, None) && is_authenticated(None, Some(&anonymous)));
    assert!(is_authenticated(None, Some(&client)));
    for (name, expected) in
        [("spiffe://mesh/web", true), ("web.example", true), ("other.example", false)]
    {
        assert_eq!(is_authenticated(Some(&exact(name)), Some(&client)), expected, "{name}");
    }
    assert!(!is_authenticated(Some(&exact("web.example")), None));
}

#[test]
fn rules_combine_conditions() {
    let (yes, no) = (|| Rule::If(true), || Rule::If(false));
    assert!(holds(&Rule::Any));
    assert!(!holds(&Rule::Not(Box::new(Rule::Any))));
    assert!(holds(&Rule::And(vec![yes(), yes()])) && !holds(&Rule::And(vec![yes(), no()])));
    assert!(holds(&Rule::Or(vec![no(), yes()])) && !holds(&Rule::Or(vec![no(), no()])));
}

/// A request of a client, with metadata.
struct Known {
    metadata: crate::metadata::Metadata,
}

impl StreamInfo for Known {
    fn start_time(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH
    }

    fn downstream_remote_address(&self) -> Option<Address> {
        Some(SocketAddr::from(([192, 0, 2, 1], 1)).into())
    }

    fn downstream_direct_remote_address(&self) -> Option<Address> {
        Some(SocketAddr::from(([192, 0, 2, 3], 1)).into())
    }

    fn downstream_local_address(&self) -> Option<Address> {
        Some(SocketAddr::from(([10, 0, 0, 1], 8080)).into())
    }

    fn dynamic_metadata(&self) -> Option<&crate::metadata::Metadata> {
        Some(&self.metadata)
    }
}

fn compiled(schema: &Value, about: About) -> Result<Rules, String> {
    let schema: config::RbacRules = serde_json::from_value(schema.clone()).unwrap();
    let mut problems = Problems::default();
    let rules = rules(&schema, about, &Path::root(), &mut problems);
    let errors: Vec<_> = problems.errors().map(|error| error.message.clone()).collect();
    rules.ok_or_else(|| errors.join("; "))
}

/// Whether the rules allow `GET /admin/x?y=1#z` with the header `x-a: 1` from 192.0.2.1, whose connection
/// comes from 192.0.2.2 by way of 192.0.2.3; and the policy that matched.
fn decide(rules: &Value) -> (bool, Option<String>) {
    let known = Known { metadata: crate::metadata::Metadata::new([("ns", json!({ "k": "v" }))]) };
    let head = request("/admin/x?y=1#z", &["x-a: 1"]);
    let inputs = &Inputs { request: Some(&head), ..Inputs::new(&known) };
    let connection_peer = SocketAddr::from(([192, 0, 2, 2], 1)).into();
    let rules = compiled(rules, About::Request).unwrap();
    let decision = rules.decide(&Subject { inputs, connection_peer });
    (decision.allowed, decision.policy.map(str::to_owned))
}

fn permits(permission: &Value) -> bool {
    let policy = json!({ "permissions": [permission], "principals": [{ "any": true }] });
    decide(&json!({ "policies": { "p": policy } })).0
}

fn is_principal(principal: &Value) -> bool {
    let policy = json!({ "permissions": [{ "any": true }], "principals": [principal] });
    decide(&json!({ "policies": { "p": policy } })).0
}

fn prefix(address: &str) -> Value {
    json!({ "address_prefix": address, "prefix_len": 32 })
}

#[test]
fn permissions_are_about_the_request_and_where_it_goes() {
    let metadata = |value: &str, invert: bool| {
        json!({ "metadata": { "filter": "ns", "path": [{ "key": "k" }],
            "value": { "string_match": { "exact": value } }, "invert": invert } })
    };
    for (permission, expected) in [
        (json!({ "header": { "name": "x-a", "string_match": { "exact": "1" } } }), true),
        (json!({ "header": { "name": "x-a", "string_match": { "exact": "2" } } }), false),
        (json!({ "header": { "name": ":method", "string_match": { "exact": "GET" } } }), true),
        (json!({ "url_path": { "path": { "exact": "/admin/x" } } }), true),
        (json!({ "url_path": { "path": { "suffix": "y=1" } } }), false),
        (json!({ "destination_ip": prefix("10.0.0.1") }), true),
        (json!({ "destination_port": 8080 }), true),
        (json!({ "destination_port_range": { "start": 8000, "end": 8080 } }), false),
        (json!({ "requested_server_name": { "exact": "" } }), true),
        (json!({ "not_rule": { "any": true } }), false),
        (metadata("v", false), true),
        (metadata("w", false), false),
        (metadata("w", true), true),
        (
            json!({ "sourced_metadata": { "metadata_source": "ROUTE",
            "metadata_matcher": metadata("v", false)["metadata"] } }),
            false,
        ),
    ] {
        assert_eq!(permits(&permission), expected, "{permission}");
    }
}

#[test]
fn principals_are_about_the_client() {
    for (principal, expected) in [
        (json!({ "remote_ip": prefix("192.0.2.1") }), true),
        (json!({ "source_ip": prefix("192.0.2.2") }), true),
        (json!({ "source_ip": prefix("192.0.2.1") }), false),
        (json!({ "direct_remote_ip": prefix("192.0.2.3") }), true),
        (json!({ "authenticated": {} }), false),
        (json!({ "header": { "name": "x-a", "present_match": true } }), true),
        (json!({ "or_ids": { "ids": [{ "authenticated": {} }, { "any": true }] } }), true),
    ] {
        assert_eq!(is_principal(&principal), expected, "{principal}");
    }
}

#[test]
fn the_first_policy_by_name_that_matches_decides() {
    let all = json!({ "permissions": [{ "any": true }], "principals": [{ "any": true }] });
    let none =
        json!({ "permissions": [{ "any": true }], "principals": [{ "not_id": { "any": true } }] });
    let policies = json!({ "c": all, "b": all, "a": none });
    let with =
        |action: &str, policies: &Value| decide(&json!({ "action": action, "policies": policies }));
    let b = Some("b".to_owned());
    assert_eq!(with("ALLOW", &policies), (true, b.clone()));
    assert_eq!(with("DENY", &policies), (false, b.clone()));
    assert_eq!(with("LOG", &policies), (true, b));
    assert_eq!(with("ALLOW", &json!({ "a": none })), (false, None));
    assert_eq!(with("DENY", &json!({ "a": none })), (true, None));
    assert_eq!(with("ALLOW", &json!({})), (false, None), "no policy: nothing is allowed");
}

#[test]
fn a_policy_may_have_a_condition() {
    let with = |text: &str| {
        let equals = json!({ "call_expr": { "function": "_==_", "args": [
            { "select_expr": { "operand": { "ident_expr": { "name": "request" } }, "field": "method" } },
            { "const_expr": { "string_value": text } },
        ] } });
        let policy = json!({ "permissions": [{ "any": true }], "principals": [{ "any": true }],
            "condition": equals });
        decide(&json!({ "policies": { "p": policy } })).0
    };
    assert!(with("GET") && !with("POST"));
}

#[test]
fn rules_for_connections_know_no_request() {
    let rules = |permission: Value| {
        let policy = json!({ "permissions": [permission], "principals": [{ "any": true }] });
        compiled(&json!({ "policies": { "p": policy } }), About::Connection)
    };
    assert!(
        rules(json!({ "url_path": { "path": { "exact": "/" } } }))
            .unwrap_err()
            .contains("requests")
    );
    assert!(rules(json!({ "destination_port": 1 })).is_ok());
}
