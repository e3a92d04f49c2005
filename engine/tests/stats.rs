//! Stats as an operator sees them, against recordings of Envoy 1.40 in `tests/envoy/`.

use std::any::Any;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;

use corvoy_engine::stats::{
    AdminListenerStats, CircuitBreakerRemainingStats, CircuitBreakerStats, ClusterStats,
    HistogramBuckets, HttpStats, ListenerHttpStats, ListenerStats, Origin, ProcessStats, Registry,
    RouterStats, Scope, Select, TracingStats, VirtualClusterStats, json, prometheus, text,
};
use corvoy_engine::upstream::transport_socket::TransportSocketMatchStats;
use proptest::prelude::*;
use regex::bytes::Regex;

/// What a server with one listener and one cluster registers.
struct World {
    registry: Registry,
    process: ProcessStats,
    cluster: Arc<Scope<ClusterStats>>,
    circuit_breakers: [Arc<Scope<CircuitBreakerStats>>; 2],
    connection_manager: Arc<Scope<HttpStats>>,
    listener: (Arc<Scope<ListenerStats>>, Arc<Scope<ListenerHttpStats>>),
    /// Registered, but not written to in these tests.
    _others: Vec<Arc<dyn Any + Send + Sync>>,
}

impl World {
    fn new(shards: usize, cluster: &str, stat_prefix: &str, listener: &str) -> Self {
        let registry = Registry::new(shards);
        let breaker =
            |priority| registry.scope(&format!("cluster.{cluster}.circuit_breakers.{priority}."));
        let http = format!("http.{stat_prefix}.");
        Self {
            process: ProcessStats::new(&registry),
            cluster: registry.scope(&format!("cluster.{cluster}.")),
            circuit_breakers: [breaker("default"), breaker("high")],
            connection_manager: registry.scope(&http),
            listener: (
                registry.scope(&format!("listener.{listener}.")),
                registry.scope(&format!("listener.{listener}.{http}")),
            ),
            _others: vec![
                registry.scope::<TransportSocketMatchStats>(&format!("cluster.{cluster}.default.")),
                registry.scope::<RouterStats>(&http),
                registry.scope::<TracingStats>(&http),
                registry.scope::<HttpStats>("http.admin."),
                registry.scope::<AdminListenerStats>("listener.admin."),
                registry.scope::<ListenerHttpStats>("listener.admin.http.admin."),
            ],
            registry,
        }
    }

    fn seed() -> Self {
        Self::new(1, "httpbin_service", "ingress_http", "127.0.0.1:15001")
    }

    fn text(&self) -> String {
        text(&self.registry, Select::default(), HistogramBuckets::Summary).collect()
    }

    fn text_of(&self, filter: &str) -> String {
        let select = Select { filter: Regex::new(filter).ok(), ..Select::default() };
        text(&self.registry, select, HistogramBuckets::Summary).collect()
    }

    fn used(&self) -> String {
        let select = Select { used_only: true, ..Select::default() };
        text(&self.registry, select, HistogramBuckets::Summary).collect()
    }

    fn prometheus(&self) -> String {
        prometheus(&self.registry, Select::default(), HistogramBuckets::Cumulative).collect()
    }
}

/// Stats of parts of Envoy that Corvoy does not have: its c-ares resolver, its overload manager, its
/// watchdogs, and its lazily created clusters.
fn is_of_a_missing_part(line: &str) -> bool {
    let name = line.trim_start_matches("# TYPE ").trim_start_matches("envoy_");
    ["dns.cares.", "dns_cares_", "overload"].iter().any(|part| name.starts_with(part))
        || ["overload_actions", "watchdog", "clusters_inflated"]
            .iter()
            .any(|part| name.contains(part))
}

/// Compares line by line, so that a difference is readable.
fn assert_same_lines(ours: &[&str], theirs: &[&str]) {
    let extra: Vec<_> = ours.iter().filter(|line| !theirs.contains(line)).collect();
    let missing: Vec<_> = theirs.iter().filter(|line| !ours.contains(line)).collect();
    assert!(extra.is_empty() && missing.is_empty(), "extra: {extra:#?}, missing: {missing:#?}");
    for (ours, theirs) in ours.iter().zip(theirs) {
        assert_eq!(ours, theirs);
    }
}

fn names(text: &str) -> Vec<&str> {
    text.lines().filter_map(|line| line.split_once(": ")).map(|(name, _)| name).collect()
}

