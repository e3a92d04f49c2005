//! A client that sends exactly the bytes of the test.

use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use super::wire::{Broken, Message, Wire};
use super::{PATIENCE, Tls};

/// Long enough for a proxy on the same machine to close a connection if it is going to.
const OPEN_FOR: Duration = Duration::from_millis(100);

/// One connection to the proxy.
#[derive(Debug)]
pub(crate) struct Client {
    wire: Wire,
}

impl Client {
    #[track_caller]
    pub(crate) fn connect(address: SocketAddr) -> Self {
        Self { wire: Wire::connect(address).unwrap() }
    }

    /// The same over TLS, to the name that its certificate is for.
    #[track_caller]
    pub(crate) fn connect_tls(address: SocketAddr, tls: &Tls) -> Self {
        Self::over_tls(TcpStream::connect_timeout(&address, PATIENCE).unwrap(), tls)
    }

    /// The same on a connection of the test.
    pub(crate) fn over_tls(stream: TcpStream, tls: &Tls) -> Self {
        Self { wire: Wire::over_tls(stream, tls.client()) }
    }

    /// Writes all these bytes.
    #[track_caller]
    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) -> &mut Self {
        self.wire.send(bytes.as_ref()).unwrap();
        self
    }

    /// Writes a GET for `path`.
    #[track_caller]
    pub(crate) fn ask(&mut self, path: &str) -> &mut Self {
        self.send(format!("GET {path} HTTP/1.1\r\nhost: example\r\n\r\n"))
    }

    /// Sends a GET and returns the response.
    #[track_caller]
    pub(crate) fn get(&mut self, path: &str) -> Message {
        self.ask(path).response()
    }

    /// Sends a GET and returns the head of the response; the body is not read.
    #[track_caller]
    pub(crate) fn get_head(&mut self, path: &str) -> Message {
        self.ask(path).wire.head().unwrap()
    }

    /// Closes the sending side.
    #[track_caller]
    pub(crate) fn half_close(&mut self) -> &mut Self {
        self.wire.half_close().unwrap();
        self
    }

    /// The next response, complete.
    #[track_caller]
    pub(crate) fn response(&mut self) -> Message {
        self.response_to("GET")
    }

    /// The next complete response, to a request with this method.
    #[track_caller]
    pub(crate) fn response_to(&mut self, method: &str) -> Message {
        match self.try_response(method) {
            Ok(response) => response,
            Err(broken) => {
                panic!("no whole response: {broken:?}: {}", String::from_utf8_lossy(broken.bytes()))
            }
        }
    }

    pub(crate) fn try_response(&mut self, method: &str) -> Result<Message, Broken> {
        self.wire.response(method)
    }

    /// Everything up to the close by the proxy.
    #[track_caller]
    pub(crate) fn until_close(&mut self) -> Vec<u8> {
        self.wire.until_close().unwrap()
    }

    /// The proxy closes the connection without sending anything more.
    #[track_caller]
    pub(crate) fn is_closed(&mut self) {
        assert_eq!(String::from_utf8_lossy(&self.until_close()), "", "more came before the end");
    }

    /// The proxy has neither closed the connection nor sent anything more.
    #[track_caller]
    pub(crate) fn stays_open(&mut self) {
        assert!(self.seems_open(), "the proxy closed, or sent more");
    }

    pub(crate) fn seems_open(&mut self) -> bool {
        self.wire.stays_open(OPEN_FOR)
    }

    /// The underlying connection.
    pub(crate) fn wire(&mut self) -> &mut Wire {
        &mut self.wire
    }

    pub(crate) fn into_wire(self) -> Wire {
        self.wire
    }

    /// Closes a TLS connection without `close_notify`.
    pub(crate) fn cut(self) {
        self.wire.cut();
    }

    /// Closes the connection.
    pub(crate) fn reset(self) {
        self.wire.reset();
    }
}
