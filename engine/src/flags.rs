//! Response flags: what was special about a response or its connection, as short codes for logs.

/// One flag.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[repr(u8)]
#[expect(missing_docs, reason = "the long names say it")]
pub enum Flag {
    DelayInjected,
    DnsResolutionFailed,
    DownstreamConnectionTermination,
    DownstreamProtocolError,
    DownstreamRemoteReset,
    DropOverload,
    DurationTimeout,
    FailedLocalHealthCheck,
    FaultInjected,
    InvalidEnvoyRequestHeaders,
    LocalReset,
    NoClusterFound,
    NoFilterConfigFound,
    NoHealthyUpstream,
    NoRouteFound,
    OverloadManagerTerminated,
    RateLimitServiceError,
    RateLimited,
    ResponseFromCacheFilter,
    StreamIdleTimeout,
    UnauthorizedExternalService,
    UnconditionalDropOverload,
    UpstreamConnectionFailure,
    UpstreamConnectionTermination,
    UpstreamMaxStreamDurationReached,
    UpstreamOverflow,
    UpstreamProtocolError,
    UpstreamRemoteReset,
    UpstreamRequestTimeout,
    UpstreamRetryLimitExceeded,
}

/// The flags of one request, without duplicates, in the order they were set.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Flags {
    list: [Option<Flag>; FLAGS_MAX],
}

/// A request never has more flags: it ends with the first final one.
const FLAGS_MAX: usize = 6;

const ALL: [Flag; 30] = [
    Flag::DelayInjected,
    Flag::DnsResolutionFailed,
    Flag::DownstreamConnectionTermination,
    Flag::DownstreamProtocolError,
    Flag::DownstreamRemoteReset,
    Flag::DropOverload,
    Flag::DurationTimeout,
    Flag::FailedLocalHealthCheck,
    Flag::FaultInjected,
    Flag::InvalidEnvoyRequestHeaders,
    Flag::LocalReset,
    Flag::NoClusterFound,
    Flag::NoFilterConfigFound,
    Flag::NoHealthyUpstream,
    Flag::NoRouteFound,
    Flag::OverloadManagerTerminated,
    Flag::RateLimitServiceError,
    Flag::RateLimited,
    Flag::ResponseFromCacheFilter,
    Flag::StreamIdleTimeout,
    Flag::UnauthorizedExternalService,
    Flag::UnconditionalDropOverload,
    Flag::UpstreamConnectionFailure,
    Flag::UpstreamConnectionTermination,
    Flag::UpstreamMaxStreamDurationReached,
    Flag::UpstreamOverflow,
    Flag::UpstreamProtocolError,
    Flag::UpstreamRemoteReset,
    Flag::UpstreamRequestTimeout,
    Flag::UpstreamRetryLimitExceeded,
];

impl Flag {
    /// The flag with this short code.
    pub fn of(short: &str) -> Option<Self> {
        ALL.into_iter().find(|flag| flag.short() == short)
    }

