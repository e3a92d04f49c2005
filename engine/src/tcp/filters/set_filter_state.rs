//! `set_filter_state`: sets filter state of a connection from format strings.

use std::sync::Arc;
use std::time::SystemTime;

use super::{Subject, Verdict};
use crate::address::Address;
use crate::format::{Formatter, Inputs, StreamInfo, Unset};
use crate::listener_facts::ListenerFacts;
use crate::metadata::{ListenerInfo, Metadata, MetadataOf};
use crate::tcp::filter_state::Object;
use crate::transport::tls::facts::TlsFacts;

/// The filter.
#[derive(Debug, Default)]
pub struct SetFilterState {
    /// Set when the connection begins.
    pub on_new_connection: Vec<Value>,
    /// Set when the first data is received.
    pub on_data: Vec<Value>,
    /// The listener and the filter chain.
    pub info: Arc<ListenerInfo>,
}

/// One value.
#[derive(Debug)]
pub struct Value {
    /// The object to set.
    pub object: Object,
    /// The text that it is set from.
    pub format: Formatter,
    /// What is written for a command without a value.
    pub unset: Unset,
    /// Whether an empty text is set.
    pub empty: Empty,
}

/// Whether an empty text is set.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Empty {
    /// It is set.
    Set,
    /// `skip_if_empty`
    Skip,
}

impl SetFilterState {
    pub(super) fn on_new_connection(&self, subject: &mut Subject) -> Verdict {
        self.set(&self.on_new_connection, subject)
    }

    pub(super) const fn has_values_on_data(&self) -> bool {
        !self.on_data.is_empty()
    }

    pub(super) fn on_data(&self, subject: &mut Subject) -> Verdict {
        self.set(&self.on_data, subject)
    }

    fn set(&self, values: &[Value], subject: &mut Subject) -> Verdict {
        for value in values {
            let mut text = Vec::new();
            let info = Info { subject, cluster: None, listener: &self.info };
            value.format.format(&Inputs::new(&info), value.unset, &mut text);
            if text.is_empty() && value.empty == Empty::Skip {
                continue;
            }
            subject.state.set(value.object, &String::from_utf8_lossy(&text));
        }
        Verdict::Continue
    }
}

/// What the commands of a format string can read of a connection.
#[derive(Debug)]
pub(in crate::tcp) struct Info<'a> {
    pub(in crate::tcp) subject: &'a Subject,
    /// The cluster, once it is known.
    pub(in crate::tcp) cluster: Option<&'a str>,
    /// The listener and the filter chain.
    pub(in crate::tcp) listener: &'a ListenerInfo,
}

impl StreamInfo for Info<'_> {
    fn start_time(&self) -> SystemTime {
        SystemTime::now()
    }

    fn upstream_cluster(&self) -> Option<&str> {
        self.cluster
    }

    fn listener_name(&self) -> Option<&str> {
        Some(&self.listener.name)
    }

    fn filter_chain_name(&self) -> Option<&str> {
        Some(&self.listener.chain_name)
    }

    fn static_metadata(&self, of: MetadataOf) -> Option<&Metadata> {
        self.listener.metadata(of)
    }

    fn upstream_cluster_raw(&self) -> Option<&str> {
        self.cluster
    }

    fn downstream_remote_address(&self) -> Option<Address> {
        Some(self.subject.peer)
    }

    fn downstream_direct_remote_address(&self) -> Option<Address> {
        Some(self.subject.direct_peer)
    }

    fn downstream_local_address(&self) -> Option<Address> {
        Some(self.subject.local)
    }

    fn requested_server_name(&self) -> Option<&str> {
        self.subject.server_name.as_deref()
    }

    fn dynamic_metadata(&self) -> Option<&Metadata> {
        Some(&self.subject.listener_facts.as_ref()?.metadata)
    }

    fn listener_facts(&self) -> Option<&ListenerFacts> {
        self.subject.listener_facts.as_deref()
    }

    fn downstream_tls(&self) -> Option<&TlsFacts> {
        self.subject.tls.as_deref()
    }

    fn connection_id(&self) -> Option<u64> {
        Some(self.subject.id)
    }
}
