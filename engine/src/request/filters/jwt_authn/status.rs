//! Why a token is refused, as Envoy says it.

/// Why a token, or a request without one, is refused.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Status {
    Missing,
    NotYetValid,
    Expired,
    BadFormat,
    HeaderBadBase64,
    HeaderBadJson,
    HeaderBadAlg,
    HeaderUnknownAlg,
    HeaderBadKid,
    PayloadBadBase64,
    PayloadBadJson,
    IssNotString,
    SubNotString,
    IatNotInteger,
    IatOutOfRange,
    NbfNotInteger,
    NbfOutOfRange,
    ExpNotInteger,
    ExpOutOfRange,
    JtiNotString,
    AudNotString,
    SignatureBadBase64,
    Ed25519WrongLength,
    UnknownIssuer,
    AudienceNotAllowed,
    VerificationFails,
    NoValidKeys,
    NoMatchingKey,
    FetchFails,
}

impl Status {
    /// Its number in Envoy, which metadata can show.
    pub(super) const fn code(self) -> u32 {
        self.row().0
    }

    /// What the client gets to read.
    pub(super) const fn text(self) -> &'static str {
        self.row().1
    }

    /// The HTTP status of the reply.
    pub(super) const fn http_status(self) -> u16 {
        match self {
            Self::AudienceNotAllowed => 403,
            _ => 401,
        }
    }

    const fn row(self) -> (u32, &'static str) {
        match self {
            Self::Missing => (1, "Jwt is missing"),
            Self::NotYetValid => (2, "Jwt not yet valid"),
            Self::Expired => (3, "Jwt is expired"),
            Self::BadFormat => (
                4,
                "Jwt is not in the form of Header.Payload.Signature with two dots and 3 sections",
            ),
            Self::HeaderBadBase64 => (5, "Jwt header is an invalid Base64url encoded"),
            Self::HeaderBadJson => (6, "Jwt header is an invalid JSON"),
            Self::HeaderBadAlg => (7, "Jwt header [alg] field is required and must be a string"),
            Self::HeaderUnknownAlg => (8, "Jwt header [alg] is not supported"),
            Self::HeaderBadKid => (9, "Jwt header [kid] field is not a string"),
            Self::PayloadBadBase64 => (10, "Jwt payload is an invalid Base64url encoded"),
            Self::PayloadBadJson => (11, "Jwt payload is an invalid JSON"),
            Self::IssNotString => (12, "Jwt payload [iss] field is not a string"),
            Self::SubNotString => (13, "Jwt payload [sub] field is not a string"),
            Self::IatNotInteger => (14, "Jwt payload [iat] field is not an integer"),
            Self::IatOutOfRange => (15, "Jwt payload [iat] field is not a positive 64 bit integer"),
            Self::NbfNotInteger => (16, "Jwt payload [nbf] field is not an integer"),
            Self::NbfOutOfRange => (17, "Jwt payload [nbf] field is not a positive 64 bit integer"),
            Self::ExpNotInteger => (18, "Jwt payload [exp] field is not an integer"),
            Self::ExpOutOfRange => (19, "Jwt payload [exp] field is not a positive 64 bit integer"),
            Self::JtiNotString => (20, "Jwt payload [jti] field is not a string"),
            Self::AudNotString => (21, "Jwt payload [aud] field is not a string or string list"),
            Self::SignatureBadBase64 => (22, "Jwt signature is an invalid Base64url encoded"),
            Self::Ed25519WrongLength => (23, "Jwt ED25519 signature is wrong length"),
            Self::UnknownIssuer => (24, "Jwt issuer is not configured"),
            Self::AudienceNotAllowed => (25, "Audiences in Jwt are not allowed"),
            Self::VerificationFails => (26, "Jwt verification fails"),
            Self::NoValidKeys => (31, "Jwks doesn't have any valid public key"),
            Self::NoMatchingKey => (32, "Jwks doesn't have key to match kid or alg from Jwt"),
            Self::FetchFails => (40, "Jwks remote fetch is failed"),
        }
    }
}
