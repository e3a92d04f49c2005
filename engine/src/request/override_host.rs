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
    /// The one that the last attempt has gone to.
    taken: Option<Taken>,
    /// The status of the reply, since the host of the session was not to be had.
    missing_status: Option<u16>,
}

/// A host that was asked for, and found.
#[derive(Debug)]
enum Taken {
    OfSession(SessionHost),
    Named(Box<str>),
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
        let statuses = cluster.cluster().override_host_status;
        self.next_of(|address, is_of_session| {
            cluster.find_host(address, is_of_session.then_some(statuses))
        })
    }

    /// `find` finds a host by its address, and is told whether it is that of the session.
    fn next_of(&mut self, find: impl Fn(&str, bool) -> Option<usize>) -> Wanted {
        self.taken = None;
        if let Some(session) = self.session.take() {
            if let Some(host) = find(&session.address, true) {
                self.taken = Some(Taken::OfSession(session));
                return Wanted::Host(host);
            }
            if session.strict.is_some() {
                self.missing_status = session.strict;
                return Wanted::Missing;
            }
        }
        while let Some(address) = self.named.pop() {
            if let Some(host) = find(&address, false) {
                self.taken = Some(Taken::Named(address));
                return Wanted::Host(host);
            }
        }
        Wanted::Any
    }

    /// The last attempt does not count: the next one goes to the same host.
    pub(super) fn forget_last(&mut self) {
        match self.taken.take() {
            Some(Taken::OfSession(session)) => self.session = Some(session),
            Some(Taken::Named(address)) => self.named.push(address),
            None => {}
        }
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
        Some(Box::new(WantedHosts { session, named, taken: None, missing_status: None }))
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

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(session: Option<Option<u16>>, named: &[&str]) -> WantedHosts {
        let session = session.map(|strict| SessionHost { address: "s".into(), strict });
        let named = named.iter().rev().map(|&name| name.into()).collect();
        WantedHosts { session, named, taken: None, missing_status: None }
    }

    #[test]
    fn an_attempt_that_does_not_count_is_repeated_at_the_same_host() {
        let find = |address: &str, _| ["s", "a", "b"].iter().position(|it| *it == address);
        let mut wanted = wanted(Some(Some(503)), &["a", "gone", "b"]);
        assert_eq!(wanted.next_of(find), Wanted::Host(0));
        wanted.forget_last();
        assert_eq!(wanted.next_of(find), Wanted::Host(0), "the session stays");
        assert_eq!(wanted.next_of(find), Wanted::Host(1));
        wanted.forget_last();
        assert_eq!(wanted.next_of(find), Wanted::Host(1));
        assert_eq!(wanted.next_of(find), Wanted::Host(2));
        assert_eq!(wanted.next_of(find), Wanted::Any);
        wanted.forget_last();
        assert_eq!(wanted.next_of(find), Wanted::Any);
    }

    #[test]
    fn only_a_strict_session_needs_its_host() {
        let nowhere = |_: &str, _| None;
        let mut strict = wanted(Some(Some(421)), &["a"]);
        assert_eq!(strict.next_of(nowhere), Wanted::Missing);
        assert_eq!(strict.missing_status(), Some(421));
        let mut lax = wanted(Some(None), &["a"]);
        assert_eq!((lax.next_of(nowhere), lax.missing_status()), (Wanted::Any, None));
    }
}
