//! Builds and checks the chain from a peer's certificate to a trusted one.

use std::collections::BTreeMap;

use rustls::DistinguishedName;
use rustls::pki_types::{CertificateDer, UnixTime};
use x509_parser::prelude::{ASN1Time, X509Certificate, X509Version};

use super::constraints;
use super::crl::Crls;
use super::validation::{Refusal, algorithms, parse};
use crate::transport::tls::der::{BIT_STRING, Der};

/// The trusted certificates and how chains are checked.
#[derive(Debug)]
pub struct Trust {
    /// By subject.
    trusted: BTreeMap<Vec<u8>, Vec<CertificateDer<'static>>>,
    /// In the order of the configuration.
    subjects: Vec<Vec<u8>>,
    /// Where it comes from: the path of a file, or `<inline>`; empty for the CAs of the system.
    pub path: String,
    /// Certificate revocation lists; none: revocation is not checked.
    pub crls: Option<Crls>,
    /// `only_verify_leaf_cert_crl`
    pub only_leaf_crl: bool,
    /// `allow_expired_certificate`
    pub allow_expired: bool,
    /// `max_verify_depth`
    pub depth_max: usize,
}

/// What a certificate is used for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Purpose {
    /// It belongs to a client.
    Client,
    /// It belongs to a server.
    Server,
}

/// What is wrong with a chain.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ChainError {
    /// A certificate cannot be parsed.
    #[error("malformed certificate")]
    Malformed,
    /// No trusted certificate has issued it.
    #[error("unable to get local issuer certificate")]
    UnknownIssuer,
    /// It is self-signed and not trusted.
    #[error("self signed certificate")]
    SelfSigned,
    /// A signature is invalid, or its algorithm is not supported.
    #[error("certificate signature failure")]
    Signature,
    /// It has expired.
    #[error("certificate has expired")]
    Expired,
    /// It is not valid yet.
    #[error("certificate is not yet valid")]
    NotYetValid,
    /// Its extended key usage does not permit this purpose.
    #[error("unsupported certificate purpose")]
    Purpose,
    /// The issuer is not a CA certificate.
    #[error("invalid CA certificate")]
    NotACa,
    /// The chain is longer than `max_verify_depth` or a path length constraint permits.
    #[error("certificate chain too long")]
    TooLong,
    /// A critical extension is not supported.
    #[error("unhandled critical extension")]
    CriticalExtension,
    /// A name violates the name constraints of a CA.
    #[error("a name is not permitted by the name constraints of a CA")]
    NameConstraints,
    /// There is no CRL of the issuer.
    #[error("unable to get certificate CRL")]
    NoCrl,
    /// The CRL has expired, is not signed by the issuer or cannot be parsed.
    #[error("the CRL of the issuer cannot be used")]
    BadCrl,
    /// The issuer has revoked it.
    #[error("certificate revoked")]
    Revoked,
    /// Too many signatures would have to be verified to build a chain.
    #[error("too many possible issuers")]
    TooManyCandidates,
}

/// The most signatures that are verified for one peer: it may send many certificates with the same name.
const SIGNATURES_MAX: usize = 100;

type Certificates<'c> = Vec<&'c X509Certificate<'c>>;

impl Trust {
    /// Trusts these certificates.
    ///
    /// # Errors
    /// The index of one that cannot be parsed.
    pub fn new(certificates: Vec<CertificateDer<'static>>) -> Result<Self, usize> {
        let mut trusted: BTreeMap<_, Vec<_>> = BTreeMap::new();
        let mut subjects = Vec::new();
        for (i, der) in certificates.into_iter().enumerate() {
            let subject = parse(&der).ok_or(i)?.subject().as_raw().to_vec();
            let of_subject = trusted.entry(subject.clone()).or_default();
            if of_subject.is_empty() {
                subjects.push(subject);
            }
            of_subject.push(der);
        }
        Ok(Self {
            trusted,
            subjects,
            path: String::new(),
            crls: None,
            only_leaf_crl: false,
            allow_expired: false,
            depth_max: 100,
        })
    }

    /// The names of the CAs, in the order of the configuration.
    #[must_use]
    pub fn subjects(&self) -> Vec<DistinguishedName> {
        let names = self.subjects.iter();
        let names = names.filter_map(|subject| Der::new(subject).sequence_content());
        names.map(DistinguishedName::in_sequence).collect()
    }

