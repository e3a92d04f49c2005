//! One client: a connection that sends requests, and reconnects when it was closed.

use std::cell::RefCell;
use std::net::SocketAddr;

use monoio::io::{AsyncReadRent, AsyncWriteRent, AsyncWriteRentExt, Splitable};
use monoio::net::TcpStream;
use monoio::net::tcp::{TcpOwnedReadHalf, TcpOwnedWriteHalf};

use crate::http::Answer;
use crate::load::record::Failure;
use crate::tls;

/// The request of every client, and the expected answer.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) target: SocketAddr,
    pub(crate) request: &'static [u8],
    pub(crate) expect_status: u16,
    pub(crate) expect_bytes: Option<u64>,
    /// None: plain text.
    pub(crate) tls: Option<tls::Client>,
    /// Receive buffers of idle clients; the last one used is reused first.
    buffers: RefCell<Vec<Vec<u8>>>,
}

/// An open connection.
pub(crate) struct Wire {
    read: TcpOwnedReadHalf,
    write: TcpOwnedWriteHalf,
    tls: Option<Box<tls::Session>>,
}

/// A complete answer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Outcome {
    pub(crate) body_bytes: u64,
    pub(crate) keep_alive: bool,
}

impl Job {
    pub(crate) fn new(target: SocketAddr, request: Vec<u8>) -> Self {
        let (request, buffers) = (Vec::leak(request), RefCell::new(Vec::new()));
        Self { target, request, expect_status: 200, expect_bytes: None, tls: None, buffers }
    }

    pub(crate) async fn connect(&self) -> Result<Wire, Failure> {
        let stream = TcpStream::connect_addr(self.target).await.map_err(|_| Failure::Connect)?;
        stream.set_nodelay(true).map_err(|_| Failure::Connect)?;
        let (read, write) = stream.into_split();
        let mut wire = Wire { read, write, tls: None };
        if let Some(client) = &self.tls {
            wire.tls = Some(Box::new(self.handshake(client, &mut wire).await?));
        }
        Ok(wire)
    }

    /// The last message of the client is sent with its first request.
    async fn handshake(
        &self,
        client: &tls::Client,
        wire: &mut Wire,
    ) -> Result<tls::Session, Failure> {
        let mut session = client.connect()?;
        let mut buffer = self.take_buffer();
        while session.is_handshaking() {
            let hello = session.outgoing()?;
            if !hello.is_empty() {
                wire.write.write_all(hello).await.0.map_err(|_| Failure::Broken)?;
            }
            let received;
            (received, buffer) = wire.read.read(buffer).await;
            if received.map_err(|_| Failure::Broken)? == 0 {
                return Err(Failure::Tls);
            }
            session.open(&buffer, |_| Err(Failure::Malformed))?;
        }
        self.buffers.borrow_mut().push(buffer);
        if session.has_alpn() { Ok(session) } else { Err(Failure::Tls) }
    }

    fn take_buffer(&self) -> Vec<u8> {
        let buffer = self.buffers.borrow_mut().pop();
        buffer.unwrap_or_else(|| Vec::with_capacity(BUFFER_BYTES))
    }

    /// Sends one request. The send and the first receive are submitted in one system call.
    pub(crate) async fn ask(&self, wire: &mut Wire) -> Result<Outcome, Failure> {
        let Wire { read, write, tls } = wire;
        let buffer = self.take_buffer();
        let (mut received, mut buffer) = match tls {
            None => {
                let writing = write.write(self.request);
                let reading = read.read(buffer);
                let sent = writing.await.0.map_err(|_| Failure::Broken)?;
                let rest = self.request.get(sent..).unwrap_or_default();
                if !rest.is_empty() {
                    write.write_all(rest).await.0.map_err(|_| Failure::Broken)?;
                }
                reading.await
            }
            Some(session) => {
                let writing = write.write_all(session.seal(self.request)?);
                let reading = read.read(buffer);
                writing.await.0.map_err(|_| Failure::Broken)?;
                reading.await
            }
        };
        let mut answer = Answer::default();
        loop {
            let complete = match received.map_err(|_| Failure::Broken)? {
                0 if answer.ends_with_connection() => true,
                0 => return Err(Failure::Broken),
                _ => feed(&mut answer, tls, &buffer)?,
            };
            if complete {
                break;
            }
            (received, buffer) = read.read(buffer).await;
        }
        self.buffers.borrow_mut().push(buffer);
        self.judge(&answer)
    }

    fn judge(&self, answer: &Answer) -> Result<Outcome, Failure> {
        let body_bytes = answer.body_bytes();
        if answer.status() != self.expect_status {
            return Err(Failure::Status);
        }
        if self.expect_bytes.is_some_and(|expected| expected != body_bytes) {
            return Err(Failure::Malformed);
        }
        Ok(Outcome { body_bytes, keep_alive: answer.keep_alive() })
    }
}

impl Wire {
    /// Whether its TLS session is the one of an earlier connection.
    pub(crate) fn is_resumed(&self) -> bool {
        self.tls.as_ref().is_some_and(|session| session.is_resumed())
    }
}

/// Adds received bytes to the answer; true when it is complete.
fn feed(
    answer: &mut Answer,
    tls: &mut Option<Box<tls::Session>>,
    received: &[u8],
) -> Result<bool, Failure> {
    let mut complete = false;
    let mut take = |plain: &[u8]| {
        complete = answer.feed(plain).map_err(|_| Failure::Malformed)?;
        Ok(())
    };
    match tls {
        None => take(received)?,
        Some(session) => session.open(received, take)?,
    }
    Ok(complete)
}

const BUFFER_BYTES: usize = 64 << 10;
