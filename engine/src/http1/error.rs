//! Protocol errors, and Envoy's reply to each.

use crate::http::{Misdeed, Reject};

/// A protocol error in a message. For a request it determines the reply; in a response every one is
/// an upstream protocol error (502).
///
/// After any of them, nothing that follows on the connection may be read as another message.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq, thiserror::Error)]
pub enum Error {
    /// The method is not a token, or it is unknown and custom methods are not allowed.
    #[error("invalid method")]
    Method,
    /// The request target has none of the four forms, or a byte that is not allowed in a URI.
    #[error("invalid request target")]
    Target,
    /// The authority of the request target is invalid.
    #[error("invalid authority in the request target")]
    Url,
    /// The scheme of the request target is neither http nor https.
    #[error("unknown scheme of the request target")]
    Scheme,
    /// The version is not `HTTP/` digit `.` digit; in a response, not HTTP/1.0 or HTTP/1.1.
    #[error("invalid version")]
    Version,
    /// A version other than 1.1 (and 1.0 where that is accepted).
    #[error("unsupported version")]
    VersionUnsupported,
    /// The status is not three digits, or below 100, or there is a control character in the reason.
    #[error("invalid status line")]
    StatusLine,
    /// A line that ends in neither CRLF nor LF.
    #[error("invalid line end")]
    LineEnd,
    /// A field line does not begin with a token and a colon; white space before it, a fold included.
    #[error("invalid field name")]
    FieldName,
    /// A control character in a field value, a bare CR included.
    #[error("invalid field value")]
    FieldValue,
    /// The head is longer than its limit.
    #[error("head too large")]
    HeadTooLarge,
    /// The head has more fields than its limit.
    #[error("too many fields")]
    TooManyFields,
    /// `Host` is empty, repeated or malformed.
    #[error("invalid authority")]
    Authority,
    /// `Connection` nominates a field that must not be removed, or too many fields.
    #[error("invalid nomination in Connection")]
    Connection,
    /// `Content-Length` is not one unsigned decimal number.
    #[error("invalid content-length")]
    ContentLength,
    /// Both `Content-Length` and `Transfer-Encoding`.
    #[error("both content-length and transfer-encoding")]
    ContentLengthAndTransferEncoding,
    /// `Transfer-Encoding` is not a list of codings, or `chunked` is repeated or not the last one.
    #[error("invalid transfer-encoding")]
    TransferEncoding,
    /// A transfer coding other than `chunked`.
    #[error("unsupported transfer-encoding")]
    TransferEncodingUnsupported,
    /// A body is announced where the method or the status does not allow one.
    #[error("body where none is allowed")]
    BodyNotAllowed,
    /// A chunk size that is not hexadecimal digits, or does not fit 64 bits.
    #[error("invalid chunk size")]
    ChunkSize,
    /// A chunk extension that is malformed or too long.
    #[error("invalid chunk extension")]
    ChunkExtension,
    /// The data of a chunk does not end where its size said, or a line does not end in CRLF.
    #[error("invalid end of chunk")]
    ChunkEnd,
    /// A malformed trailer field, or one that would change framing or routing.
    #[error("invalid trailer")]
    Trailer,
    /// A trailer's name has an underscore, and underscores are rejected.
    #[error("underscore in a trailer's name")]
    Underscore,
    /// The trailers are longer than their limit.
    #[error("trailers too large")]
    TrailersTooLarge,
}

impl Error {
    /// The status of the reply to the request.
    pub const fn status(self) -> u16 {
        match self {
            Self::VersionUnsupported => 426,
            Self::HeadTooLarge | Self::TooManyFields | Self::TrailersTooLarge => 431,
            Self::TransferEncodingUnsupported => 501,
            _ => 400,
        }
    }

    /// The body of the reply: Envoy sends the reason phrase as text.
    pub const fn body(self) -> &'static str {
        super::encode::reason(self.status())
    }

    /// Envoy's `response_code_details` of the reply.
    pub const fn details(self) -> &'static str {
        match self {
            Self::VersionUnsupported => "low_version",
            Self::HeadTooLarge => "http1.headers_too_large",
            Self::TooManyFields => "http1.too_many_headers",
            Self::TrailersTooLarge => "http1.headers_too_large",
            Self::FieldValue => "http1.invalid_characters",
            Self::Url => "http1.invalid_url",
            Self::Scheme => "http1.invalid_scheme",
            Self::Authority => "http.invalid_authority",
            Self::Connection => "http1.connection_header_rejected",
            Self::ContentLengthAndTransferEncoding => {
                "http1.content_length_and_chunked_not_allowed"
            }
            Self::TransferEncodingUnsupported => "http1.invalid_transfer_encoding",
            Self::Underscore => "http1.unexpected_underscore",
            Self::BodyNotAllowed => "http1.body_disallowed",
            _ => "http1.codec_error",
        }
    }
}

impl From<Error> for Reject {
    fn from(error: Error) -> Self {
        let misdeed = match error {
            Error::Underscore => Misdeed::Underscore,
            _ => Misdeed::Malformed,
        };
        Self { status: error.status(), body: error.body(), details: error.details(), misdeed }
    }
}
