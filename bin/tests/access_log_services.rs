//! Access logs that go to a service: the real `grpcio` (`access_log_services/service.py`).
//!
//! The package is in `.venv` at the root of the repository, otherwise the tests print SKIPPED.

use serde_json::{Value, json};

use crate::grpc::{HTTP2, protocols};
use crate::support::{Config, Origin, Proxy, Service, Signal, free_address, is_oracle, wait_until};

const LOGGERS: &str = "type.googleapis.com/envoy.extensions.access_loggers";

/// A manager's field: requests are logged to the service `logs`.
fn logs_requests(options: &str) -> String {
    format!(
        "access_log: [{{ name: log, typed_config: {{ \"@type\": {LOGGERS}.grpc.v3.HttpGrpcAccessLogConfig, \
         additional_request_headers_to_log: [x-a, X-None], additional_response_headers_to_log: [content-length], \
         common_config: {{ {COMMON}, {options} }} }} }}]"
    )
}

const COMMON: &str = "log_name: mine, transport_api_version: V3, buffer_flush_interval: 0.05s, \
    grpc_service: { envoy_grpc: { cluster_name: logs }, initial_metadata: [{ key: x-meta, value: m }] }";

/// The same with records of OpenTelemetry.
fn logs_records(service: &str, options: &str) -> String {
    format!(
        "access_log: [{{ name: log, typed_config: {{ \
         \"@type\": {LOGGERS}.open_telemetry.v3.OpenTelemetryAccessLogConfig, log_name: mine, \
         buffer_flush_interval: 0.05s, {service}, {options} }} }}]"
    )
}

const NODE: &str = "node: { id: one, cluster: many, locality: { zone: here } }";

fn started() -> Option<(Service, u16)> {
    let mut service = Service::start("access_log_services")?;
    let port = service.told()["http"].as_u64().unwrap();
    Some((service, u16::try_from(port).unwrap()))
}

fn proxy(service: &Service, config: Config) -> Proxy {
    let yaml = service.in_cluster(&config.bootstrap(NODE).yaml(), "logs", &protocols(HTTP2));
    Proxy::with(Config::verbatim(yaml))
}

/// The next `count` entries, and the messages that they came in.
fn entries(service: &mut Service, of: &str, count: usize) -> (Vec<Value>, Vec<Value>) {
    let (mut entries, mut messages) = (Vec::new(), Vec::new());
    while entries.len() < count {
        let message = service.told();
        entries.extend(message[of].as_array().into_iter().flatten().cloned());
        messages.push(message);
    }
    (entries, messages)
}

#[test]
fn requests_are_streamed_and_the_first_message_says_who_sends_them() {
    let Some((mut service, _)) = started() else { return };
    let origin = Origin::that_answers();
    let tags = "custom_tags: [{ tag: fixed, literal: { value: v } }, \
        { tag: header, request_header: { name: x-a } }, { tag: absent, request_header: { name: x-b } }, \
        { tag: default, request_header: { name: x-b, default_value: d } }]";
    let proxy = proxy(&service, Config::to(&origin).manager(&logs_requests(tags)));
    let mut client = proxy.connect();
    client.send(
        "POST /a?b=c HTTP/1.1\r\nhost: h\r\nx-a: 1\r\nx-a: 2\r\ncontent-length: 5\r\n\r\nhello",
    );
    client.response();
    let (first, messages) = entries(&mut service, "requests", 1);
    let (second, more) = {
        client.get("/second");
        entries(&mut service, "requests", 1)
    };
    assert_eq!(
        first,
        [json!({
            "type": 6, "cluster": "service", "flags": [], "state": [], "client": "127.0.0.1",
            "tags": { "fixed": "v", "header": "1", "default": "d" },
            "method": 3, "path": "/a?b=c", "sent": 5, "asked": { "x-a": "1,2" },
            "status": 200, "received": 2, "answered": { "content-length": "2" },
            "details": "via_upstream", "tls": 0, "sni": "",
        })]
    );
    assert_eq!(second[0]["path"], "/second");
    let said = |message: &Value| (message["node"].clone(), message["log"].clone());
    assert_eq!(said(&messages[0]), (json!("one"), json!("mine")));
    assert_eq!(messages[0]["metadata"]["x-meta"], "m");
    assert_eq!(said(&more[0]), (json!(""), json!("")), "only once in a stream");
    assert_eq!(messages[0]["stream"], more[0]["stream"]);
    wait_until("both are counted", || proxy.stat(&format!("{ALS}logs_written")) == 2);
    assert_eq!(proxy.stat(&format!("{ALS}logs_dropped")), 0);
    assert_eq!(proxy.stat("cluster.logs.upstream_rq_total"), 1);
}