#[test]
fn a_fresh_server_lists_the_same_names_as_envoy_in_the_same_order() {
    let world = World::seed();
    let text = world.text();
    let envoy = names(include_str!("envoy/stats-fresh.txt"));
    let expected: Vec<_> = envoy.into_iter().filter(|name| !is_of_a_missing_part(name)).collect();
    assert_same_lines(&names(&text), &expected);
    assert!(text.ends_with("\nserver.initialization_time_ms: No recorded values\n"));
}

#[test]
fn three_requests_with_three_retries_each_give_the_recorded_lines() {
    let world = World::seed();
    let other =
        world.registry.scope::<VirtualClusterStats>("vhost.httpbin_local_service.vcluster.other.");
    let cluster = world.cluster.shard(0);
    for _request in 0..3 {
        for _retry in 0..3 {
            cluster.retry.record(500);
            cluster.upstream_rq_retry.inc();
            cluster.upstream_rq_retry_backoff_exponential.inc();
        }
        cluster.upstream_rq_retry_limit_exceeded.inc();
    }
    assert_eq!(
        world.text_of("retry"),
        "cluster.httpbin_service.circuit_breakers.default.rq_retry_open: 0\n\
         cluster.httpbin_service.circuit_breakers.high.rq_retry_open: 0\n\
         cluster.httpbin_service.retry.upstream_rq_500: 9\n\
         cluster.httpbin_service.retry.upstream_rq_5xx: 9\n\
         cluster.httpbin_service.retry.upstream_rq_completed: 9\n\
         cluster.httpbin_service.retry_or_shadow_abandoned: 0\n\
         cluster.httpbin_service.upstream_rq_retry: 9\n\
         cluster.httpbin_service.upstream_rq_retry_backoff_exponential: 9\n\
         cluster.httpbin_service.upstream_rq_retry_backoff_ratelimited: 0\n\
         cluster.httpbin_service.upstream_rq_retry_limit_exceeded: 3\n\
         cluster.httpbin_service.upstream_rq_retry_overflow: 0\n\
         cluster.httpbin_service.upstream_rq_retry_success: 0\n\
         vhost.httpbin_local_service.vcluster.other.upstream_rq_retry: 0\n\
         vhost.httpbin_local_service.vcluster.other.upstream_rq_retry_limit_exceeded: 0\n\
         vhost.httpbin_local_service.vcluster.other.upstream_rq_retry_overflow: 0\n\
         vhost.httpbin_local_service.vcluster.other.upstream_rq_retry_success: 0\n"
    );
    drop(other);
    assert!(!world.text().contains("vhost."), "gone with the virtual host");
}

#[test]
fn prometheus_families_labels_and_order_are_as_in_envoy() {
    let world = World::new(2, "foo", "ingress", "edge1");
    let vhost = |of: &str| world.registry.scope::<VirtualClusterStats>(&format!("vhost.vh.{of}."));
    let hosts = [vhost("vcluster.other"), vhost("vcluster.vc1"), vhost("route.rsp")];
    let remaining = world
        .registry
        .scope::<CircuitBreakerRemainingStats>("cluster.foo.circuit_breakers.default.");
    world.cluster.shard(0).codes.record(503);
    world.cluster.shard(1).external.record(503);
    for (host, statuses) in hosts.iter().zip([[200, 503], [200, 500], [200, 200]]) {
        statuses.iter().for_each(|status| host.shard(0).codes.record(*status));
        host.shard(1).upstream_rq_time.record(1);
    }
    let ours = world.prometheus();
    let ours: Vec<_> = ours
        .lines()
        .filter(|line| !line.contains("_bucket{"))
        .map(|line| if line.starts_with('#') { line } else { line.rsplit_once(' ').unwrap().0 })
        .collect();
    let theirs: Vec<_> = include_str!("envoy/prometheus-names.txt")
        .lines()
        .filter(|line| !is_of_a_missing_part(line))
        .collect();
    assert_same_lines(&ours, &theirs);
    drop(remaining);
}

#[test]
fn prometheus_histograms_are_cumulative_buckets_with_sum_and_count() {
    let world = World::seed();
    for value in [1; 11].into_iter().chain([2; 5]).chain([3; 3]).chain([5; 2]) {
        world.cluster.shard(0).external_upstream_rq_time.record(value);
    }
    world.registry.flush();
    let text = world.prometheus();
    let of: Vec<_> =
        text.lines().filter(|line| line.contains("external_upstream_rq_time")).collect();
    let name = "envoy_cluster_external_upstream_rq_time";
    let cluster = r#"envoy_cluster_name="httpbin_service""#;
    assert_eq!(of[0], format!("# TYPE {name} histogram"));
    assert_eq!(of[1], format!("{name}_bucket{{{cluster},le=\"0.5\"}} 0"));
    assert_eq!(of[2], format!("{name}_bucket{{{cluster},le=\"1\"}} 11"));
    assert_eq!(of[3], format!("{name}_bucket{{{cluster},le=\"5\"}} 21"));
    assert_eq!(of[20], format!("{name}_bucket{{{cluster},le=\"+Inf\"}} 21"));
    assert_eq!(of[21], format!("{name}_sum{{{cluster}}} 41.01426284743057237847096985206"));
    assert_eq!(of[22], format!("{name}_count{{{cluster}}} 21"));
}

