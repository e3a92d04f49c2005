//! A health check by `grpc.health.v1.Health/Check`.

use std::io;
use std::sync::Arc;

use prost::Message as _;

use super::connection::Endpoint;
use super::http2::{Response, Session};
use super::{network_failure, parsed, wrong_answer};
use crate::http::{FieldName, Scheme, grpc};
use crate::shard::clock::millis;
use crate::upstream::health_check::{FailureKind, GrpcProbe, HealthCheck, Outcome, Probe};

pub(super) struct Prober {
    check: Arc<HealthCheck>,
    endpoint: Endpoint,
    kept: Option<Box<Session>>,
}

/// `grpc.health.v1.HealthCheckResponse`; a field that is not known is passed over.
#[derive(Clone, Copy, PartialEq, prost::Message)]
struct HealthCheckResponse {
    #[prost(int32, tag = "1")]
    status: i32,
}

/// `HealthCheckResponse.ServingStatus`: `SERVING`.
const SERVING: i32 = 1;

/// How much of a response is kept: the message has two bytes, unless a later version adds to it.
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
        let authority = self.endpoint.authority(&probe.authority);
        let mut head = format!(
            "POST /grpc.health.v1.Health/Check HTTP/1.1\r\nhost: {authority}\r\n\
             te: trailers\r\ngrpc-timeout: {}m\r\ncontent-type: application/grpc\r\nuser-agent: Envoy/HC\r\n",
            millis(self.check.timeout)
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
        let (kept, endpoint) = (self.kept.take(), &self.endpoint);
        let (session, response) =
            Session::exchange_on(kept, endpoint, &request, &message, RESPONSE_BYTES_MAX).await?;
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
    response.head.status == 200 && status == Some(b"0") && serves(&response.body) == Some(true)
}

/// Whether the message of a response says that the service serves; none: it is no message.
fn serves(body: &[u8]) -> Option<bool> {
    let (prefix, message) = body.split_at_checked(5)?;
    let [0, length @ ..] = prefix else { return None };
    let length = u32::from_be_bytes(<[u8; 4]>::try_from(length).ok()?);
    if message.len() != length as usize {
        return None;
    }
    let message = HealthCheckResponse::decode(message).ok()?;
    Some(message.status == SERVING)
}

#[cfg(test)]
mod tests {
    use super::{message, serves};

    #[test]
    fn a_response_may_have_fields_that_are_not_known() {
        assert_eq!(serves(&[0, 0, 0, 0, 2, 0x08, 1]), Some(true));
        assert_eq!(serves(&[0, 0, 0, 0, 5, 0x10, 5, 0x08, 1, 0x18]), None);
        assert_eq!(serves(&[0, 0, 0, 0, 6, 0x10, 5, 0x08, 1, 0x18, 1]), Some(true));
        assert_eq!(serves(&[0, 0, 0, 0, 2, 0x08, 2]), Some(false));
        assert_eq!(serves(&[0, 0, 0, 0, 0]), Some(false));
        assert_eq!(serves(&[1, 0, 0, 0, 2, 0x08, 1]), None);
        assert_eq!(serves(&[0, 0, 0, 0]), None);
    }

    #[test]
    fn the_message_has_the_service() {
        assert_eq!(message(""), [0, 0, 0, 0, 0]);
        assert_eq!(message("ab"), [0, 0, 0, 0, 4, 0x0A, 2, b'a', b'b']);
        let long = message(&"x".repeat(300));
        assert_eq!(long[..8], [0, 0, 0, 1, 47, 0x0A, 0xAC, 2]);
    }
}
