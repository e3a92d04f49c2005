//! The records of one connection, without I/O: rustls, and the bytes before and behind it.
//!
//! Invariant: [`Session::incoming`] holds no whole record except during [`Session::process`], so what
//! has arrived either has been decrypted or waits for the rest of its record.

use std::sync::Arc;

use rustls::client::UnbufferedClientConnection;
use rustls::pki_types::ServerName;
use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{ConnectionState, EncodeError, EncryptError, UnbufferedStatus};
use rustls::{
    AlertDescription, CommonState, Error, HandshakeKind, PeerMisbehaved, ProtocolVersion,
};

use super::client_hello::Flaw;
use super::context::server::Addresses;
use super::context::{Chosen, Connect, ResumedSession};
use super::failure::{Failure, Mismatch, Refusal};
use super::handshake_observer::HandshakeObserver;
use super::queue::{Queue, Wants};
use crate::shard::buffers::Buffers;

/// Bytes that encryption adds to a record, at most (TLS 1.2 with AES-GCM: 29), rounded up.
const RECORD_OVERHEAD: usize = 40;

/// Bytes of plaintext in a full record.
const RECORD_BYTES: usize = 1 << 14;

/// Full records that fit into a large block.
const RECORDS_MAX: usize = crate::limits::LARGE_BLOCK_BYTES / (RECORD_BYTES + RECORD_OVERHEAD);

/// The most plaintext that [`Session::encrypt`] takes at once.
pub(super) const ENCRYPT_BYTES_MAX: usize = RECORDS_MAX * RECORD_BYTES;

/// A fatal alert in front of any ServerHello, in a record whose version is 3.`minor`.
const fn early_alert(minor: u8, description: u8) -> [u8; 7] {
    [0x15, 3, minor, 0, 2, 2, description]
}

/// The version of records before a version is chosen.
const ANY_VERSION: u8 = 1;

/// The version of records afterwards.
const CHOSEN_VERSION: u8 = 3;

/// The alert of BoringSSL for what rustls leaves without any.
const fn missing_alert(error: &Error) -> Option<AlertDescription> {
    match error {
        Error::PeerMisbehaved(PeerMisbehaved::TooManyWarningAlertsReceived) => {
            Some(AlertDescription::DecodeError)
        }
        Error::PeerMisbehaved(_) => Some(AlertDescription::UnexpectedMessage),
        _ => None,
    }
}

/// The type of records with alerts.
const ALERT_RECORD: u8 = 21;

/// The alert `protocol_version`.
const PROTOCOL_VERSION: u8 = 70;

/// One side of a TLS connection.
pub(super) struct Session {
    engine: Engine,
    buffers: &'static Buffers,
    /// Received, and not decrypted.
    pub(super) incoming: Queue,
    /// Decrypted, and not read.
    pub(super) plain: Queue,
    /// Encrypted, and not sent.
    pub(super) outgoing: Queue,
    pub(super) input: Input,
    pub(super) output: Output,
    /// Whether there is something in `incoming` that nobody has looked at.
    pub(super) has_early: bool,
    /// Of a server during its handshake.
    pub(super) chosen: Option<Box<Chosen>>,
    /// Of a client during its handshake.
    pub(super) resumed: Option<Box<ResumedSession>>,
    /// Until the handshake is done.
    pub(super) observer: Option<Box<HandshakeObserver>>,
}

/// rustls' part of it.
enum Engine {
    /// A server that waits for the ClientHello, by which its configuration is chosen. A `key_log` may be for
    /// some addresses only.
    Hello(Addresses),
    Server(UnbufferedServerConnection),
    Client(UnbufferedClientConnection),
}

/// What may still arrive.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Input {
    Open,
    /// The peer has sent `close_notify`.
    Ended,
    /// Nothing, and something may be missing.
    Failed(Failure),
}

/// What may still be sent.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Output {
    Open,
    /// `close_notify` is in `outgoing` or sent.
    Notified,
    /// The same, and a FIN follows it.
    Closing,
    /// The FIN has been sent.
    Closed,
}

/// What to write once the session is ready for it.
#[derive(Clone, Copy)]
enum Write<'a> {
    Nothing,
    Data(&'a [u8]),
    CloseNotify,
}

/// What one call of rustls came to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Step {
    /// It has more to do.
    Again,
    /// It needs more bytes from the peer, and has written what it was given.
    Idle,
    /// The peer has sent `close_notify`.
    Ended,
}

/// Where decrypted bytes go: into `into` as long as there is room for `room` more, else into `rest`.
struct Sink<'a> {
    into: &'a mut Vec<u8>,
    room: usize,
    rest: &'a mut Queue,
    outgoing: &'a mut Queue,
    buffers: &'static Buffers,
}

