//! Commands about the TLS of a connection and the certificates of its two ends.

use jiff::Timestamp;

use super::Inputs;
use super::time::{TimeFormat, Zone};
use crate::transport::tls::certificate::{Certificate, Details};
use crate::transport::tls::facts::TlsFacts;

/// One command: whose connection, and what of it.
#[derive(Clone, Debug)]
pub(super) struct TlsCommand {
    connection: Connection,
    what: What,
}

/// Whose connection.
#[derive(Clone, Copy, Debug)]
enum Connection {
    Downstream,
    Upstream,
}

/// What of the connection.
#[derive(Clone, Debug)]
enum What {
    Certificate(Whose, Of),
    Cipher,
    Group,
    /// Of each certificate that the peer has sent.
    PeerChain(Of),
    PeerPem,
    PeerValid(Limit, TimeFormat),
    ServerName,
    SessionId,
    Version,
}

/// Whose certificate.
#[derive(Clone, Copy, Debug)]
enum Whose {
    Issuer,
    Local,
    Peer,
}

/// What of a certificate.
#[derive(Clone, Copy, Debug)]
enum Of {
    DnsNames,
    Emails,
    IpAddresses,
    Issuer,
    OtherNames,
    Serial,
    Sha1,
    Sha256,
    Subject,
    Uris,
}

/// An end of the time in which a certificate is valid.
#[derive(Clone, Copy, Debug)]
enum Limit {
    NotAfter,
    NotBefore,
}

impl TlsCommand {
    /// The command of this name; none if it is not about TLS.
    ///
    /// # Errors
    /// The parameters are invalid.
    pub(super) fn new(name: &str, parameters: &str) -> Result<Option<Self>, String> {
        let (connection, name) = match name.split_once('_') {
            Some(("DOWNSTREAM", name)) => (Connection::Downstream, name),
            Some(("UPSTREAM", name)) => (Connection::Upstream, name),
            _ => return Ok(None),
        };
        let what = match (name, connection) {
            ("PEER_CERT_V_START", _) => {
                What::PeerValid(Limit::NotBefore, TimeFormat::new(parameters, Zone::Utc)?)
            }
            ("PEER_CERT_V_END", _) => {
                What::PeerValid(Limit::NotAfter, TimeFormat::new(parameters, Zone::Utc)?)
            }
            (name, Connection::Downstream) => match downstream(name).or_else(|| either(name)) {
                Some(what) => what,
                None => return Ok(None),
            },
            ("SERVER_NAME", Connection::Upstream) => What::ServerName,
            (name, Connection::Upstream) => match either(name) {
                Some(what) => what,
                None => return Ok(None),
            },
        };
        Ok(Some(Self { connection, what }))
    }

    /// Whether the command has parameters: the format of a time.
    pub(super) fn takes_parameters(name: &str) -> bool {
        name.ends_with("_PEER_CERT_V_START") || name.ends_with("_PEER_CERT_V_END")
    }

    /// Writes the value; none if there is none, or it is empty.
    pub(super) fn write(&self, inputs: &Inputs<'_>, out: &mut Vec<u8>) -> Option<()> {
        let facts = match self.connection {
            Connection::Downstream => inputs.stream.downstream_tls()?,
            Connection::Upstream => inputs.stream.upstream_tls()?,
        };
        let start = out.len();
        self.what.write(facts, out)?;
        (out.len() > start).then_some(())
    }
}

/// What is known of connections to clients only.
fn downstream(name: &str) -> Option<What> {
    Some(match name {
        "LOCAL_EMAIL_SAN" => What::Certificate(Whose::Local, Of::Emails),
        "LOCAL_OTHERNAME_SAN" => What::Certificate(Whose::Local, Of::OtherNames),
        "LOCAL_SUBJECT" => What::Certificate(Whose::Local, Of::Subject),
        "PEER_CHAIN_FINGERPRINTS_1" => What::PeerChain(Of::Sha1),
        "PEER_CHAIN_FINGERPRINTS_256" => What::PeerChain(Of::Sha256),
        "PEER_CHAIN_SERIALS" => What::PeerChain(Of::Serial),
        "PEER_EMAIL_SAN" => What::Certificate(Whose::Peer, Of::Emails),
        "PEER_FINGERPRINT_1" => What::Certificate(Whose::Peer, Of::Sha1),
        "PEER_FINGERPRINT_256" => What::Certificate(Whose::Peer, Of::Sha256),
        "PEER_ISSUER_FINGERPRINT_256" => What::Certificate(Whose::Issuer, Of::Sha256),
        "PEER_ISSUER_SERIAL" => What::Certificate(Whose::Issuer, Of::Serial),
        "PEER_OTHERNAME_SAN" => What::Certificate(Whose::Peer, Of::OtherNames),
        "PEER_SERIAL" => What::Certificate(Whose::Peer, Of::Serial),
        _ => return None,
    })
}

