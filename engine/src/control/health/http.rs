//! A health check by an HTTP request.

use std::io;
use std::sync::Arc;

use super::connection::{Connection, Endpoint};
use super::http2::Session;
use super::{contains_in_order, network_failure, parsed, wrong_answer};
use crate::http::{BodyLength, FieldName, HeadLimits, ResponseHead, Scheme};
use crate::http1::chunked::Decoder;
use crate::http1::framing;
use crate::upstream::health_check::{
    Codec, Failure, FailureKind, HealthCheck, HttpProbe, Outcome, Probe,
};

pub(super) struct Prober {
    check: Arc<HealthCheck>,
    endpoint: Endpoint,
    kept: Option<Kept>,
}

/// An idle connection.
enum Kept {
    Http1(Connection),
    Http2(Box<Session>),
}

/// What is looked at of a response.
struct Answer {
    head: ResponseHead,
    body: Vec<u8>,
}

impl Prober {
    pub(super) const fn new(check: Arc<HealthCheck>, endpoint: Endpoint) -> Self {
        Self { check, endpoint, kept: None }
    }

    pub(super) fn disconnect(&mut self) {
        self.kept = None;
    }

    pub(super) async fn probe(&mut self) -> Outcome {
        let check = Arc::clone(&self.check);
        let Probe::Http(probe) = &check.probe else { return wrong_answer() };
        match self.exchange(probe).await {
            Ok(answer) => self.judge(probe, &answer),
            Err(error) => {
                let host = self.endpoint.host.address;
                tracing::debug!(target: "upstream", "health check of {host}: {error}");
                network_failure(FailureKind::Network)
            }
        }
    }

    async fn exchange(&mut self, probe: &HttpProbe) -> io::Result<Answer> {
        match probe.codec {
            Codec::Http1 => self.exchange_http1(probe).await,
            Codec::Http2 => self.exchange_http2(probe).await,
        }
    }

    async fn exchange_http1(&mut self, probe: &HttpProbe) -> io::Result<Answer> {
        let mut connection = match self.kept.take() {
            Some(Kept::Http1(kept)) if kept.is_quiet() => kept,
            _ => self.endpoint.connect(&[b"http/1.1"]).await?,
        };
        connection.write_all(&self.request(probe)).await?;
        let (answer, stays_open) = receive(&mut connection, probe).await?;
        if stays_open && self.check.reuse_connection {
            self.kept = Some(Kept::Http1(connection));
        }
        Ok(answer)
    }

    async fn exchange_http2(&mut self, probe: &HttpProbe) -> io::Result<Answer> {
        let scheme = if self.endpoint.is_encrypted() { Scheme::Https } else { Scheme::Http };
        let request = parsed(self.request(probe), scheme)?;
        let kept_max = kept_max(probe.response_buffer_bytes);
        let kept = match self.kept.take() {
            Some(Kept::Http2(kept)) => Some(kept),
            _ => None,
        };
        let (session, response) =
            Session::exchange_on(kept, &self.endpoint, &request, &probe.send, kept_max).await?;
        if self.check.reuse_connection {
            self.kept = Some(Kept::Http2(session));
        }
        Ok(Answer { head: response.head, body: response.body })
    }

    /// The request as it is sent.
    fn request(&self, probe: &HttpProbe) -> Vec<u8> {
        let host = self.endpoint.authority(&probe.host);
        let mut request =
            format!("{} {} HTTP/1.1\r\nhost: {host}\r\n", probe.method.as_str(), probe.path);
        let replaces = |name: &str| probe.headers.iter().any(|it| it.replaces && it.name == name);
        let mut add = |name: &str, value: &str| {
            for part in [name, ": ", value, "\r\n"] {
                request.push_str(part);
            }
        };
        if probe.sends_user_agent && !replaces("user-agent") {
            add("user-agent", "Envoy/HC");
        }
        for header in &probe.headers {
            add(&header.name, &header.value);
        }
        if !probe.send.is_empty() {
            add("content-length", &probe.send.len().to_string());
        }
        request.push_str("\r\n");
        let mut request = request.into_bytes();
        request.extend_from_slice(&probe.send);
        request
    }