impl Session {
    /// A server that has no configuration yet.
    pub(super) fn server(addresses: Addresses, buffers: &'static Buffers) -> Self {
        Self::new(Engine::Hello(addresses), buffers)
    }

    /// The addresses of the connection, as long as [`Self::configure`] is to be called.
    pub(super) const fn wants_config(&self) -> Option<Addresses> {
        match self.engine {
            Engine::Hello(addresses) => Some(addresses),
            Engine::Server(_) | Engine::Client(_) => None,
        }
    }

    /// Begins the handshake of a server.
    ///
    /// # Errors
    /// If the configuration cannot be used.
    pub(super) fn configure(&mut self, chosen: Chosen) -> Result<(), Failure> {
        let config = Arc::clone(&chosen.config);
        self.engine = Engine::Server(UnbufferedServerConnection::new(config)?);
        self.chosen = Some(Box::new(chosen));
        Ok(())
    }

    pub(super) fn client(connect: Connect, buffers: &'static Buffers) -> Result<Self, Failure> {
        let Connect { config, server_name, certificate, resumed } = connect;
        let name = match &server_name {
            ServerName::DnsName(name) => Some(name.as_ref().into()),
            _ => None,
        };
        let engine = UnbufferedClientConnection::new(config, server_name)?;
        let mut session = Self::new(Engine::Client(engine), buffers);
        let observer = HandshakeObserver::of_client(name, certificate);
        session.observer = Some(Box::new(observer));
        session.resumed = resumed.map(Box::new);
        Ok(session)
    }

    fn new(engine: Engine, buffers: &'static Buffers) -> Self {
        Self {
            engine,
            buffers,
            incoming: Queue::default(),
            plain: Queue::default(),
            outgoing: Queue::default(),
            input: Input::Open,
            output: Output::Open,
            has_early: false,
            chosen: None,
            resumed: None,
            observer: Some(Box::default()),
        }
    }

    /// What rustls says about the connection.
    pub(super) fn common(&self) -> Option<&CommonState> {
        match &self.engine {
            Engine::Hello(_) => None,
            Engine::Server(server) => Some(server),
            Engine::Client(client) => Some(client),
        }
    }

    pub(super) fn is_handshaking(&self) -> bool {
        self.common().is_none_or(|common| common.is_handshaking())
    }

    /// Whether a receive returns something without asking the kernel.
    pub(super) fn is_at_hand(&self) -> bool {
        !self.plain.is_empty() || self.input != Input::Open
    }

    /// Decrypts what has arrived, up to `most` bytes into `into` and the rest into `plain`. It may add
    /// to `outgoing`: handshake messages, tickets, key updates, alerts.
    pub(super) fn process(&mut self, into: &mut Vec<u8>, most: usize) {
        let room = into.len().saturating_add(most);
        loop {
            match self.step(into, room, Write::Nothing) {
                Ok(Step::Again) => {}
                Ok(Step::Idle) => return,
                Ok(Step::Ended) => {
                    self.input = Input::Ended;
                    // RFC 8446 §6.1: data after a closure alert is ignored.
                    return self.incoming.clear(self.buffers);
                }
                Err(error) => return self.fail(error),
            }
        }
    }

    /// Decrypts what has arrived during the handshake.
    pub(super) fn process_handshake(&mut self) {
        if let (Engine::Client(_), Some(observer)) = (&self.engine, &mut self.observer) {
            observer.observe(self.incoming.bytes());
        }
        self.process(&mut Vec::new(), 0);
        let Some(observer) = &mut self.observer else { return };
        if let Engine::Server(_) = self.engine {
            observer.observe(self.outgoing.bytes());
        }
        observer.after_step();
    }

    /// Encrypts `bytes`, at most [`ENCRYPT_BYTES_MAX`], into `outgoing`.
    ///
    /// # Errors
    /// If the connection has failed or its sending side is closed.
    pub(super) fn encrypt(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.write(Write::Data(bytes))
    }

    /// Adds `close_notify` to `outgoing`, unless it has been sent or the connection has failed.
    pub(super) fn notify_close(&mut self) {
        if self.output == Output::Open && !self.is_handshaking() {
            // It is a courtesy: without it the peer sees that the connection was cut, as it was.
            let _notified = self.write(Write::CloseNotify);
            self.output = Output::Notified;
        }
    }