/// What is known of both kinds of connections.
fn either(name: &str) -> Option<What> {
    Some(match name {
        "LOCAL_DNS_SAN" => What::Certificate(Whose::Local, Of::DnsNames),
        "LOCAL_IP_SAN" => What::Certificate(Whose::Local, Of::IpAddresses),
        "LOCAL_URI_SAN" => What::Certificate(Whose::Local, Of::Uris),
        "PEER_CERT" => What::PeerPem,
        "PEER_DNS_SAN" => What::Certificate(Whose::Peer, Of::DnsNames),
        "PEER_IP_SAN" => What::Certificate(Whose::Peer, Of::IpAddresses),
        "PEER_ISSUER" => What::Certificate(Whose::Peer, Of::Issuer),
        "PEER_SUBJECT" => What::Certificate(Whose::Peer, Of::Subject),
        "PEER_URI_SAN" => What::Certificate(Whose::Peer, Of::Uris),
        "TLS_CIPHER" => What::Cipher,
        "TLS_GROUP" => What::Group,
        "TLS_SESSION_ID" => What::SessionId,
        "TLS_VERSION" => What::Version,
        _ => return None,
    })
}

impl What {
    fn write(&self, facts: &TlsFacts, out: &mut Vec<u8>) -> Option<()> {
        let text = match self {
            Self::Certificate(whose, of) => {
                of.write(whose.certificate(facts)?, out);
                return Some(());
            }
            Self::Cipher => facts.cipher,
            Self::Group => facts.group?,
            Self::PeerChain(of) => {
                for (at, certificate) in facts.peer_certificates.iter().enumerate() {
                    if at > 0 {
                        out.push(b',');
                    }
                    of.write(certificate, out);
                }
                return Some(());
            }
            Self::PeerPem => facts.peer_certificate()?.url_encoded_pem(),
            Self::PeerValid(limit, format) => {
                let details = facts.peer_certificate()?.details();
                let seconds = match limit {
                    Limit::NotAfter => details.not_after,
                    Limit::NotBefore => details.not_before,
                };
                format.write(Timestamp::from_second(seconds).ok()?, out);
                return Some(());
            }
            Self::ServerName => facts.server_name.as_deref()?,
            Self::SessionId => {
                let hex = |byte| super::write_display(&format_args!("{byte:02x}"), out);
                facts.session_id.iter().for_each(hex);
                return Some(());
            }
            Self::Version => facts.version.name(),
        };
        out.extend_from_slice(text.as_bytes());
        Some(())
    }
}

impl Whose {
    fn certificate(self, facts: &TlsFacts) -> Option<&Certificate> {
        match self {
            Self::Issuer => facts.issuer(),
            Self::Local => facts.local_certificate.as_deref(),
            Self::Peer => facts.peer_certificate(),
        }
    }
}

