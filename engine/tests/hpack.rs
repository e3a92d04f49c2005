//! HPACK against an independent implementation, in both directions.

#![expect(clippy::indexing_slicing, reason = "a test may panic")]

use corvoy_engine::http2::hpack::{Decoder, Encoder};

type Owned = Vec<(Vec<u8>, Vec<u8>)>;

const TABLE_SIZE: u32 = 4096;

/// Random messages over a connection: names and values that repeat, and some that do not.
fn messages(seed: u64) -> Vec<Owned> {
    const NAMES: [&str; 12] = [
        ":method",
        ":path",
        ":status",
        ":authority",
        "accept",
        "accept-encoding",
        "cookie",
        "via",
        "x-request-id",
        "x-unknown",
        "set-cookie",
        "date",
    ];
    let mut random = fastrand::Rng::with_seed(seed);
    let mut field = || {
        let name = NAMES[random.usize(..NAMES.len())].as_bytes().to_vec();
        let len = if random.u8(..30) == 0 { random.usize(..5000) } else { random.usize(..30) };
        let bytes = [b'a'..=b'b', b' '..=b'~', 0..=255][random.usize(..3)].clone();
        (name, (0..len).map(|_| random.u8(bytes.clone())).collect())
    };
    (0..50).map(|_| (0..10).map(|_| field()).collect()).collect()
}

#[test]
fn what_another_encoder_writes_is_decoded() {
    const HUFFMAN: u8 = 0x1 | 0x2;
    const BEST: u8 = 0x10;
    const INDEXED: u8 = 0x4;
    const NEVER: u8 = 0x8;
    for seed in 0..50 {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut theirs = httlib_hpack::Encoder::with_dynamic_size(TABLE_SIZE);
        let mut ours = Decoder::default();
        for fields in messages(seed) {
            let mut block = Vec::new();
            for (name, value) in fields.clone() {
                let flags = [INDEXED, INDEXED | BEST, NEVER, 0][random.usize(..4)];
                let huffman = if random.bool() { HUFFMAN } else { 0 };
                theirs.encode((name, value, flags | huffman), &mut block).unwrap();
            }
            let mut decoded = Owned::new();
            ours.decode(&block, |field| decoded.push((field.name.to_vec(), field.value.to_vec())))
                .unwrap();
            assert_eq!(decoded, fields, "seed {seed}");
        }
    }
}

#[test]
fn another_decoder_reads_what_is_encoded() {
    for seed in 0..50 {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut theirs = httlib_hpack::Decoder::with_dynamic_size(TABLE_SIZE);
        let mut ours = Encoder::default();
        for fields in messages(seed) {
            if random.u8(..10) == 0 {
                ours.set_limit(random.usize(..5000));
            }
            let mut block = Vec::new();
            ours.begin(&mut block);
            for (name, value) in &fields {
                ours.other(name, value, &mut block);
            }
            let mut decoded = Vec::new();
            theirs.decode(&mut block, &mut decoded).unwrap();
            let decoded: Owned =
                decoded.into_iter().map(|(name, value, _)| (name, value)).collect();
            assert_eq!(decoded, fields, "seed {seed}");
        }
    }
}
