//! The origin behind every proxy: prepared answers, each sent with one write.
//!
//! The last segment of the path names the answer, so any routing prefix may precede it: `/13`,
//! `/1k`, `/64k`, `/1m`, `/10m`, or `/chunked` (16 chunks of 4 KiB, one write each). The query
//! configures delays: `delay_ms=50` waits before the answer, with `every=100` only for every
//! hundredth request of a connection, and `gap_ms=5` waits between chunks.
//!
//! It is not a web server: it answers in order, discards bodies, and trusts its client.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context;
use monoio::io::{AsyncReadRent, AsyncWriteRent, AsyncWriteRentExt, Splitable};
use monoio::net::{TcpListener, TcpStream};
use socket2::{Domain, Socket, Type};

use crate::http::{self, Malformed};
use crate::runtime;

/// Where the origin listens.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Options {
    /// The address to listen on.
    #[arg(long, default_value = "127.0.0.1:24000")]
    listen: SocketAddr,
}

/// Serves until the process is stopped.
pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    runtime::raise_descriptor_limit();
    let listener = listen(options.listen)?;
    runtime::block_on(serve(listener, Site::build()))?
}

/// A listening socket whose connections send without delay.
pub(crate) fn listen(address: SocketAddr) -> anyhow::Result<std::net::TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.set_tcp_nodelay(true)?; // accepted sockets inherit it
    socket.bind(&address.into()).with_context(|| format!("bind {address}"))?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

async fn serve(listener: std::net::TcpListener, site: &'static Site) -> anyhow::Result<()> {
    let listener = TcpListener::from_std(listener)?;
    loop {
        match listener.accept().await {
            Ok((stream, _)) => drop(monoio::spawn(connection(stream, site))),
            Err(_) => monoio::time::sleep(ACCEPT_PAUSE).await, // out of descriptors: retry later
        }
    }
}

/// Why a connection ended.
enum End {
    Closed,
}

impl From<std::io::Error> for End {
    fn from(_: std::io::Error) -> Self {
        Self::Closed
    }
}

impl From<Malformed> for End {
    fn from(_: Malformed) -> Self {
        Self::Closed
    }
}

async fn connection(stream: TcpStream, site: &'static Site) {
    match Connection::new(stream, site).serve().await {
        Ok(()) | Err(End::Closed) => {}
    }
}

struct Connection {
    read: monoio::net::tcp::TcpOwnedReadHalf,
    write: monoio::net::tcp::TcpOwnedWriteHalf,
    site: &'static Site,
    /// The receive buffer.
    chunk: Vec<u8>,
    /// A head that arrived in pieces.
    partial: Vec<u8>,
    served: u64,
}

impl Connection {
    fn new(stream: TcpStream, site: &'static Site) -> Self {
        let (read, write) = stream.into_split();
        let (chunk, partial) = (Vec::with_capacity(READ_BYTES), Vec::new());
        Self { read, write, site, chunk, partial, served: 0 }
    }

    async fn serve(mut self) -> Result<(), End> {
        self.receive().await?;
        loop {
            let Some((head, ask)) = self.head()? else {
                self.partial.extend_from_slice(&self.chunk);
                self.receive().await?;
                continue;
            };
            self.discard_body(head).await?;
            self.served += 1;
            if ask.delay > Duration::ZERO && self.served.is_multiple_of(ask.every) {
                monoio::time::sleep(ask.delay).await;
            }
            let page = self.site.page(ask.page, head.keep_alive);
            if !head.keep_alive {
                self.send(page, ask.gap).await?;
                self.write.shutdown().await?;
                return Ok(());
            }
            self.send_and_receive(page, ask.gap).await?;
        }
    }

    fn head(&self) -> Result<Option<(http::Head, Ask)>, Malformed> {
        if self.partial.is_empty() {
            return Ok(http::request(&self.chunk)?.map(|(head, target)| (head, Ask::parse(target))));
        }
        let joined = [self.partial.as_slice(), self.chunk.as_slice()].concat();
        Ok(http::request(&joined)?.map(|(head, target)| (head, Ask::parse(target))))
    }

