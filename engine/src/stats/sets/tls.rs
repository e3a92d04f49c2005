//! Stats of TLS, of listeners and clusters alike.

use crate::stats::stats;
use crate::transport::tls::Failure;
use crate::transport::tls::facts::TlsFacts;
use crate::transport::tls::failure::Refusal;

stats! {
    /// `listener.<address>_<port>.ssl.` and `cluster.<name>.ssl.`
    pub struct SslStats {
        names ciphers = "ciphers.";
        counter connection_error;
        names curves = "curves.";
        counter fail_verify_cert_hash;
        counter fail_verify_error;
        counter fail_verify_no_cert;
        counter fail_verify_san;
        counter handshake;
        counter no_certificate;
        counter ocsp_staple_failed;
        counter ocsp_staple_omitted;
        counter ocsp_staple_requests;
        counter ocsp_staple_responses;
        counter session_reused;
        names sigalgs = "sigalgs.";
        names versions = "versions.";
    }
}

impl SslStats {
    /// Counts a handshake that is done.
    pub fn record_handshake(&self, facts: &TlsFacts) {
        self.handshake.inc();
        if facts.resumed {
            self.session_reused.inc();
        }
        if facts.peer_certificates.is_empty() {
            self.no_certificate.inc();
        }
        self.ciphers.record(facts.cipher);
        self.versions.record(facts.version.name());
        if let Some(group) = facts.group {
            self.curves.record(group);
        }
        if let Some(signature) = facts.signature {
            self.sigalgs.record(signature);
        }
    }
}

impl SslStats {
    /// Counts a handshake that failed. A peer that has just left counts nowhere.
    pub fn record_failure(&self, failure: Failure) {
        match failure {
            Failure::NoCertificate => self.fail_verify_no_cert.inc(),
            Failure::Certificate(Refusal::OtherName) => self.fail_verify_san.inc(),
            Failure::Certificate(Refusal::Hash) => self.fail_verify_cert_hash.inc(),
            // As in Envoy, no error of the certificate.
            Failure::Certificate(Refusal::KeyUsage) => self.connection_error.inc(),
            Failure::Certificate(_) => self.fail_verify_error.inc(),
            // The factory of the socket counts it.
            Failure::SecretsNotReady => {}
            failure if failure.is_disconnect() => {}
            _ => self.connection_error.inc(),
        }
    }
}

stats! {
    /// `listener.<address>_<port>.server_ssl_socket_factory.` and `cluster.<name>.client_ssl_socket_factory.`
    pub struct SslSocketFactoryStats {
        counter downstream_context_secrets_not_ready;
        counter ssl_context_update_by_sds;
        counter upstream_context_secrets_not_ready;
    }
}

stats! {
    /// `listener.<address>_<port>.ssl.certificate.<name>.` and `cluster.<name>.ssl.certificate.<name>.`
    pub struct CertificateStats {
        gauge expiration_unix_time_seconds;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::{HistogramBuckets, Registry, Select, prometheus, text};
    use crate::transport::tls::certificate::Certificate;
    use crate::transport::tls::facts::TlsVersion;

    fn facts() -> TlsFacts {
        TlsFacts { cipher: "ECDHE-ECDSA-AES128-GCM-SHA256", ..TlsFacts::new(TlsVersion::Tls12) }
    }

    fn used(registry: &Registry) -> String {
        let select = Select { used_only: true, ..Select::default() };
        text(registry, select, HistogramBuckets::Summary).collect()
    }

    /// Recorded from Envoy: a handshake without, then a resumed one with a client certificate.
    #[test]
    fn handshakes_are_counted_by_cipher_version_group_and_signature() {
        let registry = Registry::new(2);
        let scope = registry.scope::<SslStats>("listener.127.0.0.1:443.ssl.");
        scope.shard(0).record_handshake(&TlsFacts { group: Some("X25519"), ..facts() });
        scope.shard(1).record_handshake(&TlsFacts {
            peer_certificates: [Certificate::new(b"a certificate"[..].into())].into(),
            resumed: true,
            signature: Some("ecdsa_secp256r1_sha256"),
            cipher: "TLS_AES_256_GCM_SHA384",
            group: Some("X25519"),
            ..TlsFacts::new(TlsVersion::Tls13)
        });
        assert_eq!(
            used(&registry),
            "listener.127.0.0.1_443.ssl.ciphers.ECDHE-ECDSA-AES128-GCM-SHA256: 1\n\
             listener.127.0.0.1_443.ssl.ciphers.TLS_AES_256_GCM_SHA384: 1\n\
             listener.127.0.0.1_443.ssl.curves.X25519: 2\n\
             listener.127.0.0.1_443.ssl.handshake: 2\n\
             listener.127.0.0.1_443.ssl.no_certificate: 1\n\
             listener.127.0.0.1_443.ssl.session_reused: 1\n\
             listener.127.0.0.1_443.ssl.sigalgs.ecdsa_secp256r1_sha256: 1\n\
             listener.127.0.0.1_443.ssl.versions.TLSv1.2: 1\n\
             listener.127.0.0.1_443.ssl.versions.TLSv1.3: 1\n"
        );
        registry.reset_counters();
        assert!(
            used(&registry).contains("ssl.ciphers.TLS_AES_256_GCM_SHA384: 0\n"),
            "still listed"
        );
    }

    #[test]
    fn prometheus_has_the_name_of_a_cipher_as_a_label_that_differs_for_clusters() {
        let registry = Registry::new(1);
        let scopes = ["listener.127.0.0.1:443.ssl.", "cluster.up.ssl."]
            .map(|prefix| registry.scope::<SslStats>(prefix));
        for scope in &scopes {
            scope.shard(0).record_handshake(&TlsFacts { group: Some("P-256"), ..facts() });
        }
        let select = Select { used_only: true, ..Select::default() };
        let shown: String = prometheus(&registry, select, HistogramBuckets::Summary).collect();
        let labelled: Vec<_> =
            shown.lines().filter(|line| line.matches('=').count() == 2).collect();
        assert_eq!(
            labelled,
            [
                r#"envoy_cluster_ssl_ciphers{cipher_suite="ECDHE-ECDSA-AES128-GCM-SHA256",envoy_cluster_name="up"} 1"#,
                r#"envoy_cluster_ssl_curves{envoy_ssl_curve="P-256",envoy_cluster_name="up"} 1"#,
                r#"envoy_cluster_ssl_versions{envoy_ssl_version="TLSv1.2",envoy_cluster_name="up"} 1"#,
                r#"envoy_listener_ssl_ciphers{envoy_ssl_cipher="ECDHE-ECDSA-AES128-GCM-SHA256",envoy_listener_address="127.0.0.1_443"} 1"#,
                r#"envoy_listener_ssl_curves{envoy_ssl_curve="P-256",envoy_listener_address="127.0.0.1_443"} 1"#,
                r#"envoy_listener_ssl_versions{envoy_ssl_version="TLSv1.2",envoy_listener_address="127.0.0.1_443"} 1"#,
            ]
        );
    }
}
