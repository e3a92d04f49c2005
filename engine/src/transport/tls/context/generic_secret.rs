//! Secrets that are just bytes.

use std::fmt;

use super::latest::{Listed, Owner};
use crate::stats::Registry;

/// A password, a key or a token.
pub struct GenericSecret(Box<[u8]>);

impl GenericSecret {
    /// One of these bytes.
    #[must_use]
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(bytes.into())
    }

    /// Its bytes.
    #[must_use]
    pub const fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Nothing of it is shown.
impl fmt::Debug for GenericSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("GenericSecret")
    }
}

/// It is no certificate: there is nothing to list.
impl Listed for GenericSecret {
    const FACTORY: &'static str = "";

    fn list(&self, _owner: &Owner, _registry: &Registry) {}
}
