//! YAML as Envoy 1.40 reads it. Every result here was checked with Envoy's `--mode validate`, in a
//! cluster or a route with the same field.

use std::time::Duration;

use corvoy_config::{
    Bootstrap, Cluster, DataSource, DnsLookupFamily, LbPolicy, Message, Node, Problems,
    RetryPolicy, RouteConfiguration, Source, load_as, render, render_lines,
};

fn read<M: Message>(text: &str) -> Result<M, String> {
    let source = Source::new().merge_yaml("test", text);
    let mut problems = Problems::default();
    load_as(&source, &mut problems).ok_or_else(|| render(&problems, &source))
}

/// A cluster with one more line.
fn cluster(line: &str) -> Result<Cluster, String> {
    read(&format!("name: c\nconnect_timeout: 1s\n{line}\n"))
}

fn refused(line: &str, why: &str) {
    match cluster(line) {
        Ok(_) => panic!("`{line}` was accepted"),
        Err(rendered) => assert!(rendered.contains(why), "`{line}`:\n{rendered}"),
    }
}

#[test]
fn booleans_are_yaml_1_1_and_may_have_quotes() {
    for yes in ["true", "TRUE", "y", "yes", "Yes", "on", "\"true\"", "\"TRUE\"", "\"yes\"", "tRue"]
    {
        let cluster = cluster(&format!("respect_dns_ttl: {yes}")).unwrap();
        assert!(cluster.respect_dns_ttl, "{yes}");
    }
    for no in ["false", "off", "no", "~", ""] {
        let cluster = cluster(&format!("respect_dns_ttl: {no}")).unwrap();
        assert!(!cluster.respect_dns_ttl, "{no}");
    }
    refused("respect_dns_ttl: 1", "expected `true` or `false`, not `1`");
    refused("respect_dns_ttl: maybe", "expected `true` or `false`, not `maybe`");
}

#[test]
fn numbers_may_be_octal_hexadecimal_quoted_or_whole_fractions() {
    for (text, number) in [
        ("010", 8),
        ("\"010\"", 10),
        ("08", 8),
        ("0x10", 16),
        ("\"0x10\"", 16),
        ("+5", 5),
        ("\"10\"", 10),
        ("3.0", 3),
        ("1e3", 1000),
        ("\"1e3\"", 1000),
        ("{value: 5}", 5),
    ] {
        let cluster = cluster(&format!("per_connection_buffer_limit_bytes: {text}")).unwrap();
        assert_eq!(cluster.per_connection_buffer_limit_bytes, Some(number), "{text}");
    }
    assert_eq!(cluster("per_connection_buffer_limit_bytes: ~").unwrap(), cluster("").unwrap());
    for (text, why) in [
        ("1_000", "write it without `_`"),
        ("1.5", "expected an integer, not `1.5`"),
        ("-1", "-1 is negative for this field"),
        ("4294967296", "4294967296 is too large for this field"),
        ("true", "expected an integer, not `true`"),
        ("\" 5\"", "expected an integer"),
        ("\"\"", "expected an integer"),
        ("[5]", "expected an integer, not a list"),
    ] {
        refused(&format!("per_connection_buffer_limit_bytes: {text}"), why);
    }
}

#[test]
fn strings_need_quotes_where_yaml_1_1_sees_a_boolean_or_an_integer() {
    for (text, name) in [
        ("1.20", "1.20"),
        ("1e3", "1e3"),
        (".inf", ".inf"),
        ("1_0", "1_0"),
        ("yES", "yES"),
        ("2001-01-01", "2001-01-01"),
        ("99999999999999999999", "99999999999999999999"),
        ("9007199254740993", "9007199254740993"),
        ("\"on\"", "on"),
        ("'010'", "010"),
        ("|\n  5", "5\n"),
        ("~", ""),
        ("!foo x", "x"),
    ] {
        let cluster = cluster(&format!("alt_stat_name: {text}"));
        assert_eq!(cluster.map(|cluster| cluster.alt_stat_name).as_deref(), Ok(name), "{text}");
    }
    for text in ["on", "True", "y", "010", "+5", "0x1f", "5", "!!str 5"] {
        refused(&format!("alt_stat_name: {text}"), "without quotes is a");
    }
    refused("alt_stat_name: [a]", "expected a string, not a list");
    refused("alt_stat_name: {a: b}", "expected a string, not a map");
}