    async fn receive(&mut self) -> Result<(), End> {
        let reading = self.read.read(std::mem::take(&mut self.chunk));
        let (received, chunk) = reading.await;
        self.chunk = chunk;
        if received? == 0 { Err(End::Closed) } else { Ok(()) }
    }

    async fn discard_body(&mut self, head: http::Head) -> Result<(), End> {
        let mut body = head.body;
        let begin = head.len - self.partial.len();
        self.partial.clear();
        body.consume(self.chunk.get(begin..).unwrap_or_default())?;
        while !body.is_complete() {
            self.receive().await?;
            body.consume(&self.chunk)?;
        }
        Ok(())
    }

    async fn send(&mut self, page: &'static Page, gap: Duration) -> Result<(), End> {
        for (index, piece) in page.pieces.iter().enumerate() {
            if index > 0 && gap > Duration::ZERO {
                monoio::time::sleep(gap).await;
            }
            self.write.write_all(*piece).await.0?;
        }
        Ok(())
    }

    /// Submits both at once: for a small answer that is one system call instead of two.
    async fn send_and_receive(&mut self, page: &'static Page, gap: Duration) -> Result<(), End> {
        let [piece] = page.pieces.as_slice() else {
            self.send(page, gap).await?;
            return self.receive().await;
        };
        let writing = self.write.write(*piece);
        let reading = self.read.read(std::mem::take(&mut self.chunk));
        let sent = writing.await.0?;
        let rest = piece.get(sent..).unwrap_or_default();
        if !rest.is_empty() {
            self.write.write_all(rest).await.0?;
        }
        let (received, chunk) = reading.await;
        self.chunk = chunk;
        if received? == 0 { Err(End::Closed) } else { Ok(()) }
    }
}

/// What a request target requests.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Ask {
    page: Name,
    delay: Duration,
    every: u64,
    gap: Duration,
}

impl Ask {
    fn parse(target: &str) -> Self {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let name = path.rsplit('/').next().unwrap_or_default();
        let number = |key: &str| {
            let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
            pairs.find(|(name, _)| *name == key).and_then(|(_, value)| value.parse::<u64>().ok())
        };
        let milliseconds = |key| Duration::from_millis(number(key).unwrap_or(0));
        Self {
            page: Name::parse(name),
            delay: milliseconds("delay_ms"),
            every: number("every").unwrap_or(1).max(1),
            gap: milliseconds("gap_ms"),
        }
    }
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Name {
    Hello,
    Kilobyte,
    Kilobytes64,
    Megabyte,
    Megabytes10,
    Chunked,
}

impl Name {
    fn parse(name: &str) -> Self {
        match name {
            "1k" => Self::Kilobyte,
            "64k" => Self::Kilobytes64,
            "1m" => Self::Megabyte,
            "10m" => Self::Megabytes10,
            "chunked" => Self::Chunked,
            _ => Self::Hello,
        }
    }
}

/// One answer, as its writes.
#[derive(Debug)]
struct Page {
    pieces: Vec<&'static [u8]>,
}

/// Every answer, with and without `connection: close`. Lives as long as the process.
#[derive(Debug)]
struct Site {
    keep_alive: Pages,
    close: Pages,
}

#[derive(Debug)]
struct Pages {
    hello: Page,
    kilobyte: Page,
    kilobytes64: Page,
    megabyte: Page,
    megabytes10: Page,
    chunked: Page,
}

impl Site {
    fn build() -> &'static Self {
        let (keep_alive, close) = (Pages::build(""), Pages::build("connection: close\r\n"));
        Box::leak(Box::new(Self { keep_alive, close }))
    }

    fn page(&self, name: Name, keep_alive: bool) -> &Page {
        let pages = if keep_alive { &self.keep_alive } else { &self.close };
        match name {
            Name::Hello => &pages.hello,
            Name::Kilobyte => &pages.kilobyte,
            Name::Kilobytes64 => &pages.kilobytes64,
            Name::Megabyte => &pages.megabyte,
            Name::Megabytes10 => &pages.megabytes10,
            Name::Chunked => &pages.chunked,
        }
    }
}

