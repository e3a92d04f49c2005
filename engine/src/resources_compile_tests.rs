//! One configuration after the other.

use corvoy_config::Source;

use super::*;
use crate::compile::{Compiled, Compiler};

/// A configuration with these clusters, and a listener with a route to each name in `routes`.
fn yaml(clusters: &[(&str, &str)], routes: &[&str]) -> String {
    let clusters: String = clusters
        .iter()
        .map(|(name, timeout)| format!("  - {{ name: {name}, connect_timeout: {timeout} }}\n"))
        .collect();
    let routes: Vec<String> = routes
        .iter()
        .map(|name| format!("{{ match: {{ prefix: /{name} }}, route: {{ cluster: {name} }} }}"))
        .collect();
    let routes = routes.join(", ");
    format!(
        "static_resources:
  clusters:
{clusters}
  listeners:
  - name: front
    address: {{ socket_address: {{ address: 127.0.0.1, port_value: 0 }} }}
    filter_chains:
    - filters:
      - name: http
        typed_config:
          \"@type\": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: front
          route_config:
            virtual_hosts: [{{ name: all, domains: [\"*\"], routes: [{routes}] }}]
          http_filters:
          - name: router
            typed_config: {{ \"@type\": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router }}
"
    )
}

struct Story {
    compiler: Compiler,
    registry: Registry,
}

impl Story {
    fn new() -> Self {
        Self { compiler: Compiler::default(), registry: Registry::new(1) }
    }

    /// The errors, or what is in force then.
    fn compile(&self, yaml: &str) -> Result<Compiled, Vec<String>> {
        let mut problems = Problems::default();
        let source = Source::new().merge_yaml("story.yaml", yaml);
        let loaded = config::load(&source, &mut problems).unwrap();
        let compiled = self.compiler.compile(&loaded.bootstrap, &self.registry, &mut problems);
        let problem = |it: &config::Problem| format!("{}: {}", it.path, it.message);
        compiled.ok_or_else(|| problems.errors().map(problem).collect())
    }

    fn put_into_force(&self, yaml: &str) -> Arc<crate::snapshot::Snapshot> {
        let Compiled { snapshot, in_force, .. } = self.compile(yaml).unwrap();
        for change in &snapshot.routes {
            change.service.routes.replace(Arc::clone(&change.table));
        }
        self.compiler.commit(in_force);
        snapshot
    }
}

fn numbers(snapshot: &crate::snapshot::Snapshot) -> Vec<(&str, usize)> {
    snapshot.clusters.iter().map(|it| (it.name.as_str(), it.number.index())).collect()
}

#[test]
fn what_is_the_same_is_not_compiled_again() {
    let story = Story::new();
    let before = story.put_into_force(&yaml(&[("a", "1s"), ("b", "1s")], &["a"]));
    let after = story.put_into_force(&yaml(&[("c", "1s"), ("b", "2s"), ("a", "1s")], &["a"]));
    assert!(Arc::ptr_eq(&before.listeners[0], &after.listeners[0]));
    assert!(Arc::ptr_eq(&before.clusters[0], &after.clusters[2]));
    assert!(!Arc::ptr_eq(&before.clusters[1], &after.clusters[1]));
    assert_eq!(numbers(&before), [("a", 0), ("b", 1)]);
    assert_eq!(numbers(&after), [("c", 2), ("b", 1), ("a", 0)]);
    assert!(Arc::ptr_eq(&before.clusters[1].stats, &after.clusters[1].stats));
}

#[test]
fn a_listener_that_stays_needs_its_clusters() {
    let story = Story::new();
    story.put_into_force(&yaml(&[("a", "1s"), ("b", "1s")], &["a"]));
    let errors = story.compile(&yaml(&[("b", "1s")], &["a"])).unwrap_err();
    assert_eq!(errors.len(), 1, "{errors:?}");
    assert!(errors[0].contains("unknown cluster 'a'"), "{errors:?}");
    // The configuration in force is still known.
    let before = story.put_into_force(&yaml(&[("a", "1s"), ("b", "1s")], &["a"]));
    let after = story.put_into_force(&yaml(&[("a", "1s")], &["a"]));
    assert!(Arc::ptr_eq(&before.listeners[0], &after.listeners[0]));
}

#[test]
fn the_number_of_a_cluster_is_given_out_again_when_no_listener_has_it() {
    let story = Story::new();
    let first = story.put_into_force(&yaml(&[("a", "1s"), ("b", "1s")], &["a", "b"]));
    let second = story.put_into_force(&yaml(&[("b", "1s")], &["b"]));
    // The connections of the first listener still drain.
    let third = story.put_into_force(&yaml(&[("b", "1s"), ("c", "1s")], &["b", "c"]));
    assert_eq!(numbers(&third), [("b", 1), ("c", 2)]);
    drop((first, second));
    story.put_into_force(&yaml(&[("b", "1s")], &["b"]));
    let fourth = story.put_into_force(&yaml(&[("b", "1s"), ("d", "1s")], &["b", "d"]));
    assert_eq!(numbers(&fourth), [("b", 1), ("d", 0)]);
}

#[test]
fn duplicate_clusters_are_an_error() {
    let errors = Story::new().compile(&yaml(&[("a", "1s"), ("a", "2s")], &["a"])).unwrap_err();
    assert_eq!(
        errors,
        ["static_resources.clusters[1].name: cluster manager: duplicate cluster 'a'"]
    );
}
