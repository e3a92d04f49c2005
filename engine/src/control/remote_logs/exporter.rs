//! Makes batches of records the requests of an OpenTelemetry collector.

use prost::Message as _;

use super::Common;
use crate::access_log::remote::Messages;
use crate::control::collector::{Collector, Failure};
use crate::otlp::{ExportLogs, KeyValue, Resource, ResourceLogs};
use crate::remote_service::RemoteService;

const METHOD: &str = "/opentelemetry.proto.collector.logs.v1.LogsService/Export";

pub(super) struct Exporter<'a> {
    collector: Collector<'a>,
    resource: Resource,
}

impl<'a> Exporter<'a> {
    pub(super) fn new(common: &'a Common, service: &'a RemoteService, messages: &Messages) -> Self {
        let mut attributes = Vec::new();
        if let Messages::OpenTelemetry { builtin_labels, attributes: more } = messages {
            if let Some(log_name) = builtin_labels {
                let node = &common.node;
                attributes.extend([
                    KeyValue::text("log_name", log_name),
                    KeyValue::text("zone_name", &node.zone),
                    KeyValue::text("cluster_name", &node.cluster),
                    KeyValue::text("node_name", &node.id),
                ]);
            }
            attributes.extend(more.iter().cloned());
        }
        let collector = Collector::new(&common.running, service, METHOD, &common.version);
        Self { collector, resource: Resource { attributes } }
    }

    pub(super) fn cluster(&self) -> &'a str {
        self.collector.cluster()
    }

    /// Sends encoded records.
    pub(super) async fn export(&mut self, turn: usize, records: &[u8]) -> Result<(), Failure> {
        let logs = ResourceLogs {
            resource: Some(self.resource.clone()),
            scope_logs: vec![records.to_vec()],
        };
        let message = ExportLogs { resource_logs: vec![logs] }.encode_to_vec();
        self.collector.export(turn, message).await
    }
}
