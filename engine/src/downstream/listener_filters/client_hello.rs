//! The first message of a TLS client: which server name and protocols it asks for.
//!
//! Pure, and independent of the TLS library: the bytes are only looked at, and go to the handshake of
//! this proxy or of an origin afterwards.

/// What the first bytes of a connection are.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum FirstBytes {
    /// A ClientHello that has not arrived completely.
    Incomplete,
    /// A ClientHello.
    ClientHello(ClientHello),
    /// Something else, or a malformed ClientHello.
    NotTls,
}

/// The parts of a ClientHello that choose a filter chain.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct ClientHello {
    /// The server name, as the client spells it.
    pub server_name: Option<String>,
    /// The application protocols, in the client's order. `None`: it does not offer any.
    pub application_protocols: Option<Vec<Vec<u8>>>,
}

const HANDSHAKE_RECORD: u8 = 22;
const CLIENT_HELLO: u8 = 1;
/// The longest payload of a record that is not encrypted.
const RECORD_MAX: usize = 1 << 14;
const EXTENSION_SERVER_NAME: u16 = 0;
const EXTENSION_APPLICATION_PROTOCOLS: u16 = 16;
const HOST_NAME: u8 = 0;

/// Looks at the first bytes of a connection; `bytes` are all that have arrived so far.
#[must_use]
pub fn inspect(bytes: &[u8]) -> FirstBytes {
    match message(bytes) {
        Ok(Some(message)) => {
            client_hello(&message).map_or(FirstBytes::NotTls, FirstBytes::ClientHello)
        }
        Ok(None) => FirstBytes::Incomplete,
        Err(NotTls) => FirstBytes::NotTls,
    }
}

struct NotTls;

/// The body of the first handshake message, which may be spread over several records; `None` until it
/// is complete.
fn message(mut bytes: &[u8]) -> Result<Option<Vec<u8>>, NotTls> {
    let mut message = Vec::new();
    loop {
        // The beginning is checked even if it is incomplete: another protocol must not have to wait.
        if bytes.first().is_some_and(|&kind| kind != HANDSHAKE_RECORD)
            || bytes.get(1).is_some_and(|&major| major != 3)
        {
            return Err(NotTls);
        }
        let Some((&[_, _, _, long, short], rest)) = bytes.split_first_chunk() else {
            return Ok(None);
        };
        let length = usize::from(u16::from_be_bytes([long, short]));
        if length == 0 || length > RECORD_MAX {
            return Err(NotTls);
        }
        let (payload, rest) = rest.split_at_checked(length).unwrap_or((rest, &[]));
        message.extend_from_slice(payload);
        if message.first().is_some_and(|&kind| kind != CLIENT_HELLO) {
            return Err(NotTls);
        }
        if let Some((&[_, high, middle, low], body)) = message.split_first_chunk() {
            let wanted = u32::from_be_bytes([0, high, middle, low]) as usize;
            if let Some(body) = body.get(..wanted) {
                return Ok(Some(body.to_vec()));
            }
        }
        if payload.len() < length {
            return Ok(None);
        }
        bytes = rest;
    }
}

/// Parses the body of a ClientHello; `None` if it is malformed.
fn client_hello(body: &[u8]) -> Option<ClientHello> {
    let mut hello = ClientHello::default();
    let mut body = Reader(body);
    body.take(2 + 32)?; // version and random
    let _session_id = body.short_list()?;
    let cipher_suites = body.list()?;
    let compression_methods = body.short_list()?;
    if cipher_suites.is_empty() || cipher_suites.len() % 2 == 1 || compression_methods.is_empty() {
        return None;
    }
    if body.0.is_empty() {
        return Some(hello);
    }
    let mut extensions = Reader(body.list()?);
    if !body.0.is_empty() {
        return None;
    }
    while !extensions.0.is_empty() {
        let kind = extensions.u16()?;
        let content = Reader(extensions.list()?);
        match kind {
            EXTENSION_SERVER_NAME => hello.server_name = Some(server_name(content)?),
            EXTENSION_APPLICATION_PROTOCOLS => {
                hello.application_protocols = Some(application_protocols(content)?);
            }
            _ => {}
        }
    }
    Some(hello)
}

/// The host name: the only kind of name that there is.
fn server_name(mut extension: Reader<'_>) -> Option<String> {
    let mut names = Reader(extension.list()?);
    let kind = names.u8()?;
    let name = names.list()?;
    let is_whole = names.0.is_empty() && extension.0.is_empty();
    let is_name = kind == HOST_NAME && !name.is_empty() && name.len() <= 255 && !name.contains(&0);
    (is_whole && is_name).then(|| String::from_utf8_lossy(name).into_owned())
}

fn application_protocols(mut extension: Reader<'_>) -> Option<Vec<Vec<u8>>> {
    let mut list = Reader(extension.list()?);
    if list.0.is_empty() || !extension.0.is_empty() {
        return None;
    }
    let mut protocols = Vec::new();
    while !list.0.is_empty() {
        let name = list.short_list()?;
        if name.is_empty() {
            return None;
        }
        protocols.push(name.to_vec());
    }
    Some(protocols)
}