    fn write(&mut self, write: Write<'_>) -> Result<(), Failure> {
        if let Input::Failed(failure) = self.input {
            return Err(failure);
        }
        if self.output != Output::Open {
            return Err(Failure::Broken(std::io::ErrorKind::BrokenPipe));
        }
        // Only a step that is idle has written. Without a whole record in `incoming` nothing is decrypted.
        let mut none = Vec::new();
        loop {
            match self.step(&mut none, 0, write) {
                Ok(Step::Again) => {}
                Ok(Step::Idle) => return Ok(()),
                Ok(Step::Ended) => self.input = Input::Ended,
                Err(error) => {
                    let failure = error.clone().into();
                    self.fail(error);
                    return Err(failure);
                }
            }
        }
    }

    fn step(&mut self, into: &mut Vec<u8>, room: usize, write: Write<'_>) -> Result<Step, Error> {
        let Self { engine, buffers, incoming, plain, outgoing, .. } = self;
        let sink = Sink { into, room, rest: plain, outgoing, buffers };
        let (processed, step) = match engine {
            Engine::Hello(_) => (0, Ok(Step::Idle)),
            Engine::Server(server) => {
                advance(server.process_tls_records(incoming.bytes_mut()), sink, write)
            }
            Engine::Client(client) => {
                advance(client.process_tls_records(incoming.bytes_mut()), sink, write)
            }
        };
        incoming.advance(processed, buffers);
        step
    }

    /// Notes the failure, and puts the alert into `outgoing` that tells the peer.
    fn fail(&mut self, error: Error) {
        let before = self.outgoing.bytes().len();
        while self.common().is_some_and(|common| common.wants_write()) {
            let step = self.step(&mut Vec::new(), 0, Write::Nothing);
            if step.is_err() {
                break;
            }
        }
        let is_alerted = self.outgoing.bytes().len() > before;
        let missing = missing_alert(&error).filter(|_| !is_alerted && self.sends_plain());
        if let Some(alert) = missing {
            let alert = early_alert(CHOSEN_VERSION, alert.into());
            self.outgoing.extend(&alert, self.buffers);
        }
        let failure = Failure::from(error);
        let version = self.common().and_then(|common| common.protocol_version());
        if failure == Failure::NotTls && version.is_none() {
            self.answer_other_protocol();
        }
        if version == Some(ProtocolVersion::TLSv1_2) {
            self.correct_alert(failure);
        }
        self.input = Input::Failed(failure);
        self.incoming.clear(self.buffers);
    }

    /// Whether this is a server of TLS 1.2 that has not encrypted anything yet.
    fn sends_plain(&self) -> bool {
        let Engine::Server(server) = &self.engine else { return false };
        server.protocol_version() == Some(ProtocolVersion::TLSv1_2)
            && server.is_handshaking()
            && server.handshake_kind() == Some(HandshakeKind::Full)
    }

    /// As BoringSSL: nothing to a client that speaks HTTP or begins with an alert, to others an alert of
    /// the oldest format.
    fn answer_other_protocol(&mut self) {
        let methods: [&[u8]; 5] = [b"GET ", b"POST ", b"HEAD ", b"PUT ", b"CONNE"];
        self.outgoing.clear(self.buffers);
        let alert = match self.incoming.bytes() {
            bytes if methods.iter().any(|method| bytes.starts_with(method)) => return,
            [ALERT_RECORD, 3, ..] => return,
            [_, 3, ..] => AlertDescription::UnexpectedMessage.into(),
            _ => PROTOCOL_VERSION,
        };
        self.outgoing.extend(&early_alert(ANY_VERSION, alert), self.buffers);
    }

    /// Answers a client that does not speak TLS.
    pub(super) fn refuse_other_protocol(&mut self) -> Failure {
        self.answer_other_protocol();
        self.incoming.clear(self.buffers);
        Failure::NotTls
    }

    /// Answers a client whose first message is not a proper ClientHello.
    pub(super) fn refuse_hello(&mut self, flaw: Flaw) -> Failure {
        let (version, failure) = match flaw {
            Flaw::RecordTooLong | Flaw::MessageTooLong | Flaw::Syntax | Flaw::ServerName => {
                (ANY_VERSION, Failure::Malformed)
            }
            Flaw::Unexpected => (ANY_VERSION, Failure::Misbehaved),
            Flaw::NoKeyShare => (CHOSEN_VERSION, Failure::Malformed),
            Flaw::Renegotiation => (CHOSEN_VERSION, Failure::Misbehaved),
            Flaw::Fallback => (CHOSEN_VERSION, Failure::Incompatible(Mismatch::Version)),
            Flaw::NoSignatureAlgorithm => {
                (CHOSEN_VERSION, Failure::Incompatible(Mismatch::SignatureAlgorithm))
            }
        };
        self.refuse_early(version, flaw.alert());
        failure
    }

