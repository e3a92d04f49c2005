//! Which of several certificates a client gets, as in Envoy: by server name, and by the kind of key
//! that the client can verify.

use std::collections::HashMap;

use rustls::{SignatureScheme, SupportedCipherSuite};

use super::certificate::{Certificate, Key};
use super::ocsp::{StaplePolicy, Stapling, staple};
use super::parameters::Parameters;
use crate::transport::tls::client_hello::ClientHello;

/// The certificates of a context by their names. A wildcard is without its asterisk: `.example.com`.
#[derive(Debug, Default)]
pub struct Names(HashMap<String, Vec<usize>>);

impl Names {
    /// Of two certificates with the same name and kind of key, the first is used.
    #[must_use]
    pub fn new(certificates: &[Certificate]) -> Self {
        let mut names: HashMap<String, Vec<usize>> = HashMap::new();
        let is_rsa = |i: usize| certificates.get(i).map(|it| it.key == Key::Rsa);
        for (i, certificate) in certificates.iter().enumerate() {
            for name in &certificate.names {
                let name =
                    name.strip_prefix('*').filter(|rest| rest.starts_with('.')).unwrap_or(name);
                let of_name = names.entry(name.to_owned()).or_default();
                if of_name.iter().all(|&other| is_rsa(other) != is_rsa(i)) {
                    of_name.push(i);
                }
            }
        }
        Self(names)
    }

    fn get(&self, name: &str) -> &[usize] {
        self.0.get(name).map_or(&[], Vec::as_slice)
    }
}

/// How certificates are selected.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// Whether all certificates are considered if none has the server name.
    pub full_scan_on_mismatch: bool,
    /// What happens if a client asks for a stapled response.
    pub ocsp: StaplePolicy,
    /// Seconds since 1970.
    pub now: u64,
}

/// The certificate for a client.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Selected {
    /// The index of the certificate.
    pub index: usize,
    /// What becomes of its OCSP response.
    pub stapling: Stapling,
}

/// Selects one of `certificates`, of which there is at least one; otherwise the index is 0.
#[must_use]
pub fn select(
    certificates: &[Certificate],
    names: &Names,
    parameters: &Parameters,
    hello: &ClientHello<'_>,
    rules: Rules,
) -> Selected {
    let curves = ecdsa_curves(hello, parameters);
    let of = |index: usize| {
        let certificate = certificates.get(index)?;
        let stapling = staple(certificate, hello.asks_for_ocsp, rules.ocsp, rules.now);
        Some((certificate.key, Selected { index, stapling }))
    };
    // An ECDSA certificate that the client can verify, else the first RSA certificate.
    let best = |indexes: &mut dyn Iterator<Item = usize>| {
        let mut candidate = None;
        for (key, selected) in indexes.filter_map(of) {
            match key {
                _ if selected.stapling == Stapling::Refused => {}
                Key::Ecdsa(curve) if curves.contains(&curve) => return Some(selected),
                Key::Rsa if curves.is_empty() => return Some(selected),
                Key::Rsa => candidate = candidate.or(Some(selected)),
                Key::Ecdsa(_) => {}
            }
        }
        candidate
    };
    let mut all = 0..certificates.len();
    let found = match hello.server_name.as_deref() {
        None => best(&mut all),
        Some(name) => {
            let exact = best(&mut names.get(name).iter().copied());
            let wildcard = || {
                let dot = name.get(1..)?.find('.')? + 1;
                let rest = name.get(dot..).filter(|rest| rest.len() > 1)?;
                best(&mut names.get(rest).iter().copied())
            };
            let found = exact.or_else(wildcard);
            if rules.full_scan_on_mismatch { found.or_else(|| best(&mut all)) } else { found }
        }
    };
    let first = || of(0).map(|(_, selected)| selected);
    found.or_else(first).unwrap_or(Selected { index: 0, stapling: Stapling::NotAsked })
}

/// The curves of the ECDSA certificates that the client can verify.
fn ecdsa_curves(hello: &ClientHello<'_>, parameters: &Parameters) -> Vec<Curve> {
    // A client that lists its versions lists its signature algorithms properly.
    if parameters.versions.has_tls13() && hello.supported_versions.is_some() {
        let has = |curve: &Curve| hello.signature_algorithms.contains(u16::from(curve.scheme()));
        return Curve::ALL.into_iter().filter(has).collect();
    }
    let is_ecdsa = |suite: &SupportedCipherSuite| {
        suite.usable_for_signature_algorithm(rustls::SignatureAlgorithm::ECDSA)
    };
    let offered =
        |suite: &SupportedCipherSuite| hello.cipher_suites.contains(u16::from(suite.suite()));
    if !parameters.cipher_suites.iter().flatten().any(|suite| is_ecdsa(suite) && offered(suite)) {
        return Vec::new();
    }
    let has = |curve: &Curve| hello.groups.contains(curve.group());
    Curve::ALL.into_iter().filter(has).collect()
}

/// The curve of an ECDSA key.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Curve {
    /// P-256
    P256,
    /// P-384
    P384,
    /// P-521
    P521,
}

impl Curve {
    const ALL: [Self; 3] = [Self::P256, Self::P384, Self::P521];

    /// The algorithm in which such a key signs in TLS 1.3.
    const fn scheme(self) -> SignatureScheme {
        match self {
            Self::P256 => SignatureScheme::ECDSA_NISTP256_SHA256,
            Self::P384 => SignatureScheme::ECDSA_NISTP384_SHA384,
            Self::P521 => SignatureScheme::ECDSA_NISTP521_SHA512,
        }
    }

    /// The number of the group in `supported_groups`.
    const fn group(self) -> u16 {
        match self {
            Self::P256 => 23,
            Self::P384 => 24,
            Self::P521 => 25,
        }
    }
}
