//! What the configuration says about stats: which are shown, their tags, their buckets, and where they are
//! sent.

use std::io::Read as _;
use std::net::{TcpListener, UdpSocket};
use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use crate::support::{Config, Origin, Proxy, wait_until};

const STATSD: &str = "\"@type\": type.googleapis.com/envoy.config.metrics.v3.StatsdSink";
const DOG_STATSD: &str = "\"@type\": type.googleapis.com/envoy.config.metrics.v3.DogStatsdSink";

#[test]
fn a_stat_that_the_matcher_rejects_is_shown_nowhere() {
    let origin = Origin::that_answers();
    let matcher = "{ inclusion_list: { patterns: [{ prefix: cluster.service.upstream_rq }, \
                   { suffix: downstream_rq_time }] } }";
    let proxy = Proxy::with(
        Config::to(&origin).bootstrap(&format!("stats_config: {{ stats_matcher: {matcher} }}")),
    );
    proxy.get("/");
    proxy.stat_becomes("cluster.service.upstream_rq_total", 1);
    let is_taken = |name: &str| {
        name.starts_with("cluster.service.upstream_rq") || name.ends_with("downstream_rq_time")
    };
    let text = proxy.admin("/stats").text();
    assert!(text.lines().all(|line| is_taken(line.split(':').next().unwrap())), "{text}");
    let prometheus = proxy.admin("/stats/prometheus").text();
    assert!(prometheus.contains("envoy_cluster_upstream_rq_total{"));
    assert!(prometheus.contains("envoy_http_downstream_rq_time_bucket{"));
    assert!(!prometheus.contains("envoy_cluster_upstream_cx"), "{prometheus}");
}

#[test]
fn everything_can_be_rejected() {
    let proxy = Proxy::with(
        Config::to_addresses(&[])
            .bootstrap("stats_config: { stats_matcher: { reject_all: true } }"),
    );
    assert_eq!(proxy.admin("/stats").text(), "");
    assert_eq!(proxy.admin("/stats/prometheus").text(), "");
}

#[test]
fn tags_of_the_configuration_are_labels() {
    let origin = Origin::that_answers();
    let tags =
        r"[{ tag_name: zone, fixed_value: eu }, { tag_name: direction, regex: '\.(upstream_)' }]";
    let config = Config::to(&origin).bootstrap(&format!("stats_config: {{ stats_tags: {tags} }}"));
    let proxy = Proxy::with(config);
    let text = proxy.admin("/stats/prometheus?filter=cluster.service.upstream_cx_total").text();
    assert_eq!(
        text,
        "# TYPE envoy_cluster_cx_total counter\n\
         envoy_cluster_cx_total{zone=\"eu\",direction=\"upstream_\",envoy_cluster_name=\"service\"} 0\n"
    );
}

#[test]
fn without_default_tags_names_are_whole() {
    let config = Config::to_addresses(&[]).bootstrap(
        "stats_config: { use_all_default_tags: false, stats_tags: [{ tag_name: envoy.listener_address }] }",
    );
    let proxy = Proxy::with(config);
    let shown = |filter: &str| {
        let text = proxy.admin(&format!("/stats/prometheus?filter={filter}")).text();
        text.lines().nth(1).unwrap().to_owned()
    };
    assert_eq!(shown("service.upstream_cx_total"), "envoy_cluster_service_upstream_cx_total{} 0");
    let listener = shown("^listener.127.*[^.]\\.downstream_cx_total");
    assert!(
        listener
            .starts_with("envoy_listener_downstream_cx_total{envoy_listener_address=\"127.0.0.1_"),
        "{listener}"
    );
}

#[test]
fn a_histogram_has_the_buckets_of_the_first_setting_that_matches() {
    let settings = "[{ match: { suffix: upstream_rq_time }, buckets: [2, 0.5, 3600000] }]";
    let origin = Origin::that_answers();
    let config = Config::to(&origin)
        .bootstrap(&format!("stats_config: {{ histogram_bucket_settings: {settings} }}"))
        .bootstrap("stats_flush_interval: 0.05s");
    let proxy = Proxy::with(config);
    proxy.get("/");
    let bounds = |filter: &str| -> Vec<String> {
        let text = proxy.admin(&format!("/stats/prometheus?filter={filter}")).text();
        let bound = |line: &str| Some(line.split_once("le=\"")?.1.split_once('"')?.0.to_owned());
        text.lines().filter_map(bound).collect()
    };
    wait_until("a value", || !bounds("service.upstream_rq_time").is_empty());
    assert_eq!(bounds("service.upstream_rq_time"), ["0.5", "2", "3600000", "+Inf"]);
    assert_eq!(bounds("front.downstream_rq_time").len(), 20);
}

