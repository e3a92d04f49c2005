//! How a connection of a pool is established: TCP, then TLS if the cluster has it.
//!
//! It counts handshakes and timeouts; the pool counts connections.

use std::future::poll_fn;
use std::task::Poll;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};

use super::error::Error;
use super::pool::Pool;
use super::pool_key::{Carries, Speaks};
use super::transport_socket::EncodedHeader;
use super::transport_socket::UpstreamTls;
use crate::shard::clock::{Millis, millis};
use crate::shard::socket::Socket;
use crate::shard::timers::Alarm;
use crate::transport::Transport;
use crate::transport::tls::context::{Connect, Wanted};
use crate::transport::tls::{Failure, Tls};

impl Pool {
    /// Connects to the host; with TLS the handshake belongs to it. The cluster's `connect_timeout`, counted
    /// from `started`, covers both.
    pub(super) async fn connected(&self, started: Millis) -> Result<Transport, Error> {
        let refused = |error: std::io::Error| {
            Error::RemoteConnectionFailure(error.raw_os_error().unwrap_or(0))
        };
        let address = self.host().address;
        let local = Socket::open(address, &self.cluster().local_end).map_err(|error| {
            tracing::debug!(target: "pool", "{address}: no local end: {error}");
            self.stats().bind_errors.inc();
            Error::LocalConnectionFailure
        })?;
        let socket = Socket::connect(local, address).map_err(|error| {
            if is_local(&error) { Error::LocalConnectionFailure } else { refused(error) }
        })?;
        self.set_keepalive(&socket);
        let alarm = self.shard().timers.alarm();
        let timeout = millis(self.cluster().connect_timeout);
        alarm.set(Some(started.saturating_add(timeout)), started);
        let writable = poll_fn(|cx| {
            if socket.poll_writable(cx).is_ready() {
                return Poll::Ready(true);
            }
            alarm.poll_expired(cx).map(|()| false)
        });
        if writable.await {
            socket.connect_result().map_err(refused)?;
            if let Some(header) = self.proxy_header() {
                // Boxed, so that the future of every other connection stays small.
                let sent = Box::pin(self.send_proxy_header(header, &socket, &alarm)).await;
                if !sent.map_err(refused)? {
                    self.stats().upstream_cx_connect_timeout.inc();
                    return Err(Error::ConnectionTimeout);
                }
            }
            match &self.host().endpoint.transport_socket.tls {
                None => Ok(Transport::Plain(socket)),
                Some(tls) => Box::pin(self.encrypted(socket, tls, &alarm)).await,
            }
        } else {
            self.stats().upstream_cx_connect_timeout.inc();
            Err(Error::ConnectionTimeout)
        }
    }

    /// Sends the PROXY header; false if `alarm` expires first. One with long values may be more than the
    /// kernel takes at once.
    async fn send_proxy_header(
        &self,
        header: &EncodedHeader,
        socket: &Socket,
        alarm: &Alarm,
    ) -> std::io::Result<bool> {
        let EncodedHeader { bytes, is_complete } = header;
        let stats = self.host().endpoint.transport_socket.proxy_header.as_ref();
        if let Some(header) = stats.filter(|_| !is_complete) {
            header.stats.shard(self.shard().id).v2_tlvs_exceed_max_length.inc();
        }
        let mut rest = &**bytes;
        loop {
            let sent = socket.send(rest)?;
            rest = rest.get(sent..).unwrap_or_default();
            if rest.is_empty() {
                return Ok(true);
            }
            let writable = poll_fn(|cx| {
                if socket.poll_writable(cx).is_ready() {
                    return self.shard().poll_proceed(cx).map(|()| true);
                }
                alarm.poll_expired(cx).map(|()| false)
            });
            if !writable.await {
                return Ok(false);
            }
        }
    }

    /// Performs the TLS handshake; `alarm` limits it.
    async fn encrypted(
        &self,
        socket: Socket,
        tls: &UpstreamTls,
        alarm: &Alarm,
    ) -> Result<Transport, Error> {
        let stats = tls.stats.shard(self.shard().id);
        let connected = self.offer(&socket).and_then(|connect| Tls::client(socket, connect));
        let result = match connected {
            Ok(tls) => {
                let transport = Transport::Tls(Box::new(tls));
                transport.handshake(self.shard(), alarm).await.map(|()| transport)
            }
            Err(failure) => Err(failure),
        };
        match result {
            Ok(transport) => {
                if let Some(facts) = transport.tls() {
                    stats.record_handshake(facts);
                }
                Ok(transport)
            }
            Err(Failure::TimedOut) => {
                self.stats().upstream_cx_connect_timeout.inc();
                Err(Error::ConnectionTimeout)
            }
            Err(failure) => {
                if failure == Failure::SecretsNotReady {
                    let factory = tls.factory.shard(self.shard().id);
                    factory.upstream_context_secrets_not_ready.inc();
                }
                stats.record_failure(failure);
                Err(Error::TlsFailure(failure))
            }
        }
    }

    /// What a new connection offers, and the name of its server.
    fn offer(&self, socket: &Socket) -> Result<Connect, Failure> {
        let hostname = &self.host().endpoint.hostname;
        let wanted = Wanted {
            hostname: Some(hostname.as_str()).filter(|name| !name.is_empty()),
            options: self.options(),
            alpn: match self.carries() {
                Carries::Requests => match self.speaks() {
                    Speaks::Http1 => &[b"http/1.1"],
                    Speaks::Http2 => &[b"h2"],
                    Speaks::Negotiated => &[b"h2", b"http/1.1"],
                },
                Carries::Bytes => &[],
            },
            local: socket.local_address().ok().map(|address| address.ip()),
            remote: self.host().address.ip(),
        };
        self.tls().ok_or(Failure::Internal)?.connect(&wanted)
    }

    /// `upstream_connection_options.tcp_keepalive`
    fn set_keepalive(&self, socket: &Socket) {
        let Some(probes) = self.cluster().tcp_keepalive else { return };
        if self.host().address.ip().is_none() {
            return; // a unix socket has no probes
        }
        let seconds = |seconds: u32| Duration::from_secs(seconds.into());
        let mut keepalive = TcpKeepalive::new();
        if let Some(time) = probes.time_seconds {
            keepalive = keepalive.with_time(seconds(time));
        }
        if let Some(interval) = probes.interval_seconds {
            keepalive = keepalive.with_interval(seconds(interval));
        }
        if let Some(count) = probes.probes {
            keepalive = keepalive.with_retries(count);
        }
        if let Err(error) = SockRef::from(socket).set_tcp_keepalive(&keepalive) {
            tracing::debug!(target: "pool", "{}: no keep-alive: {error}", self.host().address);
        }
    }
}

/// Whether the failure is local: no free port, memory or file descriptor.
fn is_local(error: &std::io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(
            libc::EADDRNOTAVAIL
                | libc::EMFILE
                | libc::ENFILE
                | libc::ENOBUFS
                | libc::ENOMEM
                | libc::EAFNOSUPPORT
        )
    )
}
