//! A service that the control plane sends something to: access logs, or stats. It says where the service is, not
//! what it gets.

pub mod compile;

use std::time::Duration;

use crate::tcp::proxy::backoff::Backoff;

/// Where a service is.
#[derive(Clone, Debug)]
pub enum RemoteService {
    /// It is called over gRPC.
    Grpc(GrpcService),
    /// It gets the same messages in HTTP requests.
    Http(HttpService),
}

/// A gRPC service of a cluster.
#[derive(Clone, Debug)]
pub struct GrpcService {
    /// The name of its cluster.
    pub cluster: String,
    /// `:authority`; the name of the cluster by default.
    pub authority: String,
    /// Names and values that each call begins with.
    pub metadata: Vec<(String, String)>,
    /// How long a call may take; none: any time. It does not concern streams.
    pub timeout: Option<Duration>,
    /// The delay before the next attempt to reach it.
    pub back_off: Backoff,
    /// How many attempts follow a failed one; none: any number.
    pub retries: Option<u32>,
}

/// A URI in a cluster that is posted to.
#[derive(Clone, Debug)]
pub struct HttpService {
    /// The name of its cluster.
    pub cluster: String,
    /// `:authority`
    pub authority: String,
    /// Path and query.
    pub path: String,
    /// Headers of each request.
    pub headers: Vec<(String, String)>,
    /// How long a request may take; none: any time.
    pub timeout: Option<Duration>,
}

impl RemoteService {
    /// The name of its cluster.
    #[must_use]
    pub fn cluster(&self) -> &str {
        match self {
            Self::Grpc(service) => &service.cluster,
            Self::Http(service) => &service.cluster,
        }
    }

    /// The delay before the next attempt to reach it.
    #[must_use]
    pub const fn back_off(&self) -> Backoff {
        match self {
            Self::Grpc(service) => service.back_off,
            Self::Http(_) => BACK_OFF,
        }
    }
}

/// The delay if nothing else is configured.
pub const BACK_OFF: Backoff =
    Backoff { base: Duration::from_millis(500), max: Duration::from_secs(30) };
