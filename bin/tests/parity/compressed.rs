//! Compressed bodies in a case: shown as what they are when they are decompressed, because each library
//! compresses in its own way.

use std::io::Read as _;

use crate::support::Message;

/// The message with its body decompressed, behind the name of its coding.
pub(super) fn shown(message: &Message) -> Message {
    let mut message = message.clone();
    let codings = message.header("content-encoding").unwrap_or_default();
    for coding in codings.rsplit(',') {
        let coding = coding.trim();
        let Some(body) = decompressed(coding, &message.body) else { break };
        message.body = [format!("<{coding}>").as_bytes(), &body].concat();
    }
    message
}

/// None if the body is not compressed so.
fn decompressed(coding: &str, body: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    let read = match coding {
        "br" => brotli::Decompressor::new(body, 4096).read_to_end(&mut out),
        "gzip" => flate2::read::GzDecoder::new(body).read_to_end(&mut out),
        "zstd" => zstd::Decoder::new(body).ok()?.read_to_end(&mut out),
        _ => return None,
    };
    read.ok().filter(|_| !body.is_empty())?;
    Some(out)
}
