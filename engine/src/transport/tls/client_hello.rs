//! The first message of a TLS client: joined from the records in which it arrives, and parsed.
//!
//! `tls_inspector` uses it to find the filter chain of a connection, and a server to choose its certificate
//! and configuration before rustls reads a byte. Pure: it only looks at the bytes.
//!
//! It is as strict as BoringSSL when that calls its `select_certificate_cb`: the frame of the message, the
//! server name, and that no extension is repeated. The content of any other extension is left to rustls
//! (or, behind a `tls_inspector`, to the origin); one that cannot be read counts as absent.

use std::borrow::Cow;

/// What the first bytes of a connection are.
#[derive(Debug, Eq, PartialEq)]
pub enum FirstBytes<'a> {
    /// More bytes are needed.
    Incomplete,
    /// Not TLS.
    NotTls,
    /// TLS, but no proper ClientHello.
    Malformed(Flaw),
    /// The body of the handshake message; see [`ClientHello::parse`].
    ClientHello(Cow<'a, [u8]>),
}

/// What is wrong with the first message of a client.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Flaw {
    /// A record is longer than allowed.
    RecordTooLong,
    /// The message is longer than [`MESSAGE_BYTES_MAX`].
    MessageTooLong,
    /// It is not a ClientHello, it is interrupted by another record, or its last record has more messages.
    Unexpected,
    /// It cannot be parsed.
    Syntax,
    /// The server name is not a host name.
    ServerName,
    /// TLS 1.3 without `key_share` (RFC 8446 §9.2).
    NoKeyShare,
    /// It continues a connection that this side does not have (RFC 5746 §3.6).
    Renegotiation,
    /// The client has given up TLS 1.3, which this side has (RFC 7507 §3).
    Fallback,
    /// The server's key signs in no algorithm of the client.
    NoSignatureAlgorithm,
}

impl Flaw {
    /// The alert with which BoringSSL answers.
    #[must_use]
    pub const fn alert(self) -> u8 {
        match self {
            Self::Unexpected => 10,
            Self::RecordTooLong => 22,
            Self::MessageTooLong => 47,
            Self::Syntax => 50,
            Self::ServerName => 112,
            Self::NoKeyShare => 109,
            Self::Renegotiation | Self::NoSignatureAlgorithm => 40,
            Self::Fallback => 86,
        }
    }
}

/// The longest ClientHello, as in BoringSSL.
pub const MESSAGE_BYTES_MAX: usize = 1 << 14;
/// The most bytes of records for one message: each receive looks at all of them again.
const RECORDS_BYTES_MAX: usize = 2 * MESSAGE_BYTES_MAX;
/// The longest record that BoringSSL waits for.
const RECORD_BYTES_MAX: usize = PLAIN_BYTES_MAX + 320;
/// The longest record that is not encrypted.
const PLAIN_BYTES_MAX: usize = 1 << 14;
/// How many records without content may precede or interrupt the message, as in BoringSSL.
const EMPTY_RECORDS_MAX: usize = 32;
const HANDSHAKE_RECORD: u8 = 22;
const CLIENT_HELLO: u8 = 1;

/// Joins the records at the beginning of a connection to the first message. `records` are all bytes that
/// have arrived so far.
#[must_use]
pub fn first_message(records: &[u8]) -> FirstBytes<'_> {
    let most = records.get(..RECORDS_BYTES_MAX).unwrap_or(records);
    match joined(most) {
        FirstBytes::Incomplete if most.len() == RECORDS_BYTES_MAX => {
            FirstBytes::Malformed(Flaw::MessageTooLong)
        }
        first => first,
    }
}

