//! The layers as they change: files, management servers and the admin endpoint.
//!
//! Invariant: what could not be read is no layer, and the others count.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde_json::Value;

use super::{Layer, Runtime};
use crate::config_source::ConfigSource;

/// Where the values of a layer come from.
#[derive(Clone, Debug, PartialEq)]
pub enum LayerSource {
    /// `static_layer`
    Static(Layer),
    /// `disk_layer`
    Disk {
        /// The name of the layer.
        name: String,
        /// The values are read again when something is moved here.
        root: PathBuf,
        /// Its files are the values.
        directory: PathBuf,
    },
    /// `rtds_layer`
    Delivered {
        /// The name of the layer.
        name: String,
        /// The name of the resource.
        resource: String,
        /// Where the resource comes from.
        source: ConfigSource,
    },
    /// `admin_layer`: its name.
    Admin(String),
}

/// All layers.
#[derive(Debug, Default)]
pub struct Layers(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    sources: Vec<LayerSource>,
    /// What has come from elsewhere, by layer and resource.
    delivered: BTreeMap<(String, String), Value>,
    /// What the admin endpoint has set.
    overrides: BTreeMap<String, String>,
    runtime: Runtime,
}

/// What has become of a change, for the stats.
#[derive(Debug)]
pub struct Changed {
    /// Keys in all layers.
    pub keys: usize,
    /// Layers.
    pub layers: usize,
    /// Layers with files.
    pub disk_layers: usize,
    /// Whether the admin endpoint has set anything.
    pub has_overrides: bool,
    /// Which layers could not be read, and why.
    pub failed: Vec<String>,
}

impl Layers {
    /// The values now.
    #[must_use]
    pub fn current(&self) -> Runtime {
        self.inner().runtime.clone()
    }

    /// Where values come from.
    #[must_use]
    pub fn sources(&self) -> Vec<LayerSource> {
        self.inner().sources.clone()
    }

    /// Other sources take the place of the former ones. What they had is kept.
    pub fn configure(&self, sources: Vec<LayerSource>) -> Changed {
        let mut inner = self.inner();
        inner.sources = sources;
        inner.forget();
        inner.change()
    }

    /// What the values would be with other sources.
    #[must_use]
    pub fn preview(&self, sources: &[LayerSource]) -> Runtime {
        let inner = self.inner();
        Runtime { layers: inner.layers(sources).found, ..inner.runtime.clone() }
    }

    /// The files of layers are read again.
    pub fn read(&self) -> Changed {
        self.inner().change()
    }

    /// The values of a layer have come, with this resource.
    pub fn deliver(&self, layer: &str, resource: &str, values: Value) -> Changed {
        let mut inner = self.inner();
        inner.delivered.insert((layer.to_owned(), resource.to_owned()), values);
        inner.change()
    }

    /// Sets keys, or with an empty value removes what was set before. None: there is no layer for that.
    pub fn set<'a>(&self, values: impl Iterator<Item = (&'a str, &'a str)>) -> Option<Changed> {
        let mut inner = self.inner();
        let has_layer = inner.sources.iter().any(|it| matches!(it, LayerSource::Admin(_)));
        if !has_layer {
            return None;
        }
        for (key, value) in values {
            match value {
                "" => drop(inner.overrides.remove(key)),
                value => drop(inner.overrides.insert(key.to_owned(), value.to_owned())),
            }
        }
        Some(inner.change())
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What was found of layers.
#[derive(Default)]
struct Found {
    found: Vec<Layer>,
    failed: Vec<String>,
    disk_layers: usize,
}

impl Inner {
    /// Forgets what no source names any more.
    fn forget(&mut self) {
        let sources = &self.sources;
        self.delivered.retain(|(layer, of), _| {
            sources.iter().any(|source| match source {
                LayerSource::Delivered { name, resource, .. } => name == layer && resource == of,
                _ => false,
            })
        });
    }

