//! Services that the proxy asks itself: `envoy/config/core/v3/{grpc_service,http_uri}.proto`.

use super::{BackoffStrategy, Duration, HeaderValue, schema, schema_enum};

schema! {
    const SERVICE;

    struct GrpcService = "envoy.config.core.v3.GrpcService" {
        envoy_grpc: Option<EnvoyGrpc>,
        timeout: Option<Duration>,
        initial_metadata: Vec<HeaderValue>,
    }

    struct EnvoyGrpc = "envoy.config.core.v3.GrpcService.EnvoyGrpc" {
        cluster_name: String,
        authority: String,
        retry_policy: Option<CoreRetryPolicy>,
        max_receive_message_length: Option<u32>,
        skip_envoy_headers: bool,
    }

    struct HttpUri = "envoy.config.core.v3.HttpUri" {
        uri: String,
        cluster: Option<String>,
        timeout: Option<Duration>,
    }

    struct HttpStatus = "envoy.type.v3.HttpStatus" {
        code: StatusCode,
    }

    struct CoreRetryPolicy = "envoy.config.core.v3.RetryPolicy" {
        retry_back_off: Option<BackoffStrategy>,
        num_retries: Option<u32>,
    }
}

schema_enum! {
    enum ApiVersion = "envoy.config.core.v3.ApiVersion" { Auto, V2, V3 }
}

/// Envoy's `envoy.type.v3.StatusCode`, whose values are not in upper case.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, serde::Deserialize)]
#[expect(missing_docs, reason = "the names say it")]
pub enum StatusCode {
    #[default]
    Empty = 0,
    Continue = 100,
    #[serde(rename = "OK")]
    Ok = 200,
    Created = 201,
    Accepted = 202,
    NonAuthoritativeInformation = 203,
    NoContent = 204,
    ResetContent = 205,
    PartialContent = 206,
    MultiStatus = 207,
    AlreadyReported = 208,
    #[serde(rename = "IMUsed")]
    ImUsed = 226,
    MultipleChoices = 300,
    MovedPermanently = 301,
    Found = 302,
    SeeOther = 303,
    NotModified = 304,
    UseProxy = 305,
    TemporaryRedirect = 307,
    PermanentRedirect = 308,
    BadRequest = 400,
    Unauthorized = 401,
    PaymentRequired = 402,
    Forbidden = 403,
    NotFound = 404,
    MethodNotAllowed = 405,
    NotAcceptable = 406,
    ProxyAuthenticationRequired = 407,
    RequestTimeout = 408,
    Conflict = 409,
    Gone = 410,
    LengthRequired = 411,
    PreconditionFailed = 412,
    PayloadTooLarge = 413,
    #[serde(rename = "URITooLong")]
    UriTooLong = 414,
    UnsupportedMediaType = 415,
    RangeNotSatisfiable = 416,
    ExpectationFailed = 417,
    MisdirectedRequest = 421,
    UnprocessableEntity = 422,
    Locked = 423,
    FailedDependency = 424,
    UpgradeRequired = 426,
    PreconditionRequired = 428,
    TooManyRequests = 429,
    RequestHeaderFieldsTooLarge = 431,
    InternalServerError = 500,
    NotImplemented = 501,
    BadGateway = 502,
    ServiceUnavailable = 503,
    GatewayTimeout = 504,
    #[serde(rename = "HTTPVersionNotSupported")]
    HttpVersionNotSupported = 505,
    VariantAlsoNegotiates = 506,
    InsufficientStorage = 507,
    LoopDetected = 508,
    NotExtended = 510,
    NetworkAuthenticationRequired = 511,
}
