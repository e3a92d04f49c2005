//! What a matcher tree can look at.

use std::borrow::Cow;

use serde_json::Value;

use super::Undecided;
use crate::address::Address;
use crate::cel::Program;
use crate::format::Inputs;
use crate::format::heads::{query, query_param};
use crate::head_matcher::HeaderName;
use crate::http::{RequestHead, ResponseHead};
use crate::transport::tls::certificate::Certificate;
use crate::transport::tls::facts::TlsFacts;

/// What a tree looks at, as text.
#[derive(Clone, Debug)]
pub enum Input {
    /// A request header; the lines of a repeated one are joined with commas.
    RequestHeader(HeaderName),
    /// A header of the response; the lines of a repeated one are joined with commas.
    ResponseHeader(HeaderName),
    /// The status of the response.
    ResponseStatus,
    /// Its class: `2xx`.
    ResponseStatusClass,
    /// `true` if the proxy has made the response itself, otherwise `false`.
    IsLocalReply,
    /// The first query parameter with this name, decoded.
    QueryParameter(Box<[u8]>),
    /// The IP address that the connection is for.
    DestinationIp,
    /// Its port.
    DestinationPort,
    /// The IP address of the client.
    SourceIp,
    /// Its port.
    SourcePort,
    /// The IP address that the connection comes from, whatever a header announces.
    DirectSourceIp,
    /// `local` if the client is on this machine.
    SourceType,
    /// The server name that the client asks for.
    ServerName,
    /// `tls` or `raw_buffer`.
    TransportProtocol,
    /// The protocols that the client offers, each in single quotes, separated by commas.
    ApplicationProtocols,
    /// The URIs of the client's certificate, separated by commas.
    PeerUris,
    /// The DNS names of the client's certificate, separated by commas.
    PeerDnsNames,
    /// The subject of the client's certificate.
    PeerSubject,
    /// An object in the filter state.
    FilterState(Box<str>),
    /// The dynamic metadata at a path, if it is a text.
    Metadata {
        /// `filter`
        namespace: Box<str>,
        /// At least one key.
        path: Box<[Box<str>]>,
    },
}

/// A request or a connection, whose inputs a tree looks at. What it does not have is `None`.
pub trait Subject {
    /// The head of the request.
    fn request(&self) -> Option<&RequestHead> {
        None
    }

    /// The head of the response, once it has begun.
    fn response(&self) -> Option<&ResponseHead> {
        None
    }

    /// Whether the proxy has made the response itself.
    fn is_local_reply(&self) -> bool {
        false
    }

    /// The address that the connection is for.
    fn destination(&self) -> Option<Address> {
        None
    }

    /// The address of the client.
    fn source(&self) -> Option<Address> {
        None
    }

    /// The address that the connection comes from.
    fn direct_source(&self) -> Option<Address> {
        None
    }

    /// The server name that the client asks for.
    fn server_name(&self) -> Option<&str> {
        None
    }

    /// The transport protocol of the connection.
    fn transport_protocol(&self) -> Option<&str> {
        None
    }

    /// The application protocols that the client offers.
    fn application_protocols(&self) -> &[Vec<u8>] {
        &[]
    }

    /// What is known of the TLS of the connection.
    fn tls(&self) -> Option<&TlsFacts> {
        None
    }

    /// The text of an object in the filter state.
    fn filter_state(&self, _key: &str) -> Option<&str> {
        None
    }

    /// The dynamic metadata at a path of keys.
    fn metadata(&self, _namespace: &str, _path: &[Box<str>]) -> Option<Cow<'_, Value>> {
        None
    }

    /// Whether a CEL expression is true.
    fn holds(&self, _program: &Program) -> bool {
        false
    }
}

