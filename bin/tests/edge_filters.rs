//! HTTP filters of an edge: sessions, credentials and limits.

use std::fs;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::support::{Act, Config, Origin, Proxy, wait_until};

const STATE: &str = "type.googleapis.com/envoy.extensions.http.stateful_session";
const CREDENTIALS: &str = "type.googleapis.com/envoy.extensions.http.injected_credentials";

/// The addresses of the origins that have answered.
fn counts(origins: &[Origin]) -> Vec<usize> {
    origins.iter().map(|origin| origin.seen().len()).collect()
}

#[test]
fn the_requests_of_a_session_go_to_the_host_that_has_answered_the_first_one() {
    let origins = [Origin::that_answers(), Origin::that_answers(), Origin::that_answers()];
    let addresses: Vec<_> = origins.iter().map(Origin::address).collect();
    let session = format!(
        "session_state: {{ name: envoy.http.stateful_session.cookie, typed_config: {{ \
         '@type': {STATE}.cookie.v3.CookieBasedSessionState, cookie: {{ name: s, ttl: 60s }} }} }}"
    );
    let config = Config::to_addresses(&addresses).filter(
        "session",
        "stateful_session.v3.StatefulSession",
        &session,
    );
    let proxy = Proxy::with(config);
    let first = proxy.get("/");
    let cookie = first.header("set-cookie").unwrap();
    assert!(cookie.ends_with("; Max-Age=60; HttpOnly"), "{cookie}");
    let cookie = cookie.split(';').next().unwrap();
    let at = counts(&origins).iter().position(|count| *count == 1).unwrap();
    for _ in 0..6 {
        let mut client = proxy.connect();
        let answer = client.send(format!("GET / HTTP/1.1\r\nhost: a\r\ncookie: {cookie}\r\n\r\n"));
        assert_eq!(answer.response().header("set-cookie"), None, "it knows it already");
    }
    assert_eq!(counts(&origins)[at], 7);
}

#[test]
fn a_request_names_its_host_and_the_next_one_for_a_retry() {
    let origins = [Origin::that_answers(), Origin::that_replies(503), Origin::that_answers()];
    let addresses: Vec<_> = origins.iter().map(Origin::address).collect();
    let policies = "type.googleapis.com/envoy.extensions.load_balancing_policies";
    let policy = format!(
        "load_balancing_policy: {{ policies: [{{ typed_extension_config: {{ name: o, typed_config: \
         {{ '@type': {policies}.override_host.v3.OverrideHost, override_host_sources: \
         [{{ header: x-host }}], fallback_policy: {{ policies: [{{ typed_extension_config: \
         {{ name: r, typed_config: {{ '@type': {policies}.round_robin.v3.RoundRobin }} }} }}] }} \
         }} }} }}] }}"
    );
    let config = Config::to_addresses(&addresses).cluster(&policy).retry("5xx", 1);
    let proxy = Proxy::with(config);
    let named = format!("{}, {}", addresses[1], addresses[2]);
    for _ in 0..3 {
        let mut client = proxy.connect();
        client.send(format!("GET / HTTP/1.1\r\nhost: a\r\nx-host: {named}\r\n\r\n"));
        assert_eq!(client.response().status(), 200);
    }
    assert_eq!(counts(&origins), [0, 3, 3]);
}

#[test]
fn a_credential_from_a_file_is_replaced_when_the_file_is() {
    let (folder, origin) = (TempDir::new().unwrap(), Origin::that_answers());
    let path = folder.path().join("secret.yaml");
    let secret = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret";
    let place = |text: &str| {
        let new = folder.path().join("new");
        let secret = format!(
            "resources: [{{ '@type': {secret}, name: token, generic_secret: {{ secret: \
             {{ inline_string: {text} }} }} }}]"
        );
        fs::write(&new, secret).unwrap();
        fs::rename(&new, &path).unwrap();
    };
    place("first");
    let credential = format!(
        "credential: {{ name: envoy.http.injected_credentials.generic, typed_config: {{ '@type': \
         {CREDENTIALS}.generic.v3.Generic, header_value_prefix: 'Bearer ', credential: {{ name: \
         token, sds_config: {{ path_config_source: {{ path: {} }}, resource_api_version: V3 }} }} \
         }} }}",
        path.display()
    );
    let config = Config::to(&origin)
        .filter("inject", "credential_injector.v3.CredentialInjector", &credential)
        .flags(&["--service-node", "node", "--service-cluster", "cluster"]);
    let proxy = Proxy::with(config);
    let sent = || {
        assert_eq!(proxy.get("/").status(), 200);
        origin.seen().last().and_then(|request| request.header("authorization")).unwrap()
    };
    assert_eq!(sent(), "Bearer first");
    place("second");
    wait_until("the new credential", || sent() == "Bearer second");
}