    /// Answers a client that only speaks versions before TLS 1.2.
    pub(super) fn refuse_version(&mut self) -> Failure {
        self.refuse_early(ANY_VERSION, PROTOCOL_VERSION);
        Failure::Incompatible(Mismatch::Version)
    }

    fn refuse_early(&mut self, version: u8, alert: u8) {
        self.outgoing.extend(&early_alert(version, alert), self.buffers);
        self.incoming.clear(self.buffers);
    }

    /// In TLS 1.2 the alert about a certificate is not encrypted. For these, rustls has another one than
    /// BoringSSL.
    fn correct_alert(&mut self, failure: Failure) {
        let description = match failure {
            Failure::NoCertificate => AlertDescription::HandshakeFailure,
            Failure::Certificate(Refusal::Hash) => AlertDescription::BadCertificateHashValue,
            _ => return,
        };
        if let [.., 0x15, 3, 3, 0, 2, 2, sent] = self.outgoing.bytes_mut() {
            *sent = description.into();
        }
    }

    /// Bytes of memory that its queues hold.
    #[cfg(test)]
    pub(super) const fn held_bytes(&self) -> usize {
        self.incoming.capacity() + self.plain.capacity() + self.outgoing.capacity()
    }

    /// Gives blocks back before a wait. What has arrived of a record is kept in memory of its own size.
    pub(super) fn rest(&mut self) {
        self.incoming.shrink(self.buffers);
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        for queue in [&mut self.incoming, &mut self.plain, &mut self.outgoing] {
            queue.clear(self.buffers);
        }
    }
}

/// Does what rustls asks for; returns how many bytes of `incoming` it has processed.
fn advance<Data>(
    status: UnbufferedStatus<'_, '_, Data>,
    mut sink: Sink<'_>,
    write: Write<'_>,
) -> (usize, Result<Step, Error>) {
    let UnbufferedStatus { discard: mut processed, state } = status;
    let step = state.and_then(|state| match state {
        ConnectionState::ReadTraffic(mut traffic) => {
            while let Some(record) = traffic.next_record() {
                let record = record?;
                processed += record.discard;
                sink.take(record.payload);
            }
            Ok(Step::Again)
        }
        ConnectionState::EncodeTlsData(mut data) => {
            sink.outgoing.append(0, sink.buffers, |out| data.encode(out).map_err(Wants::from))?;
            Ok(Step::Again)
        }
        ConnectionState::TransmitTlsData(data) => {
            // It is in `outgoing`, and sent before anything else.
            data.done();
            Ok(Step::Again)
        }
        ConnectionState::WriteTraffic(mut traffic) => {
            let Sink { outgoing, buffers, .. } = sink;
            match write {
                Write::Nothing => {}
                Write::Data(bytes) => {
                    let room = bytes.len() + bytes.len().div_ceil(RECORD_BYTES) * RECORD_OVERHEAD;
                    outgoing.append(room, buffers, |out| {
                        traffic.encrypt(bytes, out).map_err(Wants::from)
                    })?;
                }
                Write::CloseNotify => outgoing.append(RECORD_OVERHEAD, buffers, |out| {
                    traffic.queue_close_notify(out).map_err(Wants::from)
                })?,
            }
            Ok(Step::Idle)
        }
        ConnectionState::PeerClosed => Ok(Step::Ended),
        ConnectionState::Closed | ConnectionState::BlockedHandshake => Ok(Step::Idle),
        // No configuration accepts early data.
        _ => Err(Error::General("a state that was not asked for".into())),
    });
    (processed, step)
}

impl Sink<'_> {
    fn take(&mut self, payload: &[u8]) {
        // Later bytes do not overtake earlier ones.
        let room = if self.rest.is_empty() { self.room.saturating_sub(self.into.len()) } else { 0 };
        let (now, later) = payload.split_at(room.min(payload.len()));
        self.into.extend_from_slice(now);
        if !later.is_empty() {
            self.rest.extend(later, self.buffers);
        }
    }
}

impl From<EncodeError> for Wants<Error> {
    fn from(error: EncodeError) -> Self {
        match error {
            EncodeError::InsufficientSize(size) => Self::Room(size.required_size),
            EncodeError::AlreadyEncoded => Self::Failed(Error::General("encoded twice".into())),
        }
    }
}

impl From<EncryptError> for Wants<Error> {
    fn from(error: EncryptError) -> Self {
        match error {
            EncryptError::InsufficientSize(size) => Self::Room(size.required_size),
            EncryptError::EncryptExhausted => Self::Failed(Error::EncryptError),
        }
    }
}
