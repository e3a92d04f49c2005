//! Every coding, there and back.

use super::*;

fn encoders() -> [EncoderOptions; 3] {
    [
        EncoderOptions::Gzip(GzipOptions { level: 6, window_bits: 12 }),
        EncoderOptions::Brotli(BrotliOptions {
            quality: 3,
            window_bits: 18,
            input_block_bits: 24,
            mode: brotli::Mode::Generic,
            literal_context_modeling: true,
        }),
        EncoderOptions::Zstd(ZstdOptions {
            level: 3,
            checksum: true,
            strategy: None,
            dictionary: [].into(),
        }),
    ]
}

fn decoder(coding: Coding) -> DecoderOptions {
    match coding {
        Coding::Gzip => DecoderOptions::Gzip { window_bits: 15, max_inflate_ratio: 100 },
        Coding::Brotli => DecoderOptions::Brotli,
        Coding::Zstd => DecoderOptions::Zstd(ZstdDecoderOptions::default()),
    }
}

/// Everything that can be read of `input`.
fn read_all(decoder: &mut Decoder, mut input: &[u8]) -> Result<Vec<u8>, Corrupt> {
    let mut all = Vec::new();
    loop {
        let mut out = Vec::new();
        let taken = decoder.read(input, &mut out)?;
        assert!(out.len() <= BLOCK, "{} bytes at once", out.len());
        input = &input[taken..];
        if taken == 0 && out.is_empty() {
            return Ok(all);
        }
        all.extend(out);
    }
}

fn text(length: usize) -> Vec<u8> {
    (0..length).flat_map(|i| format!("line {} of the text\n", i * i % 977).into_bytes()).collect()
}

#[test]
fn a_body_in_pieces_comes_back_as_it_was() {
    for options in encoders() {
        let coding = options.coding();
        let (mut encoder, mut decoder) = (options.encoder(), decoder(coding).decoder());
        let mut back = Vec::new();
        for (i, piece) in text(5000).chunks(7000).enumerate() {
            let mut compressed = Vec::new();
            encoder.write(piece, Follows::More, &mut compressed);
            let read = read_all(&mut decoder, &compressed).unwrap();
            assert_eq!(read, piece, "{coding:?}: piece {i} can be read at once");
            back.extend(read);
        }
        let mut end = Vec::new();
        encoder.write(b"the end", Follows::End, &mut end);
        assert!(!decoder.has_ended());
        back.extend(read_all(&mut decoder, &end).unwrap());
        assert!(decoder.has_ended(), "{coding:?}");
        assert_eq!(back, [text(5000), b"the end".to_vec()].concat(), "{coding:?}");
    }
}

#[test]
fn an_empty_body_is_a_body() {
    for options in encoders() {
        let mut compressed = Vec::new();
        options.encoder().write(b"", Follows::End, &mut compressed);
        let mut decoder = decoder(options.coding()).decoder();
        assert_eq!(read_all(&mut decoder, &compressed), Ok(Vec::new()));
        assert!(decoder.has_ended(), "{:?}", options.coding());
    }
}

#[test]
fn a_body_byte_by_byte_is_the_same() {
    for options in encoders() {
        let mut compressed = Vec::new();
        options.encoder().write(&text(50), Follows::End, &mut compressed);
        let mut decoder = decoder(options.coding()).decoder();
        let read: Vec<u8> =
            compressed.iter().flat_map(|byte| read_all(&mut decoder, &[*byte]).unwrap()).collect();
        assert_eq!(read, text(50));
        assert!(decoder.has_ended(), "{:?}", options.coding());
    }
}

#[test]
fn garbage_is_refused_and_a_truncated_body_has_no_end() {
    for options in encoders() {
        let mut broken = decoder(options.coding()).decoder();
        assert_eq!(read_all(&mut broken, &[0xff; 64]), Err(Corrupt::Data), "{options:?}");
        let mut compressed = Vec::new();
        options.encoder().write(&text(50), Follows::End, &mut compressed);
        let mut truncated = decoder(options.coding()).decoder();
        read_all(&mut truncated, &compressed[..compressed.len() - 3]).unwrap();
        assert!(!truncated.has_ended(), "{options:?}");
    }
}

#[test]
fn gzip_does_not_inflate_without_bounds() {
    let mut bomb = Vec::new();
    let options = GzipOptions { level: 9, window_bits: 15 };
    EncoderOptions::Gzip(options).encoder().write(&vec![0; 4 << 20], Follows::End, &mut bomb);
    let mut decoder = decoder(Coding::Gzip).decoder();
    assert_eq!(read_all(&mut decoder, &bomb), Err(Corrupt::Ratio));
}

#[test]
fn zstd_finds_its_dictionary_by_number() {
    // As `zstd --train` makes them: a magic number, an id, and content of the library's choice. Raw content
    // without an id is no dictionary that a body can name.
    let unknown = DecoderOptions::Zstd(ZstdDecoderOptions::default());
    let mut header = vec![0x28, 0xb5, 0x2f, 0xfd, 0x21, 7, 0];
    header.extend([0; 16]);
    assert_eq!(unknown.decoder().read(&header, &mut Vec::new()), Err(Corrupt::Dictionary));
}
