//! Reads a `google.protobuf.Value` from its encoding.
//!
//! Pure; only as deep as protobuf itself allows.

use serde_json::{Map, Number, Value};

/// The value, if the bytes are the encoding of one.
pub(super) fn value(bytes: &[u8]) -> Option<Value> {
    value_at(bytes, DEPTH_MAX)
}

/// As in protobuf's own parser.
const DEPTH_MAX: usize = 100;

fn value_at(bytes: &[u8], depth: usize) -> Option<Value> {
    let depth = depth.checked_sub(1)?;
    let mut value = None;
    for_each(bytes, |number, content| {
        // Of several, the last one counts, and unknown fields are skipped.
        value = Some(match (number, content) {
            (1, Content::Varint(_)) => Value::Null,
            (2, Content::Fixed64(bits)) => Value::Number(Number::from_f64(f64::from_bits(bits))?),
            (3, Content::Bytes(text)) => std::str::from_utf8(text).ok()?.into(),
            (4, Content::Varint(number)) => Value::Bool(number != 0),
            (5, Content::Bytes(fields)) => Value::Object(object(fields, depth)?),
            (6, Content::Bytes(items)) => Value::Array(list(items, depth)?),
            _ => return Some(()),
        });
        Some(())
    })?;
    value
}

/// A `Struct`.
fn object(bytes: &[u8], depth: usize) -> Option<Map<String, Value>> {
    let depth = depth.checked_sub(1)?;
    let mut fields = Map::new();
    for_each(bytes, |number, content| {
        let (1, Content::Bytes(entry)) = (number, content) else { return Some(()) };
        let (mut key, mut of_key) = (String::new(), Value::Null);
        for_each(entry, |number, content| {
            match (number, content) {
                (1, Content::Bytes(text)) => key = std::str::from_utf8(text).ok()?.to_owned(),
                (2, Content::Bytes(encoded)) => of_key = value_at(encoded, depth)?,
                _ => {}
            }
            Some(())
        })?;
        fields.insert(key, of_key);
        Some(())
    })?;
    Some(fields)
}

/// A `ListValue`.
fn list(bytes: &[u8], depth: usize) -> Option<Vec<Value>> {
    let mut items = Vec::new();
    for_each(bytes, |number, content| {
        if let (1, Content::Bytes(encoded)) = (number, content) {
            items.push(value_at(encoded, depth)?);
        }
        Some(())
    })?;
    Some(items)
}

/// The content of a field.
enum Content<'a> {
    Varint(u64),
    Fixed64(u64),
    Bytes(&'a [u8]),
    Fixed32,
}

/// Calls `each` with the number and the content of every field.
fn for_each<'a>(
    mut bytes: &'a [u8],
    mut each: impl FnMut(u64, Content<'a>) -> Option<()>,
) -> Option<()> {
    while !bytes.is_empty() {
        let tag = varint(&mut bytes)?;
        let content = match tag & 7 {
            0 => Content::Varint(varint(&mut bytes)?),
            1 => Content::Fixed64(u64::from_le_bytes(*bytes.split_off(..8)?.first_chunk()?)),
            2 => {
                let length = usize::try_from(varint(&mut bytes)?).ok()?;
                Content::Bytes(bytes.split_off(..length)?)
            }
            5 => bytes.split_off(..4).map(|_| Content::Fixed32)?,
            _ => return None,
        };
        each(tag >> 3, content)?;
    }
    Some(())
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let byte = *bytes.split_off_first()?;
        number |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_kind_of_value_is_read() {
        for (bytes, expected) in [
            (&b"\x08\x00"[..], json!(null)),
            (b"\x11\x00\x00\x00\x00\x00\x00\xf8\x3f", json!(1.5)),
            (b"\x1a\x02ab", json!("ab")),
            (b"\x20\x01", json!(true)),
            (b"\x2a\x09\x0a\x07\x0a\x01k\x12\x02\x20\x00", json!({ "k": false })),
            (b"\x32\x08\x0a\x02\x20\x01\x0a\x02\x08\x00", json!([true, null])),
            // An unknown field, then two values.
            (b"\x3d\x01\x02\x03\x04\x20\x01\x1a\x01z", json!("z")),
        ] {
            assert_eq!(value(bytes), Some(expected), "{bytes:x?}");
        }
    }

    #[test]
    fn anything_else_is_no_value() {
        let nan = [b"\x11".as_slice(), &f64::NAN.to_le_bytes()].concat();
        let deep = (0..200).fold(b"\x20\x01".to_vec(), |inner, _| {
            let list = [b"\x0a".as_slice(), &length(&inner), &inner].concat();
            [b"\x32".as_slice(), &length(&list), &list].concat()
        });
        for bytes in [&b""[..], b"true", b"\x1a\x05ab", b"\x11\x00", b"\x1a\x01\xff", &nan, &deep] {
            assert_eq!(value(bytes), None, "{bytes:x?}");
        }
    }

    fn length(bytes: &[u8]) -> Vec<u8> {
        let mut number = bytes.len();
        let mut out = Vec::new();
        while number >= 0x80 {
            out.push(u8::try_from(number & 0x7f).unwrap() | 0x80);
            number >>= 7;
        }
        out.push(u8::try_from(number).unwrap());
        out
    }
}
