//! Compiles certificates, session ticket keys, and the secrets that contain them.

use std::borrow::Cow;
use std::sync::Arc;

use corvoy_config::{self as config, Path, Problems};
use rustls::InconsistentKeys;
use rustls::crypto::aws_lc_rs::sign::any_supported_type;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::{CertifiedKey, SigningKey};

use super::certificate::{Certificate, CertificateError, Facts};
use super::key::private_key;
use super::ocsp::OcspResponse;
use super::pkcs12::Pkcs12;
use super::secret_files_compile::printable;
use super::tickets::TicketKey;

/// The content of a `DataSource`.
pub(crate) struct Content<'a> {
    /// Borrowed if the configuration has them.
    pub(crate) bytes: Cow<'a, [u8]>,
    /// The path of a file, or `<inline>`.
    pub(crate) path: String,
    /// The field that is set.
    pub(crate) field: &'static str,
}

/// Reads a `DataSource`; none if there is an error.
pub(crate) fn read<'a>(
    schema: &'a config::DataSource,
    at: &Path,
    problems: &mut Problems,
) -> Option<Content<'a>> {
    let config::DataSource { filename, inline_bytes, inline_string, environment_variable } = schema;
    let inline = |bytes, field| Content { bytes, path: "<inline>".to_owned(), field };
    if let Some(path) = filename {
        let field = "filename";
        // Beside the name are the contents, if they were read already.
        let bytes = match inline_bytes {
            Some(kept) => Ok(Cow::Borrowed(kept.as_slice())),
            None => std::fs::read(path).map(Cow::Owned),
        };
        match bytes {
            Ok(bytes) => return Some(Content { bytes, path: path.clone(), field }),
            Err(error) => problems.error(&at.field(field), format!("{}: {error}", printable(path))),
        }
    } else if let Some(text) = inline_string {
        return Some(inline(Cow::Borrowed(text.as_bytes()), "inline_string"));
    } else if let Some(bytes) = inline_bytes {
        return Some(inline(Cow::Borrowed(bytes), "inline_bytes"));
    } else if let Some(name) = environment_variable {
        let field = "environment_variable";
        match std::env::var_os(name) {
            Some(value) => return Some(inline(Cow::Owned(value.into_encoded_bytes()), field)),
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
        pkcs12,
        password,
        ocsp_staple,
        watched_directory,
    } = schema;
    // Only files of secrets that come from files are watched.
    let _ = watched_directory;
    let password = match password {
        Some(schema) => Some(read(schema, &at.field("password"), problems)?.bytes),
        None => None,
    };
    let pair = match pkcs12 {
        Some(_) if certificate_chain.is_some() || key.is_some() => {
            let why = "`pkcs12` has the certificate and the key: `certificate_chain` and \
                       `private_key` cannot be set too";
            problems.error(&at.field("pkcs12"), why);
            return None;
        }
        Some(schema) => pkcs12_pair(schema, password.as_deref(), &at.field("pkcs12"), problems)?,
        None => {
            let password = password.as_deref();
            pem_pair(certificate_chain.as_ref(), key.as_ref(), password, at, problems)?
        }
    };
    let facts = pair.chain.first().map(|leaf| Facts::of(leaf))?;
    let facts = facts.map_err(|error| problems.error(&pair.chain_at, error.to_string())).ok()?;
    let keys = signing_keys(&pair, shards, problems)?;
    let Pair { chain: certificates, path, .. } = pair;
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
    let keys = keys.into();
    let secret = String::new();
    Some(Certificate { chain: certificates, keys, key, names, must_staple, ocsp, path, secret })
}

/// A certificate with its key.
struct Pair {
    /// The certificate first.
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    /// Where the certificate comes from.
    path: String,
    chain_at: Path,
    key_at: Path,
}

fn pem_pair<'a>(
    chain: Option<&'a config::DataSource>,
    key: Option<&'a config::DataSource>,
    password: Option<&[u8]>,
    at: &Path,
    problems: &mut Problems,
) -> Option<Pair> {
    let (chain_at, key_at) = (at.field("certificate_chain"), at.field("private_key"));
    let mut required = |schema: Option<&'a config::DataSource>, at: &Path, what: &str| {
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
    let chain = required(chain, &chain_at, "the certificate");
    let key = required(key, &key_at, "the private key");
    let (chain, key) = (chain?, key?);
    let (chain_at, key_at) = (chain_at.field(chain.field), key_at.field(key.field));
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&chain.bytes).collect();
    let Some(certificates) = certificates.ok().filter(|found| !found.is_empty()) else {
        problems.error(&chain_at, CertificateError::Malformed.to_string());
        return None;
    };
    let key = private_key(&key.bytes, password);
    let key = key.map_err(|error| problems.error(&key_at, error.to_string())).ok()?;
    Some(Pair { chain: certificates, key, path: chain.path, chain_at, key_at })
}

fn pkcs12_pair(
    schema: &config::DataSource,
    password: Option<&[u8]>,
    at: &Path,
    problems: &mut Problems,
) -> Option<Pair> {
    let content = read(schema, at, problems)?;
    let at = at.field(content.field);
    let file = Pkcs12::read(&content.bytes, password.unwrap_or_default());
    let file = file.map_err(|error| problems.error(&at, error.to_string())).ok()?;
    let Pkcs12 { key, certificates: mut chain } = file;
    // The certificate may be anywhere among those of its CAs.
    if let Ok(signing) = any_supported_type(&key) {
        let is_of_key = |certificate: &CertificateDer<'static>| {
            let pair = CertifiedKey::new(vec![certificate.clone()], Arc::clone(&signing));
            pair.keys_match().is_ok()
        };
        if let Some(leaf) = chain.iter().position(is_of_key) {
            let leaf = chain.remove(leaf);
            chain.insert(0, leaf);
        }
    }
    Some(Pair { chain, key, path: content.path, chain_at: at.clone(), key_at: at })
}

/// The private key for each shard, if it belongs to the certificate.
fn signing_keys(
    pair: &Pair,
    shards: usize,
    problems: &mut Problems,
) -> Option<Vec<Arc<dyn SigningKey>>> {
    let keys: Result<Vec<_>, _> =
        (0..shards.max(1)).map(|_| any_supported_type(&pair.key)).collect();
    let Ok(keys) = keys else {
        problems.error(&pair.key_at, "this private key is of no supported kind");
        return None;
    };
    let first = keys.first().map(Arc::clone)?;
    let mismatch = rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch);
    if CertifiedKey::new(pair.chain.clone(), first).keys_match() == Err(mismatch) {
        let why = "this private key does not belong to the certificate";
        problems.error(&pair.key_at, why);
        return None;
    }
    Some(keys)
}

fn ocsp_response(
    schema: &config::DataSource,
    leaf: &CertificateDer<'_>,
    at: &Path,
    problems: &mut Problems,
) -> Option<OcspResponse> {
    let content = read(schema, at, problems)?;
    let response = OcspResponse::new(content.bytes.into_owned());
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
        if let Ok(bytes) = content.bytes.as_ref().try_into() {
            compiled.push(TicketKey::new(bytes));
        } else {
            let length = content.bytes.len();
            let why = format!("a key has {} bytes, not {length}", TicketKey::LENGTH);
            problems.error(&at.field(content.field), why);
        }
    }
    (compiled.len() == keys.len()).then_some(compiled)
}
