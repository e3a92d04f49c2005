//! The examples of RFC 7541 appendix C, and what holds for any block.

use super::*;
use crate::http::{FieldName, Indexing};

type Owned = Vec<(Vec<u8>, Vec<u8>)>;

fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<u8> = hex.bytes().filter(u8::is_ascii_hexdigit).collect();
    let pairs = digits.chunks(2);
    pairs.map(|pair| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

fn decoded(decoder: &mut Decoder, block: &[u8]) -> Result<Owned, Error> {
    let mut fields = Vec::new();
    decoder.decode(block, |field| {
        assert_eq!(field.id, FieldName::of(field.name));
        fields.push((field.name.to_vec(), field.value.to_vec()));
    })?;
    Ok(fields)
}

fn encoded<'a>(
    encoder: &mut Encoder,
    fields: impl IntoIterator<Item = (&'a [u8], &'a [u8])>,
) -> Vec<u8> {
    let mut block = Vec::new();
    encoder.begin(&mut block);
    for (name, value) in fields {
        encoder.other(name, value, &mut block);
    }
    block
}

fn owned(fields: &[(&str, &str)]) -> Owned {
    fields
        .iter()
        .map(|(name, value)| (name.as_bytes().to_vec(), value.as_bytes().to_vec()))
        .collect()
}

fn decoder() -> Decoder {
    Decoder::default()
}

fn with_table(size: usize) -> Decoder {
    let mut decoder = decoder();
    decoder.set_limit(size);
    let update = block(|out| encoder::integer(0x20, 5, size, out));
    assert_eq!(decoded(&mut decoder, &update), Ok(Vec::new()));
    decoder
}

fn block(write: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = Vec::new();
    write(&mut out);
    out
}

/// Decodes the blocks in order by one decoder; what our encoder makes of the fields is decoded to the same.
fn examples(decoder: &mut Decoder, blocks: &[(&str, &[(&str, &str)])]) {
    let (mut ours, mut encoder) = (self::decoder(), Encoder::default());
    for (block, fields) in blocks {
        assert_eq!(decoded(decoder, &bytes(block)), Ok(owned(fields)), "{block}");
        let pairs = fields.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes()));
        let again = encoded(&mut encoder, pairs);
        assert_eq!(decoded(&mut ours, &again), Ok(owned(fields)), "{block}");
    }
}

#[test]
fn c1_integers() {
    for (first, prefix, value, hex) in
        [(0, 5, 10, "0a"), (0, 5, 1337, "1f9a0a"), (0, 8, 42, "2a"), (0, 7, 127, "7f00")]
    {
        if prefix < 8 {
            assert_eq!(block(|out| encoder::integer(first, prefix, value, out)), bytes(hex));
            assert_eq!(input::Input(&bytes(hex)).integer(prefix), Ok(value));
        }
    }
    assert_eq!(input::Input(&bytes("1f e0 ff ff ff 0f")).integer(5), Ok(u32::MAX as usize));
    assert_eq!(input::Input(&bytes("1f e1 ff ff ff 0f")).integer(5), Err(Error::Integer));
    assert_eq!(input::Input(&bytes("1f 80 80 80 80 80 00")).integer(5), Err(Error::Integer));
    assert_eq!(input::Input(&bytes("1f 80 80")).integer(5), Err(Error::Truncated));
}

#[test]
fn c2_literals() {
    for (block, name, value, indexing) in [
        (
            "400a 6375 7374 6f6d 2d6b 6579 0d63 7573 746f 6d2d 6865 6164 6572",
            "custom-key",
            "custom-header",
            Indexing::Allowed,
        ),
        ("040c 2f73 616d 706c 652f 7061 7468", ":path", "/sample/path", Indexing::Allowed),
        ("1008 7061 7373 776f 7264 0673 6563 7265 74", "password", "secret", Indexing::Never),
        ("82", ":method", "GET", Indexing::Allowed),
    ] {
        let mut seen = 0;
        let mut sink = |field: Field<'_>| {
            assert_eq!(
                (field.name, field.value, field.indexing),
                (name.as_bytes(), value.as_bytes(), indexing)
            );
            seen += 1;
        };
        assert_eq!(decoder().decode(&bytes(block), &mut sink), Ok(()));
        assert_eq!(seen, 1);
    }
}