    /// The first certificate of the configuration.
    #[must_use]
    pub fn first(&self) -> Option<&CertificateDer<'static>> {
        self.trusted.get(self.subjects.first()?)?.first()
    }

    /// A trusted certificate with the name of this one's issuer.
    #[must_use]
    pub fn issuer_of(&self, certificate: &CertificateDer<'_>) -> Option<&CertificateDer<'static>> {
        self.trusted.get(parse(certificate)?.issuer().as_raw())?.first()
    }

    /// Verifies that a chain leads to a trusted certificate.
    ///
    /// # Errors
    /// No chain verifies: the error of the first candidate.
    pub(super) fn verify(
        &self,
        leaf: &X509Certificate<'_>,
        intermediates: &[X509Certificate<'_>],
        purpose: Purpose,
        now: UnixTime,
    ) -> Result<(), Refusal> {
        let trusted: Vec<X509Certificate<'_>> = self.candidates(leaf, intermediates);
        let mut search = Search {
            trust: self,
            intermediates,
            trusted: &trusted,
            purpose,
            now: i64::try_from(now.as_secs()).unwrap_or(i64::MAX),
            signatures: 0,
            error: None,
        };
        if search.extend(&mut vec![leaf]) {
            return Ok(());
        }
        let (error, depth) = search.error.unwrap_or((ChainError::UnknownIssuer, 0));
        Err(Refusal::Chain { error, depth })
    }

    /// The trusted certificates that may be in a chain, parsed.
    fn candidates<'t>(
        &'t self,
        leaf: &X509Certificate<'_>,
        intermediates: &[X509Certificate<'_>],
    ) -> Vec<X509Certificate<'t>> {
        let sent = std::iter::once(leaf).chain(intermediates);
        let mut names: Vec<&[u8]> =
            sent.flat_map(|it| [it.subject().as_raw(), it.issuer().as_raw()]).collect();
        names.sort_unstable();
        names.dedup();
        let mut found = Vec::new();
        for name in names {
            let of_name = self.trusted.get(name).into_iter().flatten();
            found.extend(of_name.filter_map(|der| parse(der)));
        }
        found
    }
}

/// A depth-first search for a chain that verifies.
struct Search<'c> {
    trust: &'c Trust,
    intermediates: &'c [X509Certificate<'c>],
    trusted: &'c [X509Certificate<'c>],
    purpose: Purpose,
    /// Seconds since 1970.
    now: i64,
    signatures: usize,
    /// The error of the first candidate chain, with its depth.
    error: Option<(ChainError, usize)>,
}

impl<'c> Search<'c> {
    /// Whether the chain can be extended to one that verifies.
    fn extend(&mut self, chain: &mut Certificates<'c>) -> bool {
        let Some(&last) = chain.last() else { return false };
        // Trusted itself: the chain ends here.
        if self.trusted.iter().any(|it| it.as_raw() == last.as_raw()) {
            return self.passes(chain);
        }
        // Trusted issuers first, then those that the peer has sent.
        let (trusted, intermediates) = (self.trusted, self.intermediates);
        let mut has_issuer = false;
        for issuer in trusted.iter().chain(intermediates) {
            let is_in_chain = chain.iter().any(|it| it.as_raw() == issuer.as_raw());
            if is_in_chain || issuer.subject().as_raw() != last.issuer().as_raw() {
                continue;
            }
            if self.signatures == SIGNATURES_MAX {
                self.fails(ChainError::TooManyCandidates, chain.len() - 1);
                return false;
            }
            self.signatures += 1;
            if !is_signed_by(last, issuer) {
                continue;
            }
            has_issuer = true;
            chain.push(issuer);
            if self.extend(chain) {
                return true;
            }
            chain.pop();
        }
        if !has_issuer {
            let is_self_signed = last.subject().as_raw() == last.issuer().as_raw();
            let error =
                if is_self_signed { ChainError::SelfSigned } else { ChainError::UnknownIssuer };
            self.fails(error, chain.len() - 1);
        }
        false
    }

    fn fails(&mut self, error: ChainError, depth: usize) {
        self.error.get_or_insert((error, depth));
    }

    fn passes(&mut self, chain: &Certificates<'c>) -> bool {
        match self.check(chain) {
            Ok(()) => true,
            Err((error, depth)) => {
                self.fails(error, depth);
                false
            }
        }
    }

    /// Checks a chain that ends in a trusted certificate.
    fn check(&self, chain: &Certificates<'c>) -> Result<(), (ChainError, usize)> {
        let last = chain.len() - 1;
        // As in Envoy, the first CA does not count: a chain of two verifies with 0, one of three needs 2.
        if last > self.trust.depth_max.max(1) {
            return Err((ChainError::TooLong, last));
        }
        let mut intermediate_cas = 0;
        for (depth, certificate) in chain.iter().enumerate() {
            let fails = |error| (error, depth);
            self.check_one(certificate, depth > 0).map_err(fails)?;
            if depth > 0 {
                let constraint = path_length(certificate).map_err(fails)?;
                if constraint.is_some_and(|most| intermediate_cas > most) {
                    return Err(fails(ChainError::TooLong));
                }
                if certificate.subject().as_raw() != certificate.issuer().as_raw() {
                    intermediate_cas += 1;
                }
            }
        }
        constraints::check(chain)?;
        if let Some(crls) = &self.trust.crls {
            let checked = if self.trust.only_leaf_crl { 1 } else { chain.len() };
            for (depth, certificate) in chain.iter().enumerate().take(checked) {
                // A root certificate is self-issued.
                let issuer = chain.get(depth + 1).unwrap_or(certificate);
                crls.check(certificate, issuer, self.now).map_err(|error| (error, depth))?;
            }
        }
        Ok(())
    }

