//! Simple clients of HTTP/2 without TLS: connections that are held open, for measuring their memory, and
//! requests that are counted. What they send is the same every time, so that counts can be compared.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, ensure};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
const PATIENCE: Duration = Duration::from_secs(10);

/// Opens connections, each with this many requests that never end, or, if 0, with one GET that was answered.
pub(crate) fn open(
    address: SocketAddr,
    connections: usize,
    streams: u32,
) -> anyhow::Result<Vec<TcpStream>> {
    (0..connections).map(|_| open_one(address, streams)).collect()
}

fn open_one(address: SocketAddr, streams: u32) -> anyhow::Result<TcpStream> {
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut out = beginning();
    if streams == 0 {
        out.extend(frame(HEADERS, END_HEADERS | END_STREAM, 1, GET));
    }
    for at in 0..streams {
        out.extend(frame(HEADERS, END_HEADERS, 2 * at + 1, POST));
    }
    stream.write_all(&out)?;
    if streams == 0 {
        await_answer(&mut stream).context("the answer over HTTP/2")?;
    }
    Ok(stream)
}

/// One connection, on which so many GETs are sent, as many at once as there are streams: the next ones when
/// all of them are answered.
pub(crate) fn get(address: SocketAddr, requests: u64, streams: usize) -> anyhow::Result<()> {
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let (mut out, mut next, mut left) = (beginning(), 1, requests);
    while left > 0 {
        let batch = left.min(streams as u64);
        for _ in 0..batch {
            out.extend(frame(HEADERS, END_HEADERS | END_STREAM, next, GET));
            next += 2;
        }
        stream.write_all(&out)?;
        out.clear();
        for _ in 0..batch {
            await_answer(&mut stream).context("an answer over HTTP/2")?;
        }
        left -= batch;
    }
    Ok(())
}

/// What begins a connection: the answers need a larger window than the usual one.
fn beginning() -> Vec<u8> {
    let mut out = PREFACE.to_vec();
    out.extend(frame(SETTINGS, 0, 0, &[]));
    out.extend(frame(WINDOW_UPDATE, 0, 0, &(1_u32 << 30).to_be_bytes()));
    out
}

/// `:method`, `:scheme`, `:path` and `:authority`, in HPACK.
const GET: &[u8] = b"\x82\x86\x04\x03/13\x01\x0abench.test";
/// `:status: 200`, in HPACK.
const OK: u8 = 0x88;
const POST: &[u8] = b"\x83\x86\x04\x03/13\x01\x0abench.test";

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut out = (payload.len() as u64).to_be_bytes()[5..].to_vec();
    out.extend([kind, flags]);
    out.extend(stream.to_be_bytes());
    out.extend_from_slice(payload);
    out
}

/// Reads frames up to the end of an answer, and acknowledges the SETTINGS.
fn await_answer(stream: &mut TcpStream) -> anyhow::Result<()> {
    loop {
        let mut head = [0; 9];
        stream.read_exact(&mut head)?;
        let [a, b, c, kind, flags, ..] = head;
        let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
        stream.read_exact(&mut payload)?;
        match kind {
            SETTINGS if flags == 0 => stream.write_all(&frame(SETTINGS, 1, 0, &[]))?,
            DATA | HEADERS if flags & END_STREAM != 0 => return Ok(()),
            HEADERS => ensure!(payload.first() == Some(&OK), "the answer is not 200"),
            other => ensure!(other != GOAWAY, "the proxy goes away"),
        }
    }
}