const FIRST: &[(&str, &str)] =
    &[(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "www.example.com")];
const SECOND: &[(&str, &str)] = &[
    (":method", "GET"),
    (":scheme", "http"),
    (":path", "/"),
    (":authority", "www.example.com"),
    ("cache-control", "no-cache"),
];
const THIRD: &[(&str, &str)] = &[
    (":method", "GET"),
    (":scheme", "https"),
    (":path", "/index.html"),
    (":authority", "www.example.com"),
    ("custom-key", "custom-value"),
];

#[test]
fn c3_requests() {
    let blocks: &[(&str, &[(&str, &str)])] = &[
        ("8286 8441 0f77 7777 2e65 7861 6d70 6c65 2e63 6f6d", FIRST),
        ("8286 84be 5808 6e6f 2d63 6163 6865", SECOND),
        ("8287 85bf 400a 6375 7374 6f6d 2d6b 6579 0c63 7573 746f 6d2d 7661 6c75 65", THIRD),
    ];
    examples(&mut decoder(), blocks);
}

#[test]
fn c4_requests_by_the_huffman_code() {
    let blocks: &[(&str, &[(&str, &str)])] = &[
        ("8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff", FIRST),
        ("8286 84be 5886 a8eb 1064 9cbf", SECOND),
        ("8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf", THIRD),
    ];
    examples(&mut decoder(), blocks);
}

const DATE: &str = "Mon, 21 Oct 2013 20:13:21 GMT";
const LATER: &str = "Mon, 21 Oct 2013 20:13:22 GMT";
const COOKIE: &str = "foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1";
const ANSWERS: [&[(&str, &str)]; 3] = [
    &[
        (":status", "302"),
        ("cache-control", "private"),
        ("date", DATE),
        ("location", "https://www.example.com"),
    ],
    &[
        (":status", "307"),
        ("cache-control", "private"),
        ("date", DATE),
        ("location", "https://www.example.com"),
    ],
    &[
        (":status", "200"),
        ("cache-control", "private"),
        ("date", LATER),
        ("location", "https://www.example.com"),
        ("content-encoding", "gzip"),
        ("set-cookie", COOKIE),
    ],
];

#[test]
fn c5_responses_with_evictions() {
    let blocks: [&str; 3] = [
        "4803 3330 3258 0770 7269 7661 7465 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a 3133 \
         3a32 3120 474d 546e 1768 7474 7073 3a2f 2f77 7777 2e65 7861 6d70 6c65 2e63 6f6d",
        "4803 3330 37c1 c0bf",
        "88c1 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a 3133 3a32 3220 474d 54c0 5a04 677a 6970 \
         7738 666f 6f3d 4153 444a 4b48 514b 425a 584f 5157 454f 5049 5541 5851 5745 4f49 553b 206d 6178 \
         2d61 6765 3d33 3630 303b 2076 6572 7369 6f6e 3d31",
    ];
    let pairs = [(blocks[0], ANSWERS[0]), (blocks[1], ANSWERS[1]), (blocks[2], ANSWERS[2])];
    examples(&mut with_table(256), &pairs);
}

