//! A shard in this process, and a peer that is rustls over a blocking socket.

use std::future::poll_fn;
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::task::Poll;
use std::time::{Duration, Instant};

use rustls::pki_types::{PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection};
use socket2::SockRef;

use crate::shard::handle::ShardHandles;
use crate::shard::mailbox::Mailbox;
use crate::shard::socket::{Received, Socket};
use crate::shard::{self, Plan, Shard, ring};
use crate::stats::Registry;
use crate::transport::Transport;
use crate::transport::tls::context::parameters::Versions;
use crate::transport::tls::context::server::{ClientCertificate, ServerSettings};
use crate::transport::tls::context::tests::{Issued, settings};
use crate::transport::tls::context::verify::{Trust, Validation};
use crate::transport::tls::context::{Connect, Latest, ServerContext};
use crate::transport::tls::{Addresses, Failure, ServerTls, Tls};

pub(super) const PATIENCE: Duration = Duration::from_secs(20);

/// A certificate for `a.test`, and both sides' configurations.
pub(super) struct Certified {
    pub(super) context: Arc<ServerContext>,
    pub(super) server: Arc<ServerConfig>,
    pub(super) client: Arc<ClientConfig>,
}

pub(super) fn certified(versions: &[&'static rustls::SupportedProtocolVersion]) -> Certified {
    let signing_key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new(["a.test".to_owned()]).unwrap();
    let name = format!("{:x?}", &signing_key.public_key_raw()[..8]);
    params.distinguished_name.push(rcgen::DnType::CommonName, name);
    let cert = params.self_signed(&signing_key).unwrap();
    let key = PrivateKeyDer::try_from(signing_key.serialize_der()).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(cert.der().clone()).unwrap();
    let server = ServerConfig::builder_with_protocol_versions(versions)
        .with_no_client_auth()
        .with_single_cert(vec![cert.der().clone()], key);
    let client = ClientConfig::builder_with_protocol_versions(versions)
        .with_root_certificates(roots)
        .with_no_client_auth();
    let issued = Issued { der: cert.der().clone(), key: signing_key.serialize_der() };
    let mut settings = settings(&[&issued]);
    settings.parameters.versions = match versions {
        [only] if only.version == rustls::ProtocolVersion::TLSv1_2 => Versions::Tls12,
        [_] => Versions::Tls13,
        _ => Versions::Both,
    };
    let context = ServerContext::new(settings);
    Certified { context, server: Arc::new(server.unwrap()), client: Arc::new(client) }
}

impl Certified {
    /// The same for a server whose clients need a certificate.
    pub(super) fn asking_for_certificates(&self) -> Arc<ServerContext> {
        let settings = &self.context.settings;
        let ca = settings.certificates[0].chain[0].clone();
        let trust = Some(Trust::new(vec![ca]).unwrap());
        let validation = Arc::new(Validation { trust, ..Validation::default() });
        ServerContext::new(ServerSettings {
            client_certificate: ClientCertificate::Required(validation),
            ..settings.clone()
        })
    }
}

pub(super) fn both_versions() -> [Certified; 2] {
    [certified(&[&rustls::version::TLS13]), certified(&[&rustls::version::TLS12])]
}

/// The other end: rustls over a blocking socket.
pub(super) struct Peer {
    pub(super) tls: rustls::Connection,
    pub(super) stream: TcpStream,
}

impl Peer {
    pub(super) fn client(stream: TcpStream, certified: &Certified) -> Self {
        let name = ServerName::try_from("a.test").unwrap();
        let tls = ClientConnection::new(Arc::clone(&certified.client), name).unwrap();
        Self { tls: tls.into(), stream }
    }

    pub(super) fn server(stream: TcpStream, certified: &Certified) -> Self {
        Self { tls: ServerConnection::new(Arc::clone(&certified.server)).unwrap().into(), stream }
    }

    pub(super) fn say(&mut self, mut bytes: &[u8]) {
        while self.tls.is_handshaking() {
            self.tls.complete_io(&mut self.stream).unwrap();
        }
        while !bytes.is_empty() {
            let taken = self.tls.writer().write(bytes).unwrap();
            bytes = &bytes[taken..];
            let records = self.records();
            self.stream.write_all(&records).unwrap();
        }
    }

    pub(super) fn hear(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        while bytes.len() < count {
            let more = self.receive(count - bytes.len()).unwrap();
            assert!(!more.is_empty(), "the end after {} bytes", bytes.len());
            bytes.extend(more);
        }
        bytes
    }

    /// The next bytes, at most `most`; none: the end.
    pub(super) fn receive(&mut self, most: usize) -> std::io::Result<Vec<u8>> {
        let mut bytes = vec![0; most];
        loop {
            match self.tls.reader().read(&mut bytes) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.tls.complete_io(&mut self.stream)?;
                }
                read => return read.map(|read| bytes[..read].to_vec()),
            }
        }
    }

    pub(super) fn is_ended(&mut self) {
        assert_eq!(self.receive(1).unwrap(), b"", "an end with close_notify");
    }

    /// What rustls would send now, as bytes.
    pub(super) fn records(&mut self) -> Vec<u8> {
        let mut records = Vec::new();
        while self.tls.wants_write() {
            self.tls.write_tls(&mut records).unwrap();
        }
        records
    }

    pub(super) fn notify_close(&mut self) {
        self.tls.send_close_notify();
        let records = self.records();
        self.stream.write_all(&records).unwrap();
    }
}

