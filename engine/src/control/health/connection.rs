//! A connection for health checks, plain or with TLS.

use std::io::{self, Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix;
use std::sync::Arc;

use rustls::ClientConnection;
use socket2::SockRef;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixStream};

use crate::address::Address;
use crate::shard::socket::Socket;
use crate::transport::tls::context::{ClientContext, Latest, ShardClientContext, Wanted};
use crate::upstream::Cluster;
use crate::upstream::health_check::HealthCheck;
use crate::upstream::host::Host;
use crate::upstream::transport_socket::ProxyHeader;

/// Where the checks of a host connect to, and how.
pub(super) struct Endpoint {
    pub(super) host: Arc<Host>,
    pub(super) cluster: Arc<Cluster>,
    address: Address,
    tls: Option<ShardClientContext>,
    proxy_header: Option<Arc<ProxyHeader>>,
    alpn: Vec<Vec<u8>>,
}

/// An open connection.
pub(super) struct Connection {
    stream: Stream,
    tls: Option<Box<ClientConnection>>,
}

enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

/// How much is received at once.
const READ_BYTES: usize = 16 * 1024;

impl Endpoint {
    pub(super) fn new(cluster: &Arc<Cluster>, check: &HealthCheck, host: &Arc<Host>) -> Self {
        let own = &host.endpoint.check;
        let port = own.port.or(check.alt_port);
        let address = match (host.address, port) {
            (Address::Ip(mut address), Some(port)) => {
                address.set_port(port);
                address.into()
            }
            (address, _) => address,
        };
        let socket = own.transport_socket.as_ref().unwrap_or(&host.endpoint.transport_socket);
        // The control plane has no sessions of its own to keep apart from those of a shard.
        let context = |context: &Arc<Latest<ClientContext>>| context.for_shard(0);
        let tls = socket.tls.as_ref().map(|tls| context(&tls.context));
        let proxy_header = socket.proxy_header.clone();
        let (host, cluster) = (Arc::clone(host), Arc::clone(cluster));
        Self { host, cluster, address, tls, proxy_header, alpn: check.alpn.clone() }
    }

    /// The authority of checks: that of the endpoint, `configured`, or the name of the cluster.
    pub(super) fn authority<'a>(&'a self, configured: &'a str) -> &'a str {
        let own = self.host.endpoint.check.hostname.as_str();
        let names = [own, configured, self.cluster.name.as_str()];
        names.into_iter().find(|name| !name.is_empty()).unwrap_or_default()
    }

    /// Whether checks use TLS.
    pub(super) const fn is_encrypted(&self) -> bool {
        self.tls.is_some()
    }

    /// Connects; with TLS, after the handshake. `codecs` are offered by ALPN, unless the health check
    /// says something else.
    pub(super) async fn connect(&self, codecs: &[&[u8]]) -> io::Result<Connection> {
        let local = Socket::open(self.address, &self.cluster.local_end)?;
        match local.connect(&self.address.to_socket_address()?) {
            Err(error) if error.raw_os_error() != Some(libc::EINPROGRESS) => return Err(error),
            _ => {}
        }
        let descriptor = OwnedFd::from(local);
        let mut stream = match self.address {
            Address::Ip(_) => Stream::Tcp(TcpStream::from_std(descriptor.into())?),
            Address::Pipe(_) => {
                Stream::Unix(UnixStream::from_std(unix::net::UnixStream::from(descriptor))?)
            }
        };
        stream.connected().await?;
        if let Some(header) = &self.proxy_header {
            stream.write_all(&header.of_check(stream.local_address(), self.address)).await?;
        }
        let mut connection = Connection { stream, tls: None };
        if let Some(tls) = &self.tls {
            connection.tls = Some(Box::new(self.client(tls, codecs)?));
            connection.shake_hands().await?;
        }
        Ok(connection)
    }

    fn client(&self, tls: &ShardClientContext, codecs: &[&[u8]]) -> io::Result<ClientConnection> {
        let configured: Vec<&[u8]> = self.alpn.iter().map(Vec::as_slice).collect();
        let hostname = self.host.endpoint.hostname.as_str();
        let wanted = Wanted {
            hostname: Some(hostname).filter(|name| !name.is_empty()),
            alpn: if configured.is_empty() { codecs } else { &configured },
            remote: self.address.ip(),
            ..Wanted::default()
        };
        let connect =
            tls.connect(&wanted).map_err(|failure| io::Error::other(format!("{failure:?}")))?;
        ClientConnection::new(connect.config, connect.server_name).map_err(io::Error::other)
    }
}

