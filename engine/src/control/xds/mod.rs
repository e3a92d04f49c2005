//! Resources from management servers, over gRPC (xDS).
//!
//! A [`Client`] has one stream for all resources of origin ADS, and one for each subscription to another server.
//! The state of a stream is pure ([`sotw`], [`delta`]); the [`mux`] decides what becomes of responses; the [`driver`]
//! connects and carries messages, for ever.
//!
//! Invariant: as long as no server can be reached, everything goes on with the resources that are there.

mod compile;
mod delta;
mod driver;
mod messages;
mod mux;
mod sotw;
mod ttl;

use std::cell::OnceCell;
use std::rc::Rc;
use std::sync::Arc;

use serde_json::Value;
use tokio::task::AbortHandle;

use self::compile::Decoder;
use self::mux::Mux;
use super::resources::{Interest, Subscriber, Unanswered};
use super::server::Running;
use crate::config_source::{ConfigSource, GrpcSource, Origin};
use crate::node::Node;
use crate::stats::Registry;

/// All management servers.
pub(super) struct Client {
    identity: Identity,
    /// Made when there is a server.
    common: OnceCell<Option<Common>>,
    running: Arc<Running>,
    registry: Arc<Registry>,
    ads: Option<Rc<Mux>>,
}

/// What servers are told about this proxy.
#[derive(Debug)]
pub(super) struct Identity {
    /// `node` of the bootstrap; null if it has none.
    pub(super) configured: Value,
    /// Its names, which flags may have changed.
    pub(super) node: Node,
    /// The version of this program.
    pub(super) version: String,
}

/// What all servers have in common.
struct Common {
    /// The encoded node.
    node: Rc<[u8]>,
    decoder: Rc<Decoder>,
}

/// A server, and the task that talks to it.
struct Stream {
    mux: Rc<Mux>,
    task: AbortHandle,
}

impl Identity {
    /// The encoded node; none: the descriptors in this binary are broken.
    pub(super) fn encoded(&self) -> Option<Vec<u8>> {
        Some(Decoder::new()?.node(&self.configured, &self.node, &self.version))
    }
}

/// A subscription, until it is dropped.
pub(super) struct Handle {
    mux: Rc<Mux>,
    url: String,
    id: u64,
    /// The stream that it has for itself.
    own: Option<AbortHandle>,
}

impl Client {
    /// Connects to the server of ADS, if there is one.
    pub(super) fn new(
        ads: Option<GrpcSource>,
        identity: Identity,
        running: &Arc<Running>,
        registry: &Arc<Registry>,
    ) -> Self {
        let mut client = Self {
            identity,
            common: OnceCell::new(),
            running: Arc::clone(running),
            registry: Arc::clone(registry),
            ads: None,
        };
        let service = driver::Service::Aggregated;
        let ads = ads.and_then(|source| client.open(source, "control_plane.", service));
        client.ads = ads.map(|stream| stream.mux);
        client
    }

    /// None: the descriptors in this binary are broken.
    fn common(&self) -> Option<&Common> {
        let common = self.common.get_or_init(|| {
            let Identity { configured, node, version } = &self.identity;
            let decoder = Decoder::new()?;
            let node = decoder.node(configured, node, version).into();
            Some(Common { node, decoder: Rc::new(decoder) })
        });
        common.as_ref()
    }

    fn open(&self, source: GrpcSource, prefix: &str, service: driver::Service) -> Option<Stream> {
        let Common { node, decoder } = self.common()?;
        let (node, decoder) = (Rc::clone(node), Rc::clone(decoder));
        let stats = self.registry.scope(prefix);
        let mux = Mux::new(source, node, &self.running, stats, decoder);
        let task = tokio::task::spawn_local(driver::run(Rc::clone(&mux), service)).abort_handle();
        Some(Stream { mux, task })
    }

    /// Subscribes to resources that do not come from a file. None: that is not possible, as the log says.
    pub(super) fn subscribe(
        &self,
        interest: Interest,
        source: &ConfigSource,
        subscriber: Rc<dyn Subscriber>,
        unanswered: Unanswered,
    ) -> Option<Handle> {
        let (mux, own) = match &source.origin {
            Origin::Grpc(server) => {
                let prefix = format!("{}control_plane.", interest.prefix);
                let service = driver::Service::of(interest.kind)?;
                let Stream { mux, task } = self.open(server.clone(), &prefix, service)?;
                (mux, Some(task))
            }
            Origin::Ads => {
                let Some(ads) = &self.ads else {
                    let what = interest.what;
                    tracing::error!(target: "config", "{what}: there is no dynamic_resources.ads_config, so nothing comes over ADS");
                    subscriber.nothing_came();
                    return None;
                };
                (Rc::clone(ads), None)
            }
            Origin::File(_) => return None,
        };
        let timeout = source.initial_fetch_timeout;
        let (url, id) = mux.subscribe(interest, timeout, subscriber, unanswered);
        Some(Handle { mux, url, id, own })
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.mux.unsubscribe(&self.url, self.id);
        if let Some(task) = &self.own {
            task.abort();
        }
    }
}
