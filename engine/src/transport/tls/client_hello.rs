//! Reads a ClientHello before rustls does: the certificate, the protocols of ALPN and the cipher suite
//! are chosen by it, and rustls takes its configuration before it has read any byte.
//!
//! It only reads. What is malformed is refused by rustls, with the alert that belongs to it.

use std::borrow::Cow;

/// What the records that have arrived so far contain.
#[derive(Debug, Eq, PartialEq)]
pub enum Begun<'a> {
    /// More bytes are needed.
    Incomplete,
    /// No ClientHello of TLS.
    NotTls,
    /// The handshake message, without its header.
    ClientHello(Cow<'a, [u8]>),
}

/// A longer one is none: BoringSSL refuses it too.
const LENGTH_MAX: usize = 1 << 14;
/// The most bytes of the records that it comes in: they are looked at again with each receive.
const RECORDS_MAX: usize = 2 * LENGTH_MAX;
const RECORD_OF_HANDSHAKE: u8 = 22;
const CLIENT_HELLO: u8 = 1;

/// Joins the records at the begin of a connection to the message of the ClientHello.
#[must_use]
pub fn begun(records: &[u8]) -> Begun<'_> {
    match joined(records) {
        Begun::Incomplete if records.len() > RECORDS_MAX => Begun::NotTls,
        begun => begun,
    }
}

fn joined(mut records: &[u8]) -> Begun<'_> {
    let mut message: Cow<'_, [u8]> = Cow::Borrowed(&[]);
    loop {
        match records {
            [] => return Begun::Incomplete,
            [RECORD_OF_HANDSHAKE] => return Begun::Incomplete,
            [RECORD_OF_HANDSHAKE, 3, ..] => {}
            _ => return Begun::NotTls,
        }
        let [_, _, _, high, low, rest @ ..] = records else { return Begun::Incomplete };
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        if length == 0 {
            return Begun::NotTls;
        }
        let whole = rest.split_at_checked(length);
        let (fragment, rest) = whole.unwrap_or((rest, &[]));
        if message.is_empty() {
            message = Cow::Borrowed(fragment);
        } else {
            message.to_mut().extend_from_slice(fragment);
        }
        match wanted(&message) {
            Err(NotAClientHello) => return Begun::NotTls,
            Ok(Some(wanted)) if message.len() >= wanted => {
                return Begun::ClientHello(body(message, wanted));
            }
            Ok(_) if whole.is_none() => return Begun::Incomplete,
            Ok(_) => records = rest,
        }
    }
}

struct NotAClientHello;

/// How long the message with its header is, once that is known.
fn wanted(message: &[u8]) -> Result<Option<usize>, NotAClientHello> {
    match message {
        [] => Ok(None),
        [CLIENT_HELLO, high, middle, low, ..] => {
            let length = u32::from_be_bytes([0, *high, *middle, *low]) as usize;
            if length > LENGTH_MAX { Err(NotAClientHello) } else { Ok(Some(4 + length)) }
        }
        [CLIENT_HELLO, ..] => Ok(None),
        _ => Err(NotAClientHello),
    }
}

fn body(message: Cow<'_, [u8]>, end: usize) -> Cow<'_, [u8]> {
    match message {
        Cow::Borrowed(bytes) => Cow::Borrowed(bytes.get(4..end).unwrap_or_default()),
        Cow::Owned(bytes) => Cow::Owned(bytes.get(4..end).unwrap_or_default().to_vec()),
    }
}

/// What a client offers.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct ClientHello<'a> {
    /// The newest version of a client that does not list its versions.
    pub legacy_version: u16,
    /// The server name, as sent.
    pub server_name: Option<&'a str>,
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
}

/// A list of 16-bit numbers.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Numbers<'a>(&'a [u8]);

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

impl<'a> ClientHello<'a> {
    /// Reads the message; none if it is malformed.
    #[must_use]
    pub fn parse(message: &'a [u8]) -> Option<Self> {
        let mut rest = Bytes(message);
        let legacy_version = rest.number()?;
        // Random and session id.
        rest.take(32)?;
        rest.list8()?;
        let cipher_suites = Numbers(rest.list16()?);
        let mut hello = Self { legacy_version, cipher_suites, ..Self::default() };
        // Compression methods.
        rest.list8()?;
        if rest.0.is_empty() {
            return Some(hello);
        }
        let mut extensions = Bytes(rest.list16()?);
        while !extensions.0.is_empty() {
            let kind = extensions.number()?;
            hello.extension(kind, Bytes(extensions.list16()?))?;
        }
        Some(hello)
    }

    /// Whether the client speaks TLS 1.3.
    #[must_use]
    pub fn has_tls13(&self) -> bool {
        self.supported_versions.is_some_and(|versions| versions.contains(0x0304))
    }

    /// Whether the client speaks TLS 1.2 or 1.3.
    #[must_use]
    pub fn is_current(&self) -> bool {
        let listed = self.supported_versions.map(|it| it.contains(0x0303) || it.contains(0x0304));
        listed.unwrap_or(self.legacy_version >= 0x0303)
    }

