//! HTTP/1 on the wire, read strictly: a byte too many or too few is an error.

use std::fmt;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::ops::Deref;
use std::time::Duration;

use super::tls::{Handshake, Session};
use super::{PATIENCE, wait_until};

/// A connection, and the bytes that were received but not read yet.
#[derive(Debug)]
pub(crate) struct Wire {
    stream: TcpStream,
    /// None: the bytes are plain.
    tls: Option<Session>,
    received: Vec<u8>,
}

/// A complete request or response.
#[derive(Clone, Debug, Default)]
pub(crate) struct Message {
    /// The first line, without its line end.
    pub(crate) start_line: String,
    /// Names as received; values without surrounding white space.
    pub(crate) headers: Vec<(String, String)>,
    /// The body without chunk framing.
    pub(crate) body: Vec<u8>,
    /// The trailers.
    pub(crate) trailers: Vec<String>,
    pub(crate) framing: Framing,
    /// The 1xx responses before it.
    pub(crate) interim: Vec<u16>,
}

/// How the end of a body was marked.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) enum Framing {
    #[default]
    Bodyless,
    ContentLength,
    Chunked,
    UntilClose,
}

/// Why no complete message was received.
#[derive(Debug)]
pub(crate) enum Broken {
    /// The peer closed after these bytes of the message.
    Closed(Vec<u8>),
    /// The peer closed a TLS connection without saying so (`close_notify`) after these bytes of the
    /// message.
    Cut(Vec<u8>),
    /// The peer reset the connection after these bytes of the message.
    Reset(Vec<u8>),
    /// Nothing was received for `PATIENCE` after these bytes of the message.
    Silent(Vec<u8>),
    /// It is not HTTP/1.1.
    Malformed(String),
}

impl Wire {
    pub(crate) fn connect(address: SocketAddr) -> io::Result<Self> {
        TcpStream::connect_timeout(&address, PATIENCE).map(Self::new)
    }

