//! `envoy/extensions/transport_sockets`: TLS and its certificates, secrets, and plaintext.

use super::{
    Any, CidrRange, ConfigSource, DataSource, Duration, ProxyProtocolConfig, StringMatcher,
    WatchedDirectory, schema, schema_enum,
};

schema! {
    const TLS;

    struct TransportSocket = "envoy.config.core.v3.TransportSocket" {
        name: String,
        typed_config: Option<Any>,
    }

    struct ProxyProtocolUpstreamTransport =
        "envoy.extensions.transport_sockets.proxy_protocol.v3.ProxyProtocolUpstreamTransport" {
        config: Option<ProxyProtocolConfig>,
        transport_socket: Option<TransportSocket>,
    }

    struct RawBuffer = "envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer" {}

    struct DownstreamTlsContext = "envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext" {
        common_tls_context: Option<CommonTlsContext>,
        require_client_certificate: Option<bool>,
        session_ticket_keys: Option<TlsSessionTicketKeys>,
        session_ticket_keys_sds_secret_config: Option<SdsSecretConfig>,
        disable_stateless_session_resumption: Option<bool>,
        disable_stateful_session_resumption: bool,
        session_timeout: Option<Duration>,
        ocsp_staple_policy: OcspStaplePolicy,
        full_scan_certs_on_sni_mismatch: Option<bool>,
        prefer_client_ciphers: bool,
    } harmless {
        require_sni: "not implemented by Envoy either",
    }

    struct UpstreamTlsContext = "envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext" {
        common_tls_context: Option<CommonTlsContext>,
        sni: String,
        auto_host_sni: bool,
        auto_sni_san_validation: bool,
        allow_renegotiation: bool,
        max_session_keys: Option<u32>,
    } harmless {
        enforce_rsa_key_usage: "key usage is always enforced, as in Envoy",
    }

    struct CommonTlsContext = "envoy.extensions.transport_sockets.tls.v3.CommonTlsContext" {
        tls_params: Option<TlsParameters>,
        tls_certificates: Vec<TlsCertificate>,
        tls_certificate_sds_secret_configs: Vec<SdsSecretConfig>,
        validation_context: Option<CertificateValidationContext>,
        validation_context_sds_secret_config: Option<SdsSecretConfig>,
        combined_validation_context: Option<CombinedCertificateValidationContext>,
        alpn_protocols: Vec<String>,
        key_log: Option<TlsKeyLog>,
    }

    struct CombinedCertificateValidationContext =
        "envoy.extensions.transport_sockets.tls.v3.CommonTlsContext.CombinedCertificateValidationContext" {
        default_validation_context: Option<CertificateValidationContext>,
        validation_context_sds_secret_config: Option<SdsSecretConfig>,
    }

    struct TlsParameters = "envoy.extensions.transport_sockets.tls.v3.TlsParameters" {
        tls_minimum_protocol_version: TlsProtocol,
        tls_maximum_protocol_version: TlsProtocol,
        cipher_suites: Vec<String>,
        ecdh_curves: Vec<String>,
        signature_algorithms: Vec<String>,
        compliance_policies: Vec<CompliancePolicy>,
    }

    struct TlsCertificate = "envoy.extensions.transport_sockets.tls.v3.TlsCertificate" {
        certificate_chain: Option<DataSource>,
        private_key: Option<DataSource>,
        pkcs12: Option<DataSource>,
        password: Option<DataSource>,
        ocsp_staple: Option<DataSource>,
        watched_directory: Option<WatchedDirectory>,
    } harmless {
        signed_certificate_timestamp: "not implemented by Envoy either",
    }

    struct CertificateValidationContext =
        "envoy.extensions.transport_sockets.tls.v3.CertificateValidationContext" {
        trusted_ca: Option<DataSource>,
        system_root_certs: Option<SystemRootCerts>,
        watched_directory: Option<WatchedDirectory>,
        verify_certificate_spki: Vec<String>,
        verify_certificate_hash: Vec<String>,
        match_typed_subject_alt_names: Vec<SubjectAltNameMatcher>,
        match_subject_alt_names: Vec<StringMatcher>,
        crl: Option<DataSource>,
        allow_expired_certificate: bool,
        trust_chain_verification: TrustChainVerification,
        only_verify_leaf_cert_crl: bool,
        max_verify_depth: Option<u32>,
        suppress_client_ca_list: bool,
    } harmless {
        require_signed_certificate_timestamp: "not implemented by Envoy either",
    }

    struct SystemRootCerts =
        "envoy.extensions.transport_sockets.tls.v3.CertificateValidationContext.SystemRootCerts" {}

    struct SubjectAltNameMatcher = "envoy.extensions.transport_sockets.tls.v3.SubjectAltNameMatcher" {
        san_type: SanType,
        matcher: Option<StringMatcher>,
        oid: String,
    }

    struct TlsKeyLog = "envoy.extensions.transport_sockets.tls.v3.TlsKeyLog" {
        path: String,
        local_address_range: Vec<CidrRange>,
        remote_address_range: Vec<CidrRange>,
    }

    struct TlsSessionTicketKeys = "envoy.extensions.transport_sockets.tls.v3.TlsSessionTicketKeys" {
        keys: Vec<DataSource>,
    }

    struct SdsSecretConfig = "envoy.extensions.transport_sockets.tls.v3.SdsSecretConfig" {
        name: String,
        sds_config: Option<ConfigSource>,
    }

    struct Secret = "envoy.extensions.transport_sockets.tls.v3.Secret" {
        name: String,
        tls_certificate: Option<TlsCertificate>,
        session_ticket_keys: Option<TlsSessionTicketKeys>,
        validation_context: Option<CertificateValidationContext>,
        generic_secret: Option<GenericSecret>,
    }

    struct GenericSecret = "envoy.extensions.transport_sockets.tls.v3.GenericSecret" {
        secret: Option<DataSource>,
    }
}

