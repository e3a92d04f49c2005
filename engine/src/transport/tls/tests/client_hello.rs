//! ClientHellos of rustls, and others made by hand.

use std::sync::Arc;

use rustls::{ClientConfig, ClientConnection, RootCertStore};

use crate::transport::tls::client_hello::{
    ClientHello, FirstBytes, Flaw, MESSAGE_BYTES_MAX, Numbers, first_message,
};

/// Bytes after their length in two bytes.
fn long(bytes: &[u8]) -> Vec<u8> {
    [&u16::try_from(bytes.len()).unwrap().to_be_bytes(), bytes].concat()
}

/// Bytes after their length in one byte.
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

/// The parts of a ClientHello in front of its extensions.
struct Front {
    session_id: Vec<u8>,
    cipher_suites: Vec<u8>,
    compression_methods: Vec<u8>,
}

impl Default for Front {
    fn default() -> Self {
        Self {
            session_id: vec![9; 32],
            cipher_suites: vec![0x13, 1, 0x13, 2],
            compression_methods: vec![0],
        }
    }
}

impl Front {
    /// A handshake message; `rest` are the extensions with their length.
    fn message(&self, rest: &[u8]) -> Vec<u8> {
        let parts = [
            &[3, 3][..],
            &[7; 32],
            &short(&self.session_id),
            &long(&self.cipher_suites),
            &short(&self.compression_methods),
            rest,
        ];
        handshake(1, &parts.concat())
    }
}

fn handshake(kind: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len()).unwrap().to_be_bytes();
    [&[kind], &length[1..], body].concat()
}

fn message(extensions: &[u8]) -> Vec<u8> {
    Front::default().message(&long(extensions))
}

fn record(content: &[u8]) -> Vec<u8> {
    [&[22, 3, 1][..], &long(content)].concat()
}

/// The message in records of at most this many bytes.
fn records(message: &[u8], most: usize) -> Vec<u8> {
    message.chunks(most).flat_map(record).collect()
}

/// What is wrong with these bytes; none: they are a ClientHello that can be parsed.
fn flaw(bytes: &[u8]) -> Option<Flaw> {
    match first_message(bytes) {
        FirstBytes::ClientHello(message) => ClientHello::parse(&message).err(),
        FirstBytes::Malformed(flaw) => Some(flaw),
        other => panic!("{other:?}"),
    }
}

pub(super) fn of_rustls(alpn: &[&str]) -> Vec<u8> {
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
    let records = of_rustls(&["h2", "http/1.1"]);
    let FirstBytes::ClientHello(message) = first_message(&records) else {
        panic!("no ClientHello")
    };
    let hello = ClientHello::parse(&message).unwrap();
    assert_eq!(hello.server_name.as_deref(), Some("a.test"));
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
    let message =
        message(&[extension(43, &[2, 3, 4]), name(b"A.Test"), protocols(&[b"h2"])].concat());
    for most in [1, 2, 3, 5, 50, 16_384] {
        let mut bytes = records(&message, most);
        for end in 0..bytes.len() {
            assert_eq!(first_message(&bytes[..end]), FirstBytes::Incomplete, "{most} {end}");
        }
        bytes.extend_from_slice(b"more");
        let FirstBytes::ClientHello(found) = first_message(&bytes) else { panic!("{most}") };
        assert_eq!(found, &message[4..], "{most}");
    }
}

#[test]
fn extensions_are_optional() {
    assert_eq!(flaw(&record(&message(&[]))), None);
    assert_eq!(flaw(&record(&Front::default().message(&[]))), None);
}

#[test]
fn other_protocols_are_told_apart_by_their_first_bytes() {
    for bytes in
        [&b"G"[..], b"PRI * HTTP/2.0", &[0; 40], &[22, 2], &[22, 4, 0], &[0x80, 0x2e, 1, 3, 1]]
    {
        assert_eq!(first_message(bytes), FirstBytes::NotTls, "{bytes:?}");
    }
    for bytes in [&b""[..], &[22], &[22, 3], &[22, 3, 1, 0, 9], &[22, 3, 1, 0, 9, 1]] {
        assert_eq!(first_message(bytes), FirstBytes::Incomplete, "{bytes:?}");
    }
}

