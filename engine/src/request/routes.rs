//! The routes of a connection manager, which may change while it serves.
//!
//! Invariant: a request has the routes that were the newest when it began, until it ends.

use std::ops::Deref;
use std::sync::{Arc, Mutex, PoisonError};

use super::route::RouteTable;
use crate::config_source::ConfigSource;

/// The routes of a connection manager.
#[derive(Debug)]
pub struct Routes {
    /// Locked by the control plane, and by each shard when it gets the connection manager.
    newest: Mutex<Arc<RouteTable>>,
    /// Those that are about to be the newest; none: there are none. For the control plane only.
    accepted: Mutex<Option<Arc<RouteTable>>>,
    /// Where they come from; none: from the listener.
    pub source: Option<RouteSource>,
}

/// `rds`
#[derive(Clone, Debug, PartialEq)]
pub struct RouteSource {
    /// `route_config_name`
    pub name: String,
    /// `config_source`
    pub origin: ConfigSource,
}

impl Routes {
    /// Begins with this table.
    #[must_use]
    pub fn new(table: RouteTable, source: Option<RouteSource>) -> Self {
        Self { newest: Mutex::new(Arc::new(table)), accepted: Mutex::default(), source }
    }

    /// The newest table.
    #[must_use]
    pub fn newest(&self) -> Arc<RouteTable> {
        Arc::clone(&self.newest.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// This table is about to be the newest.
    pub fn accept(&self, table: Arc<RouteTable>) {
        *self.accepted.lock().unwrap_or_else(PoisonError::into_inner) = Some(table);
    }

    /// The table that is about to be the newest, or is.
    #[must_use]
    pub fn accepted(&self) -> Arc<RouteTable> {
        let accepted = self.accepted.lock().unwrap_or_else(PoisonError::into_inner).clone();
        accepted.unwrap_or_else(|| self.newest())
    }

    /// Shards that get the connection manager from here on begin with this table.
    pub fn replace(&self, table: Arc<RouteTable>) {
        let mut accepted = self.accepted.lock().unwrap_or_else(PoisonError::into_inner);
        drop(accepted.take_if(|accepted| Arc::ptr_eq(accepted, &table)));
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