    pub(crate) fn new(stream: TcpStream) -> Self {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream, tls: None, received: Vec::new() }
    }

    /// Speaks TLS; the handshake is done with the first bytes.
    pub(crate) fn over_tls(stream: TcpStream, session: Session) -> Self {
        let mut wire = Self::new(stream);
        wire.tls = Some(session);
        wire
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        match &mut self.tls {
            None => self.stream.write_all(bytes),
            Some(session) => session.send(bytes, &mut self.stream),
        }
    }

    pub(crate) fn half_close(&mut self) -> io::Result<()> {
        if let Some(session) = &mut self.tls {
            session.notify_close(&mut self.stream)?;
        }
        self.stream.shutdown(Shutdown::Write)
    }

    /// Closes a TLS connection without saying so.
    pub(crate) fn cut(mut self) {
        self.tls = None;
    }

    /// What was offered in the handshake, if there was one.
    pub(super) fn handshake(&self) -> Option<Handshake> {
        self.tls.as_ref().map(Session::handshake)
    }

    /// What the handshake has settled.
    pub(crate) fn session(&self) -> &Session {
        self.tls.as_ref().unwrap()
    }

    /// Closes with a reset.
    pub(crate) fn reset(mut self) {
        self.tls = None;
        let socket = socket2::SockRef::from(&self.stream);
        socket.set_linger(Some(Duration::ZERO)).unwrap();
    }

    /// Reads nothing until the peer has closed the connection.
    pub(crate) fn waits_for_reset(&self) {
        wait_until("the proxy to close", || matches!(self.stream.take_error(), Ok(Some(_))));
    }

    /// The response to a request with this method; 1xx responses before it are in `interim`.
    pub(crate) fn response(&mut self, method: &str) -> Result<Message, Broken> {
        let mut interim = Vec::new();
        loop {
            let mut response = self.head()?;
            let status = response.status();
            if (100..200).contains(&status) && status != 101 {
                interim.push(status);
                continue;
            }
            let never_has_body = method == "HEAD" || matches!(status, 101 | 204 | 304);
            response.framing = match response.body_length()? {
                _ if never_has_body => Framing::Bodyless,
                Framing::Bodyless => Framing::UntilClose,
                length => length,
            };
            response.interim = interim;
            return self.body(response);
        }
    }

    /// The response to HEAD. An error response may have a body: a server that cannot parse a
    /// request does not know its method either.
    pub(crate) fn response_to_head(&mut self) -> Result<Message, Broken> {
        loop {
            let mut response = self.head()?;
            let ends = response.header("connection").as_deref() == Some("close");
            if response.status() >= 400 && ends {
                response.body = self.until_close()?;
                return Ok(response);
            }
            if response.status() >= 200 {
                return Ok(response);
            }
        }
    }

    /// The head of a request, whose body is not read; `None` if the peer closed instead.
    pub(crate) fn request_head(&mut self) -> Result<Option<Message>, Broken> {
        match self.head() {
            Ok(mut request) => {
                request.framing = request.body_length()?;
                Ok(Some(request))
            }
            Err(Broken::Closed(bytes)) if bytes.is_empty() => Ok(None),
            Err(broken) => Err(broken),
        }
    }

    /// Reads the rest of a message whose head was read.
    pub(crate) fn body(&mut self, mut message: Message) -> Result<Message, Broken> {
        let head = message.canonical();
        let body = match message.framing {
            Framing::Bodyless => Ok(Vec::new()),
            Framing::ContentLength => {
                let length = message.header("content-length").unwrap_or_default();
                self.take(length.parse().map_err(|_| Broken::Malformed(length))?)
            }
            Framing::Chunked => self.chunks(&mut message.trailers),
            Framing::UntilClose => self.until_close(),
        };
        message.body = body.map_err(|broken| broken.after(&head))?;
        Ok(message)
    }

    /// Everything up to the end of the connection.
    pub(crate) fn until_close(&mut self) -> Result<Vec<u8>, Broken> {
        loop {
            match self.receive() {
                Ok(()) => {}
                Err(Broken::Closed(bytes)) => return Ok(bytes),
                Err(broken) => return Err(broken),
            }
        }
    }

    /// Whether the peer keeps the connection open for `time`.
    pub(crate) fn stays_open(&mut self, time: Duration) -> bool {
        if !self.received.is_empty() {
            return false; // it has sent more
        }
        self.stream.set_read_timeout(Some(time)).unwrap();
        let open = matches!(self.receive(), Err(Broken::Silent(bytes)) if bytes.is_empty());
        self.stream.set_read_timeout(Some(PATIENCE)).unwrap();
        open
    }

    /// Reads and discards `count` bytes.
    pub(crate) fn skip(&mut self, mut count: u64) -> Result<(), Broken> {
        while count > 0 {
            if self.received.is_empty() {
                self.receive()?;
            }
            let here = self.received.len().min(usize::try_from(count).unwrap_or(usize::MAX));
            self.received.drain(..here);
            count -= here as u64;
        }
        Ok(())
    }

    /// The next head.
    pub(crate) fn head(&mut self) -> Result<Message, Broken> {
        let mut searched = 0;
        let end = loop {
            let found = self.received[searched..].windows(4).position(|w| w == b"\r\n\r\n");
            if let Some(at) = found {
                break searched + at + 4;
            }
            searched = self.received.len().saturating_sub(3);
            self.receive()?;
        };
        let head: Vec<u8> = self.received.drain(..end).collect();
        let head: String = head.iter().map(|&byte| char::from(byte)).collect();
        let mut lines = head.trim_end_matches("\r\n").split("\r\n");
        let start_line = lines.next().unwrap_or_default().to_owned();
        let headers = lines.map(|line| {
            let (name, value) =
                line.split_once(':').ok_or_else(|| Broken::Malformed(line.to_owned()))?;
            Ok((name.to_owned(), value.trim_matches([' ', '\t']).to_owned()))
        });
        Ok(Message {
            start_line,
            headers: headers.collect::<Result<_, _>>()?,
            ..Message::default()
        })
    }

    fn chunks(&mut self, trailers: &mut Vec<String>) -> Result<Vec<u8>, Broken> {
        let mut body = Vec::new();
        loop {
            let line = self.line().map_err(|broken| broken.after(&body))?;
            let size = usize::from_str_radix(&line, 16)
                .map_err(|_| Broken::Malformed(format!("chunk size {line:?}")))?;
            if size == 0 {
                loop {
                    let line = self.line().map_err(|broken| broken.after(&body))?;
                    if line.is_empty() {
                        return Ok(body);
                    }
                    trailers.push(line);
                }
            }
            let chunk = self.take(size).map_err(|broken| broken.after(&body))?;
            body.extend_from_slice(&chunk);
            let end = self.line().map_err(|broken| broken.after(&body))?;
            if !end.is_empty() {
                return Err(Broken::Malformed(format!("{end:?} after a chunk")));
            }
        }
    }

    fn line(&mut self) -> Result<String, Broken> {
        let end = loop {
            if let Some(at) = self.received.windows(2).position(|w| w == b"\r\n") {
                break at;
            }
            self.receive()?;
        };
        let line: Vec<u8> = self.received.drain(..end + 2).take(end).collect();
        Ok(String::from_utf8_lossy(&line).into_owned())
    }

    /// The next `count` bytes.
    pub(crate) fn take(&mut self, count: usize) -> Result<Vec<u8>, Broken> {
        while self.received.len() < count {
            self.receive()?;
        }
        Ok(self.received.drain(..count).collect())
    }

    /// What arrives within this time.
    pub(crate) fn next_bytes(&mut self, time: Duration) -> Result<Vec<u8>, Broken> {
        self.stream.set_read_timeout(Some(time)).unwrap();
        let received = if self.received.is_empty() { self.receive() } else { Ok(()) };
        self.stream.set_read_timeout(Some(PATIENCE)).unwrap();
        received.map(|()| std::mem::take(&mut self.received))
    }

    /// Waits for more bytes. An error contains the bytes received but not read.
    fn receive(&mut self) -> Result<(), Broken> {
        let mut buffer = vec![0; 64 << 10];
        let read = match &mut self.tls {
            None => self.stream.read(&mut buffer),
            Some(session) => session.receive(&mut buffer, &mut self.stream),
        };
        match read {
            Ok(0) => Err(Broken::Closed(std::mem::take(&mut self.received))),
            Ok(count) => {
                self.received.extend_from_slice(&buffer[..count]);
                Ok(())
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                Err(Broken::Silent(std::mem::take(&mut self.received)))
            }
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => {
                Err(Broken::Cut(std::mem::take(&mut self.received)))
            }
            Err(_) => Err(Broken::Reset(std::mem::take(&mut self.received))),
        }
    }
}