    /// The short code, as in logs.
    pub const fn short(self) -> &'static str {
        self.names().0
    }

    /// The long name.
    pub const fn long(self) -> &'static str {
        self.names().1
    }

    const fn names(self) -> (&'static str, &'static str) {
        match self {
            Self::DelayInjected => ("DI", "DelayInjected"),
            Self::DnsResolutionFailed => ("DF", "DnsResolutionFailed"),
            Self::DownstreamConnectionTermination => ("DC", "DownstreamConnectionTermination"),
            Self::DownstreamProtocolError => ("DPE", "DownstreamProtocolError"),
            Self::DownstreamRemoteReset => ("DR", "DownstreamRemoteReset"),
            Self::DropOverload => ("DO", "DropOverload"),
            Self::DurationTimeout => ("DT", "DurationTimeout"),
            Self::FailedLocalHealthCheck => ("LH", "FailedLocalHealthCheck"),
            Self::FaultInjected => ("FI", "FaultInjected"),
            Self::InvalidEnvoyRequestHeaders => ("IH", "InvalidEnvoyRequestHeaders"),
            Self::LocalReset => ("LR", "LocalReset"),
            Self::NoClusterFound => ("NC", "NoClusterFound"),
            Self::NoFilterConfigFound => ("NFCF", "NoFilterConfigFound"),
            Self::NoHealthyUpstream => ("UH", "NoHealthyUpstream"),
            Self::NoRouteFound => ("NR", "NoRouteFound"),
            Self::OverloadManagerTerminated => ("OM", "OverloadManagerTerminated"),
            Self::RateLimitServiceError => ("RLSE", "RateLimitServiceError"),
            Self::RateLimited => ("RL", "RateLimited"),
            Self::ResponseFromCacheFilter => ("RFCF", "ResponseFromCacheFilter"),
            Self::StreamIdleTimeout => ("SI", "StreamIdleTimeout"),
            Self::UnauthorizedExternalService => ("UAEX", "UnauthorizedExternalService"),
            Self::UnconditionalDropOverload => ("UDO", "UnconditionalDropOverload"),
            Self::UpstreamConnectionFailure => ("UF", "UpstreamConnectionFailure"),
            Self::UpstreamConnectionTermination => ("UC", "UpstreamConnectionTermination"),
            Self::UpstreamMaxStreamDurationReached => ("UMSDR", "UpstreamMaxStreamDurationReached"),
            Self::UpstreamOverflow => ("UO", "UpstreamOverflow"),
            Self::UpstreamProtocolError => ("UPE", "UpstreamProtocolError"),
            Self::UpstreamRemoteReset => ("UR", "UpstreamRemoteReset"),
            Self::UpstreamRequestTimeout => ("UT", "UpstreamRequestTimeout"),
            Self::UpstreamRetryLimitExceeded => ("URX", "UpstreamRetryLimitExceeded"),
        }
    }
}

impl Flags {
    /// No flags.
    pub const NONE: Self = Self { list: [None; FLAGS_MAX] };

    /// This flag only.
    pub const fn of(flag: Flag) -> Self {
        let mut list = [None; FLAGS_MAX];
        let [first, ..] = &mut list;
        *first = Some(flag);
        Self { list }
    }

    /// Adds a flag at the end, unless it is already set.
    pub fn set(&mut self, flag: Flag) {
        if !self.has(flag)
            && let Some(free) = self.list.iter_mut().find(|slot| slot.is_none())
        {
            *free = Some(flag);
        }
    }

    /// Whether the flag is set.
    pub fn has(&self, flag: Flag) -> bool {
        self.iter().any(|other| other == flag)
    }

    /// The flags in the order they were set.
    pub fn iter(&self) -> impl Iterator<Item = Flag> {
        self.list.iter().map_while(|flag| *flag)
    }

    /// Whether no flag is set.
    pub fn is_empty(&self) -> bool {
        self.iter().next().is_none()
    }

    /// Writes the flags, separated by commas; `name` is [`Flag::short`] or [`Flag::long`].
    pub fn write(&self, name: fn(Flag) -> &'static str, out: &mut Vec<u8>) {
        for (index, flag) in self.iter().enumerate() {
            if index > 0 {
                out.push(b',');
            }
            out.extend_from_slice(name(flag).as_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_are_shown_in_the_order_they_were_set() {
        let mut flags = Flags::of(Flag::UpstreamRetryLimitExceeded);
        flags.set(Flag::UpstreamConnectionTermination);
        flags.set(Flag::UpstreamRetryLimitExceeded);
        let mut out = Vec::new();
        flags.write(Flag::short, &mut out);
        assert_eq!(out, b"URX,UC");
    }

    #[test]
    fn a_flag_is_found_by_its_short_code() {
        assert!(ALL.into_iter().all(|flag| Flag::of(flag.short()) == Some(flag)));
        assert_eq!((Flag::of("URX"), Flag::of("urx")), (Some(ALL[29]), None));
    }

    #[test]
    fn no_flags_write_nothing() {
        let mut out = Vec::new();
        Flags::NONE.write(Flag::long, &mut out);
        assert!(Flags::default().is_empty() && out.is_empty());
    }
}
