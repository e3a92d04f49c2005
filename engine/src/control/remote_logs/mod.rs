//! Sends the entries of access logs to services: Envoy's access log service, or an OpenTelemetry collector.
//!
//! Each queue has a task. While its service cannot be reached, entries wait in the queue; what does not fit is dropped
//! by the shards, and counted.
//!
//! Invariant: a batch is taken by the service, or counted as dropped. One that a stream had when it ended is sent again:
//! rather twice than never.

mod exporter;

use std::cell::RefCell;
use std::collections::VecDeque;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use http::uri::PathAndQuery;
use prost::Message;
use tokio::sync::mpsc::{self, UnboundedReceiver};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic_prost::ProstCodec;

use self::exporter::Exporter;
use super::collector::Failure;
use super::grpc::{Client, metadata, words};
use super::server::Running;
use super::shards::Shards;
use super::xds::Identity;
use crate::access_log::remote::queue::{Batch, Buffers, Waiting};
use crate::access_log::remote::{Messages, StreamKind, Work};
use crate::node::Node;
use crate::remote_service::{GrpcService, RemoteService};
use crate::stats::{GrpcLogStats, Scope};

/// How long the end of the process waits until everything is sent.
const FINISH_WAIT: Duration = Duration::from_secs(1);

/// How long a stream must go on until its last batch counts as taken.
const DOUBT: Duration = Duration::from_secs(1);

/// How long the end of a stream waits for the server's answer.
const END_WAIT: Duration = Duration::from_millis(500);

const STREAM_METHOD: &str = "/envoy.service.accesslog.v3.AccessLogService/StreamAccessLogs";

/// What sends.
pub(super) struct RemoteLogs {
    common: Rc<Common>,
    shards: Arc<Shards>,
    tasks: RefCell<Vec<JoinHandle<()>>>,
}

/// What all senders have in common.
struct Common {
    running: Arc<Running>,
    node: Node,
    encoded_node: Vec<u8>,
    version: String,
    /// Whether the process ends.
    ends: watch::Sender<bool>,
}

impl Common {
    /// Completes when the process ends.
    fn end(&self) -> impl Future<Output = ()> + use<> {
        let mut ends = self.ends.subscribe();
        // The other end lives as long as this.
        async move { drop(ends.wait_for(|ends| *ends).await) }
    }
}

impl RemoteLogs {
    pub(super) fn new(identity: &Identity, running: &Arc<Running>, shards: &Arc<Shards>) -> Self {
        let common = Common {
            running: Arc::clone(running),
            node: identity.node.clone(),
            encoded_node: identity.encoded().unwrap_or_default(),
            version: identity.version.clone(),
            ends: watch::Sender::new(false),
        };
        Self { common: Rc::new(common), shards: Arc::clone(shards), tasks: RefCell::default() }
    }

    /// Starts to send for these queues.
    pub(super) fn take_up(&self, works: Vec<Work>) {
        let mut tasks = self.tasks.borrow_mut();
        tasks.retain(|task| !task.is_finished());
        for work in works {
            let Work { batches, queue, waiting, interval, service, messages, grpc_stats } = work;
            let shards = Arc::clone(&self.shards);
            drop(tokio::task::spawn_local(async move {
                loop {
                    sleep(interval).await;
                    let Some(queue) = queue.upgrade() else { return };
                    shards.send_to_all(move |shard| Buffers::flush(shard, Some(&queue)));
                }
            }));
            let common = Rc::clone(&self.common);
            let delivery = Delivery { common, waiting, grpc_stats, failures: 0 };
            tasks.push(tokio::task::spawn_local(delivery.run(service, messages, batches)));
        }
    }

    /// Sends everything that was logged so far: the process ends.
    pub(super) async fn finish(&self) {
        let tasks = self.tasks.take();
        if tasks.is_empty() {
            return;
        }
        self.shards.send_to_all(|shard| Buffers::flush(shard, None));
        self.shards.caught_up().await;
        self.common.ends.send_replace(true);
        let all = async {
            for task in tasks {
                // A task that has failed sends nothing more.
                drop(task.await);
            }
        };
        if timeout(FINISH_WAIT, all).await.is_err() {
            tracing::error!(target: "main", "access logs: the last entries may be lost: a service has not taken them in time");
        }
    }
}

/// What becomes of the batches of one queue.
struct Delivery {
    common: Rc<Common>,
    waiting: Arc<Waiting>,
    /// None: they are not sent over gRPC.
    grpc_stats: Option<Arc<Scope<GrpcLogStats>>>,
    /// Attempts that failed since the last one that did not.
    failures: u32,
}

