//! `lua`: scripts that misbehave. What scripts can do is in the parity cases `filter_lua`.

use std::time::Duration;

use crate::support::{Config, Origin, Proxy, is_oracle};

#[test]
fn a_script_that_does_not_end_is_stopped() {
    // Envoy has no such limit.
    if is_oracle() {
        return;
    }
    let origin = Origin::that_answers();
    let proxy = proxy_running(
        &origin,
        "function envoy_on_request(handle) handle:headers():add('x-before', '1') \
         while true do end end",
    );
    assert_eq!(proxy.get("/").status(), 200);
    assert_eq!(origin.saw().header("x-before").as_deref(), Some("1"));
    assert_eq!(proxy.stat("http.front.lua.errors"), 1);
    assert_eq!(proxy.stat("http.front.lua.executions"), 1);
}

#[test]
fn a_script_that_takes_all_memory_gets_none() {
    if is_oracle() {
        return;
    }
    let origin = Origin::that_answers();
    let proxy = proxy_running(
        &origin,
        "function envoy_on_request(handle) \
         if handle:headers():get(':path') == '/greedy' then local text = 'x' \
         while true do text = text .. text end end \
         handle:headers():add('x-after', '1') end",
    );
    let before = proxy.memory_kib();
    for _ in 0..20 {
        assert_eq!(proxy.get("/greedy").status(), 200);
    }
    assert_eq!(proxy.stat("http.front.lua.errors"), 20);
    let grown = proxy.memory_kib().saturating_sub(before);
    assert!(grown < 200 * 1024, "{grown} KiB more");
    assert_eq!(proxy.get("/modest").status(), 200);
    assert_eq!(proxy.stat("http.front.lua.errors"), 20);
}

#[test]
fn an_object_of_another_request_does_not_work() {
    let origin = Origin::that_answers();
    let proxy = proxy_running(
        &origin,
        "function envoy_on_request(handle) \
         if kept then kept:add('x-kept', '1') else kept = handle:headers() end end",
    );
    assert_eq!(proxy.get("/").status(), 200);
    assert_eq!(proxy.get("/").status(), 200);
    assert_eq!(proxy.stat("http.front.lua.errors"), 1);
    assert!(origin.seen().iter().all(|seen| seen.header("x-kept").is_none()));
}

#[test]
fn a_client_that_goes_away_cancels_a_call() {
    let origin = Origin::that_stalls();
    let proxy = proxy_running(
        &origin,
        "function envoy_on_request(handle) handle:httpCall('service', \
         {[':method'] = 'GET', [':path'] = '/', [':authority'] = 'a'}, nil, 60000) end",
    );
    let mut client = proxy.connect();
    client.ask("/");
    origin.has_seen(1);
    client.reset();
    proxy.stat_becomes("cluster.service.upstream_rq_active", 0);
    proxy.stat_becomes("http.front.downstream_rq_active", 0);
    origin.has_seen(1);
}

#[test]
fn a_call_that_takes_too_long_is_answered_for_the_service() {
    let origin = Origin::that_answers_late(Duration::from_millis(500));
    let proxy = proxy_running(
        &origin,
        "function envoy_on_request(handle) local headers, body = handle:httpCall('service', \
         {[':method'] = 'GET', [':path'] = '/', [':authority'] = 'a'}, nil, 100) \
         handle:respond({[':status'] = '200'}, headers[':status'] .. body) end",
    );
    assert_eq!(proxy.get("/").text(), "504upstream request timeout");
}

/// A proxy whose requests pass this script.
fn proxy_running(origin: &Origin, script: &str) -> Proxy {
    let options = format!("default_source_code: {{ inline_string: \"{script}\" }}");
    Proxy::with(Config::to(origin).filter("lua", "lua.v3.Lua", &options))
}
