//! What contexts use of the system: read or opened once, when the configuration is compiled. A context that is
//! compiled again for a new secret gets the same.

use std::cell::{OnceCell, RefCell};
use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Where Linux distributions have their CA bundles.
pub(super) const SYSTEM_CAS: &[&str] = &[
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// See the module.
#[derive(Debug, Default)]
pub(super) struct ReadOnce {
    system_cas: OnceCell<Option<Vec<u8>>>,
    logs: RefCell<HashMap<PathBuf, Arc<File>>>,
}

impl ReadOnce {
    /// The CA bundle of the system, in PEM; none: there is none of [`SYSTEM_CAS`].
    pub(super) fn system_cas(&self) -> Option<&[u8]> {
        let read = || SYSTEM_CAS.iter().find_map(|path| std::fs::read(path).ok());
        self.system_cas.get_or_init(read).as_deref()
    }

    /// The file, opened to append to it.
    ///
    /// # Errors
    /// It cannot be opened.
    pub(super) fn log(&self, path: &Path) -> io::Result<Arc<File>> {
        if let Some(file) = self.logs.borrow().get(path) {
            return Ok(Arc::clone(file));
        }
        let file = Arc::new(OpenOptions::new().append(true).create(true).open(path)?);
        self.logs.borrow_mut().insert(path.to_owned(), Arc::clone(&file));
        Ok(file)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_opened_once() {
        let folder = tempfile::tempdir().unwrap();
        let (path, once) = (folder.path().join("keys"), ReadOnce::default());
        let first = once.log(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        assert!(Arc::ptr_eq(&first, &once.log(&path).unwrap()));
        assert!(!path.exists());
        assert!(once.log(&folder.path().join("missing/keys")).is_err());
    }
}