schema_enum! {
    enum OcspStaplePolicy =
        "envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext.OcspStaplePolicy" {
        LenientStapling, StrictStapling, MustStaple,
    }

    enum TrustChainVerification =
        "envoy.extensions.transport_sockets.tls.v3.CertificateValidationContext.TrustChainVerification" {
        VerifyTrustChain, AcceptUntrusted,
    }

    enum SanType = "envoy.extensions.transport_sockets.tls.v3.SubjectAltNameMatcher.SanType" {
        SanTypeUnspecified, Email, Dns, Uri, IpAddress, OtherName,
    }
}

/// Envoy's `envoy.extensions.transport_sockets.tls.v3.TlsParameters.TlsProtocol`.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, serde::Deserialize)]
pub enum TlsProtocol {
    /// Envoy's default, `TLS_AUTO`.
    #[default]
    #[serde(rename = "TLS_AUTO")]
    Auto,
    /// Envoy's `TLSv1_0`.
    #[serde(rename = "TLSv1_0")]
    V1_0,
    /// Envoy's `TLSv1_1`.
    #[serde(rename = "TLSv1_1")]
    V1_1,
    /// Envoy's `TLSv1_2`.
    #[serde(rename = "TLSv1_2")]
    V1_2,
    /// Envoy's `TLSv1_3`.
    #[serde(rename = "TLSv1_3")]
    V1_3,
}

/// Envoy's `envoy.extensions.transport_sockets.tls.v3.TlsParameters.CompliancePolicy`.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, serde::Deserialize)]
pub enum CompliancePolicy {
    /// Envoy's default, `FIPS_202205`.
    #[default]
    #[serde(rename = "FIPS_202205")]
    Fips202205,
    /// Envoy's `CNSA2_202603`.
    #[serde(rename = "CNSA2_202603")]
    Cnsa2,
    /// Envoy's `CNSA1_202603`.
    #[serde(rename = "CNSA1_202603")]
    Cnsa1,
}
