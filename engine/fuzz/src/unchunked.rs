//! Decodes a chunked body that arrives in pieces. The engine's tests of the codec use this file, too.

use super::http1::Error;
use super::http1::chunked::Decoder;

/// The data, and the length of the encoded body if it has ended.
pub(crate) fn unchunked(pieces: &[&[u8]]) -> Result<(Vec<u8>, Option<usize>), Error> {
    let mut decoder = Decoder::new();
    let (mut data, mut used) = (Vec::new(), 0);
    for piece in pieces {
        let mut rest = *piece;
        while !rest.is_empty() {
            let decoded = decoder.decode(rest)?;
            data.extend_from_slice(&rest[decoded.data]);
            used += decoded.consumed;
            rest = &rest[decoded.consumed..];
            if decoded.end {
                return Ok((data, Some(used)));
            }
        }
    }
    Ok((data, None))
}