/// Why an attempt to send has ended.
enum Ended {
    /// There is nothing left to send.
    Done,
    /// In words; with the batches that are to be sent again.
    Failed(String, Vec<Batch>),
}

impl Delivery {
    /// Sends until nothing writes to the queue any more, or the process ends.
    async fn run(
        mut self,
        service: RemoteService,
        messages: Messages,
        mut batches: UnboundedReceiver<Batch>,
    ) {
        let mut unsent = VecDeque::new();
        let common = Rc::clone(&self.common);
        let mut exporter = Exporter::new(&common, &service, &messages);
        for turn in 0.. {
            let batch = match unsent.pop_front() {
                Some(batch) => batch,
                None => match self.next(&mut batches).await {
                    Some(batch) => batch,
                    None => return,
                },
            };
            let ended = match (&service, &messages) {
                (RemoteService::Grpc(grpc), Messages::Stream { log_name, kind }) => {
                    self.stream((grpc, turn), (log_name, *kind), batch, &mut batches).await
                }
                _ => self.export(&mut exporter, turn, batch).await,
            };
            let Ended::Failed(why, again) = ended else { continue };
            for batch in again.into_iter().rev() {
                unsent.push_front(batch);
            }
            if self.fail(&service, &why, &mut unsent, &mut batches).await.is_none() {
                return;
            }
        }
    }

    /// The next batch; none: there will be none.
    async fn next(&self, batches: &mut UnboundedReceiver<Batch>) -> Option<Batch> {
        tokio::select! {
            batch = batches.recv() => batch,
            () = self.common.end() => {
                batches.close();
                batches.recv().await
            }
        }
    }

    /// Waits before the next attempt. None: the process ends, and nothing more is sent.
    async fn fail(
        &mut self,
        service: &RemoteService,
        why: &str,
        unsent: &mut VecDeque<Batch>,
        batches: &mut UnboundedReceiver<Batch>,
    ) -> Option<()> {
        self.failures += 1;
        let cluster = service.cluster();
        // The first time only: a service may be away for days.
        if self.failures == 1 {
            tracing::warn!(target: "main", "access log service {cluster}: {why}; entries wait");
        } else {
            tracing::debug!(target: "main", "access log service {cluster}: {why}");
        }
        if let RemoteService::Grpc(GrpcService { retries: Some(most), .. }) = service
            && self.failures > *most
            && let Some(batch) = unsent.pop_front()
        {
            self.give_up(&batch);
        }
        let delay = service.back_off().delay(self.failures, fastrand::u64(..));
        tokio::select! {
            () = sleep(Duration::from_millis(delay)) => Some(()),
            () = self.common.end() => {
                batches.close();
                unsent.drain(..).for_each(|batch| self.give_up(&batch));
                while let Ok(batch) = batches.try_recv() {
                    self.give_up(&batch);
                }
                None
            }
        }
    }

    fn give_up(&self, batch: &Batch) {
        self.waiting.dropped(batch);
        if let Some(stats) = &self.grpc_stats {
            stats.control().grpc_entries_flush_failed.add(batch.count);
        }
    }

    fn sent(&mut self, service: &str, bytes: usize, count: u64) {
        self.waiting.sent(bytes);
        if let Some(stats) = &self.grpc_stats {
            stats.control().grpc_entries_flushed.add(count);
        }
        if self.failures > 0 {
            tracing::info!(target: "main", "access log service {service}: it takes entries again");
        }
        self.failures = 0;
    }

