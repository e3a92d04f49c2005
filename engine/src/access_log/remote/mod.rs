//! Access logs that go to a service: entries of Envoy's access log service (ALS), or records of OpenTelemetry.
//!
//! An entry is encoded on its shard, and waits there until the buffer is full or some time has passed ([`queue`]). The
//! control plane sends it (`control/remote_logs.rs`).

pub(super) mod compile;
mod custom_tags;
mod entry;
mod entry_tls;
mod messages;
pub mod queue;
mod records;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use prost::Message;
use prost::encoding::{WireType, encode_key, encode_varint};
use tokio::sync::mpsc::UnboundedReceiver;

use self::entry::{HttpEntries, TcpEntries};
use self::queue::{Batch, Queue, Waiting};
use self::records::Records;
use crate::format::Inputs;
use crate::otlp::KeyValue;
use crate::remote_service::RemoteService;
use crate::stats::{GrpcLogStats, Scope};

/// An access log whose entries go to a service.
#[derive(Debug)]
pub struct RemoteLog {
    entries: Entries,
    pub(super) queue: Arc<Queue>,
}

/// What its entries are.
#[derive(Debug)]
enum Entries {
    Http(HttpEntries),
    Tcp(TcpEntries),
    OpenTelemetry(Records),
}

/// The number of the field that an entry is, in `HTTPAccessLogEntries` and `TCPAccessLogEntries`.
const ENTRY_FIELD: u32 = 1;

/// The same in `ScopeLogs`.
const RECORD_FIELD: u32 = 2;

impl RemoteLog {
    /// Appends the entry, encoded as a field of the message that it is sent in.
    pub(super) fn encode(&self, inputs: &Inputs<'_>, out: &mut Vec<u8>) {
        match &self.entries {
            Entries::Http(entries) => append(ENTRY_FIELD, &entries.entry(inputs), out),
            Entries::Tcp(entries) => append(ENTRY_FIELD, &entries.entry(inputs), out),
            Entries::OpenTelemetry(records) => append(RECORD_FIELD, &records.record(inputs), out),
        }
    }
}

fn append(field: u32, message: &impl Message, out: &mut Vec<u8>) {
    encode_key(field, WireType::LengthDelimited, out);
    encode_varint(message.encoded_len() as u64, out);
    // A vector takes everything.
    let _infallible = message.encode(out);
}

/// What the control plane sends for a queue.
pub struct Work {
    /// What is handed over. It ends when nothing writes to the queue any more.
    pub batches: UnboundedReceiver<Batch>,
    /// The queue, to be flushed.
    pub queue: std::sync::Weak<Queue>,
    /// What waits in it.
    pub waiting: Arc<Waiting>,
    /// How often the buffers of the shards are handed over.
    pub interval: Duration,
    /// Where it goes.
    pub service: RemoteService,
    /// In which messages.
    pub messages: Messages,
    /// The stats of gRPC; none: it goes over HTTP.
    pub grpc_stats: Option<Arc<Scope<GrpcLogStats>>>,
}

/// The messages that entries are sent in.
#[derive(Clone, Debug)]
pub enum Messages {
    /// A stream of `StreamAccessLogsMessage`, with entries of requests or of connections.
    Stream {
        /// The name of the log.
        log_name: String,
        /// The number of the field: `http_logs` or `tcp_logs`.
        kind: StreamKind,
    },
    /// Single calls with `ExportLogsServiceRequest`.
    OpenTelemetry {
        /// Whether the resource has the name of the log and the names of the node, and that name.
        builtin_labels: Option<String>,
        /// What else is said of the resource.
        attributes: Vec<KeyValue>,
    },
}

/// What the entries of a stream are about.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum StreamKind {
    /// Requests.
    Http,
    /// Connections.
    Tcp,
}

impl fmt::Debug for Work {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Work").field("service", &self.service).finish_non_exhaustive()
    }
}
