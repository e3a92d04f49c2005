//! A health check by a TCP connection.

use std::io;
use std::sync::Arc;

use super::connection::{Connection, Endpoint};
use super::network_failure;
use crate::upstream::health_check::{FailureKind, HealthCheck, Outcome, Probe, TcpProbe};

pub(super) struct Prober {
    check: Arc<HealthCheck>,
    endpoint: Endpoint,
    kept: Option<Connection>,
}

/// How much of an answer is kept while it does not match.
const ANSWER_BYTES_MAX: usize = 1024 * 1024;

impl Prober {
    pub(super) const fn new(check: Arc<HealthCheck>, endpoint: Endpoint) -> Self {
        Self { check, endpoint, kept: None }
    }

    pub(super) fn disconnect(&mut self) {
        self.kept = None;
    }

    pub(super) async fn probe(&mut self) -> Outcome {
        match self.try_probe().await {
            Ok(()) => Outcome::Success { is_degraded: false },
            Err(error) => {
                let host = self.endpoint.host.address;
                tracing::debug!(target: "upstream", "health check of {host}: {error}");
                network_failure(FailureKind::Network)
            }
        }
    }

    async fn try_probe(&mut self) -> io::Result<()> {
        let Probe::Tcp(probe) = &self.check.probe else { return Ok(()) };
        let kept = self.kept.take().filter(Connection::is_quiet);
        let mut connection = match kept {
            Some(kept) => kept,
            None => self.endpoint.connect(&[]).await?,
        };
        if probe.receive.is_empty() {
            //= envoy: HealthCheck.TcpHealthCheck.receive
            // Connecting is enough; nothing is sent.
            return Ok(());
        }
        connection.write_all(&probe.send).await?;
        let mut received = Vec::new();
        while !probe.is_answered(&received) {
            if connection.read(&mut received).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            if received.len() > ANSWER_BYTES_MAX {
                return Err(io::Error::other("the answer is too long"));
            }
        }
        if self.check.reuse_connection {
            self.kept = Some(connection);
        }
        Ok(())
    }
}

impl TcpProbe {
    /// Whether what was received has all that is expected.
    fn is_answered(&self, received: &[u8]) -> bool {
        super::contains_in_order(received, &self.receive)
    }
}