impl Stream {
    async fn connected(&self) -> io::Result<()> {
        let error = match self {
            Self::Tcp(stream) => {
                stream.writable().await?;
                stream.take_error()?
            }
            Self::Unix(stream) => {
                stream.writable().await?;
                stream.take_error()?
            }
        };
        error.map_or(Ok(()), Err)
    }

    fn local_address(&self) -> Option<Address> {
        match self {
            Self::Tcp(stream) => stream.local_addr().ok().map(Address::from),
            Self::Unix(_) => None,
        }
    }

    async fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.write_all(bytes).await,
            Self::Unix(stream) => stream.write_all(bytes).await,
        }
    }

    async fn read(&mut self, to: &mut Vec<u8>) -> io::Result<usize> {
        to.reserve(READ_BYTES);
        match self {
            Self::Tcp(stream) => stream.read_buf(to).await,
            Self::Unix(stream) => stream.read_buf(to).await,
        }
    }

    /// Whether nothing but the end is to be received.
    fn peek_end(&self) -> io::Result<bool> {
        let descriptor = match self {
            Self::Tcp(stream) => SockRef::from(stream),
            Self::Unix(stream) => SockRef::from(stream),
        };
        match descriptor.peek(&mut [std::mem::MaybeUninit::uninit()]) {
            Ok(count) => Ok(count == 0),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn try_read(&self, to: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.try_read(to),
            Self::Unix(stream) => stream.try_read(to),
        }
    }
}

impl Connection {
    /// Sends all of it.
    pub(super) async fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        let Some(tls) = &mut self.tls else { return self.stream.write_all(bytes).await };
        tls.writer().write_all(bytes)?;
        self.flush().await
    }

    /// Receives something; 0 at the end.
    pub(super) async fn read(&mut self, to: &mut Vec<u8>) -> io::Result<usize> {
        loop {
            let Some(tls) = &mut self.tls else { return self.stream.read(to).await };
            let mut block = vec![0; READ_BYTES];
            match tls.reader().read(&mut block) {
                Ok(count) => {
                    to.extend_from_slice(block.get(..count).unwrap_or_default());
                    return Ok(count);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
            self.flush().await?;
            self.read_records().await?;
        }
    }

    /// Whether an idle connection can carry another check: the host has neither closed it nor sent anything.
    pub(super) fn is_quiet(&self) -> bool {
        match self.stream.try_read(&mut [0]) {
            Ok(_) => false,
            Err(error) => error.kind() == io::ErrorKind::WouldBlock,
        }
    }

    /// Whether the host has closed it.
    pub(super) fn has_ended(&self) -> bool {
        matches!(self.stream.peek_end(), Ok(true) | Err(_))
    }

    async fn shake_hands(&mut self) -> io::Result<()> {
        loop {
            self.flush().await?;
            match &self.tls {
                Some(tls) if tls.is_handshaking() => self.read_records().await?,
                _ => return Ok(()),
            }
        }
    }

    /// Receives encrypted bytes and decrypts them.
    async fn read_records(&mut self) -> io::Result<()> {
        let mut received = Vec::new();
        let count = self.stream.read(&mut received).await?;
        let Some(tls) = &mut self.tls else { return Ok(()) };
        let mut rest = &*received;
        loop {
            // Of no bytes it takes the end.
            tls.read_tls(&mut rest)?;
            tls.process_new_packets().map_err(io::Error::other)?;
            if rest.is_empty() {
                break;
            }
        }
        if count == 0 && tls.is_handshaking() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(())
    }

    /// Sends what is encrypted.
    async fn flush(&mut self) -> io::Result<()> {
        let Some(tls) = &mut self.tls else { return Ok(()) };
        let mut out = Vec::new();
        while tls.wants_write() {
            tls.write_tls(&mut out)?;
        }
        self.stream.write_all(&out).await
    }
}
