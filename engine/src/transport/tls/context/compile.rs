//! Compiles the transport sockets of filter chains and clusters.

use std::fmt::Write as _;
use std::sync::Arc;

use corvoy_config::{self as config, Path, Problems};
use rustls::pki_types::ServerName;

use super::certificate::{Certificate, Facts};
use super::client::{ClientContext, ClientSettings};
use super::key_log::{KeyLog, Range};
use super::latest::Latest;
use super::ocsp::StaplePolicy;
use super::parameters::Parameters;
use super::parameters_compile::{Side, parameters as compile_parameters};
use super::read_once::ReadOnce;
pub use super::sds_compile::{Change, SecretSource, Secrets, ShownSecret};
use super::secrets_compile::{certificate, ticket_keys};
use super::server::{ClientCertificate, Resumption, ServerContext, ServerSettings};
use super::sessions::Sessions;
use super::tickets::{Lifetimes, TicketKey};
use super::verify::{self, Validation, sha256};

/// Compiles the transport socket of a filter chain; none: plaintext, or an error.
pub(crate) fn server(
    socket: Option<&config::TransportSocket>,
    at: &Path,
    secrets: &Secrets,
    problems: &mut Problems,
) -> Option<Arc<Latest<ServerContext>>> {
    // A socket is found by its type.
    let config::TransportSocket { name: _, typed_config } = socket?;
    let at = at.field("typed_config");
    match typed_config {
        Some(config::Any::DownstreamTlsContext(context)) => {
            Some(secrets.context(&**context, &at, server_context, problems))
        }
        Some(config::Any::UpstreamTlsContext(_)) => {
            let why =
                "UpstreamTlsContext is for clusters; a filter chain has a DownstreamTlsContext";
            problems.error(&at, why);
            None
        }
        other => without_tls(other.as_ref(), &at, problems),
    }
}

/// A transport socket that is TLS on neither side: plaintext, or an error.
fn without_tls<T>(
    typed_config: Option<&config::Any>,
    at: &Path,
    problems: &mut Problems,
) -> Option<T> {
    match typed_config {
        Some(config::Any::RawBuffer(raw)) => {
            let config::RawBuffer {} = **raw;
        }
        Some(other) => {
            problems.error(at, format!("{} is not a transport socket", other.type_name()));
        }
        None => {
            problems
                .missing(at, "a transport socket needs a typed_config: it is found by its type");
        }
    }
    None
}

/// Compiles the transport socket of a cluster; none: plaintext, or an error.
pub(crate) fn client(
    socket: Option<&config::TransportSocket>,
    at: &Path,
    secrets: &Secrets,
    problems: &mut Problems,
) -> Option<Arc<Latest<ClientContext>>> {
    let config::TransportSocket { name: _, typed_config } = socket?;
    let at = at.field("typed_config");
    match typed_config {
        Some(config::Any::UpstreamTlsContext(context)) => {
            Some(secrets.context(&**context, &at, client_context, problems))
        }
        Some(config::Any::DownstreamTlsContext(_)) => {
            let why =
                "DownstreamTlsContext is for filter chains; a cluster has an UpstreamTlsContext";
            problems.error(&at, why);
            None
        }
        other => without_tls(other.as_ref(), &at, problems),
    }
}

fn server_context(
    context: &config::DownstreamTlsContext,
    at: &Path,
    secrets: &Secrets,
    problems: &mut Problems,
) -> Option<Arc<ServerContext>> {
    server_settings(context, at, secrets, problems).map(ServerContext::new)
}

fn client_context(
    context: &config::UpstreamTlsContext,
    at: &Path,
    secrets: &Secrets,
    problems: &mut Problems,
) -> Option<Arc<ClientContext>> {
    client_settings(context, at, secrets, problems).map(ClientContext::new)
}

const NOT_ASKED: &str = "no effect: as in Envoy, clients are only asked for a certificate if there is a \
                         `validation_context`";

