//! Compiles `tls_params`.

use corvoy_config::{self as config, Path, Problems};
use rustls::crypto::aws_lc_rs::kx_group;
use rustls::{SignatureScheme, SupportedCipherSuite};

use super::parameters::{NameError, Parameters, Versions};

/// Who speaks: their defaults differ.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Side {
    Server,
    Client,
}

impl Side {
    pub(super) fn defaults(self) -> Parameters {
        match self {
            Self::Server => Parameters::server(),
            Self::Client => Parameters::client(),
        }
    }
}

/// Compiles `tls_params`; none if there is an error.
pub(super) fn parameters(
    schema: &config::TlsParameters,
    side: Side,
    at: &Path,
    problems: &mut Problems,
) -> Option<Parameters> {
    let own = own_parameters(schema, side, at, problems);
    let Some(policy) = schema.compliance_policies.first() else { return own };
    let at = at.field("compliance_policies");
    let names = [&schema.cipher_suites, &schema.ecdh_curves, &schema.signature_algorithms];
    let versions = [schema.tls_minimum_protocol_version, schema.tls_maximum_protocol_version];
    let is_auto = |version| version == config::TlsProtocol::Auto;
    if !(names.into_iter().all(Vec::is_empty) && versions.into_iter().all(is_auto)) {
        let why = "the policy replaces all other `tls_params`, as in Envoy: they have no effect";
        problems.warn(&at, why);
    }
    match policy {
        config::CompliancePolicy::Fips202205 => Some(Parameters::fips_202205()),
        config::CompliancePolicy::Cnsa1 | config::CompliancePolicy::Cnsa2 => {
            problems.not_implemented(&at.index(0), "a CNSA policy, which needs ML-KEM-1024,");
            None
        }
    }
}

/// Without the policy.
fn own_parameters(
    schema: &config::TlsParameters,
    side: Side,
    at: &Path,
    problems: &mut Problems,
) -> Option<Parameters> {
    let config::TlsParameters {
        tls_minimum_protocol_version,
        tls_maximum_protocol_version,
        cipher_suites,
        ecdh_curves,
        signature_algorithms,
        compliance_policies,
    } = schema;
    // It replaces these parameters.
    let _ = compliance_policies;
    let mut parameters = side.defaults();
    let mut is_whole = true;
    let old = [config::TlsProtocol::V1_0, config::TlsProtocol::V1_1];
    if old.contains(tls_minimum_protocol_version) {
        let why = "TLS 1.0 and 1.1 are not offered: the oldest version is TLS 1.2";
        problems.warn(&at.field("tls_minimum_protocol_version"), why);
    }
    let has_tls13 = match tls_maximum_protocol_version {
        config::TlsProtocol::Auto => parameters.versions.has_tls13(),
        config::TlsProtocol::V1_3 => true,
        config::TlsProtocol::V1_2 => false,
        config::TlsProtocol::V1_0 | config::TlsProtocol::V1_1 => {
            let at = at.field("tls_maximum_protocol_version");
            problems.not_implemented(&at, "TLS before version 1.2");
            return None;
        }
    };
    let only_tls13 = *tls_minimum_protocol_version == config::TlsProtocol::V1_3;
    parameters.versions = match (only_tls13, has_tls13) {
        (true, true) => Versions::Tls13,
        (false, true) => Versions::Both,
        (false, false) => Versions::Tls12,
        (true, false) => {
            let why = "the oldest version is newer than the newest one: nobody can connect";
            problems.error(&at.field("tls_minimum_protocol_version"), why);
            return None;
        }
    };
    // As in Envoy, a client that may use TLS 1.3 offers a key exchange for after quantum computers.
    if has_tls13 && side == Side::Client {
        parameters.groups.insert(0, kx_group::X25519MLKEM768);
    }
    if !cipher_suites.is_empty() {
        let at = at.field("cipher_suites");
        let suites = |text: &String| cipher_suite_group(text);
        let suites = names(cipher_suites, &at, "cipher suite", suites, problems);
        is_whole &= suites.len() == cipher_suites.len();
        parameters.cipher_suites = suites;
    }
    if !ecdh_curves.is_empty() {
        let at = at.field("ecdh_curves");
        let group =
            |text: &String| super::parameters::group(text).map_err(|error| (error, text.clone()));
        let groups = names(ecdh_curves, &at, "curve", group, problems);
        is_whole &= groups.len() == ecdh_curves.len();
        parameters.groups = groups;
    }
    if !signature_algorithms.is_empty() {
        let at = at.field("signature_algorithms");
        let scheme = |text: &String| -> Result<SignatureScheme, _> {
            super::parameters::signature_algorithm(text).map_err(|error| (error, text.clone()))
        };
        let schemes = names(signature_algorithms, &at, "signature algorithm", scheme, problems);
        is_whole &= schemes.len() == signature_algorithms.len();
        parameters.signature_algorithms = Some(schemes);
    }
    is_whole.then_some(parameters)
}

/// A cipher suite, or some of equal preference: `[A|B]`.
fn cipher_suite_group(text: &str) -> Result<Vec<SupportedCipherSuite>, (NameError, String)> {
    let inner = text.strip_prefix('[').and_then(|text| text.strip_suffix(']'));
    let names = inner.map_or_else(|| vec![text], |inner| inner.split('|').collect());
    let suite = |name: &str| {
        super::parameters::cipher_suite(name).map_err(|error| (error, name.to_owned()))
    };
    names.into_iter().map(suite).collect()
}

/// Looks up names; those that cannot be used are errors.
fn names<T>(
    texts: &[String],
    at: &Path,
    what: &str,
    look_up: impl Fn(&String) -> Result<T, (NameError, String)>,
    problems: &mut Problems,
) -> Vec<T> {
    let mut found = Vec::with_capacity(texts.len());
    for (i, text) in texts.iter().enumerate() {
        match look_up(text) {
            Ok(value) => found.push(value),
            Err((NameError::Lacking, name)) => {
                problems.not_implemented(&at.index(i), &format!("the {what} {name}"));
            }
            Err((NameError::Unknown, name)) => {
                problems.error(&at.index(i), format!("unknown {what} `{name}`"));
            }
        }
    }
    found
}
