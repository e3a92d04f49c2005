//! What the filters of a request note for later filters, formats, access logs and routes: dynamic metadata
//! and filter state.
//!
//! Most requests have neither, and cost nothing here.

use std::rc::Rc;

use super::Core;
use super::override_host::SessionHost;
use crate::filter_state::FilterState;
use crate::metadata::Metadata;

/// What was noted. A view of the request for a format shares it, so it is copied if it changes meanwhile.
#[derive(Clone, Debug, Default)]
pub(super) struct Noted {
    pub(super) metadata: Metadata,
    pub(super) state: FilterState,
    /// The host of its session.
    pub(super) session_host: Option<SessionHost>,
}

impl Core<'_> {
    /// What was noted, to be added to.
    pub(super) fn note(&mut self) -> &mut Noted {
        Rc::make_mut(self.noted.get_or_insert_default())
    }
}
