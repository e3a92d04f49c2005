//! Certificate revocation lists.

use std::collections::BTreeMap;

use x509_parser::prelude::{CertificateRevocationList, FromDer as _, ReasonCode, X509Certificate};

use super::chain::{ChainError, is_signed, seconds};

/// The lists of some issuers. An empty one is not the same as none: every certificate needs a list.
#[derive(Debug, Default)]
pub struct Crls {
    /// In DER, by issuer.
    lists: BTreeMap<Vec<u8>, Vec<Vec<u8>>>,
}

/// A list that cannot be parsed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct MalformedCrl;

impl Crls {
    /// Adds a list in DER.
    ///
    /// # Errors
    /// It cannot be parsed.
    pub fn add(&mut self, der: &[u8]) -> Result<(), MalformedCrl> {
        let ([], list) = CertificateRevocationList::from_der(der).map_err(|_| MalformedCrl)? else {
            return Err(MalformedCrl);
        };
        self.lists.entry(list.issuer().as_raw().to_vec()).or_default().push(der.to_vec());
        Ok(())
    }

    /// Whether a certificate is known not to be revoked, at `now` in seconds since 1970.
    pub(super) fn check(
        &self,
        certificate: &X509Certificate<'_>,
        issuer: &X509Certificate<'_>,
        now: i64,
    ) -> Result<(), ChainError> {
        // The last certificate may be a trusted intermediate, whose issuer is not known.
        if issuer.subject().as_raw() != certificate.issuer().as_raw() {
            return Err(ChainError::NoCrl);
        }
        let lists = self.lists.get(certificate.issuer().as_raw()).ok_or(ChainError::NoCrl)?;
        let usable: Vec<_> = lists.iter().filter_map(|der| usable(der, issuer, now)).collect();
        if usable.is_empty() {
            return Err(ChainError::BadCrl);
        }
        let is_entry = |list: &&CertificateRevocationList<'_>| {
            list.iter_revoked_certificates().any(|entry| {
                let reason = entry.reason_code().map(|(_, reason)| reason);
                entry.raw_serial() == certificate.raw_serial()
                    && reason != Some(ReasonCode::RemoveFromCRL)
            })
        };
        match usable.iter().find(is_entry) {
            Some(_) => Err(ChainError::Revoked),
            None => Ok(()),
        }
    }
}

/// The list, if it is valid now, signed by `issuer`, and without extensions that limit it.
fn usable<'l>(
    der: &'l [u8],
    issuer: &X509Certificate<'_>,
    now: i64,
) -> Option<CertificateRevocationList<'l>> {
    let (_, list) = CertificateRevocationList::from_der(der).ok()?;
    let begins = seconds(list.last_update());
    let ends = list.next_update().map(seconds);
    let may_sign = match issuer.key_usage() {
        Ok(None) => true,
        Ok(Some(usage)) => usage.value.crl_sign(),
        Err(_) => false,
    };
    let is_limited = list.extensions().iter().any(|extension| extension.critical);
    let is_valid = begins <= now && ends.is_none_or(|ends| now <= ends);
    let is_usable =
        is_valid && may_sign && !is_limited && is_signed(der, list.tbs_cert_list.as_ref(), issuer);
    is_usable.then_some(list)
}