    /// Sends over one stream until it ends.
    async fn stream(
        &mut self,
        (service, turn): (&GrpcService, usize),
        (log_name, kind): (&str, StreamKind),
        first: Batch,
        batches: &mut UnboundedReceiver<Batch>,
    ) -> Ended {
        let (cluster, authority) = (&service.cluster, &service.authority);
        let client = Client::connect(&self.common.running, cluster, authority, turn).await;
        let Client { mut grpc, connection, carrier: _carrier } = match client {
            Ok(client) => client,
            Err(why) => return Ended::Failed(why, vec![first]),
        };
        let _counted = connection.request();
        let (to_server, messages) = mpsc::channel(1);
        let request = tonic::Request::from_parts(
            metadata(&service.metadata),
            http::Extensions::new(),
            ReceiverStream::new(messages),
        );
        let method = PathAndQuery::from_static(STREAM_METHOD);
        let codec = ProstCodec::<StreamAccessLogsMessage, Empty>::default();
        let mut call = pin!(grpc.client_streaming(request, method, codec));
        let why = |ended: Result<_, tonic::Status>| match ended {
            Ok(_) => "the server has ended the stream".to_owned(),
            Err(status) => words(&status),
        };
        let mut identifier = Some(Identifier {
            node: self.common.encoded_node.clone(),
            log_name: log_name.to_owned(),
        });
        let mut next = Some(first);
        // The last batch, which the server may still refuse.
        let mut doubtful: Option<Batch> = None;
        while let Some(batch) = next.take() {
            let place = tokio::select! {
                place = to_server.reserve() => place.map_err(|_| "the stream has ended".to_owned()),
                ended = &mut call => {
                    self.settle(cluster, &ended, &mut doubtful);
                    Err(why(ended))
                }
            };
            let place = match place {
                Ok(place) => place,
                Err(why) => {
                    return Ended::Failed(why, doubtful.into_iter().chain([batch]).collect());
                }
            };
            self.confirm(cluster, doubtful.take());
            let entries = batch.bytes.clone();
            place.send(StreamAccessLogsMessage::new(identifier.take(), kind, entries));
            doubtful = Some(batch);
            next = loop {
                tokio::select! {
                    batch = self.next(batches) => break batch,
                    ended = &mut call => {
                        self.settle(cluster, &ended, &mut doubtful);
                        return Ended::Failed(why(ended), doubtful.into_iter().collect());
                    }
                    () = sleep(DOUBT), if doubtful.is_some() => {
                        self.confirm(cluster, doubtful.take());
                    }
                }
            };
        }
        drop(to_server);
        // It need not answer.
        match timeout(END_WAIT, call).await {
            Ok(Err(_)) => doubtful.iter().for_each(|batch| self.give_up(batch)),
            Ok(Ok(_)) | Err(_) => self.confirm(cluster, doubtful),
        }
        Ended::Done
    }

    /// The server has ended the stream. One that ends it well has taken everything.
    fn settle<T>(
        &mut self,
        cluster: &str,
        ended: &Result<T, tonic::Status>,
        doubtful: &mut Option<Batch>,
    ) {
        if ended.is_ok() {
            self.confirm(cluster, doubtful.take());
        }
    }

    /// A batch was taken: the stream goes on.
    fn confirm(&mut self, cluster: &str, batch: Option<Batch>) {
        if let Some(batch) = batch {
            self.sent(cluster, batch.bytes.len(), batch.count);
        }
    }

    /// Sends one batch to a collector.
    async fn export(&mut self, exporter: &mut Exporter<'_>, turn: usize, batch: Batch) -> Ended {
        let (length, count) = (batch.bytes.len(), batch.count);
        match exporter.export(turn, &batch.bytes).await {
            Ok(()) => {
                self.sent(exporter.cluster(), length, count);
                Ended::Done
            }
            Err(Failure::Passing(why)) => Ended::Failed(why, vec![batch]),
            Err(Failure::Final(why)) => {
                self.give_up(&batch);
                Ended::Failed(why, Vec::new())
            }
        }
    }
}

/// `envoy.service.accesslog.v3.StreamAccessLogsMessage`; entries are encoded already.
#[derive(Clone, PartialEq, Message)]
struct StreamAccessLogsMessage {
    #[prost(message, optional, tag = "1")]
    identifier: Option<Identifier>,
    #[prost(bytes = "vec", optional, tag = "2")]
    http_logs: Option<Vec<u8>>,
    #[prost(bytes = "vec", optional, tag = "3")]
    tcp_logs: Option<Vec<u8>>,
}

#[derive(Clone, PartialEq, Message)]
struct Identifier {
    /// An encoded node.
    #[prost(bytes = "vec", tag = "1")]
    node: Vec<u8>,
    #[prost(string, tag = "2")]
    log_name: String,
}

/// An answer of which nothing is read.
#[derive(Clone, PartialEq, Message)]
struct Empty {}

impl StreamAccessLogsMessage {
    fn new(identifier: Option<Identifier>, kind: StreamKind, entries: Vec<u8>) -> Self {
        match kind {
            StreamKind::Http => Self { identifier, http_logs: Some(entries), tcp_logs: None },
            StreamKind::Tcp => Self { identifier, http_logs: None, tcp_logs: Some(entries) },
        }
    }
}