    fn check_one(&self, certificate: &X509Certificate<'_>, is_ca: bool) -> Result<(), ChainError> {
        if !self.trust.allow_expired {
            let validity = certificate.validity();
            if self.now < seconds(validity.not_before) {
                return Err(ChainError::NotYetValid);
            }
            if self.now > seconds(validity.not_after) {
                return Err(ChainError::Expired);
            }
        }
        let unknown = |it: &&x509_parser::prelude::X509Extension<'_>| {
            it.critical && !UNDERSTOOD.contains(&it.oid.to_id_string().as_str())
        };
        if certificate.iter_extensions().any(|extension| unknown(&extension)) {
            return Err(ChainError::CriticalExtension);
        }
        self.check_purpose(certificate, is_ca)
    }

    fn check_purpose(
        &self,
        certificate: &X509Certificate<'_>,
        is_ca: bool,
    ) -> Result<(), ChainError> {
        let malformed = |_| ChainError::Malformed;
        if let Some(usage) = certificate.extended_key_usage().map_err(malformed)? {
            let is_allowed = match self.purpose {
                Purpose::Client => usage.value.client_auth,
                Purpose::Server => usage.value.server_auth,
            };
            if !is_allowed {
                return Err(ChainError::Purpose);
            }
        }
        let usage = certificate.key_usage().map_err(malformed)?.map(|usage| usage.value);
        if is_ca {
            if usage.is_some_and(|usage| !usage.key_cert_sign()) {
                return Err(ChainError::NotACa);
            }
            let is_root_v1 = certificate.version() == X509Version::V1
                && certificate.subject().as_raw() == certificate.issuer().as_raw();
            let constraints = certificate.basic_constraints().map_err(malformed)?;
            let is_marked = constraints.is_some_and(|constraints| constraints.value.ca);
            return if is_root_v1 || is_marked { Ok(()) } else { Err(ChainError::NotACa) };
        }
        let is_allowed = usage.is_none_or(|usage| match self.purpose {
            Purpose::Client => usage.digital_signature() || usage.key_agreement(),
            Purpose::Server => {
                usage.digital_signature() || usage.key_encipherment() || usage.key_agreement()
            }
        });
        if is_allowed { Ok(()) } else { Err(ChainError::Purpose) }
    }
}

/// The supported extensions, and those that have no effect without an explicit policy.
const UNDERSTOOD: [&str; 10] = [
    "2.5.29.15",             // key usage
    "2.5.29.17",             // subject alternative name
    "2.5.29.19",             // basic constraints
    "2.5.29.30",             // name constraints
    "2.5.29.32",             // certificate policies
    "2.5.29.33",             // policy mappings
    "2.5.29.36",             // policy constraints
    "2.5.29.37",             // extended key usage
    "2.5.29.54",             // inhibit any policy
    "2.16.840.1.113730.1.1", // Netscape certificate type
];

pub(super) fn seconds(time: ASN1Time) -> i64 {
    time.timestamp()
}

/// The path length constraint: how many CAs that are not self-issued may follow below this one.
fn path_length(ca: &X509Certificate<'_>) -> Result<Option<usize>, ChainError> {
    let constraints = ca.basic_constraints().map_err(|_| ChainError::Malformed)?;
    let most = constraints.and_then(|constraints| constraints.value.path_len_constraint);
    Ok(most.map(|most| usize::try_from(most).unwrap_or(usize::MAX)))
}

fn is_signed_by(certificate: &X509Certificate<'_>, issuer: &X509Certificate<'_>) -> bool {
    is_signed(certificate.as_raw(), certificate.tbs_certificate.as_ref(), issuer)
}

/// Whether the issuer has signed this certificate or CRL: `content`, an algorithm and a signature.
pub(super) fn is_signed(whole: &[u8], content: &[u8], issuer: &X509Certificate<'_>) -> bool {
    let verified = || {
        let mut outer = Der::new(whole).sequence()?;
        outer.any()?;
        let algorithm = outer.sequence_content()?;
        // No unused bits in the last byte.
        let signature = outer.take(BIT_STRING)?.strip_prefix(&[0])?;
        let mut public = Der::new(issuer.public_key().raw).sequence()?;
        let key_algorithm = public.sequence_content()?;
        let key = public.take(BIT_STRING)?.strip_prefix(&[0])?;
        let fits = algorithms().all.iter().filter(|it| {
            it.signature_alg_id().as_ref() == algorithm
                && it.public_key_alg_id().as_ref() == key_algorithm
        });
        fits.map(|it| it.verify_signature(key, content, signature)).find(Result::is_ok)
    };
    verified().is_some()
}
