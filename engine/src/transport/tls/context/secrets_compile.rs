//! Compiles certificates, session ticket keys, and the secrets that contain them.

use std::sync::Arc;

use corvoy_config::{self as config, Path, Problems};
use rustls::InconsistentKeys;
use rustls::crypto::aws_lc_rs::sign::any_supported_type;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::sign::{CertifiedKey, SigningKey};

use super::certificate::{Certificate, CertificateError, Facts};
use super::key::private_key;
use super::ocsp::OcspResponse;
use super::tickets::TicketKey;

/// The content of a `DataSource`.
pub(crate) struct Content {
    pub(crate) bytes: Vec<u8>,
    /// The path of a file, or `<inline>`.
    pub(crate) path: String,
    /// The field that is set.
    pub(crate) field: &'static str,
}

/// Reads a `DataSource`; none if there is an error.
pub(crate) fn read(
    schema: &config::DataSource,
    at: &Path,
    problems: &mut Problems,
) -> Option<Content> {
    let config::DataSource { filename, inline_bytes, inline_string, environment_variable } = schema;
    let inline = |bytes: Vec<u8>, field| Content { bytes, path: "<inline>".to_owned(), field };
    if let Some(path) = filename {
        let field = "filename";
        match std::fs::read(path) {
            Ok(bytes) => return Some(Content { bytes, path: path.clone(), field }),
            Err(error) => problems.error(&at.field(field), format!("{path}: {error}")),
        }
    } else if let Some(text) = inline_string {
        return Some(inline(text.clone().into_bytes(), "inline_string"));
    } else if let Some(bytes) = inline_bytes {
        return Some(inline(bytes.clone(), "inline_bytes"));
    } else if let Some(name) = environment_variable {
        let field = "environment_variable";
        match std::env::var_os(name) {
            Some(value) => return Some(inline(value.into_encoded_bytes(), field)),
            None => problems.error(&at.field(field), format!("there is no variable `{name}`")),
        }
    }
    None
}

/// Compiles a certificate with its key; none if there is an error.
pub(super) fn certificate(
    schema: &config::TlsCertificate,
    at: &Path,
    shards: usize,
    problems: &mut Problems,
) -> Option<Certificate> {
    let config::TlsCertificate {
        certificate_chain,
        private_key: key,
        password,
        ocsp_staple,
        watched_directory,
    } = schema;
    // Files of secrets that come from files are watched anyway.
    let _ = watched_directory;
    let chain_at = at.field("certificate_chain");
    let key_at = at.field("private_key");
    let mut required = |schema: &Option<config::DataSource>, at: &Path, what: &str| {
        let Some(schema) = schema else {
            problems.missing(at, format!("{what} is needed"));
            return None;
        };
        let content = read(schema, at, problems)?;
        if content.bytes.is_empty() {
            problems.error(&at.field(content.field), format!("{what} is empty"));
            return None;
        }
        Some(content)
    };
    let chain = required(certificate_chain, &chain_at, "the certificate");
    let key_content = required(key, &key_at, "the private key");
    let password = match password {
        Some(schema) => Some(read(schema, &at.field("password"), problems)?.bytes),
        None => None,
    };
    let (chain, key) = (chain?, key_content?);
    let (certificates, facts) = match pem_chain(&chain.bytes) {
        Ok(read) => read,
        Err(error) => {
            problems.error(&chain_at.field(chain.field), error.to_string());
            return None;
        }
    };
    let password = password.as_deref();
    let keys = signing_keys(&key, password, &certificates, shards, &key_at, problems)?;
    let ocsp = match ocsp_staple {
        Some(schema) => {
            let leaf = certificates.first()?;
            Some(ocsp_response(schema, leaf, &at.field("ocsp_staple"), problems)?)
        }
        None if facts.must_staple => {
            let why = "clients refuse this certificate without a stapled OCSP response (it has the \
                       must-staple extension): `ocsp_staple` is needed";
            problems.missing(&at.field("ocsp_staple"), why);
            return None;
        }
        None => None,
    };
    let Facts { key, names, must_staple, identity: _ } = facts;
    let (keys, path) = (keys.into(), chain.path);
    let secret = String::new();
    Some(Certificate { chain: certificates, keys, key, names, must_staple, ocsp, path, secret })
}

/// The private key for each shard, if it belongs to the certificates.
fn signing_keys(
    key: &Content,
    password: Option<&[u8]>,
    chain: &[CertificateDer<'static>],
    shards: usize,
    at: &Path,
    problems: &mut Problems,
) -> Option<Vec<Arc<dyn SigningKey>>> {
    let key_at = at.field(key.field);
    let der = private_key(&key.bytes, password);
    let der = der.map_err(|error| problems.error(&key_at, error.to_string())).ok()?;
    let keys: Result<Vec<_>, _> = (0..shards.max(1)).map(|_| any_supported_type(&der)).collect();
    let Ok(keys) = keys else {
        problems.error(&key_at, "this private key is of no supported kind");
        return None;
    };
    let first = keys.first().map(Arc::clone)?;
    let mismatch = rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch);
    if CertifiedKey::new(chain.to_vec(), first).keys_match() == Err(mismatch) {
        let why = "this private key does not belong to the certificate";
        problems.error(&key_at, why);
        return None;
    }
    Some(keys)
}

/// The certificates of a PEM text, and what the first one says.
fn pem_chain(pem: &[u8]) -> Result<(Vec<CertificateDer<'static>>, Facts), CertificateError> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let chain = chain.map_err(|_| CertificateError::Malformed)?;
    let facts = Facts::of(chain.first().ok_or(CertificateError::Malformed)?)?;
    Ok((chain, facts))
}

fn ocsp_response(
    schema: &config::DataSource,
    leaf: &CertificateDer<'_>,
    at: &Path,
    problems: &mut Problems,
) -> Option<OcspResponse> {
    let content = read(schema, at, problems)?;
    let response = OcspResponse::new(content.bytes);
    let checked = response.and_then(|response| {
        response.check_certificate(leaf)?;
        Ok(response)
    });
    checked.map_err(|error| problems.error(&at.field(content.field), error.to_string())).ok()
}

/// Compiles the keys of session tickets; none if there is an error.
pub(super) fn ticket_keys(
    schema: &config::TlsSessionTicketKeys,
    at: &Path,
    problems: &mut Problems,
) -> Option<Vec<TicketKey>> {
    let config::TlsSessionTicketKeys { keys } = schema;
    let mut compiled = Vec::with_capacity(keys.len());
    for (i, schema) in keys.iter().enumerate() {
        let at = at.field("keys").index(i);
        let content = read(schema, &at, problems)?;
        if let Ok(bytes) = content.bytes.as_slice().try_into() {
            compiled.push(TicketKey::new(bytes));
        } else {
            let length = content.bytes.len();
            let why = format!("a key has {} bytes, not {length}", TicketKey::LENGTH);
            problems.error(&at.field(content.field), why);
        }
    }
    (compiled.len() == keys.len()).then_some(compiled)
}
