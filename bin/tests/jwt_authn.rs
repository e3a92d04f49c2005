//! `jwt_authn` with keys that a server has. Everything else is in the parity cases `filter_jwt_authn`.

use std::thread;
use std::time::Duration;

use serde_json::Value;

use crate::support::{Act, Client, Config, Message, Origin, Proxy, is_oracle};

/// Keys and tokens that Python's `jwcrypto` has made.
const RECORDED: &str = include_str!("../../engine/src/request/filters/jwt_authn/recorded.json");

#[test]
fn keys_are_fetched_before_the_first_request() {
    let (keys, origin) = (Origin::that_does([reply(&keys())]), Origin::that_answers());
    let proxy = proxy(&keys, &origin, "async_fetch: {}");
    keys.has_seen(1);
    let fetch = keys.saw();
    assert!(fetch.start_line.starts_with("GET /jwks?a=b "), "{}", fetch.start_line);
    assert_eq!(fetch.header("host").as_deref(), Some("keys.test"));
    assert_eq!(fetch.header("user-agent").as_deref(), Some("Go-browser"));
    assert_eq!(fetch.header("x-envoy-expected-rq-timeout-ms").as_deref(), Some("1000"));
    proxy.stat_becomes("http.front.jwt_authn.jwks_fetch_success", 1);
    assert_eq!(ask(&proxy).status(), 200);
    assert_eq!(keys.seen().len(), 1);
    // The token is not forwarded.
    assert_eq!(origin.saw().header("authorization"), None);
}

#[test]
fn the_last_good_keys_are_kept() {
    let acts = [reply(&keys()), Act::Reply(b"HTTP/1.1 500 No\r\ncontent-length: 0\r\n\r\n".into())];
    let (keys, origin) = (Origin::that_does(acts), Origin::that_answers());
    let options = "cache_duration: 0.1s, async_fetch: { failed_refetch_duration: 0.1s }";
    let proxy = proxy(&keys, &origin, options);
    proxy.stat_becomes_at_least("http.front.jwt_authn.jwks_fetch_failed", 2);
    assert_eq!(ask(&proxy).status(), 200);
}

#[test]
fn keys_that_were_replaced_count_no_longer() {
    let other = recorded()["short_rsa"].to_string();
    let es = recorded()["jwks"]["keys"][1].to_string();
    let others = format!(r#"{{"keys":[{es}],"unused":{other}}}"#);
    let acts = [reply(&keys()), Act::ReplyWhenTold(answer(&others))];
    let (keys, origin) = (Origin::that_does(acts), Origin::that_answers());
    // A token that was verified is verified again with the new keys.
    let proxy = proxy(&keys, &origin, "cache_duration: 1s, async_fetch: {}");
    proxy.stat_becomes("http.front.jwt_authn.jwks_fetch_success", 1);
    assert_eq!(ask(&proxy).status(), 200);
    keys.go_on();
    proxy.stat_becomes_at_least("http.front.jwt_authn.jwks_fetch_success", 2);
    // Envoy lets a token pass that is in its cache.
    if !is_oracle() {
        assert_eq!(ask(&proxy).status(), 401);
    }
}

#[test]
fn keys_that_have_expired_are_fetched_again() {
    let acts = [reply(&keys()), Act::Reply(b"HTTP/1.1 404 No\r\ncontent-length: 0\r\n\r\n".into())];
    let (keys, origin) = (Origin::that_does(acts), Origin::that_answers());
    let proxy = proxy(&keys, &origin, "cache_duration: 1s");
    assert_eq!(ask(&proxy).status(), 200);
    // Also for a token that is in the cache; Envoy does not look at the keys then.
    if is_oracle() {
        return;
    }
    thread::sleep(Duration::from_millis(1100));
    let refused = ask(&proxy);
    assert_eq!((refused.status(), refused.text()), (401, "Jwks remote fetch is failed".into()));
    assert_eq!(keys.seen().len(), 2);
}

#[test]
fn all_requests_wait_for_one_fetch() {
    let acts = [Act::ReplyWhenTold(answer(&keys()))];
    let (keys, origin) = (Origin::that_does(acts), Origin::that_answers());
    let proxy = proxy(&keys, &origin, "cache_duration: 600s");
    let mut clients: Vec<_> = (0..10).map(|_| send(&proxy)).collect();
    proxy.stat_becomes("http.front.downstream_rq_active", 10);
    keys.has_seen(1);
    keys.go_on();
    // Each request of Envoy fetches for itself.
    if !is_oracle() {
        for client in &mut clients {
            assert_eq!(client.response().status(), 200);
        }
        assert_eq!(proxy.stat("http.front.jwt_authn.jwks_fetch_success"), 1);
        assert_eq!(proxy.stat("cluster.keys.upstream_rq_total"), 1);
    }
}

#[test]
fn a_client_does_not_wait_when_it_has_gone() {
    let (keys, origin) = (Origin::that_stalls(), Origin::that_answers());
    let proxy = proxy(&keys, &origin, "cache_duration: 600s");
    let gone = send(&proxy);
    let mut stays = send(&proxy);
    proxy.stat_becomes("http.front.downstream_rq_active", 2);
    gone.reset();
    proxy.stat_becomes("http.front.downstream_rq_active", 1);
    // Meanwhile other requests go on.
    assert_eq!(proxy.get("/open").status(), 200);
    assert_eq!(stays.response().text(), "Jwks remote fetch is failed");
    proxy.stat_becomes("cluster.keys.upstream_rq_active", 0);
}

fn recorded() -> Value {
    serde_json::from_str(RECORDED).unwrap()
}

fn keys() -> String {
    recorded()["rsa"].to_string()
}

fn answer(body: &str) -> Vec<u8> {
    format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len()).into_bytes()
}

fn reply(body: &str) -> Act {
    Act::Reply(answer(body))
}

fn send(proxy: &Proxy) -> Client {
    let recorded = recorded();
    let token = recorded["tokens"]["RS256"].as_str().unwrap();
    let mut client = proxy.connect();
    client
        .send(format!("GET / HTTP/1.1\r\nhost: example\r\nauthorization: Bearer {token}\r\n\r\n"));
    client
}

fn ask(proxy: &Proxy) -> Message {
    send(proxy).response()
}

/// A proxy for which every request but those of `/open` needs a token. `options` are those of `remote_jwks`.
fn proxy(keys: &Origin, origin: &Origin, options: &str) -> Proxy {
    const TYPE: &str =
        "type.googleapis.com/envoy.extensions.filters.http.jwt_authn.v3.JwtAuthentication";
    let filter = format!(
        r#"
          - name: jwt
            typed_config:
              "@type": {TYPE}
              providers:
                issuer:
                  issuer: issuer.test
                  jwt_cache_config: {{}}
                  remote_jwks: {{ http_uri: {{ uri: "http://keys.test/jwks?a=b", cluster: keys, timeout: 1s }}, {options} }}
              rules:
              - match: {{ path: /open }}
              - match: {{ prefix: / }}
                requires: {{ provider_name: issuer }}"#
    );
    let port = keys.port();
    let cluster = format!(
        r"
  - name: keys
    type: STATIC
    load_assignment: {{ cluster_name: keys, endpoints: [{{ lb_endpoints: [{{ endpoint: {{ address: {{ socket_address: {{ address: 127.0.0.1, port_value: {port} }} }} }} }}] }}] }}
  - name: service"
    );
    let yaml = Config::to(origin).yaml();
    let yaml = yaml.replace("http_filters:", &format!("http_filters:{filter}"));
    Proxy::with(Config::verbatim(yaml.replace("\n  - name: service", &cluster)))
}
