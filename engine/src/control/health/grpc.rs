//! A health check by `grpc.health.v1.Health/Check`.

use std::io;
use std::sync::Arc;

use super::connection::Endpoint;
use super::http2::{Response, Session};
use super::{network_failure, parsed, wrong_answer};
use crate::http::{FieldName, Scheme, grpc};
use crate::upstream::health_check::{FailureKind, GrpcProbe, HealthCheck, Outcome, Probe};

pub(super) struct Prober {
    check: Arc<HealthCheck>,
    endpoint: Endpoint,
    kept: Option<Session>,
}

/// `HealthCheckResponse.status`: `SERVING`.
const SERVING: [u8; 2] = [0x08, 1];

/// How much of a response is kept: the message has two bytes.
const RESPONSE_BYTES_MAX: usize = 1024;

impl Prober {
    pub(super) const fn new(check: Arc<HealthCheck>, endpoint: Endpoint) -> Self {
        Self { check, endpoint, kept: None }
    }

    pub(super) fn disconnect(&mut self) {
        self.kept = None;
    }

    pub(super) async fn probe(&mut self) -> Outcome {
        let check = Arc::clone(&self.check);
        let Probe::Grpc(probe) = &check.probe else { return wrong_answer() };
        match self.exchange(probe).await {
            Ok(response) if is_serving(&response) => Outcome::Success { is_degraded: false },
            Ok(_) => wrong_answer(),
            Err(error) => {
                let host = self.endpoint.host.address;
                tracing::debug!(target: "upstream", "health check of {host}: {error}");
                network_failure(FailureKind::Network)
            }
        }
    }

    async fn exchange(&mut self, probe: &GrpcProbe) -> io::Result<Response> {
        let mut session = match self.kept.take().filter(Session::is_usable) {
            Some(kept) => kept,
            None => Session::new(self.endpoint.connect(&[b"h2"]).await?),
        };
        let authority = self.endpoint.authority(&probe.authority);
        let mut head = format!(
            "POST /grpc.health.v1.Health/Check HTTP/1.1\r\nhost: {authority}\r\n\
             te: trailers\r\ncontent-type: application/grpc\r\nuser-agent: Envoy/HC\r\n"
        );
        for header in &probe.headers {
            for part in [&header.name, ": ", &header.value, "\r\n"] {
                head.push_str(part);
            }
        }
        head.push_str("\r\n");
        let scheme = if self.endpoint.is_encrypted() { Scheme::Https } else { Scheme::Http };
        let request = parsed(head.into_bytes(), scheme)?;
        let message = message(&probe.service_name);
        let response = session.exchange(&request, &message, RESPONSE_BYTES_MAX).await?;
        if self.check.reuse_connection {
            self.kept = Some(session);
        }
        Ok(response)
    }
}

/// `HealthCheckRequest` with this service, in the frame of a gRPC message.
fn message(service: &str) -> Vec<u8> {
    let mut message = Vec::new();
    if !service.is_empty() {
        message.push(0x0A); // field 1, bytes
        let mut length = service.len();
        while length >= 0x80 {
            message.push(length.to_le_bytes()[0] | 0x80);
            length >>= 7;
        }
        message.push(length.to_le_bytes()[0]);
        message.extend_from_slice(service.as_bytes());
    }
    let length = u32::try_from(message.len()).unwrap_or(u32::MAX);
    let mut frame = vec![0];
    frame.extend_from_slice(&length.to_be_bytes());
    frame.extend_from_slice(&message);
    frame
}

/// Whether the call has succeeded, and the service serves.
fn is_serving(response: &Response) -> bool {
    let in_head = response.head.fields.get(FieldName::GrpcStatus);
    let status = in_head.or_else(|| grpc::status_in_trailers(&response.trailers));
    let prefix = [0, 0, 0, 0, 2];
    let message = response.body.strip_prefix(&prefix);
    response.head.status == 200 && status == Some(b"0") && message == Some(&SERVING)
}

#[cfg(test)]
mod tests {
    use super::message;

    #[test]
    fn the_message_has_the_service() {
        assert_eq!(message(""), [0, 0, 0, 0, 0]);
        assert_eq!(message("ab"), [0, 0, 0, 0, 4, 0x0A, 2, b'a', b'b']);
        let long = message(&"x".repeat(300));
        assert_eq!(long[..8], [0, 0, 0, 1, 47, 0x0A, 0xAC, 2]);
    }
}
