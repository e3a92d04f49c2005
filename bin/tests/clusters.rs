//! Clusters: unreachable hosts, load balancing, and hosts that DNS resolves.

use std::net::{Ipv4Addr, SocketAddr};

use crate::support::{Config, Origin, Proxy, Refusing};

#[test]
fn a_cluster_without_hosts_is_a_503() {
    let proxy = Proxy::with(Config::to_addresses(&[]));
    let mut client = proxy.connect();
    let response = client.get("/");
    assert_eq!((response.status(), response.text().as_str()), (503, "no healthy upstream"));
    client.stays_open();
    assert_eq!(proxy.stat("cluster.service.upstream_cx_none_healthy"), 1);
}

#[test]
fn a_host_that_refuses_connections_is_a_503() {
    let refusing = Refusing::new();
    let proxy = Proxy::with(Config::to_addresses(&[refusing.address()]));
    let mut client = proxy.connect();
    let response = client.get("/");
    assert_eq!(response.status(), 503);
    assert_eq!(
        response.text(),
        "upstream connect error or disconnect/reset before headers. reset reason: remote \
         connection failure"
    );
    client.stays_open();
    assert_eq!(proxy.stat("cluster.service.upstream_cx_connect_fail"), 1);
}

#[test]
fn a_connect_timeout_is_a_503() {
    // 192.0.2.0/24 is reserved for documentation: nothing answers there, and without a route to it
    // the failure is a different one.
    let nowhere = SocketAddr::from((Ipv4Addr::new(192, 0, 2, 77), 9));
    let config = Config::to_addresses(&[nowhere]).cluster("connect_timeout: 0.2s");
    let response = Proxy::with(config).get("/");
    assert_eq!(response.status(), 503);
    let reason = response.text();
    let (_, reason) = reason.split_once("reset reason: ").unwrap();
    assert!(["connection timeout", "remote connection failure"].contains(&reason), "{reason}");
}

#[test]
fn an_origin_that_closes_before_its_answer_is_a_503() {
    for origin in [Origin::that_closes_before_answering(), Origin::that_resets()] {
        let proxy = Proxy::with(Config::to(&origin));
        let mut client = proxy.connect();
        let response = client.get("/");
        assert_eq!(response.status(), 503);
        assert_eq!(
            response.text(),
            "upstream connect error or disconnect/reset before headers. reset reason: connection \
             termination"
        );
        client.stays_open();
        assert_eq!(origin.seen().len(), 1);
    }
}

#[test]
fn hosts_are_used_round_robin() {
    let origins = [Origin::that_answers(), Origin::that_answers(), Origin::that_answers()];
    let addresses: Vec<SocketAddr> = origins.iter().map(Origin::address).collect();
    let proxy = Proxy::with(Config::to_addresses(&addresses));
    let mut client = proxy.connect();
    for _ in 0..9 {
        assert_eq!(client.get("/").status(), 200);
    }
    for origin in &origins {
        assert_eq!(origin.seen().len(), 3);
    }
}

/// A cluster whose policy is one of `load_balancing_policies`.
fn with_policy(config: Config, name: &str, options: &str) -> Config {
    let unknown = "{ typed_extension_config: { name: unknown, typed_config: { \"@type\": \
                   type.googleapis.com/my.own.Policy } } }";
    let package = name.to_lowercase();
    let known = format!(
        "{{ typed_extension_config: {{ name: known, typed_config: {{ \"@type\": \
         type.googleapis.com/envoy.extensions.load_balancing_policies.{package}.v3.{name}, {options} }} }} }}"
    );
    config.cluster(&format!("load_balancing_policy: {{ policies: [{unknown}, {known}] }}"))
}

#[test]
fn the_first_known_policy_counts() {
    let origins = [Origin::that_answers(), Origin::that_answers()];
    let addresses = origins.each_ref().map(Origin::address);
    let policies = [("Random", ""), ("Maglev", "table_size: 11"), ("LeastRequest", "")];
    for (name, options) in policies {
        let config = with_policy(Config::to_addresses(&addresses), name, options);
        let config = Config::verbatim(config.yaml().replace("leastrequest.v3", "least_request.v3"));
        let proxy = Proxy::with(config);
        for _ in 0..40 {
            assert_eq!(proxy.get("/").status(), 200);
        }
    }
    // Without a hash every host is as good as another.
    assert!(origins.iter().all(|origin| origin.seen().len() > 30));
}