#[test]
fn enum_values_may_be_lower_case_or_numbers() {
    for text in ["LEAST_REQUEST", "least_request", "Least_Request", "1", "'1'"] {
        let cluster = cluster(&format!("lb_policy: {text}")).unwrap();
        assert_eq!(cluster.lb_policy, LbPolicy::LeastRequest, "{text}");
    }
    assert_eq!(cluster("lb_policy:").unwrap().lb_policy, LbPolicy::RoundRobin);
    let family = cluster("dnsLookupFamily: v4_only").unwrap().dns_lookup_family;
    assert_eq!(family, DnsLookupFamily::V4Only);
    refused("lb_policy: least-request", "did you mean `LEAST_REQUEST`?");
    refused("lb_policy: true", "`true` is not a value of LbPolicy");
    refused("lb_policy: 1.0", "`1` is not a value of LbPolicy");
    refused("lb_policy: 99", "99 is not a value of LbPolicy");
}

#[test]
fn durations_have_a_unit() {
    let timeout = |text: &str| cluster(&format!("dns_jitter: {text}")).map(|c| c.dns_jitter);
    assert_eq!(timeout("1.5s"), Ok(Some(Duration::from_millis(1500))));
    assert_eq!(timeout("0.000000001s"), Ok(Some(Duration::from_nanos(1))));
    assert_eq!(timeout("{seconds: 2, nanos: 5}"), Ok(Some(Duration::new(2, 5))));
    for text in ["1", ".5s", "1ms", "1S", "' 1s'", "1.s", "1.1234567891s", "1e3s", "+1s"] {
        refused(&format!("dns_jitter: {text}"), "expected a duration, not");
    }
    refused("dns_jitter: -1s", "error: dns_jitter must be at least 0s, not -1s");
    refused("dns_jitter: 10000000000s", "error: dns_jitter cannot be longer than 292 years");
}

#[test]
fn one_value_is_a_list_of_one() {
    let codes = |text: &str| {
        let policy = read::<RetryPolicy>(&format!("retriable_status_codes: {text}"));
        policy.map(|policy| policy.retriable_status_codes)
    };
    assert_eq!(codes("503"), Ok(vec![503]));
    assert_eq!(codes("[502, [503, [504]]]"), Ok(vec![502, 503, 504]));
    assert_eq!(codes("~"), Ok(vec![]));
    let hosts = read::<RouteConfiguration>("virtual_hosts: {name: v, domains: \"*\"}").unwrap();
    assert_eq!(hosts.virtual_hosts[0].domains, ["*"]);
}

#[test]
fn a_message_is_a_map() {
    refused("load_assignment: x", "ClusterLoadAssignment must be a map, not a string");
    refused(
        "load_assignment: [{cluster_name: c}]",
        "ClusterLoadAssignment must be a map, not a list",
    );
    refused("load_assignment: \"\"", "ClusterLoadAssignment must be a map, not a string");
    refused("typed_extension_protocol_options: []", "must be a map, not a list");
    assert_eq!(cluster("load_assignment:").unwrap().load_assignment, None);
}

#[test]
fn the_last_value_of_a_duplicate_key_is_used() {
    assert_eq!(read::<Node>("id: a\nid: b\n").unwrap().id, "b");
    assert!(read::<Node>("id: a\nid: 5\n").is_err());
    assert_eq!(read::<Node>("id: 5\nid: b\n").unwrap().id, "b");
    // The last value replaces the first; they are not merged.
    let node = read::<Node>("locality: {zone: z}\nlocality: {region: r}\n").unwrap();
    assert_eq!(node.locality.unwrap().zone, "");
}

