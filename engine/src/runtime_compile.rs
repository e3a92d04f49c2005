//! Compiles the layers of the runtime, and the limits of the overload manager.

use std::path::PathBuf;

use corvoy_config::{self as config, Path, Problems};

use crate::config_source::compile::{self as source_compile, Resource};
use crate::downstream;
use crate::downstream::compile::{HALF_CLOSE_GRACE_KEY, PREMATURE_RESET_KEYS};
use crate::resources_compile::names_are_read;
use crate::runtime::{Layer, LayerSource, Reader};

pub(crate) fn compile_runtime(
    layered: Option<&config::LayeredRuntime>,
    at: &Path,
    cluster: &str,
    problems: &mut Problems,
) -> Vec<LayerSource> {
    let mut sources = Vec::new();
    let Some(config::LayeredRuntime { layers }) = layered else { return sources };
    for (index, layer) in layers.iter().enumerate() {
        if layers.iter().take(index).any(|other| other.name == layer.name) {
            let message = format!("duplicate layer name: {}", layer.name);
            problems.error(&at.field("layers").index(index).field("name"), message);
        }
        sources.extend(source(layer, &at.field("layers").index(index), cluster, problems));
    }
    if sources.iter().filter(|it| matches!(it, LayerSource::Admin(_))).count() > 1 {
        let why = "Too many admin layers specified in LayeredRuntime, at most one may be specified";
        problems.error(&at.field("layers"), why);
    }
    sources
}

fn source(
    layer: &config::RuntimeLayer,
    at: &Path,
    cluster: &str,
    problems: &mut Problems,
) -> Option<LayerSource> {
    let config::RuntimeLayer { name, static_layer, disk_layer, admin_layer, rtds_layer } = layer;
    let name = name.clone();
    if let Some(config::DiskLayer { symlink_root, append_service_cluster, subdirectory }) =
        disk_layer
    {
        let root = PathBuf::from(symlink_root);
        let mut directory = root.join(subdirectory);
        if *append_service_cluster {
            directory.push(cluster);
        }
        return Some(LayerSource::Disk { name, root, directory });
    }
    if let Some(config::AdminLayer {}) = admin_layer {
        return Some(LayerSource::Admin(name));
    }
    if let Some(config::RtdsLayer { name: resource, rtds_config }) = rtds_layer {
        let at = at.field("rtds_layer");
        source_compile::check_name(resource, &at.field("name"), problems);
        let (schema, at) = (rtds_config.as_ref(), at.field("rtds_config"));
        if schema.is_none() {
            problems.missing(&at, "rtds_config is required");
        }
        let source = source_compile::source(schema?, &at, problems)?;
        source_compile::check_existence(&source, schema?, &at, problems)?;
        return Some(LayerSource::Delivered { name, resource: resource.clone(), source });
    }
    let none = serde_json::json!({});
    let (layer, invalid) = Layer::new(&name, static_layer.as_ref().unwrap_or(&none));
    for key in invalid {
        let why = format!("Invalid runtime entry value for {key}");
        problems.error(&at.field("static_layer"), why);
    }
    Some(LayerSource::Static(layer))
}

/// What static layers set of the keys that are read when listeners are compiled.
pub(crate) fn read_once(layered: Option<&config::LayeredRuntime>) -> Vec<(String, String)> {
    let at = Path::root();
    let sources = compile_runtime(layered, &at, "", &mut Problems::default());
    let statics = sources.iter().filter_map(|source| match source {
        LayerSource::Static(layer) => Some(layer),
        _ => None,
    });
    let is_read_once = |key: &str| {
        [GLOBAL_LIMIT_KEY, HALF_CLOSE_GRACE_KEY].contains(&key)
            || PREMATURE_RESET_KEYS.contains(&key)
            || key.starts_with("envoy.resource_limits.listener.")
    };
    let values = statics.flat_map(|layer| layer.values());
    let values = values.filter(|(key, _)| is_read_once(key));
    values.map(|(key, value)| (key.to_owned(), value.to_string())).collect()
}

/// The values of a layer that has come.
///
/// # Errors
/// They cannot be used: in words.
pub(crate) fn delivered(resource: &Resource) -> Result<serde_json::Value, String> {
    let config::Any::Runtime(schema) = resource.message()? else {
        return Err(format!("{} is not a Runtime", resource.type_name()));
    };
    let config::Runtime { name: _, layer } = &**schema;
    let values = layer.clone().unwrap_or_default();
    match Layer::new("", &values).1.first() {
        Some(key) => Err(format!("Invalid runtime entry value for {key}")),
        None => Ok(values),
    }
}

/// Warns of keys of static layers that Corvoy does not read; in Envoy they are not an error. An invalid value of a
/// key that is Corvoy's own is an error.
pub(crate) fn check_runtime_keys(
    layers: &[LayerSource],
    reader: &Reader<'_>,
    listeners: &[config::Listener],
    problems: &mut Problems,
) {
    let names = listeners.iter().map(|listener| &*listener.name);
    let are_listeners_known = names_are_read("listeners", names, problems);
    let at = Path::root().field("layered_runtime").field("layers");
    for (i, layer) in layers.iter().enumerate() {
        let LayerSource::Static(layer) = layer else { continue };
        let at = at.index(i).field("static_layer");
        for key in layer.keys() {
            if key == HALF_CLOSE_GRACE_KEY && reader.integer(key).is_none() {
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