fn server_settings(
    context: &config::DownstreamTlsContext,
    at: &Path,
    secrets: &Secrets,
    problems: &mut Problems,
) -> Option<ServerSettings> {
    let config::DownstreamTlsContext {
        common_tls_context,
        require_client_certificate,
        session_ticket_keys,
        session_ticket_keys_sds_secret_config,
        disable_stateless_session_resumption,
        disable_stateful_session_resumption,
        session_timeout,
        ocsp_staple_policy,
        full_scan_certs_on_sni_mismatch,
        prefer_client_ciphers,
    } = context;
    let default = config::CommonTlsContext::default();
    let common = common_tls_context.as_ref().unwrap_or(&default);
    let common_at = at.field("common_tls_context");
    let common = common_settings(common, Side::Server, &common_at, secrets, problems);
    let ocsp = match ocsp_staple_policy {
        config::OcspStaplePolicy::LenientStapling => StaplePolicy::Lenient,
        config::OcspStaplePolicy::StrictStapling => StaplePolicy::Strict,
        config::OcspStaplePolicy::MustStaple => StaplePolicy::Must,
    };
    let sds_at = at.field("session_ticket_keys_sds_secret_config");
    let keys = match (session_ticket_keys, session_ticket_keys_sds_secret_config) {
        (Some(keys), _) => ticket_keys(keys, &at.field("session_ticket_keys"), problems),
        (None, Some(secret)) => secrets.ticket_keys(secret, &sds_at, problems),
        // Without random numbers there are no tickets.
        (None, None) => Some(TicketKey::random().into_iter().collect()),
    };
    let (common, keys) = (common?, keys?);
    if common.certificates.is_empty() {
        return None;
    }
    if ocsp == StaplePolicy::Must && common.certificates.iter().any(|it| it.ocsp.is_none()) {
        let why = "MUST_STAPLE needs an `ocsp_staple` for each certificate";
        problems.error(&at.field("ocsp_staple_policy"), why);
    }
    let validation = common.validation.filter(|validation| validation.verifies());
    let is_required = require_client_certificate.is_some_and(|is_required| is_required);
    let client_certificate = match validation {
        None => ClientCertificate::NotAsked,
        Some(validation) if is_required || validation.requires_certificate() => {
            ClientCertificate::Required(Arc::new(validation))
        }
        Some(validation) => ClientCertificate::Optional(Arc::new(validation)),
    };
    if is_required && matches!(client_certificate, ClientCertificate::NotAsked) {
        problems.warn(&at.field("require_client_certificate"), NOT_ASKED);
    }
    let has_tickets = !keys.is_empty() && *disable_stateless_session_resumption != Some(true);
    let tickets = has_tickets.then_some(keys);
    let timeout = session_timeout.map(|it| u32::try_from(it.as_secs()).unwrap_or(u32::MAX));
    let new_sessions = || Arc::new(Sessions::new(timeout.unwrap_or(Lifetimes::TLS12_DEFAULT)));
    let resumption = Resumption {
        tickets,
        identity: sha256(&[common.identity.as_bytes(), &[u8::from(is_required)]].concat()),
        sessions: (!disable_stateful_session_resumption).then(new_sessions),
        timeout,
    };
    Some(ServerSettings {
        certificates: common.certificates,
        parameters: common.parameters,
        alpn: common.alpn.unwrap_or_default(),
        prefer_client_ciphers: *prefer_client_ciphers,
        full_scan_on_mismatch: full_scan_certs_on_sni_mismatch.is_some_and(|is_full| is_full),
        ocsp,
        resumption,
        client_certificate,
        key_log: common.key_log,
    })
}

