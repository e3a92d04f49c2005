//! The fields of a response: which upstream fields are removed, and which ones the proxy adds.
//!
//! The order is Envoy's: [`from_origin`], then the headers that the route adds, then
//! [`remove_hop_by_hop`], [`finish`] and the framing ([`crate::http1::framing::announce_response`]). A
//! local reply starts with the headers that the route adds.

use crate::http::{
    FieldName, HOP_BY_HOP_OF_RESPONSES, HOP_BY_HOP_OF_UPGRADED, JOINED_IN_RESPONSES, Line,
    ResponseHead, members,
};
use crate::shard::clock::DateLine;

/// The rules of a connection manager for its responses.
#[derive(Clone, Debug)]
pub struct ResponseRules {
    /// How `server` is set.
    pub server: ServerHeader,
    /// The `server` header that names this server.
    pub server_name: Line,
    /// The value added to `via`; empty for none.
    pub via: Vec<u8>,
    /// Whether every response has the request's id.
    pub always_set_request_id: bool,
    /// Whether a response without `date` gets one.
    pub adds_date: bool,
}

impl ResponseRules {
    /// Those that add nothing.
    #[must_use]
    pub fn unchanged() -> Self {
        Self { server: ServerHeader::PassThrough, adds_date: false, ..Self::default() }
    }
}

impl Default for ResponseRules {
    fn default() -> Self {
        Self {
            server: ServerHeader::Overwrite,
            server_name: Line::new(FieldName::Server, b"envoy"),
            via: Vec::new(),
            always_set_request_id: false,
            adds_date: true,
        }
    }
}

/// `server_header_transformation`.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum ServerHeader {
    /// Names this server, replacing the upstream value.
    #[default]
    Overwrite,
    /// Names this server if there is no upstream value.
    AppendIfAbsent,
    /// Keeps the upstream value.
    PassThrough,
}

/// The parts of the common headers that differ per response.
#[derive(Clone, Copy, Debug)]
pub struct Finish<'a> {
    /// The current `date` header.
    pub date: DateLine,
    /// The id of the request, if the response carries it.
    pub request_id: Option<&'a [u8]>,
}

/// Removes the fields that the upstream's `Connection` nominates, and sets the service time
/// (`None`: no header). Evaluate [`ResponseHead::keep_alive`] and the framing before.
///
/// RFC 9110 §7.6.1 requires that nominated fields are removed; Envoy keeps them.
pub fn from_origin(head: &mut ResponseHead, service_time_ms: Option<u64>) {
    remove_nominated(head);
    head.fields.merge_set(JOINED_IN_RESPONSES);
    head.fields.remove(FieldName::KeepAlive);
    if let Some(ms) = service_time_ms {
        let mut digits = itoa::Buffer::new();
        let text = digits.format(ms).as_bytes();
        head.fields.set(FieldName::XEnvoyUpstreamServiceTime, text);
    }
}

/// Removes hop-by-hop fields, whether they are from upstream or from a route, which cannot know
/// what happens to the connection.
///
/// As in Envoy, a client that asked for an upgrade gets the `upgrade` of the response, also in a
/// 426.
pub fn remove_hop_by_hop(head: &mut ResponseHead, upgrade: bool) {
    let leave = upgrade && head.upgrade().is_some();
    head.fields.remove_set(if leave { HOP_BY_HOP_OF_UPGRADED } else { HOP_BY_HOP_OF_RESPONSES });
}

/// Adds the headers of every response to a client.
#[inline]
pub fn finish(head: &mut ResponseHead, rules: &ResponseRules, finish: &Finish<'_>) {
    let fields = &mut head.fields;
    if rules.adds_date && !fields.has(FieldName::Date) {
        fields.append_line(&finish.date);
    }
    let overwrite = match rules.server {
        ServerHeader::Overwrite => true,
        ServerHeader::AppendIfAbsent => !fields.has(FieldName::Server),
        ServerHeader::PassThrough => false,
    };
    if overwrite {
        fields.set_line(&rules.server_name);
    }
    if let Some(id) = finish.request_id {
        fields.set(FieldName::XRequestId, id);
    }
    if !rules.via.is_empty() {
        fields.join(FieldName::Via, b", ", &rules.via);
    }
}

fn remove_nominated(head: &mut ResponseHead) {
    if !head.fields.has(FieldName::Connection) {
        return;
    }
    let nominated: Vec<Vec<u8>> = members(&head.fields, FieldName::Connection)
        .filter(|name| !OPTIONS.iter().any(|option| name.eq_ignore_ascii_case(option)))
        .map(<[u8]>::to_ascii_lowercase)
        .collect();
    for name in nominated {
        head.fields.remove_other(&name);
    }
}

