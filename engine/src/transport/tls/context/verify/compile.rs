//! Compiles `validation_context`.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use corvoy_config::{self as config, Path, Problems};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer};

use super::{Crls, SanMatcher, SanType, Trust, Validation, parse};
use crate::text_matcher::compile::text;
use crate::transport::tls::context::read_once::{ReadOnce, SYSTEM_CAS};
use crate::transport::tls::context::secrets_compile::read;

/// Compiles how certificates of peers are verified; none if there is an error.
pub(in crate::transport::tls::context) fn validation(
    schema: &config::CertificateValidationContext,
    at: &Path,
    read_once: &ReadOnce,
    problems: &mut Problems,
) -> Option<Validation> {
    let config::CertificateValidationContext {
        trusted_ca,
        system_root_certs,
        watched_directory,
        verify_certificate_spki,
        verify_certificate_hash,
        match_typed_subject_alt_names,
        match_subject_alt_names,
        crl,
        allow_expired_certificate,
        trust_chain_verification,
        only_verify_leaf_cert_crl,
        max_verify_depth,
        suppress_client_ca_list,
    } = schema;
    // Files of secrets that come from files are watched anyway.
    let _ = watched_directory;
    let spki = |text: &str| {
        let bytes = STANDARD.decode(text).ok().and_then(|bytes| bytes.try_into().ok());
        bytes.ok_or_else(|| format!("`{text}` is not the base64 of a SHA-256"))
    };
    let hashes =
        each(verify_certificate_hash, &at.field("verify_certificate_hash"), hash, problems);
    let spkis = each(verify_certificate_spki, &at.field("verify_certificate_spki"), spki, problems);
    let mut sans = Vec::new();
    for (i, schema) in match_typed_subject_alt_names.iter().enumerate() {
        let at = at.field("match_typed_subject_alt_names").index(i);
        sans.extend(san_matcher(schema, &at, problems));
    }
    for (i, schema) in match_subject_alt_names.iter().enumerate() {
        let at = at.field("match_subject_alt_names").index(i);
        let Some(text) = text(schema, &at, problems) else { continue };
        // As in Envoy, names of any of these types.
        for kind in [SanType::Dns, SanType::Uri, SanType::Email, SanType::Ip] {
            sans.push(SanMatcher { kind, text: text.clone() });
        }
    }
    let mut trust = None;
    if let Some(schema) = trusted_ca {
        trust = Some(trusted(schema, &at.field("trusted_ca"), problems)?);
    } else if let Some(config::SystemRootCerts {}) = system_root_certs {
        trust = Some(system_trust(&at.field("system_root_certs"), read_once, problems)?);
    }
    if trust.is_none() {
        reject_without_trust(schema, at, problems);
    }
    if let Some(trust) = &mut trust {
        trust.allow_expired = *allow_expired_certificate;
        trust.only_leaf_crl = *only_verify_leaf_cert_crl;
        trust.depth_max = max_verify_depth.map_or(100, |depth| depth as usize);
        if let Some(schema) = crl {
            let pem = read(schema, &at.field("crl"), problems)?.bytes;
            crls(&pem, trust.crls.get_or_insert_default(), &at.field("crl"), problems);
        }
    }
    Some(Validation {
        trust,
        sans,
        hashes,
        spkis,
        accept_untrusted: *trust_chain_verification
            == config::TrustChainVerification::AcceptUntrusted,
        suppress_client_ca_list: *suppress_client_ca_list,
        secret: String::new(),
    })
}

/// The secret's values on top of the default ones, as protobuf merges messages.
pub(crate) fn combined(
    default: &config::CertificateValidationContext,
    secret: &config::CertificateValidationContext,
) -> config::CertificateValidationContext {
    let config::CertificateValidationContext {
        trusted_ca,
        system_root_certs,
        watched_directory,
        verify_certificate_spki,
        verify_certificate_hash,
        match_typed_subject_alt_names,
        match_subject_alt_names,
        crl,
        allow_expired_certificate,
        trust_chain_verification,
        only_verify_leaf_cert_crl,
        max_verify_depth,
        suppress_client_ca_list,
    } = secret.clone();
    let mut merged = default.clone();
    merged.trusted_ca = trusted_ca.or(merged.trusted_ca);
    merged.system_root_certs = system_root_certs.or(merged.system_root_certs);
    merged.watched_directory = watched_directory.or(merged.watched_directory);
    merged.verify_certificate_spki.extend(verify_certificate_spki);
    merged.verify_certificate_hash.extend(verify_certificate_hash);
    merged.match_typed_subject_alt_names.extend(match_typed_subject_alt_names);
    merged.match_subject_alt_names.extend(match_subject_alt_names);
    merged.crl = crl.or(merged.crl);
    merged.allow_expired_certificate |= allow_expired_certificate;
    if trust_chain_verification != config::TrustChainVerification::default() {
        merged.trust_chain_verification = trust_chain_verification;
    }
    merged.only_verify_leaf_cert_crl |= only_verify_leaf_cert_crl;
    merged.max_verify_depth = max_verify_depth.or(merged.max_verify_depth);
    merged.suppress_client_ca_list |= suppress_client_ca_list;
    merged
}

