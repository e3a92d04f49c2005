//! A client that says exactly what the test tells it to.

use std::net::SocketAddr;
use std::time::Duration;

use super::wire::{Broken, Message, Wire};

/// Long enough for a proxy on the same machine to close a connection that it means to close.
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

    /// Writes these bytes, all of them.
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

    /// A GET and its response.
    #[track_caller]
    pub(crate) fn get(&mut self, path: &str) -> Message {
        self.ask(path).response()
    }

    /// A GET and the head of its response; the body is left on the wire.
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

    /// The next response, whole.
    #[track_caller]
    pub(crate) fn response(&mut self) -> Message {
        self.response_to("GET")
    }

    /// The next response, to a request with this method.
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

    /// What comes until the proxy closes.
    #[track_caller]
    pub(crate) fn until_close(&mut self) -> Vec<u8> {
        self.wire.until_close().unwrap()
    }

    /// The proxy closes now, having sent nothing more.
    #[track_caller]
    pub(crate) fn is_closed(&mut self) {
        assert_eq!(String::from_utf8_lossy(&self.until_close()), "", "more came before the end");
    }

    /// The proxy has neither closed nor sent anything more.
    #[track_caller]
    pub(crate) fn stays_open(&mut self) {
        assert!(self.seems_open(), "the proxy closed, or sent more");
    }

    pub(crate) fn seems_open(&mut self) -> bool {
        self.wire.stays_open(OPEN_FOR)
    }

    /// The wire itself, for what has no word here.
    pub(crate) fn wire(&mut self) -> &mut Wire {
        &mut self.wire
    }

    /// Goes away without a word.
    pub(crate) fn reset(self) {
        self.wire.reset();
    }
}
