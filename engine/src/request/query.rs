//! The query of a request, parsed.

use std::collections::BTreeMap;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode, percent_encode};

use crate::http::RequestHead;

/// By the decoded name: name and value as they are written.
pub(super) type Parameters = BTreeMap<Vec<u8>, Vec<(Vec<u8>, Vec<u8>)>>;

/// The decoded value of the first parameter of this name.
pub(super) fn parameter(request: &RequestHead, name: &[u8]) -> Option<Vec<u8>> {
    let mut parts = parts(query_of(request)?);
    let (_, value) = parts.find(|(key, _)| percent_decode(key).eq(name.iter().copied()))?;
    Some(percent_decode(value).collect())
}

/// Removes all parameters of this name.
pub(super) fn remove_parameter(request: &mut RequestHead, name: &[u8]) {
    let Some(query) = query_of(request) else { return };
    let mut parameters = parse(query);
    parameters.remove(name);
    let mut target = request.path().to_vec();
    write(&parameters, &mut target);
    request.set_target(&target);
}

/// The query with its question mark; may be empty.
pub(super) fn query_of(request: &RequestHead) -> Option<&[u8]> {
    request.path_and_query()?.get(request.path().len()..)
}

/// Parses a query, with its question mark or without.
pub(super) fn parse(query: &[u8]) -> Parameters {
    let mut parameters = Parameters::new();
    for (key, value) in parts(query) {
        let written = (key.to_vec(), value.to_vec());
        parameters.entry(percent_decode(key).collect()).or_default().push(written);
    }
    parameters
}

/// Names and values as they are written.
fn parts(query: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    let query = query.strip_prefix(b"?").unwrap_or(query);
    query.split(|byte| *byte == b'&').filter(|part| !part.is_empty()).map(|part| {
        let mut halves = part.splitn(2, |byte| *byte == b'=');
        (halves.next().unwrap_or_default(), halves.next().unwrap_or_default())
    })
}

/// Writes a query with its question mark; nothing if there are no parameters. Envoy writes what it has
/// decoded, which changes what the query says.
pub(super) fn write(parameters: &Parameters, out: &mut Vec<u8>) {
    let mut separator = b'?';
    for (key, value) in parameters.values().flatten() {
        out.push(std::mem::replace(&mut separator, b'&'));
        out.extend_from_slice(key);
        out.push(b'=');
        out.extend_from_slice(value);
    }
}

/// RFC 3986 §2.3: what need not be encoded.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// A name or a value as it is written.
pub(super) fn escaped(text: &[u8]) -> Vec<u8> {
    percent_encode(text, ENCODED).collect::<String>().into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::route::tests::request;

    #[test]
    fn a_parameter_is_found_by_its_decoded_name() {
        let head = request("/?b=2&%61=x%20y&a=z&flag", &[]);
        let find = |name: &[u8]| parameter(&head, name);
        assert_eq!(find(b"a").as_deref(), Some(&b"x y"[..]));
        assert_eq!(find(b"flag").as_deref(), Some(&b""[..]));
        assert_eq!(find(b"c"), None);
    }

    #[test]
    fn a_parameter_can_be_removed() {
        let mut head = request("/path?b=2&%61=x%20y&c=1&a=z", &[]);
        remove_parameter(&mut head, b"a");
        assert_eq!(head.target(), b"/path?b=2&c=1");
        remove_parameter(&mut head, b"b");
        remove_parameter(&mut head, b"c");
        assert_eq!(head.target(), b"/path");
    }
}