const ALS: &str = "access_logs.grpc_access_log.";

#[test]
fn flags_and_what_filters_have_set_are_in_the_entry() {
    let Some((mut service, _)) = started() else { return };
    let refusing = free_address();
    let config = Config::to_addresses(&[refusing])
        .filter(
            "state",
            "set_filter_state.v3.Config",
            "on_request_headers: [{ object_key: x.y, factory_key: envoy.string, \
             format_string: { text_format_source: { inline_string: set } } }]",
        )
        .manager(&logs_requests("filter_state_objects_to_log: [x.y, x.z]"));
    let proxy = proxy(&service, config);
    proxy.get("/");
    let (entries, _) = entries(&mut service, "requests", 1);
    assert_eq!(entries[0]["status"], 503);
    // upstream_connection_failure
    assert_eq!(entries[0]["flags"], json!([6]));
    assert_eq!(entries[0]["state"], json!(["x.y"]));
}

#[test]
fn connections_are_streamed_too() {
    let Some((mut service, _)) = started() else { return };
    let origin = Origin::that_answers();
    let address = origin.address();
    let log = format!(
        "access_log: [{{ name: log, typed_config: {{ \"@type\": {LOGGERS}.grpc.v3.TcpGrpcAccessLogConfig, \
         common_config: {{ {COMMON} }} }} }}]"
    );
    let yaml = format!(
        r#"
{NODE}
admin: {{ address: {{ socket_address: {{ address: 127.0.0.1, port_value: 0 }} }} }}
static_resources:
  listeners:
  - name: front
    address: {{ socket_address: {{ address: 127.0.0.1, port_value: 0 }} }}
    filter_chains:
    - filters:
      - name: tcp
        typed_config: {{ "@type": type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy, stat_prefix: t, cluster: service, {log} }}
  clusters:
  - name: service
    type: STATIC
    load_assignment: {{ cluster_name: service, endpoints: [{{ lb_endpoints: [{{ endpoint: {{ address: {{ socket_address: {{ address: 127.0.0.1, port_value: {} }} }} }} }}] }}] }}
"#,
        address.port()
    );
    let proxy = Proxy::with(Config::verbatim(service.in_cluster(&yaml, "logs", &protocols(HTTP2))));
    let mut client = proxy.connect();
    let asked = "GET / HTTP/1.1\r\nhost: h\r\n\r\n";
    client.send(asked);
    client.response();
    client.cut();
    let (entries, messages) = entries(&mut service, "connections", 1);
    assert_eq!(messages[0]["log"], "mine");
    assert_eq!(entries[0]["type"], 3);
    assert_eq!(entries[0]["cluster"], "service");
    assert_eq!(entries[0]["received"], asked.len());
}

