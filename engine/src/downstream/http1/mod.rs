//! HTTP/1 with a client: requests one after the other, on one connection. Read `serve` first.
//!
//! The codec itself is `crate::http1`; what becomes of a request is decided in `crate::request`.
//!
//! Invariant: bytes received after the current message are in `early`, and nowhere else.

mod end;
mod filtered;
mod next_request;

use std::future::poll_fn;
use std::pin::Pin;
use std::task::Poll;

use self::end::{End, Persistence};
pub use self::filtered::Behind;
use self::next_request::Next;
use super::closing::{self, Ending};
use super::connection::{Client, Input, Speaks};
use super::http2;
use crate::http1::framing;
use crate::limits;
use crate::request;
use crate::request::end::Gone;
use crate::request::given::Given;
use crate::request::reply::HeadLimit;
use crate::shard::clock::{Millis, millis};
use crate::shard::socket::{Peeked, Received};
use crate::transport::Transport;

/// Serves one client until either side closes the connection.
#[expect(clippy::manual_async_fn, reason = "an async function would store its argument twice")]
pub fn serve(mut connection: Connection) -> impl Future<Output = ()> {
    async move {
        let end = loop {
            // Here, and not before the loop: one more way out of this future costs every request more.
            if connection.client.requests() == 0 && connection.client.speaks() == Speaks::Http2 {
                break Stop::Http2;
            }
            // This future is what an idle connection costs in memory. So the wait for a request is
            // small, and an exchange runs in a pooled block.
            // Nothing is borrowed here across a wait: that would be kept in the future too.
            let after = match connection.next_request().await {
                Next::Request(mut heads) => {
                    connection.client.count_request();
                    connection.begin_exchange();
                    let after = match framing::request(&heads.request) {
                        Ok(body) => {
                            let Connection { client, wire } = &mut connection;
                            client.given.service.renew(&mut client.given.routes);
                            let (client, given) = (&*client, &client.given);
                            let persistence = Persistence::of(&heads.request);
                            let exchange = given.shard.futures.place(|| {
                                request::serve(
                                    move || End::new(client, wire, persistence, body),
                                    given,
                                    &mut heads,
                                    body,
                                )
                            });
                            exchange.await
                        }
                        Err(error) => Box::pin(End::refuse(&mut connection, error.into())).await,
                    };
                    connection.client.given.service.heads.give(heads);
                    after
                }
                Next::Refused(error) => {
                    connection.begin_exchange();
                    Box::pin(End::refuse(&mut connection, error.into())).await
                }
                Next::TimedOut(limit) => {
                    connection.begin_exchange();
                    Box::pin(End::time_out_head(&mut connection, limit)).await
                }
                // The last response may still be on its way: a client that has half-closed reads it.
                Next::Closed => break Stop::Left,
                Next::Preface => break Stop::Http2,
            };
            connection.client.end_exchange();
            if after != After::Next {
                break Stop::After(after);
            }
        };
        match end {
            Stop::After(after) => connection.close(after).await,
            Stop::Left => connection.leave().await,
            Stop::Http2 => connection.into_http2().await,
        }
    }
}

/// Why no further request of HTTP/1 is served.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Stop {
    /// After the last exchange.
    After(After),
    /// The client has gone, or has sent nothing for too long.
    Left,
    /// The client speaks HTTP/2.
    Http2,
}

/// An HTTP/1 connection with a client.
#[derive(Debug)]
pub struct Connection {
    client: Client,
    wire: Wire,
}

/// What HTTP/1 knows of the connection.
#[derive(Debug)]
struct Wire {
    transport: Transport,
    /// Received after the current message.
    early: Vec<u8>,
}

/// What a connection waits for between two exchanges.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Want {
    /// Bytes of the client.
    In,
    /// Nothing but that the client disconnects.
    Nothing,
}

/// How such a wait ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Waited {
    Ready,
    /// The client has disconnected.
    Gone,
    /// The alarm has expired.
    TimedOut,
}

/// What happens to the connection after an exchange.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum After {
    /// Keep-alive: wait for the next request.
    Next,
    /// Close.
    Close,
    /// Lingering close: the client may still be sending, and gets time to read the response.
    Linger,
    /// Reset: the response is incomplete, and the client must be able to tell.
    Reset,
}

impl Connection {
    /// A connection with `client`, which is counted in the stats. `early` has been received already.
    #[must_use]
    pub fn new(client: Client, transport: Transport, early: Vec<u8>) -> Self {
        client.given.count_received(early.len());
        let wire = Wire { transport, early };
        Self { client, wire }
    }