#[test]
fn c6_responses_by_the_huffman_code() {
    let blocks: [&str; 3] = [
        "4882 6402 5885 aec3 771a 4b61 96d0 7abe 9410 54d4 44a8 2005 9504 0b81 66e0 82a6 2d1b ff6e 919d 29ad \
         1718 63c7 8f0b 97c8 e9ae 82ae 43d3",
        "4883 640e ffc1 c0bf",
        "88c1 6196 d07a be94 1054 d444 a820 0595 040b 8166 e084 a62d 1bff c05a 839b d9ab 77ad 94e7 821d d7f2 \
         e6c7 b335 dfdf cd5b 3960 d5af 2708 7f36 72c1 ab27 0fb5 291f 9587 3160 65c0 03ed 4ee5 b106 3d50 07",
    ];
    let pairs = [(blocks[0], ANSWERS[0]), (blocks[1], ANSWERS[1]), (blocks[2], ANSWERS[2])];
    examples(&mut with_table(256), &pairs);
}

#[test]
fn invalid_blocks_are_named() {
    for (block, error) in [
        ("80", Error::Index),
        ("be", Error::Index),
        ("ff 80 00", Error::Index),
        ("7f ff 01 00", Error::Index),
        ("40", Error::Truncated),
        ("00 03 6162", Error::Truncated),
        ("82 20", Error::SizeUpdatePlace),
        ("3f e2 1f", Error::SizeUpdateTooLarge),
        ("00 81 ff 00", Error::HuffmanPadding),
        ("00 84 ffff fffc 00", Error::HuffmanCode),
        ("ff ff ff ff ff ff 0f", Error::Integer),
    ] {
        assert_eq!(decoded(&mut decoder(), &bytes(block)), Err(error), "{block}");
    }
}

#[test]
fn after_a_lower_limit_a_block_begins_with_a_size_update() {
    let mut decoder = decoder();
    decoder.set_limit(100);
    assert_eq!(decoded(&mut decoder, &[0x82]), Err(Error::SizeUpdateMissing));
    assert_eq!(decoded(&mut decoder, &bytes("3f 46 82")), Err(Error::SizeUpdateTooLarge));
    assert!(decoded(&mut decoder, &bytes("20 3f 45 82")).is_ok());
    assert!(decoded(&mut decoder, &[0x82]).is_ok());
    decoder.set_limit(4096);
    assert!(decoded(&mut decoder, &[0x82]).is_ok(), "a larger limit need not be used");
    assert!(decoded(&mut decoder, &bytes("3f e1 1f 82")).is_ok());
}

#[test]
fn the_encoder_tells_the_smallest_and_the_last_size() {
    let mut encoder = Encoder::default();
    encoder.set_limit(4096);
    encoder.set_limit(65_536);
    assert_eq!(encoded(&mut encoder, []), bytes(""), "ours is not larger than 4096");
    encoder.set_limit(0);
    encoder.set_limit(100);
    assert_eq!(encoded(&mut encoder, []), bytes("20 3f 45"));
    assert_eq!(encoded(&mut encoder, []), bytes(""));
    encoder.set_limit(0);
    assert_eq!(encoded(&mut encoder, []), bytes("20"));
    let field: (&[u8], &[u8]) = (b"a", b"b");
    let block = encoded(&mut encoder, [field]);
    assert_eq!(block, encoded(&mut encoder, [field]), "nothing is kept in an empty table");
}

#[test]
fn strings_are_as_they_are_where_the_huffman_code_is_off() {
    let mut plain = Encoder::new(Strings::Plain);
    let field: (&[u8], &[u8]) = (b"x-a", b"wwww");
    assert_eq!(encoded(&mut plain, [field]), [&[0x40, 3][..], b"x-a", &[4], b"wwww"].concat());
    let long = [b'a'; 200];
    let block = encoded(&mut plain, [(&b"x-b"[..], &long[..])]);
    assert!(block.ends_with(&[&[0x7f, 200 - 0x7f][..], &long].concat()));
}