/// As Envoy's `tls_inspector` and TLS socket decide.
#[test]
fn records_are_joined_as_strictly_as_by_envoy() {
    let hello = message(&name(b"a.test"));
    let (begin, end) = hello.split_at(20);
    let empty = |count: usize| record(&[]).repeat(count);
    let with = |between: &[u8]| [&record(begin), between, &record(end)].concat();
    assert_eq!(flaw(&[empty(1), record(&hello)].concat()), None);
    assert_eq!(flaw(&with(&empty(32))), None);
    assert_eq!(flaw(&with(&empty(33))), Some(Flaw::Unexpected));
    assert_eq!(flaw(&with(&[23, 3, 1, 0, 1, 0])), Some(Flaw::Unexpected), "another record");
    assert_eq!(flaw(&with(&[22, 4, 1, 0, 1, 0])), Some(Flaw::Unexpected), "another version");
    let two = [&hello[..], &handshake(1, &[])].concat();
    assert_eq!(flaw(&record(&two)), Some(Flaw::Unexpected), "two messages in a record");
    assert_eq!(flaw(&record(&handshake(2, &[]))), Some(Flaw::Unexpected), "a ServerHello");
    assert_eq!(flaw(&[22, 3, 1, 0x41, 0x41]), Some(Flaw::RecordTooLong));
    let long = [&[22, 3, 1, 0x40, 1][..], &[1; 0x4001]].concat();
    assert_eq!(first_message(&long[..0x4005]), FirstBytes::Incomplete);
    assert_eq!(flaw(&long), Some(Flaw::RecordTooLong));
}

#[test]
fn its_length_is_bounded() {
    let room = MESSAGE_BYTES_MAX - (message(&extension(0x1234, &[])).len() - 4);
    let longest = message(&extension(0x1234, &vec![0; room]));
    assert_eq!(flaw(&records(&longest, 9000)), None);
    let longer = message(&extension(0x1234, &vec![0; room + 1]));
    assert_eq!(flaw(&records(&longer, 9000)), Some(Flaw::MessageTooLong));
    // The announced length decides, and records of one byte do not help to send more.
    assert_eq!(flaw(&record(&[1, 0, 0x40, 1])), Some(Flaw::MessageTooLong));
    assert_eq!(flaw(&records(&longest, 1)), Some(Flaw::MessageTooLong));
}

/// As Envoy's `tls_inspector` decides.
#[test]
fn messages_are_parsed_as_strictly_as_by_envoy() {
    let two_names = [&[0][..], &long(b"a.test"), &[0], &long(b"b.test")].concat();
    let not_host = extension(0, &long(&[&[1], &long(b"a.test")[..]].concat()));
    for name in [name(b""), name(b"a\0b"), name(&[b'a'; 256]), not_host] {
        assert_eq!(flaw(&record(&message(&name))), Some(Flaw::ServerName), "{name:?}");
    }
    for malformed in [
        extension(0, &[]),
        extension(0, &long(&[])),
        extension(0, &long(&two_names)),
        extension(0, &[&long(&[&[0], &long(b"a.test")[..]].concat())[..], b"x"].concat()),
        [name(b"a.test"), name(b"b.test")].concat(),
        [protocols(&[b"h2"]), protocols(&[b"foo"])].concat(),
        [extension(0x1234, &[]), extension(0, &[]), extension(0x1234, &[])].concat(),
        vec![0x12, 0x34, 0, 9],
        vec![0],
    ] {
        assert_eq!(flaw(&record(&message(&malformed))), Some(Flaw::Syntax), "{malformed:?}");
    }
    let front = |change: fn(&mut Front)| {
        let mut front = Front::default();
        change(&mut front);
        flaw(&record(&front.message(&long(&[]))))
    };
    assert_eq!(front(|front| front.session_id.clear()), None);
    assert_eq!(front(|front| front.session_id.push(9)), Some(Flaw::Syntax));
    assert_eq!(front(|front| front.cipher_suites.clear()), Some(Flaw::Syntax));
    assert_eq!(front(|front| front.cipher_suites.push(0)), Some(Flaw::Syntax));
    assert_eq!(front(|front| front.compression_methods = vec![1]), None);
    assert_eq!(front(|front| front.compression_methods.clear()), Some(Flaw::Syntax));
    let trailing = Front::default().message(&[&long(&[])[..], b"x"].concat());
    assert_eq!(flaw(&record(&trailing)), Some(Flaw::Syntax));
}

