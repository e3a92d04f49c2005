//! The entries of a listener's access logs: one for each connection when it ends, also if it had no filter
//! chain. The last filter of a chain without HTTP writes them itself (`tcp/log.rs`): it knows more.

use std::time::{Duration, SystemTime};

use super::connection::{Client, Facts};
use super::local::LocalListener;
use crate::address::Address;
use crate::flags::{Flag, Flags};
use crate::format::{Inputs, StreamInfo};
use crate::http::Version;
use crate::listener_facts::ListenerFacts;
use crate::metadata::{ListenerInfo, Metadata, MetadataOf};
use crate::shard::Shard;
use crate::shard::clock::Millis;
use crate::transport::tls::facts::TlsFacts;

/// Why a connection is closed before it has a filter chain.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Unserved {
    /// Listener filters have refused it, or did not come to an end.
    ListenerFilter,
    /// No filter chain matches it.
    NoFilterChain,
}

/// Writes the entry of a connection that spoke HTTP.
#[cold]
pub(super) fn http(client: &Client, listener: &LocalListener) {
    let given = &client.given;
    let tls = given.tls.as_deref();
    Entry {
        peer: given.peer,
        direct_peer: given.direct_peer(),
        local: given.local,
        id: Some(given.id),
        facts: given.listener_facts.as_deref(),
        received: given.received.get(),
        sent: given.sent.get(),
        protocol: client.protocol(),
        tls,
        server_name: tls.and_then(|tls| tls.server_name.as_deref()),
        listener,
        chain: Some(&given.service.info),
        flags: Flags::NONE,
        details: None,
        failure: client.transport_failure(),
        lifetime: Lifetime::since(given.shard, given.opened),
    }
    .write(given.shard);
}

/// Writes the entry of a connection that is closed before it has a filter chain.
pub(super) fn unserved(
    shard: &'static Shard,
    listener: &LocalListener,
    facts: &Facts,
    opened: Millis,
    why: Unserved,
) {
    if listener.access_logs.is_empty() {
        return;
    }
    let mut flags = Flags::NONE;
    let details = match why {
        Unserved::ListenerFilter => None,
        Unserved::NoFilterChain => {
            flags.set(Flag::NoRouteFound);
            Some("filter_chain_not_found")
        }
    };
    Entry {
        peer: facts.peer,
        direct_peer: facts.direct_peer(),
        local: facts.local,
        id: None,
        facts: facts.found.as_deref(),
        received: 0,
        sent: 0,
        protocol: None,
        tls: None,
        server_name: None,
        listener,
        chain: None,
        flags,
        details,
        failure: None,
        lifetime: Lifetime::since(shard, opened),
    }
    .write(shard);
}

/// When a connection began, and for how long it was open.
struct Lifetime {
    started: SystemTime,
    elapsed: Duration,
}

impl Lifetime {
    fn since(shard: &Shard, opened: Millis) -> Self {
        let elapsed = Duration::from_millis(shard.clock.now().saturating_sub(opened));
        let now = SystemTime::now();
        Self { started: now.checked_sub(elapsed).unwrap_or(now), elapsed }
    }
}

/// A connection as its entry shows it.
struct Entry<'a> {
    peer: Address,
    direct_peer: Address,
    local: Address,
    id: Option<u64>,
    facts: Option<&'a ListenerFacts>,
    received: u64,
    sent: u64,
    protocol: Option<Version>,
    tls: Option<&'a TlsFacts>,
    server_name: Option<&'a str>,
    listener: &'a LocalListener,
    chain: Option<&'a ListenerInfo>,
    flags: Flags,
    details: Option<&'a str>,
    failure: Option<&'a str>,
    lifetime: Lifetime,
}

impl Entry<'_> {
    fn write(&self, shard: &Shard) {
        let random = shard.random.borrow_mut().u64(..);
        self.listener.access_logs.write(&Inputs::new(self), random);
    }
}

impl StreamInfo for Entry<'_> {
    fn start_time(&self) -> SystemTime {
        self.lifetime.started
    }

    fn duration(&self) -> Option<Duration> {
        Some(self.lifetime.elapsed)
    }

    fn protocol(&self) -> Option<Version> {
        self.protocol
    }

    fn bytes_received(&self) -> u64 {
        self.received
    }

    fn bytes_sent(&self) -> u64 {
        self.sent
    }

    fn response_flags(&self) -> Flags {
        self.flags
    }

    fn response_code_details(&self) -> Option<&str> {
        self.details
    }

    fn downstream_transport_failure_reason(&self) -> Option<&str> {
        self.failure
    }

    fn listener_name(&self) -> Option<&str> {
        Some(&self.listener.listener().name)
    }

    fn filter_chain_name(&self) -> Option<&str> {
        self.chain.map(|chain| &*chain.chain_name).filter(|name| !name.is_empty())
    }

    fn static_metadata(&self, of: MetadataOf) -> Option<&Metadata> {
        self.chain?.metadata(of)
    }

    fn downstream_remote_address(&self) -> Option<Address> {
        Some(self.peer)
    }

    fn downstream_direct_remote_address(&self) -> Option<Address> {
        Some(self.direct_peer)
    }

    fn downstream_local_address(&self) -> Option<Address> {
        Some(self.local)
    }

    fn requested_server_name(&self) -> Option<&str> {
        self.server_name
    }

    fn dynamic_metadata(&self) -> Option<&Metadata> {
        Some(&self.facts?.metadata)
    }

    fn listener_facts(&self) -> Option<&ListenerFacts> {
        self.facts
    }

    fn downstream_tls(&self) -> Option<&TlsFacts> {
        self.tls
    }

    fn connection_id(&self) -> Option<u64> {
        self.id
    }
}
