//! The files that a secret names.

use std::io;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use corvoy_config as config;
use serde_json::{Value, json};

use crate::config_source::{MoveTarget, directory};

/// How often files are read that change meanwhile.
const ATTEMPTS: usize = 5;

/// Why the files of a secret cannot be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum FilesError {
    /// One of them.
    #[error("{}: {error}", printable(path))]
    Unreadable {
        /// The file.
        path: String,
        /// The error of the kernel.
        error: io::Error,
    },
    /// They never were the same twice.
    #[error("its files change while they are read")]
    Changing,
}

/// A name with line breaks may well be the content of a key: it stays out of the log.
pub(super) fn printable(path: &str) -> &str {
    if path.contains(char::is_control) { "a file name with line breaks" } else { path }
}

/// The secret with the contents of its files in place of their names.
///
/// The files are read until two readings are the same: a certificate and its key belong together.
///
/// # Errors
/// A file cannot be read, or they change all the time.
pub(super) fn inlined(secret: &config::Secret) -> Result<config::Secret, FilesError> {
    let mut last = read(secret)?;
    for _ in 1..ATTEMPTS {
        let again = read(secret)?;
        if again == last {
            return Ok(last);
        }
        last = again;
    }
    Err(FilesError::Changing)
}

fn read(secret: &config::Secret) -> Result<config::Secret, FilesError> {
    let mut read = secret.clone();
    read.read_files()?;
    read.data_sources().into_iter().for_each(|source| source.filename = None);
    Ok(read)
}

/// What to watch: the directory that the secret says, or those of its files.
pub(super) fn files(secret: &config::Secret) -> Vec<MoveTarget> {
    let of_certificate = secret.tls_certificate.iter().map(|it| &it.watched_directory);
    let of_validation = secret.validation_context.iter().map(|it| &it.watched_directory);
    if let Some(config::WatchedDirectory { path }) =
        of_certificate.chain(of_validation).flatten().next()
    {
        return vec![MoveTarget::Directory(path.into())];
    }
    let mut secret = secret.clone();
    let named = secret.data_sources().into_iter().filter_map(|source| source.filename.as_deref());
    let named = named.map(|path| MoveTarget::Directory(directory(path.as_ref()).to_owned()));
    let mut directories: Vec<_> = named.collect();
    directories.sort_unstable();
    directories.dedup();
    directories
}

/// The secret as Envoy shows it, with the contents of its files.
pub(super) fn shown(mut json: Value, secret: &config::Secret) -> Value {
    let content = |source: &Option<config::DataSource>| {
        source.as_ref().and_then(|it| it.inline_bytes.clone())
    };
    let mut show = |path: &str, content: Option<Vec<u8>>| {
        if let Some(place) = json.pointer_mut(path).filter(|it| it.get("filename").is_some()) {
            *place = json!({ "inline_bytes": STANDARD.encode(content.unwrap_or_default()) });
        }
    };
    if let Some(certificate) = &secret.tls_certificate {
        show("/tls_certificate/certificate_chain", content(&certificate.certificate_chain));
        show("/tls_certificate/private_key", Some(b"[redacted]".to_vec()));
    }
    if let Some(validation) = &secret.validation_context {
        show("/validation_context/trusted_ca", content(&validation.trusted_ca));
    }
    if secret.generic_secret.is_some() {
        show("/generic_secret/secret", Some(b"[redacted]".to_vec()));
    }
    json
}

/// What names files.
pub(super) trait NamesFiles {
    /// All its data sources.
    fn data_sources(&mut self) -> Vec<&mut config::DataSource>;

    /// Reads the files: their contents are put beside their names, where the compiler looks first.
    ///
    /// # Errors
    /// The first that cannot be read. The others are read nevertheless.
    fn read_files(&mut self) -> Result<(), FilesError> {
        let mut result = Ok(());
        for source in self.data_sources() {
            let Some(path) = &source.filename else { continue };
            match std::fs::read(path) {
                Ok(bytes) => source.inline_bytes = Some(bytes),
                Err(error) => {
                    let unreadable = FilesError::Unreadable { path: path.clone(), error };
                    result = result.and(Err(unreadable));
                }
            }
        }
        result
    }

    /// Reads the files that a context names itself. As in Envoy they are read once: when a secret changes
    /// and the context is compiled again, they count as they were.
    fn keep_contents(&mut self) {
        // A file that cannot be read is an error of the place that names it, when it is compiled.
        let _left_out = self.read_files();
    }
}

impl NamesFiles for config::TlsCertificate {
    fn data_sources(&mut self) -> Vec<&mut config::DataSource> {
        let Self {
            certificate_chain,
            private_key,
            pkcs12,
            password,
            ocsp_staple,
            watched_directory: _,
        } = self;
        let all = [certificate_chain, private_key, pkcs12, password, ocsp_staple];
        all.into_iter().flatten().collect()
    }
}

impl NamesFiles for config::CertificateValidationContext {
    fn data_sources(&mut self) -> Vec<&mut config::DataSource> {
        [&mut self.trusted_ca, &mut self.crl].into_iter().flatten().collect()
    }
}

impl NamesFiles for config::TlsSessionTicketKeys {
    fn data_sources(&mut self) -> Vec<&mut config::DataSource> {
        self.keys.iter_mut().collect()
    }
}

impl NamesFiles for config::Secret {
    fn data_sources(&mut self) -> Vec<&mut config::DataSource> {
        let Self {
            name: _,
            tls_certificate,
            session_ticket_keys,
            validation_context,
            generic_secret,
        } = self;
        let certificate = tls_certificate.iter_mut().flat_map(NamesFiles::data_sources);
        let validation = validation_context.iter_mut().flat_map(NamesFiles::data_sources);
        let keys = session_ticket_keys.iter_mut().flat_map(NamesFiles::data_sources);
        let generic = generic_secret.iter_mut().flat_map(|it| &mut it.secret);
        certificate.chain(validation).chain(keys).chain(generic).collect()
    }
}

/// It names a secret.
impl NamesFiles for config::SdsSecretConfig {
    fn data_sources(&mut self) -> Vec<&mut config::DataSource> {
        Vec::new()
    }
}

impl NamesFiles for config::CommonTlsContext {
    fn data_sources(&mut self) -> Vec<&mut config::DataSource> {
        let certificates = self.tls_certificates.iter_mut().flat_map(NamesFiles::data_sources);
        let combined = &mut self.combined_validation_context;
        let default = combined.iter_mut().flat_map(|it| &mut it.default_validation_context);
        let validation = self.validation_context.iter_mut().chain(default);
        certificates.chain(validation.flat_map(NamesFiles::data_sources)).collect()
    }
}

impl NamesFiles for config::DownstreamTlsContext {
    fn data_sources(&mut self) -> Vec<&mut config::DataSource> {
        let common = self.common_tls_context.iter_mut().flat_map(NamesFiles::data_sources);
        let keys = self.session_ticket_keys.iter_mut().flat_map(NamesFiles::data_sources);
        common.chain(keys).collect()
    }
}

impl NamesFiles for config::UpstreamTlsContext {
    fn data_sources(&mut self) -> Vec<&mut config::DataSource> {
        self.common_tls_context.iter_mut().flat_map(NamesFiles::data_sources).collect()
    }
}