    fn layers(&self, sources: &[LayerSource]) -> Found {
        let mut all = Found::default();
        let Found { found: layers, failed, disk_layers } = &mut all;
        for source in sources {
            match source {
                LayerSource::Static(layer) => layers.push(layer.clone()),
                LayerSource::Disk { directory, .. } if !directory.is_dir() => {}
                LayerSource::Disk { name, directory, .. } => match files(directory) {
                    Ok(values) => {
                        *disk_layers += 1;
                        layers.push(Layer::of_texts(name, values));
                    }
                    Err(error) => {
                        let directory = directory.display();
                        failed.push(format!("runtime layer {name}: {directory}: {error}"));
                    }
                },
                LayerSource::Delivered { name, resource, .. } => {
                    let key = (name.clone(), resource.clone());
                    let values = self.delivered.get(&key).unwrap_or(&Value::Null);
                    layers.push(Layer::new(name, values).0);
                }
                LayerSource::Admin(name) => {
                    layers.push(Layer::of_texts(name, self.overrides.clone()));
                }
            }
        }
        all
    }

    fn change(&mut self) -> Changed {
        let Found { found, failed, disk_layers } = self.layers(&self.sources);
        self.runtime.set_layers(found);
        Changed {
            keys: self.runtime.key_count(),
            layers: self.runtime.layer_count(),
            disk_layers,
            has_overrides: !self.overrides.is_empty(),
            failed,
        }
    }
}

/// How deep directories may be nested.
const DEPTH_MAX: usize = 16;

/// The files below a directory: their paths with dots, and what is in them.
fn files(directory: &Path) -> io::Result<Vec<(String, String)>> {
    let mut found = Vec::new();
    let mut open = vec![(directory.to_owned(), String::new(), 1)];
    while let Some((directory, prefix, depth)) = open.pop() {
        for entry in fs::read_dir(&directory)? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let key = format!("{prefix}{name}");
            let path = entry.path();
            let kind = fs::metadata(&path)?;
            if kind.is_file() {
                found.push((key, value(&fs::read_to_string(&path)?)));
            } else if kind.is_dir() {
                if depth == DEPTH_MAX {
                    return Err(io::Error::other(format!("{} is nested too deep", path.display())));
                }
                open.push((path, format!("{key}."), depth + 1));
            }
        }
    }
    Ok(found)
}

/// The value in a file: without lines that are comments, and without what is empty at its end.
//= envoy: a line that begins with # is a comment
fn value(text: &str) -> String {
    let lines: Vec<&str> = text.split('\n').filter(|it| !it.is_empty()).collect();
    let lines: Vec<&str> = lines.into_iter().filter(|it| !it.starts_with('#')).collect();
    lines.join("\n").trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn disk(root: &Path) -> LayerSource {
        let directory = root.join("envoy");
        LayerSource::Disk { name: "disk".to_owned(), root: root.to_owned(), directory }
    }

    #[test]
    fn a_layer_of_files_is_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let layers = Layers::default();
        let changed = layers.configure(vec![disk(folder.path())]);
        assert_eq!((changed.layers, changed.disk_layers), (0, 0), "there is no directory");
        fs::create_dir_all(folder.path().join("envoy/health")).unwrap();
        fs::write(folder.path().join("envoy/health/min"), "# so many\n5\n\n").unwrap();
        let changed = layers.read();
        assert_eq!((changed.layers, changed.disk_layers, changed.keys), (1, 1, 1));
        assert_eq!(layers.current().integer("health.min"), Some(5));
    }

    #[test]
    fn a_file_that_cannot_be_read_costs_its_layer() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("envoy")).unwrap();
        fs::write(folder.path().join("envoy/key"), b"\xFF").unwrap();
        let layers = Layers::default();
        let admin = LayerSource::Admin("admin".to_owned());
        let changed = layers.configure(vec![disk(folder.path()), admin]);
        assert_eq!((changed.layers, changed.failed.len()), (1, 1));
    }

    #[test]
    fn the_admin_endpoint_sets_and_removes_what_it_has_set() {
        let layers = Layers::default();
        assert!(layers.set([("a", "1")].into_iter()).is_none(), "there is no layer for that");
        let (fixed, _) = Layer::new("fixed", &serde_json::json!({ "a": 1, "b": 1 }));
        let fixed = LayerSource::Static(fixed);
        layers.configure(vec![fixed, LayerSource::Admin("admin".to_owned())]);
        let set = |key, value| {
            let changed = layers.set([(key, value)].into_iter()).unwrap();
            (layers.current().integer("a"), changed.has_overrides)
        };
        assert_eq!(set("a", "7"), (Some(7), true));
        assert_eq!(set("a", ""), (Some(1), false));
        assert_eq!(set("b", ""), (Some(1), false), "other layers keep what they have");
    }
}