#[test]
fn a_host_may_have_so_many_connections() {
    let (one, two) = (Origin::that_stalls(), Origin::that_stalls());
    let limit = "circuit_breakers: { per_host_thresholds: [{ max_connections: 1 }] }";
    let config = Config::to_addresses(&[one.address(), two.address()]).cluster(limit);
    let proxy = Proxy::with(config);
    let mut clients: Vec<_> = (0..6).map(|_| proxy.connect()).collect();
    clients.iter_mut().for_each(|client| _ = client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n"));
    proxy.stat_becomes("cluster.service.upstream_rq_pending_active", 4);
    assert_eq!(proxy.stat("cluster.service.upstream_cx_active"), 2);
    assert!(proxy.stat("cluster.service.upstream_cx_overflow") >= 4);
}

#[test]
fn answers_are_counted_by_zone_if_both_zones_have_a_name() {
    let zoned = |config: Config, zone: &str| {
        let there = format!("- locality: {{ zone: {zone} }}\n        lb_endpoints:");
        let yaml = config.yaml().replace("- lb_endpoints:", &there);
        Config::verbatim(yaml + "node: { locality: { zone: here } }\n")
    };
    let origin = Origin::that_answers();
    let proxy = Proxy::with(zoned(Config::to(&origin), "there"));
    proxy.get("/");
    let zone = "cluster.service.zone.here.there";
    proxy.stat_becomes(&format!("{zone}.upstream_rq_200"), 1);
    let text = proxy.admin("/stats?filter=zone%5C.here&type=Counters").text();
    let lines = ["upstream_rq_200", "upstream_rq_2xx", "upstream_rq_completed"];
    assert_eq!(text, lines.map(|name| format!("{zone}.{name}: 1\n")).concat());

    let proxy = Proxy::with(zoned(Config::to_addresses(&[Refusing::new().address()]), "there"));
    assert_eq!(proxy.get("/").status(), 503);
    proxy.stat_becomes(&format!("{zone}.upstream_rq_503"), 1);

    let proxy = Proxy::with(zoned(Config::to(&origin), "\"\""));
    proxy.get("/");
    proxy.stat_becomes("cluster.service.upstream_rq_200", 1);
    assert_eq!(proxy.admin("/stats?filter=zone%5C.here").text(), "");
}

#[test]
fn a_name_is_resolved_for_every_kind_of_dns_cluster() {
    for kind in ["STRICT_DNS", "LOGICAL_DNS"] {
        let origin = Origin::that_answers();
        let proxy = Proxy::with(dns(kind, "localhost", &origin));
        assert_eq!(proxy.get("/").status(), 200, "{kind}");
        assert_eq!(origin.saw().header("host").as_deref(), Some("localhost"));
        assert_eq!(proxy.stat("cluster.service.membership_total"), 1);
    }
}

#[test]
fn a_name_that_does_not_resolve_is_reported_and_the_proxy_runs() {
    let origin = Origin::that_answers();
    let proxy = Proxy::with(dns("STRICT_DNS", "no-such-host.invalid", &origin));
    let response = proxy.get("/");
    assert_eq!((response.status(), response.text().as_str()), (503, "no healthy upstream"));
    assert_eq!(proxy.stat("cluster.service.membership_total"), 0);
}

/// One cluster whose only host is a name, requested under that name.
fn dns(kind: &str, name: &str, origin: &Origin) -> Config {
    let yaml = Config::to(origin).route("auto_host_rewrite: true").yaml();
    let yaml =
        yaml.replace("type: STATIC", &format!("type: {kind}\n    dns_lookup_family: V4_ONLY"));
    let literal = format!("address: 127.0.0.1, port_value: {}", origin.port());
    let named = format!("address: {name}, port_value: {}", origin.port());
    assert!(yaml.contains(&literal), "{yaml}");
    Config::verbatim(yaml.replace(&literal, &named))
}

#[test]
fn idle_connections_to_a_host_are_probed() {
    let origin = Origin::that_answers();
    let probes = "upstream_connection_options: { tcp_keepalive: { keepalive_time: 300 } }";
    let proxy = Proxy::with(Config::to(&origin).cluster(probes));
    proxy.get("/");
    // Local and remote address, state, queues, timer: 02 is the one for probes.
    let host = format!("0100007F:{:04X}", origin.port());
    let connections = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let to_host = |fields: &Vec<&str>| fields[2] == host && fields[3] == "01";
    let mut connections =
        connections.lines().map(|line| line.split_ascii_whitespace().collect::<Vec<_>>());
    let timer = connections.find(to_host).expect("a connection to the origin")[5];
    assert!(timer.starts_with("02:"), "{timer}");
}

/// A cluster with these hosts in zones `here` and `there`, and proxies in the same two zones.
fn by_zone(here: &[SocketAddr], there: &[SocketAddr], options: &str) -> Config {
    let zone = |zone: &str, addresses: &[SocketAddr]| {
        let endpoint = |address: &SocketAddr| {
            format!(
                "{{ endpoint: {{ address: {{ socket_address: {{ address: {}, port_value: {} }} }} }} }}",
                address.ip(),
                address.port()
            )
        };
        let endpoints: Vec<String> = addresses.iter().map(endpoint).collect();
        format!("{{ locality: {{ zone: {zone} }}, lb_endpoints: [{}] }}", endpoints.join(", "))
    };
    let of = |name: &str, here: &[SocketAddr], there: &[SocketAddr]| {
        let (here, there) = (zone("here", here), zone("there", there));
        format!("load_assignment: {{ cluster_name: {name}, endpoints: [{here}, {there}] }}")
    };
    let proxies = [SocketAddr::from(([127, 0, 0, 1], 1)), SocketAddr::from(([127, 0, 0, 1], 2))];
    let config = Config::to_addresses(&[]).cluster(options);
    let yaml = config.yaml();
    let at = yaml.find("load_assignment:").unwrap();
    let end = yaml[at..].find("\n  - name").map_or(yaml.len(), |end| at + end);
    let yaml = format!(
        "{}{}\n  - {{ name: proxies, connect_timeout: 1s, {} }}{}",
        &yaml[..at],
        of("service", here, there),
        of("proxies", &proxies[..1], &proxies[1..]),
        &yaml[end..],
    );
    Config::verbatim(
        yaml + "\nnode: { locality: { zone: here } }\ncluster_manager: { local_cluster_name: proxies }\n",
    )
}

#[test]
fn requests_stay_in_the_zone_of_the_proxy_as_far_as_it_can_take_them() {
    let (here, there) = (Origin::that_answers(), Origin::that_answers());
    let options = "common_lb_config: { zone_aware_lb_config: { min_cluster_size: 2 } }";
    let proxy = Proxy::with(by_zone(&[here.address()], &[there.address()], options));
    for _ in 0..20 {
        assert_eq!(proxy.get("/").status(), 200);
    }
    assert_eq!((here.seen().len(), there.seen().len()), (20, 0));
    assert_eq!(proxy.stat("cluster.service.lb_zone_routing_all_directly"), 20);

    let more = [Origin::that_answers(), Origin::that_answers(), Origin::that_answers()];
    let there = more.each_ref().map(Origin::address);
    let proxy = Proxy::with(by_zone(&[here.address()], &there, options));
    for _ in 0..200 {
        assert_eq!(proxy.get("/").status(), 200);
    }
    // Half of the proxies and a quarter of the hosts are here: half of the requests stay.
    let stayed = proxy.stat("cluster.service.lb_zone_routing_sampled");
    assert!((60..140).contains(&stayed), "{stayed}");
    assert_eq!(proxy.stat("cluster.service.lb_zone_routing_cross_zone"), 200 - stayed);

    let proxy = Proxy::with(by_zone(&[here.address()], &there, "lb_policy: ROUND_ROBIN"));
    for _ in 0..40 {
        assert_eq!(proxy.get("/").status(), 200);
    }
    assert_eq!(proxy.stat("cluster.service.lb_zone_routing_sampled"), 0);
    assert!(proxy.stat("cluster.service.lb_zone_cluster_too_small") > 0, "six hosts are needed");
}
