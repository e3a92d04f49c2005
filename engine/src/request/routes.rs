//! The routes of a connection manager, which may change while it serves.
//!
//! Invariant: a request has the routes that were the newest when it began, until it ends.

use std::ops::Deref;
use std::sync::{Arc, Mutex, PoisonError};

use super::route::RouteTable;
use crate::config_source::FileSource;

/// The routes of a connection manager.
#[derive(Debug)]
pub struct Routes {
    /// Locked by the control plane, and by each shard when it gets the connection manager.
    newest: Mutex<Arc<RouteTable>>,
    /// Where they come from; none: from the listener.
    pub source: Option<RouteSource>,
}

/// `rds`
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RouteSource {
    /// `route_config_name`
    pub name: String,
    /// `config_source`
    pub file: FileSource,
}

impl Routes {
    /// Begins with this table.
    #[must_use]
    pub fn new(table: RouteTable, source: Option<RouteSource>) -> Self {
        Self { newest: Mutex::new(Arc::new(table)), source }
    }

    /// The newest table.
    #[must_use]
    pub fn newest(&self) -> Arc<RouteTable> {
        Arc::clone(&self.newest.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Shards that get the connection manager from here on begin with this table.
    pub fn replace(&self, table: Arc<RouteTable>) {
        *self.newest.lock().unwrap_or_else(PoisonError::into_inner) = table;
    }
}

/// A table on one shard. Requests count references to this: the reference count of the table itself is shared
/// with other shards.
#[derive(Debug)]
pub struct LocalRoutes(pub Arc<RouteTable>);

impl Deref for LocalRoutes {
    type Target = RouteTable;

    fn deref(&self) -> &RouteTable {
        &self.0
    }
}