/// Rejects options that have no meaning, or are unsafe, without a trusted CA.
fn reject_without_trust(
    schema: &config::CertificateValidationContext,
    at: &Path,
    problems: &mut Problems,
) {
    let mut refuse = |field: &str, why: &str| problems.error(&at.field(field), why);
    let why = "anybody can make a certificate with any name: names need a `trusted_ca`";
    if !schema.match_typed_subject_alt_names.is_empty() {
        refuse("match_typed_subject_alt_names", why);
    }
    if !schema.match_subject_alt_names.is_empty() {
        refuse("match_subject_alt_names", why);
    }
    if schema.allow_expired_certificate {
        let why = "without a `trusted_ca` expired certificates are always accepted";
        refuse("allow_expired_certificate", why);
    }
    if schema.crl.is_some() {
        refuse("crl", "a CRL needs the `trusted_ca` that has issued it");
    }
}

fn each<T>(
    texts: &[String],
    at: &Path,
    read: impl Fn(&str) -> Result<T, String>,
    problems: &mut Problems,
) -> Vec<T> {
    let mut all = Vec::with_capacity(texts.len());
    for (i, text) in texts.iter().enumerate() {
        match read(text) {
            Ok(value) => all.push(value),
            Err(why) => problems.error(&at.index(i), why),
        }
    }
    all
}

/// A SHA-256 in hexadecimal digits, with or without colons.
fn hash(text: &str) -> Result<[u8; 32], String> {
    let digits: String = text.chars().filter(|digit| *digit != ':').collect();
    let byte = |i: usize| u8::from_str_radix(digits.get(2 * i..2 * i + 2)?, 16).ok();
    let bytes: Option<Vec<u8>> = (0..digits.len().div_ceil(2)).map(byte).collect();
    let hash = bytes.and_then(|bytes| bytes.try_into().ok());
    hash.ok_or_else(|| format!("`{text}` is not a SHA-256 in 64 hexadecimal digits"))
}

fn san_matcher(
    schema: &config::SubjectAltNameMatcher,
    at: &Path,
    problems: &mut Problems,
) -> Option<SanMatcher> {
    let config::SubjectAltNameMatcher { san_type, matcher, oid } = schema;
    let kind = match san_type {
        config::SanType::Email => SanType::Email,
        config::SanType::Dns => SanType::Dns,
        config::SanType::Uri => SanType::Uri,
        config::SanType::IpAddress => SanType::Ip,
        config::SanType::OtherName => {
            let is_oid = oid.split('.').count() > 1
                && oid.split('.').all(|number| number.parse::<u64>().is_ok());
            if !is_oid {
                let why = format!("`{oid}` is not an object identifier, like 1.3.6.1.4.1");
                problems.error(&at.field("oid"), why);
                return None;
            }
            SanType::Other(oid.clone())
        }
        // The validation rules of the configuration reject it.
        config::SanType::SanTypeUnspecified => return None,
    };
    let text = text(matcher.as_ref()?, &at.field("matcher"), problems)?;
    Some(SanMatcher { kind, text })
}

fn trusted(schema: &config::DataSource, at: &Path, problems: &mut Problems) -> Option<Trust> {
    let source = read(schema, at, problems)?;
    let at = at.field(source.field);
    let mut trust = trust(&source.bytes, &at, problems)?;
    trust.path = source.path;
    // As in Envoy: CRLs may be in the same file.
    if source.bytes.windows(CRL.len()).any(|window| window == CRL) {
        crls(&source.bytes, trust.crls.get_or_insert_default(), &at, problems);
    }
    Some(trust)
}

const CRL: &[u8] = b"-----BEGIN X509 CRL-----";

fn trust(pem: &[u8], at: &Path, problems: &mut Problems) -> Option<Trust> {
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let mut certificates = certificates.unwrap_or_default();
    let count = certificates.len();
    // The CA bundle of a system may contain certificates that cannot be parsed.
    certificates.retain(|der| parse(der).is_some());
    if certificates.is_empty() {
        problems.error(at, "there is no CA certificate in PEM");
        return None;
    }
    if certificates.len() < count {
        let malformed = count - certificates.len();
        problems.warn(at, format!("{malformed} of {count} CA certificates are malformed: ignored"));
    }
    Trust::new(certificates).ok()
}

fn system_trust(at: &Path, read_once: &ReadOnce, problems: &mut Problems) -> Option<Trust> {
    let Some(pem) = read_once.system_cas() else {
        problems.error(at, format!("this system has no CAs: none of {}", SYSTEM_CAS.join(", ")));
        return None;
    };
    trust(pem, at, problems)
}

/// As in Envoy, a file without any CRL is accepted; then every certificate is rejected, because each needs one.
fn crls(pem: &[u8], crls: &mut Crls, at: &Path, problems: &mut Problems) {
    let mut count = 0;
    for der in CertificateRevocationListDer::pem_slice_iter(pem).flatten() {
        if crls.add(&der).is_err() {
            problems.error(at, "this CRL is malformed");
        }
        count += 1;
    }
    if count == 0 {
        problems.warn(at, "there is no CRL in PEM: no certificate can be verified");
    }
}