fn joined(mut records: &[u8]) -> FirstBytes<'_> {
    let mut message: Cow<'_, [u8]> = Cow::Borrowed(&[]);
    let mut empty_records = 0;
    loop {
        // The beginning of a record is checked at once: another protocol must not have to wait.
        match records {
            [] | [HANDSHAKE_RECORD] | [HANDSHAKE_RECORD, 3] => return FirstBytes::Incomplete,
            [HANDSHAKE_RECORD, 3, ..] => {}
            _ if message.is_empty() => return FirstBytes::NotTls,
            _ => return FirstBytes::Malformed(Flaw::Unexpected),
        }
        let Some((&[_, _, _, high, low], rest)) = records.split_first_chunk() else {
            return FirstBytes::Incomplete;
        };
        let length = usize::from(u16::from_be_bytes([high, low]));
        if length > RECORD_BYTES_MAX {
            return FirstBytes::Malformed(Flaw::RecordTooLong);
        }
        let whole = rest.split_at_checked(length);
        let (fragment, rest) = whole.unwrap_or((rest, &[]));
        if length == 0 {
            empty_records += 1;
        } else if message.is_empty() {
            message = Cow::Borrowed(fragment);
        } else {
            message.to_mut().extend_from_slice(fragment);
        }
        if empty_records > EMPTY_RECORDS_MAX {
            return FirstBytes::Malformed(Flaw::Unexpected);
        }
        // As BoringSSL, it looks at whole records only.
        if whole.is_none() {
            return FirstBytes::Incomplete;
        }
        if length > PLAIN_BYTES_MAX {
            return FirstBytes::Malformed(Flaw::RecordTooLong);
        }
        match message_end(&message) {
            Err(flaw) => return FirstBytes::Malformed(flaw),
            Ok(Some(end)) if message.len() == end => return FirstBytes::ClientHello(body(message)),
            Ok(Some(end)) if message.len() > end => {
                return FirstBytes::Malformed(Flaw::Unexpected);
            }
            Ok(_) => records = rest,
        }
    }
}

/// Where the message ends, once its header has arrived.
fn message_end(message: &[u8]) -> Result<Option<usize>, Flaw> {
    match message {
        [] => Ok(None),
        [CLIENT_HELLO, high, middle, low, ..] => {
            let length = u32::from_be_bytes([0, *high, *middle, *low]) as usize;
            if length > MESSAGE_BYTES_MAX {
                Err(Flaw::MessageTooLong)
            } else {
                Ok(Some(4 + length))
            }
        }
        [CLIENT_HELLO, ..] => Ok(None),
        _ => Err(Flaw::Unexpected),
    }
}

/// A message without its header.
fn body(message: Cow<'_, [u8]>) -> Cow<'_, [u8]> {
    match message {
        Cow::Borrowed(bytes) => Cow::Borrowed(bytes.get(4..).unwrap_or_default()),
        Cow::Owned(mut bytes) => {
            bytes.drain(..4.min(bytes.len()));
            Cow::Owned(bytes)
        }
    }
}

/// What a client offers.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct ClientHello<'a> {
    /// The newest version of a client that does not list its versions.
    pub legacy_version: u16,
    /// The server name, as sent; never empty.
    pub server_name: Option<Cow<'a, str>>,
    /// The protocols of ALPN, in the client's order; none: the client does not use ALPN.
    pub alpn: Option<Vec<&'a [u8]>>,
    /// The cipher suites, in the client's order.
    pub cipher_suites: Numbers<'a>,
    /// The groups for the key exchange, in the client's order.
    pub groups: Numbers<'a>,
    /// The signature algorithms, in the client's order.
    pub signature_algorithms: Numbers<'a>,
    /// The versions, if the client lists them.
    pub supported_versions: Option<Numbers<'a>>,
    /// Whether a stapled OCSP response is asked for.
    pub asks_for_ocsp: bool,
    /// All extensions.
    pub extensions: Extensions<'a>,
}

/// A list of 16-bit numbers. An odd byte at its end is ignored.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Numbers<'a>(pub &'a [u8]);

impl<'a> Numbers<'a> {
    /// The numbers in order.
    pub fn iter(self) -> impl Iterator<Item = u16> + use<'a> {
        let (pairs, _) = self.0.as_chunks::<2>();
        pairs.iter().map(|pair| u16::from_be_bytes(*pair))
    }

    /// Whether `number` is in the list.
    #[must_use]
    pub fn contains(self, number: u16) -> bool {
        self.iter().any(|it| it == number)
    }
}