/// A task on a shard of its own, which talks to `peer` of the test.
pub(super) fn on_a_shard<F: Future<Output = ()> + 'static>(
    story: impl FnOnce(&'static Shard, Socket) -> F + Send + 'static,
    peer: impl FnOnce(TcpStream),
) {
    let (mailbox, inbox) = Mailbox::new().unwrap();
    let ring = ring::choose().unwrap().ring;
    let handles = ShardHandles::new(vec![mailbox], u64::MAX);
    let plan = Plan { id: 0, core: None, ring, inbox, epoch: Instant::now(), handles };
    let shard = handles.get(0).unwrap();
    // The shard never ends; its thread ends with the process.
    std::thread::spawn(move || shard::run(plan).unwrap());
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let theirs = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    theirs.set_read_timeout(Some(PATIENCE)).unwrap();
    theirs.set_nodelay(true).unwrap();
    let (ours, _) = listener.accept().unwrap();
    ours.set_nonblocking(true).unwrap();
    ours.set_nodelay(true).unwrap();
    // Small buffers of the kernel, so that they are full soon.
    SockRef::from(&ours).set_send_buffer_size(64 << 10).unwrap();
    SockRef::from(&theirs).set_recv_buffer_size(64 << 10).unwrap();
    let (end, ended) = channel::<()>();
    shard.send(Box::new(move |shard| {
        let socket = Socket::new(ours.into()).unwrap();
        shard.spawn(async move {
            story(shard, socket).await;
            end.send(()).unwrap();
        });
    }));
    peer(theirs);
    ended.recv_timeout(PATIENCE).expect("the story on the shard to end");
}

pub(super) fn server(socket: Socket, context: &Arc<ServerContext>) -> Transport {
    let registry = Registry::new(1);
    let tls = ServerTls {
        context: Latest::new(Some(Arc::clone(context))).for_shard(0),
        stats: registry.scope("listener.test.ssl."),
        factory: registry.scope("listener.test.server_ssl_socket_factory."),
        timeout: None,
    };
    Transport::Tls(Box::new(Tls::server(socket, Vec::new(), Addresses::default(), &Rc::new(tls))))
}

pub(super) fn client(socket: Socket, config: Arc<ClientConfig>) -> Transport {
    let server_name = ServerName::try_from("a.test").unwrap();
    let connect = Connect { config, server_name, certificate: None, resumed: None };
    Transport::Tls(Box::new(Tls::client(socket, connect).unwrap()))
}

pub(super) async fn handshake(shard: &'static Shard, transport: &Transport) -> Result<(), Failure> {
    let alarm = shard.timers.alarm();
    let now = shard.clock.now();
    alarm.set(Some(now + 20_000), now);
    transport.handshake(shard, &alarm).await
}

pub(super) async fn readable(transport: &Transport) {
    poll_fn(|cx| transport.poll_readable(cx)).await;
}

/// Waits for bytes, the end or an error.
pub(super) async fn receive(
    transport: &Transport,
    buffer: &mut Vec<u8>,
) -> std::io::Result<Received> {
    loop {
        match transport.receive(buffer) {
            Ok(Received::Nothing) => readable(transport).await,
            received => return received,
        }
    }
}

/// Waits for nothing: polls until the transport has nothing to receive.
pub(super) async fn idle(transport: &Transport) {
    poll_fn(|cx| {
        while transport.poll_readable(cx).is_ready() {
            let received = transport.receive(&mut Vec::with_capacity(100));
            assert_eq!(received.unwrap(), Received::Nothing);
        }
        Poll::Ready(())
    })
    .await;
}

pub(super) async fn receive_all(transport: &Transport, count: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(count);
    while bytes.len() < count {
        assert!(matches!(receive(transport, &mut bytes).await, Ok(Received::Bytes(_))));
    }
    bytes
}

pub(super) async fn send_all(transport: &Transport, mut bytes: &[u8]) {
    while !bytes.is_empty() {
        let sent = transport.send(bytes).unwrap();
        bytes = &bytes[sent..];
        poll_fn(|cx| transport.poll_writable(cx)).await;
    }
    while transport.has_unsent() {
        poll_fn(|cx| transport.poll_writable(cx)).await;
    }
}

pub(super) fn pattern(count: usize) -> Vec<u8> {
    (0..count).map(|at| u8::try_from(at % 251).unwrap()).collect()
}
