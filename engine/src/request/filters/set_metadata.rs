//! `set_metadata`: notes fixed values as dynamic metadata.

use serde_json::{Map, Value};

use super::{Context, Flow};

/// The filter.
#[derive(Debug)]
pub struct SetMetadata {
    pub(super) entries: Box<[Entry]>,
}

/// Values for one namespace.
#[derive(Debug)]
pub struct Entry {
    pub(super) namespace: Box<str>,
    pub(super) values: Map<String, Value>,
    /// What happens if there is something in the namespace already.
    pub(super) existing: Existing,
}

/// What happens with a namespace that is not empty.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Existing {
    /// It stays as it is.
    Kept,
    /// `allow_overwrite`: the values are merged into it.
    Merged,
}

impl SetMetadata {
    pub(super) fn request_head(&self, cx: &mut Context<'_, '_>) -> Flow {
        for Entry { namespace, values, existing } in &self.entries {
            let metadata = &mut cx.core.note().metadata;
            if *existing == Existing::Merged || !metadata.has(namespace) {
                metadata.merge(namespace, values);
            }
        }
        Flow::Continue
    }
}