/// The extensions of a ClientHello that has been parsed.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Extensions<'a>(&'a [u8]);

impl<'a> Extensions<'a> {
    /// The type and the content of each, in the client's order.
    pub fn iter(self) -> impl Iterator<Item = (u16, &'a [u8])> + use<'a> {
        let mut rest = Reader(self.0);
        std::iter::from_fn(move || Some((rest.u16()?, rest.list16()?)))
    }

    /// The content of the extension of this type.
    #[must_use]
    pub fn get(self, wanted: u16) -> Option<&'a [u8]> {
        self.iter().find(|(kind, _)| *kind == wanted).map(|(_, content)| content)
    }
}

/// The types of the extensions that are looked at.
pub mod extension {
    #![expect(missing_docs, reason = "the names in IANA's registry")]
    pub const SERVER_NAME: u16 = 0;
    pub const STATUS_REQUEST: u16 = 5;
    pub const SUPPORTED_GROUPS: u16 = 10;
    pub const EC_POINT_FORMATS: u16 = 11;
    pub const SIGNATURE_ALGORITHMS: u16 = 13;
    pub const ALPN: u16 = 16;
    pub const PRE_SHARED_KEY: u16 = 41;
    pub const SUPPORTED_VERSIONS: u16 = 43;
    pub const KEY_SHARE: u16 = 51;
    pub const RENEGOTIATION_INFO: u16 = 0xff01;
}

impl<'a> ClientHello<'a> {
    /// Parses the body of the message.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(message: &'a [u8]) -> Result<Self, Flaw> {
        let mut hello = Self::framed(message).ok_or(Flaw::Syntax)?;
        for (kind, content) in hello.extensions.iter() {
            hello.read_extension(kind, Reader(content))?;
        }
        Ok(hello)
    }

    /// The message without what its extensions say; none if it is malformed.
    fn framed(message: &'a [u8]) -> Option<Self> {
        let mut rest = Reader(message);
        let legacy_version = rest.u16()?;
        let _random = rest.take(32)?;
        let session_id = rest.list8()?;
        let cipher_suites = rest.list16()?;
        let compression_methods = rest.list8()?;
        if session_id.len() > 32
            || cipher_suites.is_empty()
            || cipher_suites.len() % 2 == 1
            || compression_methods.is_empty()
        {
            return None;
        }
        let cipher_suites = Numbers(cipher_suites);
        let mut hello = Self { legacy_version, cipher_suites, ..Self::default() };
        if rest.0.is_empty() {
            return Some(hello);
        }
        hello.extensions = Extensions(rest.list16()?);
        let is_whole = rest.0.is_empty() && are_distinct(hello.extensions)?;
        is_whole.then_some(hello)
    }

    /// Whether the client speaks TLS 1.3.
    #[must_use]
    pub fn has_tls13(&self) -> bool {
        self.supported_versions.is_some_and(|versions| versions.contains(0x0304))
    }

    /// Whether the client names groups for the key exchange of TLS 1.3, but has no `key_share`.
    #[must_use]
    pub fn lacks_key_share(&self) -> bool {
        let has = |kind| self.extensions.get(kind).is_some();
        has(extension::SUPPORTED_GROUPS)
            && !has(extension::KEY_SHARE)
            && !has(extension::PRE_SHARED_KEY)
    }

    /// Whether the client names the connection that it renegotiates. None can be renegotiated.
    #[must_use]
    pub fn renegotiates(&self) -> bool {
        let named = self.extensions.get(extension::RENEGOTIATION_INFO);
        named.and_then(|content| Reader(content).list8()).is_some_and(|named| !named.is_empty())
    }

    /// Whether the client offers less than it has, because a better offer has failed.
    #[must_use]
    pub fn falls_back(&self) -> bool {
        const TLS_FALLBACK_SCSV: u16 = 0x5600;
        self.cipher_suites.contains(TLS_FALLBACK_SCSV)
    }

    /// Whether the client has a proper list of signature algorithms.
    #[must_use]
    pub fn lists_signature_algorithms(&self) -> bool {
        self.extensions.get(extension::SIGNATURE_ALGORITHMS).is_some_and(|content| {
            let mut rest = Reader(content);
            let list = rest.list16().unwrap_or_default();
            !list.is_empty() && list.len().is_multiple_of(2) && rest.0.is_empty()
        })
    }

    /// Whether the client speaks TLS 1.2 or 1.3.
    #[must_use]
    pub fn is_current(&self) -> bool {
        let listed = self.supported_versions.map(|it| it.contains(0x0303) || it.contains(0x0304));
        listed.unwrap_or(self.legacy_version >= 0x0303)
    }

    fn read_extension(&mut self, kind: u16, mut content: Reader<'a>) -> Result<(), Flaw> {
        match kind {
            extension::SERVER_NAME => self.server_name = Some(server_name(content)?),
            extension::STATUS_REQUEST => self.asks_for_ocsp = content.u8() == Some(1),
            extension::SUPPORTED_GROUPS => {
                self.groups = Numbers(content.list16().unwrap_or_default());
            }
            extension::SIGNATURE_ALGORITHMS => {
                self.signature_algorithms = Numbers(content.list16().unwrap_or_default());
            }
            extension::ALPN => self.alpn = alpn(content),
            extension::SUPPORTED_VERSIONS => {
                self.supported_versions = content.list8().map(Numbers);
            }
            _ => {}
        }
        Ok(())
    }
}