/// Members of `Connection` that are options of the connection, and fields that cannot be nominated
/// because they frame the message.
const OPTIONS: [&[u8]; 6] =
    [b"close", b"keep-alive", b"upgrade", b"connection", b"content-length", b"transfer-encoding"];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::{HeadLimits, Method, Version};
    use crate::http1::{encode, framing};
    use crate::shard::clock::date_line;

    const TE: &str = "Transfer-Encoding: chunked\r\n";

    #[test]
    fn the_server_is_replaced_in_place_and_the_rest_appended() {
        let rules = ResponseRules::default();
        assert_eq!(
            sent(&rules, "Server: x\r\nDate: d\r\nContent-Length: 0\r\n"),
            ["server: envoy", "date: d", "content-length: 0", "x-envoy-upstream-service-time: 7"]
        );
        assert_eq!(
            sent(&rules, "Content-Length: 0\r\n"),
            ["content-length: 0", "x-envoy-upstream-service-time: 7", DATE_LINE, "server: envoy"]
        );
        assert_eq!(
            sent(&rules, "Server: x\r\nServer: y\r\nA: b\r\n")[..2],
            ["server: envoy", "a: b"]
        );
    }

    #[test]
    fn the_server_header_follows_its_transformation() {
        let rules = |server| ResponseRules { server, ..ResponseRules::default() };
        let (named, anonymous) = ("Server: x\r\nContent-Length: 0\r\n", "Content-Length: 0\r\n");
        for (server, of_named, of_anonymous) in [
            (ServerHeader::Overwrite, Some("server: envoy"), Some("server: envoy")),
            (ServerHeader::AppendIfAbsent, Some("server: x"), Some("server: envoy")),
            (ServerHeader::PassThrough, Some("server: x"), None),
        ] {
            let line = |origin: &str| {
                sent(&rules(server), origin).into_iter().find(|line| line.starts_with("server"))
            };
            assert_eq!(line(named).as_deref(), of_named, "{server:?}");
            assert_eq!(line(anonymous).as_deref(), of_anonymous, "{server:?}");
        }
    }

    #[test]
    fn id_and_via_come_in_envoys_order() {
        let rules = ResponseRules {
            via: b"v".to_vec(),
            always_set_request_id: true,
            ..ResponseRules::default()
        };
        let mut head = parsed("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
        let now = Finish { date: date_line(DATE), request_id: Some(b"id") };
        finish(&mut head, &rules, &now);
        assert_eq!(
            lines(&head),
            ["content-length: 0", DATE_LINE, "server: envoy", "x-request-id: id", "via: v",]
        );
    }

    #[test]
    fn hop_by_hop_fields_are_removed() {
        let origin = "Connection: close, X-S\r\nX-S: 1\r\nKeep-Alive: 5\r\nProxy-Connection: a\r\n\
            Upgrade: h2c\r\nTrailer: a\r\nContent-Length: 0\r\n";
        assert_eq!(
            sent(&ResponseRules::default(), origin)[..2],
            ["trailer: a", "content-length: 0"]
        );
        let mut switch = parsed(
            "HTTP/1.1 101 X\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nKeep-Alive: 5\r\n\r\n",
        );
        from_origin(&mut switch, None);
        remove_hop_by_hop(&mut switch, true);
        assert_eq!(lines(&switch), ["connection: Upgrade", "upgrade: websocket"]);
    }

    /// Method, client version, upstream status and fields; the framing field that Envoy sent.
    #[test]
    fn the_framing_is_what_the_client_understands() {
        use {Method::Get, Method::Head, Version::Http10, Version::Http11};
        for (method, client, status, origin, wanted) in [
            (Get, Http11, 200, TE, Some("transfer-encoding: chunked")),
            (Get, Http11, 200, "", Some("transfer-encoding: chunked")),
            (Get, Http11, 200, "Content-Length: 002\r\n", Some("content-length: 2")),
            (Head, Http11, 200, TE, Some("transfer-encoding: chunked")),
            (Head, Http11, 200, "", Some("transfer-encoding: chunked")),
            (Head, Http11, 200, "Content-Length: 2\r\n", Some("content-length: 2")),
            (Get, Http11, 204, "Content-Length: 0\r\n", None),
            (Get, Http11, 304, "Content-Length: 5\r\n", Some("content-length: 5")),
            (Get, Http11, 304, TE, None),
            (Get, Http11, 304, "", None),
            (Get, Http10, 200, TE, None),
            (Get, Http10, 200, "Content-Length: 2\r\n", Some("content-length: 2")),
        ] {
            let mut head = parsed(&format!("HTTP/1.1 {status} X\r\n{origin}\r\n"));
            let length = framing::response(method, &head).expect("framed");
            from_origin(&mut head, None);
            remove_hop_by_hop(&mut head, false);
            framing::announce_response(method, client, &mut head, length);
            let what = format!("{method:?} {client:?} {status} {origin}");
            assert_eq!(lines(&head).first().map(String::as_str), wanted, "{what}");
            assert!(lines(&head).len() <= 1, "{what}");
        }
    }

    const DATE: [u8; 29] = *b"Sun, 06 Nov 1994 08:49:37 GMT";
    const DATE_LINE: &str = "date: Sun, 06 Nov 1994 08:49:37 GMT";

    fn parsed(text: &str) -> ResponseHead {
        let mut head = ResponseHead::default();
        head.received().extend_from_slice(text.as_bytes());
        head.parse(&HeadLimits::default()).expect("valid").expect("complete");
        head
    }

    fn sent(rules: &ResponseRules, origin: &str) -> Vec<String> {
        let mut head = parsed(&format!("HTTP/1.1 200 OK\r\n{origin}\r\n"));
        from_origin(&mut head, Some(7));
        remove_hop_by_hop(&mut head, false);
        let now = Finish { date: date_line(DATE), request_id: None };
        finish(&mut head, rules, &now);
        lines(&head)
    }

    fn lines(head: &ResponseHead) -> Vec<String> {
        let mut out = Vec::new();
        encode::response(head, &mut out);
        let text = String::from_utf8(out).expect("text");
        text.trim_end().split("\r\n").skip(1).map(str::to_owned).collect()
    }
}