/// The rest of a message.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn u8(&mut self) -> Option<u8> {
        self.take(1)?.first().copied()
    }

    fn u16(&mut self) -> Option<u16> {
        Some(u16::from_be_bytes(self.take(2)?.try_into().ok()?))
    }

    /// Bytes behind their length, which takes one byte.
    fn short_list(&mut self) -> Option<&'a [u8]> {
        let length = self.u8()?;
        self.take(length.into())
    }

    /// Bytes behind their length, which takes two bytes.
    fn list(&mut self) -> Option<&'a [u8]> {
        let length = self.u16()?;
        self.take(length.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn long(bytes: &[u8]) -> Vec<u8> {
        [&u16::try_from(bytes.len()).unwrap().to_be_bytes(), bytes].concat()
    }

    fn short(bytes: &[u8]) -> Vec<u8> {
        [&[u8::try_from(bytes.len()).unwrap()], bytes].concat()
    }

    fn extension(kind: u16, content: &[u8]) -> Vec<u8> {
        [&kind.to_be_bytes()[..], &long(content)].concat()
    }

    fn name(name: &[u8]) -> Vec<u8> {
        extension(0, &long(&[&[0], &long(name)[..]].concat()))
    }

    fn protocols(names: &[&[u8]]) -> Vec<u8> {
        extension(16, &long(&names.iter().flat_map(|name| short(name)).collect::<Vec<_>>()))
    }

    /// A handshake message with these extensions.
    fn hello(extensions: &[u8]) -> Vec<u8> {
        let random = [7; 32];
        let body = [
            &[3, 3][..],
            &random,
            &short(&[9; 32]),
            &long(&[0x13, 1, 0x13, 2]),
            &short(&[0]),
            &long(extensions),
        ]
        .concat();
        let length = u32::try_from(body.len()).unwrap().to_be_bytes();
        [&[1], &length[1..], &body].concat()
    }

    /// The message in records of at most this many bytes.
    fn records(message: &[u8], most: usize) -> Vec<u8> {
        message.chunks(most).flat_map(|part| [&[22, 3, 1][..], &long(part)].concat()).collect()
    }

    fn found(extensions: &[u8]) -> FirstBytes {
        inspect(&records(&hello(extensions), RECORD_MAX))
    }

    #[test]
    fn the_server_name_and_the_protocols_are_found() {
        let extensions =
            [extension(43, &[2, 3, 4]), name(b"A.Test"), protocols(&[b"h2", b"http/1.1"])].concat();
        let expected = FirstBytes::ClientHello(ClientHello {
            server_name: Some("A.Test".to_owned()),
            application_protocols: Some(vec![b"h2".to_vec(), b"http/1.1".to_vec()]),
        });
        let message = hello(&extensions);
        // However it arrives, and however it is divided into records.
        for most in [1, 2, 3, 5, 50, RECORD_MAX] {
            let bytes = records(&message, most);
            for end in 0..bytes.len() {
                assert_eq!(inspect(&bytes[..end]), FirstBytes::Incomplete, "{most} {end}");
            }
            assert_eq!(inspect(&bytes), expected, "{most}");
            assert_eq!(inspect(&[&bytes[..], b"more"].concat()), expected, "{most}");
        }
    }

    #[test]
    fn neither_is_necessary() {
        assert_eq!(found(&[]), FirstBytes::ClientHello(ClientHello::default()));
        let mut message = hello(&[]);
        message.truncate(message.len() - 2);
        message[3] -= 2;
        let bytes = records(&message, RECORD_MAX);
        assert_eq!(inspect(&bytes), FirstBytes::ClientHello(ClientHello::default()));
    }

    #[test]
    fn other_protocols_are_told_apart_by_their_first_bytes() {
        assert_eq!(inspect(b""), FirstBytes::Incomplete);
        assert_eq!(inspect(b"G"), FirstBytes::NotTls);
        assert_eq!(inspect(&[22, 2]), FirstBytes::NotTls);
        assert_eq!(inspect(&[22, 3, 1, 0, 0]), FirstBytes::NotTls, "an empty record");
        assert_eq!(inspect(&[22, 3, 1, 0x40, 1]), FirstBytes::NotTls, "a record that is too long");
        assert_eq!(inspect(&[22, 3, 1, 0, 9, 2]), FirstBytes::NotTls, "another message");
        assert_eq!(inspect(&[0x80, 0x2e, 1, 3, 1]), FirstBytes::NotTls, "SSL 2");
    }

    #[test]
    fn a_malformed_hello_is_not_tls() {
        for extensions in [
            name(b""),
            name(b"a\0b"),
            name(&[b'a'; 256]),
            extension(0, &[0, 1, 0]),
            protocols(&[]),
            protocols(&[b""]),
            extension(16, &[0, 9, 1, b'a']),
            vec![0, 0, 0, 9],
            vec![0],
        ] {
            assert_eq!(found(&extensions), FirstBytes::NotTls, "{extensions:?}");
        }
        assert_eq!(inspect(&[22, 3, 1, 0, 5, 1, 0, 0, 1, 0]), FirstBytes::NotTls);
    }
}
