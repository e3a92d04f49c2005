//! What can go wrong between us and a host, in Envoy's words.

/// Why a request got no answer from upstream, or not all of it.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Error {
    /// A circuit breaker's limit is reached: nothing was sent.
    Overflow,
    /// No socket, no local port, no memory: the connection failed before it left this machine.
    LocalConnectionFailure,
    /// The host refused the connection, or cannot be reached. Carries the system's error number, 0
    /// if unknown.
    RemoteConnectionFailure(i32),
    /// `connect_timeout` passed before the connection was there.
    ConnectionTimeout,
    /// The host closed or reset the connection before its answer was complete.
    ConnectionTermination,
    /// The host's answer is not HTTP, or breaks a limit for answers.
    ProtocolError,
}

/// Who is to blame; outlier detection will ask.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Fault {
    /// This proxy, or a limit of its configuration.
    Local,
    /// The host, or the way to it.
    Host,
}

impl Error {
    /// Envoy's name of the reset, as it stands in the body of the local reply.
    pub fn reset_reason(self) -> &'static str {
        match self {
            Self::Overflow => "overflow",
            Self::LocalConnectionFailure => "local connection failure",
            Self::RemoteConnectionFailure(_) => "remote connection failure",
            Self::ConnectionTimeout => "connection timeout",
            Self::ConnectionTermination => "connection termination",
            Self::ProtocolError => "protocol error",
        }
    }

    /// The response flag for the access log.
    pub fn response_flag(self) -> &'static str {
        match self {
            Self::Overflow => "UO",
            Self::LocalConnectionFailure
            | Self::RemoteConnectionFailure(_)
            | Self::ConnectionTimeout => "UF",
            Self::ConnectionTermination => "UC",
            Self::ProtocolError => "UPE",
        }
    }

    /// The status of the local reply: a host that does not speak HTTP is a bad gateway, all else is
    /// 503.
    pub fn status(self) -> u16 {
        match self {
            Self::ProtocolError => 502,
            Self::Overflow
            | Self::LocalConnectionFailure
            | Self::RemoteConnectionFailure(_)
            | Self::ConnectionTimeout
            | Self::ConnectionTermination => 503,
        }
    }

    /// Whose fault it is.
    pub fn fault(self) -> Fault {
        match self {
            Self::Overflow | Self::LocalConnectionFailure => Fault::Local,
            Self::RemoteConnectionFailure(_)
            | Self::ConnectionTimeout
            | Self::ConnectionTermination
            | Self::ProtocolError => Fault::Host,
        }
    }

    /// Whether the connection never came to be, so that the host saw nothing of the request.
    pub fn is_connect_failure(self) -> bool {
        match self {
            Self::LocalConnectionFailure
            | Self::RemoteConnectionFailure(_)
            | Self::ConnectionTimeout => true,
            Self::Overflow | Self::ConnectionTermination | Self::ProtocolError => false,
        }
    }

    /// The system's error number of a failed connect; 0 if the failure was on this machine, or none.
    pub fn connect_errno(self) -> i32 {
        match self {
            Self::RemoteConnectionFailure(errno) => errno,
            Self::ConnectionTimeout => libc::ETIMEDOUT,
            Self::LocalConnectionFailure
            | Self::Overflow
            | Self::ConnectionTermination
            | Self::ProtocolError => 0,
        }
    }

    /// What the local reply says, when the response had not begun.
    pub fn body(self, after_retry: bool) -> String {
        let reason = self.reset_reason();
        if after_retry {
            format!(
                "upstream connect error or disconnect/reset before headers. \
                 retried and the latest reset reason: {reason}"
            )
        } else {
            format!(
                "upstream connect error or disconnect/reset before headers. reset reason: {reason}"
            )
        }
    }

    /// `%RESPONSE_CODE_DETAILS%`: the reset, and why the transport failed where that is known.
    pub fn response_code_details(self, response_started: bool) -> String {
        let when = if response_started { "after" } else { "before" };
        let reason = self.reset_reason().replace(' ', "_");
        let transport = self.transport_failure().map(|words| format!("|{words}"));
        let transport = transport.unwrap_or_default();
        format!("upstream_reset_{when}_response_started{{{reason}{transport}}}")
    }

    /// `%UPSTREAM_TRANSPORT_FAILURE_REASON%`, `delayed_connect_error:_Connection_refused`: the
    /// system's words, without the number that Rust adds to them.
    pub fn transport_failure(self) -> Option<String> {
        match self {
            Self::RemoteConnectionFailure(0)
            | Self::Overflow
            | Self::LocalConnectionFailure
            | Self::ConnectionTimeout
            | Self::ConnectionTermination
            | Self::ProtocolError => None,
            Self::RemoteConnectionFailure(errno) => {
                let words = std::io::Error::from_raw_os_error(errno).to_string();
                let words = words.split(" (os error").next().unwrap_or(&words).replace(' ', "_");
                Some(format!("delayed_connect_error:_{words}"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_connection_reads_as_envoy_writes_it() {
        let refused = Error::RemoteConnectionFailure(libc::ECONNREFUSED);
        assert_eq!(refused.status(), 503);
        assert_eq!(refused.response_flag(), "UF");
        assert_eq!(
            refused.body(false),
            "upstream connect error or disconnect/reset before headers. \
             reset reason: remote connection failure"
        );
        assert_eq!(
            refused.body(true),
            "upstream connect error or disconnect/reset before headers. \
             retried and the latest reset reason: remote connection failure"
        );
        assert_eq!(
            refused.response_code_details(false),
            "upstream_reset_before_response_started\
             {remote_connection_failure|delayed_connect_error:_Connection_refused}"
        );
    }

    #[test]
    fn garbage_from_a_host_is_a_bad_gateway() {
        assert_eq!(Error::ProtocolError.status(), 502);
        assert_eq!(Error::ProtocolError.response_flag(), "UPE");
        assert_eq!(
            Error::ProtocolError.response_code_details(true),
            "upstream_reset_after_response_started{protocol_error}"
        );
    }

    #[test]
    fn a_limit_of_ours_is_not_the_hosts_fault() {
        assert_eq!(Error::Overflow.fault(), Fault::Local);
        assert_eq!(Error::ConnectionTermination.fault(), Fault::Host);
        assert!(!Error::ConnectionTermination.is_connect_failure());
        assert!(Error::ConnectionTimeout.is_connect_failure());
    }
}
