//! What the last configuration that was accepted was compiled to, so that the next one compiles only what
//! is different.
//!
//! Invariant: what is found here was compiled from the same text and the same files as it would be now.

use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use crate::compile::Bootstrap;
use crate::downstream::Listener;
use crate::downstream::connection_limit::ConnectionLimit;
use crate::dynamic_compile::Dynamic;
use crate::fingerprint::Fingerprint;
use crate::node::Node;
use crate::upstream::Cluster;

/// What is in force.
#[derive(Debug, Default)]
pub struct InForce {
    pub(crate) listeners: HashMap<Fingerprint, Arc<Listener>>,
    pub(crate) clusters: HashMap<Fingerprint, Arc<Cluster>>,
    /// The fields that count when the process starts only.
    pub(crate) fixed: HashMap<&'static str, Fingerprint>,
    /// The dynamic resources.
    pub(crate) dynamic: Dynamic,
    /// The identity of the proxy, which is what it was at the start.
    pub(crate) node: Node,
    /// The limits on all connections that the overload manager and the runtime set.
    pub(crate) limits: [Option<Arc<ConnectionLimit>>; 2],
    /// What is compiled again when dynamic resources change.
    pub(crate) bootstrap: Option<Rc<Bootstrap>>,
}
