//! The handshake: both sides send and receive until they have keys.
//!
//! A step may take most of a millisecond (an RSA signature), and there may be thousands of handshakes.
//! So the other tasks of the shard run between any two steps.

use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use super::client_hello::{ClientHello, FirstBytes, first_message};
use super::connection::Tls;
use super::context::server::Addresses;
use super::context::{Connect, ShardServerContext};
use super::facts::TlsFacts;
use super::failure::Failure;
use super::session::{Input, Session};
use crate::shard::Shard;
use crate::shard::socket::{Received, Socket};
use crate::shard::timers::Alarm;
use crate::stats::{Scope, SslSocketFactoryStats, SslStats};

/// The TLS of a filter chain on one shard.
#[derive(Debug)]
pub struct ServerTls {
    /// What the configuration says.
    pub context: ShardServerContext,
    /// `listener.<address>.ssl.`
    pub stats: Arc<Scope<SslStats>>,
    /// `listener.<address>.server_ssl_socket_factory.`
    pub factory: Arc<Scope<SslSocketFactoryStats>>,
    /// `transport_socket_connect_timeout`; none: no limit.
    pub timeout: Option<Duration>,
}

/// How far a handshake is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Progress {
    /// It waits for the peer.
    Waiting,
    Done,
}

impl Tls {
    /// The server's side of a connection that was accepted; the client begins. `early` has been received
    /// already.
    #[must_use]
    pub fn server(
        socket: Socket,
        early: Vec<u8>,
        addresses: Addresses,
        tls: &Rc<ServerTls>,
    ) -> Self {
        let mut session = Session::server(addresses, socket.buffers());
        session.has_early = !early.is_empty();
        session.incoming.extend(&early, socket.buffers());
        session.incoming.settle(socket.buffers());
        socket.buffers().give(early);
        Self::new(socket, session, Some(Rc::clone(tls)))
    }

    /// The client's side of a connection. The handshake begins when the socket is connected.
    ///
    /// # Errors
    /// When the configuration cannot be used.
    pub fn client(socket: Socket, connect: Connect) -> Result<Self, Failure> {
        let mut session = Session::client(connect, socket.buffers())?;
        session.process(&mut Vec::new(), 0);
        Ok(Self::new(socket, session, None))
    }

    /// Performs the handshake.
    ///
    /// # Errors
    /// When it fails, or `alarm` expires first.
    pub(crate) async fn handshake(&self, shard: &Shard, alarm: &Alarm) -> Result<(), Failure> {
        if let Some(server) = &self.server
            && !server.context.is_ready()
        {
            server.factory.shard(shard.id).downstream_context_secrets_not_ready.inc();
            return Err(Failure::SecretsNotReady);
        }
        while self.advance_handshake()? == Progress::Waiting {
            let arrived = poll_fn(|cx| {
                if self.poll_readable(cx).is_ready() {
                    return shard.poll_proceed(cx).map(Ok);
                }
                if alarm.poll_expired(cx).is_ready() {
                    return Poll::Ready(Err(Failure::TimedOut));
                }
                Poll::Pending
            });
            arrived.await?;
        }
        Ok(())
    }

    /// Receives once, unless there are early bytes, and does what the bytes ask for.
    fn advance_handshake(&self) -> Result<Progress, Failure> {
        let mut session = self.session.borrow_mut();
        let received = if std::mem::take(&mut session.has_early) {
            Received::Bytes(0)
        } else {
            self.receive_some(&mut session, 0)
        };
        match received {
            Received::Bytes(_) => {
                self.socket.budget().charge_handshake_step();
                if let Err(failure) = self.configure(&mut session) {
                    session.input = Input::Failed(failure);
                }
                // Bytes that arrive together with the last message are kept.
                if session.wants_config().is_none() && session.input == Input::Open {
                    session.process_handshake();
                }
            }
            Received::Nothing => {}
            Received::End => session.input = Input::Failed(Failure::Closed),
        }
        self.flush(&mut session);
        match session.input {
            Input::Failed(failure) => Err(failure),
            Input::Ended if session.is_handshaking() => Err(Failure::Closed),
            _ if session.is_handshaking() => Ok(Progress::Waiting),
            Input::Open | Input::Ended => {
                if let Some(mut facts) = session.common().map(TlsFacts::of) {
                    if let Some(observer) = session.observer.take() {
                        observer.complete(&mut facts);
                    }
                    if let Some(chosen) = session.chosen.take() {
                        chosen.complete(&mut facts)?;
                    }
                    if let Some(resumed) = session.resumed.take()
                        && facts.resumed
                    {
                        resumed.verify(&facts.peer_certificates)?;
                    }
                    let _first = self.facts.set(Rc::new(facts));
                }
                Ok(Progress::Done)
            }
        }
    }

    /// Chooses the configuration of a server as soon as the whole ClientHello has arrived. What is not a
    /// ClientHello is refused here, and not shown to rustls.
    fn configure(&self, session: &mut Session) -> Result<(), Failure> {
        let (Some(server), Some(addresses)) = (&self.server, session.wants_config()) else {
            return Ok(());
        };
        let message = match first_message(session.incoming.bytes()) {
            FirstBytes::Incomplete => return Ok(()),
            FirstBytes::NotTls => return Err(session.refuse_other_protocol()),
            FirstBytes::Malformed(flaw) => return Err(session.refuse_hello(flaw)),
            FirstBytes::ClientHello(message) => message,
        };
        let hello = match ClientHello::parse(&message) {
            Ok(hello) => hello,
            Err(flaw) => return Err(session.refuse_hello(flaw)),
        };
        if !hello.is_current() {
            // rustls would first miss what such a client does not know.
            return Err(session.refuse_version());
        }
        let chosen = server.context.choose(&hello, addresses).ok_or(Failure::Internal)?;
        server.context.count_stapling(chosen.stapling, &server.stats);
        if let Some(flaw) = chosen.flaw {
            return Err(session.refuse_hello(flaw));
        }
        session.configure(chosen)
    }
}