fn client_settings(
    context: &config::UpstreamTlsContext,
    at: &Path,
    secrets: &Secrets,
    problems: &mut Problems,
) -> Option<ClientSettings> {
    let config::UpstreamTlsContext {
        common_tls_context,
        sni,
        auto_host_sni,
        auto_sni_san_validation,
        allow_renegotiation,
        max_session_keys,
    } = context;
    let default = config::CommonTlsContext::default();
    let common = common_tls_context.as_ref().unwrap_or(&default);
    let common_at = at.field("common_tls_context");
    let common = common_settings(common, Side::Client, &common_at, secrets, problems);
    if *allow_renegotiation {
        problems.not_implemented(&at.field("allow_renegotiation"), "renegotiation");
    }
    let name = (!sni.is_empty()).then(|| ServerName::try_from(sni.clone()));
    if let Some(Err(_)) = name {
        let why = format!("`{sni}` is not a host name: no other server name can be sent");
        problems.error(&at.field("sni"), why);
    }
    let common = common?;
    let certificate = common.certificates.into_iter().next();
    if *auto_sni_san_validation && common.validation.is_none() {
        let why = "a `validation_context` is needed: without it nothing is verified";
        problems.error(&at.field("auto_sni_san_validation"), why);
    }
    Some(ClientSettings {
        certificate,
        parameters: common.parameters,
        alpn: common.alpn,
        validation: common.validation.map(Arc::new),
        sni: name.and_then(Result::ok),
        auto_host_sni: *auto_host_sni,
        auto_sni_san_validation: *auto_sni_san_validation,
        session_keys_max: max_session_keys.map_or(1, |most| most as usize),
        key_log: common.key_log,
    })
}

/// What both sides have in common.
struct Common {
    certificates: Vec<Certificate>,
    parameters: Parameters,
    /// None if it is not configured.
    alpn: Option<Vec<Vec<u8>>>,
    validation: Option<Validation>,
    key_log: Option<Arc<KeyLog>>,
    /// What has to be the same for a session to be resumed.
    identity: String,
}

fn common_settings(
    context: &config::CommonTlsContext,
    side: Side,
    at: &Path,
    secrets: &Secrets,
    problems: &mut Problems,
) -> Option<Common> {
    let config::CommonTlsContext {
        tls_params,
        tls_certificates,
        tls_certificate_sds_secret_configs,
        validation_context,
        validation_context_sds_secret_config,
        combined_validation_context,
        alpn_protocols,
        key_log,
    } = context;
    let parameters = match tls_params {
        Some(schema) => compile_parameters(schema, side, &at.field("tls_params"), problems),
        None => Some(side.defaults()),
    };
    let mut certificates = Vec::new();
    let mut identity = String::new();
    for (i, schema) in tls_certificates.iter().enumerate() {
        let at = at.field("tls_certificates").index(i);
        certificates.push(certificate(schema, &at, secrets.shards(), problems));
    }
    for (i, secret) in tls_certificate_sds_secret_configs.iter().enumerate() {
        let at = at.field("tls_certificate_sds_secret_configs").index(i);
        certificates.push(secrets.certificate(secret, &at, problems));
    }
    check_count(tls_certificates, tls_certificate_sds_secret_configs, side, at, problems);
    let validation = (validation_context, validation_context_sds_secret_config);
    let validation = validation_settings(
        validation,
        combined_validation_context.as_ref(),
        at,
        secrets,
        problems,
    );
    let alpn = alpn(alpn_protocols, &at.field("alpn_protocols"), problems);
    let key_log = match key_log {
        Some(schema) => {
            let at = at.field("key_log");
            Some(Arc::new(compile_key_log(schema, &at, secrets.read_once(), problems)?))
        }
        None => None,
    };
    let certificates = certificates.into_iter().collect::<Option<Vec<_>>>()?;
    let validation = match validation {
        Configured::Not => None,
        Configured::As(configured) => {
            let (schema, validation) = *configured;
            let _ = write!(identity, "{schema:?}{validation:?}");
            Some(validation)
        }
        Configured::Unusable => return None,
    };
    for certificate in &certificates {
        let facts = certificate.chain.first().and_then(|der| Facts::of(der).ok())?;
        let _ = write!(identity, "{:?}", facts.identity);
    }
    Some(Common { certificates, parameters: parameters?, alpn, validation, key_log, identity })
}

