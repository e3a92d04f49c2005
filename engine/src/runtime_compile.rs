//! Compiles the layers of the runtime, and the limits of the overload manager.

use corvoy_config::{self as config, Path, Problems};

use crate::downstream;
use crate::downstream::compile::{HALF_CLOSE_GRACE_KEY, PREMATURE_RESET_KEYS};
use crate::resources_compile::names_are_read;
use crate::runtime::{Reader, Runtime};

pub(crate) fn compile_runtime(
    layered: Option<&config::LayeredRuntime>,
    at: &Path,
    problems: &mut Problems,
) -> Runtime {
    let mut runtime = Runtime::default();
    let Some(config::LayeredRuntime { layers }) = layered else { return runtime };
    for (index, layer) in layers.iter().enumerate() {
        let config::RuntimeLayer { name, static_layer } = layer;
        if layers.iter().take(index).any(|other| other.name == *name) {
            let message = format!("duplicate layer name: {name}");
            problems.error(&at.field("layers").index(index).field("name"), message);
        }
        for key in runtime.push(name, static_layer.as_ref().unwrap_or(&serde_json::json!({}))) {
            let at = at.field("layers").index(index).field("static_layer");
            problems.error(&at, format!("Invalid runtime entry value for {key}"));
        }
    }
    runtime
}

/// Warns of keys that Corvoy does not read; in Envoy they are not an error. An invalid value of a key
/// that is Corvoy's own is an error.
pub(crate) fn check_runtime_keys(
    runtime: &Runtime,
    reader: &Reader<'_>,
    listeners: &[config::Listener],
    problems: &mut Problems,
) {
    let names = listeners.iter().map(|listener| &*listener.name);
    let are_listeners_known = names_are_read("listeners", names, problems);
    let at = Path::root().field("layered_runtime").field("layers");
    for (layer, key) in runtime.keys() {
        let at = at.index(layer).field("static_layer");
        if key == HALF_CLOSE_GRACE_KEY && runtime.integer(key).is_none() {
            problems.error(&at, format!("'{key}' must be an integer number of milliseconds"));
        }
        let is_known = [GLOBAL_LIMIT_KEY, HALF_CLOSE_GRACE_KEY].contains(&key)
            || reader.has_read(key)
            || PREMATURE_RESET_KEYS.contains(&key)
            || listeners
                .iter()
                .any(|listener| key == downstream::compile::limit_key(&listener.name));
        if !is_known && are_listeners_known {
            problems.warn(&at, format!("'{key}' has no effect: Corvoy does not read it"));
        }
    }
}

/// The limit on downstream connections, if the overload manager sets one.
pub(crate) fn compile_overload_manager(
    manager: &config::OverloadManager,
    at: &Path,
    problems: &mut Problems,
) -> Option<u64> {
    let config::OverloadManager { resource_monitors } = manager;
    let mut max_connections = None;
    for (index, monitor) in resource_monitors.iter().enumerate() {
        let at = at.field("resource_monitors").index(index);
        let config::ResourceMonitor { name, typed_config } = monitor;
        let Some(config::Any::DownstreamConnectionsConfig(options)) = typed_config else {
            let why = format!("Corvoy supports only the resource monitor {CONNECTIONS_MONITOR}");
            problems.missing(&at.field("typed_config"), why);
            continue;
        };
        // Envoy finds resource monitors by their names.
        if name != CONNECTIONS_MONITOR {
            let why = format!("the name of this resource monitor must be {CONNECTIONS_MONITOR}");
            problems.error(&at.field("name"), why);
        }
        if max_connections.is_some() {
            problems.error(&at, format!("Duplicate resource monitor {name}"));
        }
        let config::DownstreamConnectionsConfig { max_active_downstream_connections } = **options;
        max_connections = u64::try_from(max_active_downstream_connections).ok();
    }
    max_connections
}

pub(crate) const CONNECTIONS_MONITOR: &str =
    "envoy.resource_monitors.global_downstream_max_connections";

/// The runtime key of the limit on all connections, used if no overload manager sets it.
pub(crate) const GLOBAL_LIMIT_KEY: &str = "overload.global_downstream_max_connections";
