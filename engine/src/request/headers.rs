//! The fields of a response: what of the origin's is not passed on, and what the proxy adds.
//!
//! In Envoy's order: [`from_origin`], then what the route adds, then [`finish`], then the framing
//! ([`crate::http1::framing::announce_response`]). A local reply starts at [`finish`].

use crate::http1::{FieldName, FieldSet, ResponseHead, members};

/// The rules of a connection manager for its responses.
#[derive(Clone, Debug)]
pub struct ResponseRules {
    /// What `server` becomes.
    pub server: ServerHeader,
    /// The name of this server.
    pub server_name: Vec<u8>,
    /// The value added to `via`; empty for none.
    pub via: Vec<u8>,
    /// Whether every response has the request's id.
    pub always_set_request_id: bool,
}

impl Default for ResponseRules {
    fn default() -> Self {
        Self {
            server: ServerHeader::Overwrite,
            server_name: b"envoy".to_vec(),
            via: Vec::new(),
            always_set_request_id: false,
        }
    }
}

/// `server_header_transformation`.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum ServerHeader {
    /// It names this server, in place of the origin's.
    #[default]
    Overwrite,
    /// It names this server where the origin names none.
    AppendIfAbsent,
    /// It is the origin's.
    PassThrough,
}

/// What `connection` says to the client.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum ConnectionHeader {
    /// Nothing: the default of the version holds.
    #[default]
    Absent,
    /// The connection ends with this response.
    Close,
    /// An HTTP/1.0 client may send another request.
    KeepAlive,
}

/// What the response of the moment adds.
#[derive(Clone, Copy, Debug)]
pub struct Finish<'a> {
    /// Now, as IMF-fixdate.
    pub date: &'a [u8],
    /// The id of the request, to be sent if the rules say so.
    pub request_id: Option<&'a [u8]>,
    /// What `connection` says.
    pub connection: ConnectionHeader,
}

/// Removes what was for this hop only, and notes how long the origin took (`None`: not to be
/// told). Ask [`ResponseHead::keep_alive`] and the framing before.
///
/// A field that the origin's `Connection` nominates is removed, as RFC 9110 §7.6.1 says; Envoy
/// leaves it.
pub fn from_origin(head: &mut ResponseHead, service_time_ms: Option<u64>) {
    remove_nominated(head);
    head.fields.remove_set(if head.status == 101 { HOP_BY_HOP_BUT_UPGRADE } else { HOP_BY_HOP });
    if let Some(ms) = service_time_ms {
        let mut digits = itoa::Buffer::new();
        let text = digits.format(ms).as_bytes();
        head.fields.set(FieldName::XEnvoyUpstreamServiceTime, text);
    }
}

/// Adds what every response to a client has.
pub fn finish(head: &mut ResponseHead, rules: &ResponseRules, finish: &Finish<'_>) {
    let fields = &mut head.fields;
    if !fields.has(FieldName::Date) {
        fields.append(FieldName::Date, finish.date);
    }
    let overwrite = match rules.server {
        ServerHeader::Overwrite => true,
        ServerHeader::AppendIfAbsent => !fields.has(FieldName::Server),
        ServerHeader::PassThrough => false,
    };
    if overwrite {
        fields.set(FieldName::Server, &rules.server_name);
    }
    if rules.always_set_request_id
        && let Some(id) = finish.request_id
    {
        fields.set(FieldName::XRequestId, id);
    }
    if !rules.via.is_empty() {
        fields.join(FieldName::Via, b", ", &rules.via);
    }
    match finish.connection {
        ConnectionHeader::Absent => {}
        ConnectionHeader::Close => fields.set(FieldName::Connection, b"close"),
        ConnectionHeader::KeepAlive => fields.set(FieldName::Connection, b"keep-alive"),
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

/// Members of `Connection` that say something of the connection, and fields that an origin cannot
/// take back because they frame the message.
const OPTIONS: [&[u8]; 6] =
    [b"close", b"keep-alive", b"upgrade", b"connection", b"content-length", b"transfer-encoding"];

const HOP_BY_HOP_BUT_UPGRADE: FieldSet =
    FieldSet::of(&[FieldName::TransferEncoding, FieldName::KeepAlive, FieldName::ProxyConnection]);

const HOP_BY_HOP: FieldSet =
    HOP_BY_HOP_BUT_UPGRADE.with(&[FieldName::Connection, FieldName::Upgrade]);