#[test]
fn a_histogram_shows_the_last_flush_interval_and_the_total() {
    let world = World::seed();
    let line = || world.text_of("^http.ingress_http.downstream_rq_time$");
    let name = "http.ingress_http.downstream_rq_time";
    assert_eq!(line(), format!("{name}: No recorded values\n"));
    let time = &world.connection_manager.shard(0).downstream_rq_time;
    time.record(3);
    assert_eq!(line(), format!("{name}: No recorded values\n"), "no flush yet");
    world.registry.flush();
    assert!(line().starts_with(&format!("{name}: P0(3.05,3.05) P25(3.05,3.05) ")), "{}", line());
    time.record(0);
    world.registry.flush();
    assert!(
        line().starts_with(&format!("{name}: P0(0,0) P25(0,0) P50(0,0) P75(0,3.05)")),
        "{}",
        line()
    );
    world.registry.flush();
    assert!(line().starts_with(&format!("{name}: P0(nan,0) ")), "{}", line());
    assert!(line().ends_with(" P99.9(nan,3.05) P100(nan,3.05)\n"), "{}", line());
}

#[test]
fn histograms_can_be_shown_as_bins_and_buckets() {
    let world = World::seed();
    let time = &world.cluster.shard(0).upstream_rq_time;
    [0, 0, 0, 44].iter().for_each(|value| time.record(*value));
    world.registry.flush();
    world.registry.flush();
    let show = |buckets| {
        let select =
            Select { filter: Regex::new("_rq_time$").ok(), used_only: true, ..Select::default() };
        let json: String = json(&world.registry, select.clone(), buckets).collect();
        (text(&world.registry, select, buckets).collect::<String>(), json)
    };
    let (text, json) = show(HistogramBuckets::Detailed);
    assert_eq!(
        text,
        "cluster.httpbin_service.upstream_rq_time:\n  totals=0,0:3, 44,1:1\n  intervals=\n  \
         summary=P0(nan,0) P25(nan,0) P50(nan,0) P75(nan,0) P90(nan,44.5) P95(nan,44.5) \
         P99(nan,44.5) P99.5(nan,44.5) P99.9(nan,44.5) P100(nan,44.5)\n"
    );
    assert!(json.starts_with(
        r#"{"stats":[{"histograms":{"supported_percentiles":[0,25,50,75,90,95,99,99.5,99.9,100],"details":[{"name":"cluster.httpbin_service.upstream_rq_time","totals":[{"lower_bound":0,"width":0,"count":3},{"lower_bound":44,"width":1,"count":1}],"intervals":[],"percentiles":[{"cumulative":0,"interval":null},"#
    ));
    let (text, json) = show(HistogramBuckets::Disjoint);
    assert!(text.contains(": B0.5(0,3) B1(0,0) B5(0,0) B10(0,0) B25(0,0) B50(0,1) B100(0,0) "));
    assert!(text.ends_with(" B1.8e+06(0,0) B3.6e+06(0,0)\n"));
    assert!(json.contains(r#""buckets":[{"upper_bound":0.5,"interval":0,"cumulative":3},"#));
    let (text, _) = show(HistogramBuckets::Cumulative);
    assert!(text.contains(" B25(0,3) B50(0,4) "));
}

#[test]
fn json_is_one_line_that_parses_and_has_every_stat() {
    let world = World::seed();
    let json: String =
        json(&world.registry, Select::default(), HistogramBuckets::Summary).collect();
    let parsed: serde_json::Value = serde_json::from_str(&json).unwrap();
    let stats = parsed["stats"].as_array().unwrap();
    let histograms = &stats.last().unwrap()["histograms"]["computed_quantiles"];
    let count = stats.len() - 1 + histograms.as_array().unwrap().len();
    assert_eq!(count, world.text().lines().count());
    assert!(json.starts_with(
        r#"{"stats":[{"name":"cluster.httpbin_service.assignment_stale","value":0},"#
    ));
}

#[test]
fn a_filter_without_matches_gives_an_empty_response() {
    let world = World::seed();
    let select = Select { filter: Regex::new("nothing").ok(), ..Select::default() };
    let buckets = HistogramBuckets::Summary;
    assert_eq!(
        json(&world.registry, select.clone(), buckets).collect::<String>(),
        r#"{"stats":[]}"#
    );
    assert_eq!(text(&world.registry, select.clone(), buckets).count(), 0);
    assert_eq!(prometheus(&world.registry, select, buckets).count(), 0);
}

#[test]
fn only_written_stats_are_used_also_after_a_reset() {
    let world = World::seed();
    let cluster = world.cluster.shard(0);
    cluster.upstream_rq_total.inc();
    cluster.upstream_rq_active.inc();
    cluster.upstream_rq_active.dec();
    cluster.external.record(204);
    let of_cluster = |text: &str| -> Vec<String> {
        text.lines().filter(|line| line.starts_with("cluster.")).map(str::to_owned).collect()
    };
    let before = [
        "cluster.httpbin_service.external.upstream_rq_204: 1",
        "cluster.httpbin_service.external.upstream_rq_2xx: 1",
        "cluster.httpbin_service.external.upstream_rq_completed: 1",
        "cluster.httpbin_service.upstream_rq_active: 0",
        "cluster.httpbin_service.upstream_rq_total: 1",
    ];
    assert_eq!(of_cluster(&world.used()), before);
    world.registry.reset_counters();
    assert_eq!(of_cluster(&world.used()), before.map(|line| line.replace(": 1", ": 0")));
    cluster.upstream_rq_total.add(2);
    cluster.external.record(204);
    assert!(world.used().contains("upstream_rq_total: 2\n"));
    assert!(world.used().contains("external.upstream_rq_2xx: 1\n"));
}

#[test]
fn a_response_is_counted_under_its_origin_and_as_a_canary_too() {
    let world = World::new(1, "c", "h", "l");
    world.cluster.shard(0).record_response(200, Origin::External, false);
    world.cluster.shard(0).record_response(404, Origin::Internal, true);
    assert_eq!(
        world.text_of(r"^cluster\.c\..*(rq_[24]|rq_completed)"),
        "cluster.c.canary.upstream_rq_404: 1\n\
         cluster.c.canary.upstream_rq_4xx: 1\n\
         cluster.c.canary.upstream_rq_completed: 1\n\
         cluster.c.external.upstream_rq_200: 1\n\
         cluster.c.external.upstream_rq_2xx: 1\n\
         cluster.c.external.upstream_rq_completed: 1\n\
         cluster.c.internal.upstream_rq_404: 1\n\
         cluster.c.internal.upstream_rq_4xx: 1\n\
         cluster.c.internal.upstream_rq_completed: 1\n\
         cluster.c.upstream_rq_200: 1\n\
         cluster.c.upstream_rq_2xx: 1\n\
         cluster.c.upstream_rq_404: 1\n\
         cluster.c.upstream_rq_4xx: 1\n\
         cluster.c.upstream_rq_completed: 2\n"
    );
}

#[test]
fn each_worker_of_a_listener_has_its_own_stats() {
    let world = World::new(2, "c", "h", "[::1]:80");
    world.listener.0.shard(0).downstream_cx_total.add(3);
    world.listener.0.shard(1).downstream_cx_total.add(4);
    world.listener.1.shard(1).record_response(302);
    assert_eq!(
        world.text_of(r"^listener\.\[__1\]_80.*(cx_total|3xx)"),
        "listener.[__1]_80.downstream_cx_total: 7\n\
         listener.[__1]_80.http.h.downstream_rq_3xx: 1\n\
         listener.[__1]_80.worker_0.downstream_cx_total: 3\n\
         listener.[__1]_80.worker_1.downstream_cx_total: 4\n"
    );
}

#[test]
fn an_open_circuit_breaker_is_1_for_any_number_of_shards() {
    let world = World::new(3, "c", "h", "l");
    for shard in 0..3 {
        world.circuit_breakers[0].shard(shard).rq_open.set(1);
    }
    let lines = world.text_of("circuit_breakers.default.rq_open");
    assert_eq!(lines, "cluster.c.circuit_breakers.default.rq_open: 1\n");
}

#[test]
fn the_same_prefix_returns_the_same_counters() {
    let world = World::seed();
    world.cluster.shard(0).upstream_rq_total.add(5);
    let after_reload = world.registry.scope::<ClusterStats>("cluster.httpbin_service.");
    assert_eq!(after_reload.counter(|stats| &stats.upstream_rq_total), 5);
    assert!(Arc::ptr_eq(&after_reload, &world.cluster));
}

#[test]
fn lines_are_sorted_for_any_cluster_names() {
    let world = World::new(1, "b", "h", "l");
    let more: Vec<_> = ["a", "b.c", "b-c", "b_", "bb", "B"]
        .map(|name| world.registry.scope::<ClusterStats>(&format!("cluster.{name}.")))
        .into();
    let text = world.text();
    let numbers: Vec<_> = text
        .lines()
        .filter(|line| !line.ends_with("values"))
        .filter_map(|l| l.split_once(": "))
        .collect();
    assert!(numbers.is_sorted_by_key(|(name, _)| *name));
    let distinct: BTreeSet<_> = numbers.iter().map(|(name, _)| name).collect();
    assert_eq!(distinct.len(), numbers.len());
    assert!(text.contains("cluster.b.c.upstream_rq_total: 0\n"));
    drop(more);
}

#[test]
fn sums_are_monotonic_and_finally_exact_while_every_shard_writes() {
    const SHARDS: usize = 4;
    const REQUESTS: u64 = 100_000;
    let world = World::new(SHARDS, "c", "h", "l");
    let done = AtomicBool::new(false);
    let total = || world.cluster.counter(|stats| &stats.upstream_rq_total);
    thread::scope(|scope| {
        let writers: Vec<_> = (0..SHARDS)
            .map(|shard| {
                let cluster = &world.cluster;
                scope.spawn(move || {
                    let stats = cluster.shard(shard);
                    for request in 0..REQUESTS {
                        stats.upstream_rq_total.inc();
                        stats.upstream_rq_active.inc();
                        stats.upstream_rq_time.record(request % 300);
                        stats.codes.record(200 + u16::try_from(request % 12).unwrap());
                        stats.upstream_rq_active.dec();
                    }
                })
            })
            .collect();
        scope.spawn(|| {
            let mut seen = 0;
            while !done.load(Relaxed) {
                let now = total();
                assert!(now >= seen && now <= REQUESTS * SHARDS as u64);
                assert!(world.cluster.gauge(|stats| &stats.upstream_rq_active) <= SHARDS as u64);
                world.registry.flush();
                assert!(world.text().lines().count() > 200);
                seen = now;
            }
        });
        for writer in writers {
            writer.join().unwrap();
        }
        done.store(true, Relaxed);
    });
    world.registry.flush();
    let expected = REQUESTS * SHARDS as u64;
    assert_eq!(total(), expected);
    let lines = world.text_of(r"^cluster\.c\.upstream_rq_(completed|2xx|active)$");
    let of = |name: &str, value: u64| format!("cluster.c.upstream_rq_{name}: {value}\n");
    assert_eq!(lines, of("2xx", expected) + &of("active", 0) + &of("completed", expected));
    assert!(world.prometheus().contains(&format!(
        "envoy_cluster_upstream_rq_time_count{{envoy_cluster_name=\"c\"}} {expected}\n"
    )));
    drop(world.process);
}

proptest! {
    #[test]
    fn a_stat_is_the_sum_over_all_shards(
        events in prop::collection::vec((0..4usize, 0..4u8, 0..1000u64), 0..300),
    ) {
        let world = World::new(4, "c", "h", "l");
        let (mut counted, mut held, mut timed, mut answered) = (0, 0, 0, 0);
        for (shard, event, amount) in events {
            let stats = world.cluster.shard(shard);
            match event {
                0 => { stats.upstream_cx_tx_bytes_total.add(amount); counted += amount; }
                1 => { stats.upstream_cx_tx_bytes_buffered.add(amount); held += amount; }
                2 => { stats.upstream_rq_time.record(amount); timed += 1; }
                _ => { stats.codes.record(200 + u16::try_from(amount % 100).unwrap()); answered += 1; }
            }
        }
        world.registry.flush();
        let text = world.text();
        let line = |name: &str, value: u64| format!("\ncluster.c.{name}: {value}\n");
        prop_assert!(text.contains(&line("upstream_cx_tx_bytes_total", counted)));
        prop_assert!(text.contains(&line("upstream_cx_tx_bytes_buffered", held)));
        prop_assert!(text.contains(&line("upstream_rq_completed", answered)));
        let count = format!("envoy_cluster_upstream_rq_time_count{{envoy_cluster_name=\"c\"}} {timed}\n");
        prop_assert_eq!(world.prometheus().contains(&count), timed > 0);
    }
}
