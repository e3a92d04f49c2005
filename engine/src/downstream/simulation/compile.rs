//! Compiles the configuration of a story.

use std::sync::Arc;

use corvoy_config::{Problems, Source};

use crate::compile;
use crate::snapshot::Snapshot;
use crate::stats::Registry;

/// The snapshot for `yaml`, which has no problems.
pub(super) fn snapshot(yaml: String, registry: &Registry) -> Arc<Snapshot> {
    let mut problems = Problems::default();
    let source = Source::new().merge_yaml("world.yaml", yaml);
    let loaded = corvoy_config::load(&source, &mut problems);
    let bootstrap = loaded.unwrap_or_else(|| panic!("{problems:?}")).bootstrap;
    let compiled = compile::bootstrap(&bootstrap, registry, &mut problems);
    compiled.unwrap_or_else(|| panic!("{problems:?}")).snapshot
}