/// Whether no extension is repeated; none if they are malformed.
fn are_distinct(extensions: Extensions<'_>) -> Option<bool> {
    let mut rest = Reader(extensions.0);
    let mut kinds = Vec::new();
    while !rest.0.is_empty() {
        kinds.push(rest.u16()?);
        rest.list16()?;
    }
    // There may be thousands.
    kinds.sort_unstable();
    Some(kinds.windows(2).all(|pair| pair.first() != pair.last()))
}

/// The host name: the only kind of name that there is.
fn server_name(content: Reader<'_>) -> Result<Cow<'_, str>, Flaw> {
    const HOST_NAME: u8 = 0;
    let (kind, name) = only_name(content).ok_or(Flaw::Syntax)?;
    let is_name = kind == HOST_NAME && matches!(name.len(), 1..=255) && !name.contains(&0);
    if is_name { Ok(String::from_utf8_lossy(name)) } else { Err(Flaw::ServerName) }
}

/// The kind and the bytes of the only name in a list.
fn only_name(mut content: Reader<'_>) -> Option<(u8, &[u8])> {
    let mut names = Reader(content.list16()?);
    let (kind, name) = (names.u8()?, names.list16()?);
    (names.0.is_empty() && content.0.is_empty()).then_some((kind, name))
}

/// The protocols; none if the list is malformed.
fn alpn(mut content: Reader<'_>) -> Option<Vec<&[u8]>> {
    let mut list = Reader(content.list16()?);
    if list.0.is_empty() || !content.0.is_empty() {
        return None;
    }
    let mut protocols = Vec::new();
    while !list.0.is_empty() {
        protocols.push(list.list8().filter(|name| !name.is_empty())?);
    }
    Some(protocols)
}

/// The rest of a message.
#[derive(Debug)]
pub struct Reader<'a>(pub &'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    /// A number of one byte.
    pub fn u8(&mut self) -> Option<u8> {
        self.take(1)?.first().copied()
    }

    /// A number of two bytes.
    pub fn u16(&mut self) -> Option<u16> {
        Some(u16::from_be_bytes(self.take(2)?.try_into().ok()?))
    }

    /// Bytes after their length, which takes one byte.
    pub fn list8(&mut self) -> Option<&'a [u8]> {
        let length = self.u8()?;
        self.take(length.into())
    }

    /// Bytes after their length, which takes two bytes.
    pub fn list16(&mut self) -> Option<&'a [u8]> {
        let length = self.u16()?;
        self.take(length.into())
    }
}
