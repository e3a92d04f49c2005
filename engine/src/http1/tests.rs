//! Tests with whole messages.

use proptest::prelude::*;

use super::*;
use crate::http::*;

fn parsed(text: &str) -> (RequestHead, usize) {
    let mut head = RequestHead::default();
    head.received().extend_from_slice(text.as_bytes());
    let used = head.parse(&HeadLimits::default()).expect("valid").expect("complete");
    (head, used)
}

#[test]
fn a_plain_get_is_read_and_written_again() {
    let (head, used) = parsed("GET /a?b=1 HTTP/1.1\r\nUser-Agent: curl\r\nHost: x:80\r\n\r\nrest");
    assert_eq!(used, 53);
    assert_eq!((head.method, head.version), (Method::Get, Version::Http11));
    assert_eq!((head.target(), head.path()), (&b"/a?b=1"[..], &b"/a"[..]));
    assert_eq!(framing::request(&head), Ok(BodyLength::None));
    let mut out = Vec::new();
    encode::request(&head, &mut out);
    let text = "GET /a?b=1 HTTP/1.1\r\nhost: x:80\r\nuser-agent: curl\r\n\r\n";
    assert_eq!(String::from_utf8_lossy(&out), text);
}

#[test]
fn a_response_is_read_and_written_again() {
    let mut head = ResponseHead::default();
    head.received()
        .extend_from_slice(b"HTTP/1.1 200 Fine\r\nServer: x\r\nContent-Length: 3\r\n\r\nabc");
    assert_eq!(head.parse(&HeadLimits::default()), Ok(Some(51)));
    assert_eq!(framing::response(Method::Get, &head), Ok(BodyLength::Length(3)));
    head.fields.set(FieldName::Server, b"envoy");
    let mut out = Vec::new();
    encode::response(&head, &mut out);
    let text = "HTTP/1.1 200 OK\r\nserver: envoy\r\ncontent-length: 3\r\n\r\n";
    assert_eq!(String::from_utf8_lossy(&out), text);
}

#[test]
fn what_looks_like_fields_in_a_body_is_not_changed() {
    // A bare LF also ends the head.
    let head = "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 18\r\n\n";
    let (mut head, used) = parsed(&[head, "X-BODY\r\nX-B: A\r\n\r\n"].concat());
    let mut rest = Vec::new();
    head.split_off(used, &mut rest);
    assert_eq!(String::from_utf8_lossy(&rest), "X-BODY\r\nX-B: A\r\n\r\n");
}

#[test]
fn what_looks_like_a_name_in_a_folded_line_is_not_changed() {
    let mut head = ResponseHead::default();
    head.received().extend_from_slice(b"HTTP/1.1 200 OK\r\nA: b\r\n X-C: D\r\n\r\n");
    assert_eq!(head.parse(&HeadLimits::default()), Ok(Some(head.received().len())));
    assert_eq!(head.fields.find(b"a"), Some(&b"b X-C: D"[..]));
}

/// An edit of the fields of a head.
#[derive(Clone, Debug)]
enum Edit {
    Append(&'static str, String),
    Set(&'static str, String),
    Join(FieldName, String),
    Remove(&'static str),
    Merge(FieldName),
}

fn edits() -> impl Strategy<Value = Edit> {
    let name = || prop::sample::select(vec!["server", "via", "x-a", "x-long-unknown-name"]);
    let known = || prop::sample::select(vec![FieldName::Server, FieldName::Via]);
    let value = || "[a-c]{1,3}";
    prop_oneof![
        (name(), value()).prop_map(|(name, value)| Edit::Append(name, value)),
        (name(), value()).prop_map(|(name, value)| Edit::Set(name, value)),
        (known(), value()).prop_map(|(id, value)| Edit::Join(id, value)),
        name().prop_map(Edit::Remove),
        known().prop_map(Edit::Merge),
    ]
}

type Lines = Vec<(String, String)>;

fn edit(fields: &mut Fields, lines: &mut Lines, edit: Edit) {
    let values = |lines: &Lines, name: &str| -> Vec<String> {
        lines.iter().filter(|line| line.0 == name).map(|line| line.1.clone()).collect()
    };
    let set = |lines: &mut Lines, name: &str, value: String| {
        let first = lines.iter().position(|line| line.0 == name);
        let first = first.unwrap_or_else(|| {
            lines.push((name.to_owned(), String::new()));
            lines.len() - 1
        });
        lines[first].1 = value;
        let mut at = 0..;
        lines.retain(|line| at.next() <= Some(first) || line.0 != name);
    };
    match edit {
        Edit::Append(name, value) => {
            fields.append_other(name.as_bytes(), value.as_bytes());
            lines.push((name.to_owned(), value));
        }
        Edit::Set(name, value) => {
            fields.set_other(name.as_bytes(), value.as_bytes());
            set(lines, name, value);
        }
        Edit::Join(id, value) => {
            fields.join(id, b", ", value.as_bytes());
            let mut all = values(lines, id.as_str());
            all.push(value);
            set(lines, id.as_str(), all.join(", "));
        }
        Edit::Remove(name) => {
            fields.remove_other(name.as_bytes());
            lines.retain(|line| line.0 != name);
        }
        Edit::Merge(id) => {
            fields.merge_set(FieldSet::of(&[id]));
            let all = values(lines, id.as_str());
            if all.len() > 1 {
                set(lines, id.as_str(), all.join(","));
            }
        }
    }
}

proptest! {
    /// Whether a field is stored as a line or in parts.
    #[test]
    fn a_head_is_sent_as_it_was_edited(
        received in prop::collection::vec(
            (
                prop::sample::select(vec!["Server", "via", "X-A", "x-b"]),
                prop::sample::select(vec![":", ": ", ":  ", ":\t"]),
                "[a-c]{1,3}",
                prop::sample::select(vec!["\r\n", "\n", " \r\n"]),
            ),
            0..6,
        ),
        edited in prop::collection::vec(edits(), 0..8),
    ) {
        let mut head = ResponseHead::default();
        head.received().extend_from_slice(b"HTTP/1.1 200 OK\r\n");
        let mut lines = Lines::new();
        for (name, colon, value, end) in received {
            head.received().extend_from_slice([name, colon, &value, end].concat().as_bytes());
            lines.push((name.to_ascii_lowercase(), value));
        }
        head.received().extend_from_slice(b"\r\n");
        prop_assert_eq!(head.parse(&HeadLimits::default()), Ok(Some(head.received().len())));
        for one in edited {
            edit(&mut head.fields, &mut lines, one);
        }
        let mut sent = Vec::new();
        encode::response(&head, &mut sent);
        let lines = lines.into_iter().map(|(name, value)| format!("{name}: {value}\r\n"));
        let wanted = format!("HTTP/1.1 200 OK\r\n{}\r\n", lines.collect::<String>());
        prop_assert_eq!(String::from_utf8_lossy(&sent), wanted);
    }
}