impl Of {
    fn write(self, certificate: &Certificate, out: &mut Vec<u8>) {
        let Details {
            subject,
            issuer,
            serial,
            dns_names,
            uris,
            ip_addresses,
            emails,
            other_names,
            names: _,
            not_before: _,
            not_after: _,
            sha256,
            sha1,
        } = certificate.details();
        let texts = match self {
            Self::DnsNames => dns_names,
            Self::Emails => emails,
            Self::IpAddresses => ip_addresses,
            Self::Issuer => std::slice::from_ref(issuer),
            Self::OtherNames => other_names,
            Self::Serial => std::slice::from_ref(serial),
            Self::Sha1 => std::slice::from_ref(sha1),
            Self::Sha256 => std::slice::from_ref(sha256),
            Self::Subject => std::slice::from_ref(subject),
            Self::Uris => uris,
        };
        out.extend_from_slice(texts.join(",").as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;
    use crate::format::{Formatter, StreamInfo, Unset};
    use crate::transport::tls::facts::TlsVersion;
    use crate::transport::tls::recorded::{
        ALTERNATIVE_NAMES, ATTRIBUTE_TYPES, CLIENT, ISSUER, NO_SUBJECT, VALUES, certificate,
        commands, connection,
    };

    struct Over(Option<TlsFacts>);

    impl StreamInfo for Over {
        fn start_time(&self) -> SystemTime {
            SystemTime::UNIX_EPOCH
        }

        fn downstream_tls(&self) -> Option<&TlsFacts> {
            self.0.as_ref()
        }

        fn upstream_tls(&self) -> Option<&TlsFacts> {
            self.0.as_ref()
        }
    }

    fn written(command: &str, facts: Option<&TlsFacts>) -> String {
        let formatter = Formatter::new(&format!("%{command}%")).expect(command);
        let mut out = Vec::new();
        formatter.format(&Inputs::new(&Over(facts.cloned())), Unset::Dash, &mut out);
        String::from_utf8(out).expect("UTF-8")
    }

    #[test]
    fn certificates_are_shown_as_envoy_has_shown_them() {
        for recording in [CLIENT, ATTRIBUTE_TYPES, VALUES, ALTERNATIVE_NAMES, NO_SUBJECT] {
            let facts = connection(&[recording]);
            let mut count = 0;
            for (command, recorded) in commands(recording) {
                // Envoy writes control characters as they are, into logs too.
                let expected: String = recorded
                    .chars()
                    .map(|c| match c {
                        c if c.is_ascii_control() => format!("\\{:02X}", u32::from(c)),
                        c => c.to_string(),
                    })
                    .collect();
                assert_eq!(written(command, Some(&facts)), expected, "{command}");
                count += 1;
            }
            assert_eq!(count, 14);
        }
    }

    /// Recorded from Envoy for the same two certificates.
    #[test]
    fn a_chain_is_shown_certificate_by_certificate() {
        let facts = connection(&[CLIENT, ISSUER]);
        let issuer = "a7f9e7c82a4c112c486309603703722e85fc39738462e0cbd4f6478e8bb427cf";
        let own = written("DOWNSTREAM_PEER_FINGERPRINT_256", Some(&facts));
        for (command, expected) in [
            ("DOWNSTREAM_PEER_CHAIN_FINGERPRINTS_256", &*format!("{own},{issuer}")),
            (
                "DOWNSTREAM_PEER_CHAIN_FINGERPRINTS_1",
                "53ebe1a81dabf43d35996e91ab237d053e4a6e6b,2a74b3d89ec29bb0da2f1e22a5e15a7455a8ccad",
            ),
            ("DOWNSTREAM_PEER_CHAIN_SERIALS", "ab01,44514258adf8ffc0ff860ba97838be7a15d5a172"),
            ("DOWNSTREAM_PEER_ISSUER_FINGERPRINT_256", issuer),
            ("DOWNSTREAM_PEER_ISSUER_SERIAL", "44514258adf8ffc0ff860ba97838be7a15d5a172"),
        ] {
            assert_eq!(written(command, Some(&facts)), expected, "{command}");
        }
    }

    #[test]
    fn an_issuer_that_the_peer_has_not_sent_is_the_trusted_one() {
        let mut facts = connection(&[CLIENT]);
        let serial = |facts: &TlsFacts| written("DOWNSTREAM_PEER_ISSUER_SERIAL", Some(facts));
        assert_eq!(serial(&facts), "-");
        facts.issuer = Some(certificate(ISSUER).into());
        assert_eq!(serial(&facts), "44514258adf8ffc0ff860ba97838be7a15d5a172");
    }

    #[test]
    fn the_connection_is_shown_on_both_sides() {
        let facts = TlsFacts {
            cipher: "ECDHE-ECDSA-AES128-GCM-SHA256",
            group: Some("X25519"),
            session_id: [0x00, 0x21, 0xe4].into(),
            server_name: Some("a.test".into()),
            ..TlsFacts::new(TlsVersion::Tls12)
        };
        for (command, expected) in [
            ("DOWNSTREAM_TLS_VERSION", "TLSv1.2"),
            ("DOWNSTREAM_TLS_CIPHER", "ECDHE-ECDSA-AES128-GCM-SHA256"),
            ("DOWNSTREAM_TLS_GROUP", "X25519"),
            ("DOWNSTREAM_TLS_SESSION_ID", "0021e4"),
            ("DOWNSTREAM_PEER_SUBJECT", "-"),
            ("DOWNSTREAM_PEER_CERT_V_START", "-"),
            ("DOWNSTREAM_LOCAL_SUBJECT", "-"),
            ("UPSTREAM_TLS_VERSION", "TLSv1.2"),
            ("UPSTREAM_SERVER_NAME", "a.test"),
        ] {
            assert_eq!(written(command, Some(&facts)), expected, "{command}");
            assert_eq!(written(command, None), "-", "{command} without TLS");
        }
        let facts = connection(&[]);
        assert_eq!(written("DOWNSTREAM_LOCAL_URI_SAN", Some(&facts)), "spiffe://a/1,spiffe://a/2");
        assert_eq!(written("UPSTREAM_LOCAL_URI_SAN", Some(&facts)), "spiffe://a/1,spiffe://a/2");
    }

    #[test]
    fn no_command_takes_parameters_but_times() {
        let error = |format: &str| Formatter::new(format).map(drop).unwrap_err();
        assert_eq!(
            error("%DOWNSTREAM_PEER_SUBJECT:7%"),
            "DOWNSTREAM_PEER_SUBJECT does not take any parameters or length"
        );
        assert_eq!(
            error("%UPSTREAM_TLS_VERSION(x)%"),
            "UPSTREAM_TLS_VERSION does not take any parameters or length"
        );
        assert_eq!(
            error("%UPSTREAM_PEER_SERIAL%"),
            "Not supported field in StreamInfo: UPSTREAM_PEER_SERIAL"
        );
    }
}