/// As Envoy's `tls_inspector` decides; what it does not look at is left to the handshake.
#[test]
fn an_extension_that_cannot_be_read_is_absent() {
    for malformed in [
        extension(16, &[]),
        extension(16, &long(&[])),
        protocols(&[b""]),
        protocols(&[b"h2", b""]),
        extension(16, &long(b"\x09h2")),
        extension(16, &[&long(b"\x02h2")[..], b"x"].concat()),
        extension(10, &[0]),
        extension(13, &[0]),
        extension(43, &[3, 3]),
    ] {
        let message = message(&[name(&[b'a'; 255]), malformed].concat());
        let hello = ClientHello::parse(&message[4..]).unwrap();
        assert_eq!(hello.alpn, None);
        assert_eq!(hello.supported_versions, None);
        assert_eq!((hello.groups, hello.signature_algorithms), Default::default());
    }
    let message = message(&name(b"\xff.test"));
    let hello = ClientHello::parse(&message[4..]).unwrap();
    assert_eq!(hello.server_name.as_deref(), Some("\u{fffd}.test"));
}

#[test]
fn a_cut_message_is_malformed() {
    let records = of_rustls(&["h2"]);
    let FirstBytes::ClientHello(message) = first_message(&records) else {
        panic!("no ClientHello")
    };
    let parsed = (0..message.len()).filter(|end| ClientHello::parse(&message[..*end]).is_ok());
    // Extensions may be absent as a whole.
    assert_eq!(parsed.count(), 1);
}

#[test]
fn a_client_that_names_a_connection_renegotiates() {
    let renegotiates = |content: &[u8]| {
        let message = message(&extension(0xff01, content));
        ClientHello::parse(&message[4..]).unwrap().renegotiates()
    };
    assert!(renegotiates(&[1, 7]));
    assert!(!renegotiates(&[0]), "the first handshake");
    assert!(!renegotiates(&[2, 7]), "left to rustls");
}

#[test]
fn signature_algorithms_are_a_list_of_pairs_and_nothing_behind_it() {
    let lists = |content: &[u8]| {
        let message = message(&extension(13, content));
        ClientHello::parse(&message[4..]).unwrap().lists_signature_algorithms()
    };
    assert!(lists(&[0, 2, 4, 3]));
    for content in [&[][..], &[0, 0], &[0, 1, 4], &[0, 2, 4], &[0, 2, 4, 3, 8]] {
        assert!(!lists(content), "{content:?}");
    }
}

#[test]
fn a_key_share_is_missed_where_groups_are_named_and_no_session_is_resumed() {
    let (groups, share, ticket) =
        (extension(10, &[0, 2, 0, 29]), extension(51, &[]), extension(41, &[]));
    let lacks = |extensions: &[&[u8]]| {
        let message = message(&extensions.concat());
        ClientHello::parse(&message[4..]).unwrap().lacks_key_share()
    };
    assert!(lacks(&[&groups]));
    assert!(!lacks(&[&groups, &share]));
    assert!(!lacks(&[&groups, &ticket]));
    assert!(!lacks(&[&share]));
}