    fn extension(&mut self, kind: u16, mut content: Bytes<'a>) -> Option<()> {
        match kind {
            0 => {
                let mut names = Bytes(content.list16()?);
                while !names.0.is_empty() {
                    let [kind] = names.take(1)? else { return None };
                    let name = names.list16()?;
                    if *kind == 0 {
                        self.server_name = Some(std::str::from_utf8(name).ok()?);
                    }
                }
            }
            5 => self.asks_for_ocsp = content.take(1)? == [1],
            10 => self.groups = Numbers(content.list16()?),
            13 => self.signature_algorithms = Numbers(content.list16()?),
            16 => {
                let mut names = Bytes(content.list16()?);
                let mut alpn = Vec::new();
                while !names.0.is_empty() {
                    alpn.push(names.list8()?);
                }
                self.alpn = Some(alpn);
            }
            43 => self.supported_versions = Some(Numbers(content.list8()?)),
            _ => {}
        }
        Some(())
    }
}

/// What is still to be read.
struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn number(&mut self) -> Option<u16> {
        self.take(2)?.try_into().ok().map(u16::from_be_bytes)
    }

    /// A list behind its length in one byte.
    fn list8(&mut self) -> Option<&'a [u8]> {
        let [length] = self.take(1)? else { return None };
        self.take(usize::from(*length))
    }

    /// A list behind its length in two bytes.
    fn list16(&mut self) -> Option<&'a [u8]> {
        let length = self.number()?;
        self.take(usize::from(length))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use rustls::{ClientConfig, ClientConnection, RootCertStore};

    use super::{Begun, ClientHello, Numbers, begun};

    /// The records that a client of rustls begins with.
    fn records(alpn: &[&str]) -> Vec<u8> {
        let config = ClientConfig::builder().with_root_certificates(RootCertStore::empty());
        let mut config = config.with_no_client_auth();
        config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        let name = "a.test".try_into().unwrap();
        let mut client = ClientConnection::new(Arc::new(config), name).unwrap();
        let mut records = Vec::new();
        client.write_tls(&mut records).unwrap();
        records
    }

    #[test]
    fn it_says_what_the_client_offers() {
        let records = records(&["h2", "http/1.1"]);
        let Begun::ClientHello(message) = begun(&records) else { panic!("no ClientHello") };
        let hello = ClientHello::parse(&message).unwrap();
        assert_eq!(hello.server_name, Some("a.test"));
        assert_eq!(hello.alpn, Some(vec![&b"h2"[..], b"http/1.1"]));
        assert!(hello.is_current() && hello.has_tls13() && hello.asks_for_ocsp);
        let old = ClientHello { supported_versions: Some(Numbers(&[3, 2])), ..hello.clone() };
        assert!(!old.is_current());
        let old = ClientHello { supported_versions: None, legacy_version: 0x0302, ..hello.clone() };
        assert!(!old.is_current());
        assert!(hello.cipher_suites.contains(0x1301), "TLS_AES_128_GCM_SHA256");
        assert!(hello.groups.contains(29), "X25519");
        assert!(hello.signature_algorithms.contains(0x0403), "ECDSA with P-256");
    }

    #[test]
    fn it_is_the_same_in_any_number_of_records_and_reads() {
        let records = records(&["h2"]);
        let Begun::ClientHello(whole) = begun(&records) else { panic!("no ClientHello") };
        for length in 0..records.len() {
            assert_eq!(begun(&records[..length]), Begun::Incomplete, "{length} bytes");
        }
        let mut in_pieces = Vec::new();
        for piece in records[5..].chunks(7) {
            in_pieces.extend_from_slice(&[22, 3, 1, 0, u8::try_from(piece.len()).unwrap()]);
            in_pieces.extend_from_slice(piece);
        }
        assert_eq!(begun(&in_pieces), Begun::ClientHello(whole.clone()));
        let mut with_more = records.clone();
        with_more.extend_from_slice(b"more");
        assert_eq!(begun(&with_more), Begun::ClientHello(whole));
    }

    #[test]
    fn anything_else_is_not_tls() {
        for bytes in [
            &b"GET / HTTP/1.1\r\n"[..],
            b"PRI * HTTP/2.0",
            &[0; 40],
            &[0x80, 0x2e, 1, 3, 1],
            &[22, 3, 1, 0, 0],
            &[22, 3, 1, 0, 4, 2, 0, 0, 0],
            &[22, 3, 1, 0, 4, 1, 1, 0, 0],
        ] {
            assert_eq!(begun(bytes), Begun::NotTls, "{bytes:?}");
        }
    }

    #[test]
    fn a_cut_message_is_malformed() {
        let records = records(&["h2"]);
        let Begun::ClientHello(message) = begun(&records) else { panic!("no ClientHello") };
        let parsed =
            (0..message.len()).filter(|end| ClientHello::parse(&message[..*end]).is_some());
        // Extensions may be absent as a whole.
        assert_eq!(parsed.count(), 1);
    }
}