    /// What an answer means.
    fn judge(&self, probe: &HttpProbe, answer: &Answer) -> Outcome {
        let Answer { head, body } = answer;
        if !contains_in_order(body, &probe.receive) {
            return wrong_answer();
        }
        let contains =
            |ranges: &[std::ops::Range<u16>]| ranges.iter().any(|it| it.contains(&head.status));
        if !contains(&probe.expected) {
            return Outcome::Failure(Failure {
                kind: FailureKind::Active,
                is_retriable: contains(&probe.retriable),
                status: Some(head.status),
                excludes: head.fields.has(FieldName::XEnvoyImmediateHealthCheckFail),
            });
        }
        if let Some(expected) = &probe.service_name {
            self.check.stats.control().verify_cluster.inc();
            let name = head.fields.get(FieldName::XEnvoyUpstreamHealthcheckedCluster);
            if !expected.matches(name.unwrap_or_default()) {
                return wrong_answer();
            }
        }
        Outcome::Success { is_degraded: head.fields.has(FieldName::XEnvoyDegraded) }
    }
}

/// Receives a response, past interim ones, and whether the connection can carry another.
async fn receive(connection: &mut Connection, probe: &HttpProbe) -> io::Result<(Answer, bool)> {
    let invalid = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what.to_owned());
    let limits = HeadLimits { accept_http_10: true, ..HeadLimits::default() };
    let mut head = ResponseHead::default();
    loop {
        match head.parse(&limits) {
            Ok(Some(_)) if (100..200).contains(&head.status) => head.advance(),
            Ok(Some(_)) => break,
            Ok(None) => {
                if connection.read(head.received()).await? == 0 {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
            }
            Err(_) => return Err(invalid("the head of the response is not valid")),
        }
    }
    let length = framing::response(probe.method, &head)
        .map_err(|_| invalid("the end of the response is not known"))?;
    let mut body = Body::new(length, probe.response_buffer_bytes);
    let mut received = head.surplus().to_vec();
    while !body.take(&received).map_err(|()| invalid("the chunks of the response are not valid"))? {
        received.clear();
        if connection.read(&mut received).await? == 0 {
            if length == BodyLength::UntilClose {
                break;
            }
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    let stays_open = length != BodyLength::UntilClose && head.keep_alive() && !body.has_surplus;
    Ok((Answer { head, body: body.kept }, stays_open))
}

/// The body of a response while it is received.
struct Body {
    length: BodyLength,
    /// What is still to come, if its length is known.
    left: u64,
    decoder: Decoder,
    /// How much of it is kept.
    kept_max: usize,
    kept: Vec<u8>,
    has_surplus: bool,
}

impl Body {
    fn new(length: BodyLength, kept_max: u64) -> Self {
        let left = if let BodyLength::Length(bytes) = length { bytes } else { 0 };
        let kept_max = self::kept_max(kept_max);
        let decoder = Decoder::new();
        Self { length, left, decoder, kept_max, kept: Vec::new(), has_surplus: false }
    }

    /// Takes what was received; whether it was the last of it.
    fn take(&mut self, bytes: &[u8]) -> Result<bool, ()> {
        match self.length {
            BodyLength::None => {
                self.has_surplus = !bytes.is_empty();
                Ok(true)
            }
            BodyLength::UntilClose => {
                self.keep(bytes);
                Ok(false)
            }
            BodyLength::Length(_) => {
                let taken = usize::try_from(self.left).unwrap_or(usize::MAX).min(bytes.len());
                self.keep(bytes.get(..taken).unwrap_or_default());
                self.left -= taken as u64;
                self.has_surplus = taken < bytes.len();
                Ok(self.left == 0)
            }
            BodyLength::Chunked => self.take_chunks(bytes),
        }
    }

    fn take_chunks(&mut self, mut bytes: &[u8]) -> Result<bool, ()> {
        loop {
            let decoded = self.decoder.decode(bytes).map_err(|_| ())?;
            self.keep(bytes.get(decoded.data.clone()).unwrap_or_default());
            bytes = bytes.get(decoded.consumed..).unwrap_or_default();
            if decoded.end {
                self.has_surplus = !bytes.is_empty();
                return Ok(true);
            }
            if bytes.is_empty() {
                return Ok(false);
            }
        }
    }

    fn keep(&mut self, bytes: &[u8]) {
        let room = self.kept_max.saturating_sub(self.kept.len()).min(bytes.len());
        self.kept.extend_from_slice(bytes.get(..room).unwrap_or_default());
    }
}

/// `response_buffer_size` as a number of bytes: 0 is no limit.
fn kept_max(configured: u64) -> usize {
    let bytes = if configured == 0 { u64::MAX } else { configured };
    usize::try_from(bytes).unwrap_or(usize::MAX)
}
