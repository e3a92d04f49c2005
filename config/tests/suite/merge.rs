//! Several texts, several formats.

use std::fs;

use corvoy_config::{Path, Problems, Source, load, render};

const FILE: &str = "\
node: { id: file, cluster: edge }
static_resources:
  clusters:
  - name: a
    connect_timeout: 1s
";

fn merged(over: &str) -> Source {
    Source::new().merge_yaml("file.yaml", FILE).merge_yaml("--config-yaml", over)
}

#[test]
fn yaml_on_the_command_line_extends_lists_and_replaces_values() {
    let over =
        "node: { id: flag }\nstatic_resources: { clusters: [ { name: b, connect_timeout: 2s } ] }";
    let bootstrap = load(&merged(over), &mut Problems::default()).unwrap().bootstrap;
    let node = bootstrap.node.unwrap();
    assert_eq!((node.id.as_str(), node.cluster.as_str()), ("flag", "edge"));
    let clusters = bootstrap.static_resources.unwrap().clusters;
    let names: Vec<_> = clusters.iter().map(|cluster| cluster.name.as_str()).collect();
    assert_eq!(names, ["a", "b"]);
}

#[test]
fn an_error_points_into_its_text() {
    let over = "static_resources:\n  clusters:\n  - { name: b, connect_timeout: -1s }\n";
    let source = merged(over);
    let mut problems = Problems::default();
    load(&source, &mut problems);
    assert!(problems.has_errors());
    let rendered = render(&problems, &source);
    assert!(rendered.contains("--config-yaml:3:33"), "{rendered}");
    assert!(rendered.contains("at static_resources.clusters[1].connect_timeout"), "{rendered}");
}

#[test]
fn problems_of_the_compiled_structs_are_added_by_path() {
    let source = merged("static_resources: { clusters: [ { name: b, lb_policy: MAGLEV } ] }");
    let mut problems = Problems::default();
    assert!(load(&source, &mut problems).is_some());
    let clusters = Path::root().field("static_resources").field("clusters");
    problems.error(&clusters.index(1).field("lb_policy"), "MAGLEV is not implemented");
    problems.warn(&clusters.index(0).field("connect_timeout"), "a second is long");
    problems.error(&clusters.index(0).field("load_assignment"), "a cluster needs endpoints");
    insta::assert_snapshot!(render(&problems, &source));
}

/// Its lists start at 0, so the positions of its errors do not apply to the merged configuration.
#[test]
fn a_text_with_errors_that_is_merged_over_others_is_not_compiled() {
    let source = merged("static_resources: { clusters: [ { nam: b } ] }");
    let mut problems = Problems::default();
    assert!(load(&source, &mut problems).is_none());
    let rendered = render(&problems, &source);
    let last =
        "note: not checked because of these errors: the values of the rest of the configuration";
    assert_eq!(rendered.lines().last(), Some(last), "{rendered}");
}

#[test]
fn the_extension_of_a_file_determines_its_format() {
    let folder = std::env::temp_dir().join(format!("corvoy-config-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    let id = |name: &str, text: &[u8]| {
        let path = folder.join(name);
        fs::write(&path, text).unwrap();
        let mut problems = Problems::default();
        let source = Source::file(&path).unwrap();
        let loaded = load(&source, &mut problems);
        loaded
            .filter(|_| !problems.has_errors())
            .map(|loaded| loaded.bootstrap.node.unwrap().id)
            .ok_or_else(|| render(&problems, &source))
    };
    // Field 1 of Bootstrap is the node, field 1 of the node its id.
    assert_eq!(id("a.pb", b"\x0a\x03\x0a\x01x").as_deref(), Ok("x"));
    assert!(id("b.pb", b"\x0a\xff").is_err());
    assert_eq!(id("a.pb_text", b"node { id: \"x\" }").as_deref(), Ok("x"));
    assert!(id("b.pb_text", b"node { ident: \"x\" }").is_err());
    assert_eq!(id("a.YAML", b"node: {id: x}").as_deref(), Ok("x"));
    assert_eq!(id("a.yml", b"node: {id: x}").as_deref(), Ok("x"));
    assert_eq!(id("a.json", b"{\t\"node\": {\"id\": \"x\"}}").as_deref(), Ok("x"));
    // Envoy accepts these as well.
    assert_eq!(id("b.json", b"{node: {'id': 'x',},}").as_deref(), Ok("x"));
    assert_eq!(id("c", br#"{"node": {"id": "on"}}"#).as_deref(), Ok("on"));
    assert!(id("d.json", b"node: {id: x}").unwrap_err().contains("name a YAML file .yaml or .yml"));
    assert!(id("e.json", br#"{"node": {"id": 5}}"#).unwrap_err().contains("write \"5\""));
    for bytes in [&b"node: {id: x}\n# \xff\n"[..], b"\xef\xbb\xbfnode: {id: x}\n# \xff"] {
        let refused = id("f.yaml", bytes).unwrap_err();
        assert!(refused.contains("error: the text is not UTF-8"), "{refused}");
        assert!(refused.contains("f.yaml:2:3"), "{refused}");
    }
    fs::remove_dir_all(&folder).unwrap();
}