impl Message {
    /// The status code; 0 for a request.
    pub(crate) fn status(&self) -> u16 {
        let code = self.start_line.strip_prefix("HTTP/1.1 ").or_else(|| {
            // Envoy answers HTTP/1.0 requests with HTTP/1.0 when configured to accept them.
            self.start_line.strip_prefix("HTTP/1.0 ")
        });
        code.and_then(|rest| rest.get(..3)?.parse().ok()).unwrap_or(0)
    }

    /// The value of a header that appears at most once.
    ///
    /// # Panics
    /// If it appears twice.
    #[track_caller]
    pub(crate) fn header(&self, name: &str) -> Option<String> {
        let mut values = self.headers.iter().filter(|(n, _)| n.eq_ignore_ascii_case(name));
        let value = values.next().map(|(_, value)| value.clone());
        assert!(values.next().is_none(), "more than one {name} in {self}");
        value
    }

    /// The values of a header that may appear several times; its name is written as on the wire.
    pub(crate) fn values(&self, name: &str) -> Vec<&str> {
        let headers = self.headers.iter().filter(|(other, _)| other == name);
        headers.map(|(_, value)| &**value).collect()
    }

    /// The body as text.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The bytes of the message, with its chunks joined: the chunk boundaries depend on timing.
    pub(crate) fn canonical(&self) -> Vec<u8> {
        let mut out = Vec::new();
        let latin1 = |text: &str| text.chars().map(|c| c as u8).collect::<Vec<u8>>();
        out.extend(latin1(&self.start_line));
        for (name, value) in &self.headers {
            let space = if value.is_empty() { "" } else { " " };
            out.extend(latin1(&format!("\r\n{name}:{space}{value}")));
        }
        out.extend_from_slice(b"\r\n\r\n");
        let has_content = !self.body.is_empty() || !self.trailers.is_empty();
        if self.framing != Framing::Chunked || !has_content {
            out.extend_from_slice(&self.body);
            return out;
        }
        if !self.body.is_empty() {
            out.extend_from_slice(format!("{:x}\r\n", self.body.len()).as_bytes());
            out.extend_from_slice(&self.body);
            out.extend_from_slice(b"\r\n");
        }
        out.extend_from_slice(b"0\r\n");
        for trailer in &self.trailers {
            out.extend(latin1(&format!("{}\r\n", trailer.trim_end())));
        }
        out.extend_from_slice(b"\r\n");
        out
    }

    fn body_length(&self) -> Result<Framing, Broken> {
        let length = self.header("content-length");
        match (self.header("transfer-encoding").as_deref(), length) {
            (None, None) => Ok(Framing::Bodyless),
            (None, Some(_)) => Ok(Framing::ContentLength),
            (Some("chunked"), None) => Ok(Framing::Chunked),
            _ => Err(Broken::Malformed(format!("conflicting or invalid length: {self}"))),
        }
    }
}

impl fmt::Display for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(&self.canonical()))
    }
}

impl Broken {
    /// The bytes of the message that were received.
    pub(crate) fn bytes(&self) -> &[u8] {
        match self {
            Self::Closed(bytes) | Self::Cut(bytes) | Self::Reset(bytes) | Self::Silent(bytes) => {
                bytes
            }
            Self::Malformed(text) => text.as_bytes(),
        }
    }

    fn after(self, before: &[u8]) -> Self {
        let join = |bytes: Vec<u8>| [before, &bytes].concat();
        match self {
            Self::Closed(bytes) => Self::Closed(join(bytes)),
            Self::Cut(bytes) => Self::Cut(join(bytes)),
            Self::Reset(bytes) => Self::Reset(join(bytes)),
            Self::Silent(bytes) => Self::Silent(join(bytes)),
            Self::Malformed(text) => Self::Malformed(text),
        }
    }
}

/// A TLS connection is closed in order, except by `cut` and `reset`.
impl Drop for Wire {
    fn drop(&mut self) {
        if let Some(session) = &mut self.tls {
            drop(session.notify_close(&mut self.stream));
        }
    }
}

impl Deref for Wire {
    type Target = TcpStream;

    fn deref(&self) -> &TcpStream {
        &self.stream
    }
}
