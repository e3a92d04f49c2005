//! What the configuration says about the admin endpoint.

pub mod compile;

use std::net::IpAddr;

use crate::access_log::AccessLogs;
use crate::text_matcher::TextMatcher;

/// What the configuration says about the endpoint, besides its address.
#[derive(Debug, Default)]
pub struct Settings {
    /// `allow_paths`: the paths that may be requested; empty: all.
    pub allow_paths: Vec<TextMatcher>,
    /// `access_log`
    pub access_logs: AccessLogs,
    /// The address of this machine, which stands for a client on it in `x-forwarded-for`.
    pub own_address: Option<IpAddr>,
}
