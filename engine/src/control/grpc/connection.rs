//! A connection to a host of a cluster, plain or with TLS.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::address::Address;
use crate::control::server::Running;
use crate::shard::socket::Socket;
use crate::transport::tls::context::Wanted;
use crate::upstream::Cluster;
use crate::upstream::host::Host;

/// An open connection; with TLS, after the handshake.
#[derive(Debug)]
pub(in crate::control) enum Connection {
    Tcp(TcpStream),
    Unix(UnixStream),
    Tls(Box<TlsStream<Self>>),
}

/// The host of a cluster whose turn it is, if there is any.
pub(in crate::control) fn host(
    running: &Running,
    cluster: &str,
    turn: usize,
) -> io::Result<(Arc<Cluster>, Arc<Host>)> {
    running.change(|changing| {
        let mut clusters = changing.snapshot.clusters.iter();
        let Some(cluster) = clusters.find(|it| it.name == cluster) else {
            return Err(io::Error::other(format!("there is no cluster `{cluster}`")));
        };
        let hosts = changing.hosts_of(cluster);
        let hosts = hosts.hosts();
        let usable = |host: &&Arc<Host>| !host.health_flags().is_excluded();
        let healthy: Vec<_> = hosts.iter().filter(usable).collect();
        // If all are unhealthy, they are tried nevertheless.
        let host = match turn.checked_rem(healthy.len()) {
            Some(place) => healthy.get(place).copied(),
            None => turn.checked_rem(hosts.len()).and_then(|place| hosts.get(place)),
        };
        let host = host.ok_or_else(|| io::Error::other("its cluster has no host"))?;
        Ok((Arc::clone(cluster), Arc::clone(host)))
    })
}

impl Connection {
    /// Connects within the timeout of the cluster.
    /// With TLS it asks for the protocol `alpn`.
    pub(in crate::control) async fn open(
        cluster: &Cluster,
        host: &Host,
        alpn: &'static [u8],
    ) -> io::Result<Self> {
        let connected = connect(cluster, host, alpn);
        let opened = tokio::time::timeout(cluster.connect_timeout, connected).await;
        let opened = opened.unwrap_or_else(|_| {
            cluster.stats.control().upstream_cx_connect_timeout.inc();
            Err(io::ErrorKind::TimedOut.into())
        });
        if opened.is_err() {
            cluster.stats.control().upstream_cx_connect_fail.inc();
        }
        opened
    }

    pub(in crate::control) const fn is_encrypted(&self) -> bool {
        matches!(self, Self::Tls(_))
    }
}

async fn connect(cluster: &Cluster, host: &Host, alpn: &'static [u8]) -> io::Result<Connection> {
    let address = host.address;
    let local = Socket::open(address, &cluster.local_end)?;
    match local.connect(&address.to_socket_address()?) {
        Err(error) if error.raw_os_error() != Some(libc::EINPROGRESS) => return Err(error),
        _ => {}
    }
    let descriptor = OwnedFd::from(local);
    let connection = match address {
        Address::Ip(_) => {
            let stream = TcpStream::from_std(descriptor.into())?;
            stream.writable().await?;
            stream.take_error()?.map_or(Ok(()), Err)?;
            Connection::Tcp(stream)
        }
        Address::Pipe(_) => {
            let stream = UnixStream::from_std(unix::net::UnixStream::from(descriptor))?;
            stream.writable().await?;
            stream.take_error()?.map_or(Ok(()), Err)?;
            Connection::Unix(stream)
        }
    };
    let Some(tls) = &host.endpoint.transport_socket.tls else { return Ok(connection) };
    let hostname = host.endpoint.hostname.as_str();
    let wanted = Wanted {
        hostname: Some(hostname).filter(|name| !name.is_empty()),
        alpn: &[alpn],
        remote: address.ip(),
        ..Wanted::default()
    };
    // The control plane has no sessions of its own to keep apart from those of a shard.
    let handshake = tls.context.for_shard(0).connect(&wanted);
    let handshake = handshake.map_err(|failure| io::Error::other(format!("{failure:?}")))?;
    let connector = TlsConnector::from(handshake.config);
    let encrypted = connector.connect(handshake.server_name, connection).await?;
    Ok(Connection::Tls(Box::new(encrypted)))
}

impl AsyncRead for Connection {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        to: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_read(context, to),
            Self::Unix(stream) => Pin::new(stream).poll_read(context, to),
            Self::Tls(stream) => Pin::new(stream).poll_read(context, to),
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_write(context, bytes),
            Self::Unix(stream) => Pin::new(stream).poll_write(context, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_flush(context),
            Self::Unix(stream) => Pin::new(stream).poll_flush(context),
            Self::Tls(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_shutdown(context),
            Self::Unix(stream) => Pin::new(stream).poll_shutdown(context),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}
