//! Follows what runtime values come from while the process runs: files, and resources of type `Runtime`.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::io;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;

use tokio::sync::{Notify, oneshot};
use tokio::task::AbortHandle;

use super::resources::{Handle, Interest, Sources, Subscriber, Wanted};
use super::subscription::Counts;
use crate::config_source::MoveTarget;
use crate::config_source::compile::Response;
use crate::runtime::{Changed, LayerSource, Layers};
use crate::runtime_compile::delivered;
use crate::stats::{Registry, RuntimeStats, Scope};

/// What follows them.
pub(super) struct RuntimeSources {
    values: Rc<Values>,
    registry: Arc<Registry>,
    sources: Rc<Sources>,
    following: RefCell<Following>,
}

/// The values, and the stats that count changes of them.
#[derive(Clone, Debug)]
pub(super) struct Values {
    pub(super) layers: Arc<Layers>,
    pub(super) stats: Arc<Scope<RuntimeStats>>,
}

#[derive(Default)]
struct Following {
    /// What is followed.
    sources: Vec<LayerSource>,
    subscriptions: Vec<Handle>,
    files: Vec<AbortHandle>,
}

impl Drop for Following {
    fn drop(&mut self) {
        self.files.iter().for_each(AbortHandle::abort);
    }
}

/// The values of one layer.
struct Delivery {
    layer: String,
    resource: String,
    values: Rc<Values>,
}

impl Values {
    /// Counts a change.
    pub(super) fn count(&self, changed: Changed) {
        let Changed { keys, layers, disk_layers, has_overrides, failed } = changed;
        let stats = self.stats.control();
        //= envoy: runtime.override_dir_exists, which counts loads with a second layer of files
        if disk_layers > 1 {
            stats.override_dir_exists.inc();
        } else {
            stats.override_dir_not_exists.inc();
        }
        if failed.is_empty() {
            stats.load_success.inc();
        } else {
            stats.load_error.inc();
        }
        for why in failed {
            tracing::error!(target: "config", "{why}");
        }
        stats.num_keys.set(keys as u64);
        stats.num_layers.set(layers as u64);
        // As in Envoy, it is not used before there is one.
        if has_overrides || stats.admin_overrides_active.value() > 0 {
            stats.admin_overrides_active.set(has_overrides.into());
        }
    }
}

impl RuntimeSources {
    pub(super) fn new(values: Values, registry: &Arc<Registry>, sources: &Rc<Sources>) -> Self {
        Self {
            values: Rc::new(values),
            registry: Arc::clone(registry),
            sources: Rc::clone(sources),
            following: RefCell::default(),
        }
    }

    /// Follows the sources of the values. The receiver completes, with an error, when those that are new are there
    /// or are not waited for any longer.
    ///
    /// # Errors
    /// The system has no more inotify instances.
    pub(super) fn follow(&self) -> io::Result<oneshot::Receiver<()>> {
        let (followed, answered) = self.sources.first_answers(|| {
            let sources = self.values.layers.sources();
            if self.following.borrow().sources == sources {
                return Ok(());
            }
            drop(self.following.take());
            let mut following = Following::default();
            for source in &sources {
                self.follow_one(source, &mut following)?;
            }
            following.sources = sources;
            self.following.replace(following);
            Ok::<_, io::Error>(())
        });
        followed.map(|()| answered)
    }

    fn follow_one(&self, source: &LayerSource, following: &mut Following) -> io::Result<()> {
        match source {
            LayerSource::Static(_) | LayerSource::Admin(_) => {}
            LayerSource::Disk { root, .. } => following.files.push(self.watch(root.clone())?),
            LayerSource::Delivered { name, resource, source } => {
                let prefix = "runtime.".to_owned();
                let interest = Interest {
                    kind: "envoy.service.runtime.v3.Runtime",
                    wanted: Wanted::Names(BTreeSet::from([resource.clone()])),
                    what: format!("runtime layer {name}"),
                    counts: Counts::Own(self.registry.scope(&prefix)),
                    prefix,
                };
                let delivery = Delivery {
                    layer: name.clone(),
                    resource: resource.clone(),
                    values: Rc::clone(&self.values),
                };
                let handle = self.sources.subscribe(interest, source, Rc::new(delivery))?;
                following.subscriptions.push(handle);
            }
        }
        Ok(())
    }

    /// Reads files again when something is moved to their root.
    fn watch(&self, root: PathBuf) -> io::Result<AbortHandle> {
        let moved = Rc::new(Notify::new());
        let watcher = self.sources.watchers().watcher()?;
        let watch = watcher.watch(&MoveTarget::File(root), &moved);
        let values = Rc::clone(&self.values);
        let follow = async move {
            let _watch = watch;
            loop {
                moved.notified().await;
                values.count(values.layers.read());
            }
        };
        Ok(tokio::task::spawn_local(follow).abort_handle())
    }
}

impl Subscriber for Delivery {
    fn replace(&self, response: Response) -> Result<(), String> {
        let Self { layer, resource: name, values } = self;
        //= envoy: the details of a rejected update
        let [resource] = response.resources.as_slice() else {
            return Err(format!("Unexpected RTDS resource length: {}", response.resources.len()));
        };
        if resource.name() != name {
            let found = resource.name();
            return Err(format!("Unexpected RTDS runtime (expecting {name}): {found}"));
        }
        values.count(values.layers.deliver(layer, name, delivered(resource)?));
        Ok(())
    }

    fn change(&self, response: Response, removed: &[String]) -> Result<(), String> {
        if response.resources.is_empty() {
            //= envoy: a layer that is removed is empty
            if removed.contains(&self.resource) {
                let none = serde_json::Value::Null;
                self.values.count(self.values.layers.deliver(&self.layer, &self.resource, none));
            }
            return Ok(());
        }
        self.replace(response)
    }
}
