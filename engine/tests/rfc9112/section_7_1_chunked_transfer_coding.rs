use corvoy_engine::http1::{Error, chunked};

use super::unchunked;

fn whole(coded: &[u8]) -> Vec<u8> {
    let (data, ended) = unchunked(coded).expect("well-formed");
    assert!(ended);
    data
}

/// "chunked-body = *chunk last-chunk trailer-section CRLF"
#[test]
fn chunks_are_put_together() {
    assert_eq!(whole(b"0\r\n\r\n"), b"");
    assert_eq!(whole(b"5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n"), b"hello world");
    assert_eq!(whole(b"A\r\nhelloworld\r\n000\r\n\r\n"), b"helloworld");
    assert_eq!(whole(b"00a\r\nhelloworld\r\n0\r\n\r\n"), b"helloworld");
    assert_eq!(whole(b"2\r\n\r\n\r\n0\r\n\r\n"), b"\r\n");
}

#[test]
fn a_truncated_body_has_not_ended() {
    let coded = b"5\r\nhello\r\n0\r\n\r\n";
    for end in 0..coded.len() {
        assert!(!unchunked(&coded[..end]).expect("so far well-formed").1, "{end}");
    }
}

/// "chunk-size = 1*HEXDIG"
#[test]
fn a_size_is_hexadecimal_digits() {
    for size in ["", "0x5", "+5", "-1", " 5", "\t5", "1_0", "5 5", "x", "5h", "\r", "5\u{0}"] {
        let error = unchunked(format!("{size}\r\nhello\r\n0\r\n\r\n").as_bytes()).expect_err(size);
        assert_eq!(error.status(), 400, "{size:?}");
    }
    // BWS comes before an extension only.
    assert_eq!(unchunked(b"5 \r\nhello\r\n0\r\n\r\n"), Err(Error::ChunkExtension));
}

/// "a recipient MUST anticipate potentially large hexadecimal numerals and prevent parsing errors
/// due to integer conversion overflows".
#[test]
fn a_size_beyond_63_bits_is_rejected() {
    assert!(unchunked(b"7fffffffffffffff\r\nhello").is_ok());
    for size in ["8000000000000000", "FFFFFFFFFFFFFFFF0", "10000000000000005"] {
        assert_eq!(unchunked(format!("{size}\r\n").as_bytes()), Err(Error::ChunkSize), "{size}");
    }
    let zeros = format!("{}5\r\nhello\r\n0\r\n\r\n", "0".repeat(20_000));
    assert_eq!(unchunked(zeros.as_bytes()), Err(Error::ChunkExtension));
}

/// "chunk = chunk-size [ chunk-ext ] CRLF chunk-data CRLF"
#[test]
fn data_ends_where_its_size_says() {
    for coded in [
        &b"5\r\nhello!!\r\n0\r\n\r\n"[..],
        b"5\r\nhello0\r\n\r\n",
        b"5\r\nhell\r\n0\r\n\r\n",
        b"5\r\nhello\n0\r\n\r\n",
        b"5\r\nhello\r0\r\n\r\n",
        b"5\nhello\r\n0\r\n\r\n",
        b"5\rhello\r\n0\r\n\r\n",
    ] {
        assert!(unchunked(coded).is_err(), "{:?}", String::from_utf8_lossy(coded));
    }
}

#[test]
fn encoded_chunks_decode_to_the_same_data() {
    for len in [1, 9, 10, 15, 16, 255, 256, 4096, 70_000] {
        let data = vec![b'x'; len];
        let mut coded = Vec::new();
        chunked::encode_chunk(&mut coded, &data);
        chunked::encode_chunk(&mut coded, b"");
        assert!(coded.starts_with(format!("{len:x}\r\n").as_bytes()));
        chunked::encode_end(&mut coded);
        assert_eq!(whole(&coded), data);
    }
}

#[test]
fn data_appended_in_pieces_is_one_chunk() {
    for (most, pieces) in
        [(3, &["a", "", "bc"][..]), (70_000, &["hello", " ", "world"]), (9, &["x"])]
    {
        let data = pieces.concat();
        let mut coded = b"head".to_vec();
        let append = |out: &mut Vec<u8>| {
            pieces.iter().for_each(|piece| out.extend_from_slice(piece.as_bytes()));
            Ok::<(), ()>(())
        };
        let place = chunked::encode_joined(&mut coded, most, append);
        assert_eq!(String::from_utf8_lossy(&coded), format!("head{:x}\r\n{data}\r\n", data.len()));
        assert_eq!(place.map(|place| coded[place].to_vec()), Ok(data.into_bytes()));
    }
}

#[test]
fn empty_and_failed_data_write_no_chunk() {
    let mut coded = b"head".to_vec();
    assert_eq!(chunked::encode_joined(&mut coded, 10, |_| Ok::<(), ()>(())), Ok(4..4));
    let fails = |out: &mut Vec<u8>| {
        out.push(b'x');
        Err("misdeed")
    };
    assert_eq!(chunked::encode_joined(&mut coded, 10, fails), Err("misdeed"));
    assert_eq!(coded, b"head");
}
