use super::*;

fn addresses(source: &str, destination: &str) -> Option<Addresses> {
    let at = |text: &str| text.parse().expect("an address");
    Some(Addresses { source: at(source), destination: at(destination) })
}

/// A header of version 2.
fn v2(command: u8, family: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = SIGNATURE_V2.to_vec();
    bytes.extend([command, family]);
    bytes.extend(u16::try_from(payload.len()).expect("a short payload").to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// 1.2.3.4:1111 to 5.6.7.8:2222.
const V4: [u8; 12] = [1, 2, 3, 4, 5, 6, 7, 8, 0x04, 0x57, 0x08, 0xae];

/// Parses a header of which every prefix is incomplete; the bytes of a request follow it.
fn parsed(header: &[u8]) -> Option<Addresses> {
    let mut bytes = header.to_vec();
    bytes.extend(b"GET / HTTP/1.1\r\n\r\n");
    for end in 0..header.len() {
        let part = &bytes[..end];
        match signature(part, Versions::BOTH) {
            Signature::Incomplete => {}
            Signature::Found(version) => assert_eq!(parse(part, version), Ok(None), "{end}"),
            Signature::Absent => panic!("{end} bytes are taken for no header"),
        }
    }
    let Signature::Found(version) = signature(&bytes, Versions::BOTH) else { panic!("not found") };
    let found = parse(&bytes, version).expect("well-formed").expect("complete");
    assert_eq!(found.length, header.len());
    found.addresses
}

fn is_malformed(header: &[u8]) -> bool {
    let Signature::Found(version) = signature(header, Versions::BOTH) else { return false };
    parse(header, version).is_err()
}

#[test]
fn a_line_announces_addresses() {
    assert_eq!(
        parsed(b"PROXY TCP4 1.2.3.4 5.6.7.8 1111 2222\r\n"),
        addresses("1.2.3.4:1111", "5.6.7.8:2222")
    );
    assert_eq!(
        parsed(b"PROXY TCP6 1::2 5::6 1111 2222\r\n"),
        addresses("[1::2]:1111", "[5::6]:2222")
    );
    assert_eq!(parsed(b"PROXY TCP4 1.2.3.4 5.6.7.8 0 0\r\n"), addresses("1.2.3.4:0", "5.6.7.8:0"));
    assert_eq!(parsed(b"PROXY UNKNOWN\r\n"), None);
    assert_eq!(parsed(b"PROXY UNKNOWN ffff::1 whatever\r\n"), None);
}

/// As recorded with Envoy 1.40.
#[test]
fn a_line_is_parsed_as_in_envoy() {
    assert_eq!(
        parsed(b"PROXY TCP4 1.2.3.4 5.6.7.8 01 +2 \r\n"),
        addresses("1.2.3.4:1", "5.6.7.8:2")
    );
    for line in [
        "PROXY TCP4 1.2.3.4 5.6.7.8 1111 2222\nGET / HTTP/1.1",
        "PROXY FOO 1.2.3.4 5.6.7.8 1111 2222",
        "PROXY TCP4 1.2.3.4 5.6.7.8 99999 2222",
        "PROXY TCP4 1::2 5.6.7.8 1 2",
        "PROXY TCP6 1.2.3.4 5.6.7.8 1 2",
        "PROXY  TCP4 1.2.3.4 5.6.7.8 1 2",
        "PROXY TCP4 1.2.3.4 5.6.7.8 1 2 3",
        "PROXY TCP4 1.2.3.4 5.6.7.8 1",
        "PROXY TCP4 0.0.0.0 5.6.7.8 1 2",
        "PROXY TCP4 224.0.0.1 5.6.7.8 1 2",
        "PROXY TCP4 1.2.3.4 255.255.255.255 1 2",
        "PROXY TCP6 :: ::1 1 2",
    ] {
        assert!(is_malformed(format!("{line}\r\n").as_bytes()), "{line}");
    }
}

#[test]
fn a_line_is_bounded() {
    let longest = format!("PROXY UNKNOWN {}\r\n", "a".repeat(92));
    assert_eq!(longest.len(), LINE_MAX);
    assert_eq!(parsed(longest.as_bytes()), None);
    assert!(is_malformed(format!("PROXY UNKNOWN {}", "a".repeat(94)).as_bytes()));
}

#[test]
fn a_binary_header_announces_addresses() {
    assert_eq!(parsed(&v2(0x21, 0x11, &V4)), addresses("1.2.3.4:1111", "5.6.7.8:2222"));
    assert_eq!(parsed(&v2(0x21, 0x12, &V4)), addresses("1.2.3.4:1111", "5.6.7.8:2222"));
    let mut v6 = [0; 36];
    (v6[1], v6[17], v6[33], v6[35]) = (1, 2, 3, 4);
    assert_eq!(parsed(&v2(0x21, 0x21, &v6)), addresses("[1::]:3", "[2::]:4"));
    assert_eq!(parsed(&v2(0x20, 0x11, &V4)), None, "LOCAL: a health check of the proxy");
    assert_eq!(parsed(&v2(0x20, 0, &[7; 300])), None);
}

#[test]
fn values_behind_the_addresses_are_kept() {
    let payload = [&V4[..], &[2, 0, 3], b"abc", &[0xe0, 0, 0]].concat();
    let header = parse(&v2(0x21, 0x11, &payload), Version::V2).unwrap().unwrap();
    let tlv = |kind, value: &[u8]| Tlv { kind, value: value.to_vec() };
    assert_eq!(header.tlvs, [tlv(2, b"abc"), tlv(0xe0, b"")]);
}

/// As recorded with Envoy 1.40.
#[test]
fn a_binary_header_is_parsed_as_in_envoy() {
    let multicast = [224, 0, 0, 1, 5, 6, 7, 8, 0, 1, 0, 2];
    let with_tlv = |tlv: &[u8]| v2(0x21, 0x11, &[&V4[..], tlv].concat());
    for header in [
        v2(0x21, 0, &[]),           // unspecified
        v2(0x21, 0x31, &[7; 216]),  // unix
        v2(0x21, 0x11, &[1, 2, 3]), // short
        v2(0x22, 0x11, &V4),        // no such command
        v2(0x11, 0x11, &V4),        // no such version
        v2(0x21, 0x10, &V4),        // no protocol
        v2(0x21, 0x41, &V4),        // no such family
        v2(0x21, 0x11, &multicast),
        with_tlv(&[2, 0, 5, 1, 2]),
        with_tlv(&[2, 0]),
    ] {
        assert!(is_malformed(&header), "{header:?}");
    }
}

#[test]
fn anything_else_is_no_header() {
    let found = |bytes: &[u8]| signature(bytes, Versions::BOTH);
    assert_eq!(found(b""), Signature::Incomplete);
    assert_eq!(found(b"GET / HTTP/1.1\r\n"), Signature::Absent);
    assert_eq!(found(b"PGET"), Signature::Absent);
    assert_eq!(found(b"proxy "), Signature::Absent);
    assert_eq!(found(b"\r\n\r\n\0\r\nQUIX"), Signature::Absent);
    let only_v2 = Versions { v1: false, v2: true };
    assert_eq!(signature(b"PROXY TCP4", only_v2), Signature::Absent);
    assert_eq!(signature(b"\r\n", Versions { v1: true, v2: false }), Signature::Absent);
}

#[test]
fn what_is_written_is_parsed() {
    for announced in
        [addresses("1.2.3.4:1111", "5.6.7.8:2222"), addresses("[1::2]:1111", "[5::6]:2222"), None]
    {
        for version in [Version::V1, Version::V2] {
            let header = write(version, announced);
            assert_eq!(signature(&header, Versions::BOTH), Signature::Found(version));
            assert_eq!(parsed(&header), announced);
        }
    }
}

/// As recorded with Envoy 1.40.
#[test]
fn headers_are_written_as_by_envoy() {
    let announced = addresses("1.2.3.4:1111", "5.6.7.8:2222");
    assert_eq!(write(Version::V1, announced), b"PROXY TCP4 1.2.3.4 5.6.7.8 1111 2222\r\n");
    assert_eq!(write(Version::V2, announced), v2(0x21, 0x11, &V4));
}

#[test]
fn values_are_appended_as_long_as_they_fit() {
    let tlv = |kind, length| Tlv { kind, value: vec![kind; length] };
    let mut header = write(Version::V2, addresses("1.2.3.4:1111", "5.6.7.8:2222"));
    assert!(append(&mut header, [tlv(2, 3), tlv(0xe0, 0)].iter()));
    let rest = usize::from(u16::MAX) - 12 - (3 + 3) - 3;
    // As recorded with Envoy 1.40: what does not fit is left out, and what follows it may fit.
    assert!(!append(
        &mut header,
        [tlv(3, rest - 2), tlv(4, rest - 6), tlv(5, 1), tlv(6, 0)].iter()
    ));
    let parsed = parse(&header, Version::V2).unwrap().unwrap();
    assert_eq!(parsed.length, header.len());
    let kinds: Vec<u8> = parsed.tlvs.iter().map(|tlv| tlv.kind).collect();
    assert_eq!(kinds, [2, 0xe0, 4, 6]);
}
