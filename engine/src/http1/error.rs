//! What a peer did wrong, and what Envoy answers to it.

/// A misdeed in a message. For a request it says what to reply; in the answer of an origin every
/// one of them is a protocol error (502).
///
/// Whatever the misdeed, nothing that follows on the connection may be read as a next message.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq, thiserror::Error)]
pub enum Error {
    /// The method is no token, or one that is not known and custom methods are not allowed.
    #[error("invalid method")]
    Method,
    /// The request target is in none of the four forms, or has a byte that no URI has.
    #[error("invalid request target")]
    Target,
    /// The authority of the request target is none.
    #[error("invalid authority in the request target")]
    Url,
    /// The request target is a URL of another protocol.
    #[error("unknown scheme of the request target")]
    Scheme,
    /// The version is not `HTTP/` digit `.` digit; in a response, not HTTP/1.0 or HTTP/1.1.
    #[error("invalid version")]
    Version,
    /// A version other than 1.1 (and 1.0 where that is accepted).
    #[error("unsupported version")]
    VersionUnsupported,
    /// The status line has no status of three digits from 100 on, or its reason has a control.
    #[error("invalid status line")]
    StatusLine,
    /// A line that ends in neither CRLF nor LF.
    #[error("invalid line end")]
    LineEnd,
    /// A field line without a token and a colon at its start; white space there, a fold included.
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
    /// `Connection` nominates a field that is not the sender's to remove, or too many.
    #[error("invalid nomination in Connection")]
    Connection,
    /// `Content-Length` is not one unsigned decimal number.
    #[error("invalid content-length")]
    ContentLength,
    /// Both `Content-Length` and `Transfer-Encoding`.
    #[error("both content-length and transfer-encoding")]
    ContentLengthAndTransferEncoding,
    /// `Transfer-Encoding` is no list of codings, or `chunked` is not the last and only once.
    #[error("invalid transfer-encoding")]
    TransferEncoding,
    /// A transfer coding other than `chunked`.
    #[error("unsupported transfer-encoding")]
    TransferEncodingUnsupported,
    /// A body that is announced where the method or the status has none.
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
    /// A trailer's name has an underscore, where no name may.
    #[error("underscore in a trailer's name")]
    Underscore,
    /// The trailers are longer than their limit.
    #[error("trailers too large")]
    TrailersTooLarge,
}

impl Error {
    /// The status of the reply when a request did this.
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
            Self::TrailersTooLarge => "http1.trailers_too_large",
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
