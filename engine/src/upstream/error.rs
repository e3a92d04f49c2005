//! Upstream errors, with Envoy's names and texts.

use crate::transport::tls::Failure;

/// Why a request got no response from upstream, or an incomplete one.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Error {
    /// A circuit breaker is open: nothing was sent.
    Overflow,
    /// No socket, local port or memory: the connection failed on this machine.
    LocalConnectionFailure,
    /// The host refused the connection or is unreachable. Carries the system's error number, 0 if
    /// unknown.
    RemoteConnectionFailure(i32),
    /// The TLS handshake failed.
    TlsFailure(Failure),
    /// `connect_timeout` passed before the connection was established.
    ConnectionTimeout,
    /// The host closed or reset the connection before its response was complete.
    ConnectionTermination,
    /// The host's response is not HTTP, or exceeds a limit.
    ProtocolError,
    /// The host has not processed the request, and says so (HTTP/2).
    RemoteRefusedStreamReset,
    /// The host has reset the stream of the request (HTTP/2).
    RemoteReset,
}

/// Which side is at fault, for outlier detection.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Fault {
    /// This proxy, or a limit of its configuration.
    Local,
    /// The host, or the network.
    Host,
}

impl Error {
    /// Envoy's reset reason, as in the body of the local reply.
    pub fn reset_reason(self) -> &'static str {
        match self {
            Self::Overflow => "overflow",
            Self::LocalConnectionFailure => "local connection failure",
            Self::RemoteConnectionFailure(_) | Self::TlsFailure(_) => "remote connection failure",
            Self::ConnectionTimeout => "connection timeout",
            Self::ConnectionTermination => "connection termination",
            Self::ProtocolError => "protocol error",
            Self::RemoteRefusedStreamReset => "remote refused stream reset",
            Self::RemoteReset => "remote reset",
        }
    }

    /// The response flag for the access log.
    pub fn response_flag(self) -> &'static str {
        match self {
            Self::Overflow => "UO",
            Self::LocalConnectionFailure
            | Self::RemoteConnectionFailure(_)
            | Self::TlsFailure(_)
            | Self::ConnectionTimeout => "UF",
            Self::ConnectionTermination => "UC",
            Self::ProtocolError => "UPE",
            Self::RemoteRefusedStreamReset | Self::RemoteReset => "UR",
        }
    }

    /// The status of the local reply: 502 for a protocol error, else 503.
    pub fn status(self) -> u16 {
        match self {
            Self::ProtocolError => 502,
            Self::Overflow
            | Self::LocalConnectionFailure
            | Self::RemoteConnectionFailure(_)
            | Self::TlsFailure(_)
            | Self::ConnectionTimeout
            | Self::ConnectionTermination
            | Self::RemoteRefusedStreamReset
            | Self::RemoteReset => 503,
        }
    }

    /// Which side is at fault.
    pub fn fault(self) -> Fault {
        match self {
            Self::Overflow | Self::LocalConnectionFailure => Fault::Local,
            Self::RemoteConnectionFailure(_)
            | Self::TlsFailure(_)
            | Self::ConnectionTimeout
            | Self::ConnectionTermination
            | Self::ProtocolError
            | Self::RemoteRefusedStreamReset
            | Self::RemoteReset => Fault::Host,
        }
    }

    /// Whether the connection was not established, so that the host has seen nothing of the request.
    pub fn is_connect_failure(self) -> bool {
        match self {
            Self::LocalConnectionFailure
            | Self::RemoteConnectionFailure(_)
            | Self::TlsFailure(_)
            | Self::ConnectionTimeout => true,
            Self::Overflow
            | Self::ConnectionTermination
            | Self::ProtocolError
            | Self::RemoteRefusedStreamReset
            | Self::RemoteReset => false,
        }
    }

    /// The system's error number of a failed connect; 0 for a local failure or another error.
    pub fn connect_errno(self) -> i32 {
        match self {
            Self::RemoteConnectionFailure(errno) => errno,
            Self::ConnectionTimeout => libc::ETIMEDOUT,
            Self::LocalConnectionFailure
            | Self::TlsFailure(_)
            | Self::Overflow
            | Self::ConnectionTermination
            | Self::ProtocolError
            | Self::RemoteRefusedStreamReset
            | Self::RemoteReset => 0,
        }
    }

    /// The body of the local reply, if the response has not begun.
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

    /// `%RESPONSE_CODE_DETAILS%`: the reset, and the transport failure if it is known.
    pub fn response_code_details(self, response_started: bool) -> String {
        let when = if response_started { "after" } else { "before" };
        let reason = self.reset_reason().replace(' ', "_");
        let transport = self.transport_failure().map(|words| format!("|{words}"));
        let transport = transport.unwrap_or_default();
        format!("upstream_reset_{when}_response_started{{{reason}{transport}}}")
    }

    /// `%UPSTREAM_TRANSPORT_FAILURE_REASON%`, such as `delayed_connect_error:_Connection_refused`: the
    /// system's text, without the number that Rust adds.
    pub fn transport_failure(self) -> Option<String> {
        match self {
            Self::RemoteConnectionFailure(0)
            | Self::Overflow
            | Self::LocalConnectionFailure
            | Self::ConnectionTimeout
            | Self::ConnectionTermination
            | Self::ProtocolError
            | Self::RemoteRefusedStreamReset
            | Self::RemoteReset => None,
            // Envoy: `TLS_error:|`, and what OpenSSL says.
            Self::TlsFailure(failure) => {
                Some(format!("TLS_error:_{}", failure.words().replace(' ', "_")))
            }
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
    fn a_refused_connection_is_reported_as_by_envoy() {
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
    fn a_failed_handshake_is_a_failed_connect_with_a_reason() {
        let failed = Error::TlsFailure(Failure::Alert(48));
        assert_eq!((failed.status(), failed.response_flag()), (503, "UF"));
        assert!(failed.is_connect_failure());
        assert_eq!(
            failed.response_code_details(false),
            "upstream_reset_before_response_started\
             {remote_connection_failure|TLS_error:_peer_sent_alert_unknown_ca}"
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
    fn an_open_circuit_breaker_is_not_the_hosts_fault() {
        assert_eq!(Error::Overflow.fault(), Fault::Local);
        assert_eq!(Error::ConnectionTermination.fault(), Fault::Host);
        assert!(!Error::ConnectionTermination.is_connect_failure());
        assert!(Error::ConnectionTimeout.is_connect_failure());
    }
}