impl Input {
    /// The value for a subject; `None` if there is none.
    pub(super) fn value<'a>(
        &self,
        subject: &'a dyn Subject,
    ) -> Result<Option<Cow<'a, [u8]>>, Undecided> {
        let response = || subject.response().ok_or(Undecided);
        Ok(match self {
            Self::ResponseHeader(name) => name.joined_in(response()?).map(Cow::Owned),
            Self::ResponseStatus => Some(Cow::Owned(response()?.status.to_string().into_bytes())),
            Self::ResponseStatusClass => {
                Some(Cow::Owned(format!("{}xx", response()?.status / 100).into_bytes()))
            }
            Self::IsLocalReply => {
                response()?;
                Some(Cow::Borrowed(if subject.is_local_reply() { b"true" } else { b"false" }))
            }
            _ => self.value_before_response(subject),
        })
    }

    fn value_before_response<'a>(&self, subject: &'a dyn Subject) -> Option<Cow<'a, [u8]>> {
        match self {
            Self::ResponseHeader(_)
            | Self::ResponseStatus
            | Self::ResponseStatusClass
            | Self::IsLocalReply => None,
            Self::RequestHeader(name) => name.joined(subject.request()?),
            Self::QueryParameter(name) => {
                let value = query_param(query(subject.request()?)?, name)?;
                Some(percent_encoding::percent_decode(value).into())
            }
            Self::DestinationIp => ip(subject.destination()),
            Self::DestinationPort => port(subject.destination()),
            Self::SourceIp => ip(subject.source()),
            Self::SourcePort => port(subject.source()),
            Self::DirectSourceIp => ip(subject.direct_source()),
            Self::SourceType => {
                let is_local = subject.source()?.is_on_this_machine(subject.destination()?);
                is_local.then_some(Cow::Borrowed(b"local"))
            }
            Self::ServerName => text(subject.server_name()?),
            Self::TransportProtocol => text(subject.transport_protocol()?),
            Self::ApplicationProtocols => {
                let offered = subject.application_protocols();
                let quoted: Vec<Vec<u8>> =
                    offered.iter().map(|name| [b"'", &**name, b"'"].concat()).collect();
                (!quoted.is_empty()).then(|| Cow::Owned(quoted.join(&b',')))
            }
            Self::PeerUris => names(&peer(subject)?.details().uris),
            Self::PeerDnsNames => names(&peer(subject)?.details().dns_names),
            Self::PeerSubject => text(&peer(subject)?.details().subject),
            Self::FilterState(key) => text(subject.filter_state(key)?),
            Self::Metadata { namespace, path } => match subject.metadata(namespace, path)? {
                Cow::Borrowed(value) => text(value.as_str()?),
                Cow::Owned(value) => Some(Cow::Owned(value.as_str()?.as_bytes().to_vec())),
            },
        }
    }
}

fn text(text: &str) -> Option<Cow<'_, [u8]>> {
    (!text.is_empty()).then_some(Cow::Borrowed(text.as_bytes()))
}

fn names(names: &[String]) -> Option<Cow<'static, [u8]>> {
    (!names.is_empty()).then(|| Cow::Owned(names.join(",").into_bytes()))
}

fn ip<'a>(address: Option<Address>) -> Option<Cow<'a, [u8]>> {
    Some(Cow::Owned(address?.ip()?.to_string().into_bytes()))
}

fn port<'a>(address: Option<Address>) -> Option<Cow<'a, [u8]>> {
    Some(Cow::Owned(address?.port()?.to_string().into_bytes()))
}

fn peer(subject: &dyn Subject) -> Option<&Certificate> {
    subject.tls()?.peer_certificate()
}

/// The head of a request, before anything else is known of it.
impl Subject for RequestHead {
    fn request(&self) -> Option<&RequestHead> {
        Some(self)
    }
}

/// A request, with everything that is known of it.
impl Subject for Inputs<'_> {
    fn request(&self) -> Option<&RequestHead> {
        self.request
    }

    fn response(&self) -> Option<&ResponseHead> {
        self.response
    }

    fn is_local_reply(&self) -> bool {
        self.stream.response_code_details().is_some_and(|details| details != "via_upstream")
    }

    fn destination(&self) -> Option<Address> {
        self.stream.downstream_local_address()
    }

    fn source(&self) -> Option<Address> {
        self.stream.downstream_remote_address()
    }

    fn direct_source(&self) -> Option<Address> {
        self.stream.downstream_direct_remote_address()
    }

    fn server_name(&self) -> Option<&str> {
        self.stream.requested_server_name()
    }

    fn tls(&self) -> Option<&TlsFacts> {
        self.stream.downstream_tls()
    }

    fn filter_state(&self, key: &str) -> Option<&str> {
        self.stream.filter_state(key)
    }

    fn metadata(&self, namespace: &str, path: &[Box<str>]) -> Option<Cow<'_, Value>> {
        self.stream.dynamic_metadata()?.find(namespace, path).map(Cow::Borrowed)
    }

    fn holds(&self, program: &Program) -> bool {
        program.holds(self)
    }
}