#[test]
fn open_telemetry_gets_records_over_grpc_or_http() {
    let Some((mut service, http)) = started() else { return };
    let origin = Origin::that_answers();
    let options = "body: { string_value: \"%REQ(:METHOD)% %RESPONSE_CODE%\" }, \
        attributes: { values: [{ key: list, value: { array_value: { values: [{ string_value: \"%PROTOCOL%\" }] } } }, \
        { key: none, value: { string_value: \"%REQ(x-none)%\" } }] }, \
        resource_attributes: { values: [{ key: own, value: { string_value: r } }] }, \
        custom_tags: [{ tag: fixed, literal: { value: v } }]";
    let record = json!([{
        "body": "GET 200",
        "attributes": { "list": ["HTTP/1.1"], "none": "-", "fixed": "v" },
    }]);
    let labels = json!({ "log_name": "mine", "zone_name": "here", "cluster_name": "many", "node_name": "one", "own": "r" });

    let grpc = "grpc_service: { envoy_grpc: { cluster_name: logs } }, stat_prefix: one";
    let over_grpc = proxy(&service, Config::to(&origin).manager(&logs_records(grpc, options)));
    over_grpc.get("/");
    let told = service.told();
    assert_eq!((&told["records"], &told["resource"]), (&record, &labels));
    let written = "access_logs.open_telemetry_access_log.one.logs_written";
    wait_until("it is counted", || over_grpc.stat(written) == 1);

    let uri = "http_service: { http_uri: { uri: \"http://collector:80/v1/logs?a\", cluster: other, timeout: 1s }, \
        request_headers_to_add: [{ header: { key: x-key, value: k } }] }, disable_builtin_labels: true";
    let config = Config::to(&origin)
        .other_cluster("other", ([127, 0, 0, 1], http).into())
        .manager(&logs_records(uri, options));
    let over_http = Proxy::with(config.bootstrap(NODE));
    for _ in 0..2 {
        over_http.get("/");
        let told = service.told();
        assert_eq!(told["path"], "/v1/logs?a");
        assert_eq!((&told["records"], &told["resource"]), (&record, &json!({ "own": "r" })));
        assert_eq!(told["headers"]["x-key"], "k");
        assert_eq!(told["headers"]["host"], "collector:80");
        assert_eq!(told["headers"]["content-type"], "application/x-protobuf");
    }
    if !is_oracle() {
        assert_eq!(over_http.stat("cluster.other.upstream_cx_total"), 1, "it stays open");
    }
}

#[test]
fn what_was_logged_is_sent_before_the_process_ends() {
    let Some((mut service, _)) = started() else { return };
    if is_oracle() {
        return;
    }
    let origin = Origin::that_answers();
    let config = Config::to(&origin).manager(&logs_requests("").replace("0.05s", "100s"));
    let proxy = proxy(&service, config);
    proxy.get("/last");
    proxy.signal(Signal::Term);
    let (entries, _) = entries(&mut service, "requests", 1);
    assert_eq!(entries[0]["path"], "/last");
}

#[test]
fn entries_wait_for_a_service_that_is_away_and_what_does_not_fit_is_counted() {
    if is_oracle() {
        return;
    }
    let origin = Origin::that_answers();
    let config = Config::to(&origin)
        .manager(&logs_requests(""))
        .manager("max_request_headers_kb: 96")
        .other_cluster("logs", free_address());
    let proxy = Proxy::with(config);
    // Each entry has this header; the queue takes 16 MiB.
    let request = format!("GET / HTTP/1.1\r\nhost: h\r\nx-a: {}\r\n\r\n", "a".repeat(64 * 1024));
    let requests = 300;
    let mut client = proxy.connect();
    for _ in 0..requests {
        client.send(&request);
        client.response();
    }
    let stat = |name: &str| proxy.stat(&format!("{ALS}{name}"));
    wait_until("each is counted", || stat("logs_written") + stat("logs_dropped") == requests);
    let kept = stat("logs_written");
    assert!((200..=256).contains(&kept), "{kept}");
    assert_eq!(stat("grpc_entries_flushed"), 0);
}

#[test]
fn a_service_that_refuses_the_stream_has_taken_nothing() {
    // It has no such method.
    let Some(service) = Service::start("stats_sinks") else { return };
    if is_oracle() {
        return;
    }
    let origin = Origin::that_answers();
    let proxy = proxy(&service, Config::to(&origin).manager(&logs_requests("")));
    for _ in 0..3 {
        proxy.get("/");
    }
    let stat = |name: &str| proxy.stat(&format!("{ALS}{name}"));
    wait_until("they have left the shard", || stat("logs_written") == 3);
    wait_until("it was tried more than once", || proxy.stat("cluster.logs.upstream_rq_total") > 2);
    assert_eq!((stat("grpc_entries_flushed"), stat("logs_dropped")), (0, 0));
    let log = proxy.log();
    assert_eq!(log.matches("entries wait").count(), 1, "{log}");
    assert!(!log.contains("takes entries again"), "{log}");
}