    /// Goes on with HTTP/2. Boxed, so that it does not make idle connections larger.
    fn into_http2(self) -> Pin<Box<dyn Future<Output = ()>>> {
        let Self { client, wire: Wire { transport, early } } = self;
        Box::pin(http2::serve(client, transport, early))
    }

    /// Ends the connection after its last exchange; the descriptor is closed when `self` is dropped.
    async fn close(&mut self, after: After) {
        closing::flush(self).await;
        match after {
            After::Close if self.may_be_sending() => self.linger().await,
            After::Linger => self.linger().await,
            After::Next | After::Close => self.leave().await,
            After::Reset => self.wire.transport.reset_on_close(),
        }
        self.client.given.shard.buffers.give(std::mem::take(&mut self.wire.early));
    }

    /// Closes in order: the client can tell that it has got everything.
    fn leave(&self) -> impl Future<Output = ()> {
        closing::leave(self)
    }

    fn linger(&self) -> impl Future<Output = ()> {
        closing::linger(self)
    }

    /// Whether a close now could be a reset: the client has sent bytes that will not be read, or is
    /// about to, because it does not know yet that the connection is draining.
    fn may_be_sending(&self) -> bool {
        let knows = !self.client.given.is_draining();
        self.client.input() == Input::Open
            && !(knows && self.wire.transport.peek() == Peeked::Silent)
    }

    /// Counts that a request has begun.
    fn begin_exchange(&mut self) {
        self.client.begin_exchange();
        self.client.given.stats().downstream_rq_http1_total.inc();
    }

    /// Waits until `want` has come true or the alarm, which the caller has set, expires.
    fn wait(&self, want: Want) -> impl Future<Output = Waited> {
        poll_fn(move |cx| {
            let (transport, given) = (&self.wire.transport, &self.client.given);
            let (ready, waited) = match want {
                Want::In => (transport.poll_readable(cx), Waited::Ready),
                Want::Nothing => (transport.poll_closed(cx), Waited::Gone),
            };
            let expired = given.alarm.poll_expired(cx);
            let waited = match (expired, ready) {
                (Poll::Ready(()), _) => Waited::TimedOut,
                (Poll::Pending, Poll::Ready(())) => waited,
                (Poll::Pending, Poll::Pending) => return Poll::Pending,
            };
            given.shard.poll_proceed(cx).map(|()| waited)
        })
    }
}

impl Ending for Connection {
    fn client(&self) -> &Client {
        &self.client
    }

    fn transport(&self) -> &Transport {
        &self.wire.transport
    }
}

impl Wire {
    /// Whether [`Self::receive_ahead`] can receive anything.
    fn listens_ahead(&self, client: &Client) -> bool {
        client.input() == Input::Open && self.early.len() < limits::PIPELINED_BYTES_MAX
    }

    /// Receives what the client sends before its response is complete (pipelined requests), which also
    /// detects that it disconnects.
    fn receive_ahead(&mut self, client: &Client) -> Result<(), Gone> {
        if self.early.capacity() == 0 {
            self.early = client.given.shard.buffers.take();
        }
        // Without spare capacity nothing would be received, and the wait would be over at once, forever.
        if self.early.len() == self.early.capacity() {
            self.early.reserve(limits::PIPELINED_BYTES_MAX.saturating_sub(self.early.len()));
        }
        match self.transport.receive(&mut self.early) {
            Ok(Received::Bytes(n)) => client.given.count_received(n),
            Ok(Received::End) => client.half_close(),
            Ok(Received::Nothing) => {}
            Err(_) => {
                client.gone();
                return Err(Gone);
            }
        }
        Ok(())
    }
}

/// Sets the alarm to the deadline of a head that has begun at `began`.
fn set_head_alarm(given: &Given, began: Millis) {
    let at = head_limit(given).map(|(most, _)| began.saturating_add(most));
    given.alarm.set(at, given.shard.clock.now());
}

/// How long a head may take, and which timeout limits it.
fn head_limit(given: &Given) -> Option<(Millis, HeadLimit)> {
    let timeouts = &given.service.manager.timeouts;
    let limits = [
        (timeouts.request_headers, HeadLimit::Head),
        (timeouts.request, HeadLimit::Request),
        (timeouts.stream_idle, HeadLimit::Idle),
        (timeouts.max_stream_duration, HeadLimit::Duration),
    ];
    let limits = limits.into_iter().filter_map(|(most, limit)| Some((millis(most?), limit)));
    limits.min_by_key(|(most, _)| *most)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An idle connection costs its task and its entries in the tables of its shard.
    #[test]
    fn a_connection_is_a_small_task() {
        const fn size_of_task<T>(_serve: fn(Connection) -> T) -> usize {
            size_of::<T>()
        }
        assert!(size_of_task(serve) <= 384, "{} bytes", size_of_task(serve));
    }
}