#[test]
fn a_token_is_fetched_from_the_authorization_server() {
    let answer = r#"{"access_token": "abc", "expires_in": 3600}"#;
    let length = answer.len();
    let server = Origin::that_says(format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{answer}"
    ));
    let origin = Origin::that_answers();
    let credential = format!(
        "credential: {{ name: envoy.http.injected_credentials.oauth2, typed_config: {{ '@type': \
         {CREDENTIALS}.oauth2.v3.OAuth2, token_endpoint: {{ uri: 'http://auth.example/token', \
         cluster: auth, timeout: 2s }}, scopes: [read, write], client_credentials: {{ client_id: \
         me, client_secret: {{ name: password }} }} }} }}"
    );
    let config = Config::to(&origin)
        .filter("inject", "credential_injector.v3.CredentialInjector", &credential)
        .other_cluster("auth", server.address());
    let secret = "{ name: password, generic_secret: { secret: { inline_string: sesame } } }";
    let with_secret = format!("static_resources:\n  secrets: [{secret}]");
    let yaml = config.yaml().replacen("static_resources:", &with_secret, 1);
    let proxy = Proxy::with(Config::verbatim(yaml));
    wait_until("the token", || proxy.get("/").status() == 200);
    assert_eq!(origin.saw().header("authorization").as_deref(), Some("Bearer abc"));
    let asked = server.saw();
    assert_eq!(asked.header("authorization").as_deref(), Some("Basic bWU6c2VzYW1l"), "me:sesame");
    assert_eq!(asked.header("host").as_deref(), Some("auth.example"));
    let body = String::from_utf8(asked.body.clone()).unwrap();
    assert_eq!(body, "grant_type=client_credentials&scope=read%20write");
    assert_eq!(proxy.stat("http.front.credential_injector.oauth2.token_fetched"), 1);
}

#[test]
fn requests_are_refused_while_the_others_fail() {
    let origin = Origin::that_replies(500);
    let options = "success_criteria: {}, sampling_window: 60s, max_rejection_probability: \
                   { default_value: { value: 100 }, runtime_key: a }, aggression: \
                   { default_value: 100, runtime_key: b }";
    let config =
        Config::to(&origin).filter("admission", "admission_control.v3.AdmissionControl", options);
    let proxy = Proxy::with(config);
    assert_eq!(proxy.get("/").status(), 500);
    // The probability is (1/2)^(1/100).
    let statuses: Vec<_> = (0..40).map(|_| proxy.get("/").status()).collect();
    let refused = statuses.iter().filter(|status| **status == 503).count();
    assert!(refused >= 30, "{statuses:?}");
    assert_eq!(proxy.stat("http.front.admission_control.rq_rejected"), refused as u64);
}

#[test]
fn a_body_waits_for_its_tokens_and_the_client_is_told() {
    let body = "a".repeat(3000);
    let origin = Origin::that_says(format!(
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nbb8\r\n{body}\r\n0\r\n\r\n"
    ));
    let options = "stat_prefix: slow, enable_mode: RESPONSE, limit_kbps: 2, fill_interval: 0.1s, \
                   enable_response_trailers: true";
    let config = Config::to(&origin)
        .filter("slow", "bandwidth_limit.v3.BandwidthLimit", options)
        .manager("http_protocol_options: { enable_trailers: true }");
    let proxy = Proxy::with(config);
    let began = Instant::now();
    let answer = proxy.get("/");
    assert_eq!(answer.body.len(), 3000);
    // Two KiB at once, the rest at 2 KiB a second.
    assert!(began.elapsed() > Duration::from_millis(400), "{:?}", began.elapsed());
    let slow = |name: &str| proxy.stat(&format!("slow.http_bandwidth_limit.response_{name}"));
    assert_eq!((slow("enabled"), slow("allowed_total_size"), slow("pending")), (1, 3000, 0));
    assert!(slow("enforced") >= 4);
}

/// What is kept of the body is compressed already, and another compressor could not continue it.
#[test]
fn a_body_that_a_filter_behind_the_router_changes_is_not_sent_again_in_part() {
    let refuses = b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n".to_vec();
    let origin = Origin::that_does([Act::ReplyAtOnce(refuses)]);
    let types = "type.googleapis.com/envoy.extensions";
    let compressor = format!(
        "{{ name: c, typed_config: {{ '@type': {types}.filters.http.compressor.v3.Compressor, \
         request_direction_config: {{}}, compressor_library: {{ name: gzip, typed_config: \
         {{ '@type': {types}.compression.gzip.compressor.v3.Gzip }} }} }} }}"
    );
    let codec = format!(
        "{{ name: u, typed_config: {{ '@type': {types}.filters.http.upstream_codec.v3.UpstreamCodec }} }}"
    );
    let options = format!(
        "typed_extension_protocol_options: {{ {name}: {{ '@type': type.googleapis.com/{name}, \
         explicit_http_config: {{ http_protocol_options: {{}} }}, http_filters: [{compressor}, \
         {codec}] }} }}",
        name = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
    );
    let proxy = Proxy::with(Config::to(&origin).cluster(&options).retry("5xx", 2));
    let mut client = proxy.connect();
    let head =
        "POST / HTTP/1.1\r\nhost: a\r\ncontent-type: text/plain\r\ncontent-length: 60000\r\n\r\n";
    client.send(format!("{head}{}", "a".repeat(30_000)));
    assert_eq!(client.response().status(), 503);
    assert_eq!(proxy.stat("cluster.service.upstream_rq_retry"), 0);
}