/// Checks how many certificates there are, and where they come from.
fn check_count(
    inline: &[config::TlsCertificate],
    secrets: &[config::SdsSecretConfig],
    side: Side,
    at: &Path,
    problems: &mut Problems,
) {
    let certificates_at = at.field("tls_certificates");
    match side {
        Side::Server if inline.is_empty() && secrets.is_empty() => {
            let why = "a server needs a certificate: `tls_certificates` is empty";
            problems.missing(&certificates_at, why);
        }
        Side::Server if !inline.is_empty() && !secrets.is_empty() => {
            let why =
                "as in Envoy, either all certificates of a filter chain are secrets or none is";
            problems.error(&at.field("tls_certificate_sds_secret_configs"), why);
        }
        Side::Client if inline.len() + secrets.len() > 1 => {
            problems.error(&certificates_at, "a cluster can have only one certificate");
        }
        Side::Server | Side::Client => {}
    }
}

/// How peers are verified.
enum Configured {
    /// Not at all.
    Not,
    As(Box<(config::CertificateValidationContext, Validation)>),
    /// There is an error, or the secret is not there yet.
    Unusable,
}

fn validation_settings(
    (inline, secret): (
        &Option<config::CertificateValidationContext>,
        &Option<config::SdsSecretConfig>,
    ),
    combined: Option<&config::CombinedCertificateValidationContext>,
    at: &Path,
    secrets: &Secrets,
    problems: &mut Problems,
) -> Configured {
    let (schema, at, name) = if let Some(schema) = inline {
        (Some(schema.clone()), at.field("validation_context"), "")
    } else if let Some(secret) = secret {
        let at = at.field("validation_context_sds_secret_config");
        (secrets.validation(secret, &at, problems), at, &*secret.name)
    } else if let Some(combined) = combined {
        let at = at.field("combined_validation_context");
        let secret = combined.validation_context_sds_secret_config.as_ref();
        let name = secret.map_or("", |secret| &secret.name);
        (secrets.combined(combined, &at, problems), at, name)
    } else {
        return Configured::Not;
    };
    let Some(schema) = schema else { return Configured::Unusable };
    match verify::compile::validation(&schema, &at, secrets.read_once(), problems) {
        Some(validation) => {
            let validation = Validation { secret: name.to_owned(), ..validation };
            Configured::As(Box::new((schema, validation)))
        }
        None => Configured::Unusable,
    }
}

/// The protocols of ALPN; none if there are none in the configuration.
fn alpn(protocols: &[String], at: &Path, problems: &mut Problems) -> Option<Vec<Vec<u8>>> {
    let mut offered = Vec::with_capacity(protocols.len());
    for (i, protocol) in protocols.iter().enumerate() {
        if protocol.len() > 255 {
            problems.error(&at.index(i), "the name of a protocol has at most 255 bytes");
        } else if !protocol.is_empty() {
            offered.push(protocol.clone().into_bytes());
        }
    }
    (!protocols.is_empty()).then_some(offered)
}

fn compile_key_log(
    schema: &config::TlsKeyLog,
    at: &Path,
    read_once: &ReadOnce,
    problems: &mut Problems,
) -> Option<KeyLog> {
    let config::TlsKeyLog { path, local_address_range, remote_address_range } = schema;
    let local = ranges(local_address_range, &at.field("local_address_range"), problems);
    let remote = ranges(remote_address_range, &at.field("remote_address_range"), problems);
    match read_once.log(path.as_ref()) {
        Ok(file) => Some(KeyLog::new(file, local, remote)),
        Err(error) => {
            problems.error(&at.field("path"), format!("{path}: {error}"));
            None
        }
    }
}

fn ranges(schemas: &[config::CidrRange], at: &Path, problems: &mut Problems) -> Vec<Range> {
    let mut ranges = Vec::with_capacity(schemas.len());
    for (i, schema) in schemas.iter().enumerate() {
        let config::CidrRange { address_prefix, prefix_len } = schema;
        match address_prefix.parse() {
            Ok(address) => ranges.push(Range { address, prefix: prefix_len.unwrap_or(0) }),
            Err(_) => {
                let why = format!("malformed IP address: {address_prefix}");
                problems.error(&at.index(i).field("address_prefix"), why);
            }
        }
    }
    ranges
}

#[cfg(test)]
#[path = "compile_tests.rs"]
mod tests;