impl Pages {
    fn build(connection: &str) -> Self {
        let sized = |bytes: usize| Page::fixed(connection, &vec![b'x'; bytes]);
        Self {
            hello: Page::fixed(connection, b"Hello, World!"),
            kilobyte: sized(1 << 10),
            kilobytes64: sized(64 << 10),
            megabyte: sized(1 << 20),
            megabytes10: sized(10 << 20),
            chunked: Page::chunked(connection),
        }
    }
}

impl Page {
    fn fixed(connection: &str, body: &[u8]) -> Self {
        let framing = format!("content-length: {}\r\n", body.len());
        let mut bytes = head(connection, &framing);
        bytes.extend_from_slice(body);
        Self { pieces: vec![Vec::leak(bytes)] }
    }

    fn chunked(connection: &str) -> Self {
        let mut chunk = format!("{CHUNK_BYTES:x}\r\n").into_bytes();
        chunk.resize(chunk.len() + CHUNK_BYTES, b'x');
        chunk.extend_from_slice(b"\r\n");
        let chunk: &'static [u8] = Vec::leak(chunk);
        let mut first = head(connection, "transfer-encoding: chunked\r\n");
        first.extend_from_slice(chunk);
        let mut pieces: Vec<&'static [u8]> = vec![Vec::leak(first)];
        pieces.extend(std::iter::repeat_n(chunk, CHUNKS - 1));
        pieces.push(b"0\r\n\r\n");
        Self { pieces }
    }
}

fn head(connection: &str, framing: &str) -> Vec<u8> {
    format!(
        "HTTP/1.1 200 OK\r\nserver: origin\r\ndate: Thu, 01 Jan 2026 00:00:00 GMT\r\n\
         content-type: text/plain\r\n{framing}{connection}\r\n"
    )
    .into_bytes()
}

const BACKLOG: i32 = 4096;
const ACCEPT_PAUSE: Duration = Duration::from_millis(10);
const READ_BYTES: usize = 64 << 10;
const CHUNKS: usize = 16;
const CHUNK_BYTES: usize = 4096;

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::http::Answer;

    /// An origin that serves until the tests end.
    pub(crate) fn on_a_thread() -> SocketAddr {
        let listener = listen(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(|| runtime::block_on(serve(listener, Site::build())).unwrap());
        address
    }

    #[test]
    fn the_last_segment_names_the_answer_and_the_query_its_delays() {
        let ask = Ask::parse("/r999/64k?delay_ms=20&every=100&gap_ms=3");
        assert_eq!(ask.page, Name::Kilobytes64);
        assert_eq!((ask.delay, ask.every), (Duration::from_millis(20), 100));
        assert_eq!(ask.gap, Duration::from_millis(3));
        assert_eq!(Ask::parse("/anything").page, Name::Hello);
    }

    #[test]
    fn every_answer_reads_as_it_was_named() {
        let site = Site::build();
        let sizes = [
            (Name::Hello, 13),
            (Name::Kilobyte, 1 << 10),
            (Name::Kilobytes64, 64 << 10),
            (Name::Megabyte, 1 << 20),
            (Name::Megabytes10, 10 << 20),
        ];
        for (name, bytes) in sizes {
            let mut answer = Answer::default();
            assert_eq!(answer.feed(site.page(name, true).pieces[0]), Ok(true));
            assert_eq!((answer.body_bytes(), answer.keep_alive()), (bytes, true));
            let mut last = Answer::default();
            assert_eq!(last.feed(site.page(name, false).pieces[0]), Ok(true));
            assert!(!last.keep_alive());
        }
    }

    #[test]
    fn a_chunked_answer_is_complete_only_after_its_last_piece() {
        let mut answer = Answer::default();
        let pieces = &site_chunked().pieces;
        for piece in &pieces[..pieces.len() - 1] {
            assert_eq!(answer.feed(piece), Ok(false));
        }
        assert_eq!(answer.feed(pieces[pieces.len() - 1]), Ok(true));
    }

    fn site_chunked() -> &'static Page {
        Site::build().page(Name::Chunked, true)
    }
}