/// Receives datagrams until the text is in one.
fn datagram_with(socket: &UdpSocket, text: &str) -> String {
    socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let mut buffer = [0; 65_536];
    loop {
        let bytes = socket.recv(&mut buffer).unwrap();
        let received = String::from_utf8_lossy(&buffer[..bytes]).into_owned();
        if received.contains(text) {
            return received;
        }
    }
}

#[test]
fn statsd_gets_what_was_added_since_the_last_flush() {
    let origin = Origin::that_answers();
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = socket.local_addr().unwrap().port();
    let sink = format!(
        "stats_sinks: [{{ name: statsd, typed_config: {{ {STATSD}, address: {{ socket_address: \
         {{ address: 127.0.0.1, port_value: {port} }} }} }} }}]"
    );
    let config = Config::to(&origin).bootstrap(&sink).bootstrap("stats_flush_interval: 0.05s");
    let proxy = Proxy::with(config);
    proxy.get("/");
    let name = "envoy.cluster.service.upstream_rq_total";
    assert_eq!(datagram_with(&socket, &format!("{name}:1")), format!("{name}:1|c"));
    assert_eq!(datagram_with(&socket, &format!("{name}:0")), format!("{name}:0|c"));
    let live = datagram_with(&socket, "envoy.server.live:");
    assert_eq!(live, "envoy.server.live:1|g");
    proxy.get("/");
    let time = datagram_with(&socket, "envoy.http.front.downstream_rq_time:");
    assert!(time.ends_with("|ms"), "{time}");
}

#[test]
fn dog_statsd_gets_tags_and_full_datagrams() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("dogstatsd");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let sink = format!(
        "stats_sinks: [{{ name: dog, typed_config: {{ {DOG_STATSD}, prefix: mine, \
         max_bytes_per_datagram: 1000, address: {{ pipe: {{ path: {path:?} }} }} }} }}]"
    );
    let origin = Origin::that_answers();
    let config = Config::to(&origin).bootstrap(&sink).bootstrap("stats_flush_interval: 0.05s");
    let proxy = Proxy::with(config);
    proxy.get("/");
    let wanted = "mine.cluster.upstream_rq:1|c|#envoy.response_code:200,envoy.cluster_name:service";
    let mut longest = 0;
    wait_until("the counter", || {
        let mut buffer = [0; 65_536];
        let bytes = socket.recv(&mut buffer).unwrap();
        longest = longest.max(bytes);
        assert!(bytes <= 1000, "{bytes}");
        String::from_utf8_lossy(&buffer[..bytes]).lines().any(|line| line == wanted)
    });
    assert!(longest > 500, "datagrams are filled: {longest}");
}

#[test]
fn statsd_over_tcp_goes_to_a_cluster() {
    let statsd = TcpListener::bind("127.0.0.1:0").unwrap();
    let sink = format!(
        "stats_sinks: [{{ name: statsd, typed_config: {{ {STATSD}, tcp_cluster_name: service }} }}]"
    );
    let config = Config::to_addresses(&[statsd.local_addr().unwrap()])
        .bootstrap(&sink)
        .bootstrap("stats_flush_interval: 0.05s");
    let _proxy = Proxy::with(config);
    let (mut stream, _) = statsd.accept().unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let mut received = String::new();
    let mut buffer = [0; 4096];
    while !received.contains("envoy.server.live:1|g\n") {
        let bytes = stream.read(&mut buffer).unwrap();
        assert!(bytes > 0, "{received}");
        received.push_str(&String::from_utf8_lossy(&buffer[..bytes]));
    }
}

#[test]
fn stats_can_be_flushed_when_they_are_asked_for() {
    let origin = Origin::that_answers();
    let proxy = Proxy::with(Config::to(&origin).bootstrap("stats_flush_on_admin: true"));
    proxy.get("/");
    proxy.stat_becomes("cluster.service.upstream_rq_total", 1);
    // With the default interval it would take five seconds, and the next request would still show it.
    let first = proxy.admin("/stats?filter=front.downstream_rq_time").text();
    assert!(first.contains("P100("), "{first}");
    let second = proxy.admin("/stats?filter=front.downstream_rq_time").text();
    assert!(second.contains("P100(nan,"), "the interval has ended: {second}");
}
