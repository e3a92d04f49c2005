//! One client: a connection that sends requests, and reconnects when it was closed.

use std::cell::RefCell;
use std::net::SocketAddr;

use monoio::io::{AsyncReadRent, AsyncWriteRent, AsyncWriteRentExt, Splitable};
use monoio::net::TcpStream;
use monoio::net::tcp::{TcpOwnedReadHalf, TcpOwnedWriteHalf};

use crate::http::Answer;
use crate::load::record::Failure;

/// The request of every client, and the expected answer.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) target: SocketAddr,
    pub(crate) request: &'static [u8],
    pub(crate) expect_status: u16,
    pub(crate) expect_bytes: Option<u64>,
    /// Receive buffers of idle clients; the last one used is reused first.
    buffers: RefCell<Vec<Vec<u8>>>,
}

/// An open connection.
pub(crate) struct Wire {
    read: TcpOwnedReadHalf,
    write: TcpOwnedWriteHalf,
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
        Self { target, request, expect_status: 200, expect_bytes: None, buffers }
    }

    pub(crate) async fn connect(&self) -> Result<Wire, Failure> {
        let stream = TcpStream::connect_addr(self.target).await.map_err(|_| Failure::Connect)?;
        stream.set_nodelay(true).map_err(|_| Failure::Connect)?;
        let (read, write) = stream.into_split();
        Ok(Wire { read, write })
    }

    /// Sends one request. The send and the first receive are submitted in one system call.
    pub(crate) async fn ask(&self, wire: &mut Wire) -> Result<Outcome, Failure> {
        let buffer = self.buffers.borrow_mut().pop();
        let buffer = buffer.unwrap_or_else(|| Vec::with_capacity(BUFFER_BYTES));
        let writing = wire.write.write(self.request);
        let reading = wire.read.read(buffer);
        let sent = writing.await.0.map_err(|_| Failure::Broken)?;
        let rest = self.request.get(sent..).unwrap_or_default();
        if !rest.is_empty() {
            wire.write.write_all(rest).await.0.map_err(|_| Failure::Broken)?;
        }
        let mut answer = Answer::default();
        let (mut received, mut buffer) = reading.await;
        loop {
            let complete = match received.map_err(|_| Failure::Broken)? {
                0 if answer.ends_with_connection() => true,
                0 => return Err(Failure::Broken),
                _ => answer.feed(&buffer).map_err(|_| Failure::Malformed)?,
            };
            if complete {
                break;
            }
            (received, buffer) = wire.read.read(buffer).await;
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

const BUFFER_BYTES: usize = 64 << 10;