/// The problems of a file with this name and text.
fn rendered(name: &str, text: &str) -> String {
    let folder = std::env::temp_dir().join(format!("corvoy-quirks-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let path = folder.join(name);
    std::fs::write(&path, text).unwrap();
    let source = Source::file(&path).unwrap();
    let mut problems = Problems::default();
    let _read = load_as::<Bootstrap>(&source, &mut problems);
    render(&problems, &source).replace(folder.to_str().unwrap(), "")
}

#[test]
fn a_duplicate_key_is_a_warning_with_all_its_positions() {
    let text = "\
node: { id: a, cluster: b }
admin: {}
static_resources:
  clusters:
  - name: c
    connect_timeout: 1s
    lb_policy: ROUND_ROBIN
    metadata: &meta { filter_metadata: { a.b: { k: v, \"k\": w } } }
    lb_policy: RANDOM
  - { name: d, connect_timeout: 1s, metadata: *meta }
admin: {}
admin: {}
";
    insta::assert_snapshot!(rendered("duplicate.yaml", text));
}

#[test]
fn a_duplicate_key_in_json_is_an_error() {
    insta::assert_snapshot!(rendered(
        "duplicate.json",
        r#"{"node": {"id": "a"}, "node": {"id": "b"}}"#
    ));
}

#[test]
fn warnings_can_be_turned_into_errors() {
    let source = Source::new().merge_yaml("test", "id: a\nid: b\n---\nid: c\n");
    let mut problems = Problems::default();
    assert!(load_as::<Node>(&source, &mut problems).is_some());
    assert_eq!((problems.errors().count(), problems.warnings().count()), (0, 2));
    problems.deny_warnings();
    assert_eq!((problems.errors().count(), problems.warnings().count()), (2, 0));
    let rendered = render(&problems, &source);
    assert!(rendered.contains("error: `id` is set twice"), "{rendered}");
    assert!(rendered.contains("test:2:1") && rendered.contains("test:1:1"), "{rendered}");
}

#[test]
fn the_error_about_a_tab_names_it() {
    for text in [
        "node:\n\tid: a\n",
        "node:\n  id: a\n\tcluster: b\n",
        "node:\n  id: a # é\n \tcluster: b\n",
        "static_resources:\n  clusters:\n  -\tname: a\n",
        "node:\n  id: |\n    a\n\tb\n",
    ] {
        let refused = read::<Bootstrap>(text).unwrap_err();
        assert!(refused.contains("indented with a tab"), "{text:?}\n{refused}");
    }
    assert!(!read::<Bootstrap>("x: :\n").unwrap_err().contains("tab"));
    assert!(read::<Bootstrap>("node: {\n\tid: a\n}\n").is_ok());
}

#[test]
fn the_file_of_another_proxy_is_recognized() {
    let nginx = "# site\nuser www-data;\nhttp {\n  server { listen 80; }\n}\n";
    let haproxy = "global\n  maxconn 100\nfrontend www\n  bind :80\n";
    let all = [("nginx.conf", nginx), ("site.yaml", nginx), ("haproxy.cfg", haproxy)];
    insta::assert_snapshot!(all.map(|(name, text)| rendered(name, text)).join("\n"));
}

#[test]
fn only_the_first_document_is_read() {
    assert_eq!(read::<Node>("id: a\n---\n[\n").unwrap().id, "a");
    assert_eq!(read::<Node>("%YAML 1.1\n---\nid: a\n").unwrap().id, "a");
    assert_eq!(read::<Node>("\u{feff}id: a\r\ncluster: b\r\n").unwrap().cluster, "b");
}

#[test]
fn text_after_the_configuration_is_never_silently_ignored() {
    for text in ["  id: a\ncluster: b\n", "{id: a}\n{cluster: b}\n", "{id: a} x\n", "id: a\n- b\n"]
    {
        let refused = read::<Node>(text).unwrap_err();
        assert!(refused.starts_with("error: "), "{text:?}\n{refused}");
    }
    let mut problems = Problems::default();
    let source = Source::new().merge_yaml("test", "id: a\n---\nid: b\n");
    assert!(load_as::<Node>(&source, &mut problems).is_some());
    let warned = render(&problems, &source);
    assert!(warned.contains("only the first YAML document is read"), "{warned}");
    assert!(warned.contains("--> test:2:1"), "{warned}");
    for text in ["id: a\n---\n", "id: a\n...\n", "---\nid: a\n# end\n"] {
        let mut problems = Problems::default();
        let source = Source::new().merge_yaml("test", text);
        assert!(load_as::<Node>(&source, &mut problems).is_some());
        assert!(problems.is_empty(), "{}", render(&problems, &source));
    }
}

#[test]
fn the_warning_about_a_second_document_shows_where_it_starts() {
    for (text, line) in [
        ("id: a\n---\nid: b\n---\nid: c\n", 2),
        (" # a\n\n%YAML 1.1\n---\nid: a\n--- {id: b}\n", 6),
        ("--- {id: a}\n# b\n---\nid: b\n", 3),
        ("id: ---a\ncluster: |\n ---\n...\n---\nid: b\n", 5),
        ("id: a\r\n---\r\nid: b\r\n", 2),
    ] {
        let mut problems = Problems::default();
        let source = Source::new().merge_yaml("test", text);
        assert!(load_as::<Node>(&source, &mut problems).is_some(), "{text}");
        let lines = render_lines(&problems, &source);
        let start = format!("test:{line}:1: only the first YAML document is read");
        assert!(lines.len() == 1 && lines[0].1.starts_with(&start), "{text}\n{lines:?}");
    }
}

#[test]
fn a_text_without_a_map_is_not_a_configuration() {
    for text in ["", "~\n", "# x\n", "---\n", "---\n---\nid: a\n"] {
        assert!(read::<Node>(text).unwrap_err().contains("the configuration is empty"), "{text:?}");
    }
    assert!(read::<Node>("hello").unwrap_err().contains("must be a map, not a string"));
    assert!(read::<Node>("- id: a").unwrap_err().contains("must be a map, not a list"));
    assert!(read::<Node>("{}").is_ok());
}

#[test]
fn any_needs_a_type_that_envoy_has() {
    let options = |any: &str| format!("typed_extension_protocol_options: {{a: {any}}}");
    let url = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";
    let explicit = "explicit_http_config: {http_protocol_options: {}}";
    for prefix in ["type.googleapis.com", "example.com"] {
        let any = format!("{{\"@type\": {prefix}/{url}, {explicit}}}");
        assert!(cluster(&options(&any)).is_ok(), "{prefix}");
    }
    refused(&options("{x: 1}"), "`@type` is missing");
    refused(&options("{}"), "`@type` is missing");
    refused(&options(&format!("{{\"@type\": {url}, {explicit}}}")), "is not a type URL");
    refused(&options(&format!("{{\"@type\": /{url}, {explicit}}}")), "is not a type URL");
    // The second is Envoy's, but not in the proto files that we have.
    for unknown in ["b.C", "xds.type.matcher.v3.Int64RangeMatcher"] {
        let any = format!("{{\"@type\": type.googleapis.com/{unknown}}}");
        refused(&options(&any), &format!("unknown type `{unknown}`"));
    }
    for lacking in [
        "envoy.extensions.filters.http.gcp_authn.v3.Audience",
        "envoy.extensions.filters.http.geoip.v3.Geoip",
    ] {
        let any = format!("{{\"@type\": type.googleapis.com/{lacking}}}");
        refused(&options(&any), "is an extension of Envoy that Corvoy does not implement");
    }
}

#[test]
fn options_may_be_in_a_typed_struct() {
    let options = |any: &str| format!("typed_extension_protocol_options: {{a: {any}}}");
    let url = "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions";
    let explicit = "{explicit_http_config: {http_protocol_options: {}}}";
    for kind in ["xds.type.v3.TypedStruct", "udpa.type.v1.TypedStruct"] {
        let any =
            |fields: &str| options(&format!("{{\"@type\": type.googleapis.com/{kind}, {fields}}}"));
        let read = cluster(&any(&format!("type_url: {url}, value: {explicit}"))).unwrap();
        assert_eq!(
            read,
            cluster(&options(&format!("{{\"@type\": {url}, {}", &explicit[1..]))).unwrap()
        );
        let unknown = "{explicit_http_config: {http_protocol_options: {nonsense: 1}}}";
        refused(&any(&format!("type_url: {url}, value: {unknown}")), "nonsense");
        refused(&any(&format!("type_url: {url}, value: 1")), "`value` cannot be");
        refused(&any("value: {}"), "`type_url` is missing");
        refused(&any("type_url: type.googleapis.com/a.B, value: {}"), "unknown type `a.B`");
        refused(&any(&format!("type_url: {url}, other: 1")), "only the fields");
    }
}

#[test]
fn at_most_one_member_of_a_oneof_is_set() {
    refused("type: STATIC\ncluster_type: {name: a}", "exclude each other");
    assert!(cluster("type: STATIC\ncluster_type:").is_ok());
}

/// Envoy uses either value, not the same one at each start.
#[test]
fn a_field_has_one_spelling_at_a_time() {
    refused("altStatName: a\nalt_stat_name: b", "is set twice, in two spellings");
    refused("cluster_type: {name: a}\nclusterType: {name: a}", "is set twice, in two spellings");
    assert_eq!(cluster("altStatName: a\nalt_stat_name: ~").unwrap().alt_stat_name, "a");
}

#[test]
fn a_missing_feature_is_called_by_its_usual_name() {
    let socket = |name: &str| {
        let url = format!("type.googleapis.com/envoy.extensions.transport_sockets.{name}");
        format!("transport_socket: {{name: s, typed_config: {{\"@type\": {url}}}}}")
    };
    for (line, word) in [
        (socket("starttls.v3.UpstreamStartTlsConfig"), "TLS"),
        (
            "health_checks: [{timeout: 1s, interval: 1s, healthy_threshold: 1, \
             unhealthy_threshold: 1, custom_health_check: {name: a}}]"
                .to_owned(),
            "health checking",
        ),
        ("eds_cluster_config: {eds_config: {self: {}}}".to_owned(), "xDS"),
    ] {
        refused(&line, &format!("error: {word} is not implemented yet: `"));
        refused(&line, "help: docs/COMPATIBILITY.md");
    }
    let tap = "virtual_hosts: [{name: a, domains: [\"*\"], typed_per_filter_config: {tap: \
               {\"@type\": type.googleapis.com/envoy.extensions.filters.http.tap.v3.Tap}}}]";
    let tap = read::<RouteConfiguration>(tap).unwrap_err();
    assert!(
        tap.contains("tap is not implemented yet: `envoy.extensions.filters.http.tap"),
        "{tap}"
    );
}

#[test]
fn a_missing_type_points_at_its_typed_config() {
    let filter = |config: &str| {
        let text = format!(
            "static_resources:\n  listeners:\n  - name: l\n    filter_chains:\n    - filters:\n      \
             - name: f\n        typed_config:{config}\n"
        );
        read::<Bootstrap>(&text).unwrap_err()
    };
    for config in ["\n          stat_prefix: a", " {stat_prefix: a}", " {}", ""] {
        let refused = filter(config);
        assert!(refused.contains("test:7:9"), "{refused}");
    }
}

#[test]
fn an_unsupported_field_may_be_empty_if_that_has_no_effect() {
    assert!(cluster("upstream_connection_options: {}").is_ok());
    let local =
        "upstream_connection_options: {set_local_interface_name_on_upstream_connections: true}";
    refused(local, "Corvoy does not implement");
    let bootstrap = |text: &str| read::<Bootstrap>(text).map(drop);
    assert_eq!(bootstrap("dynamic_resources: {}\ncluster_manager: {}\nstats_config: {}"), Ok(()));
    assert!(bootstrap("cluster_manager: {enable_deferred_cluster_creation: true}").is_err());
}

#[test]
fn null_in_a_list_is_an_empty_element() {
    let host =
        read::<RouteConfiguration>("virtual_hosts: [{name: a, domains: [\"*\", ~]}]").unwrap();
    assert_eq!(host.virtual_hosts[0].domains, ["*", ""]);
    let nameless = read::<RouteConfiguration>("virtual_hosts: [~]").unwrap_err();
    assert!(nameless.contains("virtual_hosts[0].name"), "{nameless}");
}

#[test]
fn bytes_are_base64_with_or_without_padding() {
    let bytes = |text: &str| {
        read::<DataSource>(&format!("inline_bytes: \"{text}\"")).map(|source| source.inline_bytes)
    };
    for text in ["aGk=", "aGk"] {
        assert_eq!(bytes(text), Ok(Some(b"hi".to_vec())), "{text}");
    }
    assert_eq!(bytes("__-_"), bytes("//+/"));
    for text in ["a", "aGk==", "a Gk", "=aGk"] {
        assert!(bytes(text).unwrap_err().contains("expected bytes in Base64"), "{text}");
    }
}

#[test]
fn fractions_may_have_white_space_around_them() {
    for text in ["33", "\" 33\"", "\"33.0\\t\""] {
        let cluster =
            cluster(&format!("common_lb_config: {{healthy_panic_threshold: {{value: {text}}}}}"));
        let rules = cluster.unwrap().common_lb_config.unwrap();
        assert_eq!(rules.healthy_panic_threshold.unwrap().value.to_string(), "33", "{text}");
    }
}

#[test]
fn free_values_keep_the_types_that_envoy_gives_them() {
    let node = read::<Node>("metadata: {a: 010, b: yes, c: 1.20, d: [1, ~, \"yes\"], e: {f: g}}");
    let expected = serde_json::json!({
        "a": 8, "b": true, "c": "1.20", "d": [1, null, "yes"], "e": {"f": "g"}
    });
    assert_eq!(node.unwrap().metadata, Some(expected));
}

#[test]
fn yaml_bombs_are_rejected_quickly() {
    let deep = "[".repeat(100_000);
    assert!(read::<Node>(&deep).unwrap_err().contains("nested deeper than 128"));
    let mut laughs = String::from("metadata:\n  a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n");
    for i in 1..10 {
        let item = format!("*a{}", i - 1);
        laughs.push_str(&format!("  a{i}: &a{i} [{}]\n", vec![item; 10].join(",")));
    }
    assert!(read::<Node>(&laughs).unwrap_err().contains("expand to too many values"));
}
