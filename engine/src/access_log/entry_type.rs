//! Why an entry of an access log is written: `%ACCESS_LOG_TYPE%`, and what `log_type_filter` selects.

/// Envoy's `envoy.data.accesslog.v3.AccessLogType`, without that of UDP.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[expect(missing_docs, reason = "each is Envoy's type of that name")]
pub enum EntryType {
    /// It is no access log: a header value or a local reply is formatted.
    #[default]
    NotSet,
    TcpUpstreamConnected,
    TcpPeriodic,
    TcpConnectionStart,
    TcpConnectionEnd,
    DownstreamStart,
    DownstreamPeriodic,
    DownstreamEnd,
    UpstreamPoolReady,
    UpstreamPeriodic,
    UpstreamEnd,
    DownstreamTunnelSuccessfullyEstablished,
}

impl EntryType {
    /// Whether the entry is about a request to a host, not about one of a client.
    #[must_use]
    pub const fn is_upstream(self) -> bool {
        matches!(self, Self::UpstreamPoolReady | Self::UpstreamPeriodic | Self::UpstreamEnd)
    }

    /// The number of the type in Envoy's API.
    #[must_use]
    pub const fn number(self) -> i32 {
        match self {
            Self::NotSet => 0,
            Self::TcpUpstreamConnected => 1,
            Self::TcpPeriodic => 2,
            Self::TcpConnectionEnd => 3,
            Self::DownstreamStart => 4,
            Self::DownstreamPeriodic => 5,
            Self::DownstreamEnd => 6,
            Self::UpstreamPoolReady => 7,
            Self::UpstreamPeriodic => 8,
            Self::UpstreamEnd => 9,
            Self::DownstreamTunnelSuccessfullyEstablished => 10,
            Self::TcpConnectionStart => 14,
        }
    }

    /// The name, as `%ACCESS_LOG_TYPE%` shows it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::NotSet => "NotSet",
            Self::TcpUpstreamConnected => "TcpUpstreamConnected",
            Self::TcpPeriodic => "TcpPeriodic",
            Self::TcpConnectionStart => "TcpConnectionStart",
            Self::TcpConnectionEnd => "TcpConnectionEnd",
            Self::DownstreamStart => "DownstreamStart",
            Self::DownstreamPeriodic => "DownstreamPeriodic",
            Self::DownstreamEnd => "DownstreamEnd",
            Self::UpstreamPoolReady => "UpstreamPoolReady",
            Self::UpstreamPeriodic => "UpstreamPeriodic",
            Self::UpstreamEnd => "UpstreamEnd",
            Self::DownstreamTunnelSuccessfullyEstablished => {
                "DownstreamTunnelSuccessfullyEstablished"
            }
        }
    }
}
