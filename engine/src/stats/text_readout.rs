//! A text among the stats: the version of a configuration, the name of a management server.

use std::sync::{Arc, Mutex, PoisonError};

/// A text; empty before it is set. For the control plane: no shard has one.
#[derive(Debug, Default)]
pub struct TextReadout(Mutex<Option<Arc<str>>>);

impl TextReadout {
    /// Sets it.
    pub fn set(&self, text: &str) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(text.into());
    }

    /// What it was set to.
    pub(super) fn get(&self) -> Option<Arc<str>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