#[test]
fn what_stays_the_same_takes_a_byte_and_what_changes_evicts_nothing() {
    let (mut encoder, mut decoder) = (Encoder::default(), decoder());
    let mut lengths = Vec::new();
    for at in 0_u64..500 {
        let (id, date) = (
            format!("{:032x}", at.wrapping_mul(0x9e37_79b9_7f4a_7c15)),
            format!("day {}", at / 100),
        );
        let fields = [
            (":method", "GET"),
            (":path", id.as_str()),
            ("user-agent", "a browser with a long name"),
            ("x-request-id", id.as_str()),
            ("x-unknown-and-changing", id.as_str()),
            ("x-unknown-and-the-same", "a value"),
            ("date", date.as_str()),
        ];
        let block =
            encoded(&mut encoder, fields.map(|(name, value)| (name.as_bytes(), value.as_bytes())));
        assert_eq!(decoded(&mut decoder, &block), Ok(owned(&fields)));
        lengths.push(block.len());
    }
    let least = lengths.iter().min().unwrap();
    assert!(lengths[0] > least + 50, "{lengths:?}");
    let costly = lengths.iter().filter(|&&length| length > least + 12).count();
    assert!(costly < 12, "{costly} of {lengths:?}");
}

#[test]
fn secrets_are_never_indexed_and_paths_are_not() {
    let representation = |name: &str, value: &[u8], indexing| {
        let (mut encoder, mut out) = (Encoder::default(), Vec::new());
        let (id, name) = (FieldName::of(name.as_bytes()), name.as_bytes());
        encoder.received(&Field { id, name, value, indexing }, &mut out);
        out[0] >> 4
    };
    for (name, value, expected) in [
        ("authorization", "secret", 1),
        ("cookie", "a=1", 1),
        ("cookie", "a=12345678901234567890", 6),
        ("set-cookie", "a=1", 0),
        (":path", "/a", 0),
        (":path", "/", 8),
    ] {
        assert_eq!(representation(name, value.as_bytes(), Indexing::Allowed), expected, "{name}");
    }
    assert_eq!(representation("x-large", &[b'x'; 4000], Indexing::Allowed), 0);
    assert_eq!(representation("x-token", b"1", Indexing::Allowed), 4);
    assert_eq!(representation("x-token", b"1", Indexing::Never), 1, "as received");
}

/// Random fields of few names, so that they repeat.
fn random_fields(random: &mut fastrand::Rng) -> Owned {
    const NAMES: [&str; 9] = [
        ":path",
        ":authority",
        "cookie",
        "x-a",
        "x-b",
        "accept",
        "set-cookie",
        "date",
        "x-request-id",
    ];
    let field = |random: &mut fastrand::Rng| {
        let name = NAMES[random.usize(..NAMES.len())].as_bytes().to_vec();
        let len = if random.u8(..20) == 0 { random.usize(..3000) } else { random.usize(..40) };
        let kinds = if random.bool() { b'a'..=b'c' } else { 0..=255 };
        (name, (0..len).map(|_| random.u8(kinds.clone())).collect())
    };
    (0..random.usize(..12)).map(|_| field(random)).collect()
}

#[test]
fn random_fields_are_decoded_as_encoded_whatever_the_table_sizes() {
    for seed in 0..200 {
        let mut random = fastrand::Rng::with_seed(seed);
        let (mut encoder, mut decoder) = (Encoder::default(), decoder());
        for _ in 0..60 {
            if random.u8(..8) == 0 {
                let limit = random.usize(..5000);
                encoder.set_limit(limit);
                decoder.set_limit(limit);
            }
            let fields = random_fields(&mut random);
            let pairs = fields.iter().map(|(name, value)| (name.as_slice(), value.as_slice()));
            let block = encoded(&mut encoder, pairs);
            assert_eq!(decoded(&mut decoder, &block), Ok(fields), "seed {seed}");
        }
    }
}

#[test]
fn random_bytes_are_decoded_or_refused_and_the_table_keeps_its_size() {
    for seed in 0..3000 {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut decoder = decoder();
        for _ in 0..10 {
            let block: Vec<u8> = (0..random.usize(..200)).map(|_| random.u8(..)).collect();
            if decoded(&mut decoder, &block).is_err() {
                break;
            }
        }
        assert!(decoder.table_bytes() <= DEFAULT_TABLE_SIZE);
    }
}
