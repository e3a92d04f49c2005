//! The hosts that a request asks for: that of its session, and those of the policy `override_host`.
//!
//! Most requests ask for none, and cost nothing here.

use std::rc::Rc;

use super::Core;
use crate::metadata::Metadata;
use crate::upstream::local::LocalCluster;
use crate::upstream::override_host::{MetadataPath, OverrideHost, Source};
use crate::upstream::pool::Pool;

/// The host of a session.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct SessionHost {
    pub(super) address: Box<str>,
    /// The status of the reply if the host cannot be had; none: the request goes to another one.
    pub(super) strict: Option<u16>,
}

/// The hosts that a request asks for.
#[derive(Debug)]
pub(super) struct WantedHosts {
    session: Option<SessionHost>,
    /// Those that the policy of the cluster takes, the last one first.
    named: Vec<Box<str>>,
    /// The status of the reply, since the host of the session was not to be had.
    missing_status: Option<u16>,
}

/// Which host an attempt goes to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Wanted {
    /// This one, by its index in the host set.
    Host(usize),
    /// None: the only one that it may go to cannot be had.
    Missing,
    /// The one that the cluster chooses.
    Any,
}

impl WantedHosts {
    /// The host of the next attempt. As in Envoy, only the first one goes to the host of the session.
    pub(super) fn next(&mut self, cluster: &LocalCluster) -> Wanted {
        if let Some(session) = self.session.take() {
            let statuses = cluster.cluster().override_host_status;
            if let Some(host) = cluster.find_host(&session.address, Some(statuses)) {
                return Wanted::Host(host);
            }
            if session.strict.is_some() {
                self.missing_status = session.strict;
                return Wanted::Missing;
            }
        }
        while let Some(address) = self.named.pop() {
            if let Some(host) = cluster.find_host(&address, None) {
                return Wanted::Host(host);
            }
        }
        Wanted::Any
    }

    /// The status of the reply to a request whose host is missing.
    pub(super) const fn missing_status(&self) -> Option<u16> {
        self.missing_status
    }
}

impl Core<'_> {
    /// The hosts that the request asks for; none: it asks for none.
    #[inline]
    pub(super) fn wanted_hosts(&self, cluster: &LocalCluster) -> Option<Box<WantedHosts>> {
        if self.noted.is_none() && cluster.cluster().override_host.is_none() {
            return None;
        }
        self.find_wanted_hosts(cluster.cluster().override_host.as_ref())
    }

    #[cold]
    fn find_wanted_hosts(&self, policy: Option<&OverrideHost>) -> Option<Box<WantedHosts>> {
        let session = self.noted.as_ref().and_then(|noted| noted.session_host.clone());
        let mut named = Vec::new();
        for source in policy.iter().flat_map(|policy| &policy.sources) {
            self.named_hosts(source, &mut named);
        }
        if session.is_none() && named.is_empty() {
            return None;
        }
        named.reverse();
        Some(Box::new(WantedHosts { session, named, missing_status: None }))
    }

    /// The hosts that the request names in one place.
    fn named_hosts(&self, source: &Source, to: &mut Vec<Box<str>>) {
        let text = match source {
            Source::Header(name) => {
                let mut fields = self.heads.request.fields.iter();
                let value = fields.find(|(_, other, _)| *other == &**name).map(|field| field.2);
                value.and_then(|value| std::str::from_utf8(value).ok())
            }
            Source::Metadata(MetadataPath { namespace, path }) => {
                let metadata = self.noted.as_ref().map(|noted| &noted.metadata);
                metadata.and_then(|metadata| metadata.find(namespace, path)?.as_str())
            }
        };
        let hosts = text.into_iter().flat_map(|text| text.split(',')).map(str::trim);
        to.extend(hosts.filter(|host| !host.is_empty()).map(Box::from));
    }

    /// Notes the host that the policy `override_host`, or the one behind it, has chosen.
    #[inline]
    pub(super) fn note_selected_host(&mut self, cluster: &LocalCluster, pool: &Rc<Pool>) {
        if let Some(OverrideHost { selected: Some(at), .. }) = &cluster.cluster().override_host {
            set(&mut self.note().metadata, at, pool.host().address.to_string());
        }
    }
}

/// Sets a value in metadata.
fn set(metadata: &mut Metadata, at: &MetadataPath, value: String) {
    let Some((first, inner)) = at.path.split_first() else { return };
    let value = inner.iter().rev().fold(serde_json::Value::from(value), |value, key| {
        serde_json::Value::Object([(key.to_string(), value)].into_iter().collect())
    });
    let values = [(first.to_string(), value)].into_iter().collect();
    metadata.merge(&at.namespace, &values);
}
