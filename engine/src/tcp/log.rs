//! The entries of the access logs of `tcp_proxy`: one for each connection when it ends, however it ends.

use std::borrow::Cow;
use std::rc::Rc;
use std::time::{Duration, SystemTime};

use super::connection::Connection;
use super::filters::set_filter_state::Info;
use crate::access_log::LocalLogs;
use crate::access_log::entry_type::EntryType;
use crate::address::Address;
use crate::flags::Flags;
use crate::format::{Inputs, StreamInfo};
use crate::listener_facts::ListenerFacts;
use crate::metadata::{ListenerInfo, Metadata, MetadataOf};
use crate::transport::tls::Failure;
use crate::transport::tls::facts::TlsFacts;
use crate::upstream::error::Error;
use crate::upstream::local::LocalCluster;
use crate::upstream::origin::Origin;
use crate::upstream::pool::Pool;

/// What a connection notes for its entry.
#[derive(Debug, Default)]
pub(super) struct Record {
    /// The response flags.
    pub(super) flags: Flags,
    /// Bytes from the client.
    pub(super) received: u64,
    /// Bytes to the client.
    pub(super) sent: u64,
    cluster: Option<Rc<LocalCluster>>,
    pool: Option<Rc<Pool>>,
    /// The id and the local address of the upstream connection.
    upstream: Option<(u64, Option<Address>)>,
    upstream_tls: Option<Rc<TlsFacts>>,
    /// Attempts to connect.
    attempts: u32,
    /// Why the last one failed.
    failure: Option<String>,
    /// Why the TLS handshake of the client failed.
    pub(super) transport_failure: Option<Failure>,
}

impl Record {
    /// Notes the cluster of the connection.
    pub(super) fn cluster(&mut self, cluster: &Rc<LocalCluster>) {
        self.cluster = Some(Rc::clone(cluster));
    }

    /// Notes the host of an attempt.
    pub(super) fn host(&mut self, pool: &Rc<Pool>) {
        self.pool = Some(Rc::clone(pool));
        self.attempts += 1;
    }

    /// Notes why an attempt failed.
    pub(super) fn failed(&mut self, error: Error) {
        self.failure = error.transport_failure();
    }

    /// Notes that a host has refused to open a tunnel, with this status.
    pub(super) fn refused(&mut self, status: u16) {
        self.failure = Some(format!("tunnel_response:{status}"));
    }

    /// Notes the upstream connection.
    pub(super) fn connected(&mut self, origin: &Origin) {
        self.upstream = Some((origin.id(), origin.local()));
        self.upstream_tls = origin.tls().cloned();
        self.failure = None;
    }
}

/// Writes an entry for the connection.
pub(super) fn write(
    client: &Connection,
    listener: &ListenerInfo,
    logs: &LocalLogs,
    entry_type: EntryType,
) {
    if logs.is_empty() {
        return;
    }
    let shard = client.subject.shard;
    let elapsed = shard.clock.now().saturating_sub(client.opened);
    let elapsed = Duration::from_millis(elapsed);
    let now = SystemTime::now();
    let record = &client.record;
    let info = Info { subject: &client.subject, cluster: None, listener };
    let entry = Entry { info, record, elapsed, started: now.checked_sub(elapsed).unwrap_or(now) };
    let inputs = Inputs { entry_type, ..Inputs::new(&entry) };
    let random = shard.random.borrow_mut().u64(..);
    logs.write(&inputs, random);
}

/// A connection as an entry shows it.
struct Entry<'a> {
    info: Info<'a>,
    record: &'a Record,
    started: SystemTime,
    elapsed: Duration,
}

impl StreamInfo for Entry<'_> {
    fn start_time(&self) -> SystemTime {
        self.started
    }

    fn duration(&self) -> Option<Duration> {
        Some(self.elapsed)
    }

    fn bytes_received(&self) -> u64 {
        self.record.received
    }

    fn bytes_sent(&self) -> u64 {
        self.record.sent
    }

    fn response_flags(&self) -> Flags {
        self.record.flags
    }

    fn upstream_cluster(&self) -> Option<&str> {
        Some(&self.record.cluster.as_ref()?.cluster().observability_name)
    }

    fn upstream_cluster_raw(&self) -> Option<&str> {
        Some(&self.record.cluster.as_ref()?.cluster().name)
    }

    fn upstream_host(&self) -> Option<Address> {
        self.record.pool.as_ref().map(|pool| pool.host().address)
    }

    fn upstream_host_name(&self) -> Option<&str> {
        self.record.pool.as_ref().map(|pool| &*pool.host().endpoint.hostname)
    }

    fn upstream_remote_address(&self) -> Option<Address> {
        self.record.upstream.and_then(|_| self.upstream_host())
    }

    fn upstream_local_address(&self) -> Option<Address> {
        self.record.upstream?.1
    }

    fn upstream_connection_id(&self) -> Option<u64> {
        self.record.upstream.map(|(id, _)| id)
    }

    fn upstream_request_attempt_count(&self) -> u32 {
        self.record.attempts
    }

    fn upstream_transport_failure_reason(&self) -> Option<Cow<'_, str>> {
        self.record.failure.as_deref().map(Cow::Borrowed)
    }

    fn upstream_tls(&self) -> Option<&TlsFacts> {
        self.record.upstream_tls.as_deref()
    }

    fn listener_name(&self) -> Option<&str> {
        self.info.listener_name()
    }

    fn filter_chain_name(&self) -> Option<&str> {
        self.info.filter_chain_name().filter(|name| !name.is_empty())
    }

    fn static_metadata(&self, of: MetadataOf) -> Option<&Metadata> {
        match of {
            MetadataOf::Cluster => Some(&self.record.cluster.as_ref()?.cluster().metadata),
            MetadataOf::UpstreamHost => Some(&self.record.pool.as_ref()?.host().endpoint.metadata),
            of => self.info.static_metadata(of),
        }
    }

    fn downstream_remote_address(&self) -> Option<Address> {
        self.info.downstream_remote_address()
    }

    fn downstream_direct_remote_address(&self) -> Option<Address> {
        self.info.downstream_direct_remote_address()
    }

    fn downstream_local_address(&self) -> Option<Address> {
        self.info.downstream_local_address()
    }

    fn requested_server_name(&self) -> Option<&str> {
        self.info.requested_server_name()
    }

    fn dynamic_metadata(&self) -> Option<&Metadata> {
        self.info.dynamic_metadata()
    }

    fn listener_facts(&self) -> Option<&ListenerFacts> {
        self.info.listener_facts()
    }

    fn downstream_transport_failure_reason(&self) -> Option<&str> {
        self.record.transport_failure.map(Failure::words)
    }

    fn downstream_tls(&self) -> Option<&TlsFacts> {
        self.info.downstream_tls()
    }

    fn connection_id(&self) -> Option<u64> {
        self.info.connection_id()
    }
}
